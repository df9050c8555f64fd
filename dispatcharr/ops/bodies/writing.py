"""Writing LLVM IR, or another language, as Python expressions.

A :class:`Value` stands for one scalar and adds a line of text for every operator applied to it: the
:class:`Text` that it belongs to knows how the line is written. This one writes LLVM IR, where
everything is one straight line: choices are selects, because a loop around a branch is not
vectorised. Nothing carries fast-math flags, so that LLVM changes no bits.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

__all__ = ["BIT", "BYTE", "DOUBLE", "FLOAT", "HALF", "Complex", "Kind", "Number", "Text", "Value",
           "integer", "library_name"]  # fmt: skip

_FLOATS = {16: "half", 32: "float", 64: "double"}
#: Widths of the fraction fields of the floating-point formats, by their size in bits.
_FRACTION = {16: 10, 32: 23, 64: 52}


_NOTHING = "@dispatcharr_nothing = internal externally_initialized global i64 0, align 8"


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """A scalar type: ``b`` (one bit), ``i`` or ``u`` (integers), or ``f``, and how many bits."""

    char: str
    bits: int

    @property
    def ir(self) -> str:
        """The name of the type in LLVM."""
        return _FLOATS[self.bits] if self.char == "f" else f"i{self.bits}"

    @property
    def fraction(self) -> int:
        """Bits of the fraction of a floating-point kind."""
        return _FRACTION[self.bits]

    @property
    def suffix(self) -> str:
        """The ending of the names of LLVM's overloaded intrinsics."""
        return f"{'f' if self.char == 'f' else 'i'}{self.bits}"

    def literal(self, number: float) -> str:
        """Return ``number`` as LLVM writes constants of this kind, rounded to it."""
        if self.char != "f":
            return str(int(number))
        if self.bits == 16:
            return f"0xH{struct.unpack('<H', struct.pack('<e', number))[0]:04X}"
        if self.bits == 32:
            number = struct.unpack("<f", struct.pack("<f", number))[0]
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


BIT, BYTE = Kind("b", 1), Kind("u", 8)
HALF, FLOAT, DOUBLE = Kind("f", 16), Kind("f", 32), Kind("f", 64)


def integer(bits: int, signed: bool = True) -> Kind:
    """Return an integer kind."""
    return Kind("i" if signed else "u", bits)


def library_name(symbol: str) -> str:
    """Return what bodies call a function of the C library by.

    Not its own name, by which LLVM knows it and would make others of it that have no SIMD variants:
    a power of two that is an integer becomes ``ldexp``.
    """
    return f"dispatcharr_{symbol}"


