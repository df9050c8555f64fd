"""Pictures of a run of the laboratory: a roofline, speed-up over size, and who was chosen where.

The colours are those of Okabe and Ito, which the colour-blind tell apart; shapes differ as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatcharr.bench.ours import AUTO
from dispatcharr.bench.results import NUMPY, Cell, Report, in_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

_BLUE, _ORANGE, _GREEN, _RED, _SKY, _PINK, _YELLOW, _GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "dimgrey",
)  # fmt: skip
_PEERS = (_ORANGE, _GREEN, _SKY, _PINK, _RED, "black")
_PEER_MARKS = "sD^vPX"
_CHOICES = (_SKY, _BLUE, _YELLOW, _RED, _GREEN, _PINK)
_CHOICE_MARKS = "sDv^PX"


def draw(report: Report, folder: Path) -> list[tuple[str, Path]]:
    """Write the plots into ``folder`` and return the caption and path of each."""
    folder.mkdir(parents=True, exist_ok=True)
    made = (
        ("Speed-up over NumPy, by size", "speedup.png", _speed_up(report)),
        ("Roofline", "roofline.png", _roofline(report)),
        ("Where the automatic path runs what", "crossover.png", _crossover(report)),
    )
    found = []
    for caption, name, figure in made:
        figure.savefig(folder / name, dpi=150)
        found.append((caption, folder / name))
    return found


def _figure(width: float, height: float) -> Figure:
    # Not by pyplot: no window, and nothing of the process's settings is touched.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _where(report: Report) -> str:
    machine = report.machine
    return f"{machine['cpu']}, {machine['threads']} threads, {report.dtype}, {report.date[:10]}"


def _speed_up(report: Report) -> Figure:
    """Draw a small panel for each expression, on common axes."""
    titles = list(dict.fromkeys(cell.title for cell in report.cells))
    columns = min(4, len(titles))
    rows = math.ceil(len(titles) / columns)
    figure = _figure(3.1 * columns + 0.6, 2.4 * rows + 1.3)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    styles = _styles(report)
    for axes, title in zip(panels, titles, strict=False):
        cells = [cell for cell in report.cells if cell.title == title]
        for name, style in styles.items():
            points = [(c.elements, c.speed_up(name)) for c in cells if name in c.turns.names]
            axes.loglog(*zip(*points, strict=True), label=name, **style) if points else None
        axes.axhline(1.0, color=_GREY, linewidth=1, linestyle="--")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.yaxis.set_major_formatter(lambda value, at: f"{value:g}x")
    for axes in list(panels)[len(titles) :]:
        axes.set_visible(False)
    _label_edges(figure, rows, columns, len(titles))
    handles, labels = _all_handles(figure)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8))
    figure.suptitle(f"Times faster than NumPy (dashed: as fast)\n{_where(report)}", fontsize=12)
    return figure


def _styles(report: Report) -> dict[str, dict[str, Any]]:
    """Return the line of each contender; ours is drawn last, on top."""
    peers = [name for name in report.contenders if name not in (NUMPY, AUTO)]
    styles: dict[str, dict[str, Any]] = {
        name: {
            "color": _PEERS[at % len(_PEERS)],
            "marker": _PEER_MARKS[at % len(_PEER_MARKS)],
            "linewidth": 1.1,
            "markersize": 4,
        }
        for at, name in enumerate(peers)
    }
    styles[AUTO] = {"color": _BLUE, "marker": "o", "linewidth": 2.4, "markersize": 6, "zorder": 5}
    return styles


def _label_edges(figure: Figure, rows: int, columns: int, count: int) -> None:
    for at, axes in enumerate(figure.axes[:count]):
        if at % columns == 0:
            axes.set_ylabel("speed-up")
        if at + columns >= count:
            axes.set_xlabel("elements")
            axes.tick_params(labelbottom=True)


def _all_handles(figure: Figure) -> tuple[list[Any], list[str]]:
    """Return each contender's line once, ours first, whichever panel has it."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    names = sorted(found, key=AUTO.__ne__)
    shown = {AUTO: "dispatcharr"}
    return [found[name] for name in names], [shown.get(name, name) for name in names]


