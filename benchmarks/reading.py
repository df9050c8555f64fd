"""What one row of the table says, and how it is printed and stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dispatcharr.bench.load import is_disturbed

__all__ = ["HEADER", "Reading", "legend", "pretty", "without_others"]

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass(frozen=True)
class Reading:
    """One figure.

    Attributes
    ----------
    title : str
        What was measured.
    value, low, high : float
        The median, and the smallest and the largest of the repetitions; nan where there is none.
    goal : float or None
        What is to be reached; None for a row that informs.
    at_least : bool
        Whether the figure has to be at least the goal, else at most.
    theirs, ours : float or None
        Seconds of NumPy and of dispatcharr.
    others : float or None
        Cores that other processes used meanwhile.
    attempts : int
        How often it was measured: again while others disturbed it.
    notes : list of str
        Lines to be printed below the table.
    cells : list of dict
        Everything that the figure is made of, for the JSON file.
    """

    title: str
    value: float
    low: float = math.nan
    high: float = math.nan
    goal: float | None = None
    at_least: bool = False
    theirs: float | None = None
    ours: float | None = None
    others: float | None = None
    attempts: int = 1
    notes: Sequence[str] = ()
    cells: Sequence[dict[str, Any]] = field(default_factory=list)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None or math.isnan(self.value):
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def __str__(self) -> str:
        spread = "" if math.isnan(self.low) else f" ({_short(self.low)}-{_short(self.high)})"
        goal = "" if self.goal is None else f"{'>=' if self.at_least else '<='} {self.goal:.4g}"
        verdict = {None: "", True: "yes", False: "NO"}[self.reached]
        others = "?" if self.others is None else f"{self.others:.2f}"
        if is_disturbed(self.others):
            others += "~"
        return (
            f"{self.title:<26} {pretty(self.theirs):>7} {pretty(self.ours):>7} "
            f"{_short(self.value) + spread:>17} {goal:>7} {verdict:<3} {others:>6}"
        ).rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        known = {**asdict(self), "reached": self.reached, "disturbed": is_disturbed(self.others)}
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in known.items()
        }


def without_others(reading: Reading) -> Reading:
    """Return a reading on which other processes have no influence."""
    return replace(reading, others=0.0)


def _short(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def pretty(seconds: float | None, between: str = " ") -> str:
    """Return a time with three digits; nothing where there is none."""
    if seconds is None:
        return ""
    size, unit = next((one for one in _UNITS if seconds >= 0.9995 * one[0]), _UNITS[-1])
    count = seconds / size
    digits = 2 if count < 10 else 1 if count < 100 else 0
    return f"{count:.{digits}f}{between}{unit}"


HEADER = (
    f"{'':<26} {'NumPy':>7} {'ours':>7} {'median (min-max)':>17} {'goal':>7} {'':<3} {'others':>6}"
)


def legend() -> str:
    """Return what the columns mean."""
    return (
        "NumPy, ours: median seconds of one execution, evaluated. Figure and goal, if\n"
        "not said otherwise: times NumPy's time (<=), or times faster than NumPy (>=).\n"
        "others: cores used by other processes meanwhile; ~ marks a row so disturbed."
    )
