"""Programs as text: one statement a line, with what is promised of its results.

A line reads ``v3 = m.add(v1, v2)  #: same``. ``m`` is NumPy or dispatcharr, ``v`` are arrays, ``s``
scalars and ``w`` what went out to others. Behind ``#:`` stand the rule that results are compared by
(see :mod:`closeness`), the names that the statement writes to, and, behind ``/``, an expression for
the size that the error of a sum is measured by.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NAME = re.compile(r"\b[vsw]\d+\b")
_TARGETS = re.compile(r"(?:(?:with|for) [^:]*: )?([vsw]\d+(?:, [vsw]\d+)*) = ")
_FURTHER = re.compile(r"; ([vsw]\d+) = ")
_LINE = re.compile(r"(?P<text>.*?)  #: (?P<rule>\w+)(?P<writes>(?: \w+)*)(?: / (?P<scale>.*))?")


@dataclass(frozen=True)
class Statement:
    """One line: its text, the rule of its results, what it writes to, the size of its errors."""

    text: str
    rule: str = "same"
    writes: tuple[str, ...] = ()
    scale: str = ""

    @functools.cached_property
    def code(self) -> Any:
        return compile(self.text, "<program>", "exec")

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Every name that occurs."""
        return tuple(dict.fromkeys(_NAME.findall(self.text)))

    @functools.cached_property
    def targets(self) -> tuple[str, ...]:
        """The names that are bound."""
        found = _TARGETS.match(self.text)
        more = _FURTHER.findall(self.text) if self.text.startswith("for ") else []
        return (*(found[1].split(", ") if found else ()), *more)

    @functools.cached_property
    def reads(self) -> tuple[str, ...]:
        """The names whose values the results depend on."""
        found = None if self.text.startswith("for ") else _TARGETS.match(self.text)
        return tuple(dict.fromkeys(_NAME.findall(self.text, found.end() if found else 0)))

    def __str__(self) -> str:
        notes = " ".join((self.rule, *self.writes))
        return f"{self.text}  #: {notes}" + (f" / {self.scale}" if self.scale else "")


def parse(line: str) -> Statement:
    """Read a line as :class:`Statement` prints it."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"not a statement with a rule behind '#:': {line}")
    writes = tuple(found["writes"].split())
    return Statement(found["text"], found["rule"], writes, found["scale"] or "")


@dataclass
class Program:
    """Statements, the options of dispatcharr they run under, and where warnings go.

    ``heard`` programs run inside ``warnings.catch_warnings``, where what may warn does not wait. In
    ``low`` ones arrays of 16 KiB count as large.
    """

    options: dict[str, Any] = field(default_factory=dict)
    heard: bool = False
    statements: list[Statement] = field(default_factory=list)
    about: str = ""
    low: bool = False

    def __str__(self) -> str:
        lines = [f"# {line}" for line in self.about.splitlines()]
        lines += [f"# options: {json.dumps(self.options)}", f"# heard: {json.dumps(self.heard)}"]
        lines += ["# low: true"] * self.low
        return "\n".join([*lines, *map(str, self.statements)]) + "\n"

    def but(self, statements: list[Statement]) -> Program:
        """Return the program with other statements."""
        return Program(self.options, self.heard, statements, self.about, self.low)


def load(path: Path) -> Program:
    """Read a program that was saved."""
    made, about = Program(), []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("# options: "):
            made.options = json.loads(line.partition(": ")[2])
        elif line.startswith("# heard: "):
            made.heard = json.loads(line.partition(": ")[2])
        elif line.startswith("# low: "):
            made.low = json.loads(line.partition(": ")[2])
        elif line.startswith("# "):
            about.append(line[2:])
        elif line:
            made.statements.append(parse(line))
    made.about = "\n".join(about)
    return made
