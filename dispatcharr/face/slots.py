"""What is known of operators before there are any: the numbers of their slots, and their keys.

A slot's number is its place in :data:`SLOT_NAMES`.
"""

from __future__ import annotations

from typing import Any

import numpy

__all__ = ["BINARY", "COMPARE", "SLOT_NAMES", "UNARY", "holds_whole"]

BINARY = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift",
    "rshift",
)  # fmt: skip
UNARY = ("neg", "pos", "abs", "invert")
COMPARE = ("lt", "le", "eq", "ne", "gt", "ge")
SLOT_NAMES = (
    *BINARY, *(f"i{name}" for name in BINARY), *UNARY, *COMPARE, "getitem", "setitem", "len",
    "forward",
)  # fmt: skip


def holds_whole(held: Any, key: Any) -> bool:
    """Return whether ``key`` names an element of an array of objects."""
    if type(held) is not numpy.ndarray or held.dtype.kind != "O":
        return False
    keys = key if type(key) is tuple else (key,)
    return bool(keys) and all([isinstance(k, (int, numpy.integer)) for k in keys])
