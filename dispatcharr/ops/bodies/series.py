"""Exponentials and logarithms as polynomials, written into the loop that needs them.

A call, even one for a whole vector, keeps a loop from overlapping the work on one vector with that
on the next, and there is none where the C library has no SIMD variants. So the functions that
programs use most are a few dozen instructions here, without a branch and without a table:

- ``exp(x) = 2**k * exp(r)`` with ``x = k * log(2) + r`` (Cody and Waite, 1980);
- ``log(x) = k * log(2) + log(1 + f)`` with ``x = 2**k * (1 + f)``, by an odd series in
  ``s = f / (2 + f)``, as in Sun's fdlibm (1993);
- the polynomials of both are interpolations in Chebyshev nodes, made by ``tools/polynomials.py``.

They are good to about one unit in the last place, with fused multiply-add or without. No
instruction raises a flag for an argument that NumPy would not report, other than underflow and
inexact; ranges are tested on bits, because comparisons would report NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from dispatcharr.ops.bodies.float_bits import (
    bias,
    bits_of,
    float_of,
    fma,
    least,
    polynomial,
    size_of,
    unsigned_of,
)
from dispatcharr.ops.bodies.writing import Kind, Value, integer

__all__ = ["exp", "exp2", "expm1", "log", "parts_of", "power_of_two", "tanh"]


@final
@dataclass(frozen=True, slots=True)
class _Constants:
    """What depends on the format.

    Attributes
    ----------
    high, low : float
        The logarithm of two in two parts, of which a product of the first with any exponent is
        exact.
    exponential : tuple of float
        Of ``(exp(r) - 1 - r) / r**2`` for ``abs(r) <= 0.51 * log(2)``, the constant one first.
    logarithm : tuple of float
        Of ``(log(1 + f) / s - 2) / s**2`` in ``s**2``, from the square root of one half to that of
        two.
    exp_end, expm1_end, tanh_end : float
        Arguments that are as good as all larger ones: their results overflow, or are one.
    expm1_start : float
        An argument that is as good as all lower ones: its result is -1.
    """

    high: float
    low: float
    exponential: tuple[float, ...]
    logarithm: tuple[float, ...]
    exp_end: float
    expm1_end: float
    expm1_start: float
    tanh_end: float


_OF = {
    64: _Constants(
        0.6931471805598903, 5.497923018708371e-14,
        (0.5000000000000001, 0.16666666666666669, 0.041666666666616864, 0.008333333333329503,
         0.0013888888920770123, 0.00019841269865788537, 2.4801515879478315e-05,
         2.7557264294679126e-06, 2.762261407861969e-07, 2.5102327723609146e-08),
        (0.666666666666667, 0.3999999999989945, 0.2857142862600145, 0.222222111305579,
         0.1818288943391754, 0.1533171134232183, 0.14616576467144007),
        exp_end=800.0, expm1_end=710.0, expm1_start=-60.0, tanh_end=20.0,
    ),
    32: _Constants(
        0.693145751953125, 1.4286068203094173e-06,
        (0.5, 0.16666569628115477, 0.04166654542109553, 0.008364380693291068,
         0.0013927684616575004),
        (0.6666668504479526, 0.3998877843237297, 0.2958004620309564),
        exp_end=120.0, expm1_end=89.0, expm1_start=-30.0, tanh_end=10.0,
    ),
}  # fmt: skip


# -- exponentials --------------------------------------------------------------------------------


def _rounder(kind: Kind, more: int) -> float:
    """Return what, added to a float of moderate size, leaves no bits behind the point.

    The low bits of the sum are then an integer, to which ``more`` is added.
    """
    return 1.5 * 2.0**kind.fraction + more


def _reduced(x: Value, more: int) -> tuple[Value, Value, Value]:
    """Return ``x - k * log(2)``, what it is rounded by, and ``k + more`` in low bits."""
    of, rounder = _OF[x.kind.bits], _rounder(x.kind, more)
    shifted = fma(x, 1 / math.log(2), rounder)
    minus = x.like(rounder) - shifted
    nearly = fma(minus, of.high, x)
    r = fma(minus, of.low, nearly)
    return r, fma(minus, of.low, nearly - r), shifted.bits()


def _scaled(near_zero: Value, shifted: Value) -> Value:
    """Return ``(1 + near_zero) * 2**k`` in two steps: results may be subnormal or infinite.

    ``shifted`` is ``k`` plus twice the bias in the low bits: each half is the exponent of a float.
    """
    fraction = near_zero.kind.fraction
    half = (shifted << (fraction - 1)) & -(1 << fraction)
    first, rest = float_of(half), float_of((shifted << fraction) - half)
    return fma(first, near_zero, first) * rest


def _exponential(x: Value, compute: Callable[[Value], Value], end: float) -> Value:
    """Return the exponential that ``compute`` knows for arguments up to ``end``, for all."""
    size = size_of(x)
    unusual = size >= bits_of(x.kind, math.inf)  # infinities report nothing, nor does NaN
    clamped = float_of(least(size, bits_of(x.kind, end))).copysign(x)
    computed = compute(unusual.choose(0.0, clamped))
    return unusual.choose(x.bits().eq(bits_of(x.kind, -math.inf)).choose(0.0, x), computed)


def exp(x: Value) -> Value:
    """Return the rule's ``e**x``."""
    of = _OF[x.kind.bits]

    def compute(x: Value) -> Value:
        r, _, shifted = _reduced(x, 2 * bias(x.kind))
        square = r * r
        return _scaled(fma(square, polynomial(r, of.exponential, square), r), shifted)

    return _exponential(x, compute, of.exp_end)


