"""Rows made of hundreds of cells: the regret of routing, and the slow-down of single operations.

Cells are measured in random order, in windows of about a second. A window in which other processes
were busy is measured again, at most three times and while there is time; of each cell the quietest
window counts. A grid that runs out of time is cut short, which leaves a random part of it.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean
from typing import Any, TypeVar

from benchmarks.operands import ROWS, call_of, copied, first_of_each_cost
from benchmarks.pairs import Pace, Turns, take_turns
from benchmarks.regret import (
    CONTENDERS,
    FUSED,
    Cell,
    Outcome,
    cells,
    has_choice,
    measure,
    quantile,
    scopes,
    standard_names,
)
from reading import Reading, pretty

from dispatcharr.bench.load import Load, is_disturbed

__all__ = ["regret", "slow_down"]

Result = TypeVar("Result")
_WINDOW = 1.0
_RETRIES = 3
_SHOWN = 12
DTYPES = ("float64", "float32", "int32")
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
#: Slower than NumPy by more is against the promise.
ALLOWED = 1.05


@dataclass(frozen=True)
class Found:
    """What a cell gave, and what others used meanwhile, nan where that is not known."""

    result: Any
    others: float


def sweep(
    grid: Sequence[Cell], measure_cell: Callable[[Cell], Result | None], until: float
) -> dict[Cell, Found]:
    """Measure every cell, the disturbed ones again, until the time is up."""
    found: dict[Cell, Found] = {}
    waiting = list(grid)
    random.Random(7).shuffle(waiting)
    for _ in range(1 + _RETRIES):
        again: list[Cell] = []
        for window, load in _windows(waiting, measure_cell, until):
            others = math.nan if load.others is None else load.others
            for cell, result in window:
                if result is None:
                    continue
                if cell not in found or others < found[cell].others:
                    found[cell] = Found(result, others)
                if is_disturbed(found[cell].others):
                    again.append(cell)
        waiting = again
    return found


def _windows(
    waiting: Sequence[Cell], measure_cell: Callable[[Cell], Result | None], until: float
) -> Iterator[tuple[list[tuple[Cell, Result | None]], Load]]:
    rest = iter(waiting)
    done = False
    while not done and time.perf_counter() < until:
        window = []
        end = time.perf_counter() + _WINDOW
        with Load() as load:
            while time.perf_counter() < end:
                cell = next(rest, None)
                if cell is None:
                    done = True
                    break
                window.append((cell, measure_cell(cell)))
        if window:
            yield window, load


def regret(quick: bool, until: float) -> list[Reading]:
    """Measure the automatic path against the forced backends and against NumPy."""
    if not has_choice():
        return [Reading("regret, median", math.nan, notes=["one thread: there is no choice"])]
    if quick:
        costs = first_of_each_cost()[::3]
        grid = cells(SIZES[1::2], DTYPES[:2], [*costs, *FUSED[:2]])
        pace, passes = Pace(budget=0.08, sample=2e-4, least=6), 1
    else:
        grid = cells(SIZES, DTYPES, standard_names())
        pace, passes = Pace(budget=0.08), 2
    with scopes() as scope:
        one = partial(measure, scope=scope, pace=pace)
        found: dict[Cell, Found] = {}
        start = time.perf_counter()
        for number in range(1, passes + 1):
            share = start + (until - start) * number / passes
            for cell, new in sweep(grid, one, share).items():
                found[cell] = _joined(found.get(cell), new)
    return _regret_readings(found, len(grid))


def _joined(old: Found | None, new: Found) -> Found:
    if old is None:
        return new
    if is_disturbed(old.others) != is_disturbed(new.others):
        return min(old, new, key=lambda one: one.others)
    return Found(old.result + new.result, (old.others + new.others) / 2)


def _others(found: dict[Cell, Found]) -> float | None:
    """Return the mean of what others used, None where that is not known."""
    others = mean(one.others for one in found.values())
    return None if math.isnan(others) else others


def _quiet(found: dict[Cell, Found]) -> tuple[dict[Cell, Found], str]:
    """Return the undisturbed cells if they are half of all, else all; and what was done."""
    quiet = {cell: one for cell, one in found.items() if not is_disturbed(one.others)}
    told = f"{len(quiet)} of {len(found)} cells undisturbed"
    if 2 * len(quiet) < len(found):
        return found, f"{told}: all are counted"
    return quiet, f"{told}: these are counted"


def _regret_readings(everything: dict[Cell, Found], wanted: int) -> list[Reading]:
    if not everything:
        return [Reading("regret, median", math.nan, notes=["there was no time for any cell"])]
    found, counted = _quiet(everything)
    others = _others(found)
    outcomes: dict[Cell, Outcome] = {cell: one.result for cell, one in found.items()}
    forced = {cell: one.regret for cell, one in outcomes.items()}
    every = {cell: one.regret_over_all for cell, one in outcomes.items()}
    notes = [
        counted,
        f"{wanted} in the grid; {_noise(outcomes.values())}",
        "worst against the forced backends:",
        *_told(forced, outcomes),
    ]
    stored = [_stored(cell, one) for cell, one in everything.items()]
    return [
        replace(_quantile("regret, median", forced, 0.5, 1.02, others), notes=notes, cells=stored),
        _quantile("regret, 95th percentile", forced, 0.95, 1.1, others),
        replace(
            _quantile("  or plain NumPy, median", every, 0.5, None, others),
            notes=["worst against the forced backends and plain NumPy:", *_told(every, outcomes)],
        ),
        _quantile("  or plain NumPy, 95th", every, 0.95, None, others),
    ]


def _quantile(
    title: str,
    regrets: Mapping[Cell, float],
    share: float,
    goal: float | None,
    others: float | None,
) -> Reading:
    figures = list(regrets.values())
    value = quantile(figures, share)
    return Reading(title, value, min(figures), max(figures), goal=goal, others=others)


def _noise(outcomes: Iterable[Outcome]) -> str:
    """Return how the automatic path compares to itself: to what it chose, when forced."""
    same = [
        outcome.turns.ratio(0, CONTENDERS.index(outcome.chosen))
        for outcome in outcomes
        if outcome.chosen in CONTENDERS
    ]
    if not same:
        return "none of them planned by itself"
    return f"noise: 95th percentile {quantile(same, 0.95):.2f}"


def _told(regrets: Mapping[Cell, float], outcomes: Mapping[Cell, Outcome]) -> list[str]:
    columns = [*CONTENDERS, *CONTENDERS[1:3]]
    lines = [f"{'':<35} {'measured':<27} priced"]
    lines.append(f"{'':<28}chosen " + "".join(f" {name:<6.6}" for name in columns))
    for cell in sorted(regrets, key=lambda cell: regrets[cell], reverse=True)[:_SHOWN]:
        outcome = outcomes[cell]
        prices = dict(outcome.prices)
        times = [outcome.turns.typical(i) for i in range(len(CONTENDERS))]
        figures = [*times, *(prices.get(name) for name in CONTENDERS[1:3])]
        lines.append(
            f"{regrets[cell]:5.2f} {cell!s:<21.21} {outcome.chosen:<7.7}"
            + "".join(f" {pretty(figure, ''):<6}" for figure in figures)
        )
    return [line.rstrip() for line in lines]


def _stored(cell: Cell, one: Found) -> dict[str, Any]:
    outcome: Outcome = one.result
    return {
        "op": cell.name,
        "dtype": cell.dtype,
        "size": cell.size,
        "chosen": outcome.chosen,
        "regret": outcome.regret,
        "regret_over_all": outcome.regret_over_all,
        "seconds": {name: outcome.turns.typical(i) for i, name in enumerate(CONTENDERS)},
        "priced": dict(outcome.prices),
        "rounds": len(outcome.turns.rounds),
        "others": one.others,
    }


def slow_down(quick: bool, until: float) -> Reading:
    """Measure every operation against NumPy's; those that seem too slow a second time."""
    few = first_of_each_cost()
    if quick:
        grid = cells((10_000, 1_000_000), DTYPES[:2], few[::2])
    else:
        # At the largest size an op of each cost class tells enough: memory is what counts there.
        grid = cells((10_000, 100_000, 1_000_000), DTYPES, list(ROWS))
        grid += cells((10_000_000,), DTYPES[:1], few)
    _against_numpy(grid[0], Pace(0.0))  # the first larger operation of a process reads the profile
    start = time.perf_counter()
    pace = Pace(budget=0.02 if quick else 0.04, sample=2e-4, least=3)
    found = sweep(grid, partial(_against_numpy, pace=pace), start + 0.7 * (until - start))
    # The second measurement counts alone: those chosen by a first one are chosen for its noise too.
    suspects = [cell for cell, one in found.items() if one.result.ratio(1, 0) > ALLOWED]
    longer = replace(pace, budget=8 * pace.budget, least=7)
    for cell, second in sweep(suspects, partial(_against_numpy, pace=longer), until).items():
        if is_disturbed(found[cell].others) or not is_disturbed(second.others):
            found[cell] = second
    return _slow_down_reading(found, len(suspects))


