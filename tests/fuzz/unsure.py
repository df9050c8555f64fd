"""Where NumPy's own answer is not determined: what a statement makes then is not compared.

Complex products are rounded in two ways by NumPy itself, and a loop that makes one out of sight
leaves no value to measure the difference by. What is out of an integer's range C leaves undefined
when it is cast, and NumPy's loops then answer by where an element lies in memory; which dtypes that
is true of on this machine is asked of NumPy.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy

from statements import Statement

__all__ = ["is_unsettled", "is_unsure"]

#: What makes complex numbers in the text of a statement.
_COMPLEX = ("'F'", "'D'", "1j", "complex")
#: Operators and functions whose results of complex numbers have two roundings.
_PRODUCTS = (ast.Mult, ast.Pow)
_ROUNDED = re.compile(r"\b(?:multiply|square|prod|abs|absolute|sqrt|sign)\(")
#: What makes floats, and what makes some that no integer stands for.
_FLOATS = re.compile(r"\bfloat(?:16|32|64)\b|\d\.\d|\de\d")
_LIMITLESS = re.compile(r"\bnan\b|\binf\b|-\d|\de\d| [-/*] |divide|log|exp|subtract|negative")
_NUMBERS = (0.5, 2.5, 3e9, -1.0, -3e9, 1e30, math.nan, math.inf, -math.inf)


@functools.cache
def _unsettled_dtypes() -> frozenset[str]:
    """Return the integer dtypes that NumPy casts one float to in several ways."""
    found = []
    with numpy.errstate(all="ignore"):
        for char in "bBhHiIlLqQ":
            for given in (numpy.full(14, x, c) for x in _NUMBERS for c in "efd"):
                made = [cut.astype(char) for cut in (given, given[::2], given[:1])]
                if len({int(x) for one in made for x in one}) > 1:
                    found.append(char)
                    break
    return frozenset(found)


def is_unsure(statement: Statement, read: Sequence[Any]) -> bool:
    """Return whether NumPy itself may answer, or warn, in one way or another."""
    text = statement.text
    if statement.rule == "size" and any(map(_is_huge, read)):
        return True  # it may depend on the order of a sum which numbers overflow
    if any(w in text for w in ("*", "multiply")) and any(map(_is_wild, read)):
        return True  # NumPy's own loops differ: one element warns as (1, 1) and not as (1,)
    # Where halves become complex, NumPy adds what happened to be in its buffer.
    is_half = any(a.dtype.char == "e" for a in read) or "'e'" in text or "float16" in text
    return is_half and _has_complex(text, read)


def is_unsettled(statement: Statement, read: Sequence[Any], written: Sequence[Any]) -> bool:
    """Return whether nothing can be said of the values that a statement makes."""
    if _has_complex(statement.text, read) and _hides_products(statement.text):
        return True
    return _may_cast_wildly(statement, read, written)


def _has_complex(text: str, read: Sequence[Any]) -> bool:
    return any(a.dtype.kind == "c" for a in read) or any(w in text for w in _COMPLEX)


def _is_loop(text: str) -> bool:
    """Return whether a statement goes round, and what it makes meanwhile is not seen."""
    return " for " in text or text.startswith("for ")


@functools.cache
def _hides_products(text: str) -> bool:
    """Return whether a loop multiplies, and not only how often it goes round."""
    if not _is_loop(text):
        return False
    if _ROUNDED.search(text):
        return True
    return any(
        isinstance(node, ast.BinOp | ast.AugAssign)
        and isinstance(node.op, _PRODUCTS)
        and not isinstance(getattr(node, "left", None), ast.Tuple)
        for node in ast.walk(ast.parse(text))
    )


def _may_cast_wildly(statement: Statement, read: Sequence[Any], written: Sequence[Any]) -> bool:
    """Return whether floats may be cast to a dtype in whose range they are not."""
    chars = _unsettled_dtypes()
    text = statement.text
    named = any(f"'{char}'" in text for char in chars)
    if not named and not any(a.dtype.char in chars for a in written):
        return False
    if any(map(_is_out_of_range, read)):
        return True
    # What is made on the way is not seen.
    is_float = any(a.dtype.kind in "fc" for a in read) or bool(_FLOATS.search(text))
    return is_float and (bool(_LIMITLESS.search(text)) or _is_loop(text))


def _is_out_of_range(array: Any) -> bool:
    """Return whether an array has floats that no unsigned integer of 32 bits stands for."""
    if array.dtype.kind not in "fc":
        return False
    parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
    with numpy.errstate(all="ignore"):
        return not all(bool(((part > -1) & (part < 2.0**32)).all()) for part in parts)


def _is_huge(array: Any) -> bool:
    """Return whether squares or sums of the elements may overflow."""
    if array.dtype.kind not in "fc":
        return False
    with numpy.errstate(all="ignore"):
        size = numpy.abs(array)
        most = math.sqrt(numpy.finfo(array.dtype).max) / 64
        return bool(numpy.any((size > most) & numpy.isfinite(size)))


def _is_wild(array: Any) -> bool:
    """Return whether an array of complex numbers has parts that are not finite."""
    return array.dtype.kind == "c" and not bool(numpy.isfinite(array).all())
