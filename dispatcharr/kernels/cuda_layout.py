"""How a region's operands lie in memory, as a CUDA kernel walks them.

Axes of one element go, axes are ordered as the first output lies in memory, and neighbours that
every operand walks in one stride become one. What is then left is either one run of memory, or has
its index taken apart: in 32 bits wherever they hold all offsets. An operand that lies across the
others, such as a transposed one, is read in tiles, so that a block uses all of what comes with an
element in a sector of memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from dispatcharr.kernels.cuda_loop import THREADS, Form
from dispatcharr.kernels.cuda_text import Piece
from dispatcharr.plan.collapse import collapse
from dispatcharr.plan.region import Layout, Region

__all__ = ["MISALIGNED", "VECTOR", "Operand", "Walk", "walk_of"]

MISALIGNED = "an operand is not aligned in memory; NumPy's loops copy such operands piece by piece"
#: Bytes that a thread loads at once, at most.
VECTOR = 16
#: Bytes of inputs that a thread has under way.
_UNDER_WAY = 64
#: Most copies of the program in a kernel, and about how many instructions all of them may be.
_COPIES, _INSTRUCTIONS = 16, 250
#: Offsets and counts that 32 bits hold.
_NARROW = 1 << 31
#: Bytes that memory hands over at once, and columns of a tile.
_SECTOR, _COLUMNS = 32, 32


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand over the space that is left.

    ``strides`` are in elements; none where it is a constant. ``start`` is how far, in bytes, the
    first element of the space lies from the operand's own.
    """

    dtype: numpy.dtype[Any]
    strides: tuple[int, ...]
    start: int
    address: int


@dataclass(frozen=True, slots=True)
class Walk:
    """The form of a kernel, and the boxes that it is launched for.

    A box is its shape, with each operand's strides and start over it.
    """

    form: Form
    boxes: tuple[tuple[tuple[int, ...], tuple[Operand, ...]], ...]


def walk_of(region: Region, buffers: Sequence[numpy.ndarray], found: Piece) -> Walk | str:
    """Return how a kernel walks the buffers of ``region``, or why none does."""
    simplified = _simplified(region, buffers, found.places)
    if isinstance(simplified, str):
        return simplified
    shape, operands = simplified
    inputs = len(region.inputs)
    axis = _across(shape, operands)
    if axis is None:
        form = _form(found, shape, operands, inputs, tiled=False)
        return Walk(form, ((shape, tuple(operands)),))
    form = _form(found, shape, operands, inputs, tiled=True)
    rows = THREADS * form.chunks // _COLUMNS
    return Walk(replace(form, rank=len(shape) + 2), tuple(_tiles(shape, operands, axis, rows)))


def _strides(layout: Layout, buffer: numpy.ndarray) -> tuple[int, ...] | None:
    """Return byte strides over the space, 0 where broadcast; None where it is one element."""
    if not layout.shape:
        return None
    view = layout.view(buffer)
    found = tuple([0 if n == 1 else s for n, s in zip(view.shape, view.strides, strict=True)])
    return found if any(found) else None


