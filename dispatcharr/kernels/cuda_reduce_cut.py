"""How the space of a map-reduce region is cut for CUDA: vectors, lanes, items.

How work is cut follows from the shape and the layouts alone, never from the device, so that a
result has the same bits on every GPU. An item has enough to read that starting it costs little, and
there are enough items to keep a large GPU busy where the data allows that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy

from dispatcharr.kernels.cuda_reduce_parts import BLOCK
from dispatcharr.kernels.cuda_text import Piece
from dispatcharr.plan.region import Layout, Reducing, Region

__all__ = [
    "Cut", "Space", "Walk", "cut_of", "is_wide", "joining_lanes", "rows_of", "space_of",
    "strides_of", "vector_of", "vectors_of",
]  # fmt: skip

#: Bytes that a thread reads at once, at most.
_WIDEST = 16
#: Vectors of an item, at least; and items that a space is cut into, at most.
_ITEM, _ITEMS = 2048, 4096
#: Vectors of a result from which on a whole block works for it, also where results are few.
_LONG, _FEW = 1024, 256
#: Threads that fill a large GPU: with as many for the columns alone, columns are not cut.
_THREADS = 1 << 18
_WARP = 32
#: Lines of the program that are unrolled, at most, and what a call of a long function counts as.
_LINES, _HEAVY = 512, 24
_FAR = 1 << 31


@dataclass(frozen=True, slots=True)
class Walk:
    """The strides of an operand in bytes, over kept and over reduced axes; and of what it is."""

    dtype: numpy.dtype[Any]
    kept: tuple[int, ...]
    reduced: tuple[int, ...]
    address: int
    constant: bool

    def kind(self, along: bool) -> str:
        """Return the operand's kind, as :class:`Operand` has it."""
        if self.constant:
            return "k"
        if not any(self.kept) and not any(self.reduced):
            return "0"
        stride = (self.reduced if along else self.kept)[-1]
        return {0: "b", self.dtype.itemsize: "c"}.get(stride, "s")


@dataclass(frozen=True, slots=True)
class Space:
    """The iteration space, its axes told apart, and the operands: inputs, then outputs."""

    kept: tuple[int, ...]
    reduced: tuple[int, ...]
    along: bool
    walks: tuple[Walk, ...]
    inputs: int

    @property
    def extent(self) -> int:
        """How long the axis is that vectors lie along."""
        return (self.reduced if self.along else self.kept)[-1]

    @property
    def kinds(self) -> list[str]:
        """The kind of each operand; what is written has a place for each element."""
        found = [walk.kind(self.along) for walk in self.walks]
        return [kind if i < self.inputs or kind in "cs" else "s" for i, kind in enumerate(found)]


@dataclass(frozen=True, slots=True)
class Cut:
    """How a space is cut: lanes per result, parts per result, vectors per part, blocks."""

    lanes: int
    splits: int
    chunk: int
    grid: int
    unroll: int


def space_of(
    region: Region, reducing: Reducing, inputs: Sequence[numpy.ndarray],
    outputs: Sequence[numpy.ndarray],
) -> Space:  # fmt: skip
    kept, reduced = [
        [i for i, n in enumerate(region.shape) if (i in reducing.axes) is side and n > 1]
        for side in (False, True)
    ]
    reduced = reduced or [reducing.axes[-1]]
    layouts = [*region.inputs, *region.output_layouts]
    walks = [
        _walk(layout, buffer, kept, reduced)
        for layout, buffer in zip(layouts, [*inputs, *outputs], strict=False)
    ]
    along = not kept or reduced[-1] > kept[-1]
    return Space(
        tuple(region.shape[i] for i in kept), tuple(region.shape[i] for i in reduced), along,
        tuple(walks), len(inputs),
    )  # fmt: skip


def _walk(
    layout: Layout, buffer: numpy.ndarray, kept: Sequence[int], reduced: Sequence[int]
) -> Walk:
    address = buffer.__array_interface__["data"][0]
    if not layout.shape:
        return Walk(layout.dtype, (), (), address, True)
    seen = layout.view(buffer)
    strides = [0 if n == 1 else s for n, s in zip(seen.shape, seen.strides, strict=True)]
    return Walk(
        layout.dtype, tuple(strides[i] for i in kept), tuple(strides[i] for i in reduced), address,
        False,
    )  # fmt: skip


