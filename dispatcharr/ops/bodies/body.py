"""The scalar body of an operation for given dtypes, as the text of an LLVM function."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import numpy

from dispatcharr.ops.bodies.casting import (
    Operand,
    cast,
    cast_flags,
    kind_of,
    memory_type,
    working,
)
from dispatcharr.ops.bodies.helpers import text_of
from dispatcharr.ops.bodies.table import RULES, Rule
from dispatcharr.ops.bodies.writing import BIT, BYTE, Complex, Text, Value
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.row import Elementwise

__all__ = ["ERRORS", "Body", "body_of", "error_letters", "loop_of", "prelude", "prepare", "rule_of"]

#: NumPy's words by the initials that rules use.
ERRORS = {"d": "divide by zero", "o": "overflow", "u": "underflow", "i": "invalid value"}
Dtype = numpy.dtype[Any]


@final
@dataclass(frozen=True, slots=True)
class Body:
    """One element's work, for LLVM to inline into a loop.

    Attributes
    ----------
    symbol : str
        Name of the function, one for each row, dtypes, and operands that have to be scalars.
    text : str
        Its definition. Operands and result have the types of :func:`memory_type`.
    needs : tuple of str
        What :func:`prelude` has to provide, once per module.
    calls : tuple of str
        Functions of the C library that it calls; each has SIMD variants.
    function : int
        Bytes of the floats in which it approximates a function, so that last bits and flags are not
        NumPy's; 0 if it does not.
    flags : frozenset of str
        NumPy's names of the floating-point errors that it may report.
    spurious : frozenset of str
        Errors whose flag may be raised where NumPy reports nothing.
    """

    symbol: str
    text: str
    needs: tuple[str, ...]
    calls: tuple[str, ...]
    flags: frozenset[str]
    spurious: frozenset[str] = frozenset()
    function: int = 0


def _short(dtype: Dtype) -> str:
    # Not its character: int64 has two, which compare equal.
    return dtype.str[1:]


def loop_of(
    row: Elementwise, operands: tuple[Dtype, ...], result: Dtype
) -> tuple[Dtype, ...] | str:
    """Return the dtypes in which NumPy computes, the result's last."""
    if row.ufunc is not None:
        try:
            return row.ufunc.resolve_dtypes((*operands, None))
        except TypeError:
            names = ", ".join(map(str, operands))
            return f"{row.name} is not defined by NumPy for {names}"
    if row.name == "where":
        return (numpy.dtype(bool), result, result, result)
    if row.name == "clip":
        return (result,) * 4
    return (*operands, result)


def rule_of(
    row: Elementwise,
    loop: tuple[Dtype, ...],
    scalars: frozenset[int],
    before: tuple[Rule, ...] = (),
) -> Rule | str:
    """Return the first rule for NumPy's dtypes, of those given and of the table."""
    first = loop[1] if row.name == "where" else loop[0]
    for rule in (*before, *RULES.get(row.name, ())):
        if not rule.scalars <= scalars:
            continue
        if first.kind in rule.kinds or (first.char == "e" and "e" in rule.kinds):
            return f"{row.name} of {first} is not compiled: {rule.reason}" if rule.reason else rule
    return f"{row.name} of {first} is not compiled: no kernel has been written for it"


@cache
def body_of(
    row: Elementwise,
    operands: tuple[Dtype, ...],
    result: Dtype,
    scalars: frozenset[int] = frozenset(),
) -> Body | str:
    """Return the body of ``row`` for an instruction's dtypes, or why there is none.

    Parameters
    ----------
    row : Elementwise
        The operation.
    operands, result : numpy.dtype
        As the instruction has them; casts to the dtypes in which NumPy computes are included.
    scalars : frozenset of int
        Positions of the operands that are the same number for all elements. NumPy has loops of
        their own for some, which differ in the special values.

    Returns
    -------
    Body or str
        A sentence where NumPy's own loops have to do the work.

    Examples
    --------
    >>> import numpy
    >>> from dispatcharr.ops.table import BY_NAME
    >>> double = numpy.dtype("float64")
    >>> print(body_of(BY_NAME["add"], (double, double), double).symbol)
    add_f8f8_f8
    """
    if row.nout != 1:
        return f"{row.name} has {row.nout} results, and a step of a kernel has one"
    for dtype in (*operands, result):
        if not is_planned(dtype):
            return f"{row.name} of {dtype} is not compiled: kernels know no such dtype"
    if row.body is not None:
        made: Body | str = row.body(operands, result)
        return made
    loop = loop_of(row, operands, result)
    if isinstance(loop, str):
        return loop
    rule = rule_of(row, loop, scalars)
    if isinstance(rule, str):
        return rule
    return _write(row, rule, (operands, loop, result))


