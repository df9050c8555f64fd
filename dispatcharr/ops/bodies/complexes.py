"""Complex numbers, by the steps that NumPy takes.

A product is rounded as NumPy's own loops on this machine do it, which use fused multiply-add
where the CPU has it: NumPy is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy

from dispatcharr.ops.bodies.arithmetic import One, Two, isinf, quiet, report_nan
from dispatcharr.ops.bodies.arithmetic import isfinite as real_isfinite
from dispatcharr.ops.bodies.functions import called
from dispatcharr.ops.bodies.writing import BIT, Complex, Value

Pair = Callable[[Complex, Complex], Complex]


@cache
def is_fused() -> bool:
    """Return whether NumPy's complex products on this machine are rounded once."""
    tiny = 2.0**-30
    factor = numpy.full(64, complex(1 + tiny, 1.0))
    # (1 + tiny)**2 - 1 loses tiny**2 if the square is rounded before 1 is taken off.
    return bool(numpy.multiply(factor, factor)[0].real != 2 * tiny)


def parts(rule: Two) -> Pair:
    """Return the rule that treats both parts alike."""
    return lambda a, b: Complex(rule(a.real, b.real), rule(a.imag, b.imag))


def truth(a: Complex) -> Value:
    """Return whether a number is not zero."""
    return a.real.ne(0.0) | a.imag.ne(0.0)


def isnan(a: Complex) -> Value:
    """Return whether a part is NaN."""
    return a.real.isnan() | a.imag.isnan()


def either(rule: Callable[[Value], Value]) -> Callable[[Complex], Value]:
    """Return the rule of a predicate that holds if it holds for a part."""
    return lambda a: rule(a.real) | rule(a.imag)


def isfinite(a: Complex) -> Value:
    """Return whether both parts are finite."""
    return real_isfinite(a.real) & real_isfinite(a.imag)


def equal(a: Complex, b: Complex) -> Value:
    """Return whether both parts are equal."""
    return a.real.eq(b.real) & a.imag.eq(b.imag)


def unequal(a: Complex, b: Complex) -> Value:
    """Return whether a part differs."""
    return a.real.ne(b.real) | a.imag.ne(b.imag)


def ordered(order: Two, strict: Two, a: Complex, b: Complex) -> Value:
    """Return whether numbers are in order, without saying anything of NaN."""
    reals, ar, br = quiet(a.real, b.real)
    others, ai, bi = quiet(a.imag, b.imag)
    return reals & others & (strict(ar, br) | (ar.eq(br) & order(ai, bi)))


def compare(order: Two, strict: Two) -> Callable[[Complex, Complex], Value]:
    """Return the rule of a comparison: by the real parts, where they are equal by the others.

    NumPy reports NaN here, as it does not for floats.
    """

    def rule(a: Complex, b: Complex) -> Value:
        numbers = report_nan(a.real) & report_nan(a.imag) & report_nan(b.real) & report_nan(b.imag)
        # Whatever LLVM knows of the order, as that nothing is less than itself, it has to find out
        # where NaN is: what comes of that is hidden from it.
        no = Value(a.real.text, BIT, BIT.literal(0)).apart()
        return numbers.choose(ordered(order, strict, a, b), no)

    return rule


def choose(condition: Value, x: Complex, y: Complex) -> Complex:
    """Return ``x`` where the condition holds."""
    return Complex(condition.choose(x.real, y.real), condition.choose(x.imag, y.imag))


def where(condition: Value, x: Complex, y: Complex) -> Complex:
    """Return ``x`` where the condition holds. Both have been computed, as far as errors go."""
    return choose(condition, each(Value.apart, x), each(Value.apart, y))


def extreme(order: Two, strict: Two, nan_wins: bool) -> Pair:
    """Return the rule of a maximum or minimum: the first operand where they tie."""

    def rule(a: Complex, b: Complex) -> Complex:
        return choose(isnan(a if nan_wins else b) | ordered(order, strict, a, b), a, b)

    return rule