def _roofline(report: Report) -> Figure:
    """Draw the largest size under the two roofs, numbered; NumPy hollow, ours filled."""
    cells = report.at(report.sizes[-1])
    figure = _figure(10.5, 6.0)
    axes = figure.subplots()
    bandwidth = report.roof.bandwidth
    peak = report.roof.operations_per_second[report.dtype]
    ridge = peak / bandwidth
    low = min(cell.intensity for cell in cells) / 2
    high = max(ridge, *(cell.intensity for cell in cells)) * 3
    axes.loglog(
        [low, ridge, high], [low * bandwidth / 1e9, peak / 1e9, peak / 1e9],
        color="black", linewidth=2,
    )  # fmt: skip
    middle = (low * ridge) ** 0.5
    axes.annotate(
        f"memory: {bandwidth / 1e9:.3g} GB/s", (middle, middle * bandwidth / 1e9), (-8, 8),
        textcoords="offset points", ha="right", fontsize=9,
    )  # fmt: skip
    axes.annotate(
        f"multiply and add: {peak / 1e9:.3g} Gop/s", (ridge * 1.2, peak / 1e9), (0, 6),
        textcoords="offset points", fontsize=9,
    )  # fmt: skip
    places = _spread([cell.intensity for cell in cells])
    for number, (cell, x) in enumerate(zip(cells, places, strict=True), 1):
        _tie(axes, cell, x, number)
    axes.set_xlabel("nominal operations per byte that must move (near ones are set apart)")
    axes.set_ylabel("nominal operations, 10$^9$ per second")
    axes.grid(alpha=0.3, which="both")
    axes.set_title(f"Roofline, {in_size(report.sizes[-1])} elements\n{_where(report)}", fontsize=12)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def _spread(values: Sequence[float]) -> list[float]:
    """Return the values, those too near to each other set apart, so that none hides another."""
    found = list(values)
    last = 0.0
    for at in sorted(range(len(values)), key=values.__getitem__):
        last = found[at] = max(values[at], 1.08 * last)
    return found


def _tie(axes: Axes, cell: Cell, x: float, number: int) -> None:
    """Draw one expression: NumPy's point, ours, and the way between them."""
    theirs, ours = (
        cell.operations / cell.turns.typical(name) / 1e9 if name in cell.turns.names else math.nan
        for name in (NUMPY, AUTO)
    )
    axes.plot([x, x], [theirs, ours], color=_GREY, linewidth=1, zorder=2)
    first = number == 1
    axes.plot(
        [x], [theirs], "o", color=_ORANGE, markerfacecolor="white", markersize=7, zorder=3,
        label="NumPy" if first else None,
    )  # fmt: skip
    axes.plot(
        [x], [ours], "o", color=_BLUE, markersize=13, zorder=4,
        label="dispatcharr" if first else None,
    )  # fmt: skip
    axes.annotate(
        f"{number}", (x, ours), color="white", fontsize=8, ha="center", va="center", zorder=5
    )
    axes.plot([], [], " ", label=f"{number}  {cell.title}")


def _crossover(report: Report) -> Figure:
    """Draw which backend and engine was chosen: sizes by expressions, the leanest at the bottom."""
    intensity = {cell.title: cell.intensity for cell in report.at(report.sizes[-1])}
    titles = sorted(intensity, key=lambda title: intensity[title])
    chosen = sorted({cell.chosen for cell in report.cells} - {"direct", "-"})
    figure = _figure(9.5, 1.9 + 0.36 * len(titles))
    axes = figure.subplots()
    looks = {
        name: (_CHOICES[at % len(_CHOICES)], _CHOICE_MARKS[at % len(_CHOICE_MARKS)])
        for at, name in enumerate(chosen)
    }
    looks = {"direct": ("#BBBBBB", "o"), **looks}
    names = {"direct": "plain NumPy, not planned"}
    for name, (color, mark) in looks.items():
        points = [
            (cell.elements, titles.index(cell.title))
            for cell in report.cells
            if cell.chosen == name and cell.title in intensity
        ]
        if points:
            axes.semilogx(
                *zip(*points, strict=True), mark, color=color, markersize=13,
                markeredgecolor="black", markeredgewidth=0.6, label=names.get(name, name),
            )  # fmt: skip
    axes.set_yticks(range(len(titles)), [f"{one}   {intensity[one]:.2g}" for one in titles])
    axes.set_ylim(-0.7, len(titles) - 0.3)
    axes.margins(x=0.08)
    axes.set_xlabel("elements")
    axes.set_ylabel("expression, and its nominal operations per byte")
    axes.grid(alpha=0.3)
    axes.set_title(f"Where the automatic path runs what\n{_where(report)}", fontsize=12)
    figure.legend(loc="outside lower center", ncols=min(len(looks), 5), fontsize=9)
    return figure
