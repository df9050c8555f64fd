"""The end of a compiled reduction: segments are cut, their states joined, the result is made.

How a space is cut depends on its shape alone, and so do the bits of the result. Each segment of the
reduced axes leaves a state of its own; there are few, and the row's own functions join them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr._errors import user_level
from dispatcharr.kernels.grid import block_grid
from dispatcharr.kernels.llvm_flags import BITS
from dispatcharr.kernels.llvm_state import Folding
from dispatcharr.kernels.target import architecture
from dispatcharr.plan.region import Reducing

__all__ = ["States", "boxes"]

#: Boxes that a space is cut into, and the bytes of the widest operand under which it is not cut
#: further.
_SEGMENTS = 64
_SMALLEST = 1 << 18
#: Elements that go into a state, and of a row that is cut: shorter pieces are read more slowly.
_PER_STATE, _SHORTEST_PIECE = 256, 512

State = tuple[numpy.ndarray, ...]


def boxes(shape: tuple[int, ...], axes: tuple[int, ...], itemsize: int) -> list[list[int]]:
    """Return a row of words per box: where it begins and ends, its segment, and the space.

    ``itemsize`` is that of the widest operand.
    """
    elements = 1
    for extent in shape:
        elements *= extent
    grid = block_grid(shape, max(-(-elements // _SEGMENTS), _SMALLEST // itemsize), axes, _SEGMENTS)
    extents = _without_many_states(shape, axes, grid.extents)
    counts = [-(-whole // part) if whole else 0 for whole, part in zip(shape, extents, strict=True)]
    found = []
    for place in numpy.ndindex(*counts):
        segment = 0
        for axis in axes:
            segment = segment * counts[axis] + place[axis]
        low = [i * part for i, part in zip(place, extents, strict=True)]
        high = [
            min(start + part, whole) for start, part, whole in zip(low, extents, shape, strict=True)
        ]
        found.append([*low, *high, segment, *shape])
    return found


def _without_many_states(
    shape: tuple[int, ...], axes: tuple[int, ...], extents: tuple[int, ...]
) -> tuple[int, ...]:
    """Return extents of boxes that leave few states: to join one takes as long as many elements.

    Where rows are added up, boxes are cut along the rows instead of across them.
    """
    first, last = axes[0], len(shape) - 1
    depth = segments = 1
    for axis in axes:
        depth *= shape[axis]
        segments *= -(-shape[axis] // max(extents[axis], 1))
    few = max(depth // _PER_STATE, 1)
    if last in axes or segments <= few or not depth:
        return extents
    found = [shape[axis] if axis in axes else part for axis, part in enumerate(extents)]
    found[first] = -(-shape[first] // min(few, shape[first]))
    pieces = -(-_SEGMENTS // few)
    found[last] = min(max(-(-shape[last] // pieces), _SHORTEST_PIECE), shape[last])
    return tuple(found)


class States:
    """The states of one run of a reduction."""

    def __init__(self, folding: Folding, reducing: Reducing, segments: int) -> None:
        self._folding = folding
        self.reducing = reducing
        shape = (segments, *reducing.shape)
        self.fields = [
            numpy.full(shape, value, dtype)
            for value, dtype in zip(folding.start, folding.dtypes, strict=True)
        ]

    def fresh(self) -> States:
        """Return states of another run of the same reduction."""
        return States(self._folding, self.reducing, len(self.fields[0]))

    def is_plain(self) -> bool:
        """Return whether the fields are the row's states as they are, whatever the elements."""
        folding = self._folding
        return folding.code is None and folding.again is None and not folding.unsteady

    def words(self) -> list[int]:
        """Return what the table of arguments says of the fields."""
        found: list[int] = []
        for field in self.fields:
            found.append(field.__array_interface__["data"][0])
            found += [
                0 if axis in self.reducing.axes else stride
                for axis, stride in enumerate(field.strides[1:])
            ]
        return found

    def steps(self) -> list[int]:
        """Return how far segments lie apart in each field."""
        return [field.strides[0] for field in self.fields]

    def is_final(self, flags: int) -> bool:
        """Return whether the result does not depend on the order of elements.

        A product that overflows half way does, and so does which of several NaN is the least.
        """
        folding, bits = self._folding, BITS[architecture()]
        if folding.unsteady and flags & (bits["overflow"] | bits["invalid value"]):
            return False
        return folding.again is None or not folding.again(self.fields)

    def finish(self, target: numpy.ndarray, heard: Any) -> None:
        """Join the segments and write the result; ``heard`` keeps what NumPy warns of."""
        reducing = self.reducing
        with numpy.errstate(all="log", call=heard):
            heard.place = "reduce"
            state = _joined(self._folding.state(self.fields), reducing.row.combine)
            heard.place = "reduce" if reducing.row.ufunc is not None else None
            params = dict(reducing.params)
            result = reducing.row.finish(state, reducing.count, params)
            remark = None
            if reducing.row.remark is not None:
                remark = reducing.row.remark(state, result, params)
            spot = target.reshape(reducing.shape)
            numpy.copyto(spot, numpy.reshape(result, spot.shape), casting="unsafe")
        if remark is not None:
            warnings.warn(remark, RuntimeWarning, stacklevel=user_level())


def _joined(state: State, combine: Callable[[State, State], State]) -> State:
    """Join neighbours until one is left; all pairs of a level at once."""
    while len(state[0]) > 1:
        pairs = len(state[0]) // 2 * 2
        joined = combine(
            tuple([field[0:pairs:2] for field in state]),
            tuple([field[1:pairs:2] for field in state]),
        )
        if pairs < len(state[0]):
            joined = tuple(
                [
                    numpy.concatenate((one, field[pairs:]))
                    for one, field in zip(joined, state, strict=True)
                ]
            )
        state = joined
    return tuple([field[0] for field in state])
