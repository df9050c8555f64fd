"""What stands for a cost class when this machine is measured, and how a call is timed.

A probe is the code that the blocks engine runs for one row of the op table, on operands that stay
in cache. The cost per element is the slope between two lengths, so that what a call costs whatever
its length is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy

from dispatcharr.ops.reductions import REDUCTION_BY_NAME
from dispatcharr.ops.table import BY_NAME, GENERATORS

__all__ = [
    "DTYPES",
    "REPRESENTATIVE",
    "lower_quartile",
    "op_cost",
    "own_clock",
    "probes",
    "typical",
]

Array = numpy.ndarray
Dtype = numpy.dtype[Any]
Sampler = Callable[[numpy.random.Generator, int, Dtype], tuple[Any, ...]]

#: In the order of measuring: should time run out, the rarest are missing.
DTYPES: tuple[Dtype, ...] = tuple(
    numpy.dtype(code) for code in ("f8", "f4", "i8", "c16", "i4", "b1", "u1", "c8", "f2")
)
_SHORT_SAMPLE = 40e-6
_MOST_SAMPLES = 60
#: No loop is faster per element: 64 bytes per cycle at 5 GHz, one byte each.
_FASTEST = 3e-12


def _uniform(random: numpy.random.Generator, size: int, dtype: Dtype, top: float = 2.0) -> Array:
    """Return numbers that no function here objects to: 0.25 to ``top``, or 1 to 20 for integers."""
    if dtype.kind in "iu":
        return random.integers(1, 20, size).astype(dtype)
    if dtype.kind == "b":
        return random.random(size) < 0.5
    values = 0.25 + (top - 0.25) * random.random(size)
    return (values * (1 + 0.5j)).astype(dtype) if dtype.kind == "c" else values.astype(dtype)


def _one(random: numpy.random.Generator, size: int, dtype: Dtype) -> tuple[Any, ...]:
    return (_uniform(random, size, dtype),)


def _unit(random: numpy.random.Generator, size: int, dtype: Dtype) -> tuple[Any, ...]:
    return (_uniform(random, size, dtype, top=0.99),)


def _wide(random: numpy.random.Generator, size: int, dtype: Dtype) -> tuple[Any, ...]:
    return (_uniform(random, size, dtype, top=20.0),)


def _two(random: numpy.random.Generator, size: int, dtype: Dtype) -> tuple[Any, ...]:
    return _uniform(random, size, dtype), _uniform(random, size, dtype)


def _raised(random: numpy.random.Generator, size: int, dtype: Dtype) -> tuple[Any, ...]:
    base, exponent = _two(random, size, dtype)
    return base, exponent % 4 if dtype.kind in "iu" else exponent


def _chosen(random: numpy.random.Generator, size: int, dtype: Dtype) -> tuple[Any, ...]:
    return random.random(size) < 0.5, *_two(random, size, dtype)


def _ones(random: numpy.random.Generator, size: int, dtype: Dtype) -> tuple[Any, ...]:
    return (numpy.ones(size, dtype),)  # ``all`` stops at the first zero


def _ordered(random: numpy.random.Generator, size: int, dtype: Dtype) -> tuple[Any, ...]:
    # The greatest of bools is found at the first True.
    return (numpy.zeros(size, dtype),) if dtype.kind == "b" else _one(random, size, dtype)


def _filler(random: numpy.random.Generator, size: int, dtype: Dtype) -> tuple[Any, ...]:
    return (dtype.type(1),)


#: Cost class: the row that stands for it, and what the row is given.
REPRESENTATIVE: dict[str, tuple[str, Sampler]] = {
    "arith": ("add", _two),
    "copy": ("positive", _one),
    "divide": ("divide", _two),
    "compare": ("less", _two),
    "sqrt": ("sqrt", _one),
    "reduce_sum": ("sum", _one),
    "exp": ("exp", _one),
    "log": ("log", _one),
    "trig": ("sin", _wide),
    "power": ("power", _raised),
    "float_power": ("float_power", _raised),
    "round": ("floor", _wide),
    "select": ("where", _chosen),
    "step": ("heaviside", _two),
    "cast": ("astype", _one),
    "predicate": ("isnan", _one),
    "reduce_minmax": ("max", _ordered),
    "reduce_moments": ("var", _one),
    "int_divide": ("floor_divide", _two),
    "tanh": ("tanh", _one),
    "tan": ("tan", _one),
    "inverse_trig": ("arcsin", _unit),
    "hyperbolic": ("sinh", _one),
    "atan2": ("arctan2", _two),
    "hypot": ("hypot", _two),
    "special": ("logaddexp", _two),
    "generate": ("full", _filler),
    "reduce_prod": ("prod", _unit),
    "reduce_logical": ("all", _ones),
    "reduce_arg": ("argmax", _ordered),
    "reduce_count": ("count_nonzero", _one),
}
_GENERATOR = {row.name: row for row in GENERATORS}


def probes() -> Iterator[tuple[str, Dtype]]:
    """Yield every cost class and dtype to be measured, the most telling ones first."""
    for dtype in DTYPES:
        for cost in REPRESENTATIVE:
            yield cost, dtype


def op_cost(cost: str, dtype: Dtype, block_bytes: int, budget: float) -> float | None:
    """Return seconds per element, None where NumPy has no such operation.

    Parameters
    ----------
    cost : str
        Cost class.
    block_bytes : int
        Bytes of one operand; all of them have to fit in the cache.
    budget : float
        Seconds that the measurement may take, unless one call takes longer.
    """
    long = max(block_bytes // dtype.itemsize, 64)
    short = long // 4
    with numpy.errstate(all="ignore"):
        try:
            long_call, short_call = _call(cost, dtype, long), _call(cost, dtype, short)
        except TypeError:  # NumPy's word for an operation that the dtype does not have
            return None
        above = typical(long_call, 0.7 * budget)
        below = typical(short_call, 0.3 * budget)
    slope = (above - below) / (long - short)
    # A disturbed pair can slope downwards; the fixed cost is then noise's prey, not ours.
    return max(slope if slope > 0 else above / long, _FASTEST)


def _call(cost: str, dtype: Dtype, size: int) -> Callable[[], Any]:
    """Return the call to time; a TypeError where the row has no loop for the dtype."""
    name, sampler = REPRESENTATIVE[cost]
    inputs = sampler(numpy.random.default_rng(size), size, dtype)
    if name in REDUCTION_BY_NAME:
        reduction = REDUCTION_BY_NAME[name]
        if dtype.kind not in reduction.kinds:
            raise TypeError(name)
        return partial(reduction.partial, inputs[0], (0,), None)
    if name in _GENERATOR:
        return partial(_GENERATOR[name].fill, inputs, 0, numpy.empty(size, dtype))
    row = BY_NAME[name]
    if row.ufunc is not None:
        return partial(row.ufunc, *inputs, out=row.ufunc(*inputs))
    if row.fill is None:
        raise TypeError(name)
    # A cast has to change something: to the other width of a float, else to float64.
    result = numpy.dtype("f4" if dtype == numpy.float64 else "f8") if cost == "cast" else dtype
    if cost == "cast" and dtype.kind == "c":
        result = numpy.dtype("c8" if dtype.itemsize == 16 else "c16")
    return partial(row.fill, inputs, numpy.empty(size, result))


def typical(
    call: Callable[[], Any], budget: float, clock: Callable[[], float] | None = None
) -> float:
    """Return what ``call`` takes when nobody disturbs it, asking for about ``budget`` seconds.

    Parameters
    ----------
    call : callable
        Is called once for nothing (cold caches, lazy initialisation), unless that uses up the
        budget, and then again and again.
    budget : float
        Seconds on the wall clock.
    clock : callable, optional
        Default: the calling thread's own, which stands still while other programs run.
    """
    clock = own_clock if clock is None else clock
    wall = time.perf_counter
    began, start = wall(), clock()
    call()
    cold = clock() - start
    if wall() - began >= budget:
        return cold
    start = wall()
    call()
    loops = range(max(int(_SHORT_SAMPLE / max(wall() - start, 1e-7)), 1))
    samples: list[float] = []
    while not samples or (wall() - began < budget and len(samples) < _MOST_SAMPLES):
        start = clock()
        for _ in loops:
            call()
        samples.append((clock() - start) / len(loops))
    return lower_quartile(samples)


def _finest_clock() -> Callable[[], float]:
    """Return the clock of the thread's own CPU time, the wall clock where that one is coarse."""
    if time.get_clock_info("thread_time").resolution <= 1e-6:
        return time.thread_time
    return time.perf_counter


own_clock = _finest_clock()


def lower_quartile(samples: list[float]) -> float:
    """Return the sample that a quarter of them is below: undisturbed, but no stroke of luck."""
    return sorted(samples)[len(samples) // 4]
