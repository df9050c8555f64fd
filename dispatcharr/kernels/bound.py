"""A region with the strides of its operands: which kernel that takes, and how its space is cut."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from dispatcharr.kernels import native
from dispatcharr.kernels.build import Builder
from dispatcharr.kernels.compiled_reduce import boxes
from dispatcharr.kernels.errors import Suspects
from dispatcharr.kernels.grid import block_grid
from dispatcharr.kernels.llvm import Program, form_of, kernel_text, parameters, program_of
from dispatcharr.kernels.target import architecture
from dispatcharr.plan.region import Layout, Reducing, Region

__all__ = ["MISALIGNED", "Bound", "Cut", "Family", "Known", "bind", "foresee", "forms", "know"]

MISALIGNED = "an operand is not aligned in memory; NumPy's loops copy such operands piece by piece"
#: Elements under which a task is not cut further: handing one out costs as much as some thousand.
_SMALLEST_TASK = 1 << 14
#: Sets of strides that are remembered for a region.
_MOST_FORMS = 64
#: Bytes of a row that are worth streaming: its ends, which share cache lines, are not streamed.
_STREAMED_ROW = 1 << 12


@dataclass(frozen=True, slots=True)
class Cut:
    """Boxes by task, as addresses of tables of words, and the memory that these are in.

    ``table`` says the same as numbers: where the boxes are and how far apart, where the numbers of
    the tasks' first boxes are, and how many tasks there are.
    """

    boxes: tuple[tuple[int, ...], ...]
    table: tuple[int, int, int, int]
    memory: tuple[numpy.ndarray, numpy.ndarray]
    segments: int


class Family:
    """What regions have in common that differ in extents, parameters or watched errors alone."""

    def __init__(self, signature: tuple[Any, ...], program: Program) -> None:
        self.signature = signature
        self.program = program
        self.function = program.function
        self.suspects = Suspects(program)
        self.fields = tuple([one for one in program.operands if one.role == "field"])


class Known:
    """What is known of a region whatever its buffers."""

    def __init__(self, region: Region, family: Family) -> None:
        self.family = family
        self.parameters = [
            value
            for instruction in region.program
            if instruction.row.nin == 0
            for value in parameters(instruction)
        ]
        self.forms: dict[tuple[tuple[int, ...], ...], Bound | str] = {}


class Bound:
    """A region with the strides of its operands: neither keeps the other alive."""

    def __init__(self, known: Known, region: Region, strides: list[tuple[int, ...]]) -> None:
        self.region = weakref.ref(region)
        self.family = known.family
        self.parameters = known.parameters
        self.program = known.family.program
        self.reducing = region.reducing
        self.reductions = region.reductions
        self.shape = region.shape or (1,)
        self.form = form_of(self.program, self.shape, strides)
        #: What tells its kernel from others: no extents, so that many regions share one.
        self.key = (known.family.signature, self.form)
        given = len(strides) - len(known.family.fields)
        #: Per operand the words after its address in the table of arguments.
        self.rows = [list(own) or [0] * len(self.shape) for own in strides[:given]]
        self.function: Callable[[int, int], None] | None = None
        self.function_address = 0
        self._cuts: dict[int, Cut] = {}
        self._widest = max((dtype.itemsize for dtype in self.program.dtypes), default=8)
        self.streams = len(self.shape) == 1 or self.shape[-1] * self._widest >= _STREAMED_ROW

    def text(self) -> str:
        """Return the kernel's text; called on the thread that compiles."""
        lanes, declarations = _mathematics(self.program)
        return kernel_text(self.program, self.form, lanes, architecture(), declarations)

    def ready(self, builder: Builder, buy: bool) -> Callable[[int, int], None] | None:
        """Return the kernel if it is there."""
        if self.function is None:
            address = builder.ask(self.key, self.text, buy=buy)
            if address is not None:
                self.function_address = address
                self.function = native.function(address)
        return self.function

    def cut(self, pieces: int) -> Cut:
        """Return how the space is cut: into about ``pieces`` tasks where nothing is reduced."""
        if self.reducing is not None:
            pieces = 0
        found = self._cuts.get(pieces)
        if found is None:
            if self.reducing is None:
                found = _cut(self.shape, pieces)
            else:
                found = _reducing_cut(self.shape, self.reducing, self._widest)
            self._cuts[pieces] = found
        return found


