"""The differential fuzzer: random programs with NumPy and with dispatcharr, side by side.

    python tests/fuzz/fuzz.py --seconds 60

A difference is made small by leaving statements out, shown as a script, and saved in ``found/``,
whose programs the ordinary tests run again. The exit status says whether there was one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy

from lockstep import Mismatch, Undecided, listen
from parts import OPTIONS
from shrinking import save, script, shrink
from statements import Program
from writer import Writer

#: Statements of a program.
LENGTH = 40
FOUND = Path(__file__).parent / "found"


def play(seed: int, options: Iterable[dict[str, Any]] = OPTIONS) -> tuple[Program, Mismatch | None]:
    """Write and run the program of a seed; return it with what differs."""
    writer = Writer(seed, options)
    both, statements = writer.both, writer.program.statements
    try:
        for _ in range(LENGTH):
            with numpy.errstate(all="ignore"):
                statement = writer.write()
            if statement is None:
                continue
            statements.append(statement)
            if statement.rule == "look":
                both.look(statement.names[0])
            else:
                both.step(statement)
        both.finish()
    except Mismatch as found:
        return writer.program, found
    except Undecided:
        pass
    finally:
        both.close()
    return writer.program, None


def search(
    seed: int, seconds: float, most: int, folder: Path, options: Iterable[dict[str, Any]]
) -> int:
    """Try programs from ``seed`` on for so many seconds; return how many differ."""
    begun = told = time.monotonic()
    statements = programs = 0
    kinds: dict[str, int] = {}
    while time.monotonic() - begun < seconds and sum(kinds.values()) < most:
        program, found = play(seed, options)
        statements += len(program.statements)
        programs += 1
        if found is not None:
            kinds[found.kind] = kinds.get(found.kind, 0) + 1
            small = shrink(program, found)
            path = save(small, folder)
            print(f"\n# seed {seed}: {found}\n# saved as {path}\n{script(small)}", flush=True)
        seed += 1
        now = time.monotonic()
        if now - told > 30:
            told = now
            print(f"{statements} statements, {programs} programs, {sum(kinds.values())} differ",
                  flush=True)  # fmt: skip
    took = time.monotonic() - begun
    print(f"{statements} statements in {programs} programs, {took:.0f} s,"
          f" {statements / took:.0f} a second; {sum(kinds.values())} differ {kinds or ''}"
          f" (next seed {seed})")  # fmt: skip
    return sum(kinds.values())


def main() -> int:
    """Parse the command line and search."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of the first program")
    parser.add_argument("--most", type=int, default=20, help="differences after which to stop")
    parser.add_argument("--found", type=Path, default=FOUND, help="folder for what differs")
    parser.add_argument("--options", type=json.loads, help='such as \'{"engine": "compiled"}\'')
    given = parser.parse_args()
    listen()
    seed = time.time_ns() % 10**9 * 1000 if given.seed is None else given.seed
    options = OPTIONS if given.options is None else (given.options,)
    print(f"from seed {seed}")
    return int(search(seed, given.seconds, given.most, given.found, options) > 0)


if __name__ == "__main__":
    sys.exit(main())
