"""IR text that looks for the elements that are not zero: counts them, says where they are, or
copies their like out of another array.

Elements are looked at 64 at a time, as the bits of a word. Where none is set, nothing is done;
where few are, they are taken one by one. Else an instruction packs as many as a register holds
(AVX-512), or each element is written, set or not, where the next set one belongs: no branch has to
be guessed. The last of a piece are taken one by one, so that nothing is written behind it. However
the mask changes meanwhile, no more than ``count`` is written.
"""

from __future__ import annotations

from typing import Literal

import numpy

from dispatcharr.kernels import native
from dispatcharr.kernels.llvm_text import Text, memory_type
from dispatcharr.kernels.scan_text import LOOSE, Rows, Variable, table_kernel

__all__ = ["COUNT_FIELDS", "TAKE_FIELDS", "count_text", "take_text"]

COUNT_FIELDS = ("_mask", "length", "count")
#: ``first`` is the position of the first element, ``step`` the bytes between those that are taken.
TAKE_FIELDS = ("_mask", "length", "count", "_target", "first", "_source", "step")
Take = Literal["positions", "values"]
_WORD = 64
#: Bits of a word up to which they are taken one by one, and where elements can be packed.
_FEW, _FEW_PACKED = 10, 4
_HELPERS = """
declare i64 @llvm.ctpop.i64(i64)
declare i64 @llvm.cttz.i64(i64, i1)
"""


def count_text(dtype: numpy.dtype) -> str:
    """Return the text of a kernel that counts elements of ``dtype`` that are not zero."""

    def body(text: Text, rows: Rows) -> None:
        total = Variable(text, "i64", "0")

        def add(place: str, bits: str, width: int) -> None:
            found = text.let(f"call i64 @llvm.ctpop.i64(i64 {bits})")
            total.set(text.let(f"add i64 {total.get()}, {found}"))

        _each_word(text, rows, dtype, add)
        rows.put("count", total.get())

    return table_kernel(COUNT_FIELDS, body, _HELPERS)


def take_text(dtype: numpy.dtype, size: int, packed: bool = False) -> str:
    """Return the text of a kernel that takes what belongs to elements that are not zero.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the mask.
    size : int
        Bytes of an element that is taken; 0 for positions, which take eight.
    packed : bool
        Whether elements that are taken lie side by side, as positions do.
    """
    lanes = _lanes(size, packed)
    helpers = _HELPERS
    if lanes:
        helpers += _PACKING.format(lanes=lanes, bits=8 * (size or 8))
        helpers += "" if lanes == _WORD else f"declare i{lanes} @llvm.ctpop.i{lanes}(i{lanes})\n"
    return table_kernel(TAKE_FIELDS, _Taking(dtype, size, lanes).body, helpers)


_PACKING = """
declare <{lanes} x i{bits}> @llvm.experimental.vector.compress.v{lanes}i{bits}(
  <{lanes} x i{bits}>, <{lanes} x i1>, <{lanes} x i{bits}>)
define internal <{lanes} x i{bits}> @compress(
  <{lanes} x i{bits}> %v, <{lanes} x i1> %m, <{lanes} x i{bits}> %p) alwaysinline {{
  %r = call <{lanes} x i{bits}> @llvm.experimental.vector.compress.v{lanes}i{bits}(
    <{lanes} x i{bits}> %v, <{lanes} x i1> %m, <{lanes} x i{bits}> %p)
  ret <{lanes} x i{bits}> %r
}}
"""


