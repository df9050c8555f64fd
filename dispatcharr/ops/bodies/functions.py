"""Functions of the C library that have SIMD variants in glibc's libmvec.

Their flags are hints: which come up for an argument differs between variants, and between them and
NumPy's own loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dispatcharr.ops.bodies.writing import Value

__all__ = ["called", "library"]

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


def called(symbol: str) -> Callable[..., Value]:
    """Return the rule that calls a function of the C library."""

    def rule(*operands: Value) -> Value:
        end = "f" if operands[0].kind.bits == 32 else ""
        return operands[0].text.outside(symbol + end, *operands)

    return rule


def _exp(x: Value) -> Value:
    # The SIMD variants report infinities as invalid.
    infinite = x.fabs().eq(math.inf)
    at_infinity = (x.bits() < 0).choose(x.like(0.0), x)
    return infinite.choose(at_infinity, called("exp")(infinite.choose(x.like(0.0), x)))


def _power(base: Value, exponent: Value) -> Value:
    # One to the power of NaN is one.
    return base.eq(1.0).choose(base, called("pow")(base, exponent))


#: Rules that are more than a call.
_MENDED: dict[str, Callable[..., Value]] = {"exp": _exp, "power": _power}


def library(rule: Callable[..., Any], complex_reason: str) -> dict[str, tuple[Any, ...]]:
    """Return the rules of the rows that are functions of the C library."""
    return {
        name: (rule("f", _MENDED.get(name) or called(symbol), errors + "oui", errors + "oui"),
               rule("c", None, reason=complex_reason))
        for table in (_UNARY, _BINARY)
        for name, (symbol, errors) in table.items()
    }  # fmt: skip
