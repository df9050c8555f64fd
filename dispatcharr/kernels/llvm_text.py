"""LLVM IR as text: numbered names, loops, and how each dtype lies in memory and in registers.

Knows no region and no operation. A bool is an ``i8`` of 0 or 1 in registers and any byte in memory;
a complex number is two reals in memory and a pair of them in registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy

__all__ = ["GROUP", "ROW_LOOP", "Text", "memory_type", "metadata", "value_type"]

#: What is appended to accesses of memory in a loop over a row, and to the end of that loop: its
#: iterations are independent.
GROUP = ", !llvm.access.group !0"
ROW_LOOP = ", !llvm.loop !1"
#: The same for other loops: they are short, or in vectors already, and not worth compile time.
_OTHER_LOOP = ", !llvm.loop !7"

_REALS = {"e": "half", "f": "float", "d": "double"}
_PAIRS = {"F": "float", "D": "double"}


def value_type(dtype: numpy.dtype[Any]) -> str | None:
    """Return the type of a value of ``dtype`` in registers, None where there is none."""
    if dtype.char in _PAIRS:
        part = _PAIRS[dtype.char]
        return f"{{ {part}, {part} }}"
    return memory_type(dtype)


def memory_type(dtype: numpy.dtype[Any]) -> str | None:
    """Return the type of an element of ``dtype`` in memory, None where there is none."""
    if dtype.char in _PAIRS:
        return f"[2 x {_PAIRS[dtype.char]}]"
    if dtype.kind in "biu":
        return f"i{8 * dtype.itemsize}"
    return _REALS.get(dtype.char)


class Text:
    """One function under construction."""

    def __init__(self, head: str, group: str = "") -> None:
        self.lines = [f"{head} {{", "entry:"]
        self.block = "entry"
        #: What is appended to every access of an operand.
        self.group = group
        self._count = 0

    def fresh(self, stem: str) -> str:
        """Return a name that is not taken."""
        self._count += 1
        return f"{stem}{self._count}"

    def do(self, line: str) -> None:
        """Add one instruction that has no result."""
        self.lines.append("  " + line)

    def let(self, expression: str) -> str:
        """Add one instruction and return its result's name."""
        name = "%" + self.fresh("v")
        self.do(f"{name} = {expression}")
        return name

    def label(self, name: str) -> None:
        """Begin a block."""
        self.lines.append(f"{name}:")
        self.block = name

    def end(self) -> str:
        """Return from the function; return its text."""
        self.do("ret void")
        return "\n".join([*self.lines, "}", ""])

    def reserve(self, kind: str, align: int = 64) -> str:
        """Return the address of memory of the function's own, made when it is entered."""
        name = "%" + self.fresh("a")
        self.lines.insert(2, f"  {name} = alloca {kind}, align {align}")
        return name

    @contextmanager
    def loop(self, low: str, high: str, step: str = "1", note: str = _OTHER_LOOP) -> Iterator[str]:
        """Count from ``low`` to below ``high``; give the counter's name."""
        number = self.fresh("")
        head, more, done = f"head{number}", f"more{number}", f"done{number}"
        start = self.let(f"icmp slt i64 {low}, {high}")
        before = self.block
        self.do(f"br i1 {start}, label %{head}, label %{done}")
        self.label(head)
        counter = f"%i{number}"
        self.do(f"{counter} = phi i64 [{low}, %{before}], [%next{number}, %{more}]")
        yield counter
        self.do(f"br label %{more}")
        self.label(more)
        self.do(f"%next{number} = add nsw i64 {counter}, {step}")
        again = self.let(f"icmp slt i64 %next{number}, {high}")
        self.do(f"br i1 {again}, label %{head}, label %{done}{note}")
        self.label(done)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Do what follows only if ``condition`` holds."""
        number = self.fresh("")
        self.do(f"br i1 {condition}, label %then{number}, label %past{number}")
        self.label(f"then{number}")
        yield
        self.do(f"br label %past{number}")
        self.label(f"past{number}")

    def least(self, a: str, b: str) -> str:
        """Return the smaller of two 64-bit integers."""
        return self.let(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def ahead(self, pointer: str, count: str, stride: str | int = 1) -> str:
        """Return ``pointer + count * stride`` bytes."""
        if stride == 0 or count == "0":
            return pointer
        offset = count if stride == 1 else self.let(f"mul nsw i64 {count}, {stride}")
        return self.let(f"getelementptr inbounds i8, ptr {pointer}, i64 {offset}")

    def load(self, dtype: numpy.dtype[Any], pointer: str, grouped: bool = True) -> str:
        """Return the value of the element at ``pointer``."""
        group = self.group if grouped else ""
        align = dtype.alignment
        if dtype.char in _PAIRS:
            part, pair = _PAIRS[dtype.char], value_type(dtype)
            real = self.let(f"load {part}, ptr {pointer}, align {align}{group}")
            after = self.ahead(pointer, str(align))
            imaginary = self.let(f"load {part}, ptr {after}, align {align}{group}")
            half = self.let(f"insertvalue {pair} poison, {part} {real}, 0")
            return self.let(f"insertvalue {pair} {half}, {part} {imaginary}, 1")
        kind = memory_type(dtype)
        value = self.let(f"load {kind}, ptr {pointer}, align {align}{group}")
        if dtype.kind != "b":
            return value
        # A view of other memory as bool may hold any byte.
        truth = self.let(f"icmp ne i8 {value}, 0")
        return self.let(f"zext i1 {truth} to i8")

    def store(self, dtype: numpy.dtype[Any], value: str, pointer: str) -> None:
        """Write ``value`` to the element at ``pointer``."""
        align = dtype.alignment
        if dtype.char not in _PAIRS:
            kind = memory_type(dtype)
            self.do(f"store {kind} {value}, ptr {pointer}, align {align}{self.group}")
            return
        part, pair = _PAIRS[dtype.char], value_type(dtype)
        real = self.let(f"extractvalue {pair} {value}, 0")
        imaginary = self.let(f"extractvalue {pair} {value}, 1")
        after = self.ahead(pointer, str(align))
        self.do(f"store {part} {real}, ptr {pointer}, align {align}{self.group}")
        self.do(f"store {part} {imaginary}, ptr {after}, align {align}{self.group}")

    def copy(self, nbytes: int, source: str, target: str) -> None:
        """Copy one element of ``nbytes``; how it is aligned is not known."""
        value = self.let(f"load i{8 * nbytes}, ptr {source}, align 1")
        self.do(f"store i{8 * nbytes} {value}, ptr {target}, align 1")

    def call(self, name: str, arguments: Sequence[tuple[str, str]]) -> None:
        """Call a function without a result; arguments are types and names."""
        listed = ", ".join(f"{kind} {value}" for kind, value in arguments)
        self.do(f"call void @{name}({listed})")


def metadata(lanes: int) -> str:
    """Return what a module's loops say of themselves; ``lanes`` is 0 where LLVM may choose."""
    width = ", !3, !4, !5" if lanes else ""
    return f"""
!0 = distinct !{{}}
!1 = distinct !{{!1, !2{width}}}
!2 = !{{!"llvm.loop.parallel_accesses", !0}}
!3 = !{{!"llvm.loop.vectorize.width", i32 {max(lanes, 1)}}}
!4 = !{{!"llvm.loop.vectorize.enable", i1 true}}
!5 = !{{!"llvm.loop.interleave.count", i32 1}}
!6 = !{{i32 1}}
!7 = distinct !{{!7, !8, !9}}
!8 = !{{!"llvm.loop.unroll.disable"}}
!9 = !{{!"llvm.loop.vectorize.enable", i1 false}}
"""
