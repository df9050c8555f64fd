"""What a contraction computes with: words that hold one or several elements along the summed axis.

A word of a left operand and a word of a right one are multiplied element by element and the
products added to an accumulator as wide as a word. Integers wrap around, so the sum may be taken in
any order and in any greater width: the low bits are the same.

======== ============================ =====================================================
kind     elements of a word           products and sums
======== ============================ =====================================================
plain    1 integer, 16 to 64 bits     ``mul`` and ``add``
bytes    4 integers of 8 bits         unsigned times signed, summed in 32 bits (``vpdpbusd``)
pairs    2 integers of 16 bits        signed, summed in 32 bits (``vpdpwssd``, ``vpmaddwd``)
bits     32 bools                     ``and`` and ``or``
======== ============================ =====================================================

The low 8 bits of a sum of bytes do not depend on signs. Where all 32 are wanted, a signed left
operand is made unsigned by adding 128 to it, and 128 times the sum of each column of the right one
is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy

from dispatcharr.kernels.llvm_text import Text

__all__ = ["Kind", "kind_of", "support"]

Name = Literal["plain", "bytes", "pairs", "bits"]
_GROUPS = {"plain": 1, "bytes": 4, "pairs": 2, "bits": 32}


@dataclass(frozen=True, slots=True)
class Kind:
    """How one combination of dtypes is contracted.

    Attributes
    ----------
    name : {"plain", "bytes", "pairs", "bits"}
        See the module's table.
    item : int
        Bytes of an element of the operands.
    out : int
        Bytes of an element of the result.
    signed : tuple of bool
        Whether the left and the right operand are.
    operand : str
        What operands of other dtypes are cast to first; empty where they are used as they are.
    """

    name: Name
    item: int
    out: int
    signed: tuple[bool, bool] = (True, True)
    operand: str = ""

    @property
    def group(self) -> int:
        """Elements of a word."""
        return _GROUPS[self.name]

    @property
    def word(self) -> int:
        """Bytes of a word."""
        return self.item if self.name == "plain" else 4

    @property
    def flips(self) -> bool:
        """Whether the left operand is to be made unsigned."""
        return self.name == "bytes" and self.out > 1 and self.signed[0]

    def step(self, text: Text, lanes: int, total: str, left: str, right: str) -> str:
        """Return ``total`` plus the products of two vectors of words."""
        vector = f"<{lanes} x i{8 * self.word}>"
        if self.name in ("bytes", "pairs"):
            return text.let(
                f"call {vector} @{self.name}({vector} {total}, {vector} {left}, {vector} {right})"
            )
        if self.name == "bits":
            both = text.let(f"and {vector} {left}, {right}")
            return text.let(f"or {vector} {total}, {both}")
        product = text.let(f"mul {vector} {left}, {right}")
        return text.let(f"add {vector} {total}, {product}")


@cache
def kind_of(left: numpy.dtype, right: numpy.dtype, result: numpy.dtype) -> Kind | None:
    """Return how operands of two dtypes are contracted to ``result``; None where they are not.

    Examples
    --------
    >>> int8 = numpy.dtype("int8")
    >>> kind_of(int8, int8, numpy.dtype("int32")).name
    'bytes'
    """
    if not all(dtype.kind in "biu" and dtype.isnative for dtype in (left, right, result)):
        return None
    if result.kind == "b":
        return Kind("bits", 1, 1) if left.kind == right.kind == "b" else None
    widths = {dtype.itemsize if dtype.kind != "b" else 0 for dtype in (left, right)}
    signed = left.kind == "i", right.kind == "i"
    if result.itemsize == 1:
        return Kind("bytes", 1, 1, operand="" if widths == {1} else result.char)
    # The instruction takes signed bytes on its right.
    if result.itemsize == 4 and widths == {1} and signed[1]:
        return Kind("bytes", 1, 4, signed)
    narrow = all(numpy.can_cast(dtype, numpy.int16) for dtype in (left, right))
    if result.itemsize == 4 and narrow:
        return Kind("pairs", 2, 4, operand="h")
    same = widths == {result.itemsize}
    return Kind("plain", result.itemsize, result.itemsize, operand="" if same else result.char)


def support(kind: Kind, lanes: int, features: str) -> str:
    """Return the functions that :meth:`Kind.step` calls, for a CPU with these features."""
    if kind.name not in ("bytes", "pairs"):
        return ""
    have = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    vector, bits = f"<{lanes} x i32>", 32 * lanes
    if "avx512vnni" in have or ("avxvnni" in have and bits <= 256):
        name = "vpdpbusd" if kind.name == "bytes" else "vpdpwssd"
        return _calling(kind.name, vector, f"llvm.x86.avx512.{name}.{bits}")
    pairs = _pairs(vector, lanes, have)
    return pairs if kind.name == "pairs" else pairs + _bytes(vector, lanes)


def _calling(name: str, vector: str, intrinsic: str) -> str:
    return f"""
