"""What becomes of the elements of an array: taken, found, counted or looked up, piece by piece.

Arrays are of one axis here. Masks and sorted arrays are contiguous.
"""

from __future__ import annotations

from typing import Any

import numpy

from dispatcharr.kernels.scan import Crew, Key, address, met, table
from dispatcharr.kernels.scan_counting import BIN_FIELDS, TABLES, Bins
from dispatcharr.kernels.scan_counting import COUNT_FIELDS as TALLY_FIELDS
from dispatcharr.kernels.scan_masked import COUNT_FIELDS, TAKE_FIELDS
from dispatcharr.kernels.scan_search import GATHER_FIELDS, LISTED_FIELDS, SEARCH_FIELDS

__all__ = [
    "bin_sums", "bins", "edge_counts", "extremes", "gather", "listed", "mask_keys", "occurrences",
    "search", "set_places", "taken",
]  # fmt: skip

#: Bytes of a table of counts up to which a thread has several.
_SMALL_TABLE = 1 << 14
#: Bytes of weighted counts that are held at once.
_HELD = 1 << 24
#: NumPy's block of a histogram: weights are summed in it, and then the blocks.
_BLOCK = 1 << 16


def mask_keys(dtype: numpy.dtype, source: numpy.ndarray | None) -> tuple[Key, Key]:
    """Return the kernels that :func:`taken` takes."""
    size = 0 if source is None else source.itemsize
    packed = source is None or source.strides[0] == size
    return Key("count", (dtype,)), Key("take", (dtype, size, packed))


