"""Parts of random statements: names, scalars, indices, expressions that fit what is there."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable
from typing import Any

import numpy

from dispatcharr.backends import registry
from lockstep import Lockstep
from statements import Program

#: Names in use, elements of the largest result, and of those of which several are put together.
NAMES, MOST, TINY = 12, 260_000, 3000
CHARS = "?bBhHiIlLqQefdFD"
#: Sizes around thresholds: of the fast path, of what is copied when recorded, of blocks and chunks.
SIZES = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 99, 100, 101, 255, 257, 999, 1000, 1001,
         1023, 1024, 1025, 2048, 2049, 4097, 8193)  # fmt: skip
LARGE = (16384 + 7, 32768, 50_000, 65537, 131_073)
SHAPES = ((3, 4), (8, 8), (1, 7), (7, 1), (2, 3, 4), (5, 1, 3), (33, 31), (64, 17), (2, 500),
          (500, 3), (9, 5, 11), (0, 3), (2, 0, 4), (), (1,), (1, 1), (40, 40), (3, 700, 2),
          (2, 2, 2, 2), (6, 1, 2, 3))  # fmt: skip
#: What programs run under; those that come twice are tried more often.
OPTIONS: tuple[dict[str, Any], ...] = (
    {"defer": "always"}, {"defer": "always"}, {"defer": "always"}, {}, {}, {}, {}, {},
    {"defer": "always", "fusion": False}, {"defer": "never"},
    {"defer": "always", "backend": "serial"}, {"defer": "never", "backend": "serial"},
    {"defer": "always", "backend": "threads", "threads": 2},
    {"defer": "never", "backend": "threads"},
    {"defer": "always", "memory_limit": 0}, {"defer": "always", "memory_limit": 10_000},
    {"defer": "always", "engine": "blocks"}, {"verify": 1.0, "defer": "always"}, {"threads": 1},
    {"backend": "threads"},
    *({"backend": name, "defer": "always"} for name, why_not in registry.available().items()
      if why_not is None and name not in ("serial", "threads", "null")),
)  # fmt: skip
#: Shapes of more than 16 KiB, where arrays of that size count as large.
MIDDLE = ((2049,), (4097,), (8192,), (64, 65), (3, 700, 2), (500, 9), (4096,), (40, 50, 3),
          (16_385,), (17_000,), (130, 130))  # fmt: skip
#: The dtypes whose operations are noted on the tape.
NOTED = "?ilqfd"
#: Programs of which one in so many has its kernels compiled, which takes as long as 100 others; of
#: small arrays few are, so that scans and contractions are, too, in one of the second.
RARELY, SELDOM = 100, 10
SCALARS = ("0", "1", "2", "-1", "3", "0.5", "-0.0", "2.5", "1e30", "True", "1j", "(2-1j)", "300",
           "-7", "numpy.float32(1.5)", "numpy.int8(3)", "numpy.uint8(200)", "numpy.float64(2)",
           "numpy.int64(-5)", "numpy.bool(True)", "numpy.float16(0.1)", "2**40", "2**70",
           "numpy.nan", "numpy.inf", "numpy.complex64(1+2j)", "numpy.array(3)",
           "numpy.array(2.5, 'f4')")  # fmt: skip
MODES = ("ignore", "warn", "raise")
_BLANK = re.compile(r"\{(\w+)\}")


class Parts:
    """What a program has by now, and text that goes with it."""

    def __init__(self, seed: int, options: Iterable[dict[str, Any]], heard: bool | None) -> None:
        self.random = chosen = random.Random(seed)
        #: The shapes that names and what they were given with broadcast to, in this statement.
        self.mated: dict[str, tuple[int, ...]] = {}
        if options is OPTIONS and seed % RARELY == 0:
            options = ({"defer": "always", "engine": "compiled"},)
        is_long = options is OPTIONS and seed % RARELY == RARELY // 2
        if is_long:
            options = ({"engine": "compiled"},)
        self.scans = options is OPTIONS and seed % SELDOM == 5
        if self.scans:
            # Who wants to hear of fallbacks has small calls looked at, too.
            scanned = {"engine": "compiled", "on_fallback": "log"}
            options = (scanned, {**scanned, "threads": 2})
        drawn, is_heard = chosen.choice(tuple(options)), chosen.random() < 0.3
        self.program = Program(
            dict(drawn), is_heard if heard is None else heard, [], f"seed: {seed}"
        )
        self.chars = chosen.choices(CHARS, k=chosen.randint(1, 3))
        # Operands of more than 8 KiB are shared while an operation waits, smaller ones are copied.
        sizes = LARGE if chosen.random() < 0.03 else SIZES[-6:] if chosen.random() < 0.3 else SIZES
        self.shape = (chosen.choice(SIZES[:-2] if self.scans else sizes),)
        self.program.low = is_long or (
            not {"defer", "backend", "engine"} & drawn.keys() and chosen.random() < 0.6
        )
        #: How often loops of such a program go over everything: kernels are run by C from some on.
        self.times = 15 if is_long else 1
        if self.program.low:
            self.shape = chosen.choice(MIDDLE)
            if chosen.random() < 0.7:
                self.chars = [chosen.choice(("d", chosen.choice(NOTED))) for _ in self.chars]
        elif chosen.random() < 0.4:
            self.shape = chosen.choice(SHAPES)
        if math.prod(self.shape) >= 1 << 15:
            # Of temporaries this large NumPy reuses the memory, and with it the name of the dtype.
            self.chars = [{"q": "l", "Q": "L"}.get(char, char) for char in self.chars]
        self.both = Lockstep(self.program)

    # --- what there is ---------------------------------------------------------------------------

    def value(self, name: str) -> Any:
        return self.both.numpys.space[name]

    def arrays(self) -> list[str]:
        space = self.both.numpys.space
        return [n for n in space if n[0] == "v" and type(space[n]) is numpy.ndarray]

    def level(self, name: str) -> float:
        return self.both.levels.get(name, 0)

    def pick(self, kinds: str = "", most: float = MOST, exact: bool = True) -> str | None:
        """Return a name of an array of these kinds, None if there is none."""
        found = [
            n
            for n in self.arrays()
            if self.value(n).size <= most
            and (not kinds or self.value(n).dtype.kind in kinds)
            and self.level(n) <= (0 if exact else 64)
        ]
        return self.random.choice(found) if found else None

    def mate(self, name: str, exact: bool = True) -> str | None:
        """Return an array that broadcasts with ``name``, seldom one that does not.

        It does with the others that this statement's ``name`` was given, too: of three shapes every
        two may be small together, and all three may fill the memory.
        """
        shape = self.mated.get(name, self.value(name).shape)
        found = [
            n
            for n in self.arrays()
            if self.level(n) <= (0 if exact else 64) and fits(shape, self.value(n).shape)
        ]
        if self.random.random() < 0.03:
            found = [n for n in self.arrays() if self.value(n).size <= 100] or found
        if not found:
            return None
        chosen = self.random.choice(found)
        if fits(shape, self.value(chosen).shape):
            joined = numpy.broadcast_shapes(shape, self.value(chosen).shape)
            self.mated[name] = self.mated[chosen] = joined
        return chosen

    def target(self) -> str:
        used = self.arrays()
        if len(used) >= NAMES or (used and self.random.random() < 0.1):
            return self.random.choice(used)
        return next(f"v{i}" for i in range(NAMES) if f"v{i}" not in used)

    # --- parts of statements ---------------------------------------------------------------------

    def scalar(self) -> str:
        return self.random.choice(SCALARS)

    def key(self, name: str) -> str:
        """Return an index of an array."""
        roll, shape = self.random.random(), self.value(name).shape
        if roll < 0.1:
            return self.random.choice(
                ("...", "None", "0", "-1", "()", "[0, -1]", "5", "[[0], [1]]")
            )
        if roll < 0.2:
            mask = self.pick("b")
            alike = mask is not None and self.value(mask).shape == shape
            return str(mask) if alike else f"{name} > 1"
        if roll < 0.25:
            index = self.pick("iu", 100)
            return f"{index} % {max(shape[0], 1)}" if index and shape else "..."
        parts = [self.part() for _ in shape]
        if parts and self.random.random() < 0.5:
            parts = parts[: self.random.randint(1, len(parts))]
        if self.random.random() < 0.15:
            parts.insert(self.random.randint(0, len(parts)), self.random.choice(("...", "None")))
        if parts.count("...") > 1:
            parts.remove("...")
        return ", ".join(parts) or "..."

    def part(self) -> str:
        roll = self.random.random()
        if roll < 0.15:
            return self.random.choice(("0", "-1", "1", "2"))
        if roll < 0.6:
            return self.random.choice(
                ("::2", "1:", ":-1", "::-1", ":", "::3", "::-2", ":5", "2:7", "1:-1")
            )
        start, stop = (self.random.choice(("", "0", "1", "3", "-2", "8", "100")) for _ in "ab")
        return f"{start}:{stop}:{self.random.choice(('', '1', '2', '-1', '-3'))}"

    def fill(self, template: str, first: str | None = None) -> str | None:
        """Return a template with its blanks filled, None where there is nothing for one."""
        given: dict[str, str] = {}
        for blank in dict.fromkeys(_BLANK.findall(template)):
            found = self.blank(blank, first)
            if found is None:
                return None
            given[blank] = found
            if first is None and found in self.both.numpys.space:
                first = found
        return _BLANK.sub(lambda match: given[match[1]], template)

    def blank(self, blank: str, first: str | None) -> str | None:
        picked = {"a": ("", MOST), "t": ("", 300), "f": ("fc", MOST), "i": ("iu", TINY),
                  "j": ("iu", MOST), "r": ("biuf", MOST)}  # fmt: skip
        if blank in picked:
            return self.pick(*picked[blank])
        if blank == "q":
            name = self.pick("b") if first is None else self.mate(first)
            return name if name and self.value(name).dtype == bool else f"({first or 'v0'} > 1)"
        if blank == "b":
            return self.mate(first) if first else self.pick()
        if blank == "axis":
            return str(self.axis(first))
        made = {
            "n": lambda: str(self.random.randint(0, 3)), "k": self.scalar,
            "c": lambda: repr(self.random.choice(CHARS)), "key": lambda: self.key(str(first)),
            "size": lambda: str(self.random.choice(SIZES)), "shape": lambda: str(self.new_shape()),
        }  # fmt: skip
        return made[blank]()

    def axis(self, name: str | None) -> int:
        ndim = self.value(name).ndim if name else 1
        return self.random.randint(-ndim, ndim - 1) if ndim and self.random.random() < 0.97 else 2

    def new_shape(self) -> tuple[int, ...]:
        """Return the program's shape, or one that broadcasts with it."""
        roll, shape = self.random.random(), self.shape
        if roll < (0.9 if self.program.low else 0.6):
            return shape
        if roll < 0.8:
            cut = shape[self.random.randint(0, len(shape)) :]
            return tuple(extent if self.random.random() < 0.7 else 1 for extent in cut)
        return self.random.choice(SHAPES[:8])

    def expression(self, name: str, deep: int = 2) -> tuple[str, str]:
        """Return an expression with exact operators that begins with ``name``, and its rule."""
        other = self.mate(name) if self.random.random() < 0.7 else None
        second = other or self.scalar()
        if other and deep and self.random.random() < 0.3:
            second = f"({self.expression(other, deep - 1)[0]})"
        kinds = self.value(name).dtype.kind + (self.value(other).dtype.kind if other else "")
        choices = ["+", "-", "*", "/", "<", "==", ">=", "!=", "//", "%"]
        if not set(kinds) - set("biu"):
            choices += ["&", "|", "^", "<<", ">>"]
        operator = self.random.choice(choices)
        text = f"{name} {operator} {second}"
        if self.random.random() < 0.2:
            text = f"{second} {operator} {name}"
        if deep and self.random.random() < 0.4:
            text = f"({text}) {self.random.choice('+-*')} {self.scalar()}"
        is_complex = "c" in kinds or "j" in text or "D" in self.chars or "F" in self.chars
        rule = "same" if not is_complex else "product" if deep == 0 else "unknown"
        if operator in "*" and text.count(" ") == 2:
            rule = "product"
        elif operator == "/" and text.count(" ") == 2:
            rule = "quotient"
        return text, rule


def fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether two shapes broadcast to something that is not too large."""
    try:
        return math.prod(numpy.broadcast_shapes(shape, other)) <= MOST
    except ValueError:
        return False
