"""Scans and their like on the threads of the pool: running sums, masks, counts and look-ups.

NumPy runs them on one thread, many of them slowly. Here an array is cut into pieces, each a row of
a table that a compiled kernel works through; nothing depends on how it is cut, down to the bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy

from dispatcharr.kernels import scan_counting, scan_masked, scan_running, scan_search
from dispatcharr.kernels.llvm_flags import BITS
from dispatcharr.kernels.pool import shared_pool
from dispatcharr.kernels.target import architecture

__all__ = ["PIECE", "Crew", "Key", "address", "cut", "met", "table"]

#: Fewest elements of a piece.
PIECE = 1 << 14
#: Pieces for each thread, so that who is late has less to do.
_SHARE = 4
_UNIT = 64

Function = Callable[[int, int], None]
_TEXTS: Mapping[str, Callable[..., str]] = {
    "running": scan_running.running_text,
    "count": scan_masked.count_text,
    "take": scan_masked.take_text,
    "bincount": scan_counting.bincount_text,
    "bins": scan_counting.bins_text,
    "search": scan_search.search_text,
    "listed": scan_search.listed_text,
    "gather": scan_search.gather_text,
}


@dataclass(frozen=True, slots=True)
class Key:
    """What tells one kernel from another.

    Attributes
    ----------
    name : str
        Which text it has.
    arguments : tuple
        What the text is made of.
    """

    name: str
    arguments: tuple[object, ...]

    def text(self) -> str:
        """Return the kernel's IR text; called on the thread that compiles."""
        return _TEXTS[self.name](*self.arguments)

    @property
    def build_seconds(self) -> float:
        """About what it takes to compile the kernel."""
        return {"search": 0.15, "running": 0.07}.get(self.name, 0.05)


@dataclass(frozen=True, slots=True)
class Crew:
    """Who computes: kernels that are loaded, and how many threads may run them.

    Attributes
    ----------
    functions : mapping
        Kernels by key.
    threads : int
        Most threads at work.
    """

    functions: Mapping[Key, Function]
    threads: int

    def cut(self, elements: int) -> numpy.ndarray:
        """Return where pieces begin and end."""
        return cut(elements, self.threads)

    def rows(self, key: Key, table: numpy.ndarray) -> None:
        """Run a kernel on every row of a table."""
        function, start, width = self.functions[key], address(table), 8 * table.shape[1]
        count = len(table)
        tasks = min(count, 2 * _SHARE * self.threads)
        if tasks < 2 or self.threads == 1:
            function(start, count)
            return

        def task(number: int) -> None:
            first, last = number * count // tasks, (number + 1) * count // tasks
            function(start + first * width, last - first)

        shared_pool().run(task, tasks, self.threads)

    def each(self, task: Callable[[int], None], count: int) -> None:
        """Call ``task`` for each number below ``count``."""
        if self.threads == 1 or count == 1:
            for number in range(count):
                task(number)
        else:
            shared_pool().run(task, count, self.threads)


def cut(elements: int, threads: int) -> numpy.ndarray:
    """Return where pieces of so many elements begin and end, one behind the other.

    Examples
    --------
    >>> cut(100, threads=1)
    array([  0, 100])
    """
    count = 1 if threads == 1 else max(min(_SHARE * threads, elements // PIECE), 1)
    size = -(-elements // count)
    size = max(-(-size // _UNIT) * _UNIT, 1)
    return numpy.array([*range(0, max(elements, 1), size), elements])


def address(array: numpy.ndarray) -> int:
    """Return where an array's first element is."""
    found: int = array.__array_interface__["data"][0]
    return found


def table(fields: tuple[str, ...], count: int, /, **values: object) -> numpy.ndarray:
    """Return the table of a kernel: a row for each of ``count`` pieces.

    Parameters
    ----------
    fields : tuple of str
        The kernel's.
    count : int
        Rows.
    **values : int or numpy.ndarray
        Fields, one for all rows or one for each; the others are 0.
    """
    made = numpy.zeros((count, len(fields)), numpy.int64)
    for name, value in values.items():
        made[:, fields.index(name)] = value  # type: ignore[call-overload]
    return made


def met(table: numpy.ndarray) -> frozenset[str]:
    """Return the kinds of floating-point errors that a kernel met; its last field tells of them."""
    return _kinds(int(numpy.bitwise_or.reduce(table[:, -1])))


@cache
def _kinds(flags: int) -> frozenset[str]:
    bits = BITS.get(architecture(), {})
    return frozenset(kind for kind, bit in bits.items() if flags & bit)
