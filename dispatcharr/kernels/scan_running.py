"""IR text of running sums, products and the like along an axis of an array.

An element of the result is the one before it and an operand, by one operation, in this order: the
bits are those of NumPy's ``accumulate``. A row of the table is a number of *lanes*, each of
``length`` elements. Lanes that do not lie side by side are walked one by one, several at a time
where there are several, since each waits for its own sum; lanes side by side are walked together,
as vectors, in strips that stay in the first cache.

A lane begins with its own first element (``start`` is 1), or with ``carry``, an integer that the
elements before it come to.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy

from dispatcharr.kernels.llvm_text import GROUP, ROW_LOOP, Text, memory_type
from dispatcharr.kernels.scan_text import LOOSE, Rows, Variable, load_as, table_kernel
from dispatcharr.ops.scans import RUNNING

__all__ = ["FIELDS", "Way", "running_text", "zeros_taken"]

FIELDS = (
    "_source", "s_step", "s_lane", "_target", "t_step", "t_lane", "lanes", "length", "start",
    "carry", "met",
)  # fmt: skip
Way = Literal["along", "across"]
#: Lanes walked at once, and those of a strip.
_AT_ONCE, _STRIP = 8, 512


def running_text(
    name: str, source: numpy.dtype, target: numpy.dtype, way: Way, filler: float | None = None
) -> str:
    """Return the text of a kernel.

    Parameters
    ----------
    name : str
        A ufunc that has a row.
    source, target : numpy.dtype
        Of the operand and of the result, in which it is computed.
    way : {"along", "across"}
        Whether lanes are walked one by one, or side by side.
    filler : float, optional
        What stands for NaN.
    """
    kernel = _Running(name, source, target, filler)
    body = kernel.along if way == "along" else kernel.across
    kind = memory_type(target)
    declared = ""
    if kernel.called:
        declared = f"declare {kind} @llvm.{kernel.name}.{kind}({kind}, {kind})\n"
    return table_kernel(FIELDS, body, declared, watched=target.kind == "f")


@cache
def zeros_taken(name: str, char: str) -> tuple[bool, bool]:
    """Return the signs of NumPy's extremes of 0.0 and -0.0, and of -0.0 and 0.0.

    They depend on its loops for the machine.
    """
    accumulate = getattr(numpy, name).accumulate
    zeros = numpy.array([0.0, -0.0] * 8, char)
    return bool(numpy.signbit(accumulate(zeros)[1])), bool(numpy.signbit(accumulate(-zeros)[1]))


class _Running:
    """What one kernel computes."""

    def __init__(
        self, name: str, source: numpy.dtype, target: numpy.dtype, filler: float | None
    ) -> None:
        self.source, self.target, self.filler = source, target, filler
        self.kind = memory_type(target)
        self.ufunc = name
        row = RUNNING[name]
        self.name = {"i": row.signed, "u": row.unsigned, "f": row.real}[target.kind]
        self.called = row.called and target.kind != "f"

    def operand(self, text: Text, pointer: str) -> str:
        """Return the element at ``pointer``."""
        value = load_as(text, pointer, self.source, self.target)
        if self.filler is None:
            return value
        is_nan = text.let(f"fcmp uno {self.kind} {value}, {value}")
        return text.let(f"select i1 {is_nan}, {self.kind} {self.filler:.1f}, {self.kind} {value}")

    def step(self, text: Text, total: str, value: str) -> str:
        """Return the next element of the result."""
        kind, name = self.kind, self.name
        if name in ("upper", "lower"):
            return self._extreme(text, total, value)
        if self.called:
            return text.let(f"call {kind} @llvm.{name}.{kind}({kind} {total}, {kind} {value})")
        return text.let(f"{name} {kind} {total}, {value}")

    def _extreme(self, text: Text, total: str, value: str) -> str:
        """Return the greater or lesser of two, of two zeros NumPy's, the first NaN if any."""
        kind = self.kind
        zeros = zeros_taken(self.ufunc, self.target.char)
        order = "og" if self.name == "upper" else "ol"
        order += "e" if zeros == (True, False) else "t"  # of two zeros the second one, or the first
        beyond = text.let(f"fcmp {order} {kind} {value}, {total}")
        made = text.let(f"select i1 {beyond}, {kind} {value}, {kind} {total}")
        if zeros[0] == zeros[1]:
            made = self._by_sign(text, total, value, made, negative=zeros[0])
        # Does not wait for the total, as long as there are no NaN.
        is_nan = text.let(f"fcmp uno {kind} {value}, {value}")
        was_nan = text.let(f"fcmp uno {kind} {total}, {total}")
        first = text.let(f"select i1 {was_nan}, {kind} {total}, {kind} {value}")
        return text.let(f"select i1 {is_nan}, {kind} {first}, {kind} {made}")

    def _by_sign(self, text: Text, total: str, value: str, made: str, *, negative: bool) -> str:
        """Return ``made``, but of two zeros the negative one, or the other."""
        kind, bits = self.kind, f"i{8 * self.target.itemsize}"
        one, other = [text.let(f"bitcast {kind} {x} to {bits}") for x in (total, value)]
        both = text.let(f"{'or' if negative else 'and'} {bits} {one}, {other}")
        zero = text.let(f"bitcast {bits} {both} to {kind}")
        is_equal = text.let(f"fcmp oeq {kind} {total}, {value}")
        return text.let(f"select i1 {is_equal}, {kind} {zero}, {kind} {made}")

    def carried(self, text: Text, rows: Rows) -> str:
        """Return what a lane begins with if it does not begin with its first element."""
        if self.target.kind == "f":
            return "0.0"
        size = 8 * self.target.itemsize
        return rows["carry"] if size == 64 else text.let(f"trunc i64 {rows['carry']} to i{size}")

    def along(self, text: Text, rows: Rows) -> None:
        """Walk lanes one by one, and as many as can be at once."""
        several = text.let(f"and i64 {rows['lanes']}, {-_AT_ONCE}")
        for low, high, count in (("0", several, _AT_ONCE), (several, rows["lanes"], 1)):
            with text.loop(low, high, str(count)) as lane:
                self._walk(text, rows, lane, count)

    def _walk(self, text: Text, rows: Rows, lane: str, count: int) -> None:
        lanes = [text.let(f"add i64 {lane}, {one}") for one in range(count)]
        sources = [text.ahead(rows["_source"], one, rows["s_lane"]) for one in lanes]
        targets = [text.ahead(rows["_target"], one, rows["t_lane"]) for one in lanes]
        carry = self.carried(text, rows)
        totals = [Variable(text, f"{self.kind}", carry) for _ in lanes]
        with text.when(text.let(f"icmp eq i64 {rows['start']}, 1")):
            for source, target, total in zip(sources, targets, totals, strict=True):
                value = self.operand(text, source)
                total.set(value)
                text.store(self.target, value, target)
        with text.loop(rows["start"], rows["length"], note=LOOSE) as place:
            ahead = text.let(f"mul nsw i64 {place}, {rows['s_step']}")
            behind = text.let(f"mul nsw i64 {place}, {rows['t_step']}")
            values = [self.operand(text, text.ahead(source, ahead)) for source in sources]
            for value, target, total in zip(values, targets, totals, strict=True):
                made = self.step(text, total.get(), value)
                total.set(made)
                text.store(self.target, made, text.ahead(target, behind))

    def across(self, text: Text, rows: Rows) -> None:
        """Walk lanes side by side, strip by strip."""
        with text.loop("0", rows["lanes"], str(_STRIP)) as first:
            width = text.least(text.let(f"sub i64 {rows['lanes']}, {first}"), str(_STRIP))
            source = text.ahead(rows["_source"], first, self.source.itemsize)
            target = text.ahead(rows["_target"], first, self.target.itemsize)
            text.group = GROUP
            with text.loop("0", width, note=ROW_LOOP) as lane:
                value = self.operand(text, text.ahead(source, lane, self.source.itemsize))
                text.store(self.target, value, text.ahead(target, lane, self.target.itemsize))
            with text.loop("1", rows["length"]) as place:
                here = text.ahead(source, place, rows["s_step"])
                there = text.ahead(target, place, rows["t_step"])
                before = text.let(f"sub i64 {place}, 1")
                known = text.ahead(target, before, rows["t_step"])
                with text.loop("0", width, note=ROW_LOOP) as lane:
                    at = text.let(f"mul nsw i64 {lane}, {self.target.itemsize}")
                    total = text.load(self.target, text.ahead(known, at))
                    value = self.operand(text, text.ahead(here, lane, self.source.itemsize))
                    made = self.step(text, total, value)
                    text.store(self.target, made, text.ahead(there, at))
            text.group = ""
