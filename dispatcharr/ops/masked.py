"""Reductions of what a mask chooses, of what is no NaN, or of both: the partials of their rows.

Elements that do not count take a value that changes nothing, or are left out by NumPy's own loops
where the mask has long runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr.ops.masks import has_short_runs
from dispatcharr.ops.moments import number_of, some_moments
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME

__all__ = [
    "CHOSEN", "largest", "masked", "masked_mean", "masked_moments", "masked_numbers",
    "masked_product", "masked_sum", "missing", "nan_mean_partial", "nan_moments_partial",
    "nan_prod_partial", "nan_sum_partial", "one", "smallest", "zero",
]  # fmt: skip

Array = numpy.ndarray
State = tuple[Array, ...]

_where: Any = BY_NAME["where"].fill


def _first(values: Any, mask: Any) -> Any:
    return values


#: The pair of what is reduced and the mask of what counts. It is never computed: a masked reduction
#: reads both.
CHOSEN = Elementwise("chosen", None, "select", 2, errors="none", result=_first)


def masked(ufunc: numpy.ufunc, neutral: Callable[[Any], Any]) -> Callable[..., State]:
    """Return the partial that leaves out what a mask leaves out.

    ``neutral(dtype)`` is the value of a block's dtype that changes nothing.
    """

    def partial(block: Array, axes: tuple[int, ...], dtype: Any, mask: Array) -> State:
        start = neutral(block.dtype)
        if has_short_runs(mask, block.shape):
            chosen = numpy.empty(block.shape, block.dtype)
            _where((mask, block, numpy.array(start, block.dtype)), chosen)
            return (ufunc.reduce(chosen, axis=axes, dtype=dtype, keepdims=True),)
        return (
            ufunc.reduce(block, axis=axes, dtype=dtype, keepdims=True, where=mask, initial=start),
        )

    return partial


def zero(dtype: numpy.dtype[Any]) -> Any:
    """Return what changes no sum."""
    return 0


def one(dtype: numpy.dtype[Any]) -> Any:
    """Return what changes no product."""
    return 1


def largest(dtype: numpy.dtype[Any]) -> Any:
    """Return the value that no other of ``dtype`` exceeds."""
    if dtype.kind in "iu":
        return numpy.iinfo(dtype).max
    if dtype.kind == "b":
        return True
    return complex(numpy.inf, numpy.inf) if dtype.kind == "c" else numpy.inf


def smallest(dtype: numpy.dtype[Any]) -> Any:
    """Return the value that exceeds no other of ``dtype``."""
    if dtype.kind in "iu":
        return numpy.iinfo(dtype).min
    return False if dtype.kind == "b" else -largest(dtype)


def missing(dtype: numpy.dtype[Any]) -> Any:
    """Return what every number replaces."""
    return numpy.nan


def nan_sum_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    """Return the sum of what is no NaN."""
    return (numpy.nansum(block, axis=axes, dtype=dtype, keepdims=True),)


def nan_prod_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    """Return the product of what is no NaN."""
    return (numpy.nanprod(block, axis=axes, dtype=dtype, keepdims=True),)


def _present(block: Array, mask: Any) -> Array:
    """Return where ``block`` is a number that is chosen."""
    found: Array = numpy.isnan(block)
    numpy.logical_not(found, out=found)
    found &= mask
    return found


def masked_numbers(partial: Callable[..., State]) -> Callable[..., State]:
    """Return a masked partial that leaves out NaN too."""

    def present(block: Array, axes: tuple[int, ...], dtype: Any, mask: Array) -> State:
        return partial(block, axes, dtype, _present(block, mask))

    return present


def masked_moments(block: Array, axes: tuple[int, ...], dtype: Any, mask: Array) -> State:
    """Return the moments of what is chosen."""
    return some_moments(block, axes, dtype, numpy.broadcast_to(mask, block.shape))


def nan_moments_partial(block: Array, axes: tuple[int, ...], dtype: Any, mask: Any = True) -> State:
    """Return the moments of what is chosen and no NaN."""
    return some_moments(block, axes, dtype, _present(block, mask))


masked_sum = masked(numpy.add, zero)
masked_product = masked(numpy.multiply, one)


def masked_mean(block: Array, axes: tuple[int, ...], dtype: Any, mask: Array) -> State:
    """Return the sum and the number of what is chosen."""
    (total,) = masked_sum(block, axes, dtype, mask)
    return total, number_of(numpy.broadcast_to(mask, block.shape), axes)


def nan_mean_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    """Return the sum and the number of what is no NaN."""
    count = number_of(_present(block, True), axes)
    return numpy.nansum(block, axis=axes, dtype=dtype, keepdims=True), count
