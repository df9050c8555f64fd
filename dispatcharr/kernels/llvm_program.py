"""The straight-line program of a region as IR: what one element goes through, in registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr.kernels.llvm_fold import folding_of
from dispatcharr.kernels.llvm_state import Folding
from dispatcharr.kernels.llvm_text import Text, memory_type, value_type
from dispatcharr.ops.bodies import Body, body_of, prelude
from dispatcharr.ops.row import Elementwise
from dispatcharr.plan.region import Instruction, Layout, Region
from dispatcharr.plan.work import register_dtypes

__all__ = ["Operand", "Program", "parameters", "program_of"]


@dataclass(frozen=True, slots=True)
class Operand:
    """Memory that a kernel reads or writes: one row of its table of arguments."""

    dtype: numpy.dtype[Any]
    #: The register that it fills or is filled from; for a parameter, its instruction's result.
    register: int
    #: "input", "parameter", "output", "field" of a reduction's state, or "stage": memory of the
    #: kernel's own that a value to be reduced is kept in.
    role: str


@dataclass(frozen=True, slots=True)
class Program:
    """What a region does to one element, and with which functions."""

    region: Region
    dtypes: tuple[numpy.dtype[Any], ...]
    bodies: tuple[Body | None, ...]
    operands: tuple[Operand, ...]
    foldings: tuple[Folding, ...]

    @property
    def folding(self) -> Folding | None:
        """How the first reduction folds."""
        return self.foldings[0] if self.foldings else None

    @property
    def calls(self) -> frozenset[str]:
        """Functions of the mathematical library."""
        return frozenset(name for body in self.bodies if body is not None for name in body.calls)

    @property
    def function(self) -> int:
        """Bytes of the widest floats in which a function is approximated, 0 if there is none."""
        return max((body.function for body in self.bodies if body is not None), default=0)

    @property
    def inner(self) -> bool:
        """Whether the innermost axis is reduced."""
        reducing = self.region.reducing
        return reducing is not None and len(self.region.shape) - 1 in reducing.axes

    @property
    def stages(self) -> tuple[Operand, ...]:
        """Values that are reduced, and the mask of what counts, as memory of the kernel's own."""
        reducing = self.region.reducing
        if reducing is None:
            return ()
        return tuple(Operand(self.dtypes[r], r, "stage") for r in reducing.reads)

    @property
    def places(self) -> bool:
        """Whether an element depends on its place in the space."""
        return any(i.row.name in _PLACED for i in self.region.program)

    def definitions(self) -> str:
        """Return the text of the functions that :meth:`emit` calls."""
        bodies = {body.symbol: body for body in self.bodies if body is not None}
        needs = sorted({need for body in bodies.values() for need in body.needs})
        return "\n".join([prelude(needs), *(body.text for body in bodies.values())])

    def emit(self, text: Text, values: Mapping[int, str], at: str | None) -> list[str]:
        """Add the instructions for one element; return the names of all registers.

        Parameters
        ----------
        text : Text
            Where to add them.
        values : mapping
            Names of the values of inputs and parameters, by operand.
        at : str or None
            The element's place in the space, where :attr:`places` says that it matters.
        """
        region = self.region
        inputs = len(region.inputs)
        registers = [values[k] for k in range(inputs)]
        for place, (instruction, body) in enumerate(zip(region.program, self.bodies, strict=True)):
            if body is None:
                given = [
                    values[k]
                    for k, operand in enumerate(self.operands)
                    if operand.role == "parameter" and operand.register == inputs + place
                ]
                registers.append(_generated(text, instruction, given, at))
                continue
            listed = ", ".join(
                f"{value_type(self.dtypes[i])} {registers[i]}" for i in instruction.operands
            )
            result = value_type(instruction.dtypes[0])
            registers.append(text.let(f"call {result} @{body.symbol}({listed})"))
        return registers


_INT, _FLOAT = numpy.dtype(numpy.int64), numpy.dtype(numpy.float64)
_PLACED = {"arange": _INT, "linspace": _FLOAT}