# Nothing kept here may refer to its region, not even by way of others: it would live for ever.
_known: weakref.WeakKeyDictionary[Region, Known | str] = weakref.WeakKeyDictionary()
_families: weakref.WeakValueDictionary[tuple[Any, ...], Family] = weakref.WeakValueDictionary()


def know(region: Region) -> Known | str:
    """Return what is known of ``region``, or why it is not compiled."""
    found = _known.get(region)
    if found is None:
        family = _family(region)
        found = family if isinstance(family, str) else Known(region, family)
        _known[region] = found
    return found


def _family(region: Region) -> Family | str:
    signature = _signature(region)
    found = _families.get(signature)
    if found is None:
        # Of a copy: a program refers to its region, and this one outlives it.
        program = program_of(replace(region))
        if isinstance(program, str):
            return program
        found = _families[signature] = Family(signature, program)
    return found


def forms(region: Region) -> list[Bound]:
    """Return all that ``region`` was bound to so far and that can be compiled."""
    found = _known.get(region)
    if not isinstance(found, Known):
        return []
    return [bound for bound in list(found.forms.values()) if isinstance(bound, Bound)]


def bind(
    region: Region, inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]
) -> Bound | str:
    """Return ``region`` with the strides of its buffers, or why that is not compiled."""
    known = know(region)
    if isinstance(known, str):
        return known
    # The result of a reduction, the last output, is not written by the kernel.
    buffers = [*inputs, *outputs[: len(region.outputs)]]
    strides = tuple([buffer.strides for buffer in buffers])
    bound = known.forms.get(strides)
    if bound is None:
        if len(known.forms) >= _MOST_FORMS:
            known.forms.clear()
        layouts = [*region.inputs, *region.output_layouts]
        seen = [_strides(layout, buffer) for layout, buffer in zip(layouts, buffers, strict=True)]
        bound = known.forms[strides] = _bind(known, region, seen)
    if isinstance(bound, Bound) and any([not buffer.flags.aligned for buffer in buffers]):
        return MISALIGNED
    return bound


def foresee(region: Region) -> Bound | str | None:
    """Return what ``region`` will be bound to; None where that is told by its buffers alone."""
    known = know(region)
    if isinstance(known, str):
        return known
    layouts = [*region.inputs, *region.output_layouts]
    if any([layout.shape and not layout.contiguous for layout in layouts]):
        return None
    return _bind(known, region, [_whole_strides(layout) for layout in layouts])


def _bind(known: Known, region: Region, strides: list[tuple[int, ...]]) -> Bound | str:
    layouts = [*region.inputs, *region.output_layouts]
    for layout, own in zip(layouts, strides, strict=True):
        if any(stride % layout.dtype.alignment for stride in own):
            return MISALIGNED
    between = len(region.inputs)
    strides[between:between] = [()] * len(known.parameters)
    if region.reducing is not None:
        sizes = [operand.dtype.itemsize for operand in known.family.fields]
        strides += [_field_strides(region.reducing, size) for size in sizes]
    return Bound(known, region, strides)


def _whole_strides(layout: Layout) -> tuple[int, ...]:
    """Return what :func:`_strides` does of a contiguous buffer."""
    found, step = [], layout.dtype.itemsize
    for extent in reversed(layout.shape):
        found.append(0 if extent == 1 else step)
        step *= extent
    return tuple(reversed(found))


