"""Rules that CUDA has instead of those of the table, or in addition to them.

The table's divisions, remainders and powers are made for SIMD; a GPU's threads take NumPy's own
steps, branches and loops.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import cache

import numpy

from dispatcharr.ops.bodies import complexes
from dispatcharr.ops.bodies.arithmetic import Two
from dispatcharr.ops.bodies.casting import Operand
from dispatcharr.ops.bodies.cuda_writing import CudaText
from dispatcharr.ops.bodies.functions import called, takes_root
from dispatcharr.ops.bodies.table import Rule
from dispatcharr.ops.bodies.writing import FLOAT, Complex, Value

__all__ = ["INSTEAD", "is_gated"]

_lt, _le, _gt, _ge = operator.lt, operator.le, operator.gt, operator.ge


def _device(name: str, part: str, met: str = "") -> Callable[..., Value]:
    """Return the rule that calls a function of the prelude's ``part``, and one for its errors."""

    def rule(*operands: Value) -> Value:
        text = _text(operands[0])
        text.need(part)
        made = text.call(name, operands[0].kind, operands)
        if met:
            given = [o.name for o in operands]
            if met.endswith("_int"):  # integers show no errors in the result
                text.meet(f"{met}({', '.join(given)})")
            else:
                text.meet(f"{met}({', '.join([*given, made.name])})")
        return made

    return rule


def _text(value: Operand) -> CudaText:
    text = (value.real if isinstance(value, Complex) else value).text
    if not isinstance(text, CudaText):
        raise TypeError(f"a rule of CUDA writes CUDA, not {type(text).__name__}")
    return text


def _telling(name: str, part: str) -> Callable[..., Operand]:
    """Return the rule that calls a function which says itself what it met."""

    def rule(*operands: Operand) -> Operand:
        text = _text(operands[0])
        text.need(part)
        parts: list[Value] = []
        for operand in operands:
            parts += [operand.real, operand.imag] if isinstance(operand, Complex) else [operand]
        results = 2 if isinstance(operands[0], Complex) else 1
        made = text.tell(name, parts[0].kind, parts, results)
        return Complex(*made) if results == 2 else made[0]

    return rule


def _compare(order: Two, strict: Two) -> Rule:
    """Return the rule that compares complex numbers, in C's order of looking at the parts."""

    def rule(a: Complex, b: Complex) -> Value:
        numbers, same = a.real.ordered(b.real), a.real.eq(b.real)
        others = a.imag.ordered(b.imag)
        seen = f"{numbers.name} && ({others.name} || !{same.name})"
        _text(a).meet(f"{seen} ? 0u : 8u")
        return complexes.ordered(order, strict, a, b)

    return Rule("c", rule, "i")


@cache
def _tells_of_length(char: str) -> bool:
    """Return whether NumPy reports the length of a complex number that is too large."""
    largest = float(numpy.finfo(char).max)
    with numpy.errstate(all="raise"):
        try:
            numpy.absolute(numpy.full(64, complex(largest, largest), char))
        except FloatingPointError:
            return True
    return False


def _absolute(a: Complex) -> Value:
    text = _text(a)
    watching, text.watching = text.watching, False
    length = complexes.absolute(a)
    text.watching = watching
    if _tells_of_length("F" if a.real.kind == FLOAT else "D"):
        text.meet(f"met_sum({a.real.name}, {a.imag.name}, {length.name})")
    return length


def _power(base: Value, exponent: Value) -> Value:
    return _told_of_infinite(base, exponent, called("pow")(base, exponent))


def _power_by_scalar(base: Value, exponent: Value) -> Value:
    if not takes_root("f" if base.kind == FLOAT else "d"):
        return _power(base, exponent)
    made = _device("dp_power_scalar", "floats", "met_power")(base, exponent)
    return _told_of_infinite(base, exponent, made)


def _told_of_infinite(base: Value, exponent: Value, made: Value) -> Value:
    """Tell what NumPy reports of an infinite exponent, on this machine."""
    large = 2.0 ** (64 if base.kind == FLOAT else 512)
    zero, over = _tells_of_infinite("f" if base.kind == FLOAT else "d", large)
    if zero or over:
        names = ", ".join([base.name, exponent.name, made.name, base.like(large).name])
        bits = f"{int(zero)}u, {2 * int(over)}u"
        _text(base).meet(f"met_infinite_power({names}, {bits})")
    return made


@cache
def _tells_of_infinite(char: str, large: float) -> tuple[bool, bool]:
    """Return whether NumPy reports zero to minus infinity, and a large number to infinity."""
    scalar = numpy.dtype(char).type
    found = []
    for base, exponent in ((0.0, -math.inf), (large, math.inf)):
        with numpy.errstate(all="raise"):
            try:
                numpy.power(numpy.full(64, base, char), scalar(exponent))
                found.append(False)
            except FloatingPointError:
                found.append(True)
    return found[0], found[1]


_fmod = _device("dp_fmod", "floats", "met_sum")

#: By the name of the row. They come before those of the table.
INSTEAD: dict[str, tuple[Rule, ...]] = {
    "floor_divide": (Rule("i", _device("dp_floor_divide_int", "integers", "met_floor_divide_int"),
                          "do"),
                     Rule("u", _device("dp_floor_divide_int", "integers", "met_floor_divide_int"),
                          "d"),
                     Rule("f", _telling("dp_floor_divide", "floats"), "doui")),
    "remainder": (Rule("iu", _device("dp_remainder_int", "integers", "met_remainder_int"), "d"),
                  Rule("f", _device("dp_remainder", "floats", "met_sum"), "ui")),
    "fmod": (Rule("iu", _device("dp_fmod_int", "integers", "met_remainder_int"), "d"),
             Rule("f", _fmod, "ui")),
    "power": (Rule("iu", _device("dp_power_int", "integers")),
              Rule("e", called("pow"), "doui"),
              Rule("f", _power_by_scalar, "doui", scalars=frozenset({1})),
              Rule("f", _power, "doui")),
    "float_power": (Rule("f", called("pow"), "doui"),),
    **{name: (Rule("f", called(name), errors),)
       for errors, names in {"ou": ("exp", "exp2", "expm1"), "di": ("log",), "": ("tanh",)}.items()
       for name in names},
    "gcd": (Rule("iu", _device("dp_gcd", "integers")),),
    "lcm": (Rule("iu", _device("dp_lcm", "integers")),),
    "nextafter": (Rule("e", _telling("dp_nextafter_half", "bits_of_half"), "o", raw=True),
                  Rule("f", _device("dp_nextafter", "neighbours", "met_nextafter"), "oui")),
    "spacing": (Rule("e", _telling("dp_spacing_half", "bits_of_half"), "oi", raw=True),),
    "less": (_compare(_lt, _lt),),
    "less_equal": (_compare(_le, _lt),),
    "greater": (_compare(_gt, _gt),),
    "greater_equal": (_compare(_ge, _gt),),
    "absolute": (Rule("c", _absolute, "oui"),),
    "sign": (Rule("c", _telling("dp_sign", "complexes"), "oui"),),
    "divide": (Rule("c", _telling("dp_divide", "complexes"), "doui"),),
    "reciprocal": (Rule("c", _telling("dp_reciprocal", "complexes"), "doui"),),
}  # fmt: skip

#: Operations that may meet an error and give a finite number all the same.
_UNSEEN = frozenset({"divide", "reciprocal", "sign"})


def is_gated(name: str, kind: str) -> bool:
    """Return whether the result of an operation shows that it met an error.

    It is infinite or NaN then, so that a look at it is all that others pay.
    """
    return not (kind == "c" and name in _UNSEEN)
