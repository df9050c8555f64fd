"""Rows that compare a statement under NumPy and under dispatcharr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy
from benchmarks.expressions import EXPRESSIONS
from benchmarks.operands import is_pending, values
from benchmarks.pairs import Contender, Pace, Turns, take_turns
from reading import Reading, pretty

import dispatcharr

__all__ = ["expression", "small", "smallest", "ten_thousand", "thousand"]

_STATEMENTS_OF_8 = {
    "np.sin(x)": "np.sin(x)",
    "x[1:3]": "x[1:3]",
    "x.sum()": "x.sum()",
    "x * 2.0": "x * 2.0",
    "-x": "-x",
}
_ON_TEN_THOUSAND = ("x + y", "np.exp(x)", "np.sqrt(x)")


@dataclass(frozen=True)
class _Effort:
    """Repetitions, of which median, smallest and largest are shown, and the pace of all of them."""

    repetitions: int
    pace: Pace


def _effort(quick: bool, seconds: float, sample: float = 1e-3) -> _Effort:
    repetitions = 3 if quick else 5
    least = repetitions * (2 if quick else 3)
    budget = seconds * (0.5 if quick else 1.0)
    return _Effort(repetitions, Pace(budget, sample, least, most=2000))


def _reading(title: str, turns: Turns, effort: _Effort, faster: bool) -> Reading:
    """Return ours over NumPy's time, or, where ``faster``, NumPy's over ours."""
    columns = (0, 1) if faster else (1, 0)
    ratios = [group.ratio(*columns) for group in turns.split(effort.repetitions)]
    return Reading(
        title,
        median(ratios),
        min(ratios),
        max(ratios),
        theirs=turns.typical(0),
        ours=turns.typical(1),
    )


def _both(statement: str, size: int) -> tuple[Contender, Contender]:
    """Return the statement for NumPy and for us, evaluated where its result is left pending."""
    theirs: Mapping[str, Any] = {
        "np": numpy, "x": values("float64", size), "y": values("float64", size, 1)
    }  # fmt: skip
    ours = {"np": dispatcharr, "x": dispatcharr.array(theirs["x"])}
    ours["y"] = dispatcharr.array(theirs["y"])
    mine = statement
    if is_pending(eval(statement, dict(ours))):
        mine = f"np.evaluate({statement})"
    return Contender(statement, theirs), Contender(mine, ours)


def _statement(title: str, statement: str, size: int, effort: _Effort) -> Reading:
    return _reading(title, take_turns(_both(statement, size), effort.pace), effort, False)


def smallest(quick: bool) -> Reading:
    """Measure ``x + y`` on 8 elements."""
    found = _statement("a + b on 8 elements", "x + y", 8, _effort(quick, 2.0))
    return replace(found, goal=1.6)


def thousand(quick: bool) -> Reading:
    """Measure ``x + y`` on 1,000 elements."""
    found = _statement("a + b on 1,000", "x + y", 1000, _effort(quick, 2.0))
    return replace(found, goal=1.3)


def small(quick: bool) -> list[Reading]:
    """Measure other statements on 8 elements, for information."""
    found = []
    for title, statement in _STATEMENTS_OF_8.items():
        reading = _statement(f"{title} on 8", statement, 8, _effort(quick, 1.0))
        found.append(reading)
    return found


def ten_thousand(quick: bool) -> Reading:
    """Measure operations on 10,000 elements; the worst of them is the figure."""
    effort = _effort(quick, 1.5)
    readings = [_statement(text, text, 10_000, effort) for text in _ON_TEN_THOUSAND]
    worst = max(readings, key=lambda reading: reading.value)
    notes = [
        f"{one.title}: NumPy {pretty(one.theirs)}, ours {pretty(one.ours)}, {one.value:.3f} x"
        for one in readings
    ]
    cells = [one.to_dict() for one in readings]
    return replace(worst, title="one op on 10,000, worst", goal=1.05, notes=notes, cells=cells)


def expression(name: str, title: str, size: int, goal: float, quick: bool) -> Reading:
    """Measure a fused expression; the figure is how much faster it is than NumPy's."""
    chosen = EXPRESSIONS[name]
    arrays = chosen.make(size, "float64")
    theirs = {f"x{i}": array for i, array in enumerate(arrays)}
    ours = {key: dispatcharr.array(array) for key, array in theirs.items()}
    computed = f"compute(np, {', '.join(theirs)})"
    contenders = (
        Contender(computed, {"compute": chosen.compute, "np": numpy, **theirs}),
        Contender(
            f"np.evaluate({computed})", {"compute": chosen.compute, "np": dispatcharr, **ours}
        ),
    )
    effort = _effort(quick, 4.0)
    found = _reading(title, take_turns(contenders, effort.pace), effort, True)
    return replace(found, goal=goal, at_least=True)
