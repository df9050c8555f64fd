"""Contractions of integers and bools: products of stacks of matrices that BLAS does not serve.

``c = a @ b`` over the last two axes, in kernels that LLVM makes (:mod:`contract_tiles`,
:mod:`contract_vectors`): exact, with NumPy's wrap-around, whatever the number of threads.

:func:`prepare` chooses the kernel. A matrix with a vector is read in place. Anything else is cut
into blocks of the result, each a task that packs its own operands into memory of a fixed size; that
the neighbouring block packs some of them again costs a few percent.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy

from dispatcharr.kernels import crew, native
from dispatcharr.kernels.contract_kind import Kind, kind_of
from dispatcharr.kernels.contract_tiles import PADDING, SLICE, tiles_text
from dispatcharr.kernels.contract_vectors import Way, vectors_text
from dispatcharr.kernels.pool import shared_pool

__all__ = ["Job", "Key", "kind_of", "prepare"]

#: Rows, and bytes of a row of words, of a block of the result: with their words they fit into the
#: second cache.
_BLOCK = 256, 1024
#: What blocks are rounded to: tiles of every machine divide it.
_UNIT = 12, 128
#: Seconds: a byte of words multiplied; a word packed; a byte read in place; a task handed out; all
#: else that a call takes. Measured on one core (AMD Zen 4).
_MULTIPLY, _PACK, _READ, _TASK, _CALL = 7e-12, 1e-9, 5e-11, 2e-6, 12e-6
#: Seconds of one thread's work under which another is not woken.
_WORTH_WAKING = 30e-6
#: Elements of a sum under which it is not shared out.
_SMALLEST_PIECE = 1 << 16
#: Work of a matrix, in words, under which several of a stack make one task.
_SMALL_MATRIX = 1 << 18


@dataclass(frozen=True, slots=True)
class Key:
    """What tells one kernel from another.

    Attributes
    ----------
    kind : Kind
        What it computes with.
    way : {"tiles", "rows", "columns"}
        How it goes through its operands.
    """

    kind: Kind
    way: str

    def text(self) -> str:
        """Return the kernel's IR text; called on the thread that compiles."""
        if self.way != "tiles":
            way: Way = "rows" if self.way == "rows" else "columns"
            return vectors_text(self.kind, way)
        host = native.host()
        if isinstance(host, str):
            raise native.BuildError(host)
        return tiles_text(self.kind, host.vector_bytes, host.features)

    @property
    def build_seconds(self) -> float:
        """About what it takes to compile the kernel."""
        return 0.15 if self.way == "tiles" else 0.03


