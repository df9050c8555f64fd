"""How operands of a map-reduce kernel on CUDA lie, and the text that reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass

from dispatcharr.kernels.cuda_reduce_parts import Slots

__all__ = ["Access", "Form", "Operand"]


@dataclass(frozen=True, slots=True)
class Operand:
    """How an input or an output lies.

    Attributes
    ----------
    type : str
        Its elements in memory.
    itemsize : int
        Bytes of one.
    kind : str
        ``"k"`` a number of the launch; ``"0"`` one element for the whole space; ``"c"`` contiguous
        along the vectors; ``"b"`` one element per vector; ``"s"`` any other stride.
    fixed : bool
        Whether it does not change along the reduced axes.
    """

    type: str
    itemsize: int
    kind: str
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """What of a layout a text depends on.

    Attributes
    ----------
    along : bool
        Whether vectors lie along a reduced axis.
    kept, reduced : int
        Number of axes.
    vector, unroll, lanes : int
        See the module's docstring; ``lanes`` is a power of two.
    wide : bool
        Whether offsets within an item take 64 bits.
    split : bool
        Whether an item is a part of its results.
    tail : bool
        Whether elements may be left over after whole vectors.
    operands : tuple of Operand
        Inputs, then stored outputs.
    inputs : int
        How many of them are inputs.
    """

    along: bool
    kept: int
    reduced: int
    vector: int
    unroll: int
    lanes: int
    wide: bool
    split: bool
    tail: bool
    operands: tuple[Operand, ...]
    inputs: int

    @property
    def results(self) -> int:
        """Results that a thread works for."""
        return 1 if self.along else self.vector


class Access:
    """Writes what reads and writes vectors; ``b0`` on are where operands begin in an item."""

    def __init__(self, form: Form, slots: Slots) -> None:
        self.form, self.slots = form, slots

    def vectors(self) -> list[str]:
        """Return the types of vectors that are read and written at once."""
        size = self.form.vector
        return [
            f"struct alignas({size * o.itemsize}) RVector{j} {{ {o.type} v[{size}]; }};"
            for j, o in enumerate(self.form.operands)
            if o.kind == "c" and size > 1
        ]

    def is_read(self, operand: Operand) -> bool:
        """Return whether an operand is read in every step."""
        return operand.kind in "cbs" and not operand.fixed

    def offset(self, j: int) -> str:
        """Return how far a vector is from the start of the item."""
        form, operand = self.form, self.form.operands[j]
        if form.along and form.reduced == 1 and operand.kind == "c":
            return f"at * {form.vector * operand.itemsize}"
        names = ["at"] if form.reduced == 1 else [f"c{i}" for i in range(form.reduced)]
        return " + ".join(
            f"{name} * (RIndex){self.slots.at(f'rs{j}_{i}')}" for i, name in enumerate(names)
        )

    def advance(self) -> list[str]:
        """Return what goes on by as many vectors as there are lanes."""
        form = self.form
        lines = [f"at += {form.lanes};"]
        if form.reduced == 1:
            return lines
        for i in reversed(range(form.reduced)):
            lines.append(f"c{i} += d{i};")
            if i:
                lines.append(f"if (c{i} >= e{i}) {{ c{i} -= e{i}; ++c{i - 1}; }}")
        return lines

    def step(self, j: int, operand: Operand) -> str:
        """Return the bytes from one element of a vector to the next."""
        if operand.kind in "b":
            return "0"
        return str(operand.itemsize) if operand.kind == "c" else self.slots.at(f"es{j}")

    def load(self, j: int, operand: Operand, into: str, offset: str, whole: bool) -> list[str]:
        """Return what reads a vector, or its first element, into an array."""
        vector = self.form.vector if whole else 1
        if operand.kind == "c" and vector > 1:
            return [
                f"{{ const RVector{j} t = *(const RVector{j}*)(b{j} + {offset});",
                "#pragma unroll",
                f"for (int v = 0; v < {vector}; ++v) {into}[v] = t.v[v]; }}",
            ]
        if operand.kind == "b":
            read = f"*(const {operand.type}*)(b{j} + {offset})"
            return [
                f"{{ const {operand.type} t = {read};",
                "#pragma unroll",
                f"for (int v = 0; v < {vector}; ++v) {into}[v] = t; }}",
            ]
        step = self.step(j, operand)
        return [
            "#pragma unroll",
            f"for (int v = 0; v < {vector}; ++v) "
            f"{into}[v] = *(const {operand.type}*)(b{j} + {offset} + v * {step});",
        ]

    def store(self, j: int, operand: Operand) -> list[str]:
        """Return what writes a vector."""
        vector = self.form.vector
        if operand.kind == "c" and vector > 1:
            return [
                f"{{ RVector{j} t;",
                "#pragma unroll",
                f"for (int v = 0; v < {vector}; ++v) t.v[v] = y{j}[v];",
                f"*(RVector{j}*)(b{j} + o{j}[u]) = t; }}",
            ]
        step = self.step(j, operand)
        return [
            "#pragma unroll",
            f"for (int v = 0; v < {vector}; ++v) "
            f"*({operand.type}*)(b{j} + o{j}[u] + v * {step}) = y{j}[v];",
        ]
