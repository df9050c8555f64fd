"""Statements that use what ufuncs have besides a call: their methods, tuples of out, signatures."""

from __future__ import annotations

import numpy

import templates
from loops import Loops
from parts import CHARS, TINY
from statements import Statement

_ROWS = [row for row in templates.ROWS if isinstance(row.ufunc, numpy.ufunc)]
_BINARY = [row for row in _ROWS if row.nin == 2 and row.nout == 1]
_PAIRS = [row for row in _ROWS if row.nout == 2]
#: Those that are reduced most often.
_USUAL = ("add", "multiply", "maximum", "minimum", "logical_and", "logical_or", "subtract",
          "bitwise_or", "fmax")  # fmt: skip
_OFTEN = [row for row in _BINARY if row.name in _USUAL]
_CASTING = ("no", "equiv", "safe", "same_kind", "unsafe")
#: Rows whose folding of floating-point numbers depends on the order of elements.
_SUMS = {"add": "size", "multiply": "unknown", "hypot": "unknown", "logaddexp": "unknown",
         "logaddexp2": "unknown"}  # fmt: skip


class Ufuncs(Loops):
    """The part of the writer that knows ufuncs."""

    def method(self) -> Statement | None:
        """Write a method of a ufunc of two operands."""
        row = self.random.choice(_OFTEN if self.random.random() < 0.7 else _BINARY)
        rule = templates.rule_of(row, bool({"F", "D"} & set(self.chars)))
        kind = self.random.choice(("reduce", "reduce", "accumulate", "outer", "reduceat", "at"))
        name = self.pick("" if kind == "reduce" else "?biuf", TINY)
        if name is None:
            return None
        call = f"m.{row.name}.{kind}"
        if kind == "at":
            index = self.random.choice(("0", "[0, -1, 0]", "slice(1, None, 2)", f"{name} > 1"))
            return Statement(f"{call}({name}, {index}, {self.scalar()})", rule, (name,))
        if kind == "outer":
            first, second = self.pick("", 60), self.pick("", 60)
            if first is None or second is None:
                return None
            return self.bind_to(f"{call}({first}, {second}{self.how(row.nin)})", rule)
        axis = f"axis={self.axis(name)}"
        if kind == "accumulate":
            return self.bind_to(f"{call}({name}, {axis})", rule if rule != "size" else "same")
        rule = _SUMS.get(row.name, rule)
        if kind == "reduceat":
            places = self.random.choice(("[0]", "[0, 1]", "[0, 1, 0]", "[1, 0]", "[99]"))
            return self.bind_to(f"{call}({name}, {places}, {axis})", _unscaled(rule))
        axis = self.random.choice((axis, "axis=None", "axis=()", f"axis={self.axes(name)}", ""))
        given = [part for part in (name, axis) if part]
        for part, chance in (
            ("keepdims=True", 0.2), (f"dtype={self.random.choice(CHARS)!r}", 0.1),
            (f"initial={self.scalar()}", 0.1), (f"where={name} > 0", 0.1),
        ):  # fmt: skip
            if self.random.random() < chance:
                given.append(part)
        return self.bind_to(f"{call}({', '.join(given)})", _unscaled(rule))

    def axes(self, name: str) -> tuple[int, ...]:
        """Return axes in any order, from either end, seldom one twice."""
        ndim = self.value(name).ndim
        found = self.random.sample(range(ndim), self.random.randint(0, ndim))
        turned = [axis - ndim * (self.random.random() < 0.3) for axis in found]
        return tuple(turned + turned[:1] * (self.random.random() < 0.05))

    def how(self, nin: int) -> str:
        """Return arguments that choose a loop of a ufunc or a casting, or nothing."""
        char, casting = self.random.choice(CHARS), self.random.choice(_CASTING)
        return self.random.choice((
            "", f", dtype={char!r}", f", casting={casting!r}",
            f", dtype={char!r}, casting={casting!r}", f", signature={char * nin + '->' + char!r}",
            ", where=True", ", order='A'", ", extobj=1",
        ))  # fmt: skip

    def call_how(self) -> Statement | None:
        """Call a ufunc with what chooses its loop."""
        row = self.random.choice(_ROWS)
        name = self.pick()
        if name is None or row.nout > 1:
            return None
        operands = [name, *(self.mate(name) or self.scalar() for _ in range(row.nin - 1))]
        rule = templates.rule_of(row, True)
        text = f"m.{row.name}({', '.join(operands)}{self.how(row.nin)})"
        return self.bind_to(text, "unknown" if rule == "near" else rule)

    def call_pair(self) -> Statement | None:
        """Call a ufunc of two results with a tuple of out."""
        row = self.random.choice(_PAIRS)
        name = self.pick("biuf")
        if name is None:
            return None
        operands = [name, *(self.mate(name) or self.scalar() for _ in range(row.nin - 1))]
        outs = [self.mate(name, False), self.mate(name, False)]
        kept = [out for out in outs if out is not None]
        values = [self.value(out) for out in kept]
        if len(kept) == 2 and numpy.may_share_memory(*values):
            outs[1], kept = None, kept[:1]
        if any(one in operands for one in kept):
            return None
        text = f"m.{row.name}({', '.join(operands)}, out=({outs[0]}, {outs[1]}))"
        return Statement(f"s5 = len({text})", templates.rule_of(row, False), tuple(kept))

    def fold_into(self) -> Statement | None:
        """Reduce into an array that is there."""
        name, out = self.pick("biuf"), self.pick("", TINY, False)
        if name is None or out is None:
            return None
        row = self.random.choice(("max", "min", "any", "all", "argmax", "argmin", "nanmax"))
        axis = self.random.choice((f", axis={self.axis(name)}", f", axis={self.axes(name)}", ""))
        if numpy.may_share_memory(self.value(name), self.value(out)):
            return None
        return Statement(f"s5 = m.{row}({name}{axis}, out={out}).shape", "zeros", (out,))


def _unscaled(rule: str) -> str:
    return "unknown" if rule == "size" else rule
