"""The regret of routing: the time of the automatic path over that of the best alternative.

The grid is op x size x dtype, one op of each cost class, and some fused expressions. The four
contenders of a cell (automatic, forced serial, forced threads, NumPy) take turns. Forced runs go by
a copy of the profile: what they teach the model must not help the automatic path, which learns from
its own choices alone, as it does in a program. Cells that are not planned even when forced have
nothing to choose and are left out; cells that are planned when forced, and too small to be planned
otherwise, count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy

import dispatcharr
from dispatcharr import _events
from dispatcharr.backends import registry
from dispatcharr.route import profile as profiles

from .expressions import EXPRESSIONS
from .operands import Call, call_of, copied, first_of_each_cost
from .pairs import Pace, Turns, take_turns

__all__ = [
    "CONTENDERS",
    "FUSED",
    "Cell",
    "Outcome",
    "cells",
    "has_choice",
    "measure",
    "quantile",
    "scopes",
    "standard_names",
]

_ATTEMPTS = 3
FORCED = ("serial", "threads")
#: Columns of a cell's times.
CONTENDERS = ("automatic", *FORCED, "NumPy")
FUSED = ("polynomial", "trigonometry", "square_sum", "logistic", "stencil")

Scopes = Sequence[Callable[[], AbstractContextManager[Any]]]


@dataclass(frozen=True)
class Cell:
    """One operation or expression on one dtype and size."""

    name: str
    dtype: str
    size: int

    def __str__(self) -> str:
        power = len(str(self.size)) - 1
        return f"{self.name} {numpy.dtype(self.dtype).str[1:]} {self.size // 10**power}e{power}"


@dataclass(frozen=True)
class Outcome:
    """What a cell took, what was chosen, and the prices compared.

    The choice is a backend's name, or "direct" for plain NumPy; where it changed in the course of
    the measurement, it is both names' beginnings.
    """

    turns: Turns
    chosen: str
    prices: tuple[tuple[str, float], ...]

    @property
    def regret(self) -> float:
        """The automatic path's time over the best forced backend's."""
        return self.turns.regret((1, 2))

    @property
    def regret_over_all(self) -> float:
        """The same over the best of the forced backends and plain NumPy."""
        return self.turns.regret((1, 2, 3))

    def __add__(self, later: Outcome) -> Outcome:
        return replace(later, turns=self.turns + later.turns)


def has_choice() -> bool:
    """Return whether there is more than one thread to choose between."""
    return registry.available().get("threads", "unknown") is None


def cells(sizes: Sequence[int], dtypes: Sequence[str], names: Sequence[str]) -> list[Cell]:
    """Return the cells of a grid."""
    return [Cell(name, dtype, size) for name in names for dtype in dtypes for size in sizes]


def standard_names() -> list[str]:
    """Return an op of each cost class, and the fused expressions."""
    return [*first_of_each_cost(), *FUSED]


@contextmanager
def scopes() -> Iterator[Scopes]:
    """Give the scopes of our contenders; inside, nothing is learned for the user's profile."""
    profile = replace(profiles.current(), path=None)
    taught = replace(profile)

    @contextmanager
    def forced(name: str) -> Iterator[None]:
        with profiles.use(taught), dispatcharr.use_backend(name):
            yield

    with profiles.use(profile):
        yield [nullcontext, *[partial(forced, name) for name in FORCED]]


def measure(cell: Cell, scope: Scopes, pace: Pace) -> Outcome | None:
    """Time a cell, None where there is no choice to make."""
    call = _call(cell)
    if call is None:
        return None
    operands = copied(call.operands)
    with scope[1]():
        if _decision(call, operands) is None:
            return None
    first = _choice(_decision(call, operands))
    # What begins to wait in the course of it, because its kernel is there by now, is measured anew.
    for _ in range(_ATTEMPTS):
        waits = call.waits(operands)
        ours = [call.our_contender(operands, waits or one is not scope[0], one) for one in scope]
        turns = take_turns([*ours, call.numpy_contender()], pace)
        if call.waits(operands) == waits:
            break
    decision = _decision(call, operands)
    last = _choice(decision)
    chosen = last if first == last else f"{first[:3]}>{last[:3]}"
    if decision is None:
        return Outcome(turns, chosen, ())
    prices = tuple((found.backend, found.seconds) for found in decision.estimates)
    return Outcome(turns, chosen, prices)


def _choice(decision: Any) -> str:
    return "direct" if decision is None else str(decision.backend)


def _call(cell: Cell) -> Call | None:
    if cell.name not in EXPRESSIONS:
        return call_of(cell.name, cell.dtype, cell.size)
    if numpy.dtype(cell.dtype).kind != "f":
        return None
    expression = EXPRESSIONS[cell.name]
    return Call(
        cell.name,
        expression.make(cell.size, cell.dtype),
        partial(expression.compute, numpy),
        partial(expression.compute, dispatcharr),
    )


def _decision(call: Call, operands: tuple[Any, ...]) -> Any:
    """Run the call and return the decision of its last kernel, None where none ran."""
    records: list[Any] = []
    with _events.listening(records.append):
        dispatcharr.evaluate(call.ours(*operands))
    kernels = [record for record in records if isinstance(record, _events.KernelRecord)]
    return kernels[-1].decision if kernels else None


def quantile(figures: Sequence[float], share: float) -> float:
    """Return a quantile of figures."""
    return float(numpy.quantile(numpy.array(figures), share))


class Regret:
    """Median and tail over a small grid; ``benchmarks/figures.py`` measures the large one."""

    unit = "x best"

    def setup_cache(self) -> dict[str, list[float]]:
        found: list[Outcome] = []
        if has_choice():
            names = ["add", "divide", "sqrt", "exp", "sin", "less", "sum", *FUSED[:3]]
            with scopes() as scope:
                for cell in cells((30_000, 300_000, 2_000_000), ("float64", "float32"), names):
                    outcome = measure(cell, scope, Pace(budget=0.08))
                    found += [outcome] if outcome is not None else []
        return {
            "forced": [outcome.regret for outcome in found],
            "all": [outcome.regret_over_all for outcome in found],
        }

    def setup(self, regrets: dict[str, list[float]]) -> None:
        if not regrets["forced"]:
            raise NotImplementedError("there is one thread only, and so no choice")

    def track_median(self, regrets: dict[str, list[float]]) -> float:
        return quantile(regrets["forced"], 0.5)

    def track_95th_percentile(self, regrets: dict[str, list[float]]) -> float:
        return quantile(regrets["forced"], 0.95)

    def track_median_with_numpy(self, regrets: dict[str, list[float]]) -> float:
        return quantile(regrets["all"], 0.5)

    def track_95th_percentile_with_numpy(self, regrets: dict[str, list[float]]) -> float:
        return quantile(regrets["all"], 0.95)
