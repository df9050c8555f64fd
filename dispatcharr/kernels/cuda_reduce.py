"""Map-reduce regions on CUDA: from the layouts of their buffers to kernels and launches.

Empty reductions, elements that are not aligned, and rows that :func:`folding_of` refuses are left
to the host.
"""

from __future__ import annotations

import hashlib
import struct
import weakref
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy

from dispatcharr.kernels.cuda_fold import Folding, memory
from dispatcharr.kernels.cuda_folds import folding_of
from dispatcharr.kernels.cuda_reduce_cut import (
    Cut,
    Space,
    cut_of,
    is_wide,
    joining_lanes,
    rows_of,
    space_of,
    strides_of,
    vector_of,
    vectors_of,
)
from dispatcharr.kernels.cuda_reduce_form import Form, Operand
from dispatcharr.kernels.cuda_reduce_parts import BLOCK, Slots, joining_text
from dispatcharr.kernels.cuda_reduce_text import reducing_text
from dispatcharr.kernels.cuda_source import Address, Launch, Source
from dispatcharr.kernels.cuda_text import Piece, ctype, piece, scalars_of
from dispatcharr.plan.region import Reducing, Region
from dispatcharr.plan.work import register_dtypes

__all__ = ["Bound", "bind", "refusal"]

#: Sets of layouts that are remembered for a region.
_MOST_FORMS = 64
#: Bytes that are read at once, at most.
_WIDEST = 16


class Bound:
    """A reducing region with the layouts of its buffers; see ``cuda_source.Bound``."""

    def __init__(
        self, sources: tuple[Source, ...], flags: tuple[tuple[str, str], ...], scratch: int,
        steps: tuple[_Step, ...], aligned: tuple[tuple[int, int], ...],
    ) -> None:  # fmt: skip
        self.sources = sources
        self.flags = flags
        self.scratch = scratch
        self._steps = steps
        self._aligned = aligned

    def launches(
        self, inputs: Sequence[Address], outputs: Sequence[int], scratch: int, flags: int
    ) -> Iterator[Launch]:
        """Return what to launch, in order; see ``cuda_source.Bound``."""
        operands = [*inputs, *outputs]
        for j, width in self._aligned:
            address = operands[j]
            if isinstance(address, int) and address % width:
                raise ValueError(
                    f"operand {j} of a reduction lies at {address:#x} on the device; the kernel "
                    f"was bound for multiples of {width}, as its memory on the host lies"
                )
        for index, step in enumerate(self._steps):
            yield index, step.grid, BLOCK, step.words(operands, scratch, flags)


class _Step:
    """One launch: the words that are known, and where those go that are not."""

    def __init__(
        self, slots: Slots, known: dict[str, int], grid: int, parts: Sequence[int]
    ) -> None:  # fmt: skip
        self.grid = grid
        self._words = [known.get(name, 0) for name in slots.names]
        self._addresses: list[tuple[int, int]] = []
        self._numbers: list[tuple[int, int, int]] = []
        self._parts: list[tuple[int, int]] = []
        self._flags: list[int] = []
        for place, name in enumerate(slots.names):
            if name == "flags":
                self._flags.append(place)
            elif name == "out":
                self._addresses.append((place, -1))
            elif name.startswith("part"):
                self._parts.append((place, parts[int(name[4:])]))
            elif name[0] == "a":
                self._addresses.append((place, int(name[1:])))
            elif name[0] == "k" and name[1].isdigit():
                second = name.endswith("b")
                self._numbers.append((place, int(name[1:].rstrip("b")), int(second)))

    def words(self, operands: Sequence[Address], scratch: int, flags: int) -> list[int]:
        """Return the words of one launch."""
        words = self._words.copy()
        for place, j in self._addresses:
            address = operands[j]
            words[place] = address if isinstance(address, int) else 0
        for place, j, which in self._numbers:
            number = operands[j]
            if not isinstance(number, int):
                words[place] = _bits(number)[which]
        for place, offset in self._parts:
            words[place] = scratch + offset
        for place in self._flags:
            words[place] = flags
        return words


def bind(
    region: Region, inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]
) -> Bound | str:
    """Return how ``region``, which reduces, runs on buffers of such layouts, or why it does not.

    What was found is remembered, by region.

    Parameters
    ----------
    region : Region
        What to compute.
    inputs, outputs : sequence of numpy.ndarray
        Buffers in the region's order; of their addresses only the alignment matters.
    """
    buffers = [*inputs, *outputs]
    key = tuple([(b.strides, b.__array_interface__["data"][0] % _WIDEST) for b in buffers])
    known = _known.setdefault(region, {})
    found = known.get(key)
    if found is None:
        if len(known) >= _MOST_FORMS:
            known.clear()
        found = known[key] = _look(region, inputs, outputs)
    return found


# What is kept here does not refer to its region: it would live for ever.
_known: weakref.WeakKeyDictionary[Region, dict[tuple[Any, ...], Bound | str]]
_known = weakref.WeakKeyDictionary()


def refusal(region: Region) -> str | None:
    """Return why ``region`` does not run, as far as it says itself; None where it may."""
    found = _program(region)
    return found if isinstance(found, str) else None


