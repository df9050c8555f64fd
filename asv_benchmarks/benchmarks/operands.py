"""Calls made of the rows of the op tables: a function and operands that NumPy has no objection to.

Nothing is listed here but what a row does not say: how the three functions that are no ufuncs are
called. Values are such that no row overflows, divides by zero or leaves its domain, because NumPy
is slower on exceptional values and nobody's program lives there; NumPy itself is asked which of the
intervals that is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy

import dispatcharr
from dispatcharr.expr.nodes import Node
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Elementwise, Reduction
from dispatcharr.ops.table import ELEMENTWISE

from .pairs import Contender, Scope

__all__ = [
    "ROWS",
    "Call",
    "accepts",
    "call_of",
    "copied",
    "first_of_each_cost",
    "is_pending",
    "values",
]

_ALL: tuple[Elementwise | Reduction, ...] = (*ELEMENTWISE, *REDUCTIONS)
ROWS = {row.name: row for row in _ALL}

#: Distinct values; larger arrays repeat them, which costs less to make.
_PATTERN = 1 << 16
#: Tried in this order. Integers have their own, from the first number up to the second.
_INTERVALS = ((0.25, 0.99), (1.25, 1.99), (0.0, 0.5))
_INTEGERS = dict(zip(_INTERVALS, ((1, 8), (0, 2), (0, 1)), strict=True))


@lru_cache(maxsize=64)
def _pattern(dtype: str, interval: tuple[float, float], seed: int) -> numpy.ndarray:
    random = numpy.random.default_rng([seed, ord(numpy.dtype(dtype).char)])
    kind = numpy.dtype(dtype).kind
    if kind == "b":
        return random.random(_PATTERN) < 0.5
    if kind in "iu":
        return random.integers(*_INTEGERS[interval], _PATTERN).astype(dtype)
    return random.uniform(*interval, _PATTERN).astype(dtype)


def values(
    dtype: str, size: int, seed: int = 0, interval: tuple[float, float] = _INTERVALS[0]
) -> numpy.ndarray:
    """Return ``size`` harmless values: 1 to 7 for integers, those of an interval for floats."""
    return numpy.resize(_pattern(dtype, interval, seed), size)


@dataclass(frozen=True)
class Call:
    """A row on operands: NumPy's function and ours take the same ones, ours as its own arrays."""

    name: str
    operands: tuple[Any, ...]
    numpys: Callable[..., Any]
    ours: Callable[..., Any]

    def numpy_contender(self) -> Contender:
        """Return NumPy's side."""
        return _contender("function", self.numpys, self.operands)

    def our_contender(
        self, operands: tuple[Any, ...], waits: bool, scope: Scope = nullcontext
    ) -> Contender:
        """Return our side on copies of the operands, evaluated where the result ``waits``."""
        statement = "evaluate(function" if waits else "function"
        return _contender(statement, self.ours, operands, scope)

    def waits(self, operands: tuple[Any, ...]) -> bool:
        """Return whether the automatic path leaves the result pending."""
        return is_pending(self.ours(*operands))


def _contender(
    start: str, function: Callable[..., Any], operands: tuple[Any, ...], *scope: Scope
) -> Contender:
    names: dict[str, Any] = {f"x{i}": operand for i, operand in enumerate(operands)}
    statement = f"{start}({', '.join(names)}{')' * (start.count('(') + 1)}"
    names.update(function=function, evaluate=dispatcharr.evaluate)
    return Contender(statement, names, *scope)


def copied(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the operands with dispatcharr's own copies for NumPy's arrays."""
    return tuple(
        dispatcharr.array(operand) if type(operand) is numpy.ndarray else operand
        for operand in operands
    )


def is_pending(result: Any) -> bool:
    """Return whether ``result`` is an array that has yet to be computed."""
    return isinstance(getattr(result, "_value", None), Node)


def accepts(name: str, dtype: str) -> bool:
    """Return whether NumPy has a loop of a row for this dtype."""
    row = ROWS[name]
    ufunc = row.ufunc if isinstance(row, Elementwise) else None
    if ufunc is None:
        return True
    # The exponent of ldexp is an integer.
    for second in (dtype, "int32"):
        operands = [numpy.dtype(dtype), numpy.dtype(second)][: ufunc.nin]
        try:
            ufunc.resolve_dtypes((*operands, *[None] * ufunc.nout))
        except TypeError:
            continue
        return True
    return False


def call_of(name: str, dtype: str, size: int) -> Call | None:
    """Return the call of a row on ``size`` elements, None where NumPy has no such operation."""
    row = ROWS[name]
    if name == "astype":
        convert = operator.methodcaller(name, "f4" if dtype != "float32" else "f8")
        return Call(name, (values(dtype, size),), convert, convert)
    if not accepts(name, dtype):
        return None
    operands = _reduced(row, dtype, size) if isinstance(row, Reduction) else _mapped(row, dtype)
    if operands is None:
        return None
    whole = tuple(numpy.resize(x, size) if numpy.ndim(x) else x for x in operands)
    return Call(name, whole, getattr(numpy, name), getattr(dispatcharr, name))


def _reduced(row: Reduction, dtype: str, size: int) -> tuple[Any, ...]:
    if row.cost == "reduce_logical":
        # Values that do not decide: NumPy stops at the first one that does.
        decided = getattr(numpy, row.name)(numpy.array([0, 1], dtype))
        return (numpy.full(size, not decided, dtype),)
    return (values(dtype, size),)


@lru_cache(maxsize=1024)
def _mapped(row: Elementwise, dtype: str) -> tuple[Any, ...] | None:
    """Return operands of pattern length."""
    for interval in _INTERVALS:
        x, y = _pattern(dtype, interval, 0), _pattern(dtype, interval, 1)
        for operands in _operands(row, x, y):
            try:
                with numpy.errstate(all="raise"):
                    getattr(numpy, row.name)(*operands)
            except (TypeError, FloatingPointError):
                continue
            return operands
    return None


def _operands(row: Elementwise, x: numpy.ndarray, y: numpy.ndarray) -> list[tuple[Any, ...]]:
    if row.name == "where":
        return [(_pattern("bool", _INTERVALS[0], 2), x, y)]
    if row.name == "clip":
        low, high = numpy.quantile(x, (0.25, 0.75)).astype(x.dtype)
        return [(x, low, high)]
    if row.nin == 1:
        return [(x,)]
    return [(x, y), (x, _pattern("int32", _INTERVALS[0], 1))]


def first_of_each_cost() -> list[str]:
    """Return the first row of every cost class, in the order of the tables."""
    found: dict[str, str] = {}
    for name, row in ROWS.items():
        found.setdefault(row.cost, name)
    return list(found.values())