class Text:
    """The lines of one function, what they call, and the shared helpers they need."""

    __slots__ = ("calls", "lines", "needs")
    #: Whether comparisons may report NaN, so that rules have to keep it away from them.
    loud = True

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.needs: list[str] = []
        self.calls: list[str] = []

    def add(self, kind: Kind, line: str) -> Value:
        """Write an instruction and return its result."""
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {line}")
        return Value(self, kind, name)

    def constant(self, kind: Kind, number: float) -> Value:
        """Return a constant."""
        return Value(self, kind, kind.literal(number))

    def binary(self, names: str, a: Value, b: Value) -> Value:
        """Write the first of ``names`` for floats, else the second or, unsigned, the last."""
        both = names.split()
        name = both[0] if a.kind.char == "f" else both[1 if a.kind.char == "i" else -1]
        return self.add(a.kind, f"{name} {a.kind.ir} {a.name}, {b.name}")

    def negate(self, x: Value) -> Value:
        """Write the negative of a float."""
        return self.add(x.kind, f"fneg {x.kind.ir} {x.name}")

    def compare(self, names: str, a: Value, b: Value) -> Value:
        """Write a comparison, named for floats, signed and unsigned integers."""
        floats, signed, unsigned = names.split()
        name = {"f": "fcmp " + floats, "i": "icmp " + signed}.get(a.kind.char, "icmp " + unsigned)
        return self.add(BIT, f"{name} {a.kind.ir} {a.name}, {b.name}")

    def select(self, bit: Value, yes: Value, no: Value) -> Value:
        """Write a choice between two values of one kind."""
        type_ = yes.kind.ir
        return self.add(yes.kind, f"select i1 {bit.name}, {type_} {yes.name}, {type_} {no.name}")

    def convert(self, x: Value, kind: Kind) -> Value:
        """Write a conversion as C does it: integers wrap, floats round."""
        source = x.kind
        if kind.char == source.char == "f":
            name = "fpext" if kind.bits > source.bits else "fptrunc"
        elif source.char == "f":
            name = "fptoui" if kind.char == "u" else "fptosi"
        elif kind.char == "f":
            name = "sitofp" if source.char == "i" else "uitofp"
        elif kind.bits < source.bits:
            name = "trunc"
        else:
            name = "sext" if source.char == "i" else "zext"
        if source.ir == kind.ir:
            return Value(self, kind, x.name)
        return self.add(kind, f"{name} {source.ir} {x.name} to {kind.ir}")

    def same_bits(self, x: Value, kind: Kind) -> Value:
        """Write the value of another kind that has the same bits."""
        return self.add(kind, f"bitcast {x.kind.ir} {x.name} to {kind.ir}")

    def freeze(self, x: Value) -> Value:
        """Keep LLVM from drawing conclusions from a result that it calls undefined."""
        return self.add(x.kind, f"freeze {x.kind.ir} {x.name}")

    def report_nan(self, x: Value) -> Value:
        """Write whether a float is a number, and report an invalid value if it is not.

        NaN is made a signalling one, on its bits, so that an addition reports it.
        """
        quieting = 1 << (x.kind.fraction - 1)
        signalling = ((x.bits() & ~quieting) | 1).as_float(x.kind)
        signalling = x.isnan().choose(signalling, 1.0) + 0.0
        return signalling.ordered(signalling)

    def hide(self, x: Value) -> Value:
        """Write the same value, which LLVM cannot tell from another."""
        self.need(_NOTHING)
        nothing = self.add(
            integer(64), "load i64, ptr @dispatcharr_nothing, align 8, !invariant.load !{}"
        )
        bits = x.bits() if x.kind.char == "f" else x
        hidden = bits + nothing.to(bits.kind)
        return hidden.as_float(x.kind) if x.kind.char == "f" else hidden

    def call(self, symbol: str, result: Kind, operands: Sequence[Value]) -> Value:
        """Write a call of a function that the caller has noted as needed."""
        arguments = ", ".join(f"{o.kind.ir} {o.name}" for o in operands)
        return self.add(result, f"call {result.ir} @{symbol}({arguments})")

    def intrinsic(self, name: str, *operands: Value) -> Value:
        """Write a call of LLVM's function ``name``, whose operands are all of one kind."""
        kind = operands[0].kind
        symbol = f"llvm.{name}.{kind.suffix}"
        types = ", ".join([kind.ir] * len(operands))
        self.need(f"declare {kind.ir} @{symbol}({types})")
        arguments = ", ".join(f"{kind.ir} {o.name}" for o in operands)
        return self.add(kind, f"call {kind.ir} @{symbol}({arguments})")

    def need(self, snippet: str) -> None:
        """Note a helper of the prelude, or a declaration."""
        if snippet not in self.needs:
            self.needs.append(snippet)

    def outside(self, symbol: str, *operands: Value) -> Value:
        """Write a call of a function of the C library, all of one kind."""
        if symbol not in self.calls:
            self.calls.append(symbol)
        return self.call(library_name(symbol), operands[0].kind, operands)


Number = float | int


