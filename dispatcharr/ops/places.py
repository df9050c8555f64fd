"""Where the least and the greatest are: what arg-reductions do with a block, and with two.

A state is the place along the reduced axis, the value there, and how long the axis was; the first
of equal values wins, and NaN over every number.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy

__all__ = [
    "arg_combine", "arg_partial", "nan_arg_combine", "nan_arg_partial", "present_place",
]  # fmt: skip

Array = numpy.ndarray
State = tuple[Array, ...]

#: Elements next to each other from which on lanes are searched side by side.
_SIDE_BY_SIDE = 64
#: Places that a byte tells apart.
_PLACES = 255


def arg_partial(search: Callable[..., Any], extreme: numpy.ufunc) -> Callable[..., State]:
    """Return the partial of a search; ``extreme`` is the ufunc of the value it looks for."""

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


def arg_combine(better: numpy.ufunc) -> Callable[[State, State], State]:
    """Return the combine that takes the right value where it is ``better`` than the left one."""

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


def nan_arg_partial(partial: Callable[..., State], last: float) -> Callable[..., State]:
    """Return the partial that takes NaN for ``last``, as NumPy's does, and tells where all are."""

    def present(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
        missing = numpy.isnan(block)
        values = numpy.where(missing, block.dtype.type(last), block)
        nothing = numpy.logical_and.reduce(missing, axis=axes, keepdims=True)
        return (*partial(values, axes, dtype), nothing)

    return present


def nan_arg_combine(combine: Callable[[State, State], State]) -> Callable[[State, State], State]:
    """Return the combine that tells where all are NaN, too."""

    def both(left: State, right: State) -> State:
        return (*combine(left[:3], right[:3]), left[3] & right[3])

    return both


def present_place(state: State, count: int, params: dict[str, Any]) -> Array:
    """Return the places, or raise NumPy's error where there is none."""
    if state[3].any():
        raise ValueError("All-NaN slice encountered")
    return state[0]
