"""What an operation costs more than NumPy's, from a few elements to where planning begins.

Both sides are timed in turn and together, so that the three tracked values of a cell belong to one
measurement.
"""

from __future__ import annotations

import numpy

import dispatcharr

from .operands import is_pending, values
from .pairs import Contender, Pace, take_turns

STATEMENTS = {
    "add": "a + b",
    "add scalar": "a + 2.0",
    "negative": "-a",
    "slice": "a[1:3]",
    "sin": "np.sin(a)",
    "compare": "a < b",
    "where": "np.where(a > 0.5, a, b)",
    "sum": "a.sum()",
    "mean by axis": "c.mean(axis=0)",
    "set slice": "a[2:] = b[2:]",
}
SIZES = (8, 100, 1_000, 10_000, 100_000)


def _both(statement: str, size: int) -> tuple[float, float, float]:
    """Return NumPy's seconds, ours, and the ratio."""
    a, b = values("float64", size), values("float64", size, 1)
    arrays = {"a": a, "b": b, "c": a.reshape(2, -1).copy()}
    copies = {name: dispatcharr.array(array) for name, array in arrays.items()}
    theirs, ours = {"np": numpy, **arrays}, {"np": dispatcharr, **copies}
    mine = statement
    if "] =" not in statement and is_pending(eval(statement, dict(ours))):
        mine = f"np.evaluate({statement})"
    turns = take_turns(
        [Contender(statement, theirs), Contender(mine, ours)], Pace(budget=0.05, least=5)
    )
    return turns.typical(0), turns.typical(1), turns.ratio(1, 0)


class Overhead:
    """NumPy's seconds, ours, and ours over NumPy's."""

    params = (list(STATEMENTS), list(SIZES))
    param_names = ("statement", "size")

    def setup_cache(self) -> dict[tuple[str, int], tuple[float, float, float]]:
        return {
            (name, size): _both(statement, size)
            for name, statement in STATEMENTS.items()
            for size in SIZES
        }

    def track_numpy(self, cells: dict, name: str, size: int) -> float:  # type: ignore[type-arg]
        return float(cells[name, size][0])

    def track_dispatcharr(self, cells: dict, name: str, size: int) -> float:  # type: ignore[type-arg]
        return float(cells[name, size][1])

    def track_ratio(self, cells: dict, name: str, size: int) -> float:  # type: ignore[type-arg]
        return float(cells[name, size][2])

    track_numpy.unit = track_dispatcharr.unit = "seconds"  # type: ignore[attr-defined]
    track_ratio.unit = "x NumPy"  # type: ignore[attr-defined]