def bound(strict: Two) -> Pair:
    """Return the rule by which clip applies a bound, which wins unless the number is NaN."""

    def rule(a: Complex, b: Complex) -> Complex:
        _, ar, br = quiet(a.real, b.real)
        _, ai, bi = quiet(a.imag, b.imag)
        reals, others = a.real.ordered(b.real), a.imag.ordered(b.imag)
        inside = (reals & strict(ar, br)) | (a.real.eq(b.real) & others & strict(ai, bi))
        return choose(isnan(a) | inside, a, b)

    return rule


def negative(a: Complex) -> Complex:
    """Return both parts negated."""
    return Complex(-a.real, -a.imag)


def conjugate(a: Complex) -> Complex:
    """Return the number with its imaginary part negated."""
    return Complex(a.real, -a.imag)


def multiply(a: Complex, b: Complex) -> Complex:
    """Return the product."""
    minus, plus = a.imag * b.imag, a.imag * b.real
    if not is_fused():
        return Complex(a.real * b.real - minus, a.real * b.imag + plus)
    fma = a.real.text.intrinsic
    return Complex(fma("fma", a.real, b.real, -minus), fma("fma", a.real, b.imag, plus))


def each(rule: One, a: Complex) -> Complex:
    """Return the number whose parts went through ``rule``."""
    return Complex(rule(a.real), rule(a.imag))


def absolute(a: Complex) -> Value:
    """Return the length."""
    return called("hypot")(a.real, a.imag)


def sign(a: Complex) -> Complex:
    """Return the number divided by its length; an infinite part outweighs a finite one."""
    length = absolute(a)
    none, infinite = length.eq(0.0), isinf(length)
    below = none.choose(length.like(1.0), length)
    real, both = isinf(a.real), isinf(a.real) & isinf(a.imag)

    def part(x: Value, leads: Value) -> Value:
        at_infinity = leads.choose(x.like(1.0).copysign(x), 0.0)
        inside = none.choose(x.like(0.0), x / below)
        unclear = both | length.isnan()
        return unclear.choose(x.like(math.nan), infinite.choose(at_infinity, inside))

    return Complex(part(a.real, real), part(a.imag, ~real))


def square(a: Complex) -> Complex:
    """Return the square."""
    return multiply(a, a)


def _is_wide(b: Complex) -> Value:
    """Return whether the real part is the larger. NumPy reports NaN here."""
    numbers = report_nan(b.real) & report_nan(b.imag)
    _, x, y = quiet(b.real.fabs(), b.imag.fabs())
    return numbers & (x >= y)


def divide(a: Complex, b: Complex) -> Complex:
    """Return the quotient, by Smith's method."""
    wide = _is_wide(b)
    zero = b.real.eq(0.0) & b.imag.eq(0.0)
    large, small = wide.choose(b.real, b.imag), wide.choose(b.imag, b.real)
    # 0/0 for the ratio would report an invalid value, which NumPy reports of a/0 alone.
    ratio = small / zero.choose(large.like(1.0), large)
    scale = large.like(1.0) / zero.choose(large.like(1.0), large + small * ratio)
    first, second = wide.choose(a.real, a.imag), wide.choose(a.imag, a.real)
    real = (first + second * ratio) * scale
    turned = second - first * ratio
    imag = wide.choose(turned, a.imag * ratio - a.real) * scale
    below = zero.choose(b.real.fabs(), 1.0)
    return Complex(zero.choose(a.real / below, real), zero.choose(a.imag / below, imag))


def reciprocal(a: Complex) -> Complex:
    """Return one over the number, by Smith's method."""
    wide = _is_wide(a)
    large, small = wide.choose(a.real, a.imag), wide.choose(a.imag, a.real)
    ratio = small / large
    below = large + small * ratio
    return Complex(wide.choose(below.like(1.0), ratio) / below, -wide.choose(ratio, 1.0) / below)
