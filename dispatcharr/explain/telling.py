"""What an account of a kernel looks like to people: its program, its memory, its price, and why.

The price table shows every term that is not zero everywhere, one backend to a column. Terms keep the names
that the cost model gives them; what they stand for is said beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dispatcharr.explain.account import BufferAccount, KernelAccount, Price
from dispatcharr.explain.page import Block, Code, Grid, Heading
from dispatcharr.explain.text import (
    in_bytes,
    in_count,
    in_ratio,
    in_seconds,
    plural,
    shape_of,
    shorten,
)

__all__ = ["brief_kernel", "full_kernel", "gain"]

#: What a term of a price stands for; those that are not listed speak for themselves.
_TERMS: Mapping[str, str] = {
    "overhead": "planning any kernel",
    "wake": "starting the helpers",
    "launch": "launching on the device",
    "compile": "building the kernel",
    "transfer": "moving inputs there",
    "calls": "NumPy calls, by block",
    "fault": "fresh memory for results",
    "memory": "reading and writing",
    "compute": "arithmetic",
}
_SIZED = ("calls", "fault", "memory", "compute")
_MOST_LINES = 20
_MOST_BUFFERS = 8
_MOST_BACKENDS = 3
_NAMES = 56


def full_kernel(kernel: KernelAccount, title: str) -> list[Block]:
    """Return everything about one kernel; ``title`` says which one."""
    return [
        Heading(f"{title}: {_what(kernel)}"),
        Code(_cut(kernel.program, _MOST_LINES)),
        Grid((*_memory_facts(kernel), *_fate_facts(kernel)), "ll"),
        _price_grid(kernel),
    ]


def brief_kernel(kernel: KernelAccount, title: str) -> list[Block]:
    """Return one kernel in a few lines."""
    shown = sorted(kernel.prices, key=lambda price: price.backend != kernel.backend)
    prices = ", ".join(f"{price.backend} {in_seconds(price.seconds)}" for price in shown)
    facts = [(_place(kernel), f"{kernel.reason}: {prices}")]
    if kernel.measured is not None:
        facts.append(("took", _took(kernel, kernel.measured)))
    facts.append(("ends", kernel.ends))
    return [
        Heading(f"{title}: {_what(kernel)}"),
        Code(_cut(kernel.program, 6)),
        Grid(tuple(facts), "ll"),
    ]


def gain(kernel: KernelAccount) -> str:
    """Return why the backend was chosen, with how much dearer the next best would have been."""
    others = [price for price in kernel.prices if price.backend != kernel.backend]
    if not others or kernel.price.seconds == 0:
        return kernel.reason
    best = min(others, key=lambda price: price.seconds)
    ratio = in_ratio(best.seconds, kernel.price.seconds)
    return f"{kernel.reason}; {best.backend} would cost {ratio} as much"


def _what(kernel: KernelAccount) -> str:
    done = shorten(kernel.operations, _NAMES - 24) or "copy"
    many = len(kernel.operations)
    fused = f" ({many} operations fused)" if many > 1 else ""
    return f"{done}{fused}, {shape_of(kernel.shape)}"


def _cut(lines: Sequence[str], most: int) -> tuple[str, ...]:
    """Return the lines, the middle ones counted where there are many."""
    if len(lines) <= most:
        return tuple(lines)
    head, tail = most // 2, most - most // 2 - 1
    gone = len(lines) - head - tail
    return (*lines[:head], f"... {plural(gone, 'more line')} ...", *lines[-tail:])


def _memory_facts(kernel: KernelAccount) -> Iterable[tuple[str, str]]:
    for label, buffers, total in (
        ("reads", kernel.reads, kernel.bytes_read),
        ("writes", kernel.writes, kernel.bytes_written),
    ):
        # Constants with a known value stand in the program itself.
        shown = [one for one in buffers if one.role != "constant" or one.name.isidentifier()]
        for place, one in enumerate(shown[:_MOST_BUFFERS]):
            yield "" if place else label, _buffer(one, kernel, label)
        if len(shown) > _MOST_BUFFERS:
            yield "", f"and {len(shown) - _MOST_BUFFERS} more, {in_bytes(total)} in all"


def _buffer(one: BufferAccount, kernel: KernelAccount, label: str) -> str:
    if one.role == "constant":
        return f"{one.name}: a constant of {one.dtype}"
    extents = " x ".join(in_count(extent) for extent in one.shape) or "one"
    notes = []
    if one.walk != "contiguous":
        notes.append(one.walk)
    if one.role == "earlier result":
        notes.append("made by an earlier kernel")
    if label == "writes" and kernel.bytes_fresh and kernel.bytes_fresh == kernel.bytes_written:
        notes.append("fresh memory")
    return ", ".join((f"{one.name}: {in_bytes(one.nbytes)}", f"{extents} {one.dtype}", *notes))


def _place(kernel: KernelAccount) -> str:
    return "runs on" if kernel.measured is None else "ran on"


def _fate_facts(kernel: KernelAccount) -> Iterable[tuple[str, str]]:
    yield "ends", kernel.ends
    yield _place(kernel), f"{kernel.backend}: {gain(kernel)}"
    for name, reason in kernel.refused:
        yield "refused", f"{name}: {reason}"
    if kernel.measured is not None:
        yield "took", _took(kernel, kernel.measured)
    if kernel.fp_errors:
        yield "errors", ", ".join(f"{kind} in {name}" for kind, name in kernel.fp_errors)
    if kernel.verified is not None:
        agreed = "NumPy gave the same" if kernel.verified else "NumPy disagreed, its answer stands"
        yield "verified", agreed


def _took(kernel: KernelAccount, measured: float) -> str:
    predicted = kernel.price.run
    text = f"{in_seconds(measured)} measured, {in_seconds(predicted)} predicted"
    ratio = in_ratio(measured, predicted)
    text += f" ({ratio})" if ratio != "-" else ""
    touched = kernel.bytes_read + kernel.bytes_written
    if measured > 0 and touched:
        text += f"; {in_bytes(touched / measured)}/s"
    return text


def _price_grid(kernel: KernelAccount) -> Grid:
    prices = _columns(kernel)
    rows: list[tuple[str, ...]] = []
    for name in _term_names(prices):
        cells = [_term(price, name) for price in prices]
        rows.append((name, _TERMS.get(name, ""), *cells))
    if any(price.correction != 1 for price in prices):
        scope = f"learned, on {_SIZED[0]} to {_SIZED[-1]}"
        cells = [f"x {price.correction:.2f} " for price in prices]
        rows.append(("factor", scope, *cells))
    rows.append(("total", "", *[in_seconds(price.seconds) + " " for price in prices]))
    if kernel.measured is not None:
        rows.append(("run", "without planning", *[in_seconds(p.run) + " " for p in prices]))
        took = in_seconds(kernel.measured) + " "
        rows.append(
            ("measured", "the run", *[took if p.backend == kernel.backend else "" for p in prices])
        )
    header = (
        "price", "", *[p.backend + ("*" if p.backend == kernel.backend else " ") for p in prices]
    )  # fmt: skip
    return Grid(tuple(rows), "ll" + "r" * len(prices), header, note=_price_note(kernel, prices))


def _price_note(kernel: KernelAccount, prices: Sequence[Price]) -> str:
    note = "* chosen."
    if any(_hidden(price, name) for price in prices for name in ("memory", "compute")):
        note += " Memory and compute overlap: the one in brackets does not count."
    if len(kernel.prices) > len(prices):
        note += f" {plural(len(kernel.prices) - len(prices), 'dearer backend')} left out."
    return note


def _columns(kernel: KernelAccount) -> list[Price]:
    """Return the chosen backend's price, then the cheapest others."""
    others = [price for price in kernel.prices if price.backend != kernel.backend]
    others.sort(key=lambda price: price.seconds)
    return [kernel.price, *others][:_MOST_BACKENDS]


def _term_names(prices: Sequence[Price]) -> list[str]:
    """Return the terms that are not zero everywhere: fixed ones first, then those that grow."""
    names = list(dict.fromkeys(name for price in prices for name in price.terms))
    names = [name for name in names if any(price.terms.get(name) for price in prices)]
    return sorted(names, key=lambda name: _SIZED.index(name) if name in _SIZED else -1)


def _hidden(price: Price, name: str) -> bool:
    other = {"memory": "compute", "compute": "memory"}.get(name, name)
    return price.bound == other != name and bool(price.terms.get(name))


def _term(price: Price, name: str) -> str:
    value = price.terms.get(name)
    if not value:
        return "- "
    return f"({in_seconds(value)})" if _hidden(price, name) else f"{in_seconds(value)} "