def _write(
    row: Elementwise, rule: Rule, dtypes: tuple[tuple[Dtype, ...], tuple[Dtype, ...], Dtype]
) -> Body:
    operands, loop, result = dtypes
    text = Text()
    values = [
        prepare(_argument(text, position, dtype), dtype, wanted, rule.raw)
        for position, (dtype, wanted) in enumerate(zip(operands, loop[:-1], strict=True))
    ]
    if rule.write is None:
        raise TypeError(f"the rule of {row.name} for {rule.kinds} writes nothing")
    flags, spurious = error_letters(row, rule, dtypes), rule.spurious
    value: Operand = rule.write(*values)
    if any(_widens(*pair, rule.raw) for pair in zip(operands, loop, strict=False)):
        spurious += "i"
    if _narrows(loop[-1], result, rule.raw):
        spurious += "oui"
    value = cast(cast(value, kind_of(loop[-1]), loop[-1].kind == "c"), kind_of(result),
                 result.kind == "c")  # fmt: skip
    symbol = f"{row.name}_{''.join(map(_short, operands))}_{_short(result)}"
    symbol += "".join(f"_s{position}" for position in sorted(rule.scalars))
    arguments = ", ".join(f"{memory_type(d)} %x{i}" for i, d in enumerate(operands))
    returned = _return(text, value, memory_type(result))
    head = f"define internal {memory_type(result)} @{symbol}({arguments}) alwaysinline nounwind {{"
    return Body(
        symbol,
        "\n".join([head, *text.lines, returned, "}\n"]),
        tuple(text.needs),
        tuple(text.calls),
        frozenset(ERRORS[f] for f in flags + spurious),
        frozenset(ERRORS[f] for f in spurious),
        max(kind_of(loop[-1]).bits // 8, 4) if rule.function or text.calls else 0,
    )


def error_letters(
    row: Elementwise, rule: Rule, dtypes: tuple[tuple[Dtype, ...], tuple[Dtype, ...], Dtype]
) -> str:
    """Return the initials of the errors that an operation with its casts may report."""
    operands, loop, result = dtypes
    casts = [*zip(operands, loop[:-1], strict=True), (loop[-1], result)]
    if row.name == "astype":
        casts.append((operands[0], result))
    letters = rule.errors + "".join(cast_flags(source, target) for source, target in casts)
    return letters + "ou" if loop[-1].char == "e" and rule.errors else letters


def _narrows(dtype: Dtype, result: Dtype, raw: bool) -> bool:
    """Return whether a wider float is rounded to float16.

    The same is true of that instruction: what is left in the rest of its vector may be reported.
    """
    return "e" in (dtype.char, result.char) and not (raw and dtype == result)


def _widens(dtype: Dtype, wanted: Dtype, raw: bool) -> bool:
    """Return whether a float16 is made a wider float.

    Machine code that does so for one number does it for the vector that it lies in too, and what is
    left there from before may be reported as invalid.
    """
    return dtype.char == "e" and not (raw and dtype == wanted) and wanted.kind != "b"


def _argument(text: Text, position: int, dtype: Dtype) -> Operand:
    name, kind = f"%x{position}", kind_of(dtype)
    if dtype.kind == "c":
        type_ = memory_type(dtype)
        return Complex(
            text.add(kind, f"extractvalue {type_} {name}, 0"),
            text.add(kind, f"extractvalue {type_} {name}, 1"),
        )
    if kind == BIT:
        return Value(text, BYTE, name).ne(0)
    return Value(text, kind, name)


def prepare(value: Operand, dtype: Dtype, wanted: Dtype, raw: bool) -> Operand:
    """Return an operand cast to the dtype in which NumPy computes, as rules take it."""
    if isinstance(value, Value) and _widens(dtype, wanted, raw):
        value = value.apart()  # so that it comes through a register that holds nothing else
    if dtype != wanted:
        value = cast(value, kind_of(wanted), wanted.kind == "c")
    return value if raw else working(value)


def _return(text: Text, value: Operand, type_: str) -> str:
    if isinstance(value, Complex):
        part = value.real.kind.ir
        half = text.add(value.real.kind, f"insertvalue {type_} poison, {part} {value.real.name}, 0")
        whole = text.add(
            value.real.kind, f"insertvalue {type_} {half.name}, {part} {value.imag.name}, 1"
        )
        return f"  ret {type_} {whole.name}"
    if value.kind == BIT:
        value = value.to(BYTE)
    return f"  ret {type_} {value.name}"


def prelude(needs: Iterable[str]) -> str:
    """Return the declarations and helpers that the bodies of a module need, each once."""
    return text_of(needs)
