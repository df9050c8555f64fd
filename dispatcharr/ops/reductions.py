"""The rows of reductions: how a block is reduced, how neighbours are joined, how the end is made.

States are tuples of arrays that keep every axis. ``combine`` is called on neighbouring blocks in a
fixed tree, left before right, so that a result depends on the data alone and never on threads. Sums
are combined pairwise, as NumPy does within one call.

With ``where=`` the row's ``masked`` row runs. NumPy's ``initial`` joins the state of everything, in
``finish``: once, however the array was cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy

from dispatcharr.ops.masked import (
    CHOSEN,
    largest,
    masked,
    masked_mean,
    masked_moments,
    masked_numbers,
    masked_product,
    masked_sum,
    missing,
    nan_mean_partial,
    nan_moments_partial,
    nan_prod_partial,
    nan_sum_partial,
    one,
    smallest,
    zero,
)
from dispatcharr.ops.moments import (
    deviation,
    moments_combine,
    moments_partial,
    says_freedom,
    some_deviation,
    some_variance,
    variance,
)
from dispatcharr.ops.places import (
    arg_combine,
    arg_partial,
    nan_arg_combine,
    nan_arg_partial,
    present_place,
)
from dispatcharr.ops.row import Reduction

__all__ = ["CHOSEN", "REDUCTIONS", "REDUCTION_BY_NAME"]

Array = numpy.ndarray
State = tuple[Array, ...]

#: The cost class of going over a block by a mask, which takes as long as multiplying.
_BY_MASK = "reduce_prod"


def _fold(ufunc: numpy.ufunc) -> tuple[Callable[..., State], Callable[[State, State], State]]:
    def partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
        return (ufunc.reduce(block, axis=axes, dtype=dtype, keepdims=True),)

    def combine(left: State, right: State) -> State:
        return (ufunc(left[0], right[0]),)

    return partial, combine


def _value(state: State, count: int, params: dict[str, Any]) -> Array:
    return state[0]


def _joined(ufunc: numpy.ufunc) -> Callable[..., Array]:
    def finish(state: State, count: int, params: dict[str, Any]) -> Array:
        if "initial" not in params:
            return state[0]
        joined: Array = ufunc(params["initial"], state[0])
        return joined

    return finish


def _mean(state: State, count: int, params: dict[str, Any]) -> Array:
    return numpy.true_divide(state[0], count, casting="unsafe")


def _order_partial(ufunc: numpy.ufunc) -> Callable[..., State]:
    def partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
        return (ufunc.reduce(block, axis=axes, keepdims=True),)

    return partial


def _count_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    if len(axes) < block.ndim:
        return (numpy.asarray(numpy.count_nonzero(block, axis=axes, keepdims=True)),)
    # Without axes NumPy counts bools and integers that lie together many at a time, and what else
    # there is one by one.
    if block.dtype.char == "e":
        block = numpy.left_shift(block.view(numpy.uint16), 1)  # all but the sign
    elif block.dtype.kind in "fc" or not (block.dtype.kind == "b" or block.flags.forc):
        block = numpy.not_equal(block, 0)
    return (numpy.array(numpy.count_nonzero(block), ndmin=block.ndim),)


def _add(left: State, right: State) -> State:
    return tuple(numpy.add(x, y) for x, y in zip(left, right, strict=True))


def _says_missing(state: State, result: Array, params: dict[str, Any]) -> str | None:
    return "All-NaN slice encountered" if numpy.isnan(result).any() else None


def _some_mean(state: State, count: int, params: dict[str, Any]) -> Array:
    """Return the mean, NaN where nothing is chosen."""
    total, n = state
    with numpy.errstate(divide="ignore", invalid="ignore"):
        mean: Array = numpy.true_divide(total, n)
    return mean


def _says_empty(state: State, result: Array, params: dict[str, Any]) -> str | None:
    return "Mean of empty slice" if (state[1] == 0).any() else None


def _take(row: Reduction, partial: Callable[..., State], **more: Any) -> Reduction:
    """Return ``row`` with what ``where=`` runs."""
    return replace(row, masked=replace(row, partial=partial, **more))


def _rows() -> tuple[Reduction, ...]:
    sum_, add = _fold(numpy.add)
    product, multiply = _fold(numpy.multiply)
    any_, either = _fold(numpy.logical_or)
    all_, both = _fold(numpy.logical_and)
    _, minimum = _fold(numpy.minimum)
    _, maximum = _fold(numpy.maximum)
    low, high = _order_partial(numpy.minimum), _order_partial(numpy.maximum)
    last = arg_partial(numpy.argmax, numpy.maximum)
    first = arg_partial(numpy.argmin, numpy.minimum)
    row, take = Reduction, _take
    return (
        take(row("sum", "reduce_sum", True, sum_, add, _joined(numpy.add), params=("initial",),
                 ufunc=numpy.add),
             masked_sum, cost=_BY_MASK),
        take(row("prod", "reduce_prod", True, product, multiply, _joined(numpy.multiply),
                 params=("initial",), ufunc=numpy.multiply),
             masked_product, cost=_BY_MASK),
        take(row("min", "reduce_minmax", True, low, minimum, _joined(numpy.minimum),
                 params=("initial",), ufunc=numpy.minimum),
             masked(numpy.minimum, largest), cost=_BY_MASK, needs=("initial",)),
        take(row("max", "reduce_minmax", True, high, maximum, _joined(numpy.maximum),
                 params=("initial",), ufunc=numpy.maximum),
             masked(numpy.maximum, smallest), cost=_BY_MASK, needs=("initial",)),
        take(row("mean", "reduce_sum", True, sum_, add, _mean, averages=True),
             masked_mean, cost=_BY_MASK, combine=_add, finish=_some_mean, unsure=True,
             averages=False),
        take(row("var", "reduce_moments", True, moments_partial, moments_combine, variance,
                 "fc", ("ddof",), rereads=True, without="e", spends=True),
             masked_moments, finish=some_variance, unsure=True),
        take(row("std", "reduce_moments", True, moments_partial, moments_combine, deviation,
                 "fc", ("ddof",), rereads=True, without="e", spends=True),
             masked_moments, finish=some_deviation, unsure=True),
        take(row("any", "reduce_logical", True, any_, either, _value, alone=True),
             masked(numpy.logical_or, zero)),
        take(row("all", "reduce_logical", True, all_, both, _value, alone=True),
             masked(numpy.logical_and, one)),
        row("argmin", "reduce_arg", True, first, arg_combine(numpy.less), _value, "biuf",
            ordered=True, spends=True),
        row("argmax", "reduce_arg", True, last, arg_combine(numpy.greater), _value, "biuf",
            ordered=True, spends=True),
        row("count_nonzero", "reduce_count", False, _count_partial, add, _value,
            unshared="biu", copied="iufc"),
    )  # fmt: skip


def _nan_rows() -> tuple[Reduction, ...]:
    _, add = _fold(numpy.add)
    _, multiply = _fold(numpy.multiply)
    _, fmin = _fold(numpy.fmin)
    _, fmax = _fold(numpy.fmax)
    low, high = _order_partial(numpy.fmin), _order_partial(numpy.fmax)
    last = nan_arg_partial(arg_partial(numpy.argmax, numpy.maximum), -numpy.inf)
    first = nan_arg_partial(arg_partial(numpy.argmin, numpy.minimum), numpy.inf)
    larger = nan_arg_combine(arg_combine(numpy.greater))
    smaller = nan_arg_combine(arg_combine(numpy.less))
    row, take, numbers = Reduction, _take, masked_numbers
    return (
        take(row("nansum", "reduce_sum", False, nan_sum_partial, add, _joined(numpy.add), "fc",
                 ("initial",), rereads=True, ufunc=numpy.add, copied="fc", spends=True),
             numbers(masked_sum), cost=_BY_MASK),
        take(row("nanprod", "reduce_prod", False, nan_prod_partial, multiply,
                 _joined(numpy.multiply), "fc", ("initial",), rereads=True, ufunc=numpy.multiply,
                 copied="fc", spends=True),
             numbers(masked_product), cost=_BY_MASK),
        take(row("nanmin", "reduce_minmax", False, low, fmin, _joined(numpy.fmin), "f",
                 ("initial",), ufunc=numpy.fmin, remark=_says_missing),
             masked(numpy.fmin, missing), cost=_BY_MASK, needs=("initial",)),
        take(row("nanmax", "reduce_minmax", False, high, fmax, _joined(numpy.fmax), "f",
                 ("initial",), ufunc=numpy.fmax, remark=_says_missing),
             masked(numpy.fmax, missing), cost=_BY_MASK, needs=("initial",)),
        take(row("nanmean", "reduce_sum", False, nan_mean_partial, _add, _some_mean, "fc",
                 rereads=True, remark=_says_empty, copied="fc", spends=True),
             numbers(masked_mean), cost=_BY_MASK),
        take(row("nanvar", "reduce_moments", False, nan_moments_partial, moments_combine,
                 some_variance, "f", ("ddof",), rereads=True, without="e",
                 remark=says_freedom, copied="f", spends=True),
             nan_moments_partial),
        take(row("nanstd", "reduce_moments", False, nan_moments_partial, moments_combine,
                 some_deviation, "f", ("ddof",), rereads=True, without="e",
                 remark=says_freedom, copied="f", spends=True),
             nan_moments_partial),
        row("nanargmin", "reduce_arg", False, first, smaller, present_place, "f", ordered=True,
            rereads=True, alone=True, spends=True),
        row("nanargmax", "reduce_arg", False, last, larger, present_place, "f", ordered=True,
            rereads=True, alone=True, spends=True),
    )  # fmt: skip


REDUCTIONS: tuple[Reduction, ...] = (*_rows(), *_nan_rows())
REDUCTION_BY_NAME: dict[str, Reduction] = {row.name: row for row in REDUCTIONS}
