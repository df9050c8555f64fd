"""Division, remainders and powers.

No SIMD unit divides integers. Those of up to 32 bits go through floats that hold the quotients
exactly, 64-bit ones are multiplied by reciprocals: both vectorise.

NumPy reports integer division by zero, and the smallest number divided by minus one. No integer
instruction sets such a flag, so a float operation is added that does, and the choice between the
quotient and NumPy's stand-in is made by its result: LLVM cannot drop what is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from dispatcharr.ops.bodies.arithmetic import Two, rounding
from dispatcharr.ops.bodies.helpers import fmod_name, power_name
from dispatcharr.ops.bodies.writing import DOUBLE, FLOAT, Value, integer

__all__ = ["floor_divide", "floor_divide_integers", "fmod", "fmod_integers", "power_integers",
           "remainder", "remainder_integers"]  # fmt: skip

_UNSIGNED = integer(64, signed=False)


@final
@dataclass(frozen=True, slots=True)
class _Division:
    """A quotient with its remainder, undefined where one of the two bits is set.

    ``zero`` says that the divisor is zero, ``over`` that the quotient is too large.
    """

    quotient: Value
    rest: Value
    zero: Value
    over: Value


def _divided(a: Value, b: Value, floor: bool, loud: bool) -> _Division:
    """Divide, and round down or, without ``floor``, towards zero.

    Division by zero is reported, with ``loud`` a quotient that is too large also.
    """
    b = b.apart()  # LLVM divides beforehand by divisors that can be but zero and one
    if a.kind.bits == 64:
        return _divided_long(a, b, floor, loud)
    kind, last = FLOAT if a.kind.bits <= 16 else DOUBLE, a.kind.bits - 1
    exact = b.eq(0).choose(a.like(1), a).to(kind) / b.to(kind)
    zero = exact.eq(math.inf)
    over = zero & False
    if a.kind.char == "i":
        over = exact.eq(2.0**last)
        if loud:
            # The one quotient that is too large, made to overflow: all others stay below.
            top = {32: 128, 64: 1024}[kind.bits]
            over = ((exact + 0.5) * 2.0 ** (top - last)).eq(math.inf) & ~zero
    # Kept apart, or LLVM would convert first and choose then, and an infinity be reported.
    safe = (zero | over).choose(exact.like(0.0), exact).apart()
    whole = rounding("floor")(safe) if floor and a.kind.char == "i" else safe
    quotient = whole.to(integer(32) if a.kind.bits < 32 else a.kind).to(a.kind)
    return _Division(quotient, a - quotient * b, zero, over)


def _divided_long(a: Value, b: Value, floor: bool, loud: bool) -> _Division:
    """Divide by a reciprocal, estimated from below, twice.

    The roundings of a float64 product with a reciprocal sum up to 2**-51 of it, so that taking
    2**-50 off leaves the first quotient too small by at most 2**15, the second by one. Where the
    divisor is the same for all elements, the division leaves the loop.
    """
    signed = a.kind.char == "i"
    x, y = _size(a), _size(b)
    reciprocal = y.like(1).to(DOUBLE) / y.to(DOUBLE)
    zero = reciprocal.eq(math.inf)
    factor = zero.choose(reciprocal.like(0.0), reciprocal) * (1 - 2.0**-50)
    first = _whole(x.to(DOUBLE) * factor)
    rest = x - first * y
    second = _whole(rest.to(DOUBLE) * factor)
    rest = rest - second * y
    more = rest >= y
    quotient = first + second + more.choose(y.like(1), 0)
    rest = rest - more.choose(y, 0)
    if not signed:
        return _Division(quotient, rest, zero, zero & False)
    quotient, rest = quotient.to(a.kind), rest.to(a.kind)
    opposite = (a ^ b) < 0
    if floor:
        part = rest.ne(0) & opposite
        quotient = quotient + part.choose(b.like(1), 0)
        rest = part.choose(y.to(a.kind) - rest, rest)
    quotient = opposite.choose(-quotient, quotient)
    rest = ((b if floor else a) < 0).choose(-rest, rest)
    return _Division(quotient, rest, zero, _is_too_large(a, b) if loud else zero & False)


def _size(x: Value) -> Value:
    return ((x < 0).choose(-x, x) if x.kind.char == "i" else x).to(_UNSIGNED)


def _whole(x: Value) -> Value:
    return x.to(_UNSIGNED).freeze()


def _is_too_large(a: Value, b: Value) -> Value:
    """Return whether this is the smallest number divided by minus one, reported as overflow."""
    away = ((a ^ -(1 << 63)) | ~b).to(_UNSIGNED)
    near = (away > 1 << 20).choose(away.like(1 << 20), away).to(DOUBLE)
    half = 2.0**1023
    return ((near.like(half) - near * 2.0**1000) + half).eq(math.inf)


def floor_divide_integers(a: Value, b: Value) -> Value:
    """Return the quotient rounded down; by zero it is zero."""
    made = _divided(a, b, floor=True, loud=True)
    quotient = made.quotient
    if a.kind.char == "i":
        quotient = made.over.choose(a.like(-(1 << (a.kind.bits - 1))), quotient)
    return made.zero.choose(a.like(0), quotient)


def _rest(floor: bool) -> Two:
    def rule(a: Value, b: Value) -> Value:
        made = _divided(a, b, floor, loud=False)
        return (made.zero | made.over).choose(a.like(0), made.rest)

    return rule


remainder_integers, fmod_integers = _rest(floor=True), _rest(floor=False)


def power_integers(base: Value, exponent: Value) -> Value:
    """Return the power, wrapped. NumPy refuses negative exponents before."""
    name = power_name(base.kind)
    base.text.need(name)
    return base.text.call(name, base.kind, [base, exponent])


def fmod(a: Value, b: Value) -> Value:
    """Return the remainder with the sign of ``a``, exact."""
    whole = b.fabs().eq(math.inf)
    bad = ~(a.fabs().ne(math.inf) & a.ordered(b) & b.ne(0.0))
    plain = whole | bad
    name = fmod_name(a.kind)
    a.text.need(name)
    x, y = plain.choose(a.like(0.0), a.fabs()), plain.choose(b.like(1.0), b.fabs())
    rest = a.text.call(name, a.kind, [x, y]).copysign(a)
    nothing = bad.choose(a, 1.0).apart() * bad.choose(b, 1.0)
    return bad.choose(nothing / nothing, whole.choose(a, rest))


def _differ(a: Value, b: Value) -> Value:
    """Return whether a remainder and its divisor have different signs, for Python wrongly."""
    return a.ne(0.0) & ((a.bits() ^ b.bits()) < 0)


def remainder(a: Value, b: Value) -> Value:
    """Return the remainder with the sign of ``b``."""
    rest = fmod(a, b)
    none = rest.eq(0.0).choose(rest.like(0.0).copysign(b), rest)
    return b.eq(0.0).choose(rest, _differ(rest, b).choose(rest + b, none))


def floor_divide(a: Value, b: Value) -> Value:
    """Return the quotient rounded down, by NumPy's steps."""
    zero = b.eq(0.0)
    x, y = zero.choose(a.like(0.0), a).apart(), zero.choose(b.like(1.0), b).apart()
    quotient, rest = a / b, fmod(x, y)
    exact = (x - rest) / y
    exact = _differ(rest, y).choose(exact - 1.0, exact)
    floor = rounding("floor")(exact)
    # Never negative, so that its bits are in order; and they know no NaN.
    half = exact.like(0.5).bits()
    high = (exact - floor).bits() > half
    floor = high.choose(floor + 1.0, floor)
    floor = exact.eq(0.0).choose(exact.like(0.0).copysign(quotient), floor)
    return zero.choose(quotient, floor)
