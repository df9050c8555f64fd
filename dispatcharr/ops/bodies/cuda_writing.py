"""Writing CUDA C++ as Python expressions: the second dialect of the rules.

Integers are computed in unsigned types, where C++ lets them wrap, and no conversion is left to what
the machine makes of numbers that do not fit. While a text is ``watching``, every operation that can
err adds what it met to a variable of that name, as the flags of a CPU would: the same steps are
written once more for it, where a result looks as if there had been something.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from dispatcharr.ops.bodies.casting import is_x86
from dispatcharr.ops.bodies.cuda_helpers import device_prelude
from dispatcharr.ops.bodies.writing import BIT, HALF, Kind, Text, Value

__all__ = ["CudaText", "c_type"]

_INTEGERS = {8: "char", 16: "short", 32: "int", 64: "long long"}
_COMPARED = {"olt": "<", "ole": "<=", "ogt": ">", "oge": ">=", "oeq": "==", "une": "!="}
_BINARY = {"fadd": "+", "fsub": "-", "fmul": "*", "fdiv": "/", "add": "+", "sub": "-", "mul": "*",
           "and": "&", "or": "|", "xor": "^", "shl": "<<", "ashr": ">>", "lshr": ">>"}  # fmt: skip
#: Functions of the C library that are infinite where they have a pole, by C's names.
_POLES = frozenset({"log", "log2", "log10", "log1p", "atanh"})


def c_type(kind: Kind) -> str:
    """Return the type of a value in registers."""
    if kind.char == "b":
        return "bool"
    if kind.char == "f":
        return {16: "Half", 32: "float", 64: "double"}[kind.bits]
    if kind.char == "u":
        return "unsigned " + _INTEGERS[kind.bits]
    return "signed char" if kind.bits == 8 else _INTEGERS[kind.bits]


def _literal(kind: Kind, number: float) -> str:
    """Return a constant, rounded to the kind or wrapped."""
    if kind == BIT:
        return "true" if number else "false"
    if kind == HALF:
        return f"((Half)0x{struct.unpack('<H', struct.pack('<e', number))[0]:04x}u)"
    if kind.char == "f":
        return _float_literal(kind, number)
    whole = int(number) & ((1 << kind.bits) - 1)
    return f"(({c_type(kind)}){whole:#x}{'ull' if kind.bits == 64 else 'u'})"


def _float_literal(kind: Kind, number: float) -> str:
    number, wide = float(number), kind.bits == 64
    if not wide:
        number = struct.unpack("<f", struct.pack("<f", number))[0]
    if math.isfinite(number):
        return f"({number.hex()}{'' if wide else 'f'})"
    code, word = ("<d", "<Q") if wide else ("<f", "<I")
    bits = struct.unpack(word, struct.pack(code, number))[0]
    return f"dp_f{kind.bits}({bits:#x}{'ull' if wide else 'u'})"


class CudaText(Text):
    """The lines of one kernel's program; every value is a constant with a name of its own."""

    __slots__ = ("_known", "_names", "_told", "watching")
    loud = False

    def __init__(self) -> None:
        super().__init__()
        self.watching = False
        #: What has been written for all that follows, so that nothing is computed twice.
        self._known: dict[tuple[Kind, str], Value] = {}
        self._told: dict[tuple[str, ...], list[str]] = {}
        self._names = 0

    def prelude(self) -> str:
        """Return the types and functions that the lines use."""
        return device_prelude(self.needs)

    def line(self, line: str) -> None:
        """Write a line that has no result."""
        self.lines.append("  " + line)

    def add(self, kind: Kind, line: str) -> Value:
        """Write an expression and return its result."""
        known = self._known.get((kind, line))
        if known is not None:
            return known
        made = Value(self, kind, f"v{self._names}")
        self._names += 1
        self.line(f"const {c_type(kind)} {made.name} = {line};")
        if kind == HALF:
            self.need("half")
        if not self.watching:  # what is written then ends with its block
            self._known[kind, line] = made
        return made

    def meet(self, condition: str) -> None:
        """Write that what an expression says has been met."""
        if self.watching:
            self.need("met")
            self.line(f"met |= {condition};")

    def tell(self, symbol: str, kind: Kind, operands: Sequence[Value], results: int) -> list[Value]:
        """Write a call of a function that takes variables for its results and for what it met."""
        given = [value.name for value in operands]
        told = self._told.get((symbol, *given))
        if told is None:
            names = [f"v{self._names + i}" for i in range(results + 1)]
            self._names += len(names)
            self.line(f"{c_type(kind)} {', '.join(names[:-1])};")
            self.line(f"unsigned {names[-1]} = 0u;")
            self.line(f"{symbol}({', '.join([*given, *names])});")
            told = self._told[symbol, *given] = names
        self.meet(told[-1])
        return [Value(self, kind, name) for name in told[:-1]]

    def constant(self, kind: Kind, number: float) -> Value:
        """Return a constant."""
        return Value(self, kind, _literal(kind, number))

    def binary(self, names: str, a: Value, b: Value) -> Value:
        """Write an operation on two values of one kind."""
        both, kind = names.split(), a.kind
        name = both[0] if kind.char == "f" else both[1 if kind.char == "i" else -1]
        sign = _BINARY[name]
        if kind == BIT:
            return self.add(kind, f"(bool)({a.name} {sign} {b.name})")
        if kind.char != "f":
            return self._integers(name, sign, a, b)
        made = self.add(kind, f"{a.name} {sign} {b.name}")
        self.meet(f"met_{'quotient' if sign == '/' else 'sum'}({a.name}, {b.name}, {made.name})")
        return made

    def _integers(self, name: str, sign: str, a: Value, b: Value) -> Value:
        type_ = c_type(a.kind)
        if name in ("ashr", "lshr"):
            return self.add(a.kind, f"({type_})({a.name} >> (int){b.name})")
        wide = "unsigned long long" if a.kind.bits == 64 else "unsigned"
        right = f"(int){b.name}" if name == "shl" else f"({wide}){b.name}"
        return self.add(a.kind, f"({type_})(({wide}){a.name} {sign} {right})")

    def negate(self, x: Value) -> Value:
        """Write the negative of a float."""
        return self.add(x.kind, f"-{x.name}")

    def compare(self, names: str, a: Value, b: Value) -> Value:
        """Write a comparison, which reports nothing."""
        x, y = _widened(a), _widened(b)
        name = names.split(maxsplit=1)[0]
        if name in ("uno", "ord"):
            each = [f"{v} == {v}" for v in dict.fromkeys((x, y))]
            whole = " && ".join(each)
            return self.add(BIT, whole if name == "ord" else f"!({whole})")
        return self.add(BIT, f"{x} {_COMPARED[name]} {y}")

    def select(self, bit: Value, yes: Value, no: Value) -> Value:
        """Write a choice between two values of one kind."""
        return self.add(yes.kind, f"{bit.name} ? {yes.name} : {no.name}")

    def convert(self, x: Value, kind: Kind) -> Value:
        """Write a conversion as NumPy's loops for this machine's CPU have it."""
        if x.kind == kind:
            return x
        if x.kind == HALF:
            self.need("half")
            wide = self.add(Kind("f", 32), f"dp_float({x.name})")
            return wide.to(kind)
        if kind == HALF:
            return self._to_half(x)
        type_ = c_type(kind)
        if x.kind.char != "f":
            return self.add(kind, f"({type_}){x.name}")
        if kind.char == "f":
            made = self.add(kind, f"({type_}){x.name}")
            if kind.bits < x.kind.bits:
                self.meet(f"!dp_finite({made.name}) && dp_finite({x.name}) ? 2u : 0u")
            return made
        return self._to_integer(x, kind)

    def _to_half(self, x: Value) -> Value:
        if x.kind.char != "f" or x.kind.bits == 64:
            raise TypeError(f"a float16 is made of a float32; got {x.kind}")
        self.need("half")
        made = self.add(HALF, f"dp_half({x.name})")
        self.meet(f"!dp_finite_half({made.name}) && dp_finite({x.name}) ? 2u : 0u")
        return made

    def _to_integer(self, x: Value, kind: Kind) -> Value:
        """Cut a float to an integer: out of range as x86 has it, or else the nearest."""
        low = 0 if kind.char == "u" else -(1 << (kind.bits - 1))
        high = 1 << (kind.bits if kind.char == "u" else kind.bits - 1)
        # float64 has numbers between the last one that fits after it is cut and the next integer.
        below = f"{x.name} > {x.like(low - 1).name}"
        if float(low - 1) == float(low) or x.kind.bits == 32:
            below = f"{x.name} >= {x.like(low).name}" if low else f"{x.name} > {x.like(-1.0).name}"
        fits = self.add(BIT, f"{below} && {x.name} < {x.like(high).name}")
        least, zero, most = (_literal(kind, number) for number in (low, 0, high - 1))
        other = least
        if not is_x86():
            nearest = f"{x.name} < {x.like(0.0).name} ? {least} : {most}"
            other = f"({x.name} != {x.name} ? {zero} : {nearest})"
        made = self.add(kind, f"{fits.name} ? ({c_type(kind)}){x.name} : {other}")
        self.meet(f"{fits.name} ? 0u : 8u")
        return made

    def same_bits(self, x: Value, kind: Kind) -> Value:
        """Write the value of another kind that has the same bits."""
        type_ = c_type(kind)
        if HALF in (x.kind, kind):
            return self.add(kind, f"({type_}){x.name}")
        if kind.char == "f":
            unsigned = "unsigned long long" if kind.bits == 64 else "unsigned"
            return self.add(kind, f"dp_f{kind.bits}(({unsigned}){x.name})")
        return self.add(kind, f"dp_bits({x.name})")

    def freeze(self, x: Value) -> Value:
        """Return the value: none is undefined here."""
        return x

    def report_nan(self, x: Value) -> Value:
        """Write whether a float is a number."""
        number = x.ordered(x)
        self.meet(f"{number.name} ? 0u : 8u")
        return number

    def hide(self, x: Value) -> Value:
        """Return the value: errors are looked for apart from results."""
        return x

    def call(self, symbol: str, result: Kind, operands: Sequence[Value]) -> Value:
        """Write a call."""
        return self.add(result, f"{symbol}({', '.join(o.name for o in operands)})")

    def intrinsic(self, name: str, *operands: Value) -> Value:
        """Write a call of what LLVM has as function ``name``."""
        kind = operands[0].kind
        if name == "ctpop":
            wide = "unsigned long long" if kind.bits == 64 else "unsigned"
            unsigned = c_type(Kind("u", kind.bits))
            return self.add(
                kind, f"({c_type(kind)})dp_count(({wide})({unsigned}){operands[0].name})"
            )
        made = self.call(name + ("f" if kind.bits == 32 else ""), kind, operands)
        names = ", ".join(o.name for o in (*operands, made))
        if name == "sqrt":
            self.meet(f"met_function({names})")
        if name == "fma":
            self.meet(f"met_fma({names})")
        return made

    def outside(self, symbol: str, *operands: Value) -> Value:
        """Write a call of a function of the C library."""
        kind = operands[0].kind
        made = self.call(symbol, kind, operands)
        names = ", ".join(o.name for o in (*operands, made))
        plain = symbol.removesuffix("f") if kind.bits == 32 else symbol
        how = "power" if plain == "pow" else "sum" if len(operands) == 2 else "function"
        self.meet(f"met_{'pole' if plain in _POLES else how}({names})")
        return made


def _widened(x: Value) -> str:
    if x.kind != HALF:
        return x.name
    x.text.need("half")
    return f"dp_float({x.name})"
