"""Functions of the C library that have SIMD variants in glibc's libmvec, or polynomials of ours.

Their flags are hints: which come up for an argument differs between variants, and between them and
NumPy's own loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy

from dispatcharr.ops.bodies import series
from dispatcharr.ops.bodies.arithmetic import rounding
from dispatcharr.ops.bodies.powers import power
from dispatcharr.ops.bodies.writing import Value

__all__ = ["ROWS", "called", "library", "power_by_scalar", "takes_root"]

#: Row's name, C's name, errors that NumPy may report.
_UNARY = {
    "cbrt": ("cbrt", ""), "exp": ("exp", "ou"), "exp2": ("exp2", "ou"), "expm1": ("expm1", "ou"),
    "log": ("log", "di"), "log2": ("log2", "di"), "log10": ("log10", "di"),
    "log1p": ("log1p", "di"), "sin": ("sin", "i"), "cos": ("cos", "i"), "tan": ("tan", "i"),
    "arcsin": ("asin", "i"), "arccos": ("acos", "i"), "arctan": ("atan", ""),
    "sinh": ("sinh", "o"), "cosh": ("cosh", "o"), "tanh": ("tanh", ""),
    "arcsinh": ("asinh", ""), "arccosh": ("acosh", "i"), "arctanh": ("atanh", "di"),
}  # fmt: skip
_BINARY = {"power": ("pow", "doui"), "arctan2": ("atan2", "u"), "hypot": ("hypot", "ou")}
#: Names of rows, by C's name of what they call.
ROWS = {symbol: name for table in (_UNARY, _BINARY) for name, (symbol, _) in table.items()}


def called(symbol: str) -> Callable[..., Value]:
    """Return the rule that calls a function of the C library."""

    def rule(*operands: Value) -> Value:
        end = "f" if operands[0].kind.bits == 32 else ""
        return operands[0].text.outside(symbol + end, *operands)

    return rule


def _called_power(base: Value, exponent: Value) -> Value:
    # NumPy reports some powers of infinite exponents, on some machines: a flag has it looked up.
    infinite = exponent.fabs().eq(math.inf)
    largest = float(numpy.finfo(f"f{exponent.kind.bits // 8}").max)
    above = infinite.choose(exponent.like(largest), 1.0).apart() * 2.0
    exponent = infinite.choose(above.copysign(exponent), exponent)
    # One to the power of NaN is one.
    return base.eq(1.0).choose(base, called("pow")(base, exponent))


@cache
def takes_root(char: str) -> bool:
    """Return whether NumPy takes a root where all exponents are one half."""
    base = numpy.full(64, -math.inf, char)
    with numpy.errstate(all="ignore"):
        return bool(numpy.isnan(numpy.power(base, base.dtype.type(0.5))[0]))


def power_by_scalar(base: Value, exponent: Value) -> Value:
    """Return the power for an exponent that all elements share: 0.5 is a root for NumPy then.

    That differs in special values; as a square does not, it is made for its speed. LLVM takes the
    choice out of the loop if there is little in it: so this one calls the C library.
    """
    if not takes_root("f" if base.kind.bits == 32 else "d"):
        return power(base, exponent)
    root, square = exponent.eq(0.5), exponent.eq(2.0)
    made = _called_power((root | square).choose(base.like(1.0), base), exponent)
    others = square.choose(square.choose(base, 0.0) * base, made)
    return root.choose(rounding("sqrt")(root.choose(base, 1.0)), others)


#: Rules that are more than a call, or none.
_MENDED: dict[str, Callable[..., Value]] = {
    "exp": series.exp, "exp2": series.exp2, "expm1": series.expm1, "log": series.log,
    "tanh": series.tanh, "power": power,
}  # fmt: skip


def library(rule: Callable[..., Any], complex_reason: str) -> dict[str, tuple[Any, ...]]:
    """Return the rules of the rows that are functions of the C library."""
    return {
        name: (rule("f", _MENDED.get(name) or called(symbol), errors + "oui", errors + "oui",
                    function=True),
               rule("c", None, reason=complex_reason))
        for table in (_UNARY, _BINARY)
        for name, (symbol, errors) in table.items()
    }  # fmt: skip
