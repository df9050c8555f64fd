"""IR text that looks numbers up: in a sorted array, in a table, or by their positions.

Searches go on several at a time, each step of all of them before the next: where one waits for
memory, the others do too, and no branch has to be guessed. Of sorted arrays NaN is the end.
"""

from __future__ import annotations

from typing import Literal

import numpy

from dispatcharr.kernels.llvm_text import Text, memory_type
from dispatcharr.kernels.scan_text import (
    LOOSE,
    Rows,
    Variable,
    halving,
    load_as,
    table_kernel,
)  # fmt: skip

__all__ = ["GATHER_FIELDS", "LISTED_FIELDS", "SEARCH_FIELDS", "gather_text", "listed_text",
           "search_text"]  # fmt: skip

SEARCH_FIELDS = ("_source", "step", "length", "_sorted", "size", "_target", "flip")
LISTED_FIELDS = ("_source", "step", "length", "_table", "low", "size", "_target", "flip")
GATHER_FIELDS = ("_index", "length", "_source", "size", "_target", "wrong")
Wanted = Literal["left", "right", "member"]
#: Searches that go on at once, of floats and of other numbers.
_AT_ONCE = 32, 16
#: Positions that are looked at before they are used, and elements taken together.
_STRIP, _TOGETHER = 1024, 8
_INT = numpy.dtype(numpy.int64)


def search_text(dtype: numpy.dtype, wanted: Wanted) -> str:
    """Return the text of a kernel that searches a sorted, contiguous array of at least one element.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the array and of what is looked up.
    wanted : {"left", "right", "member"}
        The place before equal elements, the one after them, or whether there is one.
    """
    return table_kernel(SEARCH_FIELDS, _Search(dtype, wanted).body)


class _Search:
    """One kernel that searches."""

    def __init__(self, dtype: numpy.dtype, wanted: Wanted) -> None:
        self.dtype, self.wanted = dtype, wanted
        self.kind = memory_type(dtype)

    def body(self, text: Text, rows: Rows) -> None:
        """Search for several at once, then for the last ones."""
        most = _AT_ONCE[self.dtype.kind != "f"]
        several = text.let(f"and i64 {rows['length']}, {-most}")
        for low, high, count in (("0", several, most), (several, rows["length"], 1)):
            with text.loop(low, high, str(count)) as place:
                self._several(text, rows, place, count)

    def _several(self, text: Text, rows: Rows, place: str, count: int) -> None:
        places = [text.let(f"add i64 {place}, {one}") for one in range(count)]
        values = [
            text.load(self.dtype, text.ahead(rows["_source"], one, rows["step"])) for one in places
        ]
        found = [Variable(text, "i64", "0") for _ in places]
        with halving(text, rows["size"]) as (half, _):
            for value, at in zip(values, found, strict=True):
                base = at.get()
                middle = text.let(f"add i64 {base}, {text.let(f'sub i64 {half}, 1')}")
                goes = self._goes_on(text, self._element(text, rows, middle), value)
                further = text.let(f"add i64 {base}, {half}")
                if self.dtype.kind != "f":
                    # Always so, which LLVM does not know: of one comparison alone it would make a
                    # branch, to be guessed wrong every other time.
                    is_place = text.let(f"icmp ne i64 {base}, -1")
                    goes = text.let(f"and i1 {goes}, {is_place}")
                at.set(text.let(f"select i1 {goes}, i64 {further}, i64 {base}"))
        for one, value, at in zip(places, values, found, strict=True):
            base = at.get()
            element = self._element(text, rows, base)
            goes = text.let(f"zext i1 {self._goes_on(text, element, value)} to i64")
            end = text.let(f"add i64 {base}, {goes}")
            if self.wanted == "member":
                self._tell(text, rows, one, value, end)
            else:
                target = text.ahead(rows["_target"], one, 8)
                text.do(f"store i64 {end}, ptr {target}, align 8")

    def _element(self, text: Text, rows: Rows, place: str) -> str:
        return text.load(self.dtype, text.ahead(rows["_sorted"], place, self.dtype.itemsize))

    def _tell(self, text: Text, rows: Rows, place: str, value: str, end: str) -> None:
        last = text.let(f"sub i64 {rows['size']}, 1")
        element = self._element(text, rows, text.least(end, last))
        equal = "fcmp oeq" if self.dtype.kind == "f" else "icmp eq"
        same = text.let(f"zext i1 {text.let(f'{equal} {self.kind} {element}, {value}')} to i8")
        _store_truth(text, rows, place, same)

    def _goes_on(self, text: Text, element: str, value: str) -> str:
        """Return whether the place looked for is behind ``element``."""
        kind = self.kind
        if self.dtype.kind != "f":
            less = "ule" if self.wanted == "right" else "ult"
            if self.dtype.kind == "i":
                less = "s" + less[1:]
            return text.let(f"icmp {less} {kind} {element}, {value}")
        if self.wanted == "right":
            # Not: the value is less than the element.
            less = text.let(f"fcmp olt {kind} {value}, {element}")
            nan, number = element, value
        else:
            less = text.let(f"fcmp olt {kind} {element}, {value}")
            nan, number = value, element
        is_nan = text.let(f"fcmp uno {kind} {nan}, {nan}")
        is_number = text.let(f"fcmp ord {kind} {number}, {number}")
        less = text.let(f"or i1 {less}, {text.let(f'and i1 {is_nan}, {is_number}')}")
        return text.let(f"xor i1 {less}, true") if self.wanted == "right" else less


