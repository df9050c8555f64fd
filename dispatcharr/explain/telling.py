"""What an account of a kernel looks like to people: its program, its memory, its price, and why.

The price table shows every term that is not zero everywhere, one backend to a column. Terms keep
the names that the cost model gives them; what they stand for is said beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dispatcharr.explain.account import BufferAccount, KernelAccount, Price
from dispatcharr.explain.page import Block, Cell, Code, Grid, Heading
from dispatcharr.explain.text import (
    clip,
    in_bytes,
    in_count,
    in_ratio,
    in_seconds,
    plural,
    shape_of,
)

__all__ = ["brief_kernel", "full_kernel", "plan_grid"]

#: What a term of a price stands for; those that are not listed speak for themselves.
_TERMS: Mapping[str, str] = {
    "overhead": "of any kernel",
    "wake": "starting the helpers",
    "launch": "launching on the device",
    "compile": "building the kernel",
    "sync": "waiting for the result",
    "calls": "NumPy calls, by block",
    "fault": "fresh memory for results",
    "memory": "reading and writing",
    "compute": "arithmetic",
    "overlap": "of these two",
}
#: Those that grow with the kernel, in the order in which they are shown.
_SIZED = ("calls", "memory", "compute", "overlap", "fault")
#: A run below this share of the total is worth a line of its own.
_MOSTLY = 0.995
_MOST_LINES = 20
_MOST_BUFFERS = 8
_MOST_BACKENDS = 3
_LONGEST_NAME = 9


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
    if kernel.ran or kernel.measured is not None:
        facts.append(("took", _took(kernel)))
    facts.append(("ends", kernel.ends))
    return [
        Heading(f"{title}: {_what(kernel)}"),
        Code(_cut(kernel.program, 6)),
        Grid(tuple(facts), "ll"),
    ]


def plan_grid(kernels: Sequence[KernelAccount], most: int) -> Grid:
    """Return a table of planned kernels, at most ``most`` of them, in the order of the plan."""
    chosen = [one.backend for one in kernels]
    able = {price.backend for one in kernels for price in one.prices}
    backends = sorted(sorted(able, key=lambda name: -chosen.count(name))[:_MOST_BACKENDS])
    rows: list[tuple[Cell, ...]] = []
    for place, one in enumerate(kernels[:most]):
        asked = {price.backend: price.seconds for price in one.prices}
        cells = [
            in_seconds(asked.get(name)) + ("*" if name == one.backend else " ") for name in backends
        ]
        rows.append((in_count(place + 1), one.operations, one.dtype, one.border, *cells))
    note = "* where it would run."
    if len(kernels) > most:
        note += f" And {plural(len(kernels) - most, 'more kernel')} in .kernels."
    header = (
        "",
        "kernel",
        "dtype",
        "ends for",
        *[f"{clip(name, _LONGEST_NAME)} " for name in backends],
    )
    align = "rlll" + "r" * len(backends)
    return Grid(tuple(rows), align, header, note=note, over=(4, "predicted on"))


def _gain(kernel: KernelAccount) -> str:
    """Return why the backend was chosen, with how much dearer the next best would have been."""
    others = [price for price in kernel.prices if price.backend != kernel.backend]
    if not others or kernel.price.seconds == 0:
        return kernel.reason
    best = min(others, key=lambda price: price.seconds)
    ratio = in_ratio(best.seconds, kernel.price.seconds)
    return f"{kernel.reason}; {best.backend} would cost {ratio} as much"


def _what(kernel: KernelAccount) -> str:
    many = len(kernel.operations)
    done = f"{in_count(many)} operations fused" if many > 1 else "one operation"
    return f"{done}, {shape_of(kernel.shape)}"


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
        lines = [_buffer(one, kernel, label) for one in buffers if one.role != "constant"]
        if len(lines) > _MOST_BUFFERS:
            more = len(lines) - _MOST_BUFFERS
            lines[_MOST_BUFFERS:] = [f"and {more} more, {in_bytes(total)} in all"]
        # Constants with a known value stand in the program itself.
        unknown = [one.name for one in buffers if one.role == "constant" and one.value is None]
        if unknown:
            are = "constants" if len(unknown) > 1 else "a constant"
            lines.append(f"{', '.join(unknown)}: {are}, not kept")
        for place, line in enumerate(lines):
            yield "" if place else label, line
    if kernel.bytes_moved:
        seconds = in_seconds(kernel.price.terms.get("transfer"))
        way = "to the device" if kernel.price.device else "home from the device"
        yield "moves", f"{in_bytes(kernel.bytes_moved)} {way}, {seconds}"


_MOVES = {"to the device": "moved", "home": "brought home", "there": "on the device already"}


def _buffer(one: BufferAccount, kernel: KernelAccount, label: str) -> str:
    extents = " x ".join(in_count(extent) for extent in one.shape) or "one"
    notes = []
    if one.walk != "contiguous":
        notes.append(one.walk)
    if one.role == "earlier result":
        notes.append("made by an earlier kernel")
    if one.move:
        notes.append(_MOVES[one.move])
    fresh = 0 < kernel.bytes_fresh == kernel.bytes_written
    if label == "writes" and fresh and one.role != "reduction":
        notes.append("fresh memory")
    return ", ".join((f"{one.name}: {in_bytes(one.nbytes)}", f"{extents} {one.dtype}", *notes))


def _place(kernel: KernelAccount) -> str:
    return "ran on" if kernel.ran or kernel.measured is not None else "runs on"


def _fate_facts(kernel: KernelAccount) -> Iterable[tuple[str, str]]:
    yield "ends", kernel.ends
    yield _place(kernel), f"{kernel.backend}: {_gain(kernel)}"
    if kernel.price.engine:
        yield "engine", _engine(kernel)
    elif kernel.better is not None:
        yield "better", _better(kernel.better, kernel.backend)
    for name, reason in kernel.refused:
        yield "refused", f"{name}: {reason}"
    if kernel.ran or kernel.measured is not None:
        yield "took", _took(kernel)
    if kernel.fp_errors:
        yield "errors", ", ".join(f"{kind} in {name}" for kind, name in kernel.fp_errors)
    if kernel.verified is not None:
        agreed = "NumPy gave the same" if kernel.verified else "NumPy disagreed, its answer stands"
        yield "verified", agreed


_ENGINES = {
    "blocks": "blocks: NumPy's functions, block by block in the cache",
    "compiled": "compiled: one loop made for it",
}


def _engine(kernel: KernelAccount) -> str:
    """Return how the backend ran the body, and what is said of compiling it."""
    text = _ENGINES.get(kernel.price.engine, kernel.price.engine)
    if kernel.better is not None:
        text += f"; {_better(kernel.better, kernel.backend)}"
    elif kernel.engines:
        (name, reason), *_ = kernel.engines
        text += f"; not {name.rpartition('/')[2]}: {reason}"
    return text


def _better(better: Price, backend: str) -> str:
    """Return what a kernel that is not built yet would take, and where."""
    one = f"a {better.engine} one" if better.engine else "one"
    if better.backend != backend:
        one += f" on {better.backend}"
    return f"{one} would take {in_seconds(better.run)}, and is built once that has paid for it"


def _took(kernel: KernelAccount) -> str:
    predicted, measured = kernel.price.run, kernel.measured
    if measured is None:
        return f"not timed, since nobody waited for its end; {in_seconds(predicted)} predicted"
    text = f"{in_seconds(measured)} measured, {in_seconds(predicted)} predicted"
    ratio = in_ratio(measured, predicted)
    text += f" ({ratio})" if ratio != "-" else ""
    touched = kernel.bytes_read + kernel.bytes_written
    if measured > 0 and touched:
        text += f"; {in_bytes(touched / measured)}/s"
    return text


def _price_grid(kernel: KernelAccount) -> Grid:
    prices = _columns(kernel)
    chosen = kernel.backend
    rows: list[tuple[str, ...]] = []
    for name in _term_names(prices):
        cells = [in_seconds(price.terms.get(name) or None) for price in prices]
        meaning = _transfer(prices) if name == "transfer" else _TERMS.get(name, "")
        rows.append((name, meaning, *cells))
    if any(price.correction != 1 for price in prices):
        factors = [f"x {price.correction:.2f}" for price in prices]
        rows.append(("factor", f"learned, on {_SIZED[0]} to {_SIZED[-1]}", *factors))
    rows.append(("total", "", *[in_seconds(price.seconds) for price in prices]))
    if kernel.measured is not None:
        if any(price.run < _MOSTLY * price.seconds for price in prices):
            rows.append(("run", "what is measured of it", *[in_seconds(p.run) for p in prices]))
        took = in_seconds(kernel.measured)
        rows.append(("measured", "", *[took if p.backend == chosen else "" for p in prices]))
    # A star stands in a column of its own width, so that figures stay below their backend's name.
    aligned = tuple((*row[:2], *(f"{cell} " for cell in row[2:])) for row in rows)
    names = [clip(p.backend, _LONGEST_NAME) + ("*" if p.backend == chosen else " ") for p in prices]
    note = "* chosen."
    if len(kernel.prices) > len(prices):
        note += f" {plural(len(kernel.prices) - len(prices), 'dearer backend')} left out."
    return Grid(aligned, "ll" + "r" * len(prices), ("price", "", *names), note=note)


def _transfer(prices: Sequence[Price]) -> str:
    """Return which way data is moved in the columns."""
    there = {price.device for price in prices if price.terms.get("transfer")}
    if len(there) > 1:
        return "moving data there, or home"
    return "moving data there" if True in there else "bringing data home"


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
