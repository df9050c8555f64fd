"""What statements are made of: the op table's rows with their rules, and NumPy's other functions.

Rows come from the table, so that new ones join by themselves; other calls stand in ``calls.txt``.
In them ``{a}`` is any array, ``{f}`` one of floats or complex numbers, ``{r}`` one of real numbers,
``{i}`` a short one of integers, ``{j}`` any of integers, ``{q}`` a bool array, ``{b}`` one that
broadcasts with the first, ``{t}`` a small array; ``{axis}`` an axis of the first, ``{n}`` a small
number, ``{k}`` a scalar, ``{key}`` an index, ``{c}`` the character of a dtype, ``{size}`` and
``{shape}`` those of a new array.
"""

from __future__ import annotations

from pathlib import Path

from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Elementwise, Reduction
from dispatcharr.ops.table import ELEMENTWISE

#: Cost classes whose rows promise NumPy's bits.
_EXACT = {
    "arith", "divide", "compare", "sqrt", "copy", "predicate", "select", "step", "round",
    "int_divide", "cast",
}  # fmt: skip
_BY_NAME = {
    "multiply": "product", "square": "product", "divide": "quotient", "reciprocal": "quotient",
    "negative": "move", "positive": "move", "conjugate": "move", "where": "same",
    "maximum": "zeros", "minimum": "zeros", "fmax": "zeros", "fmin": "zeros", "clip": "zeros",
}  # fmt: skip
#: Rows whose complex loops are rounded in two ways by NumPy itself.
_COMPLEX = {"absolute", "sign"}
#: Rows that call for an argument that is not like the first: integers.
_SECOND_INTEGER = {"ldexp"}


def rule_of(row: Elementwise, is_complex: bool) -> str:
    """Return the rule of a row's results."""
    if row.name in _COMPLEX and is_complex:
        return "near"
    if row.cost not in _EXACT:
        return "near"
    return _BY_NAME.get(row.name, "same")


ROWS: list[Elementwise] = [row for row in ELEMENTWISE if row.name != "astype"]
FOLDS: tuple[Reduction, ...] = REDUCTIONS


def rule_of_fold(row: Reduction) -> str:
    """Return the rule of a reduction's results."""
    if row.cost == "reduce_minmax":
        return "zeros"
    if row.cost in ("reduce_sum", "reduce_prod", "reduce_moments"):
        return "size"
    return "same"


def _read() -> dict[str, list[tuple[str, str, str]]]:
    """Return rule, template and size of errors of every call, by kind."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for line in (Path(__file__).parent / "calls.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            head, _, call = line.partition(": ")
            kind, rule = head.split()
            text, _, scale = call.partition(" / ") if kind == "sum" else (call, "", "")
            found.setdefault(kind, []).append((rule, text, scale))
    return found


CALLS = _read()
