"""States of reductions and the writing of IR for many lanes at once.

A folding has a state of a few fields. ``lift`` turns an element into a state, ``merge`` joins two.
From these two follow the loop over lanes, the step from lanes to one value, the pairwise joining
of blocks, and the row of states that rows are added to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr.kernels.llvm_text import Text, memory_type

__all__ = [
    "FLAG", "INT", "Arrays", "Code", "Dtype", "Folding", "Lanes", "Lift", "Maker", "Merge",
    "State", "Variable", "across", "added", "constant", "counted", "gap_squared", "kind_of",
    "lanes_of", "mean_of", "missing", "present", "put_all", "true",
]  # fmt: skip

Dtype = numpy.dtype[Any]
Arrays = Sequence[numpy.ndarray]
State = list[str]
FLAG, INT = numpy.dtype(numpy.uint8), numpy.dtype(numpy.int64)


class Lanes:
    """Writes instructions for ``count`` elements side by side, or for one."""

    def __init__(self, text: Text, count: int = 1) -> None:
        self.text = text
        self.count = count

    def type(self, kind: str) -> str:
        """Return the type of as many values of ``kind``."""
        return kind if self.count == 1 else f"<{self.count} x {kind}>"

    def all(self, kind: str, constant: str) -> str:
        """Return the operand that has a constant in each lane."""
        return constant if self.count == 1 else f"splat ({kind} {constant})"

    def spread(self, kind: str, value: str) -> str:
        """Return one value of a register in each lane."""
        if self.count == 1:
            return value
        first = self.text.let(f"insertelement {self.type(kind)} poison, {kind} {value}, i64 0")
        return self.text.let(
            f"shufflevector {self.type(kind)} {first}, {self.type(kind)} poison, "
            f"<{self.count} x i32> zeroinitializer"
        )

    def do(self, operation: str, kind: str, a: str, b: str) -> str:
        """Apply an operation of two operands."""
        return self.text.let(f"{operation} {self.type(kind)} {a}, {b}")

    def plus(self, kind: str, a: str, b: str) -> str:
        """Add numbers."""
        real = "f" if kind in ("half", "float", "double") else ""
        return self.text.let(f"{real}add {self.type(kind)} {a}, {b}")

    def times(self, kind: str, a: str, b: str) -> str:
        """Multiply numbers."""
        real = "f" if kind in ("half", "float", "double") else ""
        return self.text.let(f"{real}mul {self.type(kind)} {a}, {b}")

    def choose(self, kind: str, condition: str, a: str, b: str) -> str:
        """Return ``a`` where the condition holds, else ``b``."""
        type_ = self.type(kind)
        return self.text.let(f"select {self.type('i1')} {condition}, {type_} {a}, {type_} {b}")

    def convert(self, operation: str, source: str, value: str, target: str) -> str:
        """Convert from one type to another."""
        return self.text.let(f"{operation} {self.type(source)} {value} to {self.type(target)}")

    def negate(self, condition: str) -> str:
        """Return where a condition does not hold."""
        return self.do("xor", "i1", condition, self.all("i1", "true"))

    def parts(self, kind: str, pair: str) -> State:
        """Return the parts of complex numbers, which are of ``kind``."""
        whole = f"{{ {self.type(kind)}, {self.type(kind)} }}"
        return [self.text.let(f"extractvalue {whole} {pair}, {i}") for i in (0, 1)]

    def load_pairs(self, kind: str, pointer: str, align: int) -> str:
        """Load neighbouring complex numbers whose parts are of ``kind``."""
        width, type_ = 2 * self.count, self.type(kind)
        wide = self.text.let(f"load <{width} x {kind}>, ptr {pointer}, align {align}")
        made = "poison"
        for i in (0, 1):
            lanes = ", ".join(f"i32 {j}" for j in range(i, width, 2))
            part = self.text.let(
                f"shufflevector <{width} x {kind}> {wide}, <{width} x {kind}> poison, "
                f"<{self.count} x i32> <{lanes}>"
            )
            if self.count == 1:
                part = self.text.let(f"extractelement <1 x {kind}> {part}, i64 0")
            made = self.text.let(f"insertvalue {{ {type_}, {type_} }} {made}, {type_} {part}, {i}")
        return made

    def load(self, kind: str, pointer: str, align: int, group: str = "") -> str:
        """Load neighbours in memory."""
        return self.text.let(f"load {self.type(kind)}, ptr {pointer}, align {align}{group}")


Lift = Callable[[Lanes, str, str | None, str], State]
Merge = Callable[[Lanes, State, State], State]


@dataclass(frozen=True, slots=True)
class Code:
    """How a state becomes what is handed to NumPy, and back."""

    write: Callable[[Lanes, State], State]
    read: Callable[[Lanes, State], State]


@dataclass(frozen=True, slots=True)
class Folding:
    """How one reduction is folded.

    Attributes
    ----------
    kinds : tuple of str
        IR types of the state's fields.
    neutral : tuple of str
        A state that changes nothing.
    lift : callable
        ``lift(lanes, value, chosen, place)``: ``chosen`` is a condition, or None for all.
    merge : callable
        ``merge(lanes, left, right)``.
    dtypes : tuple of numpy.dtype
        Of the fields as they are handed to NumPy; ``i1`` is a byte.
    start : tuple
        The neutral state in these dtypes.
    state : callable
        ``state(fields)``: the row's states, segments along the first axis.
    code : Code or None
        Where fields are handed over in another form, how.
    placed : bool
        Whether ``place``, the element's along the reduced axis, is looked at.
    moments : bool
        Whether blocks are gone over twice, for their mean first. ``lift`` then gives value and
        weight of an element, zeros where it does not count.
    settled : str or None
        Where the result is known once the first field has this value, that value.
    extreme : Folding or None
        Where ``placed``, what finds the value whose place is sought.
    skips : bool
        Where ``placed``, whether NaN stands for the last in order.
    tallied : bool
        Whether ``lift`` of many lanes gives one number for all of them: how many count.
    unsteady : bool
        Whether it depends on the order of elements what is left of them after an overflow or an
        invalid operation.
    again : callable or None
        ``again(fields)``: whether the result depends on the order of elements after all.
    """

    kinds: tuple[str, ...]
    neutral: tuple[str, ...]
    lift: Lift
    merge: Merge
    dtypes: tuple[Dtype, ...]
    start: tuple[Any, ...]
    state: Callable[[Arrays], tuple[numpy.ndarray, ...]]
    code: Code | None = None
    placed: bool = False
    moments: bool = False
    settled: str | None = None
    extreme: Folding | None = None
    tallied: bool = False
    skips: bool = False
    unsteady: bool = False
    again: Callable[[Arrays], bool] | None = None


#: ``make(dtype of elements, dtype accumulated in, whether a mask chooses)``: a folding, or why not.
Maker = Callable[[Dtype, Dtype, bool], Folding | str]


def kind_of(dtype: Dtype) -> str:
    """Return the IR type of an element."""
    kind = memory_type(dtype)
    if kind is None:
        raise TypeError(f"kernels know no dtype {dtype}")
    return kind


def missing(lanes: Lanes, dtype: Dtype, value: str) -> str:
    """Return where an element is NaN."""
    type_ = lanes.type(kind_of(dtype))
    return lanes.text.let(f"fcmp uno {type_} {value}, {lanes.all(kind_of(dtype), '0.0')}")


def counted(
    folding: Folding, value: Dtype, present: Callable[[Lanes, Dtype, str, str | None], str] | None
) -> Folding:
    """Return ``folding`` with one more field: how many elements were taken in.

    Parameters
    ----------
    folding : Folding
        The fields before that one, whose states stay as they are.
    value : numpy.dtype
        Of the elements.
    present : callable, optional
        ``present(lanes, value, x, chosen)`` tells which elements are taken in; all that are chosen
        where it is left out.
    """

    def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
        if present is not None:
            chosen = present(lanes, value, x, chosen)
        one = lanes.all("i64", "1")
        if chosen is not None:
            one = lanes.convert("zext", "i1", chosen, "i64")
        return [*folding.lift(lanes, x, chosen, place), one]

    def merge(lanes: Lanes, a: State, b: State) -> State:
        return [*folding.merge(lanes, a[:-1], b[:-1]), lanes.plus("i64", a[-1], b[-1])]

    def state(fields: Arrays) -> tuple[numpy.ndarray, ...]:
        return *folding.state(fields[:-1]), fields[-1].astype(numpy.float64)

    return Folding(
        (*folding.kinds, "i64"), (*folding.neutral, "0"), lift, merge, (*folding.dtypes, INT),
        (*folding.start, 0), state,
    )  # fmt: skip


def present(lanes: Lanes, dtype: Dtype, value: str, chosen: str | None) -> str:
    """Return where an element is a number and chosen."""
    type_ = lanes.type(kind_of(dtype))
    found = lanes.text.let(f"fcmp ord {type_} {value}, {lanes.all(kind_of(dtype), '0.0')}")
    return found if chosen is None else lanes.do("and", "i1", found, chosen)


def true(lanes: Lanes, dtype: Dtype, value: str) -> str:
    """Return where an element is not zero."""
    kind = kind_of(dtype)
    test, zero = ("fcmp une", "0.0") if dtype.kind == "f" else ("icmp ne", "0")
    return lanes.text.let(f"{test} {lanes.type(kind)} {value}, {lanes.all(kind, zero)}")


def constant(dtype: Dtype, value: Any) -> str:
    """Return a constant as IR has it."""
    if dtype.kind != "f":
        return str(int(value))
    bits = numpy.array(value, numpy.float64).view(numpy.uint64)
    if dtype.char == "e":
        return f"0xH{int(numpy.array(value, dtype).view(numpy.uint16)):04X}"
    return f"0x{int(bits):016X}"


class Variable:
    """A variable of a function under construction; LLVM keeps it in a register."""

    def __init__(self, lanes: Lanes, kind: str, start: str) -> None:
        self._text, self._type = lanes.text, lanes.type(kind)
        self._spot = self._text.reserve(self._type)
        constant = not start.startswith("%")
        self.put(lanes.all(kind, start) if constant else start)

    def get(self) -> str:
        """Return its value."""
        return self._text.let(f"load {self._type}, ptr {self._spot}")

    def put(self, value: str) -> None:
        """Give it another value."""
        self._text.do(f"store {self._type} {value}, ptr {self._spot}")


def put_all(variables: list[Variable], values: State) -> None:
    """Give each variable its value."""
    for variable, value in zip(variables, values, strict=True):
        variable.put(value)


def mean_of(lanes: Lanes, kind: str, weighed: State) -> State:
    """Return the mean of totals with their weight, in each part: 0 of nothing."""
    *totals, given = weighed
    type_ = lanes.type(kind)
    nothing = lanes.text.let(f"fcmp oeq {type_} {given}, {lanes.all(kind, '0.0')}")
    weight = lanes.choose(kind, nothing, lanes.all(kind, "1.0"), given)
    return [lanes.do("fdiv", kind, total, weight) for total in totals]


def gap_squared(lanes: Lanes, kind: str, weighed: State, mean: State) -> str:
    """Return how far a weighed element is from the mean, squared; 0 where it does not count."""
    *values, weight = weighed
    nothing = lanes.text.let(f"fcmp oeq {lanes.type(kind)} {weight}, {lanes.all(kind, '0.0')}")
    squares = []
    for value, middle in zip(values, mean, strict=True):
        gap = lanes.do("fsub", kind, value, middle)
        gap = lanes.choose(kind, nothing, lanes.all(kind, "0.0"), gap)
        squares.append(lanes.times(kind, gap, gap))
    return squares[0] if len(squares) == 1 else lanes.plus(kind, *squares)


def added(kind: str) -> Merge:
    """Return the merge that adds field by field."""

    def merge(lanes: Lanes, a: State, b: State) -> State:
        return [lanes.plus(kind, x, y) for x, y in zip(a, b, strict=True)]

    return merge


def across(
    text: Text, kinds: tuple[str, ...], state: State,
    merge: Merge, width: int,
) -> State:  # fmt: skip
    """Join lanes by halves until one is left."""
    while width > 1:
        half = width // 2
        low, high = (
            [
                text.let(
                    f"shufflevector <{width} x {kind}> {value}, <{width} x {kind}> poison, "
                    f"<{half} x i32> <{', '.join(f'i32 {i}' for i in range(start, start + half))}>"
                )
                for kind, value in zip(kinds, state, strict=True)
            ]
            for start in (0, half)
        )
        if half == 1:
            low, high = (
                [
                    text.let(f"extractelement <1 x {kind}> {value}, i64 0")
                    for kind, value in zip(kinds, part, strict=True)
                ]
                for part in (low, high)
            )
        state = merge(Lanes(text, half), low, high)
        width = half
    return state


def lanes_of(kinds: Sequence[str]) -> int:
    """Return how many lanes blocks are folded in, whatever the CPU.

    Enough vectors to hide what an addition takes until its result is there, and so many additions
    less before a block's sum is joined with others pairwise. Flags take up registers of their own.
    """
    return 32 if "i1" in kinds else 64