def parameters(instruction: Instruction) -> list[numpy.ndarray]:
    """Return what a generator is told, as constants of the dtypes that its IR reads."""
    dtype = instruction.dtypes[0]
    if instruction.row.name != "linspace":
        return [numpy.array(value, dtype) for value in instruction.params]
    first, step, last, size = instruction.params
    found = [numpy.array(first, dtype), numpy.array(step, dtype)]
    if last is not None:
        found += [numpy.array(last, dtype), numpy.array(size - 1, _INT)]
    return found


def _generated(text: Text, instruction: Instruction, given: Sequence[str], at: str | None) -> str:
    """Add the value at place ``at``, by the same steps as NumPy's own loops."""
    name = instruction.row.name
    if name == "full":
        return given[0]
    if name == "arange":
        product = text.let(f"mul i64 {at}, {given[1]}")
        return text.let(f"add i64 {product}, {given[0]}")
    index = text.let(f"sitofp i64 {at} to double")
    product = text.let(f"fmul double {index}, {given[1]}")
    value = text.let(f"fadd double {product}, {given[0]}")
    if len(given) == 2:
        return value
    is_last = text.let(f"icmp eq i64 {at}, {given[3]}")
    return text.let(f"select i1 {is_last}, double {given[2]}, double {value}")


def program_of(region: Region) -> Program | str:
    """Return the program of ``region``, or why it cannot be compiled: a sentence."""
    dtypes = register_dtypes(region)
    for dtype in dtypes:
        if memory_type(dtype) is None or not dtype.isnative:
            return f"elements of dtype {dtype.str} are computed by NumPy"
    operands = [Operand(layout.dtype, k, "input") for k, layout in enumerate(region.inputs)]
    bodies: list[Body | None] = []
    scalars = _scalars(region)
    for place, instruction in enumerate(region.program):
        body = _body(region, dtypes, scalars, instruction)
        if isinstance(body, str):
            return body
        bodies.append(body)
        if body is None:
            register = len(region.inputs) + place
            given = parameters(instruction)
            operands += [Operand(value.dtype, register, "parameter") for value in given]
    operands += [Operand(dtypes[register], register, "output") for register in region.outputs]
    foldings = []
    for reducing in region.reductions:
        found = folding_of(reducing, dtypes[reducing.register])
        if isinstance(found, str):
            return found
        foldings.append(found)
        operands += [Operand(dtype, f, "field") for f, dtype in enumerate(found.dtypes)]
    return Program(region, tuple(dtypes), tuple(bodies), tuple(operands), tuple(foldings))


def _scalars(region: Region) -> frozenset[int]:
    """Return the registers that hold one number for the whole space."""
    found = {k for k, layout in enumerate(region.inputs) if _is_scalar(layout, region)}
    for instruction in region.program:
        if instruction.operands and found.issuperset(instruction.operands):
            found.update(instruction.results)
    return frozenset(found)


def _is_scalar(layout: Layout, region: Region) -> bool:
    """Return whether an input is a constant, or an array of one element spread over others."""
    return not layout.shape or (region.elements > 1 and all(n == 1 for n in layout.shape))


def _body(
    region: Region,
    dtypes: Sequence[numpy.dtype[Any]],
    scalars: frozenset[int],
    instruction: Instruction,
) -> Body | str | None:
    """Return the body of an instruction, None for a generator, or why there is none."""
    if type(instruction.row) is Elementwise:
        given = tuple(dtypes[i] for i in instruction.operands)
        positions = (p for p, i in enumerate(instruction.operands) if i in scalars)
        return body_of(instruction.row, given, instruction.dtypes[0], frozenset(positions))
    return _refused(instruction, region)


def _refused(instruction: Instruction, region: Region) -> str | None:
    name = instruction.row.name
    if name == "full":
        return None
    dtype = instruction.dtypes[0]
    if _PLACED.get(name) != dtype or len(region.shape) != 1:
        return f"{name} of {dtype} over {len(region.shape)} axes is not made in registers"
    return None
