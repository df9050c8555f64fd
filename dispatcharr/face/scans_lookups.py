"""Look-ups: by position, in sorted arrays, and among the elements of another array."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy

from dispatcharr.kernels.scan import Crew, Key
from dispatcharr.kernels.scan_parts import gather, listed, search
from dispatcharr.route.scans import Scan

__all__ = ["ROADS", "gathered", "is_plain", "steps_of"]

_SIZES = (1, 2, 4, 8, 16)
#: Bytes of a table of truths up to which one is made, and of those per element looked up.
_TABLE, _FACTOR = 1 << 16, 2
#: Steps of NumPy's search in whose time it answers for an element by a table, compares it with one
#: other, and does one step of sorting; and looks into tables that take as long as such a step.
_BY_TABLE, _BY_ONE, _BY_SORTING, _MEMBERS = 0.37, 0.025, 0.7, 2.7
#: Steps of a search that a look-up takes beyond its own, and one of sorting.
_BEYOND, _SORT = 3.0, 4.0
#: Bytes of an array beyond which taking from here and there waits for memory.
_NEAR = 1 << 20


def is_plain(value: Any) -> bool:
    """Return whether a value is an array that kernels can read, of one axis or contiguous."""
    return (
        type(value) is numpy.ndarray
        and (value.dtype.kind in "biu" or value.dtype.char in "fd")
        and value.dtype.isnative
        and value.size > 0
        and value.ndim > 0
        and bool(value.flags.aligned)
        and (value.ndim == 1 or bool(value.flags.c_contiguous))
    )


def gathered(source: Any, index: Any) -> Scan | None:
    """Return the road of ``source[index]`` for one axis, where NumPy checks every position."""
    if not is_plain(index) or index.dtype.kind not in "iu" or type(source) is not numpy.ndarray:
        return None
    if source.ndim != 1 or not source.size or source.itemsize not in _SIZES:
        return None
    if not source.flags.c_contiguous or not index.flags.c_contiguous:
        return None
    if source.dtype.hasobject or source.dtype.kind == "V" or index.dtype.char in "LQ":
        return None

    def compute(crew: Crew) -> numpy.ndarray | None:
        made = numpy.empty(index.shape, source.dtype)
        return made if gather(crew, index.reshape(-1), source, made) else None

    return Scan(
        "gather far" if source.nbytes > _NEAR else "gather", source.dtype, index.size,
        index.nbytes + 2 * index.size * source.itemsize,
        (Key("gather", (index.dtype, source.itemsize)),), compute,
        ("elements of", source.dtype, "at positions of", index.dtype),
    )  # fmt: skip


def _take(
    a: Any, indices: Any, axis: Any = None, out: Any = None, mode: Any = "raise"
) -> Scan | None:
    if out is not None or type(mode) is not str or mode != "raise":
        return None
    if type(a) is not numpy.ndarray:
        return None
    if a.ndim == 1:
        return gathered(a, indices) if axis is None or (type(axis) is int and axis in (0, -1)) \
            else None  # fmt: skip
    return gathered(a.reshape(-1), indices) if axis is None and a.flags.c_contiguous else None


def _searchsorted(a: Any, v: Any, side: Any = "left", sorter: Any = None) -> Scan | None:
    if sorter is not None or type(side) is not str or side not in ("left", "right"):
        return None
    if not (is_plain(a) and is_plain(v)) or a.ndim != 1 or a.dtype != v.dtype:
        return None
    if not a.flags.c_contiguous:
        return None
    if a.dtype.kind == "b":  # NumPy compares their bytes, whatever they are
        a, v = a.view(numpy.uint8), v.view(numpy.uint8)
    key = Key("search", (a.dtype, side))

    def compute(crew: Crew) -> numpy.ndarray:
        made = numpy.empty(v.shape, numpy.intp)
        search(crew, key, v.reshape(-1), a, made)
        return made

    return Scan(
        "search", a.dtype, v.size, v.nbytes + 8 * v.size, (key,), compute,
        ("places of", v.dtype, "in a sorted array"), steps=steps_of(a.size),
    )  # fmt: skip


def steps_of(size: int) -> float:
    """Return how many steps a search among so many elements takes."""
    return max(math.log2(size), 1.0)


def _digitize(x: Any, bins: Any, right: Any = False) -> Scan | None:
    if not is_plain(bins) or bins.ndim != 1 or type(right) is not bool:
        return None
    # NaN, and what decreases, is for NumPy.
    if not bool((bins[1:] >= bins[:-1]).all()) or (bins.size == 1 and bins[0] != bins[0]):
        return None
    return _searchsorted(bins, x, "left" if right else "right")


def _isin(
    element: Any, test_elements: Any, assume_unique: Any = False, invert: Any = False, *,
    kind: Any = None,
) -> Scan | None:  # fmt: skip
    if not (is_plain(element) and is_plain(test_elements)) or type(invert) is not bool:
        return None
    # What NumPy makes of elements that are not unique, though it was told so, is its own.
    if assume_unique is not False or kind is not None or element.dtype.kind == "b":
        return None
    if element.dtype != test_elements.dtype:
        return None
    tests = test_elements.reshape(-1)
    if element.dtype.kind in "iu" and element.dtype.char not in "LQ":
        low, high = int(tests.min()), int(tests.max())
        if high - low < max(_TABLE, _FACTOR * element.size):
            return _by_table(element, tests, low, high - low + 1, invert)
    key = Key("search", (element.dtype, "member"))
    sorting = tests.size * steps_of(tests.size) / element.size

    def compute(crew: Crew) -> numpy.ndarray:
        made = numpy.empty(element.size, bool).reshape(element.shape)  # a view, as NumPy's
        search(crew, key, element.reshape(-1), numpy.sort(tests), made, invert)
        return made

    return Scan(
        "search", element.dtype, element.size, element.nbytes + element.size, (key,), compute,
        ("elements of", element.dtype, "among others"),
        steps=steps_of(tests.size) + _BEYOND + _SORT * sorting,
        numpy_steps=_numpy_steps(element, tests),
    )  # fmt: skip


def _numpy_steps(element: numpy.ndarray, tests: numpy.ndarray) -> float:
    """Return how long NumPy's way takes for an element, in steps of a search."""
    if tests.size < 10 * element.size**0.145:
        return tests.size * _BY_ONE
    if element.dtype.kind in "iu":
        # NumPy's rule for its table, of which it says no more than that it is a rule of thumb.
        if int(tests.max()) - int(tests.min()) <= 6 * (element.size + tests.size):
            return _BY_TABLE
    return _BY_SORTING * steps_of(element.size)


def _by_table(
    element: numpy.ndarray, tests: numpy.ndarray, low: int, size: int, invert: bool
) -> Scan:
    def compute(crew: Crew) -> numpy.ndarray:
        truths = numpy.zeros(size, bool)
        truths[numpy.subtract(tests, low, dtype=numpy.intp)] = True
        made = numpy.empty(element.size, bool).reshape(element.shape)  # a view, as NumPy's
        listed(crew, element.reshape(-1), truths, low, made, invert)
        return made

    return Scan(
        "member", element.dtype, element.size, element.nbytes + element.size + 2 * size,
        (Key("listed", (element.dtype,)),), compute, ("elements of", element.dtype, "in a table"),
        numpy_steps=_numpy_steps(element, tests) * _MEMBERS,
    )  # fmt: skip


ROADS: Mapping[str, Callable[..., Scan | None]] = {
    "take": _take, "ndarray.take": _take, "searchsorted": _searchsorted,
    "ndarray.searchsorted": _searchsorted, "digitize": _digitize, "isin": _isin,
}  # fmt: skip
