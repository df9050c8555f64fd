"""The regret of routing: the time of the automatic path over that of the best forced backend.

The grid is op x size x dtype, one op of each cost class, and some fused expressions. The three
contenders of a cell (automatic, serial, threads) take turns. Forced runs go by a copy of the profile: what
they teach the model must not help the automatic path, which learns from its own choices alone, as it does in a
program. Cells that are not planned at all, and so have nothing to choose, are left out; cells that are planned when
forced and too small to be planned otherwise count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
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

__all__ = ["Cell", "Outcome", "cells", "measure", "quantile", "scopes"]

FORCED = ("serial", "threads")
_FUSED = ("polynomial", "trigonometry", "square_sum", "logistic", "stencil")


@dataclass(frozen=True)
class Cell:
    """One kernel to be routed."""

    name: str
    dtype: str
    size: int

    def __str__(self) -> str:
        return f"{self.name} {numpy.dtype(self.dtype).str[1:]} {self.size:.0e}".replace("e+0", "e")


@dataclass(frozen=True)
class Outcome:
    """What a cell took (automatic, serial, threads), what was chosen, and the prices of it."""

    turns: Turns
    chosen: str
    prices: tuple[tuple[str, float], ...]

    @property
    def regret(self) -> float:
        """The automatic path's time over the best backend's."""
        return self.turns.regret()


def cells(
    sizes: Sequence[int], dtypes: Sequence[str], names: Sequence[str] | None = None
) -> list[Cell]:
    """Return the cells of a grid; the default is an op of each cost class and fused expressions."""
    chosen = [*first_of_each_cost(), *_FUSED] if names is None else names
    return [Cell(n, d, s) for n in chosen for d in dtypes for s in sizes]


@contextmanager
def scopes() -> Iterator[list[Callable[[], AbstractContextManager[Any]]]]:
    """Give the scopes of the three contenders; inside, nothing is learned for the user's profile."""
    profile = replace(profiles.current(), path=None)
    taught = replace(profile)

    @contextmanager
    def forced(name: str) -> Iterator[None]:
        with profiles.use(taught), dispatcharr.use_backend(name):
            yield

    with profiles.use(profile):
        yield [ExitStack, *[partial(forced, name) for name in FORCED]]


def measure(
    cell: Cell, scope: Sequence[Callable[[], AbstractContextManager[Any]]], pace: Pace
) -> Outcome | None:
    """Time a cell, None where there is no choice to make."""
    call = _call(cell)
    if call is None:
        return None
    operands = copied(call.operands)
    with scope[1]():
        if _heard(call, operands) is None:
            return None
    waits = call.waits(operands)
    contenders = [
        call.our_contender(operands, one, waits if one is scope[0] else True) for one in scope
    ]
    turns = take_turns(contenders, pace)
    decision = _heard(call, operands)
    if decision is None:
        return Outcome(turns, "direct", ())
    prices = tuple((found.backend, found.seconds) for found in decision.estimates)
    return Outcome(turns, decision.backend, prices)


def _call(cell: Cell) -> Call | None:
    if cell.name not in EXPRESSIONS:
        return call_of(cell.name, cell.dtype, cell.size)
    if numpy.dtype(cell.dtype).kind != "f":
        return None
    expression = EXPRESSIONS[cell.name]
    function = partial(expression.compute, dispatcharr)
    return Call(cell.name, expression.make(cell.size, cell.dtype), function, function)


def _heard(call: Call, operands: tuple[Any, ...]) -> Any:
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
    """Median and 95th percentile over a small grid; ``benchmarks/figures.py`` has the large one."""

    def setup_cache(self) -> list[float]:
        if registry.available()["threads"] is not None:
            return []
        names = ["add", "divide", "sqrt", "exp", "sin", "less", "sum", "polynomial", "square_sum"]
        grid = cells((10_000, 100_000, 1_000_000), ("float64", "float32"), names)
        with scopes() as scope:
            found = [measure(cell, scope, Pace(budget=0.08)) for cell in grid]
        return [outcome.regret for outcome in found if outcome is not None]

    def setup(self, regrets: list[float]) -> None:
        if not regrets:
            raise NotImplementedError("there is one thread only, and so no choice")

    def track_median(self, regrets: list[float]) -> float:
        return quantile(regrets, 0.5)

    def track_95th_percentile(self, regrets: list[float]) -> float:
        return quantile(regrets, 0.95)

    def track_worst(self, regrets: list[float]) -> float:
        return max(regrets)

    unit = "x best backend"
