"""What a reduction should be, in more digits than the dtype has, and how far from it NumPy is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from answers import Close

#: Units in the last place of the result's size that a sum may always be off.
FEW = 4
_WIDE = {"c": numpy.clongdouble}


def _moments(a: Any, present: Any, axis: Any, ddof: float) -> tuple[Any, Any]:
    count = present.sum(axis=axis, keepdims=True)
    mean = numpy.where(present, a, 0).sum(axis=axis, keepdims=True) / count
    gap = numpy.where(present, a - mean, 0)
    variance = (gap * gap.conj()).real.sum(axis=axis) / (present.sum(axis=axis) - ddof)
    return mean, variance


def reference(name: str, a: numpy.ndarray, axis: Any, ddof: float) -> tuple[Any, Any]:
    """Return a float reduction in extended precision, and the size to measure its error by."""
    wide = a.astype(_WIDE.get(a.dtype.kind, numpy.longdouble))
    present = ~numpy.isnan(wide) if name.startswith("nan") else numpy.ones(a.shape, bool)
    kind = name.removeprefix("nan")
    if kind in ("var", "std"):
        _, variance = _moments(wide, present, axis, ddof)
        found = variance if kind == "var" else numpy.sqrt(variance)
        return found, found
    if kind == "prod":
        found = numpy.where(present, wide, 1).prod(axis=axis)
        # The error of a product grows with the number of factors.
        return found, abs(found) * max(a.size, 1)
    values = numpy.where(present, wide, 0)
    found, size = values.sum(axis=axis), abs(values).sum(axis=axis)
    if kind == "mean":
        count = present.sum(axis=axis)
        return found / count, size / count
    return found, size


def no_worse(name: str, a: numpy.ndarray, axis: Any, ddof: float, dtype: numpy.dtype[Any]) -> Close:
    """Return what checks that an answer is as near to the truth as NumPy's, or close to it."""
    with numpy.errstate(all="ignore"):
        exact, size = reference(name, a, axis, ddof)
    few = FEW * (4 if name.endswith(("var", "std")) else 1)
    unit = few * float(numpy.finfo(dtype).eps)

    def compare(got: numpy.ndarray, wanted: numpy.ndarray) -> str | None:
        with numpy.errstate(all="ignore"):
            truth = numpy.broadcast_to(numpy.reshape(exact, got.shape), got.shape)
            scale = numpy.reshape(numpy.abs(size), got.shape)
            off, theirs = numpy.abs(got - truth), numpy.abs(wanted - truth)
            finite = numpy.isfinite(wanted) & numpy.isfinite(truth)
            # Of many sums each is rounded its own way, so NumPy's worst error is the measure; twice
            # that, since of as many errors of one kind now one and now another is the largest.
            worst = numpy.max(2 * theirs / scale, where=finite & (scale > 0), initial=unit)
            bad = finite & ~(off <= worst * scale)
            same = (got == wanted) | (numpy.isnan(got) & numpy.isnan(wanted))
            bad |= ~finite & ~same
        if not bad.any():
            return None
        at = tuple(int(i) for i in numpy.argwhere(bad)[0])
        return (
            f"{int(bad.sum())} of {bad.size} elements; at {at}: {got[at]!r}, not {wanted[at]!r};"
            f" off by {float(off[at] / scale[at]):.3g} of its size, NumPy by"
            f" {float(theirs[at] / scale[at]):.3g}"
        )

    return compare


def exact_sum(values: numpy.ndarray) -> float:
    """Return the correctly rounded sum of float64 values."""
    return math.fsum(values.ravel().tolist())


Reference = Callable[..., tuple[Any, Any]]
