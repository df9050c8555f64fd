"""Figures of a device: what each is, what it has to reach, and how they are stored and shown."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["Figure", "Teller", "geometric_mean", "markdown", "read", "table", "timed"]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes
    ----------
    part : str
        What it belongs to; parts are the headings of the tables.
    name : str
        What was measured.
    value : float or None
        None where it could not be measured; the note says why.
    unit : str
        Of the value.
    goal : float or None
        What is to be reached; None for a figure that informs.
    at_least : bool
        Whether the value has to be at least the goal, else at most.
    note : str
        What else there is to know.
    data : dict
        What the figure is made of, for the JSON file.
    """

    part: str
    name: str
    value: float | None
    unit: str = ""
    goal: float | None = None
    at_least: bool = True
    note: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none or nothing was measured."""
        if self.goal is None or self.value is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """The value, the goal and the verdict as text, and the note."""
        value = "-" if self.value is None else f"{_digits(self.value)} {self.unit}".rstrip()
        goal = "" if self.goal is None else f"{'>=' if self.at_least else '<='} {self.goal:g}"
        return value, goal, {None: "", True: "yes", False: "NO"}[self.reached], self.note

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "reached": self.reached}


def _digits(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:.{3 if abs(value) < 1 else 2 if abs(value) < 100 else 0}f}"


class Teller:
    """Takes down figures as they are found: who is stopped has told of all that it had measured.

    Parameters
    ----------
    path : Path
        Where they are appended, one JSON object a line.
    part : str
        Of all its figures.
    seconds : float
        How long the measuring may take.
    small : bool
        Whether sizes are to be tiny: to try the program, not the machine.
    """

    def __init__(self, path: Path, part: str, seconds: float, small: bool) -> None:
        self.path, self.part, self.small = path, part, small
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left."""
        return self._end - time.monotonic()

    def tell(self, name: str, value: float | None, unit: str = "", **more: Any) -> None:
        """Take down a figure; the keywords are those of :class:`Figure`."""
        figure = Figure(self.part, name, value, unit, **more)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figure)) + "\n")


def read(path: Path) -> list[Figure]:
    """Return the figures taken down in a file."""
    if not path.exists():
        return []
    return [Figure(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as lines for a terminal."""
    lines, part = [], ""
    for figure in figures:
        if figure.part != part:
            part = figure.part
            lines += ["", part]
        value, goal, verdict, note = figure.texts
        lines.append(f"  {figure.name:<46} {value:>14} {goal:>8} {verdict:<3} {note}".rstrip())
    return "\n".join(lines)


def markdown(figures: Sequence[Figure], title: str) -> str:
    """Return the figures as a page."""
    lines = [f"# {title}", ""]
    for part in dict.fromkeys(figure.part for figure in figures):
        lines += [
            f"## {part}",
            "",
            "| figure | value | goal | reached | |",
            "| - | -: | -: | - | - |",
        ]
        for figure in figures:
            if figure.part == part:
                cells = (figure.name.replace("|", "\\|"), *figure.texts)
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def geometric_mean(ratios: Sequence[float]) -> float | None:
    """Return the geometric mean; None of nothing."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def timed(
    runs: Sequence[Callable[[], Any]],
    settle: Callable[[], None],
    seconds: float = 0.2,
    rounds: int = 5,
) -> list[float]:
    """Return the median seconds of each run; they take turns, and ``settle`` ends each sample.

    Parameters
    ----------
    runs : sequence of callable
        Each has run before.
    settle : callable
        Waits until the device has done everything.
    seconds : float
        How long each may be measured, roughly.
    rounds : int
        Samples of each.
    """

    def sample(run: Callable[[], Any], loops: int) -> float:
        settle()
        start = time.perf_counter()
        for _ in range(loops):
            run()
        settle()
        return (time.perf_counter() - start) / loops

    guesses = [max(sample(run, 1), sample(run, 1) / 2, 1e-7) for run in runs]
    loops = [min(max(int(seconds / rounds / guess), 1), 1000) for guess in guesses]
    found: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds):
        for place in range(len(runs)):
            at = (turn + place) % len(runs)
            found[at].append(sample(runs[at], loops[at]))
    return [median(times) for times in found]
