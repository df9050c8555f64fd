"""The two reports of a recording: a table of what ran, and a summary at a glance.

Both are data first (``rows``, ``to_dict()``); text within 80 columns and HTML are made of the
data. What a backend would have cost is its whole price, transfers included, even where only the
run was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy

from dispatcharr.explain.account import as_data
from dispatcharr.explain.page import Block, Cell, Grid, Heading, Prose, as_html, as_text
from dispatcharr.explain.tally import KernelClass, Tally
from dispatcharr.explain.text import clip, in_bytes, in_count, in_ratio, in_seconds, plural

__all__ = ["Summary", "Table", "contraction_blocks", "fallback_grid", "kernel_grid", "summarize"]

_MOST_ROWS = 40
_TOP_KERNELS = 8
_TOP_FALLBACKS = 5
_TOP_REASONS = 4
_MOST_BACKENDS = 3
_LONGEST_NAME = 9
#: Measured over predicted time beyond which the summary says where the prices come from.
_FAR_OFF = 1.25

Row = Mapping[str, Any]


class Table:
    """What ran, a row for each class of kernel, contraction and fallback.

    Of each, those that took longest come first.

    Attributes
    ----------
    rows : list of dict
        ``kind`` ("kernel", "contraction", "scan" or "fallback"), ``kernel``, ``dtype``,
        ``backend``, ``reason``, ``runs``,
        ``measured`` and ``predicted`` seconds, ``predicted_on`` (seconds by backend), ``refused``,
        ``operations``, ``elements``, ``bytes``, ``bytes_moved`` (to a device or home),
        ``bytes_unstored``. Made for
        ``pandas.DataFrame(table.rows)``.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows: list[dict[str, Any]] = [dict(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def _blocks(self) -> list[Block]:
        kernels = [row for row in self.rows if row["kind"] == "kernel"]
        fallbacks = [row for row in self.rows if row["kind"] == "fallback"]
        if not self.rows:
            return [Prose("No kernel ran, and nothing was left to NumPy.")]
        blocks: list[Block] = []
        if kernels:
            blocks.append(kernel_grid(kernels, _MOST_ROWS))
        blocks += contraction_blocks(self.rows, _MOST_ROWS)
        if fallbacks:
            blocks.append(fallback_grid(fallbacks, _MOST_ROWS, "Left to NumPy"))
        return blocks

    def __str__(self) -> str:
        return as_text(self._blocks())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self._blocks())


class Summary:
    """A recording at a glance: where time went, what was predicted, what else it would cost."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = as_data(data)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as what JSON can hold; times in seconds, memory in bytes."""
        copied: dict[str, Any] = deepcopy(self._data)
        return copied

    def __str__(self) -> str:
        return as_text(_summary_blocks(self._data))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(_summary_blocks(self._data))


def kernel_grid(rows: Sequence[Row], most: int, title: str = "") -> Grid:
    """Return the grid of kernel classes; at most ``most`` of them."""
    backends = _backends_of(rows)
    # Three prices leave little room for programs; the star then says alone where a kernel ran.
    starred = len(backends) > 2 and all(row["backend"] in backends for row in rows)
    cells: list[tuple[Cell, ...]] = []
    for row in rows[:most]:
        names = tuple(row["kernel"].split()) or ("(copy)",)
        place = () if starred else (clip(row["backend"], _LONGEST_NAME),)
        timed = row["measured"] or row["predicted"]  # else nobody waited for the device
        figures = (*place, in_seconds(row["measured"] if timed else None))
        prices = [_price_cell(row, name) for name in backends]
        cells.append((names, _short(row["dtype"]), in_count(row["runs"]), *figures, *prices))
    note = "* where it ran." if backends else ""
    if len(rows) > most:
        note += f" And {plural(len(rows) - most, 'more row')} in .rows."
    place = () if starred else ("ran on",)
    shown = [f"{clip(name, _LONGEST_NAME)} " for name in backends]
    header = ("kernel", "type", "runs", *place, "measured", *shown)
    align = "llr" + "l" * len(place) + "r" * (1 + len(backends))
    over = (4 + len(place), "predicted on") if backends else None
    return Grid(tuple(cells), align, header, note=note, title=title, over=over)


def fallback_grid(rows: Sequence[Row], most: int, title: str = "") -> Grid:
    """Return the grid of what was left to NumPy; at most ``most`` rows of it."""
    cells = tuple(
        (row["kernel"], in_count(row["runs"]), in_seconds(row["measured"]), row["reason"])
        for row in rows[:most]
    )
    note = f"And {plural(len(rows) - most, 'more row')}." if len(rows) > most else ""
    return Grid(cells, "lrrl", ("function", "calls", "measured", "why"), note=note, title=title)


def contraction_blocks(rows: Sequence[Row], most: int) -> list[Block]:
    """Return grids of the contractions and of the scans among ``rows``, if there are any."""
    return [
        *_computed_blocks(rows, most, "contraction", "Contractions"),
        *_computed_blocks(rows, most, "scan", "Scans, masks, counts and look-ups"),
    ]


def _computed_blocks(rows: Sequence[Row], most: int, kind: str, title: str) -> list[Block]:
    found = [row for row in rows if row["kind"] == kind]
    if not found:
        return []
    cells = tuple(
        (row["kernel"], in_count(row["runs"]), in_seconds(row["measured"]), row["backend"],
         row["reason"])
        for row in found[:most]
    )  # fmt: skip
    note = f"And {plural(len(found) - most, 'more row')}." if len(found) > most else ""
    header = ("function", "calls", "measured", "where", "what")
    return [Grid(cells, "lrrll", header, note=note, title=title)]


def _backends_of(rows: Sequence[Row]) -> list[str]:
    """Return the backends worth a column: those that ran most, then those that could have."""
    weight: dict[str, float] = {}
    for row in rows:
        for name in row["predicted_on"]:
            weight.setdefault(name, 0.0)
        weight[row["backend"]] = weight.get(row["backend"], 0.0) + 1.0 + row["measured"]
    kept = sorted(weight, key=lambda name: -weight[name])[:_MOST_BACKENDS]
    return sorted(kept)


def _price_cell(row: Row, backend: str) -> str:
    seconds = row["predicted_on"].get(backend)
    if seconds is None:
        return "refused " if backend in row["refused"] else "- "
    return in_seconds(seconds) + ("*" if row["backend"] == backend else " ")


def _short(dtype: str | None) -> str:
    return numpy.dtype(dtype).str[1:] if dtype else ""


def summarize(tally: Tally, small: int, prices_from: str | None) -> Summary:
    """Return the summary of ``tally``.

    Parameters
    ----------
    tally : Tally
        What was heard.
    small : int
        Operations that ran as plain NumPy because they were small.
    prices_from : str or None
        Source of the profile in force; None where nothing was priced.
    """
    classes = list(tally.kernels.values())
    fallbacks = tally.fallback_rows()
    runs = sum(found.runs for found in classes)
    operations = sum(found.operations for found in classes)
    reasons: dict[str, int] = {}
    for found in classes:
        reasons[found.reason] = reasons.get(found.reason, 0) + found.runs
    return Summary(
        {
            "kernels": runs,
            "operations": operations,
            "fused_away": sum(max(found.operations - found.runs, 0) for found in classes),
            "bytes_unstored": sum(found.unstored for found in classes),
            "bytes_moved": sum(found.moved for found in classes),
            "measured": sum(found.measured for found in classes),
            "predicted": sum(found.predicted for found in classes),
            "priced": sum(found.prices.get(found.backend, [0, 0.0])[1] for found in classes),
            "backends": _by_backend(classes),
            "reasons": reasons,
            "fallbacks": {
                "calls": sum(row["runs"] for row in fallbacks),
                "measured": sum(row["measured"] for row in fallbacks),
                "kinds": len(fallbacks),
                "top": fallbacks[:_TOP_FALLBACKS],
            },
            "contractions": tally.contraction_rows()[:_TOP_FALLBACKS],
            "small": small,
            "fp_errors": [
                {"error": kind, "operation": name, "kernels": count}
                for (kind, name), count in sorted(tally.fp_errors.items())
            ],
            "verified": {"agreed": tally.verified[True], "disagreed": tally.verified[False]},
            "prices_from": prices_from,
            "kinds": len(classes),
            "top": tally.kernel_rows()[:_TOP_KERNELS],
        }
    )


def _by_backend(classes: Sequence[KernelClass]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in classes:
        for name in (one.backend, *one.prices, *one.refused):
            found.setdefault(
                name,
                {"kernels": 0, "measured": 0.0, "predicted": 0.0, "could_run": 0, "if_all": 0.0},
            )
        ran = found[one.backend]
        ran["kernels"] += one.runs
        ran["measured"] += one.measured
        ran["predicted"] += one.predicted
        for name, (priced, seconds) in one.prices.items():
            found[name]["could_run"] += int(priced)
            found[name]["if_all"] += seconds
    runs = sum(one.runs for one in classes)
    for figures in found.values():
        if figures["could_run"] < runs:
            figures["if_all"] = None
    return dict(sorted(found.items(), key=lambda item: (-item[1]["measured"], item[0])))


def _summary_blocks(data: Row) -> list[Block]:
    blocks: list[Block] = [Heading(_headline(data))]
    if data["kernels"]:
        blocks.append(_where_grid(data))
    facts = tuple(_facts(data))
    if facts:
        blocks.append(Grid(facts, "ll"))
    if data["kernels"]:
        title = "Kernels"
        if data["kinds"] > len(data["top"]):
            kinds = in_count(data["kinds"])
            title += f": the {len(data['top'])} kinds of {kinds} that took longest"
        blocks.append(kernel_grid(data["top"], _TOP_KERNELS, title))
    blocks += contraction_blocks(data["contractions"], _TOP_FALLBACKS)
    fallbacks = data["fallbacks"]
    if fallbacks["calls"]:
        calls = plural(fallbacks["calls"], "call")
        title = f"Left to NumPy: {calls}, {in_seconds(fallbacks['measured'])}"
        if fallbacks["kinds"] > len(fallbacks["top"]):
            title += f"; the {len(fallbacks['top'])} that took longest"
        blocks.append(fallback_grid(fallbacks["top"], _TOP_FALLBACKS, title))
    return blocks


def _headline(data: Row) -> str:
    if not data["kernels"]:
        kinds = {row["kind"] for row in data["contractions"]}
        alone = {"contraction": "contractions alone", "scan": "scans alone"}
        ran = alone[kinds.pop()] if len(kinds) == 1 else "contractions and scans"
        return f"dispatcharr ran {ran if data['contractions'] else 'no kernel'}."
    measured, predicted = data["measured"], data["predicted"]
    return (
        f"dispatcharr ran {plural(data['kernels'], 'kernel')}: {in_seconds(measured)} measured, "
        f"{in_seconds(predicted)} predicted ({in_ratio(measured, predicted)})."
    )


def _where_grid(data: Row) -> Grid:
    rows = []
    for name, figures in data["backends"].items():
        if figures["if_all"] is None:
            everything = f"can run {in_count(figures['could_run'])} of them"
        else:
            ratio = in_ratio(figures["if_all"], data["priced"])
            everything = f"{in_seconds(figures['if_all'])}  ({ratio})"
        used = figures["kernels"] > 0
        rows.append(
            (
                name,
                in_count(figures["kernels"]),
                in_seconds(figures["measured"] if used else None),
                in_seconds(figures["predicted"] if used else None),
                in_ratio(figures["measured"], figures["predicted"]),
                everything,
            )
        )
    header = ("where", "kernels", "measured", "predicted", "ratio", "if all ran there")
    note = "if all ran there: predicted; in brackets, relative to where it was sent."
    return Grid(tuple(rows), "lrrrrr", header, note=note)


def _facts(data: Row) -> Iterable[tuple[str, str]]:
    if data["kernels"]:
        text = f"{in_count(data['operations'])}, {in_count(data['fused_away'])} of them fused away"
        if data["bytes_unstored"]:
            text += f"; {in_bytes(data['bytes_unstored'])} of temporaries were never stored"
        yield "operations", text
        if data["bytes_moved"]:
            yield "moves", f"{in_bytes(data['bytes_moved'])} between the host and the device"
        reasons = sorted(data["reasons"].items(), key=lambda item: -item[1])
        for place, (reason, count) in enumerate(reasons[:_TOP_REASONS]):
            yield "" if place else "why", f"{reason}: {plural(count, 'kernel')}"
        if len(reasons) > _TOP_REASONS:
            yield "", f"and {plural(len(reasons) - _TOP_REASONS, 'more reason')}"
    if data["small"]:
        noun = "operation" if data["small"] == 1 else "operations"
        yield "small", f"{in_count(data['small'])} {noun} too small to plan ran as plain NumPy"
    if data["fp_errors"]:
        met = [f"{one['error']} in {one['operation']} ({one['kernels']})"
               for one in data["fp_errors"]]  # fmt: skip
        yield "errors met", ", ".join(met)
    checked = sum(data["verified"].values())
    if checked:
        disagreed = in_count(data["verified"]["disagreed"])
        yield "verified", f"{plural(checked, 'kernel')} against NumPy; {disagreed} disagreed"
    off = in_ratio(data["measured"], data["predicted"]) != "-" and not (
        1 / _FAR_OFF <= data["measured"] / data["predicted"] <= _FAR_OFF
    )
    if data["kernels"] and off and data["prices_from"] == "defaults":
        yield (
            "prices",
            ("shipped defaults, which are off here: `dispatcharr calibrate` measures this machine"),
        )
