"""Floats as bits, and polynomials: what series are written with."""

from __future__ import annotations

import struct
from functools import cache

from dispatcharr.ops.bodies.writing import Kind, Value, integer

__all__ = [
    "bias", "bits_of", "float_of", "fma", "least", "polynomial", "size_of", "unsigned_of",
]  # fmt: skip


@cache
def bits_of(kind: Kind, number: float) -> int:
    """Return the bits of a float as a signed integer."""
    float_, whole = {64: ("<d", "<q"), 32: ("<f", "<i")}[kind.bits]
    return int(struct.unpack(whole, struct.pack(float_, number))[0])


def size_of(x: Value) -> Value:
    """Return the bits without the sign: floats are ordered as these are, and NaN comes last."""
    return x.bits() & ((1 << x.kind.bits - 1) - 1)


def unsigned_of(x: Value) -> Value:
    """Return the bits as an unsigned integer."""
    return x.bits().to(integer(x.kind.bits, signed=False))


def float_of(bits: Value) -> Value:
    """Return the float that has these bits."""
    return bits.to(integer(bits.kind.bits)).as_float(Kind("f", bits.kind.bits))


def least(a: Value, b: int) -> Value:
    """Return the smaller one of two integers."""
    return (a > b).choose(b, a)


def bias(kind: Kind) -> int:
    """Return what is added to exponents in the bits of a float."""
    return (1 << kind.bits - kind.fraction - 2) - 1


def fma(a: Value, b: Value | float, c: Value | float) -> Value:
    """Return ``a * b + c``, rounded once where the machine can."""
    return a.text.intrinsic("fmuladd", a, a.like(b), a.like(c))


def polynomial(x: Value, coefficients: tuple[float, ...], square: Value | None = None) -> Value:
    """Return a polynomial, the constant coefficient first.

    With the square of ``x``, where that is at hand, half as many steps wait for each other.
    """
    if square is None:
        made = x.like(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            made = fma(made, x, coefficient)
        return made
    pairs: list[Value | float] = [
        fma(x, odd, even) for even, odd in zip(coefficients[::2], coefficients[1::2], strict=False)
    ]
    if len(coefficients) % 2:
        pairs.append(coefficients[-1])
    made = x.like(pairs.pop())
    for pair in reversed(pairs):
        made = fma(made, square, pair)
    return made
