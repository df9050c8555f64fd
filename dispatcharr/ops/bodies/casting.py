"""How values lie in memory and how NumPy casts between dtypes.

What C leaves undefined, floats beyond the range of an integer, comes out as NumPy's compiled loops
have it: conversions go through 32 or 64 signed bits and are cut to size.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy

from dispatcharr.ops.bodies.writing import (
    BIT,
    BYTE,
    DOUBLE,
    FLOAT,
    HALF,
    Complex,
    Kind,
    Value,
    integer,
)

__all__ = ["Operand", "cast", "cast_flags", "float_to_integer", "is_x86", "kind_of", "memory_type",
           "working"]  # fmt: skip

Operand = Value | Complex
_SIGNED_32, _SIGNED_64 = integer(32), integer(64)


def kind_of(dtype: numpy.dtype[Any]) -> Kind:
    """Return the kind of one element, of one part where elements are complex."""
    if dtype.kind == "b":
        return BIT
    if dtype.kind == "c":
        return Kind("f", dtype.itemsize * 4)
    return Kind(dtype.kind, dtype.itemsize * 8)


def memory_type(dtype: numpy.dtype[Any]) -> str:
    """Return the LLVM type in which an element is handed over: bool as a byte."""
    part = (BYTE if dtype.kind == "b" else kind_of(dtype)).ir
    return f"{{{part}, {part}}}" if dtype.kind == "c" else part


def working(value: Operand) -> Operand:
    """Return a float16 as the float32 in which NumPy computes with it."""
    return value.to(FLOAT) if isinstance(value, Value) and value.kind == HALF else value


def cast(value: Operand, kind: Kind, complex_: bool = False) -> Operand:
    """Return ``value`` cast as ``astype`` does, to complex with parts of ``kind`` if asked."""
    if isinstance(value, Complex):
        if complex_:
            return Complex(_real(value.real, kind), _real(value.imag, kind))
        if kind == BIT:
            return value.real.ne(0) | value.imag.ne(0)
        return _real(value.real, kind)
    real = _real(value, kind)
    return Complex(real, real.like(0.0)) if complex_ else real


def cast_flags(source: numpy.dtype[Any], target: numpy.dtype[Any]) -> str:
    """Return the initials of the errors that a cast may report: overflow, underflow, invalid."""
    if target.kind in "iu":
        return "i" if source.kind in "fc" else ""
    if target.kind not in "fc" or numpy.can_cast(source, target):
        return ""
    return "ou" if source.kind in "fc" else "o" if kind_of(target) == HALF else ""


@cache
def is_x86() -> bool:
    """Return whether floats beyond the range of integers are cast as x86 does it."""
    import platform

    return platform.machine() in {"x86_64", "AMD64", "i686", "x86"}


def _real(value: Value, kind: Kind) -> Value:
    source = value.kind
    if source == kind:
        return value
    if kind == BIT:
        return value.ne(0)
    if source == BIT:
        # LLVM computes with both of its numbers beforehand if it knows that there are but two, and
        # what they would report, such as a division by zero, is lost.
        value = value.to(BYTE).apart()
        return _real(value, kind)
    if source.char == "f" and kind.char in "iu":
        return float_to_integer(value, kind)
    if kind == HALF:
        if source == DOUBLE:
            return _double_to_half(value)
        return (value if source == FLOAT else value.to(FLOAT)).to(HALF)
    return (value.to(FLOAT) if source == HALF else value).to(kind)


def _double_to_half(value: Value) -> Value:
    """Round once: what float32 would round away is kept as its last bit."""
    lost = (1 << 29) - 1
    bits = value.bits()
    sticky = (bits & lost).ne(0).choose(bits.like(1 << 29), 0)
    return ((bits & ~lost) | sticky).as_float(DOUBLE).to(FLOAT).to(HALF)


def float_to_integer(value: Value, kind: Kind) -> Value:
    """Return a float cast to an integer kind."""
    if value.kind == HALF:
        value = value.to(FLOAT)
        if kind == integer(32, signed=False):
            return value.to(_SIGNED_64).freeze().to(kind)
    if kind.bits < 32:
        return value.to(_SIGNED_32).freeze().to(kind)
    signed = integer(kind.bits)
    if kind.char == "i":
        return value.to(signed).freeze()
    if not is_x86():  # the machine has an instruction, which C compilers use
        return value.to(kind).freeze()
    # Unsigned: the upper half is taken down into the signed range and brought back as a sign.
    half = 2.0 ** (kind.bits - 1)
    high = value.ordered(value).choose(value, 0.0) >= half
    low = high.choose(value - half, value).to(signed).freeze()
    return (low ^ high.choose(low.like(-(1 << (kind.bits - 1))), 0)).to(kind)
