"""Rows made of hundreds of cells: the regret of routing, and the slow-down of single operations.

Cells are measured in random order, in windows of about a second. A window in which other processes were busy is
measured again, at most three times and while there is time; of each cell the quietest window counts. A grid that
runs out of time is cut short, which leaves a random part of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
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
    measure,
    quantile,
    scopes,
    standard_names,
)
from load import Load, is_disturbed
from reading import Reading, pretty

__all__ = ["regret", "slow_down"]

Result = TypeVar("Result")
_WINDOW = 1.0
_RETRIES = 3
_SHOWN = 12
DTYPES = ("float64", "float32", "int32")
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
#: Slower than NumPy by more is against the promise.
ALLOWED = 1.05


@dataclass(frozen=True)
class Found:
    """What a cell gave, and what others used meanwhile."""

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
            others = load.others or 0.0
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
    if quick:
        costs = first_of_each_cost()[::4]
        grid = cells(SIZES[::2], DTYPES[:2], [*costs, *FUSED[:2]])
        pace, passes = Pace(budget=0.06, sample=2e-4), 1
    else:
        grid = cells(SIZES, DTYPES, standard_names())
        pace, passes = Pace(budget=0.15), 2
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
    return Found(old.result + new.result, (old.others + new.others) / 2)


def _regret_readings(found: dict[Cell, Found], wanted: int) -> list[Reading]:
    if not found:
        return [Reading("routing regret", float("nan"), notes=["there is no choice to make here"])]
    others = mean(one.others for one in found.values())
    forced = [one.result.regret for one in found.values()]
    every = [one.result.regret_over_all for one in found.values()]
    worst = sorted(found, key=lambda cell: found[cell].result.regret, reverse=True)
    odd = sorted(found, key=lambda cell: found[cell].result.regret_over_all, reverse=True)
    count = f"{len(found)} cells planned of {wanted} in the grid"
    stored = [_stored(cell, found[cell]) for cell in found]
    return [
        replace(
            _quantile("regret, median", forced, 0.5, 1.02, others),
            notes=[f"{count}; worst against the forced backends:", *_told(worst, found, False)],
            cells=stored,
        ),
        _quantile("regret, 95th percentile", forced, 0.95, 1.15, others),
        replace(
            _quantile("  or plain NumPy, median", every, 0.5, None, others),
            notes=["worst against the forced backends and plain NumPy:", *_told(odd, found, True)],
        ),
        _quantile("  or plain NumPy, 95th", every, 0.95, None, others),
    ]


def _quantile(
    title: str, regrets: Sequence[float], share: float, goal: float | None, others: float
) -> Reading:
    low, high = min(regrets), max(regrets)
    return Reading(title, quantile(regrets, share), low, high, goal=goal, others=others)


def _told(order: Sequence[Cell], found: dict[Cell, Found], with_numpy: bool) -> list[str]:
    lines = []
    for cell in order[:_SHOWN]:
        outcome: Outcome = found[cell].result
        figure = outcome.regret_over_all if with_numpy else outcome.regret
        times = [pretty(outcome.turns.typical(i)) for i in range(len(CONTENDERS))]
        line = f"{figure:5.2f} {cell!s:<21} {outcome.chosen:<8}" + "".join(
            f" {name[:4]} {took}" for name, took in zip(CONTENDERS, times, strict=True)
        )
        lines.append(line)
        if outcome.prices:
            prices = ", ".join(f"{name} {pretty(price)}" for name, price in outcome.prices)
            lines.append(f"{'':28}priced: {prices}")
    return lines


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
    names = first_of_each_cost()[::2] if quick else list(ROWS)
    sizes = (10_000, 1_000_000) if quick else (10_000, 100_000, 1_000_000, 10_000_000)
    grid = cells(sizes, DTYPES[:2] if quick else DTYPES, names)
    start = time.perf_counter()
    pace = Pace(budget=0.02 if quick else 0.04, sample=2e-4, least=3)
    found = sweep(grid, partial(_against_numpy, pace=pace), start + 0.7 * (until - start))
    # The second measurement counts alone: those chosen by a first one are chosen for its noise too.
    suspects = [cell for cell, one in found.items() if one.result.ratio(1, 0) > ALLOWED]
    longer = replace(pace, budget=8 * pace.budget, least=7)
    found.update(sweep(suspects, partial(_against_numpy, pace=longer), until))
    return _slow_down_reading(found, len(suspects))


def _against_numpy(cell: Cell, pace: Pace) -> Turns | None:
    call = call_of(cell.name, cell.dtype, cell.size)
    if call is None:
        return None
    operands = copied(call.operands)
    call.waits(operands)  # the first larger operation of a process reads the profile
    ours = call.our_contender(operands, call.waits(operands))
    return take_turns([call.numpy_contender(), ours], pace)


def _slow_down_reading(found: dict[Cell, Found], suspects: int) -> Reading:
    ratios = {cell: one.result.ratio(1, 0) for cell, one in found.items()}
    order = sorted(ratios, key=lambda cell: ratios[cell], reverse=True)
    slow = [cell for cell in order if ratios[cell] > ALLOWED]
    notes = [
        f"{len(found)} cells, {suspects} measured a second time, {len(slow)} slower than "
        f"{ALLOWED:.2f} x:"
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
        others=mean(one.others for one in found.values()),
        notes=notes,
        cells=stored,
    )
