"""A region's program as people write it: expressions over named arrays.

Values used once are written where they are used; what is used twice, or would make a line too
long, gets a name (``t1``, ``t2`` ...), and so does what is stored. Operators are those of the
rows, with Python's precedence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy

from dispatcharr.ops.row import Elementwise, Generator
from dispatcharr.plan.region import Instruction, Reducing, Region

__all__ = ["literal", "reading_order", "write_program"]

_LONGEST_LINE = 66
_ATOM, _POWER, _SIGN = 20, 12, 11
#: Python's operators by the name that rows know them under: the symbol and how tightly it binds.
_BINARY: Mapping[str, tuple[str, int]] = {
    "pow": ("**", _POWER), "mul": ("*", 10), "truediv": ("/", 10), "floordiv": ("//", 10),
    "mod": ("%", 10), "add": ("+", 9), "sub": ("-", 9), "lshift": ("<<", 8), "rshift": (">>", 8),
    "and": ("&", 7), "xor": ("^", 6), "or": ("|", 5),
    "lt": ("<", 4), "le": ("<=", 4), "eq": ("==", 4), "ne": ("!=", 4), "gt": (">", 4),
    "ge": (">=", 4),
}  # fmt: skip
_UNARY: Mapping[str, str] = {"neg": "-", "pos": "+", "invert": "~"}
_COMPARISON = 4

Text = tuple[str, int]


def reading_order(region: Region) -> list[int]:
    """Return the input registers as they are met when the results are read from left to right."""
    made_by = {r: step for step in region.program for r in step.results}
    wanted = [*region.outputs]
    if region.reducing is not None:
        wanted.extend(region.reducing.reads)
    seen: set[int] = set()
    order: list[int] = []
    stack = wanted[::-1]
    while stack:
        register = stack.pop()
        if register in seen:
            continue
        seen.add(register)
        if register in made_by:
            stack.extend(reversed(made_by[register].operands))
        else:
            order.append(register)
    # Whatever no result needs comes last, so that every input is named.
    return order + [r for r in range(len(region.inputs)) if r not in seen]


def write_program(
    region: Region, names: Mapping[int, str], results: Sequence[str]
) -> tuple[str, ...]:
    """Return the lines of ``region``.

    Parameters
    ----------
    region : Region
        The kernel.
    names : mapping
        Name or literal of each input register.
    results : sequence of str
        Name of each stored result in the order of the outputs, a reduction's last.
    """
    writer = _Writer(region, names, results)
    for instruction in region.program:
        writer.take(instruction)
    reduced = results[len(results) - len(region.reductions) :]
    for reducing, name in zip(region.reductions, reduced, strict=True):
        writer.reduce(reducing, name)
    return tuple(writer.lines)


class _Writer:
    """Walks the program once, keeping the text of every register."""

    def __init__(self, region: Region, names: Mapping[int, str], results: Sequence[str]) -> None:
        self.region = region
        self.texts: dict[int, Text] = {r: _operand(name) for r, name in names.items()}
        self.stored = dict(zip(region.outputs, results, strict=False))
        self.uses = _uses(region)
        self.named = set(names)
        self.lines: list[str] = []
        self.temporaries = 0

    def take(self, instruction: Instruction) -> None:
        text, binds = self._fitted(instruction)
        if len(instruction.results) > 1:
            targets = [self._name(register) for register in instruction.results]
            self.lines.append(f"{', '.join(targets)} = {text}")
            return
        register = instruction.results[0]
        self.texts[register] = text, binds
        if register in self.stored or self.uses.get(register, 0) != 1:
            self._give_name(register)

    def reduce(self, reducing: Reducing, name: str) -> None:
        arguments = ""
        if len(reducing.axes) < len(self.region.shape):
            axes = reducing.axes
            arguments += f", axis={axes[0] if len(axes) == 1 else axes}"
        for key, value in reducing.params:
            arguments += f", {key}={literal(value)}"
        if reducing.mask is not None:
            if len(self.texts[reducing.mask][0]) > _LONGEST_LINE // 2:
                self._give_name(reducing.mask)
            arguments += f", where={self.texts[reducing.mask][0]}"
        room = _LONGEST_LINE - len(name) - len(reducing.row.name) - len(arguments)
        if len(self.texts[reducing.register][0]) > room and reducing.register not in self.named:
            self._give_name(reducing.register)
        inner = self.texts[reducing.register][0]
        self.lines.append(f"{name} = {reducing.row.name}({inner}{arguments})")

    def _fitted(self, instruction: Instruction) -> Text:
        """Return the expression of one instruction, its operands named where it grows too long."""
        made = self._expression(instruction)
        if len(made[0]) <= _LONGEST_LINE:
            return made
        for register in sorted(set(instruction.operands), key=self._length, reverse=True):
            if register not in self.named:
                self._give_name(register)
                made = self._expression(instruction)
            if len(made[0]) <= _LONGEST_LINE:
                break
        return made

    def _length(self, register: int) -> int:
        return len(self.texts[register][0])

    def _expression(self, instruction: Instruction) -> Text:
        row = instruction.row
        operands = [self.texts[register] for register in instruction.operands]
        if isinstance(row, Generator):
            shown = ", ".join(literal(value) for value in instruction.params)
            return f"{row.name}[{shown}]", _ATOM
        operator = row.operator or ""
        if operator in _BINARY and len(operands) == 2:
            return _infix(operator, operands[0], operands[1])
        if operator in _UNARY and len(operands) == 1:
            inner, binds = operands[0]
            return _UNARY[operator] + (inner if binds > _SIGN else f"({inner})"), _SIGN
        arguments = [text for text, _ in operands]
        if _needs_dtype(row):
            arguments.append(str(instruction.dtypes[0]))
        return f"{row.name}({', '.join(arguments)})", _ATOM

    def _name(self, register: int) -> str:
        name = self.stored.get(register)
        if name is None:
            self.temporaries += 1
            name = f"t{self.temporaries}"
        self.texts[register] = name, _ATOM
        self.named.add(register)
        return name

    def _give_name(self, register: int) -> None:
        text = self.texts[register][0]
        self.lines.append(f"{self._name(register)} = {text}")


def _uses(region: Region) -> dict[int, int]:
    uses: dict[int, int] = {}
    for register in _readings(region):
        uses[register] = uses.get(register, 0) + 1
    return uses


def _readings(region: Region) -> Iterator[int]:
    for instruction in region.program:
        yield from instruction.operands
    for reducing in region.reductions:
        yield from reducing.reads


def _infix(operator: str, left: Text, right: Text) -> Text:
    symbol, binds = _BINARY[operator]
    # Only a power takes its equals on the right; a comparison next to another would be a chain.
    open_left = left[1] > binds or (left[1] == binds and binds not in (_COMPARISON, _POWER))
    open_right = right[1] > binds or (binds == _POWER and right[1] in (_POWER, _SIGN))
    before = left[0] if open_left else f"({left[0]})"
    after = right[0] if open_right else f"({right[0]})"
    joined = f"{before}**{after}" if binds == _POWER else f"{before} {symbol} {after}"
    return joined, binds


def _operand(name: str) -> Text:
    return name, _SIGN if name.startswith("-") else _ATOM


def _needs_dtype(row: Elementwise) -> bool:
    return row.ufunc is None and row.result is None


def literal(value: Any) -> str:
    """Return a parameter or constant as source text of a dozen characters at most."""
    if isinstance(value, numpy.ndarray | numpy.generic):
        value = value.item() if value.size == 1 else "..."
    text = value if isinstance(value, str) else repr(value)
    if len(text) > 12 and isinstance(value, float | complex):
        text = f"{value:.6g}"
    return text if len(text) <= 24 else f"{text[:22]}.."
