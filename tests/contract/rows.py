"""What the tables say of a row, as things to try: which dtypes, which function, how exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy

import dispatcharr as np
from answers import Close, is_compiled, near, near_if_complex, same, same_but_zeros
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import ELEMENTWISE
from samples import DTYPES, KINDS

#: Cost classes whose rows promise NumPy's very bits; the others stay within some ulps.
EXACT = {
    "arith", "divide", "compare", "sqrt", "copy", "predicate", "select", "step", "round",
    "int_divide", "cast",
}  # fmt: skip
ROWS = {row.name: row for row in ELEMENTWISE}
FUNCTIONS = {name: row for name, row in ROWS.items() if name != "astype"}
#: Rows that may be planned: those with one result.
SINGLE = {name: row for name, row in FUNCTIONS.items() if row.nout == 1}


def is_exact(row: Elementwise) -> bool:
    """Return whether the row's results are promised to be NumPy's to the last bit."""
    return row.cost in EXACT


#: Rows of which compiled kernels promise less, for what NumPy does itself in two ways.
_COMPILED: dict[str, Close] = {
    # Which of two equal zeros is taken depends on whether an element lies in NumPy's vectors or
    # after the last of them.
    "fmax": same_but_zeros,
    "fmin": same_but_zeros,
    # NumPy's loops over contiguous and over other complex numbers round differently.
    "multiply": near_if_complex,
    "square": near_if_complex,
    # So do its vectors and what is left over; compiled kernels have the library's length.
    "absolute": near,
    "sign": near_if_complex,
}


def promised(row: Elementwise) -> Close:
    """Return what compares two answers as far as is promised of the row."""
    if not is_exact(row):
        return near
    return _COMPILED.get(row.name, same) if is_compiled() else same


def both(row: Elementwise) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return our function of a row and NumPy's."""
    return getattr(np, row.name), getattr(numpy, row.name)


@cache
def accepts(name: str, chars: str) -> bool:
    """Return whether NumPy has a loop of the row for operands of these dtypes."""
    ufunc = ROWS[name].ufunc
    if ufunc is None:
        return True
    try:
        ufunc.resolve_dtypes((*map(numpy.dtype, chars), *[None] * ufunc.nout))
    except TypeError:
        return False
    return True


def same_dtypes(row: Elementwise) -> list[str]:
    """Return the dtype strings, one letter per operand, with all operands alike where possible."""
    found = [char * row.nin for char in DTYPES if accepts(row.name, char * row.nin)]
    return found or [chars for chars in mixed_dtypes(row) if chars[1:] in ("i", "l")]


def mixed_dtypes(row: Elementwise) -> list[str]:
    """Return the dtype strings of operands that are not all alike."""
    return [
        chars
        for chars in map("".join, product(DTYPES, repeat=row.nin))
        if len(set(chars)) > 1 and (row.nin < 3 or chars[0] == "?") and accepts(row.name, chars)
    ]


def few_dtypes(row: Elementwise, most: int = 3) -> list[str]:
    """Return dtype strings of different kinds, ``most`` at the most."""
    known = same_dtypes(row)
    chosen = [char * row.nin for char in KINDS if char * row.nin in known]
    return (chosen or known)[:most]


def refused_dtypes(row: Elementwise) -> Iterator[str]:
    """Return the dtype strings for which NumPy raises an error."""
    for char in DTYPES:
        if not accepts(row.name, char * row.nin):
            yield char * row.nin