@final
class Value:
    """One scalar. Operators take values of its own kind, or Python numbers."""

    __slots__ = ("kind", "name", "text")

    def __init__(self, text: Text, kind: Kind, name: str) -> None:
        self.text = text
        self.kind = kind
        self.name = name

    def like(self, other: Value | Number) -> Value:
        """Return ``other``, a number made a constant of this kind."""
        return other if isinstance(other, Value) else self.text.constant(self.kind, other)

    def _binary(self, names: str, other: Value | Number) -> Value:
        return self.text.binary(names, self, self.like(other))

    def __add__(self, other: Value | Number) -> Value:
        return self._binary("fadd add", other)

    def __sub__(self, other: Value | Number) -> Value:
        return self._binary("fsub sub", other)

    def __mul__(self, other: Value | Number) -> Value:
        return self._binary("fmul mul", other)

    def __truediv__(self, other: Value | Number) -> Value:
        return self._binary("fdiv -", other)

    def __and__(self, other: Value | Number) -> Value:
        return self._binary("- and", other)

    def __or__(self, other: Value | Number) -> Value:
        return self._binary("- or", other)

    def __xor__(self, other: Value | Number) -> Value:
        return self._binary("- xor", other)

    def __lshift__(self, other: Value | Number) -> Value:
        return self._binary("- shl", other)

    def __rshift__(self, other: Value | Number) -> Value:
        return self._binary("- ashr lshr", other)

    def __neg__(self) -> Value:
        if self.kind == HALF:
            return (self.bits() ^ -0x8000).as_float(HALF)
        if self.kind.char == "f":
            return self.text.negate(self)
        return self.like(0) - self

    def __invert__(self) -> Value:
        return self ^ (1 if self.kind.char == "b" else -1)

    def _compare(self, names: str, other: Value | Number) -> Value:
        return self.text.compare(names, self, self.like(other))

    # Order comparisons of floats raise "invalid value" for NaN once they are SIMD: `quiet` is
    # the way around it. Equality does not.
    def __lt__(self, other: Value | Number) -> Value:
        return self._compare("olt slt ult", other)

    def __le__(self, other: Value | Number) -> Value:
        return self._compare("ole sle ule", other)

    def __gt__(self, other: Value | Number) -> Value:
        return self._compare("ogt sgt ugt", other)

    def __ge__(self, other: Value | Number) -> Value:
        return self._compare("oge sge uge", other)

    def eq(self, other: Value | Number) -> Value:
        """Compare; NaN is equal to nothing."""
        return self._compare("oeq eq eq", other)

    def ne(self, other: Value | Number) -> Value:
        """Compare; NaN is unequal to everything."""
        return self._compare("une ne ne", other)

    def isnan(self) -> Value:
        """Whether a float is NaN."""
        return self._compare("uno - -", self)

    def ordered(self, other: Value) -> Value:
        """Whether neither float is NaN."""
        return self._compare("ord - -", other)

    def choose(self, yes: Value | Number, no: Value | Number) -> Value:
        """Return ``yes`` where this bit is set, else ``no``; one of them is a value."""
        other = yes if isinstance(yes, Value) else no
        if not isinstance(other, Value):
            raise TypeError(f"choose() takes at least one value; got the numbers {yes} and {no}")
        return self.text.select(self, other.like(yes), other.like(no))

    def to(self, kind: Kind) -> Value:
        """Convert as C does: integers wrap, floats round."""
        return self.text.convert(self, kind)

    def bits(self) -> Value:
        """Return the bits of a float as a signed integer."""
        return self.text.same_bits(self, integer(self.kind.bits))

    def as_float(self, kind: Kind) -> Value:
        """Return the float whose bits this integer is."""
        return self.text.same_bits(self, kind)

    def freeze(self) -> Value:
        """Keep LLVM from drawing conclusions from a result that it calls undefined."""
        return self.text.freeze(self)

    def apart(self) -> Value:
        """Return the same value, which LLVM cannot tell from another.

        An operation whose result is chosen for some elements only may be done for those alone.
        NumPy does it for all, and reports the errors that it meets. So nothing is added to the
        bits, which only the linker could know to be nothing. Added, since to differ from the same
        thing twice would be no difference.
        """
        return self.text.hide(self)

    def fabs(self) -> Value:
        """Return the float without its sign."""
        if self.kind == HALF:  # not every target knows the intrinsics of this kind
            return (self.bits() & 0x7FFF).as_float(HALF)
        return self.text.intrinsic("fabs", self)

    def copysign(self, sign: Value | Number) -> Value:
        """Return the float with the sign of another."""
        if self.kind == HALF:
            return (self.fabs().bits() | (self.like(sign).bits() & -0x8000)).as_float(HALF)
        return self.text.intrinsic("copysign", self, self.like(sign))


@final
@dataclass(frozen=True, slots=True)
class Complex:
    """A complex number as its two parts."""

    real: Value
    imag: Value
