"""Rows about compiled kernels: the lab's expressions, the roof, contractions, compiling."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy
from reading import Reading, pretty, without_others

import dispatcharr
from dispatcharr.bench.expressions import EXPRESSIONS, under
from dispatcharr.bench.roof import moving_loops
from dispatcharr.bench.turns import Contender, Pace, Turns, take_turns

__all__ = ["axis_sums", "compiling", "contractions", "near_the_roof", "twelve"]

ROOT = Path(__file__).resolve().parent.parent
#: The expressions of the geometric means.
TWELVE = (
    "addition", "polynomial", "sine", "exponential", "tangent", "trigonometry", "logistic",
    "distance", "square_sum", "deviation", "selection", "black_scholes",
)  # fmt: skip
_AXIS_SUMS = ("column_sums", "row_sums", "last_axis_sums")
_LARGE = 10_000_000
#: Runs before the first measured one, in which what pays is compiled.
_WARM_RUNS = 60
_WARM_SECONDS = 4.0


def _evaluated(compute: Callable[..., object], arrays: Sequence[object]) -> Callable[[], object]:
    ours = under(compute, dispatcharr)
    return lambda: dispatcharr.evaluate(ours(*arrays))


def _turns(name: str, size: int, dtype: str, quick: bool) -> Turns:
    """Return the times of NumPy and of us, once we have compiled what pays."""
    chosen = EXPRESSIONS[name]
    arrays = chosen.make(size, numpy.dtype(dtype))
    theirs = under(chosen.compute, numpy)
    ours = _evaluated(chosen.compute, [dispatcharr.array(one) for one in arrays])
    _warm(ours)
    contenders = [Contender("NumPy", lambda: theirs(*arrays)), Contender("ours", ours)]
    return take_turns(contenders, Pace(0.4 if quick else 1.2, 1e-3, least=3 if quick else 5))


def _warm(run: Callable[[], object]) -> None:
    """Run until kernels that pay are compiled, as a program that repeats itself has them."""
    spent = 0.0
    for _ in range(_WARM_RUNS):
        spent += Contender("", run).seconds(1)
        if spent > _WARM_SECONDS:
            break


def twelve(
    size: int, dtype: str, title: str, goals: tuple[float, float], quick: bool
) -> list[Reading]:
    """Measure the geometric mean of how much faster the expressions are, and the slowest one."""
    found = {name: _turns(name, size, dtype, quick) for name in TWELVE}
    ratios = {name: turns.ratio("NumPy", "ours") for name, turns in found.items()}
    notes = [
        f"{EXPRESSIONS[name].title:<22} NumPy {pretty(turns.typical('NumPy')):>8}, "
        f"ours {pretty(turns.typical('ours')):>8}: {ratios[name]:.2f} x"
        for name, turns in found.items()
    ]
    cells = [
        {"expression": name, "size": size, "dtype": dtype, "faster": ratios[name],
         "numpy": turns.typical("NumPy"), "ours": turns.typical("ours")}
        for name, turns in found.items()
    ]  # fmt: skip
    values = list(ratios.values())
    mean = math.exp(sum(map(math.log, values)) / len(values))
    return [
        Reading(f"12 expressions, {title}", mean, min(values), max(values), goals[0], True,
                notes=notes, cells=cells),
        Reading("  the slowest of them", min(values), goal=goals[1], at_least=True),
    ]  # fmt: skip


def axis_sums(quick: bool) -> Reading:
    """Measure sums of an expression along axes 0, 1 and the last of 3; the least counts."""
    found = {name: _turns(name, _LARGE, "float64", quick) for name in _AXIS_SUMS}
    ratios = {name: turns.ratio("NumPy", "ours") for name, turns in found.items()}
    worst = min(ratios, key=lambda name: ratios[name])
    turns = found[worst]
    return Reading(
        "axis sums, 1e7, least", ratios[worst], min(ratios.values()), max(ratios.values()),
        4.0, True, turns.typical("NumPy"), turns.typical("ours"),
        notes=[f"{EXPRESSIONS[name].title}: {ratio:.2f} x" for name, ratio in ratios.items()],
        cells=[{"expression": name, "faster": ratio} for name, ratio in ratios.items()],
    )  # fmt: skip


#: Expressions bound by memory, and the loop that moves bytes as they do.
_BOUND = {
    "addition": "triad", "polynomial": "triad", "selection": "triad", "distance": "triad",
    "square_sum": "read", "deviation": "read",
}  # fmt: skip


def near_the_roof(quick: bool) -> Reading:
    """Measure the share of the roof that expressions bound by memory reach, the least of them.

    The roof is that of the loops made for nothing but moving bytes, which take turns with the
    expressions: what memory gives changes from minute to minute where machines share it.
    """
    loops = moving_loops(8 * _LARGE)
    makers = {}
    for name in _BOUND:
        chosen = EXPRESSIONS[name]
        arrays = [dispatcharr.array(one) for one in chosen.make(_LARGE, numpy.dtype(float))]
        makers[name] = _evaluated(chosen.compute, arrays)
        _warm(makers[name])
    contenders = [
        *(Contender(name, loops[name].run) for name in ("triad", "read")),
        *(Contender(name, run) for name, run in makers.items()),
    ]
    turns = take_turns(contenders, Pace(1.0 if quick else 4.0, 1e-3, least=5))
    shares = {}
    for name, pattern in _BOUND.items():
        moved = 8 * _LARGE * (len(EXPRESSIONS[name].names) + (pattern == "triad"))
        shares[name] = turns.ratio(pattern, name) * moved / loops[pattern].nbytes
    rates = {name: loops[name].nbytes / turns.typical(name) / 1e9 for name in ("triad", "read")}
    notes = [
        "(share of what a loop that only moves bytes reaches in turns with it)",
        *(f"{name} {rate:.1f} GB/s" for name, rate in rates.items()),
        *(
            f"{EXPRESSIONS[name].title}: {share:.2f} of {_BOUND[name]}"
            for name, share in shares.items()
        ),
    ]
    values = list(shares.values())
    cells = [{"expression": name, "share": share} for name, share in shares.items()]
    return Reading(
        "share of roof, 1e7, least", min(values), min(values), max(values), 0.9, True,
        notes=notes, cells=cells,
    )  # fmt: skip


def contractions(quick: bool) -> list[Reading]:
    """Measure integer products of matrices, which NumPy runs as plain loops."""
    found = []
    for dtype, result, goal in (("int32", None, 10.0), ("int8", "int32", 30.0)):
        draw = numpy.random.default_rng(3)
        a, b = (draw.integers(-100, 100, (512, 512)).astype(dtype) for _ in "ab")
        mine = [dispatcharr.array(one) for one in (a, b)]
        wanted = None if result is None else numpy.dtype(result)

        def theirs(x: object = a, y: object = b, to: object = wanted) -> object:
            return numpy.matmul(x, y, dtype=to)

        def ours(x: object = mine[0], y: object = mine[1], to: object = wanted) -> object:
            return dispatcharr.evaluate(dispatcharr.matmul(x, y, dtype=to))

        if not numpy.array_equal(theirs(), numpy.asarray(ours())):
            raise AssertionError(f"matmul of {dtype}: not NumPy's result")
        _warm(ours)
        turns = take_turns(
            [Contender("NumPy", theirs), Contender("ours", ours)],
            Pace(0.5 if quick else 3.0, 1e-3, least=3),
        )
        ratio = turns.ratio("NumPy", "ours")
        title = f"matmul 512, {dtype}" + (f" to {result}" if result else "")
        found.append(
            Reading(title, ratio, goal=goal, at_least=True,
                    theirs=turns.typical("NumPy"), ours=turns.typical("ours"))
        )  # fmt: skip
    return found


#: What a process of its own measures: a kernel of five operations, after another of the same five.
_CHILD = """
import json, time
import dispatcharr as np
from dispatcharr.kernels import build
def seconds(run):
    start = time.perf_counter()
    np.evaluate(run())
    return time.perf_counter() - start