def _simplified(
    region: Region, buffers: Sequence[numpy.ndarray], fixed: bool
) -> tuple[tuple[int, ...], list[Operand]] | str:
    """Return the space with the fewest axes, and the operands over it.

    ``fixed`` says that elements depend on their place, so that the order stays as it is.
    """
    layouts = [*region.inputs, *region.output_layouts]
    inputs = len(region.inputs)
    whole = [_strides(layout, buffer) for layout, buffer in zip(layouts, buffers, strict=True)]
    axes = [axis for axis, extent in enumerate(region.shape) if extent != 1]
    lead = next((s for s in whole[inputs:] if s is not None), None)
    if lead is not None and not fixed:
        axes.sort(key=lambda axis: -abs(lead[axis]))
    shape = tuple(region.shape[axis] for axis in axes)
    strides = [None if s is None else [s[axis] for axis in axes] for s in whole]
    starts = [0] * len(buffers)
    for axis, extent in enumerate(shape):
        if fixed or lead is None or lead[axes[axis]] >= 0 or extent == 0:
            continue
        for k, own in enumerate(strides):  # from its other end
            if own is not None:
                starts[k] += own[axis] * (extent - 1)
                own[axis] = -own[axis]
    shape, merged = _merged(shape, strides)
    operands = []
    for k, (layout, buffer) in enumerate(zip(layouts, buffers, strict=True)):
        own, size = merged[k], layout.dtype.itemsize
        if own is None and k >= inputs:
            own = [size] * len(shape)  # the one element that there is
        address = buffer.__array_interface__["data"][0] + starts[k]
        if not buffer.flags.aligned or any(stride % size for stride in own or ()):
            return MISALIGNED
        operands.append(Operand(layout.dtype, tuple(s // size for s in own or ()), starts[k],
                                 address))  # fmt: skip
    return shape, operands


def _merged(
    shape: tuple[int, ...], strides: Sequence[list[int] | None]
) -> tuple[tuple[int, ...], list[list[int] | None]]:
    """Return a space of one axis at least, neighbouring axes joined where that is possible."""
    if not shape:
        return (1,), [None if own is None else [0] for own in strides]
    used = [tuple(own) for own in strides if own is not None]
    groups = collapse(shape, used, [False] * len(shape))
    extents = []
    for group in groups:
        n = 1
        for axis in group:
            n *= shape[axis]
        extents.append(n)
    return tuple(extents), [
        None if own is None else [own[group[-1]] for group in groups] for own in strides
    ]


# -- tiles --------------------------------------------------------------------------------------


def _across(shape: tuple[int, ...], operands: Sequence[Operand]) -> int | None:
    """Return the axis along which an operand lies in memory, if that is not the last."""
    if shape[-1] < _COLUMNS:
        return None
    for operand in operands:
        strides = operand.strides
        if not strides or strides[-1] in (0, 1):
            continue
        near = [
            axis
            for axis, stride in enumerate(strides[:-1])
            if 0 < abs(stride) < abs(strides[-1])
            and abs(stride) * operand.dtype.itemsize < _SECTOR
            and shape[axis] * 4 >= _COLUMNS
        ]
        if near:
            return min(near, key=lambda axis: abs(strides[axis]))
    return None


def _tiles(
    shape: tuple[int, ...], operands: Sequence[Operand], axis: int, rows: int
) -> Iterator[tuple[tuple[int, ...], tuple[Operand, ...]]]:
    """Return the boxes of whole tiles, of what is left of the columns, and of the rows."""
    high, wide = shape[axis], shape[-1]
    down, along = high - high % rows, wide - wide % _COLUMNS
    parts = [
        ((high // rows, wide // _COLUMNS, rows, _COLUMNS), (0, 0)),
        ((1, 1, high, wide - along), (0, along)),
        ((1, 1, high - down, along), (down, 0)),
    ]
    for (tall, broad, row, column), (top, left) in parts:
        if not tall * broad * row * column:
            continue
        outer = [n for k, n in enumerate(shape[:-1]) if k != axis]
        made = []
        for operand in operands:
            own = operand.strides
            if not own:
                made.append(operand)
                continue
            others = [s for k, s in enumerate(own[:-1]) if k != axis]
            strides = (*others, own[axis] * row, own[-1] * column, own[axis], own[-1])
            start = (own[axis] * top + own[-1] * left) * operand.dtype.itemsize
            made.append(replace(operand, strides=strides, start=operand.start + start))
        yield (*outer, tall, broad, row, column), tuple(made)


# -- forms --------------------------------------------------------------------------------------


def _form(
    found: Piece,
    shape: tuple[int, ...],
    operands: Sequence[Operand],
    inputs: int,
    tiled: bool,
) -> Form:
    """Return how the kernel walks operands over ``shape``."""
    runs = _runs(shape) if not tiled else None
    flat = all((not o.strides and k < inputs) or o.strides == runs for k, o in enumerate(operands))
    widest = max((o.dtype.itemsize for o in operands if o.strides), default=VECTOR)
    lanes = max(VECTOR // widest, 1)
    while lanes > 1 and not _fits(shape, operands, lanes, flat):
        lanes //= 2
    kinds = "".join(_kind(o, shape, runs, k < inputs) for k, o in enumerate(operands))
    loaded = sum(
        o.dtype.itemsize * lanes for k, o in enumerate(operands[:inputs]) if kinds[k] != "k"
    )
    copies = min(_COPIES, max(_INSTRUCTIONS // max(found.weight, 1), 1))
    while lanes > copies:
        lanes //= 2
    chunks = 4 if not loaded else max(_UNDER_WAY // max(loaded, VECTOR), 1)
    chunks = max(min(chunks, copies // lanes, 4), 1)
    rank = 1 if flat else len(shape)
    paired = all(o.address % o.dtype.itemsize == 0 for o in operands if o.dtype.kind == "c")
    return Form(rank, kinds, lanes, chunks, not flat and _is_wide(shape, operands), paired)


def _runs(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of one run of memory."""
    found, step = [], 1
    for extent in reversed(shape):
        found.append(step)
        step *= extent
    return tuple(reversed(found))


def _kind(
    operand: Operand, shape: tuple[int, ...], runs: tuple[int, ...] | None, is_input: bool
) -> str:
    strides = operand.strides
    if not strides and is_input:
        return "k"
    if strides == runs or not strides:
        return "f"
    if strides[-1] == 1:
        return "v"
    return "r" if strides[-1] == 0 else "s"


def _fits(shape: tuple[int, ...], operands: Sequence[Operand], lanes: int, flat: bool) -> bool:
    """Return whether chunks of ``lanes`` elements can be loaded at once."""
    if not flat and shape[-1] % lanes:
        return False
    for operand in operands:
        strides, size = operand.strides, operand.dtype.itemsize
        if not strides:
            continue
        if strides[-1] not in (0, 1):
            return False
        if strides[-1] == 1 and (
            operand.address % (lanes * size) or any(stride % lanes for stride in strides[:-1])
        ):
            return False
    return True


def _is_wide(shape: tuple[int, ...], operands: Sequence[Operand]) -> bool:
    elements = 1
    for extent in shape:
        elements *= extent
    if elements >= _NARROW:
        return True
    reach = [
        sum(
            abs(stride) * max(extent - 1, 0)
            for stride, extent in zip(o.strides, shape, strict=True)
        )
        for o in operands
        if o.strides
    ]
    return max(reach, default=0) >= _NARROW
