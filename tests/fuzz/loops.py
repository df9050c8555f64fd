"""Statements that come again: loops, several reductions of one expression, threads, functions.

What repeats itself is planned once, noted in C, and reduced in one pass; so loops go over other
arrays, sizes and dtypes, write in between, and change how errors are treated. What each round made
is told (:func:`sides.told`), since a name holds what the last one made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy

from parts import MOST, Parts
from sides import USERS
from statements import Statement

_MODES = ("ignore", "warn")
#: Arrays that go with an array, all of which some loop runs over.
_FORMS = ("{a}", "{a}.copy()", "{b}", "m.flip({a})", "{a}.astype('f')", "{a}.astype('d')", "{a}.T",
          "{a}.astype({c})", "{a}.ravel()", "m.array({a}, order='F')", "{a}[None]", "abs({a})",
          "{a}.view()", "m.concatenate([{a}, {a}])", "{a}[()]")  # fmt: skip
#: Reductions whose results do not depend on the order of elements.
_FOLDS = ("{x}.max() + 0", "{x}.min() + 0", "({x} > 1).sum()", "{x}.argmax()", "m.any({x})",
          "m.count_nonzero({x})", "m.argmin({x})", "m.nanmax({x}) + 0", "({x} == {x}).all()",
          "m.max({x}, axis=0) + 0", "m.min({x}, axis=-1, keepdims=True) + 0",
          "{x}.all()")  # fmt: skip
_SUMS = ("{x}.sum()", "{x}.mean()", "m.sum({x})", "m.mean({x})")
#: What is done to a result between two rounds, or two reductions of it.
_BETWEEN = ("{x}[:3] = 1", "{x} += 1", "{x}.sum()", "{x}.std()", "{x} *= {x}", "{x}[::2] -= 1",
            "{x}.sort()", "m.add({x}, 1, out={x})", "m.negative({x}, out={x}, where={x} > 0)",
            "numpy.asarray({x})[..., :1] = 2", "memoryview({x})",
            "m.minimum({x}, 2, {x})")  # fmt: skip


class Loops(Parts):
    """The part of the writer whose statements come again."""

    queue: list[Callable[[], Statement | None]]

    def rounds(self, deep: int = 1) -> tuple[str, str, str] | None:
        """Return an array, an exact expression of it with ``x`` in its place, and the loop over x.

        None where there is none.
        """
        name = self.pick("biuf", most=70_000)
        if name is None:
            return None
        text, rule = self.expression(name, deep)
        if rule == "unknown":
            return None
        forms = [self.random.choice(_FORMS) for _ in range(self.random.randint(1, 4))]
        if self.random.random() < 0.4:
            forms = forms[:1]
        given = [self.fill(form, name) for form in forms for _ in range(self.random.randint(2, 4))]
        if None in given or not all(self.is_modest(str(one), text) for one in given):
            return None
        return (
            name,
            re.sub(rf"\b{name}\b", "x", text),
            (f"for x in ({', '.join(map(str, given))},) * {self.times}"),
        )

    def is_modest(self, form: str, text: str) -> bool:
        """Return whether what a round makes of ``form`` and the arrays in ``text`` is not large."""
        one = self.both.numpys.value(form)
        names = [n for n in re.findall(r"\bv\d+\b", text) if n in self.arrays()]
        shapes = [numpy.shape(one), *[self.value(n).shape for n in names]]
        try:
            return math.prod(numpy.broadcast_shapes(*shapes)) <= MOST
        except ValueError:
            return False

    def each(self) -> Statement | None:
        """Compute the same of several arrays."""
        found = self.rounds(2)
        if found is None:
            return None
        _, text, loop = found
        if self.random.random() < 0.5:
            text = f"told({text})"
        else:
            text = f"told({self.random.choice(_FOLDS).format(x=f'({text})')})"
        return Statement(f"s1 = [{text} {loop}]", "same")

    def again(self) -> Statement | None:
        """Run several statements again and again, some of which write."""
        found = self.rounds()
        other = self.rounds()
        if found is None or other is None:
            return None
        _, one, loop = found
        between = self.random.choice(_BETWEEN).format(x="v20")
        second = re.sub(r"\bx\b", "v20", other[1])
        everything = f"{one} {other[1]} {other[2]}"
        forms = loop.removeprefix("for x in (").rpartition(",)")[0]
        if not self.is_modest(f"numpy.broadcast({forms},)", everything):
            return None
        if self.random.random() < 0.3:
            between = f"m.seterr(all={self.random.choice(_MODES)!r}); {between}"
        text = f"{loop}: v20 = {one}; v21 = {second}; {between}; s1 = told(v20), told(v21)"
        return Statement(text, "same")

    def several(self) -> Statement | None:
        """Ask for several reductions of one result, every time the same ones."""
        found = self.rounds()
        if found is None:
            return None
        name, one, loop = found
        if self.random.random() < 0.4:
            one, loop = (
                re.sub(r"\bx\b", name, one),
                (f"for i in range({self.random.randint(3, 6) * self.times})"),
            )
        chosen = self.random.sample(_FOLDS, self.random.randint(2, 4))
        asked = [f"told({fold.format(x='v20')})" for fold in chosen]
        if self.random.random() < 0.4:
            place = self.random.randrange(len(asked))
            between = self.random.choice(_BETWEEN).format(x="v20")
            text = f"{', '.join(asked[:place])}; {between}; s1 = {', '.join(asked[place:])},"
            text = text.removeprefix("; ")
        else:
            text = f"s1 = {', '.join(asked)}"
        return Statement(f"{loop}: v20 = {one}; {text}", "same")

    def several_sums(self) -> Statement | None:
        """Ask for several sums of one result."""
        name = self.pick("biuf", most=70_000)
        if name is None:
            return None
        text, rule = self.expression(name, 1)
        if rule == "unknown" or "v20" in text:
            return None
        one, other = (s.format(x="v20") for s in self.random.sample(_SUMS, 2))
        loop = f"for i in range({self.random.randint(3, 5)})"
        scale = f"m.sum(magnitudes({text})) + 1"
        return Statement(f"{loop}: v20 = {text}; s2 = {one}; s3 = {other}", "size", (), scale)

    def share(self) -> Statement | None:
        """Write parts of an array in two threads while a third looks at what was made of it."""
        name = self.pick("biuf", most=70_000)
        if name is None or self.value(name).ndim == 0:
            return None
        text, rule = self.expression(name, 1)
        if rule == "unknown":
            return None
        cut = self.random.randint(0, self.value(name).shape[0])
        writing = f"{name}[:{cut}].fill(1)", f"{name}[{cut}:].__iadd__(1)"
        reading = (
            "told(v23)", "told(v23.max() + 0)", "told(m.sqrt(abs(v23)) > 1)",
            "told(v23[1:] == v23[:-1])", "told(v23 * 2 - v23)",
        )  # fmt: skip
        chosen = self.random.sample(reading, 2)
        if self.value(name).flags.writeable:
            chosen += writing
        self.random.shuffle(chosen)
        calls = ", ".join(f"lambda: {call}" for call in chosen)

        def together() -> Statement | None:
            here = self.both.numpys.array("v23")
            if here is None or numpy.may_share_memory(here, self.value(name)):
                return None
            return Statement(f"s4 = together({calls})", "same", (name,))

        self.queue = [together]
        return Statement(f"v23 = {text}", rule)

    def call_user(self) -> Statement | None:
        """Call a function of the program's own, where it can be compiled."""
        found = [n for n in self.arrays() if self.value(n).dtype.char == "d" and not self.level(n)]
        if not found or not USERS:
            return None
        name = self.random.choice(found)
        mates = [n for n in found if self.value(n).shape == self.value(name).shape]
        text = f"user({self.random.choice(sorted(USERS))!r})({name}, {self.random.choice(mates)})"
        if self.random.random() < 0.5:
            text = f"{text} {self.random.choice('+-*')} {name}"
        return self.bind_to(text, "same")

    def bind_to(self, text: str, rule: str) -> Statement:
        return Statement(f"{self.target()} = {text}", rule)
