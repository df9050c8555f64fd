"""Counts: of integers, of numbers by bins, and of what is there at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr.face.scans_errors import heard, strict
from dispatcharr.face.scans_lookups import is_plain, steps_of
from dispatcharr.kernels.scan import Crew, Key
from dispatcharr.kernels.scan_counting import Bins
from dispatcharr.kernels.scan_parts import (
    bin_sums,
    bins,
    edge_counts,
    extremes,
    mask_keys,
    occurrences,
    search,
    taken,
)
from dispatcharr.route.scans import Scan

__all__ = ["ROADS"]

#: Counts per element beyond which a table of them is not made for each thread.
_WIDE = 4
#: Most bins: kernels number them in 32 bits.
_MOST_BINS = 1 << 24
#: Steps of a search in whose time NumPy sorts an element in its block, and an element is counted.
_SORTING, _COUNTING = 8.0, 4.0
#: Elements that are looked at to see whether many differ.
_SAMPLE = 4096


def _bincount(x: Any, /, weights: Any = None, minlength: Any = 0) -> Scan | None:
    if not is_plain(x) or x.ndim != 1 or x.dtype.kind not in "biu" or x.dtype.char in "LQ":
        return None
    if weights is not None or type(minlength) is not int or minlength < 0:
        return None

    def compute(crew: Crew) -> numpy.ndarray | None:
        least, most = extremes(crew, x)
        size = max(int(most) + 1, minlength)
        if int(least) < 0 or size > _WIDE * max(x.size, 1 << 12):
            return None
        return occurrences(crew, x, size)

    return Scan(
        "bincount", x.dtype, x.size, 2 * x.nbytes, (Key("bincount", (x.dtype,)),), compute,
        ("counts of", x.dtype),
    )  # fmt: skip


@dataclass(slots=True)
class _Histogram:
    """A histogram with bins of the same width.

    Attributes
    ----------
    values : numpy.ndarray
        Of one axis.
    count : int
        How many bins.
    range : tuple or None
        As given.
    weights : numpy.ndarray or None
        Of one axis.
    density : bool
        Whether counts are to be divided by the width of bins and by their sum.
    """

    values: numpy.ndarray
    count: int
    range: Any
    weights: numpy.ndarray | None
    density: Any

    def compute(self, crew: Crew) -> tuple[numpy.ndarray, numpy.ndarray] | None:
        """Return NumPy's result, None where NumPy is to compute it."""
        watched = heard()
        try:
            with strict():
                return self._computed(crew, watched)
        except FloatingPointError:
            return None

    def _computed(
        self, crew: Crew, watched: frozenset[str]
    ) -> tuple[numpy.ndarray, numpy.ndarray] | None:
        low, high = self.range if self.range is not None else extremes(crew, self.values)
        if (
            self.range is None
            and not low
            and numpy.signbit(low) != numpy.signbit(self.values.min())
        ):
            return None  # of two zeros, NumPy's own choice
        if not (numpy.isfinite(low) and numpy.isfinite(high)) or not low <= high:
            return None
        # NumPy makes the edges, of what it would find in the whole array.
        ends = numpy.array([low, high], self.values.dtype) if self.range is None else \
            self.values[:1]  # fmt: skip
        try:
            edges = numpy.histogram_bin_edges(ends, self.count, self.range)
        except ValueError:
            return None
        if low == high:
            low, high = low - 0.5, high + 0.5
        form, numbers = self._form(low, high, edges)
        if self.weights is None:
            total = bins(crew, form, self.values, edges, numbers, watched)
        else:
            total = bin_sums(crew, form, self.values, self.weights, edges, numbers, watched)
        if total is None:
            return None
        if not self.density:
            return total, edges
        widths = numpy.array(numpy.diff(edges), float)
        return total / widths / total.sum(), edges

    def foreseen(self) -> Bins | None:
        """Return the types that NumPy computes with, None where there is no kernel for them."""
        kind = self.values.dtype.type
        low, high = (kind(0), kind(1)) if self.range is None else self.range
        ends = numpy.array([0, 1], kind)
        try:
            with strict():
                edges = numpy.histogram_bin_edges(ends, self.count, self.range)
                form, _ = self._form(low, high, edges)
        except (ValueError, ArithmeticError):
            return None
        both = form.compared, form.edges, form.less, form.share
        return form if all(char in "fd" for char in both) else None

    def _form(self, low: Any, high: Any, edges: numpy.ndarray) -> tuple[Bins, numpy.ndarray]:
        """Return the types that NumPy computes with, and the numbers."""
        values = self.values
        compared = numpy.result_type(values, low)
        if values.dtype.kind in "iu":
            compared = numpy.dtype(float)
        stand_in = numpy.zeros(1, edges.dtype)
        less = numpy.result_type(stand_in, low)
        width = _less(high, low)
        share = (numpy.zeros(1, less) / width).dtype
        form = Bins(
            values.dtype.char, compared.char, edges.dtype.char, less.char, share.char,
            "" if self.weights is None else self.weights.dtype.char,
        )  # fmt: skip
        numbers = numpy.zeros(5)
        kinds = (compared, compared, less, share, share)
        for place, number in enumerate((low, high, low, width, self.count)):
            numbers[place : place + 1].view(kinds[place])[0] = number
        return form, numbers


def _less(high: Any, low: Any) -> Any:
    """Return the width of all bins as NumPy computes it, without sign where it has none."""
    dtype = numpy.result_type(low, high)
    unsigned = {"b": "B", "h": "H", "i": "I", "l": "L", "q": "Q"}.get(dtype.char)
    if unsigned is None:
        return numpy.subtract(high, low, dtype=dtype)
    return numpy.subtract(
        numpy.asarray(high, dtype), numpy.asarray(low, dtype), casting="unsafe", dtype=unsigned
    )