def _counted(crew: Crew, key: Key, mask: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return where pieces of a mask begin, and how many of each are not zero."""
    begins = crew.cut(mask.size)
    made = table(
        COUNT_FIELDS, len(begins) - 1, _mask=address(mask) + begins[:-1] * mask.itemsize,
        length=begins[1:] - begins[:-1],
    )  # fmt: skip
    crew.rows(key, made)
    return begins, made[:, COUNT_FIELDS.index("count")]


def taken(crew: Crew, mask: numpy.ndarray, source: numpy.ndarray | None) -> numpy.ndarray:
    """Return the elements of ``source`` where ``mask`` is not zero; without it, the places."""
    count, take = mask_keys(mask.dtype, source)
    begins, found = _counted(crew, count, mask)
    ends = numpy.cumsum(found)
    made = numpy.empty(int(ends[-1]), numpy.intp if source is None else source.dtype)
    values = {"_target": address(made) + (ends - found) * made.itemsize}
    if source is None:
        values["first"] = begins[:-1]
    else:
        step = source.strides[0]
        values["_source"] = address(source) + begins[:-1] * step
        values["step"] = step
    crew.rows(
        take,
        table(
            TAKE_FIELDS, len(begins) - 1, _mask=address(mask) + begins[:-1] * mask.itemsize,
            length=begins[1:] - begins[:-1], count=found, **values,
        ),
    )  # fmt: skip
    return made


def set_places(
    crew: Crew, flat: numpy.ndarray, made: numpy.ndarray, shape: tuple[int, ...]
) -> numpy.ndarray:
    """Return ``made``, whose rows are the indices that places in an array of this shape have."""
    begins = crew.cut(flat.size)

    def split(piece: int) -> None:
        part = slice(begins[piece], begins[piece + 1])
        rest = flat[part]
        for axis in range(len(shape) - 1, 0, -1):
            whole = rest // shape[axis]
            numpy.subtract(rest, whole * shape[axis], out=made[part, axis])
            rest = whole
        made[part, 0] = rest

    crew.each(split, len(begins) - 1)
    return made


def extremes(crew: Crew, values: numpy.ndarray) -> tuple[Any, Any]:
    """Return the least and the greatest element, NaN where there is one."""
    begins = crew.cut(values.size)
    found = numpy.empty((2, len(begins) - 1), values.dtype)

    def look(piece: int) -> None:
        part = values[begins[piece] : begins[piece + 1]]
        found[0, piece], found[1, piece] = part.min(), part.max()

    crew.each(look, len(begins) - 1)
    return found[0].min(), found[1].max()


def _tables(crew: Crew, size: int, elements: int) -> tuple[numpy.ndarray, int]:
    """Return zeroed tables of so many counts, a set for each piece, and the spread of a set.

    There are as many pieces as threads, unless tables would be much beside the elements.
    """
    pieces = max(min(crew.threads, elements // size), 1)
    several = TABLES if 8 * size <= _SMALL_TABLE else 1
    made = numpy.empty((pieces, several, size), numpy.int64)
    made.fill(0)  # numpy.zeros would get pages that the system has to clear one by one
    return made, made.strides[1] if several > 1 else 0


def occurrences(crew: Crew, values: numpy.ndarray, size: int, low: int = 0) -> numpy.ndarray:
    """Return how often each of ``size`` numbers from ``low`` on is among ``values``.

    None of them is another one.
    """
    made, spread = _tables(crew, size + 1, values.size)
    begins = numpy.arange(len(made) + 1) * values.size // len(made)
    step = values.strides[0]
    rows = table(
        TALLY_FIELDS, len(made), _source=address(values) + begins[:-1] * step, step=step,
        length=begins[1:] - begins[:-1], spread=spread, low=low, size=size,
        _table=address(made) + numpy.arange(len(made)) * made.strides[0],
    )  # fmt: skip
    crew.rows(Key("bincount", (values.dtype,)), rows)
    total: numpy.ndarray = made.sum(axis=(0, 1)) if made.size > size + 1 else made[0, 0]
    return total[:size].copy()


def bins(
    crew: Crew, form: Bins, values: numpy.ndarray, edges: numpy.ndarray, numbers: numpy.ndarray,
    watched: frozenset[str] = frozenset(),
) -> numpy.ndarray | None:  # fmt: skip
    """Return how many of ``values`` are in each bin; None where NumPy is to say what is wrong.

    That is so too where a kind of floating-point error was met that is ``watched``.
    """
    count, ends = len(edges) - 1, _ends(edges)
    made, spread = _tables(crew, count + 2, values.size)
    begins = numpy.arange(len(made) + 1) * values.size // len(made)
    rows = table(
        BIN_FIELDS, len(made), _source=address(values) + begins[:-1] * values.itemsize,
        length=begins[1:] - begins[:-1], spread=spread, bins=count,
        _lefts=address(ends), _rights=address(ends) + ends.strides[0],
        _table=address(made) + numpy.arange(len(made)) * made.strides[0],
        _numbers=address(numbers),
    )  # fmt: skip
    crew.rows(Key("bins", (form,)), rows)
    total = made.sum(axis=(0, 1))
    return None if total[0] or _has_erred(rows, watched) else total[1 : count + 1].copy()


def _has_erred(rows: numpy.ndarray, watched: frozenset[str]) -> bool:
    # An invalid value is NaN that was compared, which NumPy says nothing of; there is no other one
    # without an overflow.
    return not (watched - {"invalid value"}).isdisjoint(met(rows))


def _ends(edges: numpy.ndarray) -> numpy.ndarray:
    """Return the left and the right edges of bins as the kernel wants them."""
    made = numpy.full((2, len(edges)), numpy.nan, edges.dtype)
    made[0, :-1], made[1, :-2] = edges[:-1], edges[1:-1]
    return made


def bin_sums(
    crew: Crew, form: Bins, values: numpy.ndarray, weights: numpy.ndarray, edges: numpy.ndarray,
    numbers: numpy.ndarray, watched: frozenset[str] = frozenset(),
) -> numpy.ndarray | None:  # fmt: skip
    """Do as :func:`bins` with weights, in the order of NumPy's sums."""
    count, ends = len(edges) - 1, _ends(edges)
    total = numpy.zeros(count, weights.dtype)
    starts = numpy.arange(0, values.size, _BLOCK)
    most = max(_HELD // (8 * (count + 2)), 1)
    for first in range(0, len(starts), most):
        begins = starts[first : first + most]
        made = numpy.zeros((len(begins), count + 2))
        rows = table(
            BIN_FIELDS, len(begins), _source=address(values) + begins * values.itemsize,
            length=numpy.minimum(values.size - begins, _BLOCK), bins=count,
            _table=address(made) + numpy.arange(len(begins)) * made.strides[0],
            _lefts=address(ends), _rights=address(ends) + ends.strides[0],
            _numbers=address(numbers),
            _weights=address(weights) + begins * weights.itemsize,
        )  # fmt: skip
        crew.rows(Key("bins", (form,)), rows)
        if made[:, 0].any() or _has_erred(rows, watched):
            return None
        for one in made[:, 1 : count + 1]:
            total += one.astype(weights.dtype)
    return total


def edge_counts(crew: Crew, key: Key, values: numpy.ndarray, edges: numpy.ndarray) -> numpy.ndarray:
    """Return how many of ``values`` are between each two edges, which ascend.

    An edge belongs to what is above it, the last one to what is below.
    """
    begins = crew.cut(values.size)
    count = len(edges)
    made = numpy.zeros((len(begins) - 1, count), numpy.int64)
    alone = Crew(crew.functions, 1)

    def add(piece: int) -> None:
        found = numpy.empty(_BLOCK, numpy.int64)
        for start in range(begins[piece], begins[piece + 1], _BLOCK):
            part = values[start : min(start + _BLOCK, begins[piece + 1])]
            places = found[: part.size]
            search(alone, key, part, edges, places)
            made[piece, 1:] += occurrences(alone, places, count + 1)[1:count]
            made[piece, 0] += numpy.count_nonzero(part == edges[-1])

    crew.each(add, len(begins) - 1)
    # What lies before the first edge has no bin: its place holds what is on the last one.
    total: numpy.ndarray = made[:, 1:].sum(axis=0)
    total[-1] += made[:, 0].sum()
    return total


def search(
    crew: Crew, key: Key, values: numpy.ndarray, known: numpy.ndarray, made: numpy.ndarray,
    flip: bool = False,
) -> None:  # fmt: skip
    """Look ``values`` up in the sorted array ``known``, for ``made``."""
    begins = crew.cut(values.size)
    step = values.strides[0]
    rows = table(
        SEARCH_FIELDS, len(begins) - 1, _source=address(values) + begins[:-1] * step, step=step,
        length=begins[1:] - begins[:-1], _sorted=address(known), size=known.size,
        _target=address(made) + begins[:-1] * made.itemsize, flip=int(flip),
    )  # fmt: skip
    crew.rows(key, rows)


def listed(
    crew: Crew, values: numpy.ndarray, truths: numpy.ndarray, low: int, made: numpy.ndarray,
    flip: bool = False,
) -> None:  # fmt: skip
    """Look ``values`` up in a table of truths that begins at ``low``, for ``made``."""
    begins = crew.cut(values.size)
    step = values.strides[0]
    rows = table(
        LISTED_FIELDS, len(begins) - 1, _source=address(values) + begins[:-1] * step, step=step,
        length=begins[1:] - begins[:-1], _table=address(truths), low=low, size=truths.size,
        flip=int(flip), _target=address(made) + begins[:-1],
    )  # fmt: skip
    crew.rows(Key("listed", (values.dtype,)), rows)


def gather(crew: Crew, index: numpy.ndarray, source: numpy.ndarray, made: numpy.ndarray) -> bool:
    """Take elements of ``source`` by position, for ``made``; return whether all were inside."""
    begins = crew.cut(index.size)
    rows = table(
        GATHER_FIELDS, len(begins) - 1, _index=address(index) + begins[:-1] * index.itemsize,
        length=begins[1:] - begins[:-1], _source=address(source),
        size=source.size, _target=address(made) + begins[:-1] * made.itemsize,
    )  # fmt: skip
    crew.rows(Key("gather", (index.dtype, source.itemsize)), rows)
    return not rows[:, GATHER_FIELDS.index("wrong")].any()
