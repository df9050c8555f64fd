"""Helpers with loops, which bodies cannot have, each with variants for whole SIMD vectors.

LLVM vectorises a loop that calls a function if the function names its variants, as those of the C
library do. So a helper is written once, for any number of lanes: it goes round until the slowest
lane is done, which is nearly always at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import final

from dispatcharr.ops.bodies.writing import Kind

__all__ = ["fmod_name", "power_name", "text_of"]

#: Bytes of a vector, by the letters that name instruction sets in variants.
_WIDTHS = {"b": 16, "d": 32, "e": 64}


#: By the bits of a float: those of its fraction, of its digits, and the power of two that the
#: longest ratio of two of them may have here.
_FLOATS = {32: (23, 24, 120), 64: (52, 53, 1016)}


@final
@dataclass(frozen=True, slots=True)
class _Lanes:
    """Some lanes of one kind: how types and constants are written, one lane being a scalar."""

    kind: Kind
    lanes: int

    def of(self, type_: str) -> str:
        """Return the type of as many elements."""
        return type_ if self.lanes == 1 else f"<{self.lanes} x {type_}>"

    def all(self, number: float, type_: str = "") -> str:
        """Return a constant for every lane."""
        literal = str(int(number)) if type_ else self.kind.literal(number)
        return literal if self.lanes == 1 else f"splat ({type_ or self.kind.ir} {literal})"

    def suffix(self, kind: str) -> str:
        """Return the ending of the name of an intrinsic."""
        return kind if self.lanes == 1 else f"v{self.lanes}{kind}"

    def any(self, name: str, bits: str) -> str:
        """Return the line that makes ``name`` from whether a lane of ``bits`` is set."""
        if self.lanes == 1:
            return f"  {name} = freeze i1 {bits}"
        return (
            f"  {name} = call i1 @llvm.vector.reduce.or.v{self.lanes}i1(<{self.lanes} x i1> {bits})"
        )


def fmod_name(kind: Kind) -> str:
    """Return the helper for the remainder of positive finite floats, exact."""
    return f"dispatcharr_fmod_{kind.suffix}"


def power_name(kind: Kind) -> str:
    """Return the helper for powers of integers, whose exponents are taken as unsigned."""
    return f"dispatcharr_power_i{kind.bits}"


def _fmod(name: str, on: _Lanes) -> str:
    """Take away multiples of the divisor, each time as large as a quotient can be exact.

    A quotient below 2**p, p the precision, is at most one too large once it is rounded and cut, and
    fused multiply-add then gives the exact remainder.
    """
    t, i = on.of(on.kind.ir), on.of(f"i{on.kind.bits}")
    bit, s, ints = on.of("i1"), on.suffix(on.kind.suffix), f"i{on.kind.bits}"
    fraction, precision, longest = _FLOATS[on.kind.bits]
    exponents = (1 << on.kind.bits - 1) - (1 << fraction)
    return f"""define internal {t} @{name}({t} %x, {t} %y) ATTRIBUTES {{
entry:
  br label %again
again:
  %r = phi {t} [%x, %entry], [%left, %again]
  ; A ratio that would overflow is cut short, so that no error is reported that is none.
  %least = fmul {t} %r, {on.all(2.0**-longest)}
  %endless = fcmp olt {t} %y, %least
  %below = select {bit} %endless, {t} %least, {t} %y
  %ratio = fdiv {t} %r, %below
  %far = fcmp oge {t} %ratio, {on.all(2.0**precision)}
  ; The multiple of the divisor just far enough below: by the ratio, or where that is cut short, the
  ; digits of the divisor with an exponent below that of what is left.
  %ratio_bits = bitcast {t} %ratio to {i}
  %power_bits = and {i} %ratio_bits, {on.all(exponents, ints)}
  %power = bitcast {i} %power_bits to {t}
  %scale = fmul {t} %power, {on.all(2.0 ** (1 - precision))}
  %multiple = fmul {t} %y, %scale
  %is_small = fcmp olt {t} %y, {on.all(2.0**60)}
  %small = select {bit} %is_small, {t} %y, {t} {on.all(2.0**60)}
  %normal = fmul {t} %small, {on.all(2.0**precision)}
  %normal_bits = bitcast {t} %normal to {i}
  %digits = and {i} %normal_bits, {on.all((1 << fraction) - 1, ints)}
  %r_bits = bitcast {t} %r to {i}
  %r_power = and {i} %r_bits, {on.all(exponents, ints)}
  %lower = sub {i} %r_power, {on.all((precision - 2) << fraction, ints)}
  %joined = or {i} %lower, %digits
  %distant = bitcast {i} %joined to {t}
  %near = select {bit} %far, {t} %multiple, {t} %y
  %part = select {bit} %endless, {t} %distant, {t} %near
  %quotient = fdiv {t} %r, %part
  %whole = call {t} @llvm.trunc.{s}({t} %quotient)
  %minus = fneg {t} %whole
  %rest = call {t} @llvm.fma.{s}({t} %minus, {t} %part, {t} %r)
  %over = fcmp olt {t} %rest, {on.all(0.0)}
  %back = fadd {t} %rest, %part
  %left = select {bit} %over, {t} %back, {t} %rest
{on.any("%more", "%far")}
  br i1 %more, label %again, label %done
done:
  ret {t} %left
}}
declare {t} @llvm.trunc.{s}({t})
declare {t} @llvm.fma.{s}({t}, {t}, {t})
{_reduction(on)}"""


def _power(name: str, on: _Lanes) -> str:
    """Square the base for every bit of the exponent, and multiply where the bit is set."""
    t, bit, i = on.of(on.kind.ir), on.of("i1"), on.kind.ir
    return f"""define internal {t} @{name}({t} %x, {t} %y) ATTRIBUTES {{
entry:
  br label %again
again:
  %base = phi {t} [%x, %entry], [%square, %again]
  %left = phi {t} [%y, %entry], [%fewer, %again]
  %made = phi {t} [{on.all(1, i)}, %entry], [%next, %again]
  %last = and {t} %left, {on.all(1, i)}
  %odd = icmp ne {t} %last, {on.all(0, i)}
  %factor = select {bit} %odd, {t} %base, {t} {on.all(1, i)}
  %next = mul {t} %made, %factor
  %square = mul {t} %base, %base
  %fewer = lshr {t} %left, {on.all(1, i)}
  %some = icmp ne {t} %fewer, {on.all(0, i)}
{on.any("%more", "%some")}
  br i1 %more, label %again, label %done
done:
  ret {t} %next
}}
{_reduction(on)}"""


def _reduction(on: _Lanes) -> str:
    if on.lanes == 1:
        return ""
    return f"declare i1 @llvm.vector.reduce.or.v{on.lanes}i1(<{on.lanes} x i1>)\n"


_WRITERS: dict[str, tuple[Callable[[str, _Lanes], str], Kind]] = {
    **{fmod_name(k): (_fmod, k) for k in (Kind("f", 32), Kind("f", 64))},
    **{power_name(k): (_power, k) for k in (Kind("i", b) for b in (8, 16, 32, 64))},
}


@cache
def _family(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the text of a helper with its variants, and the variants' names."""
    write, kind = _WRITERS[name]
    lanes = {f"_ZGV{isa}N{w * 8 // kind.bits}vv_{name}": w * 8 // kind.bits
             for isa, w in _WIDTHS.items()}  # fmt: skip
    common = "noinline nounwind willreturn memory(none)"
    named = ",".join(f"{variant}({variant})" for variant in lanes)
    text = write(name, _Lanes(kind, 1)).replace(
        "ATTRIBUTES", f'{common} "vector-function-abi-variant"="{named}"'
    )
    for variant, count in lanes.items():
        text += write(variant, _Lanes(kind, count)).replace("ATTRIBUTES", common)
    return text, tuple(lanes)


def text_of(needs: Iterable[str]) -> str:
    """Return helpers and declarations, each once; what is no helper's name is a declaration."""
    text: dict[str, None] = {}
    kept: list[str] = []
    for need in dict.fromkeys(needs):
        if need not in _WRITERS:
            text[need] = None
            continue
        helper, variants = _family(need)
        # Definitions come as one piece; what several helpers declare is declared once.
        text.update(dict.fromkeys(_pieces(helper)))
        kept += [f"ptr @{variant}" for variant in variants]
    if kept:  # nothing calls the variants before loops are vectorised
        text[
            f"@llvm.used = appending global [{len(kept)} x ptr] [{', '.join(kept)}], "
            'section "llvm.metadata"'
        ] = None
    return "\n".join(text) + "\n"


def _pieces(text: str) -> Iterable[str]:
    for part in text.split("\n}\n"):
        lines = part.split("\n")
        while lines and not lines[0].startswith("define"):
            if lines[0]:
                yield lines[0]
            lines = lines[1:]
        if lines:
            yield "\n".join(lines) + "\n}"