def _histogram(
    a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> Scan | None:
    if type(a) is not numpy.ndarray or a.dtype.kind == "b":
        return None
    if type(bins) is numpy.ndarray and range is None and weights is None:
        return _between(a, bins, density)
    if type(bins) is not int:
        return None
    flat = a.ravel()  # a copy where it is not contiguous, as NumPy's
    if not is_plain(flat) or not 0 < bins < _MOST_BINS or 8 * bins > 4 * flat.nbytes:
        return None
    if flat.dtype.kind in "iu" and flat.dtype.itemsize == 8 and range is not None:
        return None  # not all of them are floats, in which they are compared
    if range is not None and not _is_range(range):
        return None
    if not (density is None or type(density) is bool) or not _are_weights(weights, a):
        return None
    made = _Histogram(flat, bins, range, None if weights is None else weights.ravel(), density)
    form = made.foreseen()
    if form is None:
        return None
    name = "bins" if weights is None else "weighted bins"
    return Scan(
        name, flat.dtype, flat.size, 2 * flat.nbytes, (Key("bins", (form,)),), made.compute,
        ("counts of", flat.dtype, "in bins of one width"),
    )  # fmt: skip


def _are_weights(weights: Any, a: numpy.ndarray) -> bool:
    """Return whether weights, if there are any, are numbers, one for each element of ``a``."""
    if weights is None:
        return True
    if type(weights) is not numpy.ndarray or weights.shape != a.shape:
        return False
    return weights.dtype.kind != "b" and is_plain(weights.ravel())


def _between(a: numpy.ndarray, edges: numpy.ndarray, density: Any) -> Scan | None:
    """Return the road of a histogram between edges that are given."""
    flat = a.ravel()
    if not (is_plain(flat) and is_plain(edges)) or edges.ndim != 1 or edges.dtype != flat.dtype:
        return None
    # What does not ascend, and NaN, is for NumPy, and so is what it divides by.
    if edges.size < 2 or not edges.flags.c_contiguous or not (edges[:-1] <= edges[1:]).all():
        return None
    if density is not None and density is not False:
        return None
    key, counted = Key("search", (flat.dtype, "right")), Key("bincount", (numpy.dtype("q"),))

    def compute(crew: Crew) -> tuple[numpy.ndarray, numpy.ndarray]:
        return edge_counts(crew, key, flat, edges), edges

    return Scan(
        "search", flat.dtype, flat.size, 2 * flat.nbytes, (key, counted), compute,
        ("counts of", flat.dtype, "between edges"), steps=steps_of(edges.size) + _COUNTING,
        numpy_steps=_SORTING,
    )  # fmt: skip


def _is_range(given: Any) -> bool:
    if type(given) not in (tuple, list) or len(given) != 2:
        return False
    low, high = given
    if not (type(low) in (int, float) and type(high) in (int, float)):
        return False
    return bool(numpy.isfinite(low) and numpy.isfinite(high) and low < high)


def _unique(
    ar: Any, return_index: Any = False, return_inverse: Any = False, return_counts: Any = False,
    axis: Any = None, **more: Any,
) -> Scan | None:  # fmt: skip
    if not is_plain(ar) or ar.dtype.kind not in "iu" or ar.dtype.char in "LQ":
        return None
    if return_index is not False or axis is not None:
        return None
    flags = type(return_inverse), type(return_counts)
    if flags != (bool, bool) or more.keys() - {"equal_nan", "sorted"}:
        return None
    if more.get("sorted", True) is not True:
        return None  # their order is that of NumPy's table
    flat = ar.reshape(-1)
    keys: tuple[Key, ...] = (
        Key("bincount", (flat.dtype,)),
        *mask_keys(numpy.dtype(numpy.int64), None),
    )

    ranked = Key("search", (flat.dtype, "left"))
    if return_inverse:
        keys = (*keys, ranked)

    def compute(crew: Crew) -> Any:
        least, most = (int(end) for end in extremes(crew, flat))
        if most - least < _WIDE * flat.size:
            values, total = _present(crew, flat, least, most - least + 1)
            made = [values]
            if return_inverse:
                # A view, as NumPy's.
                made.append(numpy.empty(flat.size, numpy.intp).reshape(ar.shape))
                search(crew, ranked, flat, values, made[1])
            if return_counts:
                made.append(total)
            return tuple(made) if len(made) > 1 else values
        is_left = return_inverse or return_counts or not _are_many(flat)
        return None if is_left else _distinct(numpy.sort(flat))

    return Scan(
        "unique", ar.dtype, ar.size, 2 * ar.nbytes, keys, compute, ("what there is of", ar.dtype)
    )


def _present(
    crew: Crew, flat: numpy.ndarray, least: int, size: int
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return which integers there are, from ``least`` on, and how often each is."""
    total = occurrences(crew, flat, size, least)
    found = taken(crew, total, None)
    return (found + least).astype(flat.dtype), total[found]


def _are_many(flat: numpy.ndarray) -> bool:
    """Return whether most elements seem to differ: NumPy's table of them is slow then."""
    sample = flat[:: max(flat.size // _SAMPLE, 1)]
    return len(numpy.unique(sample)) * 2 > len(sample)


def _distinct(ordered: numpy.ndarray) -> numpy.ndarray:
    """Return sorted elements, each once."""
    mask = numpy.empty(ordered.size, bool)
    mask[0] = True
    numpy.not_equal(ordered[1:], ordered[:-1], out=mask[1:])
    return ordered[mask]


ROADS: Mapping[str, Callable[..., Scan | None]] = {
    "bincount": _bincount, "histogram": _histogram,
    "unique": _unique,
}  # fmt: skip
