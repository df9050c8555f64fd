"""The rows of reductions: how a block is reduced, how neighbours are joined, how the end is made.

States are tuples of arrays that keep every axis. ``combine`` is called on neighbouring blocks in a
fixed tree, left before right, so that a result depends on the data alone and never on threads. Sums
are combined pairwise, as NumPy does within one call. Moments follow the pairwise update of Chan,
Golub and LeVeque (1979), whose rounding error is of the order of the two-pass formula's.

With ``where=`` the row's ``masked`` row runs. NumPy's ``initial`` joins the state of everything, in
``finish``: once, however the array was cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy

from dispatcharr.ops.row import Elementwise, Reduction
from dispatcharr.ops.table import BY_NAME, changes

__all__ = ["CHOSEN", "REDUCTIONS", "REDUCTION_BY_NAME", "is_patchy"]

Array = numpy.ndarray
State = tuple[Array, ...]

_where: Any = BY_NAME["where"].fill


def _first(values: Any, mask: Any) -> Any:
    return values


#: The pair of what is reduced and the mask of what counts. It is never computed: a masked reduction
#: reads both.
CHOSEN = Elementwise("chosen", None, "select", 2, errors="none", result=_first)


def _fold(ufunc: numpy.ufunc) -> tuple[Callable[..., State], Callable[[State, State], State]]:
    def partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
        return (ufunc.reduce(block, axis=axes, dtype=dtype, keepdims=True),)

    def combine(left: State, right: State) -> State:
        return (ufunc(left[0], right[0]),)

    return partial, combine


#: The cost class of going over a block by a mask, which takes as long as multiplying.
_BY_MASK = "reduce_prod"
#: Changes between chosen and not, per element, from which on NumPy's loops over the runs of a mask
#: take longer than one over all elements in which those that are not chosen change nothing.
_FLICKER = 1 / 16


def _masked(ufunc: numpy.ufunc, neutral: Callable[[Any], Any]) -> Callable[..., State]:
    """Return the partial that leaves out what a mask leaves out.

    ``neutral(dtype)`` is the value of a block's dtype that changes nothing.
    """

    def partial(block: Array, axes: tuple[int, ...], dtype: Any, mask: Array) -> State:
        start = neutral(block.dtype)
        if is_patchy(mask, block.shape):
            chosen = numpy.empty(block.shape, block.dtype)
            _where((mask, block, numpy.array(start, block.dtype)), chosen)
            return (ufunc.reduce(chosen, axis=axes, dtype=dtype, keepdims=True),)
        return (
            ufunc.reduce(block, axis=axes, dtype=dtype, keepdims=True, where=mask, initial=start),
        )

    return partial


def is_patchy(mask: Array, shape: tuple[int, ...]) -> bool:
    """Return whether the runs of ``mask`` along the last axis are short, from a sample of it."""
    return mask.shape == shape and mask.dtype == bool and changes(mask) > _FLICKER


def _zero(dtype: numpy.dtype[Any]) -> Any:
    return 0


def _one(dtype: numpy.dtype[Any]) -> Any:
    return 1


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


def _largest(dtype: numpy.dtype[Any]) -> Any:
    """Return the value that no other of ``dtype`` exceeds."""
    if dtype.kind in "iu":
        return numpy.iinfo(dtype).max
    if dtype.kind == "b":
        return True
    return complex(numpy.inf, numpy.inf) if dtype.kind == "c" else numpy.inf


def _smallest(dtype: numpy.dtype[Any]) -> Any:
    """Return the value that exceeds no other of ``dtype``."""
    if dtype.kind in "iu":
        return numpy.iinfo(dtype).min
    return False if dtype.kind == "b" else -_largest(dtype)


def _missing(dtype: numpy.dtype[Any]) -> Any:
    return numpy.nan


def _count_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    if len(axes) == block.ndim:  # with axes NumPy counts by a slower way
        return (numpy.full((1,) * block.ndim, numpy.count_nonzero(block)),)
    counted = numpy.count_nonzero(block, axis=axes, keepdims=True)
    return (numpy.asarray(counted),)


def _add(left: State, right: State) -> State:
    return tuple(numpy.add(x, y) for x, y in zip(left, right, strict=True))


def _nan_sum_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    return (numpy.nansum(block, axis=axes, dtype=dtype, keepdims=True),)


def _nan_prod_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    return (numpy.nanprod(block, axis=axes, dtype=dtype, keepdims=True),)


def _present(block: Array, mask: Any) -> Array:
    """Return where ``block`` is a number that is chosen."""
    found: Array = numpy.isnan(block)
    numpy.logical_not(found, out=found)
    found &= mask
    return found


def _masked_numbers(partial: Callable[..., State]) -> Callable[..., State]:
    """Return a masked partial that leaves out NaN too."""

    def present(block: Array, axes: tuple[int, ...], dtype: Any, mask: Array) -> State:
        return partial(block, axes, dtype, _present(block, mask))

    return present


def _says_missing(state: State, result: Array, params: dict[str, Any]) -> str | None:
    return "All-NaN slice encountered" if numpy.isnan(result).any() else None


def _squared(gap: Array) -> Array:
    """Square in place: what a block leaves in the cache, a second temporary would push out."""
    squares: Array = numpy.square(gap, out=gap)
    return squares


def _moments_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    count = 1
    for axis in axes:
        count *= block.shape[axis]
    mean = numpy.add.reduce(block, axis=axes, dtype=dtype, keepdims=True) / count
    spread = numpy.add.reduce(_squared(block - mean), axis=axes, keepdims=True)
    return numpy.full(mean.shape, float(count)), mean, spread


def _moments_combine(left: State, right: State) -> State:
    n, mean, spread = left
    m, other, more = right
    total = n + m
    with numpy.errstate(divide="ignore", invalid="ignore"):
        share = numpy.where(total == 0, 0.0, m / total)
        # Means that overflowed alike are no distance apart: their spreads have overflowed too.
        apart = numpy.where(other == mean, 0, other - mean)
        joined = mean + apart * share
    # The mean of nothing says nothing, and its distance may be too large to square.
    weight = n * share
    gap = numpy.where(weight == 0, 0, apart)
    return total, joined, spread + more + numpy.square(gap) * weight


def _variance(state: State, count: int, params: dict[str, Any]) -> Array:
    variance: Array = state[2] / max(count - params.get("ddof", 0), 0)
    return variance


def _deviation(state: State, count: int, params: dict[str, Any]) -> Array:
    deviation: Array = numpy.sqrt(_variance(state, count, params))
    return deviation


def _count(present: Array, axes: tuple[int, ...]) -> Array:
    if len(axes) == present.ndim:
        return numpy.full((1,) * present.ndim, float(numpy.count_nonzero(present)))
    counted: Array = numpy.add.reduce(present, axis=axes, dtype=numpy.float64, keepdims=True)
    return counted


def _some_moments(block: Array, axes: tuple[int, ...], dtype: Any, present: Array) -> State:
    """Return the moments of the elements that are ``present``."""
    count = _count(present, axes)
    zero = block.dtype.type(0)
    values = numpy.where(present, block, zero)
    total = numpy.add.reduce(values, axis=axes, dtype=dtype, keepdims=True)
    mean = total / numpy.maximum(count, 1)
    gap = numpy.where(present, block - mean, zero)
    return count, mean, numpy.add.reduce(_squared(gap), axis=axes, keepdims=True)


def _masked_moments(block: Array, axes: tuple[int, ...], dtype: Any, mask: Array) -> State:
    return _some_moments(block, axes, dtype, numpy.broadcast_to(mask, block.shape))


def _nan_moments_partial(
    block: Array, axes: tuple[int, ...], dtype: Any, mask: Any = True
) -> State:
    return _some_moments(block, axes, dtype, _present(block, mask))


def _some_variance(state: State, count: int, params: dict[str, Any]) -> Array:
    """Return the variance, NaN where no freedom is left."""
    n, _, spread = state
    freedom = n - params.get("ddof", 0)
    variance: Array = spread / numpy.where(freedom <= 0, numpy.nan, freedom)
    return variance


def _some_deviation(state: State, count: int, params: dict[str, Any]) -> Array:
    deviation: Array = numpy.sqrt(_some_variance(state, count, params))
    return deviation


def _says_freedom(state: State, result: Array, params: dict[str, Any]) -> str | None:
    few = (state[0] <= params.get("ddof", 0)).any()
    return "Degrees of freedom <= 0 for slice." if few else None


_masked_sum = _masked(numpy.add, _zero)
_masked_product = _masked(numpy.multiply, _one)


def _masked_mean(block: Array, axes: tuple[int, ...], dtype: Any, mask: Array) -> State:
    (total,) = _masked_sum(block, axes, dtype, mask)
    return total, _count(numpy.broadcast_to(mask, block.shape), axes)


def _nan_mean_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    count = _count(_present(block, True), axes)
    return numpy.nansum(block, axis=axes, dtype=dtype, keepdims=True), count


def _some_mean(state: State, count: int, params: dict[str, Any]) -> Array:
    """Return the mean, NaN where nothing is chosen."""
    total, n = state
    with numpy.errstate(divide="ignore", invalid="ignore"):
        mean: Array = numpy.true_divide(total, n)
    return mean


def _says_empty(state: State, result: Array, params: dict[str, Any]) -> str | None:
    return "Mean of empty slice" if (state[1] == 0).any() else None


#: Elements next to each other from which on lanes are searched side by side.
_SIDE_BY_SIDE = 64
#: Places that a byte tells apart.
_PLACES = 255


def _arg_partial(search: Callable[..., Any], extreme: numpy.ufunc) -> Callable[..., State]:
    def partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
        if len(axes) == block.ndim:
            flat = block.reshape(-1)
            where = numpy.asarray(search(flat))
            ones = (1,) * block.ndim
            return where.reshape(ones), flat[where].reshape(ones), numpy.array(flat.size)
        (axis,) = axes
        length = block.shape[axis]
        if length <= _PLACES and prod(block.shape[axis + 1 :]) >= _SIDE_BY_SIDE:
            where, found = _first_of(block, axis, extreme)
        else:
            where = search(block, axis=axis, keepdims=True)
            found = numpy.take_along_axis(block, where, axis)
        return where, found, numpy.array(length)

    return partial


def _first_of(block: Array, axis: int, extreme: numpy.ufunc) -> tuple[Array, Array]:
    """Return where along ``axis`` the extreme is met first, and its value.

    NumPy's own search would first copy lanes that are not contiguous; this passes over the block
    as it lies.
    """
    length = block.shape[axis]
    found = extreme.reduce(block, axis=axis, keepdims=True)
    hit = numpy.equal(block, found)
    if block.dtype.kind == "f" and numpy.isnan(found).any():
        hit |= numpy.isnan(block)
    # The earlier, the more: the largest of the hits is the first.
    rank = numpy.arange(length, 0, -1, dtype=numpy.uint8)
    rank = rank.reshape([-1 if i == axis else 1 for i in range(block.ndim)])
    ranked = hit.view(numpy.uint8)
    numpy.multiply(ranked, rank, out=ranked)
    best = numpy.maximum.reduce(ranked, axis=axis, keepdims=True)
    return numpy.subtract(length, best, dtype=numpy.intp), found


def _arg_combine(better: numpy.ufunc) -> Callable[[State, State], State]:
    def combine(left: State, right: State) -> State:
        here, value, size = left
        there, other, more = right
        take = better(other, value)
        if value.dtype.kind == "f":
            # NaN wins over every number and, as equal values do, the earlier one over the later.
            take |= numpy.isnan(other)
            take &= numpy.equal(value, value)
        return (
            numpy.where(take, size + there, here),
            numpy.where(take, other, value),
            size + more,
        )

    return combine


def _nan_arg_partial(partial: Callable[..., State], last: float) -> Callable[..., State]:
    """Return the partial that takes NaN for ``last``, as NumPy's does, and tells where all are."""

    def present(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
        missing = numpy.isnan(block)
        values = numpy.where(missing, block.dtype.type(last), block)
        nothing = numpy.logical_and.reduce(missing, axis=axes, keepdims=True)
        return (*partial(values, axes, dtype), nothing)

    return present


def _nan_arg_combine(combine: Callable[[State, State], State]) -> Callable[[State, State], State]:
    def both(left: State, right: State) -> State:
        return (*combine(left[:3], right[:3]), left[3] & right[3])

    return both


def _present_place(state: State, count: int, params: dict[str, Any]) -> Array:
    if state[3].any():
        raise ValueError("All-NaN slice encountered")
    return state[0]


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
    last = _arg_partial(numpy.argmax, numpy.maximum)
    first = _arg_partial(numpy.argmin, numpy.minimum)
    row, take = Reduction, _take
    return (
        take(row("sum", "reduce_sum", True, sum_, add, _joined(numpy.add), params=("initial",),
                 ufunc=numpy.add),
             _masked_sum, cost=_BY_MASK),
        take(row("prod", "reduce_prod", True, product, multiply, _joined(numpy.multiply),
                 params=("initial",), ufunc=numpy.multiply),
             _masked_product, cost=_BY_MASK),
        take(row("min", "reduce_minmax", True, low, minimum, _joined(numpy.minimum),
                 params=("initial",), ufunc=numpy.minimum),
             _masked(numpy.minimum, _largest), cost=_BY_MASK, needs=("initial",)),
        take(row("max", "reduce_minmax", True, high, maximum, _joined(numpy.maximum),
                 params=("initial",), ufunc=numpy.maximum),
             _masked(numpy.maximum, _smallest), cost=_BY_MASK, needs=("initial",)),
        take(row("mean", "reduce_sum", True, sum_, add, _mean, kinds="biuf"),
             _masked_mean, cost=_BY_MASK, combine=_add, finish=_some_mean, unsure=True),
        take(row("var", "reduce_moments", True, _moments_partial, _moments_combine, _variance,
                 "f", ("ddof",), rereads=True, without="e"),
             _masked_moments, finish=_some_variance, unsure=True),
        take(row("std", "reduce_moments", True, _moments_partial, _moments_combine, _deviation,
                 "f", ("ddof",), rereads=True, without="e"),
             _masked_moments, finish=_some_deviation, unsure=True),
        take(row("any", "reduce_logical", True, any_, either, _value),
             _masked(numpy.logical_or, _zero)),
        take(row("all", "reduce_logical", True, all_, both, _value),
             _masked(numpy.logical_and, _one)),
        row("argmin", "reduce_arg", True, first, _arg_combine(numpy.less), _value, "biuf",
            ordered=True),
        row("argmax", "reduce_arg", True, last, _arg_combine(numpy.greater), _value, "biuf",
            ordered=True),
        row("count_nonzero", "reduce_count", False, _count_partial, _add, _value),
    )  # fmt: skip


def _nan_rows() -> tuple[Reduction, ...]:
    _, add = _fold(numpy.add)
    _, multiply = _fold(numpy.multiply)
    _, fmin = _fold(numpy.fmin)
    _, fmax = _fold(numpy.fmax)
    low, high = _order_partial(numpy.fmin), _order_partial(numpy.fmax)
    last = _nan_arg_partial(_arg_partial(numpy.argmax, numpy.maximum), -numpy.inf)
    first = _nan_arg_partial(_arg_partial(numpy.argmin, numpy.minimum), numpy.inf)
    larger = _nan_arg_combine(_arg_combine(numpy.greater))
    smaller = _nan_arg_combine(_arg_combine(numpy.less))
    row, take, numbers = Reduction, _take, _masked_numbers
    return (
        take(row("nansum", "reduce_sum", False, _nan_sum_partial, add, _joined(numpy.add), "f",
                 ("initial",), rereads=True, ufunc=numpy.add),
             numbers(_masked_sum), cost=_BY_MASK),
        take(row("nanprod", "reduce_prod", False, _nan_prod_partial, multiply,
                 _joined(numpy.multiply), "f", ("initial",), rereads=True, ufunc=numpy.multiply),
             numbers(_masked_product), cost=_BY_MASK),
        take(row("nanmin", "reduce_minmax", False, low, fmin, _joined(numpy.fmin), "f",
                 ("initial",), ufunc=numpy.fmin, remark=_says_missing),
             _masked(numpy.fmin, _missing), cost=_BY_MASK, needs=("initial",)),
        take(row("nanmax", "reduce_minmax", False, high, fmax, _joined(numpy.fmax), "f",
                 ("initial",), ufunc=numpy.fmax, remark=_says_missing),
             _masked(numpy.fmax, _missing), cost=_BY_MASK, needs=("initial",)),
        take(row("nanmean", "reduce_sum", False, _nan_mean_partial, _add, _some_mean, "f",
                 rereads=True, remark=_says_empty),
             numbers(_masked_mean), cost=_BY_MASK),
        take(row("nanvar", "reduce_moments", False, _nan_moments_partial, _moments_combine,
                 _some_variance, "f", ("ddof",), rereads=True, without="e",
                 remark=_says_freedom),
             _nan_moments_partial),
        take(row("nanstd", "reduce_moments", False, _nan_moments_partial, _moments_combine,
                 _some_deviation, "f", ("ddof",), rereads=True, without="e",
                 remark=_says_freedom),
             _nan_moments_partial),
        row("nanargmin", "reduce_arg", False, first, smaller, _present_place, "f", ordered=True,
            rereads=True),
        row("nanargmax", "reduce_arg", False, last, larger, _present_place, "f", ordered=True,
            rereads=True),
    )  # fmt: skip


REDUCTIONS: tuple[Reduction, ...] = (*_rows(), *_nan_rows())
REDUCTION_BY_NAME: dict[str, Reduction] = {row.name: row for row in REDUCTIONS}
