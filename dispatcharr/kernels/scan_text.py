"""IR text that the kernels of scans share: rows of a table, variables, conversions.

``void kernel(ptr table, ptr count)``: ``count`` is a number of rows, and a row holds 64-bit
integers, addresses among them. Kernels also write into their row what there is to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy

from dispatcharr.kernels.llvm_flags import FLAGS
from dispatcharr.kernels.llvm_text import Text, memory_type, metadata
from dispatcharr.kernels.target import architecture

__all__ = ["LOOSE", "Rows", "Variable", "cast", "halving", "load_as", "table_kernel"]

#: What is appended to the end of a loop of which LLVM may make what it likes.
LOOSE = ""
Dtype = numpy.dtype


class Rows:
    """The fields of the row that a kernel is at.

    Parameters
    ----------
    text : Text
        The function.
    base : str
        The row's address.
    fields : sequence of str
        Names of fields; addresses begin with an underscore.
    """

    def __init__(self, text: Text, base: str, fields: Sequence[str]) -> None:
        self._text = text
        self._places = {name: 8 * place for place, name in enumerate(fields)}
        self._base = base
        self._loaded = {}
        for name, place in self._places.items():
            kind = "ptr" if name.startswith("_") else "i64"
            address = text.ahead(base, str(place))
            self._loaded[name] = text.let(f"load {kind}, ptr {address}, align 8")

    def __getitem__(self, name: str) -> str:
        return self._loaded[name]

    def put(self, name: str, value: str) -> None:
        """Write a 64-bit integer to a field."""
        address = self._text.ahead(self._base, str(self._places[name]))
        self._text.do(f"store i64 {value}, ptr {address}, align 8")


class Variable:
    """A value of one type that changes; LLVM keeps it in a register."""

    def __init__(self, text: Text, kind: str, value: str) -> None:
        self._text, self.kind = text, kind
        self._place = text.reserve(kind)
        self.set(value)

    def set(self, value: str) -> None:
        """Change it."""
        self._text.do(f"store {self.kind} {value}, ptr {self._place}")

    def get(self) -> str:
        """Return what it is now."""
        return self._text.let(f"load {self.kind}, ptr {self._place}")


def table_kernel(
    fields: Sequence[str], body: Callable[[Text, Rows], None], declarations: str = "",
    watched: bool = False,
) -> str:  # fmt: skip
    """Return a module whose kernel does ``body`` for each row of its table.

    Where it is ``watched``, it writes the machine's floating-point flags to the field ``met`` of
    its first row.
    """
    head = "define internal void @rows({0}) noinline nounwind" if watched else _HEAD
    text = Text(head.format("ptr %table, ptr %number"))
    count = text.let("ptrtoint ptr %number to i64")
    with text.loop("0", count) as row:
        body(text, Rows(text, text.ahead("%table", row, 8 * len(fields)), fields))
    made = text.end() + declarations + metadata(0)
    if not watched:
        return made
    text = Text(_HEAD.format("ptr %table, ptr %number"))
    text.do("call void @clear()")
    text.do("call void @rows(ptr %table, ptr %number)")
    met = text.let("call i64 @met()")
    place = text.ahead("%table", str(8 * list(fields).index("met")))
    text.do(f"store i64 {met}, ptr {place}, align 8")
    return made + text.end() + FLAGS[architecture()]


_HEAD = "define void @kernel({0}) nounwind"


def cast(text: Text, value: str, source: Dtype, target: Dtype) -> str:
    """Return a value in registers as another type; bools are 0 or 1.

    Integers wrap around. No float becomes an integer here.
    """
    one, other = memory_type(source), memory_type(target)
    if source == target:
        return value
    if source.kind in "biu" and target.kind in "biu":
        if source.itemsize == target.itemsize:
            return value
        if source.itemsize > target.itemsize:
            return text.let(f"trunc {one} {value} to {other}")
        extend = "sext" if source.kind == "i" else "zext"
        return text.let(f"{extend} {one} {value} to {other}")
    if source.kind in "biu":
        convert = "sitofp" if source.kind == "i" else "uitofp"
        return text.let(f"{convert} {one} {value} to {other}")
    convert = "fpext" if source.itemsize < target.itemsize else "fptrunc"
    return text.let(f"{convert} {one} {value} to {other}")


def load_as(text: Text, pointer: str, source: Dtype, target: Dtype) -> str:
    """Return the element at ``pointer`` as ``target``."""
    return cast(text, text.load(source, pointer), source, target)


@contextmanager
def halving(text: Text, size: str) -> Iterator[tuple[str, Variable]]:
    """Halve ``size`` until one is left; give each half, and what is left before it."""
    number = text.fresh("")
    left = Variable(text, "i64", size)
    text.do(f"br label %ask{number}")
    text.label(f"ask{number}")
    now = left.get()
    more = text.let(f"icmp sgt i64 {now}, 1")
    text.do(f"br i1 {more}, label %halve{number}, label %found{number}")
    text.label(f"halve{number}")
    half = text.let(f"lshr i64 {now}, 1")
    yield half, left
    text.do(f"store i64 {text.let(f'sub i64 {now}, {half}')}, ptr {left._place}")
    text.do(f"br label %ask{number}")
    text.label(f"found{number}")