class _Taking:
    """One kernel that takes elements."""

    def __init__(self, dtype: numpy.dtype, size: int, lanes: int) -> None:
        self.dtype, self.size, self.lanes = dtype, size, lanes

    def body(self, text: Text, rows: Rows) -> None:
        """Go through a piece of the mask."""
        done = Variable(text, "i64", "0")

        def take(place: str, bits: str, width: int) -> None:
            before = done.get()
            found = text.let(f"call i64 @llvm.ctpop.i64(i64 {bits})")
            after = text.let(f"add i64 {before}, {found}")
            some = text.let(f"icmp ne i64 {found}, 0")
            fits = text.let(f"icmp sle i64 {after}, {rows['count']}")
            with text.when(text.let(f"and i1 {some}, {fits}")):
                few = text.let(f"icmp ule i64 {found}, {_FEW_PACKED if self.lanes else _FEW}")
                # What is written beyond what is found has to have a place.
                beyond = text.let(f"add i64 {after}, {self.lanes or 1}")
                last = text.let(f"icmp sgt i64 {beyond}, {rows['count']}")
                alone = text.let(f"or i1 {few}, {last}")
                if width < _WORD:
                    alone = "true"
                with text.when(alone):
                    self._one_by_one(text, rows, place, bits, before)
                with text.when(text.let(f"xor i1 {alone}, true")):
                    if self.lanes:
                        self._compressed(text, rows, place, bits, before)
                    else:
                        self._all(text, rows, place, bits, before)
                done.set(after)

        _each_word(text, rows, self.dtype, take)

    def _put(self, text: Text, rows: Rows, place: str, number: str) -> None:
        """Write what belongs to the element at ``place`` as result ``number``."""
        target = text.ahead(rows["_target"], number, self.size or 8)
        if self.size:
            text.copy(self.size, text.ahead(rows["_source"], place, rows["step"]), target)
        else:
            position = text.let(f"add i64 {rows['first']}, {place}")
            text.do(f"store i64 {position}, ptr {target}, align 8")

    def _one_by_one(self, text: Text, rows: Rows, place: str, bits: str, before: str) -> None:
        left, number = Variable(text, "i64", bits), Variable(text, "i64", before)
        name = text.fresh("")
        text.do(f"br label %bit{name}")
        text.label(f"bit{name}")
        now, where = left.get(), number.get()
        bit = text.let(f"call i64 @llvm.cttz.i64(i64 {now}, i1 true)")
        self._put(text, rows, text.let(f"add i64 {place}, {bit}"), where)
        number.set(text.let(f"add i64 {where}, 1"))
        rest = text.let(f"and i64 {now}, {text.let(f'sub i64 {now}, 1')}")
        left.set(rest)
        more = text.let(f"icmp ne i64 {rest}, 0")
        text.do(f"br i1 {more}, label %bit{name}, label %bits{name}")
        text.label(f"bits{name}")

    def _all(self, text: Text, rows: Rows, place: str, bits: str, before: str) -> None:
        number = Variable(text, "i64", before)
        with text.loop("0", str(_WORD), note=LOOSE) as bit:
            where = number.get()
            self._put(text, rows, text.let(f"add i64 {place}, {bit}"), where)
            one = text.let(f"and i64 {text.let(f'lshr i64 {bits}, {bit}')}, 1")
            number.set(text.let(f"add i64 {where}, {one}"))

    def _compressed(self, text: Text, rows: Rows, place: str, bits: str, before: str) -> None:
        """Write several elements at once, those that are set in front."""
        lanes, bytes_ = self.lanes, self.size or 8
        vector = f"<{lanes} x i{8 * bytes_}>"
        number = Variable(text, "i64", before)
        with text.loop("0", str(_WORD), str(lanes), note=LOOSE) as bit:
            at = text.let(f"add i64 {place}, {bit}")
            if self.size:
                source = text.ahead(rows["_source"], at, bytes_)
                value = text.let(f"load {vector}, ptr {source}, align 1")
            else:
                one = text.let(f"add i64 {rows['first']}, {at}")
                value = text.let(f"add {vector} {_splat(text, vector, one)}, {_counting(lanes)}")
            set_ = text.let(f"lshr i64 {bits}, {bit}")
            set_ = text.let(f"trunc i64 {set_} to i{lanes}") if lanes < _WORD else set_
            flags = text.let(f"bitcast i{lanes} {set_} to <{lanes} x i1>")
            given = f"{vector} {value}, <{lanes} x i1> {flags}, {vector} poison"
            packed = text.let(f"call {vector} @compress({given})")
            where = number.get()
            target = text.ahead(rows["_target"], where, bytes_)
            text.do(f"store {vector} {packed}, ptr {target}, align 1")
            found = text.let(f"call i{lanes} @llvm.ctpop.i{lanes}(i{lanes} {set_})")
            found = text.let(f"zext i{lanes} {found} to i64") if lanes < _WORD else found
            number.set(text.let(f"add i64 {where}, {found}"))


def _splat(text: Text, vector: str, value: str) -> str:
    first = text.let(f"insertelement {vector} poison, i64 {value}, i64 0")
    lanes = vector[1 : vector.index(" ")]
    return text.let(
        f"shufflevector {vector} {first}, {vector} poison, <{lanes} x i32> zeroinitializer"
    )


def _counting(lanes: int) -> str:
    return "<" + ", ".join([f"i64 {lane}" for lane in range(lanes)]) + ">"


def _lanes(size: int, step: bool) -> int:
    """Return how many elements an instruction of this CPU packs, 0 where it has none."""
    host = native.host()
    features = "" if isinstance(host, str) else host.features
    wanted = {8: "+avx512f", 4: "+avx512f", 2: "+avx512vbmi2", 1: "+avx512vbmi2"}.get(size or 8)
    if not step or wanted is None or wanted not in features.split(","):
        return 0
    return 64 // (size or 8)


def _each_word(text: Text, rows: Rows, dtype: numpy.dtype, do: object) -> None:
    """Call ``do(place, bits, width)`` for whole words of elements, and for what is left."""
    whole = text.let(f"and i64 {rows['length']}, {-_WORD}")
    kind = memory_type(dtype)
    zero = "zeroinitializer"
    compare = f"fcmp une <{_WORD} x {kind}>" if dtype.kind == "f" else f"icmp ne <{_WORD} x {kind}>"
    with text.loop("0", whole, str(_WORD)) as place:
        pointer = text.ahead(rows["_mask"], place, dtype.itemsize)
        value = text.let(f"load <{_WORD} x {kind}>, ptr {pointer}, align {dtype.alignment}")
        flags = text.let(f"{compare} {value}, {zero}")
        do(place, text.let(f"bitcast <{_WORD} x i1> {flags} to i64"), _WORD)  # type: ignore[operator]
    with text.when(text.let(f"icmp slt i64 {whole}, {rows['length']}")):
        bits = Variable(text, "i64", "0")
        with text.loop(whole, rows["length"]) as place:
            pointer = text.ahead(rows["_mask"], place, dtype.itemsize)
            value = text.let(f"load {kind}, ptr {pointer}, align {dtype.alignment}")
            test, none = ("fcmp une", "0.0") if dtype.kind == "f" else ("icmp ne", "0")
            flag = text.let(f"zext i1 {text.let(f'{test} {kind} {value}, {none}')} to i64")
            moved = text.let(f"shl i64 {flag}, {text.let(f'sub i64 {place}, {whole}')}")
            bits.set(text.let(f"or i64 {bits.get()}, {moved}"))
        do(whole, bits.get(), 0)  # type: ignore[operator]