def vector_of(space: Space, kinds: Sequence[str], made: Piece) -> int:
    """Return how many elements a thread reads at once."""
    sizes = [
        walk.dtype.itemsize for walk, kind in zip(space.walks, kinds, strict=True) if kind == "c"
    ]
    vector = max(1, _WIDEST // max(sizes)) if sizes else 1
    while vector > 1 and vector * _lines(made) > 2 * _LINES:
        vector //= 2
    while vector > 1 and not _fits(space, kinds, vector):
        vector //= 2
    return vector


def _fits(space: Space, kinds: Sequence[str], vector: int) -> bool:
    tail = space.along and len(space.reduced) == 1 and space.extent >= vector
    if space.extent % vector and not tail:
        return False
    for walk, kind in zip(space.walks, kinds, strict=True):
        if kind != "c":
            continue
        others = [*walk.kept, *walk.reduced[:-1]]
        if not space.along:
            others = [*walk.kept[:-1], *walk.reduced]
        width = vector * walk.dtype.itemsize
        if any(stride % width for stride in (walk.address, *others)):
            return False
    return True


def _lines(made: Piece) -> int:
    """Return about how many instructions an element takes."""
    return made.lines.count("\n") + _HEAVY * made.heavy


def cut_of(space: Space, kinds: Sequence[str], vector: int, made: Piece) -> Cut:
    """Return how the space is cut, for vectors of so many elements."""
    rows, vectors = rows_of(space, vector), vectors_of(space, vector)
    per = max(_ITEM, -(-rows * vectors // _ITEMS))
    if space.along:
        lanes = min(_WARP, _power(-(-vectors // 4)))
        if vectors >= _LONG or (vectors >= _FEW and rows < _ITEMS):
            lanes = BLOCK
    else:
        across = min(_WARP, _power(rows))
        lanes = BLOCK // across
        while lanes > 1 and (lanes * 2 > vectors or rows * lanes >= 2 * _THREADS):
            lanes //= 2
    across = BLOCK // lanes
    length = -(-per // across)
    splits = 1
    if vectors >= 2 * length and lanes * across == BLOCK and (lanes == BLOCK or not space.along):
        splits = -(-vectors // length)
        if not space.along:
            splits = min(splits, max(1, _THREADS // (rows * lanes)))
    chunk = -(-vectors // splits)
    splits = -(-vectors // chunk)
    items = -(-rows // across) * splits
    passes = max(1, _ITEM // (across * chunk))
    unroll = _unroll(space, kinds, vector, made, -(-chunk // lanes))
    return Cut(lanes, splits, chunk, min(-(-items // passes), _FAR - 1), unroll)


def _unroll(space: Space, kinds: Sequence[str], vector: int, made: Piece, steps: int) -> int:
    """Return how many vectors of each operand a thread reads before it uses them."""
    moving = [
        walk.dtype.itemsize
        for walk, kind in zip(space.walks, kinds, strict=True)
        if kind in "cbs" and any(walk.reduced)
    ]
    unroll = 4 if vector > 1 else 8
    while unroll > 1 and (
        unroll * vector * sum(moving) > 256
        or unroll * vector * _lines(made) > _LINES
        or unroll > steps
    ):
        unroll //= 2
    return unroll


def rows_of(space: Space, vector: int) -> int:
    """Return how many results, or vectors of results, there are."""
    return prod(space.kept) // (1 if space.along else vector)


def vectors_of(space: Space, vector: int) -> int:
    """Return the vectors that one result, or one vector of results, is made of."""
    if not space.along:
        return prod(space.reduced)
    return prod(space.reduced[:-1]) * (space.extent // vector)


def _power(n: int) -> int:
    """Return the least power of two that is not smaller."""
    return 1 << (n - 1).bit_length() if n > 1 else 1


def joining_lanes(rows: int, splits: int) -> int:
    lanes = BLOCK // min(_WARP, _power(rows))
    return min(lanes, _power(splits))


def is_wide(space: Space, vector: int) -> bool:
    """Return whether offsets within an item, or places, may not fit 32 bits."""
    # Places go on by the vectors of one step beyond the end; offsets are of what is read alone.
    most = prod(space.reduced) + 16 * BLOCK * vector
    for walk in space.walks:
        steps = zip(walk.reduced, space.reduced, strict=False)
        most = max(most, sum(abs(stride) * n for stride, n in steps))
    return most >= _FAR


def strides_of(space: Space, vector: int) -> dict[str, int]:
    """Return the words of axes and strides, counted in vectors along the innermost axis."""
    kept, reduced = list(space.kept), list(space.reduced)
    (reduced if space.along else kept)[-1] //= vector
    known = {f"ke{i}": n for i, n in enumerate(kept)}
    known |= {f"re{i}": n for i, n in enumerate(reduced)}
    for j, walk in enumerate(space.walks):
        if walk.constant:
            continue
        strides = [list(walk.kept), list(walk.reduced)]
        inner = strides[space.along]
        known[f"es{j}"] = inner[-1]
        inner[-1] *= vector
        known |= {f"ks{j}_{i}": s for i, s in enumerate(strides[0])}
        known |= {f"rs{j}_{i}": s for i, s in enumerate(strides[1])}
    return known
