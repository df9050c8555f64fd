"""Makes a program that differs small, saves it, and writes the script that shows the difference."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import given
from lockstep import Mismatch, run
from statements import Program, Statement

_SCRIPT = '''\
"""{about}"""

import copy
import pickle
import numpy
import dispatcharr
{given}

def program(m, choose=lambda **_: None, together=lambda *calls: [call() for call in calls]):
{body}
    return {{name: value for name, value in locals().items() if name[0] in "vw"}}


print(program(numpy))
with dispatcharr.dispatch_options(**{options}):
    print(program(dispatcharr, dispatcharr.dispatch_options))
'''


def shrink(program: Program, found: Mismatch, tries: int = 400) -> Program:
    """Return a smaller program that differs in the same way; itself if it differs but once."""
    left = tries

    def differs(statements: list[Statement]) -> bool:
        nonlocal left
        left -= 1
        told = run(program.but(statements)) if left >= 0 else None
        return told is not None and told.kind == found.kind

    kept = list(program.statements)
    about = f"{program.about}\n{found}".replace("\n", " ")
    small = program.but(kept)
    small.about = about
    if not differs(kept):
        small.about += " (not every time)"
        return small
    size = len(kept) // 2
    while size:
        place = 0
        while place < len(kept):
            fewer = kept[:place] + kept[place + size :]
            if differs(fewer):
                kept = fewer
            else:
                place += size
        size //= 2
    return small.but(kept)


def save(program: Program, folder: Path) -> Path:
    """Save a program where the tests find it; return the path."""
    text = str(program)
    name = hashlib.sha256("\n".join(map(str, program.statements)).encode()).hexdigest()[:10]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.txt"
    path.write_text(text, "utf-8")
    return path


def script(program: Program) -> str:
    """Return a script that runs a program both ways and needs nothing else of the fuzzer."""
    body = "\n".join(
        f"    {s.text}"
        + ("  # what may be off is NumPy's from here on" if s.rule == "look" else "")
        for s in program.statements
    )
    source = inspect.getsource(given).partition('"""\n\n')[2].replace("import numpy\n", "")
    return _SCRIPT.format(
        about=program.about, given=source, body=body or "    pass", options=program.options
    )
