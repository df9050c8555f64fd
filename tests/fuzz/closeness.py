"""How near results must be to NumPy's, and how errors travel from operands to results.

Every value of a program has a level: 0 where its bits are NumPy's, else the units in the last place
that it may be off by, and ``UNKNOWN`` where nothing is promised any more, because an operation can
turn a small difference of its operands into a large one. The rules:

=========== =======================================================================================
same        the bits of NumPy's for the same operands
move        elements are moved, chosen or negated: the level stays
near        promised to some units, for operands of level 0
zeros       which of two equal zeros is taken may differ
product     bits for real numbers; complex products are rounded in two ways by NumPy itself
quotient    bits; errors of the operands add up
size        a sum: its error is measured by the sum of the magnitudes
unknown     nothing is promised of the values, but all else is compared
=========== =======================================================================================
"""

from __future__ import annotations

import math
from typing import Any

import numpy

UNKNOWN = math.inf
#: Between NumPy's function and another one, each of which is within 4 units of the truth.
NEAR = 8
#: Above this level a value counts as unknown.
_MOST = 64
_BITS = {2: numpy.int16, 4: numpy.int32, 8: numpy.int64}


def level_after(rule: str, levels: list[float], result: Any) -> float:
    """Return the level of ``result`` by its rule and the levels of what was read."""
    worst = max(levels, default=0)
    kind = getattr(getattr(result, "dtype", None), "kind", "")
    if rule == "unknown" or (rule == "size" and kind in "fc"):
        return UNKNOWN
    if rule == "move":
        return worst
    if worst == 0 and kind not in "fc":
        return 0
    if rule == "near":
        return NEAR if worst == 0 and kind else UNKNOWN
    if rule == "zeros":
        return worst if kind not in "fc" or numpy.all(result) else max(worst, 1)
    if rule == "product" and worst == 0:
        return NEAR if kind == "c" else 0
    if rule in ("product", "quotient") and kind == "f" and is_tame(result):
        total = sum(levels) + 1
        return total if worst and total < _MOST else worst
    return 0 if worst == 0 else UNKNOWN


def is_tame(values: Any) -> bool:
    """Return whether no element is near an end of the dtype's range, where units mean less."""
    size = numpy.abs(values)
    info = numpy.finfo(values.dtype)
    return bool(numpy.all((size > info.tiny * 16) & (size < info.max / 16)))


def compare(mine: Any, theirs: Any, level: float) -> str | None:
    """Return the first element that is further from NumPy's than ``level`` allows."""
    if level == UNKNOWN or theirs.size == 0:
        return None
    mine, theirs = numpy.atleast_1d(mine), numpy.atleast_1d(theirs)
    if mine.shape != theirs.shape:
        return f"{mine.shape} instead of {theirs.shape}"
    if theirs.dtype.kind not in "biufc":
        return None if repr(mine.tolist()) == repr(theirs.tolist()) else f"{mine} not {theirs}"
    if theirs.dtype.kind in "biu":
        bad = mine != theirs
    elif level and theirs.dtype.kind == "c":
        bad = ~_near_complex(mine, theirs, level)
    else:
        bad = _distance(mine, theirs) > level
    return tell(mine, theirs, bad) if bad.any() else None


def tell(mine: Any, theirs: Any, bad: Any) -> str:
    """Say which elements differ, and show the first."""
    at = tuple(int(i) for i in numpy.argwhere(bad)[0])
    first = f"{mine[at]!r} instead of {theirs[at]!r}"
    return f"{int(bad.sum())} of {bad.size} elements; at {at}: {first}"


def _near_complex(mine: Any, theirs: Any, level: float) -> Any:
    with numpy.errstate(all="ignore"):
        limit = level * numpy.finfo(theirs.dtype).eps * numpy.abs(theirs)
        limit += level * numpy.finfo(theirs.dtype).smallest_subnormal
        near = numpy.abs(mine - theirs) <= limit
        # The parts of what is not finite depend on the formula; NumPy itself has two.
        return near | ~numpy.isfinite(theirs) & ~numpy.isfinite(mine)


def _distance(mine: Any, theirs: Any) -> Any:
    """Return the distance in units in the last place; any NaN is as good as another."""
    if theirs.dtype.kind == "c":
        parts = _distance(mine.real, theirs.real), _distance(mine.imag, theirs.imag)
        return numpy.maximum(*parts)
    if theirs.dtype.itemsize not in _BITS:
        same = (mine == theirs) | ((mine != mine) & (theirs != theirs))
        return numpy.where(same, 0.0, math.inf)
    integer = _BITS[theirs.dtype.itemsize]
    native = theirs.dtype.newbyteorder("=")
    places = []
    for array in (mine, theirs):
        bits = numpy.ascontiguousarray(array, native).view(integer).reshape(theirs.shape)
        lowest = numpy.iinfo(integer).min
        line = numpy.where(bits < 0, (lowest - bits) - 1, bits).astype(numpy.int64)
        places.append(line.view(numpy.uint64) + numpy.uint64(1 << 63))
    apart = (numpy.maximum(*places) - numpy.minimum(*places)).astype(numpy.float64)
    apart[numpy.isnan(mine) & numpy.isnan(theirs)] = 0.0
    apart[numpy.isnan(mine) != numpy.isnan(theirs)] = math.inf
    return apart


def compare_sums(mine: Any, theirs: Any, scale: Any, count: int) -> str | None:
    """Compare sums of ``count`` elements whose magnitudes add up to ``scale``.

    Sums that overflow on the way in one order and not in another are excused.
    """
    if theirs.size == 0:
        return None
    mine, theirs = numpy.atleast_1d(mine), numpy.atleast_1d(theirs)
    info = numpy.finfo(theirs.dtype)
    with numpy.errstate(all="ignore"):
        scale = numpy.broadcast_to(scale, theirs.shape).astype(info.dtype)
        limit = (8 + 2 * math.sqrt(count)) * info.eps * scale + 8 * info.smallest_subnormal
        near = numpy.abs(mine - theirs) <= limit
        same = (mine == theirs) | (numpy.isnan(mine) & numpy.isnan(theirs))
        if theirs.dtype.kind == "c":
            same |= ~numpy.isfinite(mine) & ~numpy.isfinite(theirs)
        # Of a mean, the scale is that of one element.
        whole = scale.astype(numpy.longdouble) * count
        same |= ~numpy.isfinite(theirs) & (whole >= float(info.max) / 64)
        bad = ~(near | same) & (scale < info.max / 64)
    return tell(mine, theirs, bad) if bad.any() else None


def magnitudes(values: Any) -> Any:
    """Return the magnitudes of ``values``, zero for what is not finite."""
    with numpy.errstate(all="ignore"):
        size = numpy.abs(numpy.asarray(values).astype(numpy.clongdouble).real)
        if numpy.asarray(values).dtype.kind == "c":
            size = size + numpy.abs(numpy.asarray(values).imag)
    return numpy.where(numpy.isfinite(size), size, 0)


def steady(values: Any, start: float) -> bool:
    """Return whether no order of multiplying few ``values`` and ``start`` overflows or vanishes."""
    values = numpy.asarray(values)
    info = numpy.finfo(values.dtype if values.dtype.kind in "fc" else float)
    with numpy.errstate(divide="ignore"):
        doublings = numpy.abs(numpy.log2(magnitudes(values))).sum() + numpy.log2(start)
    return bool(values.size < 100 and doublings < int(info.maxexp) - 2)
