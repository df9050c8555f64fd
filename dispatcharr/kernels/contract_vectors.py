"""IR text that multiplies a matrix by a vector: every element of the matrix is read once, in place.

``void kernel(ptr table, ptr)``. The table holds, as 64-bit integers, :data:`FIELDS`.

There are two kernels. ``rows`` is for matrices whose rows are contiguous along the summed axis, and
takes a vector for each row too, ``b_row`` bytes apart. ``columns`` is for those that are contiguous
across it: a strip of results stays in the first cache while rows are added to it, four at a time.
They are plain loops, which LLVM makes vectors of.
"""

from __future__ import annotations

from typing import Literal

from dispatcharr.kernels.contract_kind import Kind
from dispatcharr.kernels.llvm_text import Text, metadata

__all__ = ["FIELDS", "Way", "vectors_text"]

FIELDS = ("a", "a_line", "b", "b_line", "c", "c_line", "lines", "summed")
Way = Literal["rows", "columns"]
#: Results of a strip, and rows that are added to it at once.
_STRIP = 2048
_AT_ONCE = 4


def vectors_text(kind: Kind, way: Way) -> str:
    """Return the text of one of the two kernels.

    Parameters
    ----------
    kind : Kind
        Of the matrix and the vector, in this order.
    way : {"rows", "columns"}
        Whether the matrix is contiguous along the summed axis or across it. ``a_line`` is the
        distance of its rows along the other axis: of results for ``rows``, of summands for
        ``columns``.
    """
    made = _rows if way == "rows" else _columns
    return made(kind) + metadata(0)


class _Fields:
    """What the table holds, loaded."""

    def __init__(self, text: Text) -> None:
        for place, name in enumerate(FIELDS):
            kind = "ptr" if name in ("a", "b", "c") else "i64"
            address = text.ahead("%table", str(8 * place))
            setattr(self, name, text.let(f"load {kind}, ptr {address}, align 8"))

    a: str
    a_line: str
    b: str
    b_line: str
    c: str
    c_line: str
    lines: str
    summed: str


def _sum_type(kind: Kind) -> str:
    return f"i{8 * kind.out}"


def _load(text: Text, kind: Kind, side: int, place: str) -> str:
    """Return an element of an operand as wide as the sum."""
    item, wide = f"i{8 * kind.item}", _sum_type(kind)
    value = text.let(f"load {item}, ptr {place}, align {kind.item}")
    if kind.name == "bits":
        return text.let(f"zext i1 {text.let(f'icmp ne i8 {value}, 0')} to i8")
    if item == wide:
        return value
    extend = "sext" if kind.signed[side] else "zext"
    return text.let(f"{extend} {item} {value} to {wide}")


def _add_product(text: Text, kind: Kind, total: str, left: str, right: str) -> str:
    wide = _sum_type(kind)
    if kind.name == "bits":
        both = text.let(f"and {wide} {left}, {right}")
        return text.let(f"or {wide} {total}, {both}")
    product = text.let(f"mul {wide} {left}, {right}")
    return text.let(f"add {wide} {total}, {product}")


def _rows(kind: Kind) -> str:
    text = Text("define void @kernel(ptr %table, ptr %unused) nounwind")
    given, wide = _Fields(text), _sum_type(kind)
    held = text.reserve(wide)
    with text.loop("0", given.lines) as line:
        a = text.ahead(given.a, line, given.a_line)
        b = text.ahead(given.b, line, given.b_line)
        text.do(f"store {wide} 0, ptr {held}")
        with text.loop("0", given.summed, note="") as k:
            left = _load(text, kind, 0, text.ahead(a, k, kind.item))
            right = _load(text, kind, 1, text.ahead(b, k, kind.item))
            before = text.let(f"load {wide}, ptr {held}")
            text.do(f"store {wide} {_add_product(text, kind, before, left, right)}, ptr {held}")
        total = text.let(f"load {wide}, ptr {held}")
        target = text.ahead(given.c, line, given.c_line)
        text.do(f"store {wide} {total}, ptr {target}, align {kind.out}")
    return text.end()


def _columns(kind: Kind) -> str:
    text = Text("define void @kernel(ptr %table, ptr %unused) nounwind")
    given, wide = _Fields(text), _sum_type(kind)
    strip = text.reserve(f"[{_STRIP} x {wide}]")
    with text.loop("0", given.lines, str(_STRIP)) as start:
        width = text.least(text.let(f"sub i64 {given.lines}, {start}"), str(_STRIP))
        nbytes = text.let(f"mul i64 {width}, {kind.out}")
        text.do(f"call void @llvm.memset.p0.i64(ptr {strip}, i8 0, i64 {nbytes}, i1 false)")
        a = text.ahead(given.a, start, kind.item)
        several = text.let(f"and i64 {given.summed}, {-_AT_ONCE}")
        for low, high, count in (("0", several, _AT_ONCE), (several, given.summed, 1)):
            with text.loop(low, high, str(count)) as k:
                _add_lines(text, kind, given, (a, k, strip, width), count)
        with text.loop("0", width) as place:
            total = text.let(f"load {wide}, ptr {text.ahead(strip, place, kind.out)}")
            number = text.let(f"add i64 {start}, {place}")
            target = text.ahead(given.c, number, given.c_line)
            text.do(f"store {wide} {total}, ptr {target}, align {kind.out}")
    return text.end() + "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\n"


def _add_lines(
    text: Text, kind: Kind, given: _Fields, here: tuple[str, str, str, str], count: int
) -> None:
    """Add ``count`` lines of the matrix, each times its element of the vector, to a strip."""
    a, k, strip, width = here
    wide = _sum_type(kind)
    lines, factors = [], []
    for one in range(count):
        number = text.let(f"add i64 {k}, {one}")
        lines.append(text.ahead(a, number, given.a_line))
        factors.append(_load(text, kind, 1, text.ahead(given.b, number, given.b_line)))
    with text.loop("0", width, note="") as place:
        held = text.ahead(strip, place, kind.out)
        total = text.let(f"load {wide}, ptr {held}, align {kind.out}")
        for line, factor in zip(lines, factors, strict=True):
            value = _load(text, kind, 0, text.ahead(line, place, kind.item))
            total = _add_product(text, kind, total, value, factor)
        text.do(f"store {wide} {total}, ptr {held}, align {kind.out}")
