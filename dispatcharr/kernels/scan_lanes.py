"""Running sums along an axis: which lanes there are, how they are walked and shared out."""

from __future__ import annotations

import numpy

from dispatcharr.kernels.scan import PIECE, Crew, Key, address, met, table
from dispatcharr.kernels.scan_running import FIELDS
from dispatcharr.ops.scans import RUNNING
from dispatcharr.plan.collapse import collapse

__all__ = ["Lanes", "key_of", "run"]


#: Lanes side by side up to which they are walked one by one, and where each few of them would be a
#: row of a table of many.
_FEW, _WIDE, _MANY = 7, 63, 4096


class Lanes:
    """An operand and a result, as lanes along one axis.

    Attributes
    ----------
    length : int
        Elements of a lane.
    steps : tuple of int
        Bytes from one element of a lane to the next, in the operand and in the result.
    outer : list of tuple
        The other axes, each with its extent and both strides; the last one is that of lanes.
    """

    __slots__ = ("length", "outer", "source", "steps", "target")
    outer: list[tuple[int, int, int]]

    def __init__(self, source: numpy.ndarray, target: numpy.ndarray, axis: int) -> None:
        self.source, self.target = source, target
        self.length = source.shape[axis]
        self.steps = source.strides[axis], target.strides[axis]
        if source.ndim == 1:
            self.outer = [(1, 0, 0)]
            return
        others = [one for one in range(source.ndim) if one != axis]
        shape = tuple([source.shape[one] for one in others])
        strides = [tuple([a.strides[one] for one in others]) for a in (source, target)]
        self.outer = []
        for group in collapse(shape, strides, [False] * len(shape)):
            extent = 1
            for one in group:
                extent *= shape[one]
            last = next((one for one in reversed(group) if shape[one] > 1), group[-1])
            self.outer.append((extent, strides[0][last], strides[1][last]))
        self.outer.sort(key=self._suits)
        if not self.outer:
            self.outer.append((1, 0, 0))

    def _suits(self, axis: tuple[int, int, int]) -> tuple[bool, int]:
        """Return how well an axis does as that of lanes: side by side, or long."""
        others = self.source.size // max(self.length * axis[0], 1)
        is_worth = axis[0] > (_FEW if others <= _MANY else _WIDE)
        return self._is_adjacent(axis) and is_worth, axis[0]

    def _is_adjacent(self, axis: tuple[int, int, int]) -> bool:
        return axis[1:] == (self.source.itemsize, self.target.itemsize)

    @property
    def way(self) -> str:
        """How lanes are walked."""
        return "across" if self._suits(self.outer[-1])[0] else "along"

    def rows(self, threads: int) -> numpy.ndarray:
        """Return the table of a kernel, for lanes that are walked whole."""
        count, s_lane, t_lane = self.outer[-1]
        if len(self.outer) == 1 and (threads == 1 or count == 1):
            return self._table(
                1, s_lane=s_lane, t_lane=t_lane, start=1, length=self.length, lanes=count,
                _source=address(self.source), _target=address(self.target),
            )  # fmt: skip
        starts = numpy.zeros((1, 2), numpy.int64)
        for extent, *strides in self.outer[:-1]:
            steps = numpy.arange(extent)[:, None] * numpy.array(strides, numpy.int64)
            starts = (starts[:, None] + steps).reshape(-1, 2)
        parts = -(-4 * threads // len(starts)) if threads > 1 else 1
        size = max(-(-count // parts), -(-PIECE // max(self.length, 1)))
        unit = 64 if self.way == "across" else 8
        first = numpy.arange(0, count, -(-size // unit) * unit)
        width = numpy.minimum(first[1:], count) - first[:-1]
        width = numpy.append(width, count - first[-1])
        starts = (starts[:, None] + first[:, None] * numpy.array([s_lane, t_lane])).reshape(-1, 2)
        return self._table(
            len(starts), s_lane=s_lane, t_lane=t_lane, start=1, length=self.length,
            _source=starts[:, 0] + address(self.source), _target=starts[:, 1]
            + address(self.target), lanes=numpy.tile(width, len(starts) // len(width)),
        )  # fmt: skip

    def pieces(self, begins: numpy.ndarray, carries: numpy.ndarray) -> numpy.ndarray:
        """Return the table of a kernel, for one lane that is walked in pieces."""
        first = begins[:-1]
        starts = numpy.zeros(len(first), numpy.int64)
        starts[0] = 1
        return self._table(
            len(first), lanes=1, start=starts, carry=carries, length=begins[1:] - first,
            _source=address(self.source) + first * self.steps[0],
            _target=address(self.target) + first * self.steps[1],
        )  # fmt: skip

    def _table(self, count: int, **values: object) -> numpy.ndarray:
        s_step, t_step = self.steps
        return table(FIELDS, count, s_step=s_step, t_step=t_step, **values)

    @property
    def is_one(self) -> bool:
        """Whether there is one lane."""
        return all(extent == 1 for extent, *_ in self.outer)

    def is_long(self, name: str) -> bool:
        """Return whether there is one lane, which may be cut."""
        return self.is_one and RUNNING[name].joins and self.target.dtype.kind in "iu"


def key_of(lanes: Lanes, name: str, filler: float | None) -> Key:
    """Return the kernel that ``lanes`` take."""
    source, target = lanes.source.dtype, lanes.target.dtype
    return Key("running", (name, source, target, lanes.way, filler))


def run(crew: Crew, lanes: Lanes, name: str, filler: float | None = None) -> frozenset[str]:
    """Compute ``lanes.target``; return the kinds of floating-point errors met.

    Parameters
    ----------
    crew : Crew
        Who does it.
    lanes : Lanes
        On what.
    name : str
        The ufunc's.
    filler : float, optional
        What stands for NaN.
    """
    key = key_of(lanes, name, filler)
    if lanes.is_long(name) and crew.threads > 1:
        begins = crew.cut(lanes.length)
        made = lanes.pieces(begins, _carries(crew, lanes, name, begins))
    else:
        made = lanes.rows(crew.threads)
    crew.rows(key, made)
    return met(made)


def _carries(crew: Crew, lanes: Lanes, name: str, begins: numpy.ndarray) -> numpy.ndarray:
    """Return what the pieces before each piece of a lane come to."""
    whole = lanes.source.reshape(-1)
    ufunc, dtype = getattr(numpy, name), lanes.target.dtype
    ends = numpy.zeros(len(begins) - 1, dtype)

    def total(piece: int) -> None:
        part = whole[begins[piece] : begins[piece + 1]]
        ends[piece] = ufunc.reduce(part, dtype=dtype)

    crew.each(total, len(begins) - 2)  # nothing comes after the last one
    before = ufunc.accumulate(ends[:-1], dtype=dtype)
    return numpy.append(numpy.zeros(1, dtype), before).astype(numpy.int64)
