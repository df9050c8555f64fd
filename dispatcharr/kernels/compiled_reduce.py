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
from dispatcharr.kernels.llvm import Program
from dispatcharr.plan.region import Reducing

__all__ = ["States", "boxes"]

#: Boxes that a space is cut into, and the bytes of the widest operand under which it is not cut
#: further.
_SEGMENTS = 64
_SMALLEST = 1 << 18

State = tuple[numpy.ndarray, ...]


def boxes(shape: tuple[int, ...], axes: tuple[int, ...], itemsize: int) -> list[list[int]]:
    """Return a row of words per box: where it begins and ends, its segment, and the space.

    ``itemsize`` is that of the widest operand.
    """
    elements = 1
    for extent in shape:
        elements *= extent
    grid = block_grid(shape, max(-(-elements // _SEGMENTS), _SMALLEST // itemsize), axes, _SEGMENTS)
    found = []
    for place in numpy.ndindex(*grid.counts):
        segment = 0
        for axis in axes:
            segment = segment * grid.counts[axis] + place[axis]
        low = [i * part for i, part in zip(place, grid.extents, strict=True)]
        high = [
            min(start + part, whole)
            for start, part, whole in zip(low, grid.extents, shape, strict=True)
        ]
        found.append([*low, *high, segment, *shape])
    return found


class States:
    """The states of one run of a reduction."""

    def __init__(self, program: Program, reducing: Reducing, segments: int) -> None:
        folding = program.folding
        if folding is None:
            raise TypeError("nothing is reduced here")
        self._folding = folding
        self._reducing = reducing
        shape = (segments, *reducing.shape)
        self.fields = [
            numpy.full(shape, value, dtype)
            for value, dtype in zip(folding.start, folding.dtypes, strict=True)
        ]

    def words(self) -> list[int]:
        """Return what the table of arguments says of the fields, and how segments lie apart."""
        found: list[int] = []
        for field in self.fields:
            found.append(field.__array_interface__["data"][0])
            found += [
                0 if axis in self._reducing.axes else stride
                for axis, stride in enumerate(field.strides[1:])
            ]
        return found + [field.strides[0] for field in self.fields]

    def finish(self, target: numpy.ndarray, heard: Any) -> None:
        """Join the segments and write the result; ``heard`` keeps what NumPy warns of."""
        reducing = self._reducing
        with numpy.errstate(all="log", call=heard):
            heard.place = "reduce"
            state = _joined(self._folding.state(self.fields), reducing.row.combine)
            heard.place = "reduce" if len(state) == 1 else None
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
