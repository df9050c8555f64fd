"""Arithmetic, comparison and choice on integers and floats.

SIMD comparisons of order report NaN as invalid, which NumPy does not: they go through
:func:`quiet`. What NumPy returns for NaN and for zeros of both signs is kept bit for bit.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy

from dispatcharr.ops.bodies.casting import float_to_integer
from dispatcharr.ops.bodies.writing import BIT, BYTE, DOUBLE, FLOAT, Value, integer

Two = Callable[[Value, Value], Value]
One = Callable[[Value], Value]
Asked = Callable[[Any, Any], Any]


def quiet(a: Value, b: Value) -> tuple[Value, Value, Value]:
    """Return whether both floats are numbers, and the two, or zeros if one is NaN."""
    both = a.ordered(b)
    if not a.text.loud:
        return both, a, b
    return both, both.choose(a, 0.0), both.choose(b, 0.0)


def report_nan(x: Value) -> Value:
    """Return whether a float is a number, and report an invalid value if it is not."""
    return x.text.report_nan(x)


def truth(x: Value) -> Value:
    """Return whether a number is not zero."""
    return x.ne(0)


def always(answer: bool) -> One:
    """Return the rule whose result does not depend on the operand."""
    return (lambda x: x.ne(0) | True) if answer else (lambda x: x.ne(0) & False)


def compare(order: Two) -> Two:
    """Return the rule of a comparison of order, for floats."""

    def rule(a: Value, b: Value) -> Value:
        if not a.text.loud:
            return order(a, b)
        both, x, y = quiet(a, b)
        return both & order(x, y)

    return rule


def compare_integers(order: Two, left: bool, right: bool) -> Two:
    """Return the rule of a comparison of integers.

    NumPy compares signed with unsigned ones by value: ``left`` and ``right`` are the result where
    the first, or the second, is below the range of the other.
    """

    def rule(a: Value, b: Value) -> Value:
        if a.kind == b.kind:
            return order(a, b)
        first = a.kind.char == "i"
        below = (a if first else b) < 0
        unsigned = integer(a.kind.bits, signed=False)
        same = order(a.to(unsigned), b.to(unsigned))
        return below | same if (left if first else right) else ~below & same

    return rule


def larger(a: Value, b: Value) -> Value:
    """Return the larger integer."""
    return (a > b).choose(a, b)


def smaller(a: Value, b: Value) -> Value:
    """Return the smaller integer."""
    return (a < b).choose(a, b)


@cache
def _zero_taken(ask: Asked, char: str) -> tuple[bool, bool]:
    """Return the signs of NumPy's answers for 0.0 and -0.0, and for -0.0 and 0.0."""
    zeros = numpy.array([0.0, -0.0] * 64, char)
    signs = numpy.signbit(ask(zeros, -zeros))
    return bool(signs[0]), bool(signs[1])


def extreme(ask: Asked, larger: bool, nan_wins: bool, char: str = "") -> Two:
    """Return the rule of a maximum or minimum of floats.

    Which zero wins depends on NumPy's loops for the machine and the dtype: ``ask`` is called with
    arrays of zeros. ``char`` is that dtype's where the values themselves do not tell.
    """
    strict: Two = operator.gt if larger else operator.lt
    loose: Two = operator.ge if larger else operator.le

    def rule(a: Value, b: Value) -> Value:
        taken = _zero_taken(ask, char or ("f" if a.kind == FLOAT else "d"))
        both, x, y = quiet(a, b)
        best = (loose if taken == (False, True) else strict)(x, y).choose(a, b)
        if taken[0] == taken[1]:  # by the sign: what is equal differs in nothing else
            i, j = a.bits(), b.bits()
            best = x.eq(y).choose((i | j if taken[0] else i & j).as_float(a.kind), best)
        other = a.isnan() if nan_wins else b.isnan()
        return both.choose(best, other.choose(a, b))

    return rule


def clip_above(x: Any, low: Any) -> Any:
    """Return NumPy's maximum within clip, of arrays."""
    return numpy.clip(x, low, numpy.full_like(x, math.inf))


def clip_below(x: Any, high: Any) -> Any:
    """Return NumPy's minimum within clip, of arrays."""
    return numpy.clip(x, numpy.full_like(x, -math.inf), high)


def clip_above_scalar(x: Any, low: Any) -> Any:
    """Return NumPy's maximum within clip, of an array and either zero as scalars."""
    return _by_zero(low, lambda zero: numpy.clip(x, zero, zero.dtype.type(math.inf)))


