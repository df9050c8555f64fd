"""The table of bodies: one entry per row of the op table, one rule per kind of operand."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy

from dispatcharr.ops.bodies import arithmetic as real
from dispatcharr.ops.bodies import complexes, division, neighbours
from dispatcharr.ops.bodies.functions import library, power_by_scalar

__all__ = ["RULES", "Rule"]

_lt, _le, _gt, _ge = operator.lt, operator.le, operator.gt, operator.ge
_and, _or, _xor = operator.and_, operator.or_, operator.xor


@final
@dataclass(frozen=True, slots=True)
class Rule:
    """How an operation is written for operands of some kinds.

    Attributes
    ----------
    kinds : str
        Kinds of the first operand's dtype that the rule is for; ``e`` for float16 alone.
    write : callable or None
        Takes a value per operand; None where there is no rule for these kinds.
    errors : str
        Initials of the errors it may report: divide by zero, overflow, underflow, invalid.
    spurious : str
        Initials of those whose flag may come up where NumPy reports nothing.
    raw : bool
        Whether it takes float16 as it is; others get a float32.
    reason : str
        Why there is no rule.
    scalars : frozenset of int
        Positions of the operands that have to be the same number for all elements.
    function : bool
        Whether it approximates a function: last bits and flags are not those of NumPy.
    """

    kinds: str
    write: Callable[..., Any] | None
    errors: str = ""
    spurious: str = ""
    raw: bool = False
    reason: str = ""
    scalars: frozenset[int] = frozenset()
    function: bool = False


def _no(kinds: str, reason: str) -> Rule:
    return Rule(kinds, None, reason=reason)


def _first(x: Any, *_: Any) -> Any:
    return x


def _logical(rule: Callable[..., Any]) -> tuple[Rule, ...]:
    def of(truth: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda *operands: rule(*map(truth, operands))

    return (
        Rule("b", rule), Rule("iuf", of(real.truth), raw=True), Rule("c", of(complexes.truth)),
    )  # fmt: skip


def _order(order: real.Two, strict: real.Two, left: bool, right: bool) -> tuple[Rule, ...]:
    return (
        Rule("biu", real.compare_integers(order, left, right)),
        Rule("f", real.compare(order)),
        Rule("c", complexes.compare(order, strict), "i", "i"),
    )


def _predicate(rule: real.One, on_complex: Callable[..., Any], exact: bool) -> tuple[Rule, ...]:
    """Return the rules of a predicate that is ``exact`` for all that has no NaN and infinity."""
    return Rule("biu", real.always(exact)), Rule("f", rule), Rule("c", on_complex)


def _rounding(name: str) -> tuple[Rule, ...]:
    return Rule("biu", _first), Rule("f", real.rounding(name))


def _extremes(ask: Callable[..., Any], larger: bool, nan_wins: bool) -> tuple[Rule, ...]:
    loose, strict = (_ge, _gt) if larger else (_le, _lt)
    return (
        Rule("b", _or if larger else _and),
        Rule("iu", real.larger if larger else real.smaller),
        Rule("e", real.extreme(ask, larger, nan_wins, "e")),
        Rule("f", real.extreme(ask, larger, nan_wins)),
        Rule("c", complexes.extreme(loose, strict, nan_wins)),
    )


def _clip(above: real.Asked, below: real.Asked, char: str = "") -> Callable[..., Any]:
    return real.clip(real.extreme(above, True, True, char), real.extreme(below, False, True, char))


_EACH = "the steps depend on the numbers of each element, so that SIMD does not serve it"
_CANCELS = (
    "its result may be all that two cancelling terms leave, the last bits of which are NumPy's"
)
_HALF = (
    "NumPy reports its errors from the bits of a float16, where SIMD has no instruction that does"
)
_C_COMPLEX = "it is the C library's complex function, which has no SIMD variant"

_LIBRARY = library(Rule, _C_COMPLEX)
_POWER = _LIBRARY["power"][0]

#: By the name of the row. The first rule for the kind of the first operand is taken.
RULES: dict[str, tuple[Rule, ...]] = {
    "add": (Rule("b", _or), Rule("iu", operator.add), Rule("f", operator.add, "oui"),
            Rule("c", complexes.parts(operator.add), "oui")),
    "subtract": (Rule("iu", operator.sub), Rule("f", operator.sub, "oui"),
                 Rule("c", complexes.parts(operator.sub), "oui")),
    "multiply": (Rule("b", _and), Rule("iu", operator.mul), Rule("f", operator.mul, "oui"),
                 Rule("c", complexes.multiply, "oui")),
    "divide": (Rule("iu", real.divide_integers, "di"), Rule("f", operator.truediv, "doui"),
               Rule("c", complexes.divide, "doui", "doui")),
    "floor_divide": (Rule("i", division.floor_divide_integers, "do"),
                     Rule("u", division.floor_divide_integers, "d"),
                     Rule("f", division.floor_divide, "doui", "u")),
    "remainder": (Rule("iu", division.remainder_integers, "d"),
                  Rule("f", division.remainder, "ui", "u")),
    "fmod": (Rule("iu", division.fmod_integers, "d"), Rule("f", division.fmod, "ui", "u")),
    "maximum": _extremes(numpy.maximum, True, True),
    "minimum": _extremes(numpy.minimum, False, True),
    "fmax": _extremes(numpy.fmax, True, False),
    "fmin": _extremes(numpy.fmin, False, False),
    "copysign": (Rule("f", real.copysign, raw=True),),
    "heaviside": (Rule("f", real.heaviside),),
    "logaddexp": (_no("f", _CANCELS),),
    "logaddexp2": (_no("f", _CANCELS),),
    "nextafter": (_no("e", _HALF), Rule("f", neighbours.nextafter, "oui", "oui")),
    "spacing": (_no("e", _HALF), Rule("f", neighbours.spacing, "oui", "oui")),
    "ldexp": (Rule("f", neighbours.ldexp, "ou", "u"),),
    "gcd": (_no("iu", _EACH),),
    "lcm": (_no("iu", _EACH),),
    "bitwise_and": (Rule("biu", _and),),
    "bitwise_or": (Rule("biu", _or),),
    "bitwise_xor": (Rule("biu", _xor),),
    "left_shift": (Rule("iu", real.left_shift),),
    "right_shift": (Rule("iu", real.right_shift),),
    "logical_and": _logical(_and),
    "logical_or": _logical(_or),
    "logical_xor": _logical(_xor),
    "less": _order(_lt, _lt, True, False),
    "less_equal": _order(_le, _lt, True, False),
    "greater": _order(_gt, _gt, False, True),
    "greater_equal": _order(_ge, _gt, False, True),
    "equal": (Rule("biu", real.compare_integers(lambda a, b: a.eq(b), False, False)),
              Rule("f", lambda a, b: a.eq(b)), Rule("c", complexes.equal)),
    "not_equal": (Rule("biu", real.compare_integers(lambda a, b: a.ne(b), True, True)),
                  Rule("f", lambda a, b: a.ne(b)), Rule("c", complexes.unequal)),
    "negative": (Rule("iuf", operator.neg, raw=True), Rule("c", complexes.negative)),
    "positive": (Rule("biufc", _first, raw=True),),
    "absolute": (Rule("bu", _first), Rule("i", real.absolute_integer),
                 Rule("f", real.fabs, raw=True), Rule("c", complexes.absolute, "oui", "oui")),
    "fabs": (Rule("f", real.fabs, raw=True),),
    "invert": (Rule("biu", operator.invert),),
    "logical_not": _logical(operator.invert),
    "bitwise_count": (Rule("iu", real.bitwise_count),),
    "conjugate": (Rule("biuf", _first, raw=True), Rule("c", complexes.conjugate)),
    "square": (Rule("iu", lambda x: x * x), Rule("f", lambda x: x * x, "oui"),
               Rule("c", complexes.square, "oui")),
    "reciprocal": (Rule("iu", real.reciprocal_integer, "di"),
                   Rule("f", real.reciprocal, "doui"),
                   Rule("c", complexes.reciprocal, "doui", "doui")),
    "sqrt": (Rule("f", real.rounding("sqrt"), "i"), _no("c", _C_COMPLEX)),
    "rint": (Rule("f", real.rounding("rint")),
             Rule("c", lambda a: complexes.each(real.rounding("rint"), a))),
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "sign": (Rule("iu", real.sign_integer), Rule("f", real.sign),
             Rule("c", complexes.sign, "oui", "oui")),
    "degrees": (Rule("f", real.times(180.0, math.pi), "ou"),),
    "radians": (Rule("f", real.times(math.pi, 180.0), "ou"),),
    "deg2rad": (Rule("f", real.times(math.pi, 180.0), "ou"),),
    "rad2deg": (Rule("f", real.times(180.0, math.pi), "ou"),),
    "isfinite": _predicate(real.isfinite, complexes.isfinite, True),
    "isinf": _predicate(real.isinf, complexes.either(real.isinf), False),
    "isnan": _predicate(real.isnan, complexes.isnan, False),
    "signbit": (Rule("f", real.signbit, raw=True),),
    "where": (Rule("biuf", real.choose, raw=True), Rule("c", complexes.where)),
    "clip": (Rule("b", real.clip(_or, _and)),
             Rule("iu", real.clip(real.larger, real.smaller)),
             Rule("e", _clip(real.clip_above, real.clip_below, "e")),
             Rule("f", _clip(real.clip_above_scalar, real.clip_below_scalar),
                  scalars=frozenset({1, 2})),
             Rule("f", _clip(real.clip_above, real.clip_below)),
             Rule("c", real.clip(complexes.bound(_gt), complexes.bound(_lt)))),
    "astype": (Rule("biufc", _first, raw=True),),
    **_LIBRARY,
    "power": (Rule("iu", division.power_integers), replace(_POWER, kinds="e"),
              replace(_POWER, write=power_by_scalar, scalars=frozenset({1})),
              *_LIBRARY["power"]),
    "float_power": _LIBRARY["power"],
}  # fmt: skip
