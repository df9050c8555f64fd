"""NumPy's functions that contract two arrays, each brought to a product of stacks of matrices.

A road takes the arguments of its function and returns a :class:`Product`, or None for what is left
to NumPy: dtypes other than integers and bools, arguments that are no arrays, keywords that change
more than the dtype, and whatever NumPy would refuse. NumPy itself says what the result is: asked
for the same product over no summands it checks dtypes and makes zeros of the right shape and
layout.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

__all__ = ["ROADS", "Product", "road_of"]

_Arguments = tuple[Any, ...]
_Keywords = Mapping[str, Any]
_UFUNC_KEYWORDS = {"dtype", "casting", "order", "subok"}


@dataclass(slots=True)
class Product:
    """A product of stacks of matrices.

    Attributes
    ----------
    a, b : numpy.ndarray
        Of shapes ``(..., m, k)`` and ``(..., k, n)``, with the same outer shape.
    dtype : numpy.dtype
        Of the result.
    zeros : callable
        Has NumPy make the result, without any summands.
    result : tuple of int or None
        The result's shape, for functions that can be given an array to write to.
    einsum : bool
        Whether it is NumPy's ``einsum`` that would compute it.
    """

    a: numpy.ndarray
    b: numpy.ndarray
    dtype: numpy.dtype
    zeros: Callable[[], Any]
    result: tuple[int, ...] | None = None
    einsum: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the stack of results."""
        return (*self.a.shape[:-1], self.b.shape[-1])

    @property
    def elements(self) -> int:
        """How many sums there are."""
        return math.prod(self.shape)

    @property
    def summed(self) -> int:
        """How many products are summed up in each."""
        return int(self.a.shape[-1])


def _plain(values: _Arguments) -> bool:
    """Return whether all are arrays of integers or bools, with something in them."""
    return all(
        type(value) is numpy.ndarray
        and value.dtype.kind in "biu"
        and value.dtype.isnative
        and value.ndim
        and value.size
        for value in values
    )


def _product(
    a: numpy.ndarray, b: numpy.ndarray, compute: Callable[..., Any],
    ends: tuple[tuple[Any, ...], tuple[Any, ...]], of: tuple[numpy.ndarray, numpy.ndarray],
    result: tuple[int, ...] | None = None, einsum: bool = False,
) -> Product | None:  # fmt: skip
    """Return the product ``a @ b``, which ``compute(*of)`` gives.

    ``ends`` are the indices that leave no summands in ``of``.
    """
    empty = [one[(slice(0, 0),) * one.ndim] for one in of]
    try:
        dtype = compute(*empty).dtype
    except (TypeError, ValueError):  # NumPy will say so
        return None
    if dtype.kind not in "biu" or not dtype.isnative:
        return None
    none = [one[index] for one, index in zip(of, ends, strict=True)]
    return Product(a, b, dtype, lambda: compute(*none), result, einsum)


_LAST = (Ellipsis, slice(0, 0))
_SECOND_LAST = (Ellipsis, slice(0, 0), slice(None))


def _stacked(a: numpy.ndarray, b: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray] | None:
    """Return stacks of matrices broadcast to each other, None if they do not fit."""
    if a.shape[-1] != b.shape[-2]:
        return None
    if a.ndim == b.ndim == 2:
        return a, b
    try:
        outer = numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        return None
    return (
        numpy.broadcast_to(a, outer + a.shape[-2:]),
        numpy.broadcast_to(b, outer + b.shape[-2:]),
    )


def _matmul(args: _Arguments, kwargs: _Keywords) -> Product | None:
    if len(args) != 2 or not _plain(args) or kwargs.keys() - _UFUNC_KEYWORDS:
        return None
    a, b = args
    found = _stacked(a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b)
    if found is None:
        return None

    def compute(x: Any, y: Any) -> Any:
        return numpy.matmul(x, y, **kwargs)

    left, right = found
    shape = tuple(left.shape[: -2 if a.ndim == 1 else -1])
    if b.ndim > 1:
        shape += (right.shape[-1],)
    ends = (_LAST, _LAST if b.ndim == 1 else _SECOND_LAST)
    return _product(left, right, compute, ends, (a, b), shape)


def _vecdot(args: _Arguments, kwargs: _Keywords) -> Product | None:
    if len(args) != 2 or not _plain(args) or kwargs.keys() - _UFUNC_KEYWORDS:
        return None
    a, b = args
    found = _stacked(a[..., None, :], b[..., None])

    def compute(x: Any, y: Any) -> Any:
        return numpy.vecdot(x, y, **kwargs)

    if found is None:
        return None
    return _product(*found, compute, (_LAST, _LAST), (a, b), found[0].shape[:-2])


def _dot(args: _Arguments, kwargs: _Keywords) -> Product | None:
    if len(args) != 2 or not _plain(args) or kwargs:
        return None
    a, b = args
    along = 0 if b.ndim == 1 else b.ndim - 2
    summed = a.shape[-1]
    if b.shape[along] != summed:
        return None
    left = a if a.ndim == 2 else a.reshape(-1, summed)
    right = b if b.ndim == 2 else numpy.moveaxis(b, along, 0).reshape(summed, -1)
    ends = (_LAST, _LAST if b.ndim == 1 else _SECOND_LAST)
    shape = a.shape[:-1] + b.shape[:-2] + b.shape[max(b.ndim - 1, 1) :]
    return _product(left, right, numpy.dot, ends, (a, b), shape)


