"""The straight-line program of a region as CUDA C++: what one element goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr.ops.bodies.casting import Operand, kind_of
from dispatcharr.ops.bodies.cuda_body import cuda_errors, cuda_refusal, write_cuda
from dispatcharr.ops.bodies.cuda_writing import CudaText, c_type
from dispatcharr.ops.bodies.writing import BIT, BYTE, Complex, Value
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.row import Elementwise
from dispatcharr.plan.region import Instruction, Region
from dispatcharr.plan.work import register_dtypes

__all__ = ["Piece", "ctype", "params_of", "piece", "scalars_of"]

Dtype = numpy.dtype[Any]
_INT, _FLOAT = numpy.dtype(numpy.int64), numpy.dtype(numpy.float64)
#: Places that float32 holds: NumPy counts in the dtype of the result.
_COUNTED = 1 << 24
#: Bits of the variable ``flags``.
_MOST_FLAGS = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """The straight-line program of a region, for one element.

    Attributes
    ----------
    prelude : str
        Types and device functions that the lines use.
    lines : str
        C++ statements. They read ``in0`` to ``inK``, the inputs' elements, and ``param0`` on, and
        define ``out0`` on, one for each register wanted: all of :func:`ctype`.
    flags : tuple of (str, str)
        What bit i of the ``unsigned long long flags`` tells: the kind of error and the operation.
        The variable is not used if there are none.
    params : tuple of numpy.ndarray
        Numbers that the program is told, without axes: of the region, not of the text.
    places : bool
        Whether the lines read ``at``, a ``long long``: the element's place in the space.
    heavy : bool
        Whether it calls functions that are long.
    weight : int
        About how many instructions it is.
    """

    prelude: str
    lines: str
    flags: tuple[tuple[str, str], ...]
    params: tuple[numpy.ndarray, ...] = ()
    places: bool = False
    heavy: bool = False
    weight: int = 1


def ctype(dtype: Dtype) -> str:
    """Return the type of an element in memory: bool is a byte, float16 its bits."""
    if dtype.kind == "c":
        return f"Complex{8 * dtype.itemsize}"
    return c_type(BYTE if dtype.kind == "b" else kind_of(dtype))


def scalars_of(region: Region) -> frozenset[int]:
    """Return the inputs that hold one number for the whole space."""
    return frozenset(
        k
        for k, layout in enumerate(region.inputs)
        if not layout.shape or (region.elements > 1 and all(n == 1 for n in layout.shape))
    )


def params_of(region: Region) -> tuple[numpy.ndarray, ...]:
    """Return the numbers that the generators of a program are told, in order."""
    return tuple(number for i in region.program if i.row.nin == 0 for number in _told(i))


def _told(instruction: Instruction) -> list[numpy.ndarray]:
    dtype = instruction.dtypes[0]
    if instruction.row.name != "linspace":
        return [numpy.array(value, dtype) for value in instruction.params]
    first, step, last, size = instruction.params
    found = [numpy.array(first, _FLOAT), numpy.array(step, _FLOAT)]
    if last is not None:
        found += [numpy.array(last, dtype), numpy.array(size - 1, _INT)]
    return found


def _is_placed(instruction: Instruction, region: Region) -> bool:
    """Return whether an element's bits follow from its place as NumPy makes them."""
    dtype = instruction.dtypes[0]
    if len(region.shape) != 1:
        return False
    if instruction.row.name == "linspace":
        return dtype.char in "fd"
    counted = dtype.char != "f" or region.elements <= _COUNTED
    return dtype.kind in "iu" or (dtype.char in "fd" and counted)


def piece(
    region: Region, wanted: Sequence[int], watch: frozenset[str], scalars: frozenset[int]
) -> Piece | str:
    """Return the program that computes some registers of ``region``.

    Parameters
    ----------
    region : Region
        The region.
    wanted : sequence of int
        Registers that become ``out0`` and so on.
    watch : frozenset of str
        Kinds of floating-point errors that somebody asks for.
    scalars : frozenset of int
        Inputs that hold one number for the whole space.

    Returns
    -------
    Piece or str
        A sentence where it cannot be computed as NumPy does.
    """
    dtypes = register_dtypes(region)
    for dtype in dtypes:
        if not is_planned(dtype):
            return f"elements of dtype {dtype.str} are computed by NumPy"
    return _Writer(region, dtypes, watch, scalars).write(wanted)