declare {vector} @{intrinsic}({vector}, {vector}, {vector})
define internal {vector} @{name}({vector} %t, {vector} %a, {vector} %b) alwaysinline {{
  %s = call {vector} @{intrinsic}({vector} %t, {vector} %a, {vector} %b)
  ret {vector} %s
}}
"""


#: Instructions that multiply pairs of 16 bits and add the two products, by vector width.
_MULTIPLY_PAIRS = {
    512: ("avx512bw", "llvm.x86.avx512.pmaddw.d.512"),
    256: ("avx2", "llvm.x86.avx2.pmadd.wd"),
    128: ("sse2", "llvm.x86.sse2.pmadd.wd"),
}


def _pairs(vector: str, lanes: int, have: set[str]) -> str:
    head = f"define internal {vector} @pairs({vector} %t, {vector} %a, {vector} %b) alwaysinline {{"
    feature, intrinsic = _MULTIPLY_PAIRS.get(32 * lanes, ("", ""))
    if feature in have:
        halves = f"<{2 * lanes} x i16>"
        return f"""
declare {vector} @{intrinsic}({halves}, {halves})
{head}
  %ah = bitcast {vector} %a to {halves}
  %bh = bitcast {vector} %b to {halves}
  %p = call {vector} @{intrinsic}({halves} %ah, {halves} %bh)
  %s = add {vector} %t, %p
  ret {vector} %s
}}
"""
    half = _splat(lanes, 16)
    return f"""
{head}
  %ah = ashr {vector} %a, {half}
  %bh = ashr {vector} %b, {half}
  %as = shl {vector} %a, {half}
  %bs = shl {vector} %b, {half}
  %al = ashr {vector} %as, {half}
  %bl = ashr {vector} %bs, {half}
  %ph = mul {vector} %ah, %bh
  %pl = mul {vector} %al, %bl
  %th = add {vector} %t, %ph
  %s = add {vector} %th, %pl
  ret {vector} %s
}}
"""


def _bytes(vector: str, lanes: int) -> str:
    """Return products of bytes as those of pairs: the even ones and the odd ones."""
    halves, low, byte = f"<{2 * lanes} x i16>", _splat(2 * lanes, 255, 16), _splat(2 * lanes, 8, 16)
    return f"""
define internal {vector} @bytes({vector} %t, {vector} %a, {vector} %b) alwaysinline {{
  %ah = bitcast {vector} %a to {halves}
  %bh = bitcast {vector} %b to {halves}
  %ae = and {halves} %ah, {low}
  %ao = lshr {halves} %ah, {byte}
  %bs = shl {halves} %bh, {byte}
  %be = ashr {halves} %bs, {byte}
  %bo = ashr {halves} %bh, {byte}
  %a0 = bitcast {halves} %ae to {vector}
  %a1 = bitcast {halves} %ao to {vector}
  %b0 = bitcast {halves} %be to {vector}
  %b1 = bitcast {halves} %bo to {vector}
  %s0 = call {vector} @pairs({vector} %t, {vector} %a0, {vector} %b0)
  %s1 = call {vector} @pairs({vector} %s0, {vector} %a1, {vector} %b1)
  ret {vector} %s1
}}
"""


def _splat(lanes: int, value: int, bits: int = 32) -> str:
    return "<" + ", ".join([f"i{bits} {value}"] * lanes) + ">"
