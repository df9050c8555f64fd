"""Rules that work on the exponent and the bits of a float: ldexp, nextafter, spacing."""

from __future__ import annotations

import math

from dispatcharr.ops.bodies.arithmetic import quiet
from dispatcharr.ops.bodies.writing import DOUBLE, FLOAT, Value, integer

__all__ = ["ldexp", "nextafter", "spacing"]


def ldexp(x: Value, exponent: Value) -> Value:
    """Return ``x`` times two to the power of ``exponent``, rounded once."""
    limit = 2200
    low = (exponent < -limit).choose(exponent.like(-limit), exponent)
    power = (low > limit).choose(low.like(limit), low).to(integer(64))
    if x.kind == FLOAT:  # float64 holds all that is not too large or too small for float32
        return (x.to(DOUBLE) * _power_of_two(_within(power, 800))).to(FLOAT)
    value = x
    for _ in range(2):
        high, deep = power > 1023, power < -1022
        # Going down stays off the subnormal numbers, which would round twice.
        factor = high.choose(x.like(2.0**1023), deep.choose(x.like(2.0**-969), 1.0))
        power = power - high.choose(power.like(1023), deep.choose(power.like(-969), 0))
        value = value * factor
    return value * _power_of_two(_within(power, 1022))


def _within(x: Value, limit: int) -> Value:
    x = (x < -limit).choose(x.like(-limit), x)
    return (x > limit).choose(x.like(limit), x)


def _power_of_two(exponent: Value) -> Value:
    return ((exponent + 1023) << 52).as_float(DOUBLE)


def _step(x: Value, outwards: Value) -> Value:
    """Return the next float further from zero, or nearer to it, and report what NumPy reports."""
    fraction = x.kind.fraction
    bits = x.bits()
    top = (((1 << (x.kind.bits - 1 - fraction)) - 1) << fraction) - 1
    size = bits & ((1 << (x.kind.bits - 1)) - 1)
    after = (bits + outwards.choose(bits.like(1), -1)).as_float(x.kind)
    # Beyond the largest float: a sum that overflows.
    after = (outwards & size.eq(top)).choose(x + x, after)
    # Below the smallest normal one: a square that underflows. It is no result of its own.
    tiny = after.fabs().eq(0.0) | ((after.bits() >> fraction) & (top >> fraction)).eq(0)
    square = tiny.choose(after, 1.0) * tiny.choose(after, 1.0)
    return square.eq(after).choose(square.copysign(after), after)


def _smallest(sign: Value) -> Value:
    """Return the smallest float of a sign, and report underflow."""
    tiny = sign.like(0.0).bits().like(1).as_float(sign.kind).copysign(sign)
    square = tiny * tiny
    return square.eq(tiny).choose(square, tiny)


def nextafter(x: Value, to: Value) -> Value:
    """Return the next float from ``x`` on the way to ``to``."""
    both, a, b = quiet(x, to)
    outwards = (a < b) ^ (x.bits() < 0)
    moved = x.eq(0.0).choose(_smallest(to), _step(x, outwards))
    return both.choose(x.eq(to).choose(to, moved), x + to)


def spacing(x: Value) -> Value:
    """Return the distance to the next float away from zero, with the sign of ``x``."""
    always = x.bits().eq(x.bits())
    distance = _step(x, always) - x
    at_zero = _smallest(x.fabs())
    finite = x.eq(0.0).choose(at_zero, distance)
    infinite = x.fabs().eq(math.inf)
    return infinite.choose(x.like(math.nan), x.isnan().choose(x, finite))
