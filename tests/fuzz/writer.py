"""Writes random programs, a statement at a time, looking at the arrays that NumPy has by then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy

import templates
from dispatcharr.ops.row import Elementwise, Reduction
from parts import CHARS, MODES, MOST, NAMES, OPTIONS, RARELY, fits
from statements import Statement
from ufuncs import Ufuncs


class Writer(Ufuncs):
    """Writes one program, in step with its execution."""

    def __init__(
        self,
        seed: int,
        options: Iterable[dict[str, Any]] = OPTIONS,
        heard: bool | None = None,
    ) -> None:
        super().__init__(seed, options, heard)
        self.kinds: list[tuple[int, Callable[[], Statement | None]]] = [
            (6, self.create), (2, self.generate), (20, self.operate), (18, self.call_row),
            (9, self.update), (9, self.assign), (10, self.view), (9, self.fold), (9, self.move),
            (9, self.same), (3, self.sum), (4, self.write_to), (3, self.export),
            (2, self.write_there), (6, self.look), (3, self.drop), (1, self.set_modes),
            (1, self.set_options), (1, self.run_threads), (2, self.lend), (1, self.borrow),
            (3, self.repeat), (3, self.each), (3, self.again), (3, self.several),
            (1, self.several_sums), (1, self.share), (5 if self.scans else 2, self.scan),
            (2 * (seed % RARELY == 1), self.call_user), (3, self.method), (2, self.call_how),
            (1, self.call_pair), (1, self.fold_into),
        ]  # fmt: skip
        if self.program.low:  # what comes again is what the tape is for
            repeated = (self.repeat, self.each, self.again, self.several, self.operate)
            self.kinds += [(10, make) for make in repeated]
        self.weights = [weight for weight, _ in self.kinds]
        #: What comes next, where one statement is to follow another.
        self.queue: list[Callable[[], Statement | None]] = []

    def write(self) -> Statement | None:
        """Return a statement that may come next."""
        self.mated.clear()
        if len(self.arrays()) < 2:
            return self.create()
        if self.queue:
            return self.queue.pop(0)()
        ((_, make),) = self.random.choices(self.kinds, self.weights)
        return make()

    def bind(self, text: str, rule: str, scale: str = "", names: int = 1) -> Statement:
        """Return the statement that gives a result a name."""
        target = self.target()
        if names == 2:
            second = self.target()
            target = f"{target}, {second if second != target else f'v{NAMES * 2}'}"
        text = f"{target} = {text}"
        if self.random.random() < 0.04:
            text = f"{self.scope()}{text}"
        return Statement(text, rule, (), scale)

    def scope(self) -> str:
        """Return the head of a block in which errors are treated otherwise."""
        scopes = [f"m.errstate({self.modes()})" for _ in range(self.random.choice((1, 1, 2)))]
        return f"with {', '.join(scopes)}: "

    def modes(self) -> str:
        kind = self.random.choice(("all", "divide", "over", "invalid", "under"))
        if self.random.random() < 0.2:
            return self.random.choice((f"{kind}='call', call=note", f"{kind}='log', call=log"))
        return f"{kind}={self.random.choice(MODES)!r}"

    def create(self) -> Statement:
        char, shape = self.random.choice(self.chars), self.new_shape()
        how = self.random.choice(("array", "array", "array", "asarray"))
        text = f"m.{how}(given({char!r}, {shape}, {self.random.randint(0, 40)}))"
        if self.random.random() < 0.1:
            order = self.random.choice((".astype('>f8')", ".copy('F')", ".astype('>i4')"))
            text = text[:-1] + order + ")"
        return self.bind(text, "same")

    def generate(self) -> Statement | None:
        rule, template, _ = self.random.choice(templates.CALLS["generate"])
        text = self.fill(template)
        return self.bind(text, rule) if text else None

    def operate(self) -> Statement | None:
        exact = self.random.random() < 0.8
        name = self.pick("", MOST, exact)
        if name is None:
            return self.create()
        if exact:
            return self.bind(*self.expression(name))
        other, operator = self.mate(name, False), self.random.choice("*/")
        rule = "product" if operator == "*" else "quotient"
        return self.bind(f"{name} {operator} {other or 2}", rule)

    def call_row(self) -> Statement | None:
        row = self.random.choice(templates.ROWS)
        name = self.pick()
        if name is None:
            return None
        operands = [name]
        while len(operands) < row.nin:
            other = self.mate(name) if self.random.random() < 0.75 else self.scalar()
            operands.insert(self.random.choice((0, len(operands))), other or "2")
        values = self.both.numpys.space
        kinds = [numpy.asarray(values[one]).dtype.kind for one in operands if one in values]
        is_complex = "c" in kinds or any("j" in one for one in operands)
        rule = templates.rule_of(row, is_complex or any(c in "FD" for c in self.chars))
        called = self.random.choice((row.name, *row.aliases))
        module = "numpy" if self.random.random() < 0.05 else "m"
        roll, more = self.random.random(), ""
        if roll < 0.15 and row.nout == 1:
            out = self.mate(name, False)
            if out is not None and self.fits_out(row, operands, out):
                more = ", " + (f"out={out}" if row.ufunc is None or roll < 0.12 else out)
                # NumPy itself may crash where it compares with integers that are out of range.
                if row.ufunc is not None and roll < 0.04 and row.cost != "compare":
                    more = f", out={out}, where={self.mask(name)}"
                text = f"{module}.{called}({', '.join(operands)}{more})"
                if row.name != "where":
                    return Statement(f"{self.target()} = {text}", rule, (out,))
        elif roll < 0.2 and row.ufunc is not None:
            dtype = f", dtype={self.random.choice(CHARS)!r}"
            others = ", order='F'", ", casting='unsafe'", ", subok=False", ", out=None"
            more = self.random.choice((dtype, *others))
        text = f"{module}.{called}({', '.join(operands)}{more})"
        return self.bind(text, rule, names=row.nout)

    def mask(self, name: str) -> str:
        found = self.pick("b")
        if found and fits(self.value(name).shape, self.value(found).shape):
            return found
        return self.random.choice((f"{name} > 1", "True", "False"))

    def fits_out(self, row: Elementwise, operands: list[str], out: str) -> bool:
        """Return whether NumPy's answer does not depend on how it goes about overlaps."""
        target = self.value(out)
        if row.cost != "predicate":
            return True
        # Predicates into memory that they read are wrong in NumPy for some strides.
        return not any(
            o in self.both.numpys.space and numpy.may_share_memory(self.value(o), target)
            for o in operands
        )

    def update(self) -> Statement | None:
        name = self.pick()
        if name is None:
            return None
        other = self.mate(name) if self.random.random() < 0.6 else self.scalar()
        operator = self.random.choice(
            ("+", "-", "*", "/", "//", "%", "&", "|", "^", "**", "<<", ">>")
        )
        kinds = self.value(name).dtype.kind
        rule = {"*": "product", "/": "quotient", "**": "near"}.get(operator, "same")
        if operator in "/%//" and kinds == "c":
            rule = "near"
        where = f"[{self.key(name)}]" if self.random.random() < 0.3 else ""
        scope = self.scope() if self.random.random() < 0.06 else ""
        return Statement(f"{scope}{name}{where} {operator}= {other or 1}", rule, (name,))

    def assign(self) -> Statement | None:
        name = self.pick()
        if name is None:
            return None
        value, rule = self.scalar(), "same"
        if self.random.random() < 0.6:
            other = self.mate(name)
            value = other or value
            if other and self.random.random() < 0.5:
                value, rule = self.expression(other, 1)
        elif self.random.random() < 0.3:
            value = f"{name}[::-1]"
        return Statement(f"{name}[{self.key(name)}] = {value}", rule, (name,))

    def view(self) -> Statement | None:
        name = self.pick("", MOST, False)
        return None if name is None else self.bind(f"{name}[{self.key(name)}]", "move")

    def fold(self) -> Statement | None:
        row = self.random.choice(templates.FOLDS)
        name = self.pick()
        if name is None:
            return None
        operand = name
        if self.random.random() < 0.3:
            operand = self.expression(name, 1)[0]
        return self.folded(row, name, operand)

    def folded(self, row: Reduction, name: str, operand: str) -> Statement:
        given = self.fold_arguments(row, name)
        call = f"m.{row.name}({', '.join((operand, *given))})"
        if row.method and self.random.random() < 0.4:
            call = f"({operand}).{row.name}({', '.join(given)})"
        rule = templates.rule_of_fold(row)
        scale = ""
        if rule == "size":
            plain = [part for part in given if part.startswith(("axis", "keepdims", "where"))]
            inner = ", ".join((f"magnitudes({operand})", *plain))
            if row.cost == "reduce_sum":
                scale = f"m.{row.name.removeprefix('nan')}({inner})"
                if any(part.startswith("initial") for part in given):
                    scale += " + 1e30" if "1e30" in call else " + 10"
            elif row.cost == "reduce_moments":
                # Of what is nearly constant, the variance is the rounding of its mean, squared.
                most = f"m.max(magnitudes({operand}))"
                scale = f"8 * magnitudes({call}) + {most} + {most} ** 2 * 1e-6"
            else:
                # Products overflow or vanish on the way in one order and not in another.
                start = 1e30 if "1e30" in call else 10
                scale = f"magnitudes({call}) if steady({operand}, {start}) else numpy.inf"
        return self.bind(call, rule, scale)

    def fold_arguments(self, row: Reduction, name: str) -> list[str]:
        given: list[str] = []
        roll = self.random.random()
        if roll < 0.55:
            given.append(f"axis={self.axis(name)}")
        elif roll < 0.65 and not row.ordered:
            given.append(f"axis={self.axes(name)}")
        if self.random.random() < 0.15:
            given.append("keepdims=True")
        if row.masked is not None and self.random.random() < 0.2:
            given.append(f"where={self.mask(name)}")
            given += [f"{need}=0" for need in row.masked.needs]
        elif "initial" in row.params and self.random.random() < 0.1:
            given.append(f"initial={self.random.choice(('0', '2', '-1.5', '1e30'))}")
        if row.cost == "reduce_moments" and self.random.random() < 0.2:
            given.append(f"ddof={self.random.choice(('1', '0.5', '2'))}")
        if row.cost in ("reduce_sum", "reduce_prod") and self.random.random() < 0.1:
            given.append(f"dtype={self.random.choice(CHARS)!r}")
        return given

    def move(self) -> Statement | None:
        rule, template, _ = self.random.choice(templates.CALLS["move"])
        text = self.fill(template)
        return self.bind(text, rule) if text else None

    def same(self) -> Statement | None:
        rule, template, _ = self.random.choice(templates.CALLS["same"])
        text = self.fill(template)
        pair = template.startswith(("m.divmod", "divmod", "m.modf", "m.frexp"))
        return self.bind(text, rule, names=1 + pair) if text else None

    def scan(self) -> Statement | None:
        rule, template, _ = self.random.choice(templates.CALLS["scan"])
        text = self.fill(template)
        return self.bind(text, rule) if text else None

    def sum(self) -> Statement | None:
        rule, text, scale = self.random.choice(templates.CALLS["sum"])
        both = self.fill(f"{text} # {scale}")
        if both is None:
            return None
        text, _, scale = both.partition(" # ")
        return self.bind(text, rule, scale)

    def write_to(self) -> Statement | None:
        rule, template, _ = self.random.choice(templates.CALLS["write"])
        name = self.pick("iu" if "{i}" in template else "")
        text = self.fill(template.replace("{i}", "{a}").replace("{a}", str(name)), name)
        if name is None or text is None:
            return None
        return Statement(text, rule, (name,))

    def export(self) -> Statement | None:
        name = self.pick("", most=70_000, exact=False)
        if name is None:
            return None
        return Statement(f"w{self.random.randint(0, 2)} = {self.exported(name)}", "move")

    def exported(self, name: str) -> str:
        _, template, _ = self.random.choice(templates.CALLS["export"])
        return template.replace("{a}", name)

    def write_there(self) -> Statement | None:
        """Write to what went out."""
        names = [n for n in self.both.numpys.space if n[0] == "w" and n[1:].isdigit()]
        if not names:
            return self.export()
        name = self.random.choice(names)
        key = self.random.choice(("...", ":1", "0", "::2", "-1"))
        return Statement(f"{name}[{key}] = {self.random.choice((0, 1, 7))}", "move", (name,))

    def repeat(self) -> Statement | None:
        """Write a loop: statements that come again wait together and are planned once."""
        name = self.pick("biuf", most=70_000)
        if name is None:
            return None
        (one, rule), (other, other_rule) = self.expression(name), self.expression(name, 1)
        if "unknown" in (rule, other_rule):
            return None
        first = self.target()
        second, third = [n for n in ("v20", "v21", "v22") if n != first][:2]
        lasts = [
            f"{first}.max() + 0",
            f"({first} > 1).sum()",
            f"{second} - {first}",
            f"{first}[1:]",
        ]
        last = self.random.choice([*lasts, f"m.sqrt({second}) > 1", f"{name}.copy()"])
        text = f"for i in range({self.random.randint(2, 5)}): {first} = {one}; {second} = {other}"
        if self.random.random() < 0.3:
            return Statement(f"{text}; {name}[:3] = 1; {third} = {last}", "same", (name,))
        return Statement(f"{text}; {third} = {last}", "same")

    def lend(self) -> Statement | None:
        """Hand an array out, compute with it, and write to what went out."""
        name = self.pick("", most=70_000)
        if name is None:
            return None
        there = "w0"
        made = Statement(f"{there} = {self.exported(name)}", "move")
        write = Statement(
            f"{there}[{self.random.choice(('...', ':1', ':9'))}] = 3", "move", (there,)
        )
        self.queue = [lambda: self.bind(*self.expression(name)), lambda: write]
        return made if self.random.random() < 0.8 else self.bind(f"{name}[1:]", "move")

    def borrow(self) -> Statement:
        """Take memory in that its owner writes to."""
        name, char = self.target(), self.random.choice(self.chars)
        taken = Statement(f"{name} = m.{self.random.choice(('asarray', 'array'))}(w1)", "move")
        write = Statement("w1[:3] = 1", "move", ("w1",))
        compute: list[Callable[[], Statement | None]] = [
            lambda: self.bind(*self.expression(name)) if name in self.arrays() else None
        ]
        self.queue = [lambda: taken, *compute, lambda: write]
        return Statement(f"w1 = given({char!r}, {self.new_shape()}, 3)")

    def look(self) -> Statement | None:
        names = self.arrays()
        unsure = [name for name in names if self.level(name)]
        return Statement(f"{self.random.choice(unsure or names)}.tobytes()", "look")

    def drop(self) -> Statement:
        space = self.both.numpys.space
        names = [n for n in space if n[0] in "vw" and n[1:].isdigit()]
        name = self.random.choice(names)
        if self.random.random() < 0.5 and type(space[name]) is numpy.ndarray and name[0] == "v":
            return Statement(f"{self.target()} = {name}", "move")
        return Statement(f"del {name}")

    def set_modes(self) -> Statement:
        kind = self.random.choice(("all", "divide", "over", "invalid", "under"))
        mode = self.random.choice(("ignore", "ignore", "warn", "warn", "raise"))
        return Statement(f"m.seterr({kind}={mode!r})")

    def set_options(self) -> Statement | None:
        options = self.random.choice(
            ("fusion=False", "fusion=True", "backend='serial'", "backend='auto'", "threads=2",
             "memory_limit=0", "memory_limit=None", "engine='blocks'", "engine='auto'")
        )  # fmt: skip
        return Statement(f"choose({options})")

    def run_threads(self) -> Statement | None:
        one, other = self.pick("biuf"), self.pick("biuf")
        if one is None or other is None:
            return None
        if self.random.random() < 0.3:
            if numpy.may_share_memory(self.value(one), self.value(other)):
                return None
            text = f"together(lambda: {one}.fill(1), lambda: {other}.__iadd__(1))"
            return Statement(text, "same", (one, other))
        (first, rule), (second, other_rule) = self.expression(one), self.expression(other)
        if "unknown" in (rule, other_rule):
            return None
        target = self.target()
        second_target = "v30" if target != "v30" else "v31"
        text = f"{target}, {second_target} = together(lambda: {first}, lambda: {second})"
        return Statement(text, "same" if rule == other_rule == "same" else "unknown")