class _Writer:
    """Writes the program of one region."""

    def __init__(
        self,
        region: Region,
        dtypes: Sequence[Dtype],
        watch: frozenset[str],
        scalars: frozenset[int],
    ) -> None:
        self._region = region
        self._dtypes = dtypes
        self._watch = watch
        self._scalars = set(scalars)
        self._text = CudaText()
        self._flags: dict[tuple[str, str], int] = {}
        self._params: list[numpy.ndarray] = []
        self._places = False
        self._weights: list[int] = []

    def write(self, wanted: Sequence[int]) -> Piece | str:
        text, dtypes = self._text, self._dtypes
        registers = [_loaded(text, f"in{k}", layout.dtype)
                     for k, layout in enumerate(self._region.inputs)]  # fmt: skip
        for instruction in self._region.program:
            made = self._instruction(instruction, registers)
            if isinstance(made, str):
                return made
            registers.append(made)
            if instruction.operands and self._scalars.issuperset(instruction.operands):
                self._scalars.update(instruction.results)
        if len(self._flags) > _MOST_FLAGS:
            return f"the program may meet {len(self._flags)} errors, more than {_MOST_FLAGS}"
        for j, register in enumerate(wanted):
            _stored(text, f"out{j}", dtypes[register], registers[register])
        return Piece(text.prelude(), "\n".join(text.lines) + "\n", tuple(self._flags),
                     tuple(self._params), self._places,
                     max(self._weights, default=1) >= _HEAVY, sum(self._weights))  # fmt: skip

    def _instruction(self, instruction: Instruction, registers: Sequence[Operand]) -> Operand | str:
        row, result = instruction.row, instruction.dtypes[0]
        if not isinstance(row, Elementwise):
            return self._generated(instruction)
        operands = tuple(self._dtypes[i] for i in instruction.operands)
        scalars = frozenset(p for p, i in enumerate(instruction.operands) if i in self._scalars)
        refusal = cuda_refusal(row, operands, result, scalars, self._watch)
        if refusal is not None:
            return refusal
        self._weights.append(_WEIGHTS.get(row.cost, 1))
        name = _name(row)
        bits = {
            kind: self._flags.setdefault((kind, name), len(self._flags))
            for kind in cuda_errors(row, operands, result, scalars)
            if kind in self._watch
        }
        values = [registers[i] for i in instruction.operands]
        return write_cuda(self._text, row, values, (operands, result), scalars, bits)

    def _generated(self, instruction: Instruction) -> Operand | str:
        """Write the element at place ``at``, by the same steps as NumPy's own loops."""
        name, dtype = instruction.row.name, instruction.dtypes[0]
        given = [self._param(number) for number in _told(instruction)]
        if name == "full":
            return given[0]
        if name not in ("arange", "linspace") or not _is_placed(instruction, self._region):
            axes = len(self._region.shape)
            return f"{name} of {dtype} over {axes} axes is not made in registers"
        self._places = True
        first, step, *end = [number for number in given if isinstance(number, Value)]
        index = Value(self._text, kind_of(_INT), "at")
        value = (index.to(first.kind) * step + first).to(kind_of(dtype))
        return index.eq(end[1]).choose(end[0], value) if end else value

    def _param(self, number: numpy.ndarray) -> Operand:
        self._params.append(number)
        return _loaded(self._text, f"param{len(self._params) - 1}", number.dtype)


#: About how many instructions the steps of a cost class are, where that is more than a few.
_WEIGHTS = {"divide": 4, "sqrt": 4, "exp": 20, "log": 20, "hypot": 20, "tanh": 30,
            "int_divide": 40, "inverse_trig": 40, "trig": 50, "hyperbolic": 50, "tan": 60,
            "atan2": 60, "power": 100, "float_power": 100, "special": 100}  # fmt: skip
_HEAVY = 20


def _name(row: Elementwise) -> str:
    """Return what NumPy's warnings call an operation."""
    if row.ufunc is not None:
        return row.ufunc.__name__
    return "cast" if row.cost == "cast" else row.name


def _loaded(text: CudaText, name: str, dtype: Dtype) -> Operand:
    """Return an element in registers: memory seen as bool may hold any byte."""
    kind = kind_of(dtype)
    if dtype.kind == "c":
        return Complex(Value(text, kind, f"{name}.re"), Value(text, kind, f"{name}.im"))
    if kind == BIT:
        return Value(text, BYTE, name).ne(0)
    return Value(text, kind, name)


def _stored(text: CudaText, name: str, dtype: Dtype, value: Operand) -> None:
    if isinstance(value, Complex):
        text.line(f"const {ctype(dtype)} {name} = {{{value.real.name}, {value.imag.name}}};")
    else:
        text.line(f"const {ctype(dtype)} {name} = ({ctype(dtype)}){value.name};")