def typical(run):
    return sorted(seconds(run) for _ in range(201))[100]
def first(run):
    start = time.perf_counter()
    np.evaluate(run())
    build.shared_builder().wait()
    return time.perf_counter() - start
a, b = np.linspace(1.0, 2.0, 1_000_000), np.linspace(2.0, 3.0, 1_000_000)
with np.dispatch_options(engine="compiled", defer="always"):  # planned from the first run on
    first(lambda: (a - b) * (a + b) / np.sqrt(a))
    new = lambda: np.sqrt(a * b + a) / b - a
    took = first(new) - first(new)
def polynomial(x, y):
    return lambda: 2 * x + 3 * y - x * y
less, more = (polynomial(a[:n].copy(), b[:n].copy()) for n in (100_000, 200_000))
for run in 10 * (more, less):
    typical(run)
build.shared_builder().wait()
call = 2 * typical(less) - typical(more)
print(json.dumps([took, call]))
"""


def compiling(quick: bool) -> list[Reading]:
    """Measure what a new kernel costs in processes of their own, and what a call costs beside it.

    The last is what a repeated statement would take on no elements, by two sizes.
    """
    colds, loads, calls = [], [], []
    for _ in range(3 if quick else 7):
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **os.environ, "DISPATCHARR_CACHE_DIR": folder, "PYTHONPATH": str(ROOT)
            }  # fmt: skip
            for found in (colds, loads):
                command = [sys.executable, "-c", _CHILD]
                told = subprocess.check_output(command, env=environment, text=True)
                first, call = json.loads(told)
                found.append(1e3 * first)
            calls.append(1e6 * call)
    if median(colds) < 2 * median(loads):
        raise AssertionError(f"nothing was compiled in {median(colds):.2f} ms; loading is as fast")
    return [
        without_others(Reading(title, median(found), min(found), max(found), goal))
        for title, found, goal in (
            ("compile 5 operations, ms", colds, 50.0),
            ("load them later, ms", loads, 3.0),
            ("call beside kernel, us", calls, 30.0),
        )
    ]