def _store_truth(text: Text, rows: Rows, place: str, truth: str) -> None:
    flip = text.let(f"trunc i64 {rows['flip']} to i8")
    target = text.ahead(rows["_target"], place)
    text.do(f"store i8 {text.let(f'xor i8 {truth}, {flip}')}, ptr {target}, align 1")


def listed_text(dtype: numpy.dtype) -> str:
    """Return the text of a kernel that looks integers up in a table of truths.

    The table begins at ``low`` and has ``size`` bytes; what it does not reach to is not listed.
    """

    def body(text: Text, rows: Rows) -> None:
        with text.loop("0", rows["length"], note=LOOSE) as place:
            value = load_as(text, text.ahead(rows["_source"], place, rows["step"]), dtype, _INT)
            at = text.let(f"sub i64 {value}, {rows['low']}")
            inside = text.let(f"icmp ult i64 {at}, {rows['size']}")
            at = text.let(f"select i1 {inside}, i64 {at}, i64 0")
            found = text.let(f"load i8, ptr {text.ahead(rows['_table'], at)}, align 1")
            _store_truth(text, rows, place, text.let(f"select i1 {inside}, i8 {found}, i8 0"))

    return table_kernel(LISTED_FIELDS, body)


def gather_text(dtype: numpy.dtype, size: int) -> str:
    """Return the text of a kernel that takes elements of ``size`` bytes by their positions.

    Negative ones count from the end. ``wrong`` says whether any was outside; then what is taken is
    of no use. Positions are looked at before any is used, since that can be done to many at once.
    """
    return table_kernel(GATHER_FIELDS, _Gathering(dtype, size).body)


class _Gathering:
    """One kernel that takes elements."""

    def __init__(self, dtype: numpy.dtype, size: int) -> None:
        self.dtype, self.size = dtype, size

    def body(self, text: Text, rows: Rows) -> None:
        """Go through positions strip by strip."""
        wrong = Variable(text, "i64", "0")
        least = text.let(f"sub i64 0, {rows['size']}") if self.dtype.kind == "i" else "0"
        with text.loop("0", rows["length"], str(_STRIP)) as start:
            width = text.least(text.let(f"sub i64 {rows['length']}, {start}"), str(_STRIP))
            index = text.ahead(rows["_index"], start, self.dtype.itemsize)
            target = text.ahead(rows["_target"], start, self.size)
            outside = Variable(text, "i64", "0")
            with text.loop("0", width, note=LOOSE) as place:
                at = self._position(text, rows, index, place)
                low = text.let(f"icmp slt i64 {at}, {least}")
                high = text.let(f"icmp sge i64 {at}, {rows['size']}")
                out = text.let(f"zext i1 {text.let(f'or i1 {low}, {high}')} to i64")
                outside.set(text.let(f"or i64 {outside.get()}, {out}"))
            found = outside.get()
            wrong.set(text.let(f"or i64 {wrong.get()}, {found}"))
            with text.when(text.let(f"icmp eq i64 {found}, 0")):
                several = text.let(f"and i64 {width}, {-_TOGETHER}")
                for first, last, count in (("0", several, _TOGETHER), (several, width, 1)):
                    with text.loop(first, last, str(count)) as place:
                        self._take(text, rows, index, target, place, count)
        rows.put("wrong", wrong.get())

    def _position(self, text: Text, rows: Rows, index: str, place: str) -> str:
        return load_as(text, text.ahead(index, place, self.dtype.itemsize), self.dtype, _INT)

    def _take(
        self, text: Text, rows: Rows, index: str, target: str, place: str, count: int
    ) -> None:
        kind, size, values = f"i{8 * self.size}", rows["size"], []
        places = [text.let(f"add i64 {place}, {one}") for one in range(count)]
        for one in places:
            at = self._position(text, rows, index, one)
            if self.dtype.kind == "i":
                sign = text.let(f"ashr i64 {at}, 63")
                at = text.let(f"add i64 {at}, {text.let(f'and i64 {sign}, {size}')}")
            source = text.ahead(rows["_source"], at, self.size)
            values.append(text.let(f"load {kind}, ptr {source}, align 1"))
        for one, value in zip(places, values, strict=True):
            text.do(f"store {kind} {value}, ptr {text.ahead(target, one, self.size)}, align 1")
