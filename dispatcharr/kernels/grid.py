"""How an iteration space is cut into blocks, and blocks into tasks.

A block is a box that fits the cache; a task is a run of blocks that one thread works through.
Without a reduction, tasks follow memory order. With one, boxes that feed the same results form a
stripe, and a stripe is one task or, when there are few stripes, several: a choice made from the
shape alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

__all__ = ["RUN", "Grid", "block_grid"]

Block = tuple[slice, ...]
#: Grids of up to this many blocks keep them: a repeated kernel does not cut its space again.
MOST_REMEMBERED = 1024
#: Kept elements on the fastest axis of a block, when slower axes are reduced.
KEPT_RUN = 4096
#: The fastest axis is cut at multiples of this. NumPy's vector loops leave the end of a run to
#: scalar code whose last bit may differ, so where runs end must not depend on threads or block
#: sizes.
RUN = 1024


class Grid:
    """Blocks of a space, grouped into tasks."""

    def __init__(
        self, shape: tuple[int, ...], extents: tuple[int, ...], reduced: Sequence[int] | None,
        pieces: int,
    ) -> None:  # fmt: skip
        self.shape = shape
        self.extents = extents
        self.counts = tuple(
            -(-whole // part) if whole else 0 for whole, part in zip(shape, extents, strict=True)
        )
        self._total = _product(self.counts)
        self._remembered: dict[int, tuple[Block, ...]] = {}
        self.reduced = None if reduced is None else tuple(reduced)
        outer = [n for axis, n in enumerate(self.counts) if not self._is_reduced(axis)]
        self.outer = _product(outer)
        self.inner = self._total // self.outer if self.outer else 0
        if reduced is None:
            self.split = 1
            self.tasks = max(min(pieces, self.outer), 0)
        else:
            # Few blocks make few pieces: a piece of one block is mostly overhead.
            wanted = min(pieces, max(-(-self.inner * self.outer // 4), 8))
            self.split = max(min(-(-wanted // max(self.outer, 1)), self.inner), 1)
            self.tasks = self.outer * self.split

    def _is_reduced(self, axis: int) -> bool:
        return self.reduced is not None and axis in self.reduced

    def _box(self, place: Sequence[int]) -> Block:
        return tuple(
            [
                slice(i * part, min((i + 1) * part, whole))
                for i, part, whole in zip(place, self.extents, self.shape, strict=True)
            ]
        )

    def blocks(self, task: int) -> Iterable[Block]:
        """Return the blocks of one task, in order."""
        if self._total > MOST_REMEMBERED:
            return self._blocks(task)
        found = self._remembered.get(task)
        if found is None:
            found = self._remembered[task] = tuple(self._blocks(task))
        return found

    def _blocks(self, task: int) -> Iterator[Block]:
        if self.reduced is None:
            total = self.outer
            start, stop = total * task // self.tasks, total * (task + 1) // self.tasks
            if len(self.shape) == 1:
                part, whole = self.extents[0], self.shape[0]
                for number in range(start, stop):
                    yield (slice(number * part, min((number + 1) * part, whole)),)
                return
            for number in range(start, stop):
                yield self._box(_unravel(number, self.counts))
            return
        stripe, part = divmod(task, self.split)
        start = self.inner * part // self.split
        stop = self.inner * (part + 1) // self.split
        kept = [1 if self._is_reduced(i) else n for i, n in enumerate(self.counts)]
        base = _unravel(stripe, kept)
        folded = [n if self._is_reduced(i) else 1 for i, n in enumerate(self.counts)]
        for number in range(start, stop):
            inner = _unravel(number, folded)
            yield self._box([a + b for a, b in zip(base, inner, strict=True)])

    def stripes(self) -> Iterator[tuple[Block, range]]:
        """Return, per stripe, the box of its results and its tasks in order."""
        kept = [1 if self._is_reduced(i) else n for i, n in enumerate(self.counts)]
        for number, place in enumerate(product(*[range(n) for n in kept])):
            yield self._box(place), range(number * self.split, (number + 1) * self.split)


def block_grid(
    shape: tuple[int, ...], elements: int, reduced: Sequence[int] | None, pieces: int
) -> Grid:
    """Cut ``shape`` into boxes of at most ``elements`` points.

    Parameters
    ----------
    shape : tuple of int
        The space, slowest axis first.
    elements : int
        Most points of a box.
    reduced : sequence of int or None
        Axes that are reduced.
    pieces : int
        Tasks wished for.
    """
    extents = [1] * len(shape)
    room = max(elements, 1)
    for axis in range(len(shape) - 1, -1, -1):
        limit = room
        if reduced and axis not in reduced and any(outer in reduced for outer in range(axis)):
            # Longer where slower axes are too short to fill a block.
            slower = _product([shape[outer] for outer in range(axis) if outer in reduced])
            limit = min(room, max(KEPT_RUN, room // max(slower, 1)))
        extents[axis] = max(min(shape[axis], limit), 1)
        if axis == len(shape) - 1 and RUN < extents[axis] < shape[axis]:
            extents[axis] -= extents[axis] % RUN
        room //= extents[axis]
        if room < 1 or (extents[axis] < shape[axis] and reduced is None):
            break
    return Grid(shape, tuple(extents), reduced, pieces)


def _unravel(number: int, counts: Sequence[int]) -> list[int]:
    place = [0] * len(counts)
    for axis in range(len(counts) - 1, -1, -1):
        number, place[axis] = divmod(number, counts[axis])
    return place


def _product(extents: Sequence[int]) -> int:
    n = 1
    for extent in extents:
        n *= extent
    return n
