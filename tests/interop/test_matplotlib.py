"""matplotlib with our arrays: the same pixels as with NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from neighbours import Arrays, Call, Neighbour, load

agg = load("matplotlib.backends.backend_agg")
figure = load("matplotlib.figure")
matplotlib = Neighbour("matplotlib")


def pixels(draw: Callable[[Any], Any]) -> bytes:
    """Return what a figure of one plot looks like."""
    shown = figure.Figure(figsize=(2, 2), dpi=40)
    draw(shown.add_subplot())
    canvas = agg.FigureCanvasAgg(shown)
    canvas.draw()
    return bytes(canvas.buffer_rgba())


def drawing(text: str, draw: Callable[[Any, Arrays], Any]) -> None:
    matplotlib.works(text, lambda array: pixels(lambda axes: draw(axes, array)))


drawing("plot(x, y)", lambda ax, a: ax.plot(a.random(20), a.random(20, seed=1)))
drawing("plot(x2d)", lambda ax, a: ax.plot(a.random(20, 3)))
drawing(
    "scatter(x, y, c=z, s=w)",
    lambda ax, a: ax.scatter(a.random(9), a.random(9, seed=1), c=a.random(9), s=a.random(9) * 50),
)
drawing("scatter(c=rgb)", lambda ax, a: ax.scatter(a.random(9), a.random(9), c=a.random(9, 3)))
drawing(
    "imshow(x2d), imshow(rgb)",
    lambda ax, a: (ax.imshow(a.random(8, 8)), ax.imshow(a.random(8, 8, 3))),
)
drawing(
    "imshow(x, vmin=x.min())",
    lambda ax, a: ax.imshow(
        a.random(8, 8), vmin=a.random(8, 8).min(), extent=a([0.0, 1.0, 0.0, 2.0])
    ),
)
drawing(
    "hist(x), hist(x, bins=y)",
    lambda ax, a: (ax.hist(a.random(50)), ax.hist(a.random(50), bins=a([0.0, 0.5, 1.0]))),
)
drawing("hist(x2d)", lambda ax, a: ax.hist(a.random(50, 2)))
drawing("hist([x, y])", lambda ax, a: ax.hist([a.random(50), a.random(30, seed=1)]))
drawing(
    "hist2d(x, y), hexbin",
    lambda ax, a: (
        ax.hist2d(a.random(50), a.random(50, seed=1)),
        ax.hexbin(a.random(50), a.random(50)),
    ),
)
drawing(
    "boxplot(x), boxplot([x, y])",
    lambda ax, a: (ax.boxplot(a.random(20)), ax.boxplot([a.random(20), a.random(9)])),
)
drawing("boxplot(x2d)", lambda ax, a: ax.boxplot(a.random(20, 3)))
drawing("violinplot(x2d)", lambda ax, a: ax.violinplot(a.random(20, 3)))
drawing("eventplot(x2d)", lambda ax, a: ax.eventplot(a.random(3, 20)))
drawing(
    "bar(x, y, yerr=z), barh",
    lambda ax, a: (
        ax.bar(a([1, 2]), a([3.0, 4.0]), yerr=a([0.1, 0.2])),
        ax.barh(a([1, 2]), a([3.0, 4.0])),
    ),
)
drawing(
    "errorbar(x, y, yerr=x2d)",
    lambda ax, a: ax.errorbar(a([1.0, 2.0]), a([1.0, 2.0]), yerr=a.random(2, 2)),
)
drawing(
    "fill_between(x, y, where=mask)",
    lambda ax, a: ax.fill_between(a([0.0, 1.0, 2.0]), a.random(3), where=a([True, True, False])),
)
drawing(
    "stackplot, step, stem",
    lambda ax, a: (
        ax.stackplot(a([0.0, 1.0]), a.random(2, 2)),
        ax.step(a([0.0, 1.0]), a([1.0, 2.0])),
        ax.stem(a([0.0, 1.0])),
    ),
)
drawing(
    "contour, contourf(x, y, z, levels)",
    lambda ax, a: (
        ax.contour(a.random(6, 6)),
        ax.contourf(a([0.0, 1, 2]), a([0.0, 1, 2]), a.random(3, 3), levels=a([0.0, 0.5, 1.0])),
    ),
)
drawing(
    "pcolormesh(x, y, z)",
    lambda ax, a: ax.pcolormesh(a([0.0, 1, 2]), a([0.0, 1, 2]), a.random(2, 2)),
)
drawing(
    "quiver(x, y, u, v), streamplot",
    lambda ax, a: (
        ax.quiver(a([0.0, 1]), a([0.0, 1]), a.random(2), a.random(2, seed=1)),
        ax.streamplot(a([0.0, 1, 2]), a([0.0, 1, 2]), a.random(3, 3), a.random(3, 3, seed=1)),
    ),
)
drawing(
    "tricontourf(x, y, z)",
    lambda ax, a: ax.tricontourf(a.random(9), a.random(9, seed=1), a.random(9, seed=2)),
)
drawing("pie(x)", lambda ax, a: ax.pie(a([1.0, 2.0, 3.0])))
drawing(
    "specgram, psd(x)",
    lambda ax, a: (ax.psd(a.random(300)), ax.specgram(a.random(300), NFFT=64, noverlap=8)),
)
drawing(
    "hlines, vlines(x, y, 1), axhspan, text at x[i]",
    lambda ax, a: (
        ax.hlines(a([0.2, 0.4]), 0, 1),
        ax.vlines(a([0.2, 0.4]), a([0.0, 0.1]), 1),
        ax.axhspan(*a([0.3, 0.5])),
        ax.text(a.random(2)[0], 0.5, "t"),
    ),
)
drawing(
    "set_xticks(x), set_xlim(x)",
    lambda ax, a: (ax.set_xlim(a([0.0, 5.0])), ax.set_xticks(a([1, 2]))),
)
drawing(
    "plot(dates)", lambda ax, a: ax.plot(a(["2020-01-01", "2020-06-01"], "M8[D]"), a([1.0, 2.0]))
)
drawing(
    "bar(strings, y), plot(strings, y)",
    lambda ax, a: (
        ax.bar(a(["a", "b"]), a([1.0, 2.0])),
        ax.plot(a(["a", "b"]), a([1.0, 2.0])),
    ),
)
drawing(
    "plot(...)[0].set_data(x, y)",
    lambda ax, a: (
        ax.set_xlim(0, 1),
        ax.plot([0], [0])[0].set_data(a.random(9), a.random(9, seed=1)),
    ),
)


@matplotlib.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


@pytest.mark.parametrize("name", ["boxplot", "violinplot", "hist"])
def test_two_dimensional_data_are_taken_by_columns(name: str) -> None:
    values = numpy.random.default_rng(0).random((20, 3))
    of_numpy = pixels(lambda axes: getattr(axes, name)(values))
    of_rows = pixels(lambda axes: getattr(axes, name)(list(values)))
    assert pixels(lambda axes: getattr(axes, name)(np.array(values))) == of_numpy != of_rows