def power_of_two(x: Value, rest: Value | None = None) -> Value:
    """Return ``2**(x + rest)`` for an ``x`` of moderate size and a ``rest`` far smaller."""
    of, log2 = _OF[x.kind.bits], math.log(2)
    coefficients = tuple(c * log2 ** (i + 2) for i, c in enumerate(of.exponential))
    rounder = _rounder(x.kind, 2 * bias(x.kind))
    shifted = x + rounder
    f = x - (shifted - rounder)
    if rest is not None:
        f = f + rest
    square = f * f
    near_zero = fma(f, log2, square * polynomial(f, coefficients, square))
    return _scaled(near_zero, shifted.bits())


def exp2(x: Value) -> Value:
    """Return the rule's ``2**x``."""
    return _exponential(x, power_of_two, _OF[x.kind.bits].exp_end / math.log(2))


def _expm1(x: Value, scale: float) -> tuple[Value, Value]:
    """Return ``scale * (e**x - 1)`` in two parts, for a power of two and where that is finite.

    What roundings have lost tells in the last place of float64, where steps are fused.
    """
    kind = x.kind
    r, lost, shifted = _reduced(x, bias(kind) + int(math.log2(scale)))
    square = r * r
    series = polynomial(r, _OF[kind.bits].exponential, square)
    power = float_of(shifted << kind.fraction)
    whole = power - scale
    high = fma(power, r, whole)
    if kind.bits == 32:
        return high, power * (square * series)
    return high, fma(power, fma(square, series, lost), fma(power, r, whole - high))


def expm1(x: Value) -> Value:
    """Return the rule's ``e**x - 1``; half of it first, since ``2**k`` may be too large."""
    kind, of, bits, size = x.kind, _OF[x.kind.bits], x.bits(), size_of(x)
    tiny = bits_of(kind, 2.0 ** (-kind.fraction - 2))
    usual = (size - tiny).to(integer(kind.bits, signed=False)) < bits_of(kind, math.inf) - tiny
    usual = usual | bits.eq(bits_of(kind, -math.inf))
    below = least(bits, bits_of(kind, of.expm1_end)).to(integer(kind.bits, signed=False))
    start = bits_of(kind, of.expm1_start) & ((1 << kind.bits) - 1)
    high, low = _expm1(usual.choose(float_of(least(below, start)), 0.0), 0.5)
    return usual.choose((high + low) * 2.0, x)


def tanh(x: Value) -> Value:
    """Return the rule's hyperbolic tangent, by ``t / (t + 2)`` with ``t = expm1(2 * abs(x))``.

    The quotient is corrected by what the steps before it have lost.
    """
    size = size_of(x)
    most = float_of(least(size, bits_of(x.kind, _OF[x.kind.bits].tanh_end)))
    high, low = _expm1(most + most, 1.0)
    t = high + low
    low = (high - t) + low
    below = t + 2.0
    inverse = x.like(1.0) / below
    quotient = t * inverse
    left = fma(-quotient, below, t)
    left = fma(-quotient, t - (below - 2.0), left)
    left = fma(-quotient, low, low) + left
    made = fma(left, inverse, quotient).copysign(x)
    return (size > bits_of(x.kind, math.inf)).choose(x, made)


# -- logarithms ----------------------------------------------------------------------------------


def parts_of(x: Value, subnormal: bool = True) -> tuple[Value, Value]:
    """Return ``k``, and ``f`` between the roots of one half and two less one.

    ``x``, positive and finite, is ``2**k * (1 + f)``. Of others ``k`` and ``f`` are small numbers.
    """
    kind, scaled = x.kind, unsigned_of(x)
    root, one = bits_of(kind, math.sqrt(0.5)), 2.0**kind.fraction
    offset = x.like(one + bias(kind))
    if subnormal:
        is_subnormal, extra = scaled < 1 << kind.fraction, kind.fraction + 2
        offset = is_subnormal.choose(one + bias(kind) + extra, offset)
        scaled = unsigned_of(x * is_subnormal.choose(2.0**extra, x.like(1.0)))
    shifted = scaled + (bits_of(kind, 1.0) - root)
    k = float_of((shifted >> kind.fraction) | bits_of(kind, one)) - offset
    return k, float_of((shifted & ((1 << kind.fraction) - 1)) + root) - 1.0


def log(x: Value) -> Value:
    """Return the rule's natural logarithm.

    The one division also makes the special values: -1/0, 0/0, and infinity or NaN by zero.
    """
    kind, of, unsigned = x.kind, _OF[x.kind.bits], unsigned_of(x)
    infinity = bits_of(kind, math.inf)
    ordinary = (unsigned - 1) < infinity - 1
    negative = (unsigned - ((1 << kind.bits - 1) + 1)) < infinity
    k, f = parts_of(x)
    upper = ordinary.choose(f, negative.choose(0.0, x - 1.0))
    s = upper / ordinary.choose(f + 2.0, 0.0)
    # As 2 * s is f - s * f, what is taken from f is small, and so is its error.
    z = s * s
    less = fma(s, fma(-z, polynomial(z, of.logarithm), f), -(k * of.low))
    return fma(k, of.high, f - less)