def _inner(args: _Arguments, kwargs: _Keywords) -> Product | None:
    if len(args) != 2 or not _plain(args) or kwargs:
        return None
    a, b = args
    summed = a.shape[-1]
    if b.shape[-1] != summed:
        return None
    right = b.reshape(-1, summed).T
    return _product(a.reshape(-1, summed), right, numpy.inner, (_LAST, _LAST), (a, b))


def _tensordot(args: _Arguments, kwargs: _Keywords) -> Product | None:
    if len(args) == 3:
        kwargs = {"axes": args[-1], **kwargs}
        args = args[:2]
    if len(args) != 2 or not _plain(args) or kwargs.keys() - {"axes"}:
        return None
    a, b = args
    found = _axes(kwargs.get("axes", 2), a.ndim, b.ndim)
    if found is None or [a.shape[i] for i in found[0]] != [b.shape[i] for i in found[1]]:
        return None
    a_free, b_free = [
        [axis for axis in range(one.ndim) if axis not in axes]
        for one, axes in zip((a, b), found, strict=True)
    ]
    summed = math.prod(a.shape[axis] for axis in found[0])
    left = a.transpose(*a_free, *found[0]).reshape(-1, summed)
    right = b.transpose(*found[1], *b_free).reshape(summed, -1)
    shape = [a.shape[axis] for axis in a_free] + [b.shape[axis] for axis in b_free]

    def compute(x: Any, y: Any) -> Any:
        made = numpy.dot(x, y)
        return made.reshape(shape) if made.size else made

    return _product(left, right, compute, (_LAST, _SECOND_LAST), (left, right))


def _axes(axes: Any, a_ndim: int, b_ndim: int) -> tuple[list[int], list[int]] | None:
    """Return the summed axes of both operands of ``tensordot``, None where they make no sense."""
    try:
        if hasattr(axes, "__index__"):
            count = operator.index(axes)
            pair: Sequence[Any] = (range(a_ndim - count, a_ndim), range(count))
        else:
            pair = axes
        left, right = [
            [operator.index(axis) for axis in (one if hasattr(one, "__iter__") else (one,))]
            for one in pair
        ]
    except (TypeError, ValueError):
        return None
    inside = all(-a_ndim <= axis < a_ndim for axis in left) and all(
        -b_ndim <= axis < b_ndim for axis in right
    )
    left, right = [axis % a_ndim for axis in left], [axis % b_ndim for axis in right]
    once = len(set(left)) == len(left) and len(set(right)) == len(right)
    return (left, right) if inside and once and len(left) == len(right) > 0 else None


def _einsum(args: _Arguments, kwargs: _Keywords) -> Product | None:
    if len(args) != 3 or type(args[0]) is not str or not _plain(args[1:]):
        return None
    if kwargs.keys() - {"optimize"} or kwargs.get("optimize", False) is not False:
        return None
    terms = _terms(args[0].replace(" ", ""))
    if terms is None:
        return None
    (first, second, result), (a, b) = terms, args[1:]
    if (len(first), len(second)) != (a.ndim, b.ndim):
        return None
    summed = [letter for letter in first if letter not in result]
    extents = [a.shape[first.index(letter)] for letter in summed]
    if extents != [b.shape[second.index(letter)] for letter in summed]:
        return None
    frees = [[letter for letter in term if letter in result] for term in (first, second)]
    ends = [
        tuple([slice(0, 0) if letter in summed else slice(None) for letter in term])
        for term in (first, second)
    ]

    def compute(x: Any, y: Any) -> Any:
        return numpy.einsum(args[0], x, y)

    matrices = [
        one.transpose([term.index(letter) for letter in (*free, *summed)]).reshape(
            math.prod(one.shape[term.index(letter)] for letter in free), math.prod(extents)
        )
        for one, term, free in zip((a, b), (first, second), frees, strict=True)
    ]
    if [*frees[1], *frees[0]] == list(result):
        matrices.reverse()
    return _product(matrices[0], matrices[1].T, compute, (ends[0], ends[1]), (a, b), einsum=True)


def _terms(subscripts: str) -> tuple[str, str, str] | None:
    """Return the letters of both operands and of the result, if it is one product of matrices."""
    operands, arrow, result = subscripts.partition("->")
    first, _, second = operands.partition(",")
    if not (first.isalpha() and second.isalpha()):
        return None
    both = set(first) & set(second)
    left = "".join([letter for letter in first if letter not in both])
    right = "".join([letter for letter in second if letter not in both])
    if not arrow:
        result = "".join(sorted(left + right))
    repeats = len(set(first)) < len(first) or len(set(second)) < len(second)
    if repeats or not both or result not in (left + right, right + left):
        return None
    return first, second, result


def road_of(function: Callable[..., Any]) -> Callable[..., Product | None] | None:
    """Return the road of one of NumPy's functions, if it has any."""
    try:
        return ROADS.get(function)
    except TypeError:  # not all that can be called can be looked up
        return None


def _roads() -> dict[Callable[..., Any], Callable[..., Product | None]]:
    roads: dict[Callable[..., Any], Callable[..., Product | None]] = {
        numpy.matmul: _matmul, operator.matmul: _matmul, numpy.vecdot: _vecdot,
        numpy.ndarray.dot: _dot,
    }  # fmt: skip
    for function, road in (
        (numpy.dot, _dot), (numpy.inner, _inner), (numpy.tensordot, _tensordot),
        (numpy.einsum, _einsum),
    ):  # fmt: skip
        roads[function] = road
        # Behind __array_function__.
        roads[getattr(function, "_implementation", function)] = road
    return roads


ROADS = _roads()
