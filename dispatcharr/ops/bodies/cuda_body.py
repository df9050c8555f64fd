"""An operation's work on one element as CUDA C++, and what it says of floating-point errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from dispatcharr.ops.bodies.body import ERRORS, error_letters, loop_of, prepare, rule_of
from dispatcharr.ops.bodies.casting import Operand, cast, cast_flags, kind_of
from dispatcharr.ops.bodies.cuda_table import INSTEAD, is_gated
from dispatcharr.ops.bodies.cuda_writing import CudaText
from dispatcharr.ops.bodies.table import Rule
from dispatcharr.ops.bodies.writing import HALF, Complex
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.row import Elementwise

__all__ = ["cuda_errors", "cuda_refusal", "write_cuda"]

Dtype = numpy.dtype[Any]
#: The bit of each error in what bodies have met.
_MET = {"divide by zero": 1, "overflow": 2, "underflow": 4, "invalid value": 8}


def _found(
    row: Elementwise, operands: tuple[Dtype, ...], result: Dtype, scalars: frozenset[int]
) -> tuple[Rule, tuple[Dtype, ...]] | str:
    if row.nout != 1:
        return f"{row.name} has {row.nout} results, and a step of a kernel has one"
    for dtype in (*operands, result):
        if not is_planned(dtype):
            return f"{row.name} of {dtype} is not compiled: kernels know no such dtype"
    if row.body is not None:
        return f"{row.name} is not compiled for a device: it is a function of the user's"
    loop = loop_of(row, operands, result)
    if isinstance(loop, str):
        return loop
    rule = rule_of(row, loop, scalars, INSTEAD.get(row.name, ()))
    return rule if isinstance(rule, str) else (rule, loop)


def cuda_refusal(
    row: Elementwise,
    operands: tuple[Dtype, ...],
    result: Dtype,
    scalars: frozenset[int] = frozenset(),
    watch: frozenset[str] = frozenset(),
) -> str | None:
    """Return why there is no CUDA body of ``row`` for these dtypes, or None if there is one."""
    found = _found(row, operands, result, scalars)
    if isinstance(found, str):
        return found
    rule, loop = found
    letters = error_letters(row, rule, (operands, loop, result))
    if "underflow" in watch and "u" in letters:
        return f"{row.name} of {operands[0]} may underflow, which is not looked for on a device"
    return None


def cuda_errors(
    row: Elementwise,
    operands: tuple[Dtype, ...],
    result: Dtype,
    scalars: frozenset[int] = frozenset(),
) -> tuple[str, ...]:
    """Return the errors that the body may report, in NumPy's words."""
    found = _found(row, operands, result, scalars)
    if isinstance(found, str):
        return ()
    rule, loop = found
    letters = error_letters(row, rule, (operands, loop, result))
    return tuple(name for letter, name in ERRORS.items() if letter in letters)


def write_cuda(
    text: CudaText,
    row: Elementwise,
    values: Sequence[Operand],
    dtypes: tuple[tuple[Dtype, ...], Dtype],
    scalars: frozenset[int] = frozenset(),
    bits: Mapping[str, int] | None = None,
) -> Operand:
    """Write what ``row`` does to one element; return the result.

    Parameters
    ----------
    text : CudaText
        Where to write.
    row : Elementwise
        The operation; :func:`cuda_refusal` has nothing against it.
    values : sequence
        The operands, as they are in registers.
    dtypes : tuple
        Those of the operands, and the result's.
    scalars : frozenset of int
        Positions of operands that are the same number for all elements.
    bits : mapping, optional
        By the errors that somebody asks for: the bit of ``flags`` that they set.

    Examples
    --------
    >>> import numpy
    >>> from dispatcharr.ops.bodies.writing import DOUBLE, Value
    >>> from dispatcharr.ops.table import BY_NAME
    >>> text, double = CudaText(), numpy.dtype("float64")
    >>> a, b = (Value(text, DOUBLE, name) for name in ("a", "b"))
    >>> total = write_cuda(text, BY_NAME["add"], (a, b), ((double, double), double))
    >>> print(total.name, text.lines)
    v0 ['  const double v0 = a + b;']
    """
    operands, result = dtypes
    found = _found(row, operands, result, scalars)
    if isinstance(found, str):
        raise TypeError(found)
    rule, loop = found

    def steps() -> Operand:
        if rule.write is None:
            raise TypeError(f"the rule of {row.name} for {rule.kinds} writes nothing")
        given = [
            prepare(value, dtype, wanted, rule.raw)
            for value, dtype, wanted in zip(values, operands, loop[:-1], strict=True)
        ]
        made = cast(rule.write(*given), kind_of(loop[-1]), loop[-1].kind == "c")
        return cast(made, kind_of(result), result.kind == "c")

    made = steps()
    if bits:
        gated = is_gated(row.name, loop[-1].kind) and not any(
            cast_flags(*pair) for pair in zip(operands, loop[:-1], strict=True)
        )
        text.line((_gate(made) if gated else "") + "{ unsigned met = 0u;")
        text.watching = True
        steps()
        text.watching = False
        for name, bit in bits.items():
            text.line(f"flags |= met & {_MET[name]}u ? {1 << bit:#x}ull : 0ull;")
        text.line("}")
    return made


def _gate(made: Operand) -> str:
    """Return the condition that a result is not finite; others than floats may always be wrong."""
    parts = (made.real, made.imag) if isinstance(made, Complex) else (made,)
    if any(part.kind.char != "f" for part in parts):
        return ""
    names = [f"!dp_finite{'_half' if part.kind == HALF else ''}({part.name})" for part in parts]
    return f"if ({' || '.join(names)}) "
