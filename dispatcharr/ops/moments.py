"""Variances: a state is a count, a mean and a sum of squared distances from it.

States are joined by the pairwise update of Chan, Golub and LeVeque (1979), whose rounding error is
of the order of the two-pass formula's.
"""

from __future__ import annotations

from typing import Any

import numpy

__all__ = [
    "deviation", "moments_combine", "moments_partial", "number_of", "says_freedom",
    "some_deviation", "some_moments", "some_variance", "variance",
]  # fmt: skip

Array = numpy.ndarray
State = tuple[Array, ...]


def _squared(gap: Array) -> Array:
    """Square in place: what a block leaves in the cache, a second temporary would push out.

    Of complex numbers it is the distance from zero that is squared.
    """
    if gap.dtype.kind == "c":
        real, imaginary = gap.real, gap.imag
        numpy.square(real, out=real)
        numpy.square(imaginary, out=imaginary)
        distances: Array = numpy.add(real, imaginary)
        return distances
    squares: Array = numpy.square(gap, out=gap)
    return squares


def moments_partial(block: Array, axes: tuple[int, ...], dtype: Any) -> State:
    """Return the moments of a block."""
    count = 1
    for axis in axes:
        count *= block.shape[axis]
    mean = numpy.add.reduce(block, axis=axes, dtype=dtype, keepdims=True) / count
    spread = numpy.add.reduce(_squared(block - mean), axis=axes, keepdims=True)
    return numpy.full(mean.shape, float(count)), mean, spread


def moments_combine(left: State, right: State) -> State:
    """Return the moments of two neighbours."""
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
    return total, joined, spread + more + _squared(gap) * weight


def variance(state: State, count: int, params: dict[str, Any]) -> Array:
    """Return the variance of ``count`` elements, all of which are there."""
    found: Array = state[2] / max(count - params.get("ddof", 0), 0)
    return found


def deviation(state: State, count: int, params: dict[str, Any]) -> Array:
    """Return the standard deviation of ``count`` elements, all of which are there."""
    found: Array = numpy.sqrt(variance(state, count, params))
    return found


def number_of(present: Array, axes: tuple[int, ...]) -> Array:
    """Return how many are ``present``, as floats."""
    if len(axes) == present.ndim:
        return numpy.array(float(numpy.count_nonzero(present)), ndmin=present.ndim)
    counted: Array = numpy.add.reduce(present, axis=axes, dtype=numpy.float64, keepdims=True)
    return counted


def some_moments(block: Array, axes: tuple[int, ...], dtype: Any, present: Array) -> State:
    """Return the moments of the elements that are ``present``."""
    count = number_of(present, axes)
    zero = block.dtype.type(0)
    values = numpy.where(present, block, zero)
    total = numpy.add.reduce(values, axis=axes, dtype=dtype, keepdims=True)
    # In the dtype of the sum: another one would overflow elsewhere than NumPy's, and take longer.
    mean = (total / numpy.maximum(count, 1)).astype(total.dtype, copy=False)
    gap = numpy.where(present, block - mean, zero)
    return count, mean, numpy.add.reduce(_squared(gap), axis=axes, keepdims=True)


def some_variance(state: State, count: int, params: dict[str, Any]) -> Array:
    """Return the variance, NaN where no freedom is left."""
    n, _, spread = state
    freedom = n - params.get("ddof", 0)
    found: Array = spread / numpy.where(freedom <= 0, numpy.nan, freedom)
    return found


def some_deviation(state: State, count: int, params: dict[str, Any]) -> Array:
    """Return the standard deviation, NaN where no freedom is left."""
    found: Array = numpy.sqrt(some_variance(state, count, params))
    return found


def says_freedom(state: State, result: Array, params: dict[str, Any]) -> str | None:
    """Return what NumPy warns of where too few elements are left."""
    few = (state[0] <= params.get("ddof", 0)).any()
    return "Degrees of freedom <= 0 for slice." if few else None