def clip_below_scalar(x: Any, high: Any) -> Any:
    """Return NumPy's minimum within clip, of an array and either zero as scalars."""
    return _by_zero(high, lambda zero: numpy.clip(x, zero.dtype.type(-math.inf), zero))


def _by_zero(zeros: Any, clipped: Callable[[Any], Any]) -> Any:
    zero = zeros.dtype.type(0.0)
    return numpy.where(numpy.signbit(zeros), clipped(-zero), clipped(zero))


def clip(above: Callable[[Any, Any], Any], below: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Return the rule of clip, made of a maximum and a minimum."""
    return lambda x, low, high: below(above(x, low), high)


def choose(condition: Value, x: Value, y: Value) -> Value:
    """Return ``x`` where the condition holds. Both have been computed, as far as errors go."""
    if x.kind == BIT:
        return condition.choose(x, y)
    return condition.choose(x.apart(), y.apart())


def absolute_integer(x: Value) -> Value:
    """Return the absolute value; the smallest number is its own."""
    return (x < 0).choose(-x, x)


def fabs(x: Value) -> Value:
    """Return the float without its sign."""
    return x.fabs()


def copysign(a: Value, b: Value) -> Value:
    """Return ``a`` with the sign of ``b``."""
    return a.copysign(b)


def sign_integer(x: Value) -> Value:
    """Return -1, 0 or 1."""
    above = (x > 0).choose(x.like(1), 0)
    return (x < 0).choose(x.like(-1), above) if x.kind.char == "i" else above


def sign(x: Value) -> Value:
    """Return -1.0, 0.0 or 1.0, or the NaN given."""
    one = x.eq(0.0).choose(x.like(0.0), x.like(1.0).copysign(x))
    return x.isnan().choose(x, one)


def heaviside(x: Value, at_zero: Value) -> Value:
    """Return 0.0 below zero, 1.0 above, ``at_zero`` there."""
    step = signbit(x).choose(x.like(0.0), 1.0)
    return x.isnan().choose(x, x.eq(0.0).choose(at_zero.apart(), step))


def isfinite(x: Value) -> Value:
    """Return whether a float is neither infinite nor NaN."""
    return x.fabs().ne(math.inf) & x.ordered(x)


def isinf(x: Value) -> Value:
    """Return whether a float is infinite."""
    return x.fabs().eq(math.inf)


def isnan(x: Value) -> Value:
    """Return whether a float is NaN."""
    return x.isnan()


def signbit(x: Value) -> Value:
    """Return whether the sign bit is set."""
    return x.bits() < 0


def rounding(name: str) -> One:
    """Return the rule that rounds by LLVM's function ``name``."""
    return lambda x: x.text.intrinsic(name, x)


def times(above: float, below: float) -> One:
    """Return the rule that multiplies by a ratio, which is rounded as the operand is."""

    def rule(x: Value) -> Value:
        scalar = numpy.float32 if x.kind == FLOAT else numpy.float64
        return x * float(scalar(above) / scalar(below))

    return rule


def reciprocal_integer(x: Value) -> Value:
    """Return 1 // x as NumPy has it: in float64, cut to the integer."""
    return float_to_integer(x.like(1).to(DOUBLE) / x.apart().to(DOUBLE), x.kind)


def reciprocal(x: Value) -> Value:
    """Return one over a float.

    LLVM would divide beforehand where it knows all numbers there can be: it is not told of the one.
    """
    return x.like(1.0).apart() / x


def divide_integers(a: Value, b: Value) -> Value:
    """Return the quotient as a float64."""
    return a.to(DOUBLE) / b.to(DOUBLE)


def _unsigned(x: Value) -> Value:
    return x.to(integer(x.kind.bits, signed=False))


def left_shift(a: Value, b: Value) -> Value:
    """Shift; by the width or more, or by a negative number, gives zero."""
    fits = _unsigned(b) < b.kind.bits
    return fits.choose(a << fits.choose(b, 0), 0)


def right_shift(a: Value, b: Value) -> Value:
    """Shift; by the width or more, or by a negative number, leaves the sign alone."""
    last = a.kind.bits - 1
    if a.kind.char == "i":
        return a >> (_unsigned(b) < last).choose(b, last)
    fits = b < a.kind.bits
    return fits.choose(a >> fits.choose(b, 0), 0)


def bitwise_count(x: Value) -> Value:
    """Return how many bits of the absolute value are set."""
    count = x.text.intrinsic("ctpop", absolute_integer(x) if x.kind.char == "i" else x)
    return count.to(BYTE)
