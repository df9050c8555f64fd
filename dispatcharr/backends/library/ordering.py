"""Sorting, searching and counting: Thrust and CUB.

CuPy's sorts are stable. NumPy's default is not, and in what order it names equal elements depends
on the processor; so that one program gives one answer wherever its data are, ``argsort`` is served
where no two elements are equal, or where a stable order was asked for. What ``partition`` leaves on
either side is nobody's promise, and is not served.

Thrust puts NaN of a negative sign, which is what 0/0 gives, before all else: so NaN get a positive
one first.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy

from dispatcharr.backends.library.table import INTEGERS, ORDERED, need, serves

__all__: list[str] = []

_KINDS = (None, "quicksort", "heapsort", "stable", "mergesort")
_STABLE = ("stable", "mergesort")
#: Bins up to which NumPy's first guess of an element's bin is off by one at most.
_MOST_BINS = 1 << 16


def _array(cp: Any, a: Any, axis: Any) -> None:
    need(isinstance(a, cp.ndarray) and a.ndim > 0, "the operand is no array with axes")
    need(axis is None or type(axis) is int, "axis is no int")


def _sortable(cp: Any, a: Any) -> Any:
    return cp.where(cp.isnan(a), a.dtype.type("nan"), a) if a.dtype.kind == "f" else a


@serves("sort", dtypes=ORDERED, results="=")
def sort(
    cp: Any, a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    """Serve :func:`numpy.sort`."""
    _array(cp, a, axis)
    need(order is None and kind in _KINDS, "that kind or order")
    need(stable is None or kind is None, "both kind and stable are given")
    return cp.sort(_sortable(cp, a), axis)


@serves("argsort", "ndarray.argsort", dtypes=ORDERED, results="i")
def argsort(
    cp: Any, a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    """Serve :func:`numpy.argsort`; see the module's docstring."""
    _array(cp, a, axis)
    need(order is None and kind in _KINDS, "that kind or order")
    need(stable is None or kind is None, "both kind and stable are given")
    a = _sortable(cp, a)
    if axis is None:
        a, axis = a.ravel(), 0
    found = cp.argsort(a, axis)
    if not (stable or kind in _STABLE):
        ranked = cp.moveaxis(cp.take_along_axis(a, found, axis), axis, -1)
        left, right = ranked[..., :-1], ranked[..., 1:]
        tied = left == right
        if a.dtype.kind == "f":
            tied |= (left != left) & (right != right)
        need(not bool(tied.any()), "equal elements, whose order NumPy's sort decides")
    return found


@serves("unique", dtypes=ORDERED, results="=iii")
def unique(
    cp: Any,
    ar: Any,
    return_index: Any = False,
    return_inverse: Any = False,
    return_counts: Any = False,
    axis: Any = None,
    *,
    equal_nan: Any = True,
    sorted: Any = True,
) -> Any:
    """Serve :func:`numpy.unique` of all elements."""
    _array(cp, ar, None)
    need(axis is None and sorted is True, "an axis, or an order that is none")
    wanted = (bool(return_index), bool(return_inverse), bool(return_counts))
    return cp.unique(_sortable(cp, ar), *wanted, equal_nan=bool(equal_nan))


@cache
def _tuple(name: str) -> Any:
    return type(getattr(numpy, name)(numpy.zeros(1)))


def _unique(name: str, **wanted: bool) -> None:
    @serves(name, dtypes=ORDERED, results="=iii")
    def run(cp: Any, x: Any, /) -> Any:
        """Serve a function of the array API."""
        _array(cp, x, None)
        return _tuple(name)(*cp.unique(_sortable(cp, x), equal_nan=False, **wanted))


_unique("unique_counts", return_counts=True)
_unique("unique_inverse", return_inverse=True)
_unique("unique_all", return_index=True, return_inverse=True, return_counts=True)


@serves("searchsorted", "ndarray.searchsorted", dtypes=ORDERED, results="i")
def searchsorted(cp: Any, a: Any, v: Any, side: Any = "left", sorter: Any = None) -> Any:
    """Serve :func:`numpy.searchsorted` of arrays of one dtype."""
    _array(cp, a, None)
    need(isinstance(v, cp.ndarray) and v.dtype == a.dtype, "operands of different dtypes")
    need(sorter is None and side in ("left", "right") and a.ndim == 1, "that side or sorter")
    return cp.searchsorted(a, v, side)


@serves("bincount", dtypes=INTEGERS, results="i")
def bincount(cp: Any, x: Any, /, weights: Any = None, minlength: Any = 0) -> Any:
    """Serve :func:`numpy.bincount` without weights."""
    _array(cp, x, None)
    need(weights is None, "weights, which would be added up in no fixed order")
    need(type(minlength) is int and minlength >= 0, "minlength is no whole number")
    need(numpy.can_cast(x.dtype, numpy.intp), "elements that may not fit into indices")
    return cp.bincount(x, minlength=minlength)


@serves("histogram", dtypes="fdbhiBHI", results="i")
def histogram(cp: Any, a: Any, bins: Any = 10, range: Any = None, density: Any = None) -> Any:
    """Serve :func:`numpy.histogram` of a number of equal bins; the edges are NumPy's own."""
    _array(cp, a, None)
    need(type(bins) is int and 0 < bins <= _MOST_BINS, "bins are no whole number, or too many")
    a = a.ravel()
    ends = numpy.array([a.min().item(), a.max().item()], a.dtype)
    need(numpy.isfinite(ends).all() and ends[0] < ends[1], "no range of finite values")
    edges = numpy.histogram_bin_edges(ends, bins, range)
    a = a.astype(edges.dtype, copy=False)
    if range is not None:
        a = a[(a >= edges[0]) & (a <= edges[-1])]
        need(a.size, "no element is in range")
    places = cp.searchsorted(cp.asarray(edges), a, "right") - 1
    counts = cp.asnumpy(cp.bincount(cp.minimum(places, bins - 1), minlength=bins))
    if density:
        widths = numpy.array(numpy.diff(edges), float)
        return counts / widths / counts.sum(), edges
    return counts, edges
