"""A region with the layouts of its buffers on a CUDA device: its kernel, and how to launch it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, final

import numpy

from dispatcharr.kernels import cuda_reduce
from dispatcharr.kernels.cuda_layout import VECTOR, Operand, Walk, walk_of
from dispatcharr.kernels.cuda_loop import THREADS, Form, magic, source_of, word_names
from dispatcharr.kernels.cuda_source import Address, Bound, Launch, Source
from dispatcharr.kernels.cuda_text import Piece, params_of, piece, scalars_of
from dispatcharr.plan.region import Region

__all__ = ["Bound", "Source", "bind", "refusal"]

_MOST_BLOCKS = (1 << 31) - 1
_MOST_WORDS = 500
#: Sets of layouts that are remembered for a region, and programs that are remembered at all.
_MOST_FORMS, _MOST_PIECES = 64, 1024


@final
class _Elementwise:
    """A region without reduction, bound."""

    def __init__(self, region: Region, found: Piece, walk: Walk) -> None:
        form = walk.form
        operands = walk.boxes[0][1]
        inputs = len(region.inputs)
        dtypes = [operand.dtype for operand in operands]
        name = _name(region)
        #: Nothing has to be compiled where there are no elements.
        self.sources: tuple[Source, ...] = ()
        if region.elements:
            self.sources = (source_of(found, form, dtypes[:inputs], dtypes[inputs:], name),)
        self.flags = found.flags
        self.scratch = 0
        names = word_names(form, dtypes, inputs, [param.dtype for param in found.params])
        self._names = names
        self._places = [names.index(f"address{k}") for k in range(len(operands))]
        self._boxes = [_Box(form, names, found, *box) for box in walk.boxes if region.elements]
        self._aligned = [
            max(form.packed(k, operand.dtype) * operand.dtype.itemsize, operand.dtype.alignment)
            for k, operand in enumerate(operands)
        ]

    def refusal(self) -> str | None:
        """Return why it cannot be launched, if it cannot."""
        if any(box.grid > _MOST_BLOCKS for box in self._boxes):
            return "there are more elements than a launch takes"
        if len(self._names) > _MOST_WORDS:
            return f"the operands are described by {len(self._names)} words, too many"
        return None

    def launches(
        self, inputs: Sequence[Address], outputs: Sequence[int], scratch: int, flags: int
    ) -> Iterable[Launch]:
        """Return the launches: mostly one, none where there are no elements."""
        return [self._launch(box, [*inputs, *outputs], flags) for box in self._boxes]

    def _launch(self, box: _Box, operands: Sequence[Address], flags: int) -> Launch:
        words = box.template.copy()
        words[0] = flags
        for k, given in enumerate(operands):
            place = self._places[k]
            if isinstance(given, int):
                address = given + box.starts[k]
                if address % self._aligned[k]:
                    raise ValueError(
                        f"operand {k} lies at {address:#x} on the device, which is no multiple of "
                        f"{self._aligned[k]}: device memory has to be aligned as the host's is"
                    )
                words[place] = address
            else:
                bits = _bits(given)
                words[place + 1 : place + 1 + len(bits)] = bits
        return 0, box.grid, THREADS, words


class _Box:
    """What a launch for one box is told, but for the addresses."""

    def __init__(
        self,
        form: Form,
        names: Sequence[str],
        found: Piece,
        shape: tuple[int, ...],
        operands: Sequence[Operand],
    ) -> None:
        self._form, self._shape, self._operands = form, shape, operands
        self._elements = math.prod(shape)
        self.starts = [operand.start for operand in operands]
        self.template = [self._word(name, found) for name in names]
        self.grid = max(-(-(self._elements // form.lanes) // (THREADS * form.chunks)), 1)

    def _word(self, name: str, found: Piece) -> int:
        """Return what a word holds, 0 where that is told by the launch."""
        form = self._form
        if name == "chunks":
            return self._elements // form.lanes
        if name == "rest":
            return self._elements % form.lanes
        what, _, number = name.partition("_")
        if what in ("extent", "magic", "shift"):
            axis = int(number)
            extent = self._shape[axis] // (form.lanes if axis == form.rank - 1 else 1)
            return {"extent": (extent,), "magic": magic(extent)[:1], "shift": magic(extent)[1:]}[
                what
            ][0]
        if what == "stride":
            operand, axis = map(int, number.split("."))
            return self._operands[operand].strides[axis]
        if what == "param":
            place, part = map(int, number.split("."))
            return _bits(found.params[place])[part]
        return 0


def _bits(number: numpy.ndarray) -> list[int]:
    """Return the bits of one element as words of 64."""
    raw = number.tobytes()
    return [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]


def _name(region: Region) -> str:
    words = "_".join(instruction.row.name for instruction in region.program)
    return "elementwise_" + "".join(c if c.isalnum() else "_" for c in words)[:40]


# -- what is remembered -------------------------------------------------------------------------

# Nothing kept here may refer to its region: it would live for ever.
_bound: weakref.WeakKeyDictionary[Region, dict[tuple[Any, ...], Bound | str]] = (
    weakref.WeakKeyDictionary()
)
_pieces: dict[tuple[Any, ...], Piece | str] = {}


def bind(
    region: Region, inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]
) -> Bound | str:
    """Return ``region`` with the layouts of its buffers, or why a device cannot run it.

    Parameters
    ----------
    region : Region
        The region.
    inputs, outputs : sequence of numpy.ndarray
        Its buffers: their strides count, and where they lie modulo 16. What is in them does not.
    """
    if region.reducing is not None:
        return cuda_reduce.bind(region, inputs, outputs)
    known = _bound.get(region)
    if known is None:
        known = _bound[region] = {}
    buffers = [*inputs, *outputs]
    key = tuple(
        [(b.strides, b.__array_interface__["data"][0] % VECTOR) for b in buffers]
    )  # fmt: skip
    made = known.get(key)
    if made is None:
        if len(known) >= _MOST_FORMS:
            known.clear()
        made = known[key] = _made(region, buffers)
    return made


def refusal(region: Region) -> str | None:
    """Return why a device cannot run ``region``, as far as it says itself."""
    if region.reducing is not None:
        from dispatcharr.kernels import cuda_reduce

        return cuda_reduce.refusal(region)
    found = _piece(region)
    return found if isinstance(found, str) else None


def _made(region: Region, buffers: Sequence[numpy.ndarray]) -> Bound | str:
    found = _piece(region)
    if isinstance(found, str):
        return found
    walk = walk_of(region, buffers, found)
    if isinstance(walk, str):
        return walk
    made = _Elementwise(region, found, walk)
    return made.refusal() or made


def _piece(region: Region) -> Piece | str:
    key = _signature(region)
    found = _pieces.get(key)
    if found is None:
        if len(_pieces) >= _MOST_PIECES:
            _pieces.clear()
        found = piece(region, region.outputs, region.watch, scalars_of(region))
        _pieces[key] = found
    if isinstance(found, str) or not found.params:
        return found
    return replace(found, params=params_of(region))


def _signature(region: Region) -> tuple[Any, ...]:
    """Return what tells the program of ``region`` from others in this process."""
    return (
        len(region.shape),
        region.elements > 1 << 24,
        tuple([layout.dtype.char for layout in region.inputs]),
        scalars_of(region),
        tuple(
            [
                (i.row, i.operands, i.dtypes, i.row.nin == 0 and i.params[2:3] == (None,))
                for i in region.program
            ]
        ),
        region.outputs,
        region.watch,
    )