class Job:
    """A contraction whose kernel is known, cut into tasks.

    Attributes
    ----------
    key : Key
        Which kernel it takes.
    seconds : float
        About what it takes on one thread.
    """

    __slots__ = ("_count", "_finish", "_held", "_room", "_table", "_width", "key", "seconds")

    def __init__(
        self, key: Key, rows: Sequence[tuple[int, ...]], seconds: float,
        held: tuple[numpy.ndarray, ...], room: tuple[int, ...] = (),
        finish: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self.key = key
        self.seconds = seconds + len(rows) * _TASK + _CALL
        self._count = len(rows)
        self._width = len(rows[0])
        words = [word for row in rows for word in row]
        self._table = (ctypes.c_int64 * len(words))(*words)
        self._held = held  # the table has their addresses
        self._room = room
        self._finish = finish

    def run(self, address: int, threads: int) -> int:
        """Run it with the kernel at ``address`` on at most so many threads.

        Returns how many there were.
        """
        start, apart = ctypes.addressof(self._table), 8 * self._width
        threads = max(min(threads, self._count, int(self.seconds / _WORTH_WAKING)), 1)
        room, memory = _reserve(self._room, threads)
        if crew.COMPILED:
            found = crew.run_table(address, start, apart, self._count, threads, *room)
        else:
            _on_the_pool(native.function(address), (start, apart, self._count), threads, room)
            found = threads
        del memory
        if self._finish is not None:
            self._finish()
        return found


def _on_the_pool(
    function: Callable[[int, int], None], tables: tuple[int, int, int], threads: int,
    room: tuple[int, int],
) -> None:  # fmt: skip
    """Run a kernel on each of its tables, on Python threads."""
    (start, apart, count), (first, step) = tables, room
    free = [first + step * thread for thread in range(threads)]

    def run(task: int) -> None:
        mine = free.pop()
        function(start + task * apart, mine)
        free.append(mine)

    if threads == 1:
        for task in range(count):
            run(task)
    else:
        shared_pool().run(run, count, threads)


def _reserve(room: tuple[int, ...], threads: int) -> tuple[tuple[int, int], numpy.ndarray]:
    """Return new memory of these sizes for each thread.

    Returns
    -------
    tuple
        Where the first thread's table of addresses is and how far the next one is from there, and
        the memory.
    """
    head = -(-8 * len(room) // 64) * 64
    *places, apart = itertools.accumulate([-(-nbytes // 64) * 64 for nbytes in room], initial=head)
    memory = numpy.empty(apart * threads + 64, numpy.uint8)
    base = -(-_address(memory) // 64) * 64
    starts = range(base, base + apart * threads, apart) if apart else range(0)
    for one in starts:
        table = (ctypes.c_int64 * len(room)).from_address(one)
        table[:] = [one + place for place in places]
    return (base, apart), memory


def prepare(a: numpy.ndarray, b: numpy.ndarray, c: numpy.ndarray, threads: int) -> Job | None:
    """Return how ``c = a @ b`` is computed, None where there is no kernel for it.

    Parameters
    ----------
    a, b, c : numpy.ndarray
        Stacks of matrices: ``(..., m, k)``, ``(..., k, n)`` and ``(..., m, n)``, of the same outer
        shape. The memory of ``c`` is nobody else's.
    threads : int
        How many threads may be at work.
    """
    kind = kind_of(a.dtype, b.dtype, c.dtype)
    if kind is None or 0 in a.shape or 0 in b.shape or not c.flags.aligned:
        return None
    if a.shape[-2] == 1 or b.shape[-1] == 1:
        return _with_vector(a, b, c, threads)
    a, b = _cast(a, kind), _cast(b, kind)
    if c.strides[-1] != c.itemsize and c.strides[-2] == c.itemsize:
        a, b, c = b.swapaxes(-1, -2), a.swapaxes(-1, -2), c.swapaxes(-1, -2)
        kind = kind_of(a.dtype, b.dtype, c.dtype)
    if kind is None or c.strides[-1] != c.itemsize:
        return None
    return _tiles(_cast(a, kind), _cast(b, kind), c, kind, threads)


def _cast(array: numpy.ndarray, kind: Kind) -> numpy.ndarray:
    return array.astype(kind.operand) if kind.operand and array.dtype != kind.operand else array


def _address(array: numpy.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def _with_vector(a: numpy.ndarray, b: numpy.ndarray, c: numpy.ndarray, threads: int) -> Job | None:
    """Multiply matrices by vectors: ``a`` is one, or ``b``, or both are."""
    # As a matrix of lines, each summed with the vector, which may differ from line to line.
    if b.shape[-1] == 1:
        matrix, vector, result = a, b.swapaxes(-1, -2), c[..., 0]
    else:
        matrix, vector, result = b.swapaxes(-1, -2), a, c[..., 0, :]
    kind = kind_of(matrix.dtype, vector.dtype, c.dtype)
    if kind is None or not (matrix.flags.aligned and vector.flags.aligned):
        return None
    matrix, vector = _cast(matrix, kind), _cast(vector, kind)
    if matrix.shape[-2] == 1 and matrix.ndim > 2:
        matrix, vector, result = matrix[..., 0, :], vector[..., 0, :], result[..., 0]
    else:
        vector = numpy.broadcast_to(vector, matrix.shape)
    item, summed = kind.item, matrix.shape[-1]
    way: Way = "rows"
    if matrix.strides[-1] != item and summed > 1:
        if matrix.strides[-2] != item or vector.strides[-2] != 0:
            return None
        way = "columns"
    elif vector.strides[-1] != item and summed > 1:
        vector = _contiguous_last(vector)
    key = Key(replace(kind, signed=kind.signed if kind.name == "bytes" else (True, True)), way)
    seconds = matrix.nbytes * _READ
    if way == "rows" and matrix.size == summed >= 2 * _SMALLEST_PIECE and threads > 1:
        return _shared_sum(key, matrix, vector, result, seconds, threads)
    line = -2 if way == "rows" else -1
    pieces = _pieces(matrix.shape[-2], 4 * threads if seconds > 2 * _WORTH_WAKING else 1)
    rows = [
        (
            a_place + start * matrix.strides[-2], matrix.strides[line],
            b_place + start * vector.strides[-2], vector.strides[line],
            c_place + start * result.strides[-1], result.strides[-1], stop - start, summed,
        )
        for a_place, b_place, c_place in _places(matrix.shape[:-2], matrix, vector, result)
        for start, stop in pieces
    ]  # fmt: skip
    return Job(key, rows, seconds, (matrix, vector, result))


def _contiguous_last(vector: numpy.ndarray) -> numpy.ndarray:
    """Return ``vector`` contiguous along its last axis; what is broadcast is copied once."""
    own = vector[tuple([slice(0, 1) if stride == 0 else slice(None) for stride in vector.strides])]
    return numpy.broadcast_to(numpy.ascontiguousarray(own), vector.shape)


def _shared_sum(
    key: Key, left: numpy.ndarray, right: numpy.ndarray, result: numpy.ndarray, seconds: float,
    threads: int,
) -> Job:  # fmt: skip
    """Share out one sum: each task has a part of it."""
    pieces = _pieces(left.shape[-1], min(4 * threads, left.shape[-1] // _SMALLEST_PIECE))
    parts = numpy.zeros(len(pieces), result.dtype)
    item = key.kind.item
    rows = [
        (
            _address(left) + start * item, 0, _address(right) + start * item, 0,
            _address(parts) + place * parts.itemsize, 0, 1, stop - start,
        )
        for place, (start, stop) in enumerate(pieces)
    ]  # fmt: skip

    def finish() -> None:
        plus = numpy.logical_or if result.dtype.kind == "b" else numpy.add
        result[...] = plus.reduce(parts, dtype=parts.dtype)

    return Job(key, rows, seconds, (left, right, parts), finish=finish)


def _tiles(
    a: numpy.ndarray, b: numpy.ndarray, c: numpy.ndarray, kind: Kind, threads: int
) -> Job:  # fmt: skip
    """Multiply matrices block by block."""
    (rows, summed), columns, outer = a.shape[-2:], b.shape[-1], a.shape[:-2]
    words = -(-summed // kind.group)
    stack = outer[-1] if outer else 1
    matrices = math.prod(outer)
    work = _rounded(rows, _UNIT[0]) * _rounded(columns, _UNIT[1] // kind.word) * words
    alone = work >= _SMALL_MATRIX or matrices == 1
    is_long = matrices * work * kind.word * _MULTIPLY > 2 * _WORTH_WAKING
    least = 2 * threads if alone and is_long and threads > 1 else 1
    down, across = _blocks(rows, columns, kind.word, least, matrices)
    runs = [(i, i + 1) for i in range(stack)] if alone else _pieces(stack, 4 * threads)
    steps = [one.strides[-3] if outer else 0 for one in (a, b, c)]
    (a_row, a_k), (b_k, b_column), (c_row, c_column) = [one.strides[-2:] for one in (a, b, c)]
    table = [
        (
            a_place + first * steps[0] + top * a_row, a_row, a_k,
            b_place + first * steps[1] + left * b_column, b_column, b_k,
            c_place + first * steps[2] + top * c_row + left * c_column, c_row,
            bottom - top, right - left, summed, last - first, *steps,
        )
        for a_place, b_place, c_place in _places(outer[:-1], a, b, c)
        for first, last in runs
        for top, bottom in down
        for left, right in across
    ]  # fmt: skip
    packed = (rows * len(across) + columns * len(down)) * words
    seconds = matrices * (work * kind.word * _MULTIPLY + packed * _PACK)
    room = _room(down[0][1] - down[0][0], across[0][1] - across[0][0], words, kind)
    return Job(Key(kind, "tiles"), table, seconds, (a, b, c), room)


def _room(rows: int, columns: int, words: int, kind: Kind) -> tuple[int, int, int]:
    """Return the bytes that a block needs for its packed operands and its sums."""
    deep = min(words * kind.word, SLICE)
    wide = columns + PADDING[1] // kind.word
    high = rows + PADDING[0]
    # Before each panel of the right operand there may be a word for each of its columns.
    return high * deep, wide * (deep + kind.word), high * wide * kind.word


def _blocks(
    rows: int, columns: int, word: int, least: int, matrices: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Cut a matrix into blocks, at least so many with those of the whole stack if it can be."""
    units = _UNIT[0], _UNIT[1] // word
    most = [_BLOCK[0], _BLOCK[1] // word]
    while True:
        down = _pieces(rows, -(-rows // most[0]), units[0])
        across = _pieces(columns, -(-columns // most[1]), units[1])
        if len(down) * len(across) * matrices >= least:
            return down, across
        sizes = down[0][1] // units[0], across[0][1] // units[1]
        if max(sizes) < 4:  # blocks so small spend their time on packing
            return down, across
        longer = 0 if sizes[0] * 2 >= sizes[1] else 1
        most[longer] = sizes[longer] * units[longer] // 2


def _pieces(extent: int, count: int, unit: int = 1) -> list[tuple[int, int]]:
    """Cut ``range(extent)`` into about ``count`` equal pieces, whole units but for the last."""
    size = _rounded(-(-extent // max(count, 1)), unit)
    return [(start, min(start + size, extent)) for start in range(0, extent, size)]


def _rounded(extent: int, unit: int) -> int:
    return -(-extent // unit) * unit


def _places(outer: tuple[int, ...], *arrays: numpy.ndarray) -> Iterator[tuple[int, ...]]:
    """Go through the addresses of the parts of several arrays over their first axes, ``outer``."""
    starts = tuple([_address(array) for array in arrays])
    strides = [array.strides[: len(outer)] for array in arrays]
    for place in itertools.product(*[range(extent) for extent in outer]):
        yield tuple(
            [
                start + sum(map(operator.mul, place, own))
                for start, own in zip(starts, strides, strict=True)
            ]
        )
