"""Advanced indexing. CuPy wraps indices that are out of bounds, so they are looked at first."""

from __future__ import annotations

import operator
from typing import Any

import numpy

from dispatcharr.backends.library.table import ANY, Declined, need, serves

__all__: list[str] = []


def _check_bounds(cp: Any, pairs: list[tuple[Any, int]]) -> None:
    """Decline where an index is out of bounds: NumPy words the error."""
    wrong: Any = None
    for index, extent in pairs:
        need(index.dtype.kind in "iu", "indices are no integers")
        # In a type that holds both the extent and every index that is too large for it.
        wide = index.astype(cp.uint64 if index.dtype.char in "LQ" else cp.int64, copy=False)
        found = (wide >= extent).any()
        if index.dtype.kind == "i":
            found = found | (wide < -extent).any()
        wrong = found if wrong is None else wrong | found
    need(wrong is None or not bool(wrong), "an index is out of bounds")


def _array(cp: Any, a: Any) -> None:
    need(isinstance(a, cp.ndarray) and a.ndim > 0, "the operand is no array with axes")


@serves(operator.getitem, "ndarray.__getitem__", dtypes=ANY, results="=")
def getitem(cp: Any, a: Any, key: Any, /) -> Any:
    """Serve indexing by arrays; what gives a view is left alone."""
    _array(cp, a)
    parts = [_index(cp, part) for part in (key if type(key) is tuple else (key,))]
    arrays = [part for part in parts if isinstance(part, cp.ndarray)]
    need(arrays, "no index is an array, and so it is a view or an element")
    pairs, axis = [], 0
    taken = sum(_axes(cp, part) for part in parts)
    for part in parts:
        if part is Ellipsis:
            axis += a.ndim - taken
            continue
        width = _axes(cp, part)
        need(axis + width <= a.ndim, "too many indices")
        if isinstance(part, cp.ndarray):
            need(part.ndim > 0, "an index without axes")
            if part.dtype.kind == "b":
                need(part.shape == a.shape[axis : axis + width], "a mask of another shape")
            else:
                pairs.append((part, a.shape[axis]))
        elif width and type(part) is not slice:
            need(-a.shape[axis] <= part < a.shape[axis], "an index is out of bounds")
        axis += width
    _check_bounds(cp, pairs)
    return a[tuple(parts)]


def _index(cp: Any, part: Any) -> Any:
    """Return a part of a key, on the device if it is a list of ints."""
    if type(part) is list and part and all(type(item) is int for item in part):
        return cp.asarray(numpy.array(part, numpy.intp))
    return part


def _axes(cp: Any, part: Any) -> int:
    """Return how many axes a part of a key takes."""
    if part is None or part is Ellipsis:
        return 0
    if isinstance(part, cp.ndarray):
        return part.ndim if part.dtype.kind == "b" else 1
    if type(part) is slice or type(part) is int or isinstance(part, numpy.integer):
        return 1
    raise Declined("an index of another type")


@serves("take", "ndarray.take", dtypes=ANY, results="=")
def take(cp: Any, a: Any, indices: Any, axis: Any = None, *, mode: Any = "raise") -> Any:
    """Serve :func:`numpy.take` by an array."""
    _array(cp, a)
    need(isinstance(indices, cp.ndarray), "indices are no array")
    need(axis is None or (type(axis) is int and -a.ndim <= axis < a.ndim), "no such axis")
    need(mode == "raise", "a mode other than 'raise'")
    _check_bounds(cp, [(indices, a.size if axis is None else a.shape[axis])])
    return cp.take(a, indices, axis)


@serves("take_along_axis", dtypes=ANY, results="=")
def take_along_axis(cp: Any, arr: Any, indices: Any, axis: Any) -> Any:
    """Serve :func:`numpy.take_along_axis` of shapes that differ along the axis alone."""
    _array(cp, arr)
    need(type(axis) is int and -arr.ndim <= axis < arr.ndim, "no such axis")
    need(isinstance(indices, cp.ndarray) and indices.ndim == arr.ndim, "indices of other axes")
    ours, theirs = list(arr.shape), list(indices.shape)
    extent = ours[axis]
    ours[axis] = theirs[axis] = 1
    need(ours == theirs, "operands are broadcast")
    _check_bounds(cp, [(indices, extent)])
    return cp.take_along_axis(arr, indices, axis)


@serves("nonzero", "ndarray.nonzero", "where", dtypes=ANY, results="i")
def nonzero(cp: Any, a: Any, /) -> Any:
    """Serve :func:`numpy.nonzero`, and :func:`numpy.where` of a condition alone."""
    _array(cp, a)
    return tuple(cp.nonzero(a))


@serves("flatnonzero", dtypes=ANY, results="i")
def flatnonzero(cp: Any, a: Any) -> Any:
    """Serve :func:`numpy.flatnonzero`."""
    _array(cp, a)
    return cp.flatnonzero(a)


@serves("argwhere", dtypes=ANY, results="i")
def argwhere(cp: Any, a: Any) -> Any:
    """Serve :func:`numpy.argwhere`."""
    _array(cp, a)
    return cp.argwhere(a)
