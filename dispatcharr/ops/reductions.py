"""The rows of reductions: how a block is reduced, how neighbours are joined, how the end is made.

States are tuples of arrays that keep every axis. ``combine`` is called on neighbouring blocks in a
fixed tree, left before right, so that a result depends on the data alone and never on threads. Sums
are combined pairwise, as NumPy does within one call. Moments follow the pairwise update of Chan,
Golub and LeVeque (1979), whose rounding error is of the order of the two-pass formula's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr._errors import user_level
from dispatcharr.ops.row import Reduction

__all__ = ["REDUCTIONS", "REDUCTION_BY_NAME"]

Array = numpy.ndarray
State = tuple[Array, ...]


def _fold(ufunc: numpy.ufunc) -> tuple[Callable[..., State], Callable[[State, State], State]]:
    def partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
        return (ufunc.reduce(block, axis=axes, dtype=dtype, keepdims=True),)

    def combine(left: State, right: State) -> State:
        return (ufunc(left[0], right[0]),)

    return partial, combine


def _value(state: State, count: int, params: dict[str, Any]) -> Array:
    return state[0]


def _mean(state: State, count: int, params: dict[str, Any]) -> Array:
    return numpy.true_divide(state[0], count, casting="unsafe")


def _order_partial(ufunc: numpy.ufunc) -> Callable[..., State]:
    def partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
        return (ufunc.reduce(block, axis=axes, keepdims=True),)

    return partial


def _count_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    counted = numpy.count_nonzero(block, axis=axes, keepdims=True)
    return (numpy.asarray(counted),)


def _add(left: State, right: State) -> State:
    return tuple(numpy.add(x, y) for x, y in zip(left, right, strict=True))


def _nan_sum_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    return (numpy.nansum(block, axis=axes, dtype=dtype, keepdims=True),)


def _nan_prod_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    return (numpy.nanprod(block, axis=axes, dtype=dtype, keepdims=True),)


def _nan_extreme_finish(state: State, count: int, params: dict[str, Any]) -> Array:
    if numpy.isnan(state[0]).any():
        warnings.warn("All-NaN slice encountered", RuntimeWarning, stacklevel=user_level())
    return state[0]


def _real_square(x: Array) -> Array:
    squared: Array = (x * x.conj()).real if x.dtype.kind == "c" else numpy.square(x)
    return squared


def _moments_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    count = 1
    for axis in axes:
        count *= block.shape[axis]
    mean = numpy.add.reduce(block, axis=axes, dtype=dtype, keepdims=True) / count
    spread = numpy.add.reduce(_real_square(block - mean), axis=axes, keepdims=True)
    return numpy.full(mean.shape, float(count)), mean, spread


def _moments_combine(left: State, right: State) -> State:
    n, mean, spread = left
    m, other, more = right
    total = n + m
    with numpy.errstate(divide="ignore", invalid="ignore"):
        share = numpy.where(total == 0, 0.0, m / total)
    delta = other - mean
    return (
        total,
        mean + delta * share,
        spread + more + _real_square(delta) * n * share,
    )


def _variance(state: State, count: int, params: dict[str, Any]) -> Array:
    variance: Array = state[2] / max(count - params.get("ddof", 0), 0)
    return variance


def _deviation(state: State, count: int, params: dict[str, Any]) -> Array:
    deviation: Array = numpy.sqrt(_variance(state, count, params))
    return deviation


def _nan_moments_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    missing = numpy.isnan(block)
    present = numpy.logical_not(missing)
    count = numpy.add.reduce(present, axis=axes, dtype=numpy.float64, keepdims=True)
    values = numpy.where(missing, block.dtype.type(0), block)
    total = numpy.add.reduce(values, axis=axes, dtype=dtype, keepdims=True)
    mean = total / numpy.maximum(count, 1)
    gap = numpy.where(missing, block.dtype.type(0), block - mean)
    return count, mean, numpy.add.reduce(_real_square(gap), axis=axes, keepdims=True)


def _nan_variance(state: State, count: int, params: dict[str, Any]) -> Array:
    n, _, spread = state
    freedom = n - params.get("ddof", 0)
    if (freedom <= 0).any():
        message = "Degrees of freedom <= 0 for slice."
        warnings.warn(message, RuntimeWarning, stacklevel=user_level())
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return numpy.where(freedom <= 0, numpy.nan, spread / freedom)


def _nan_deviation(state: State, count: int, params: dict[str, Any]) -> Array:
    deviation: Array = numpy.sqrt(_nan_variance(state, count, params))
    return deviation


def _nan_mean_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    present = numpy.logical_not(numpy.isnan(block))
    count = numpy.add.reduce(present, axis=axes, dtype=numpy.float64, keepdims=True)
    return numpy.nansum(block, axis=axes, dtype=dtype, keepdims=True), count


def _nan_mean(state: State, count: int, params: dict[str, Any]) -> Array:
    total, n = state
    if (n == 0).any():
        warnings.warn("Mean of empty slice", RuntimeWarning, stacklevel=user_level())
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return numpy.true_divide(total, n)


def _arg_partial(search: Callable[[Array], Any]) -> Callable[..., State]:
    def partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
        flat = block.reshape(-1)
        where = numpy.asarray(search(flat))
        return where.reshape(1), flat[where].reshape(1), numpy.array([flat.size])

    return partial


def _arg_combine(better: numpy.ufunc) -> Callable[[State, State], State]:
    def combine(left: State, right: State) -> State:
        here, value, size = left
        there, other, more = right
        # NaN wins over every number and, as equal values do, the earlier one over the later.
        is_nan = other != other
        take = (is_nan | better(other, value)) & (value == value)
        return (
            numpy.where(take, size + there, here),
            numpy.where(take, other, value),
            size + more,
        )

    return combine


def _rows() -> tuple[Reduction, ...]:
    sum_, add = _fold(numpy.add)
    prod, multiply = _fold(numpy.multiply)
    any_, either = _fold(numpy.logical_or)
    all_, both = _fold(numpy.logical_and)
    _, minimum = _fold(numpy.minimum)
    _, maximum = _fold(numpy.maximum)
    _, fmin = _fold(numpy.fmin)
    _, fmax = _fold(numpy.fmax)
    low, high = _order_partial(numpy.minimum), _order_partial(numpy.maximum)
    flow, fhigh = _order_partial(numpy.fmin), _order_partial(numpy.fmax)
    last, first = _arg_partial(numpy.argmax), _arg_partial(numpy.argmin)
    row = Reduction
    return (
        row("sum", "reduce_sum", True, sum_, add, _value),
        row("prod", "reduce_prod", True, prod, multiply, _value),
        row("min", "reduce_minmax", True, low, minimum, _value),
        row("max", "reduce_minmax", True, high, maximum, _value),
        row("mean", "reduce_sum", True, sum_, add, _mean, kinds="biuf"),
        row("var", "reduce_moments", True, _moments_partial, _moments_combine, _variance,
            "f", ("ddof",), rereads=True, without="e"),
        row("std", "reduce_moments", True, _moments_partial, _moments_combine, _deviation,
            "f", ("ddof",), rereads=True, without="e"),
        row("any", "reduce_logical", True, any_, either, _value),
        row("all", "reduce_logical", True, all_, both, _value),
        row("argmin", "reduce_arg", True, first, _arg_combine(numpy.less), _value, "biuf",
            ordered=True),
        row("argmax", "reduce_arg", True, last, _arg_combine(numpy.greater), _value, "biuf",
            ordered=True),
        row("count_nonzero", "reduce_count", False, _count_partial, _add, _value),
        row("nansum", "reduce_sum", False, _nan_sum_partial, add, _value, "f",
            rereads=True),
        row("nanprod", "reduce_prod", False, _nan_prod_partial, multiply, _value, "f",
            rereads=True),
        row("nanmin", "reduce_minmax", False, flow, fmin, _nan_extreme_finish, "f"),
        row("nanmax", "reduce_minmax", False, fhigh, fmax, _nan_extreme_finish, "f"),
        row("nanmean", "reduce_sum", False, _nan_mean_partial, _add, _nan_mean, "f",
            rereads=True),
        row("nanvar", "reduce_moments", False, _nan_moments_partial, _moments_combine,
            _nan_variance, "f", ("ddof",), rereads=True, without="e"),
        row("nanstd", "reduce_moments", False, _nan_moments_partial, _moments_combine,
            _nan_deviation, "f", ("ddof",), rereads=True, without="e"),
    )  # fmt: skip


REDUCTIONS: tuple[Reduction, ...] = _rows()
REDUCTION_BY_NAME: dict[str, Reduction] = {row.name: row for row in REDUCTIONS}
