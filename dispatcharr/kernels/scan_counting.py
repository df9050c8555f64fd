"""IR text that counts integers, and numbers by the bin that they fall into.

Each task counts in tables of its own: four that take turns where they are small, since what was
just written cannot be read again at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from dispatcharr.kernels.llvm_text import GROUP, ROW_LOOP, Text, memory_type
from dispatcharr.kernels.scan_text import LOOSE, Rows, cast, load_as, table_kernel

__all__ = ["BIN_FIELDS", "COUNT_FIELDS", "Bins", "bincount_text", "bins_text"]

#: ``spread`` is the bytes from one of the four tables to the next, 0 where there is one.
COUNT_FIELDS = ("_source", "step", "length", "_table", "spread", "low", "size")
BIN_FIELDS = (
    "_source", "length", "_table", "spread", "_lefts", "_rights", "_numbers", "bins", "_weights",
    "met",
)  # fmt: skip
TABLES = 4
#: Numbers whose bins are found before they are counted.
_STRIP = 512
_INT, _DOUBLE = numpy.dtype(numpy.int64), numpy.dtype(numpy.float64)


def bincount_text(dtype: numpy.dtype) -> str:
    """Return the text of a kernel that counts integers, ``size`` of them from ``low`` on.

    A table has one place more, for what another thread has made of them meanwhile.
    """

    def body(text: Text, rows: Rows) -> None:
        several = text.let(f"and i64 {rows['length']}, {-TABLES}")
        tables = _tables(text, rows)
        for first, last, count in (("0", several, TABLES), (several, rows["length"], 1)):
            with text.loop(first, last, str(count)) as place:
                for one in range(count):
                    at = text.ahead(
                        rows["_source"], text.let(f"add i64 {place}, {one}"), rows["step"]
                    )
                    value = load_as(text, at, dtype, _INT)
                    value = text.let(f"sub i64 {value}, {rows['low']}")
                    value = text.let(f"call i64 @llvm.umin.i64(i64 {value}, i64 {rows['size']})")
                    _count(text, text.ahead(tables[one], value, 8))

    return table_kernel(COUNT_FIELDS, body, "declare i64 @llvm.umin.i64(i64, i64)\n")


def _tables(text: Text, rows: Rows) -> list[str]:
    return [
        text.ahead(rows["_table"], text.let(f"mul i64 {rows['spread']}, {one}"))
        for one in range(TABLES)
    ]


def _count(text: Text, place: str) -> None:
    now = text.let(f"load i64, ptr {place}, align 8")
    text.do(f"store i64 {text.let(f'add i64 {now}, 1')}, ptr {place}, align 8")


@dataclass(frozen=True, slots=True)
class Bins:
    """With which types the bin of a number is found; see :func:`numpy.histogram`.

    Attributes
    ----------
    source : str
        Of the numbers, as a dtype's character.
    compared : str
        In which they are compared to the first and the last edge.
    edges : str
        Of the edges.
    less : str
        Of a number less the first edge.
    share : str
        Of this by the width of all bins.
    weights : str
        Of the weights; empty where there are none.
    """

    source: str
    compared: str
    edges: str
    less: str
    share: str
    weights: str = ""


def bins_text(bins: Bins) -> str:
    """Return the text of a kernel that counts numbers by bins of the same width.

    What is found by a division may be off by one, so it is compared to the edges of its bin. Both
    lists of edges have one more for numbers in no bin, of which nothing is less and nothing else;
    no number reaches the right edge of the last bin. A table has a place before that of the first
    bin, for what NumPy has to say what is wrong with, and one behind, for numbers in no bin.
    ``_numbers`` holds, in eight bytes each, the first edge as it is compared, the last one, the
    first one as it is subtracted, the width of all bins, and their number as a number of the type
    of a share.
    """
    return table_kernel(BIN_FIELDS, _Binning(bins).body, watched=True)


class _Binning:
    """One kernel that counts by bins."""

    def __init__(self, bins: Bins) -> None:
        self.weighted = bool(bins.weights)
        self.weights = numpy.dtype(bins.weights or "d")
        self.source, self.compared, self.edges, self.less, self.share = map(
            numpy.dtype, (bins.source, bins.compared, bins.edges, bins.less, bins.share)
        )

    def body(self, text: Text, rows: Rows) -> None:
        """Count strip by strip."""
        found = text.reserve(f"[{_STRIP} x i32]")
        kinds = (self.compared, self.compared, self.less, self.share, self.share)
        numbers = [
            text.load(kind, text.ahead(rows["_numbers"], str(8 * place)))
            for place, kind in enumerate(kinds)
        ]
        with text.loop("0", rows["length"], str(_STRIP)) as start:
            width = text.least(text.let(f"sub i64 {rows['length']}, {start}"), str(_STRIP))
            source = text.ahead(rows["_source"], start, self.source.itemsize)
            text.group = GROUP
            with text.loop("0", width, note=ROW_LOOP) as place:
                value = text.load(self.source, text.ahead(source, place, self.source.itemsize))
                bin_ = self._bin(text, rows, value, numbers)
                target = text.ahead(found, place, 4)
                text.do(f"store i32 {bin_}, ptr {target}, align 4{GROUP}")
            text.group = ""
            if self.weighted:
                self._add(text, rows, start, width, found, source)
            else:
                self._count(text, rows, width, found, source)

    def _bin(self, text: Text, rows: Rows, value: str, numbers: list[str]) -> str:
        """Return the bin of a number as NumPy finds it."""
        low, high, first, width, count = numbers
        kind = memory_type(self.compared)
        seen = cast(text, value, self.source, self.compared)
        above = text.let(f"fcmp oge {kind} {seen}, {low}")
        below = text.let(f"fcmp ole {kind} {seen}, {high}")
        inside = text.let(f"and i1 {above}, {below}")
        number = cast(text, value, self.source, self.edges)
        kind = memory_type(self.less)
        less = text.let(f"fsub {kind} {cast(text, number, self.edges, self.less)}, {first}")
        kind = memory_type(self.share)
        share = text.let(f"fdiv {kind} {cast(text, less, self.less, self.share)}, {width}")
        share = text.let(f"fmul {kind} {share}, {count}")
        share = text.let(f"select i1 {inside}, {kind} {share}, {kind} 0.0")
        bins = text.let(f"trunc i64 {rows['bins']} to i32")
        place = text.let(f"fptosi {kind} {share} to i32")
        is_end = text.let(f"icmp eq i32 {place}, {bins}")
        last = text.let(f"sub i32 {bins}, 1")
        place = text.let(f"select i1 {is_end}, i32 {last}, i32 {place}")
        return text.let(f"select i1 {inside}, i32 {place}, i32 {bins}")

    def _at(self, text: Text, rows: Rows, source: str, found: str, place: str) -> str:
        """Return which place of a table the number at ``place`` belongs to."""
        bin_ = text.let(f"load i32, ptr {text.ahead(found, place, 4)}, align 4")
        bin_ = text.let(f"sext i32 {bin_} to i64")
        value = load_as(
            text, text.ahead(source, place, self.source.itemsize), self.source, self.edges
        )
        kind, size = memory_type(self.edges), self.edges.itemsize
        left = text.load(self.edges, text.ahead(rows["_lefts"], bin_, size))
        right = text.load(self.edges, text.ahead(rows["_rights"], bin_, size))
        less = text.let(f"zext i1 {text.let(f'fcmp olt {kind} {value}, {left}')} to i64")
        more = text.let(f"zext i1 {text.let(f'fcmp oge {kind} {value}, {right}')} to i64")
        place = text.let(f"add i64 {text.let(f'sub i64 {bin_}, {less}')}, {more}")
        return text.let(f"add i64 {place}, 1")

    def _count(self, text: Text, rows: Rows, width: str, found: str, source: str) -> None:
        several = text.let(f"and i64 {width}, {-TABLES}")
        tables = _tables(text, rows)
        for low, high, count in (("0", several, TABLES), (several, width, 1)):
            with text.loop(low, high, str(count)) as place:
                spots = [
                    self._at(text, rows, source, found, text.let(f"add i64 {place}, {one}"))
                    for one in range(count)
                ]
                for table, spot in zip(tables, spots, strict=False):
                    _count(text, text.ahead(table, spot, 8))

    def _add(self, text: Text, rows: Rows, start: str, width: str, found: str, source: str) -> None:
        weights = text.ahead(rows["_weights"], start, self.weights.itemsize)
        with text.loop("0", width, note=LOOSE) as place:
            weight = load_as(
                text, text.ahead(weights, place, self.weights.itemsize), self.weights, _DOUBLE
            )
            spot = self._at(text, rows, source, found, place)
            target = text.ahead(rows["_table"], spot, 8)
            total = text.let(f"load double, ptr {target}, align 8")
            total = text.let(f"fadd double {total}, {weight}")
            text.do(f"store double {total}, ptr {target}, align 8")