def _program(region: Region) -> tuple[Reducing, Piece, Folding] | str:
    reducing = region.reducing
    if reducing is None:
        return "nothing is reduced here"
    if region.elements == 0 or not region.shape:
        return "what is empty or has no axes is reduced on the host"
    wanted = [*region.outputs, *reducing.reads]
    if region.others:
        return "several reductions of one expression are made in one pass on the host only"
    made = piece(region, wanted, region.watch, scalars_of(region))
    if isinstance(made, str):
        return made
    value = register_dtypes(region)[reducing.register]
    folding = folding_of(reducing, value, region.watch, len(made.flags))
    if isinstance(folding, str):
        return folding
    if len(made.flags) + len(folding.flags) > 64:
        return "the region may meet more errors than a word has bits"
    return reducing, made, folding


def _look(
    region: Region, inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]
) -> Bound | str:
    program = _program(region)
    if isinstance(program, str):
        return program
    if not all(buffer.flags.aligned for buffer in (*inputs, *outputs)):
        return "an operand is not aligned in memory"
    reducing, made, folding = program
    if not outputs[-1].flags.c_contiguous or outputs[-1].size != prod(reducing.shape):
        return "the result of the reduction does not lie together in memory"
    return _bound(region, reducing, space_of(region, reducing, inputs, outputs), made, folding)


def _bound(
    region: Region, reducing: Reducing, space: Space, made: Piece, folding: Folding
) -> Bound:
    kinds = space.kinds
    vector = vector_of(space, kinds, made)
    cut = cut_of(space, kinds, vector, made)
    operands = tuple(
        Operand(
            ctype(walk.dtype), walk.dtype.itemsize, kind,
            i < space.inputs and kind not in "k0" and not any(walk.reduced),
        )
        for i, (walk, kind) in enumerate(zip(space.walks, kinds, strict=True))
    )  # fmt: skip
    steps_of = strides_of(space, vector)
    form = Form(
        space.along, len(space.kept), len(space.reduced), vector, cut.unroll, cut.lanes,
        is_wide(space, vector), cut.splits > 1, space.along and space.extent % vector != 0,
        operands, space.inputs,
    )  # fmt: skip
    stored = len(region.outputs)
    places = (stored, None if reducing.mask is None else stored + 1)
    result = memory(reducing.dtype)
    known = _told(space, vector, cut, made, folding, reducing) | steps_of
    rows = prod(space.kept)
    parts, scratch = _parts(folding, rows * cut.splits if cut.splits > 1 else 0)
    text, slots = reducing_text("NAME", form, made, folding, places, result)
    sources = [_source(reducing.row.name, text)]
    steps = [_Step(slots, known, cut.grid, parts)]
    if cut.splits > 1:
        lanes = joining_lanes(rows, cut.splits)
        text, slots = joining_text("NAME", lanes, made, folding, result)
        sources.append(_source(f"join_{reducing.row.name}", text))
        grid = -(-rows // (BLOCK // lanes))
        steps.append(_Step(slots, known | {"rows": rows}, grid, parts))
    aligned = tuple(
        (i, vector * walk.dtype.itemsize)
        for i, (walk, kind) in enumerate(zip(space.walks, kinds, strict=True))
        if kind == "c" and vector > 1
    )
    return Bound(tuple(sources), made.flags + folding.flags, scratch, tuple(steps), aligned)


def _source(row: str, text: str) -> Source:
    """Return the text under a name that says what it is and that no other text has."""
    name = f"dispatcharr_{row}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return Source(text.replace(" NAME(", f" {name}("), name)


# -- words ----------------------------------------------------------------------------------------


def _told(
    space: Space, vector: int, cut: Cut, made: Piece, folding: Folding, reducing: Reducing
) -> dict[str, int]:
    known = {
        "rows": rows_of(space, vector), "vectors": vectors_of(space, vector), "splits": cut.splits,
        "chunk": cut.chunk, "extent": space.extent, "count": _double(reducing.count),
        "ddof": _double(folding.ddof),
    }  # fmt: skip
    known["initial"], known["more"] = _initial(folding.initial)
    for i, value in enumerate(made.params):
        known[f"param{i}"], known[f"param{i}b"] = _bits(value)
    return known


def _double(number: float) -> int:
    found: int = struct.unpack("<q", struct.pack("<d", number))[0]
    return found


def _initial(value: numpy.ndarray | None) -> tuple[int, int]:
    if value is None:
        return 0, 0
    if value.dtype.kind in "fc":
        return _double(float(value.real)), _double(float(value.imag))
    return int(value), 0


def _bits(number: numpy.ndarray) -> tuple[int, int]:
    """Return the bits of a number as two words."""
    low, high = struct.unpack("<QQ", number.tobytes().ljust(16, b"\0"))
    return low, high


def _parts(folding: Folding, states: int) -> tuple[list[int], int]:
    """Return where each field of so many states begins in scratch memory, and its size."""
    offsets, size = [], 0
    for kind in folding.fields:
        offsets.append(size)
        size += -(-states * _SIZES[kind] // _WIDEST) * _WIDEST
    return offsets, size


_SIZES = {"double": 8, "float": 4, "int": 4, "unsigned int": 4, "long long": 8,
          "unsigned long long": 8}  # fmt: skip