def _against_numpy(cell: Cell, pace: Pace) -> Turns | None:
    call = call_of(cell.name, cell.dtype, cell.size)
    if call is None:
        return None
    operands = copied(call.operands)
    # What begins to wait in the course of it, because its kernel is there by now, is measured anew.
    for _ in range(_RETRIES):
        waits = call.waits(operands)
        turns = take_turns([call.numpy_contender(), call.our_contender(operands, waits)], pace)
        if call.waits(operands) == waits:
            break
    return turns


def _slow_down_reading(everything: dict[Cell, Found], suspects: int) -> Reading:
    found, counted = _quiet(everything)
    ratios = {cell: one.result.ratio(1, 0) for cell, one in found.items()}
    order = sorted(ratios, key=lambda cell: ratios[cell], reverse=True)
    slow = [cell for cell in order if ratios[cell] > ALLOWED]
    notes = [
        counted,
        f"{suspects} measured a second time, {len(slow)} slower than {ALLOWED:.2f} x:",
    ]
    for cell in slow[: 2 * _SHOWN]:
        turns: Turns = found[cell].result
        theirs, ours = pretty(turns.typical(0)), pretty(turns.typical(1))
        notes.append(f"{ratios[cell]:5.2f} {cell!s:<23} NumPy {theirs}, ours {ours}")
    stored = [
        {
            "op": cell.name,
            "dtype": cell.dtype,
            "size": cell.size,
            "ratio": ratios[cell],
            "numpy": found[cell].result.typical(0),
            "ours": found[cell].result.typical(1),
            "others": found[cell].others,
        }
        for cell in order
    ]
    values = list(ratios.values())
    return Reading(
        "single ops, worst slow-down",
        max(values),
        min(values),
        max(values),
        others=_others(found),
        notes=notes,
        cells=stored,
    )