def _strides(layout: Layout, buffer: numpy.ndarray) -> tuple[int, ...]:
    """Return byte strides over the space: 0 where broadcast, none for a constant."""
    if not layout.shape:
        return ()
    view = layout.view(buffer)
    return tuple([0 if n == 1 else s for n, s in zip(view.shape, view.strides, strict=True)])


def _field_strides(reducing: Reducing, itemsize: int) -> tuple[int, ...]:
    """Return the byte strides of an array of states over the space."""
    found = []
    for axis in range(len(reducing.shape) - 1, -1, -1):
        found.append(0 if axis in reducing.axes else itemsize)
        itemsize *= reducing.shape[axis]
    return tuple(reversed(found))


def _cut(shape: tuple[int, ...], pieces: int) -> Cut:
    elements = 1
    for extent in shape:
        elements *= extent
    share = max(-(-elements // pieces), _SMALLEST_TASK if pieces > 1 else 1)
    grid = block_grid(shape, share, None, pieces)
    tasks = [list(grid.blocks(task)) for task in range(grid.tasks)]
    rows = [
        [*(one.start for one in box), *(one.stop for one in box)] for task in tasks for box in task
    ]
    return _made(rows, 2 * len(shape), [len(task) for task in tasks])


def _reducing_cut(shape: tuple[int, ...], reducing: Reducing, itemsize: int) -> Cut:
    rows = boxes(shape, reducing.axes, itemsize)
    # Nothing at all is one segment that stays neutral.
    segments = max((row[2 * len(shape)] for row in rows), default=0) + 1
    return _made(rows, 3 * len(shape) + 1, [1] * len(rows), segments)


def _made(rows: list[list[int]], words: int, lengths: list[int], segments: int = 0) -> Cut:
    """Return boxes of so many words each, and tasks of so many boxes each, as a cut."""
    memory = numpy.array(rows, numpy.int64).reshape(-1, words)
    starts = numpy.cumsum([0, *lengths], dtype=numpy.int64)
    first, apart = _start(memory), memory.strides[0]
    boxes = tuple(
        tuple(range(first + at * apart, first + (at + length) * apart, apart))
        for at, length in zip(starts.tolist(), lengths, strict=False)
    )
    return Cut(boxes, (first, apart, _start(starts), len(lengths)), (memory, starts), segments)


def _start(memory: numpy.ndarray) -> int:
    """Return the address of an array."""
    found: int = memory.__array_interface__["data"][0]
    return found


def _signature(region: Region) -> tuple[Any, ...]:
    """Return what tells the program of ``region`` from others in this process.

    Bodies depend on what is spread over the space, so on extents as far as 0, 1 and more.
    """
    reduced = tuple(
        [
            (one.row.name, one.register, one.axes, one.state_dtype, one.mask)
            for one in region.reductions
        ]
    )
    return (
        _sizes(region.shape),
        tuple([(layout.dtype.char, _sizes(layout.shape)) for layout in region.inputs]),
        tuple(
            [
                (i.row, i.operands, i.dtypes, len(parameters(i)) if i.row.nin == 0 else 0)
                for i in region.program
            ]
        ),
        region.outputs,
        reduced,
    )


def _sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([min(extent, 2) for extent in shape])


def _mathematics(program: Program) -> tuple[int, str]:
    """Return the elements of a whole vector, and the declarations of the functions called."""
    if not program.function:
        return 1, ""
    host = native.host()
    if isinstance(host, str):
        raise native.BuildError(host)
    for name in sorted(program.calls):
        if name not in host.simd_math:
            raise native.BuildError(f"this machine has no SIMD variant of {name}")
    fused = any("@llvm.fma." in need for body in program.bodies if body for need in body.needs)
    if fused and architecture() == "x86_64" and "+fma" not in host.features.split(","):
        raise native.BuildError("this CPU has no fused multiply-add, with which powers are made")
    declared = native.simd_attributes(program.calls) if program.calls else ""
    return host.vector_bytes // program.function, declared
