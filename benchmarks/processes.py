"""Rows about whole processes: peak memory of the examples, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.start import HEAVY
from compare import QUICK, program, run
from reading import Reading, without_others

__all__ = ["import_time", "memory"]

ROOT = Path(__file__).resolve().parent.parent
MIB = 2**20
#: Allowed for a program: this many times what NumPy takes, plus this many bytes.
_TIMES, _PLUS = 1.1, 64 * MIB


def memory(quick: bool) -> Reading:
    """Measure the most memory that each example holds, as a share of what it may hold."""
    cells = []
    notes = []
    for name in QUICK:
        # Twice, because the result of the first time is still there during the second.
        command = [*program(name, quick), "--repeat", "2"]
        theirs, ours = (run(side, command).peak_bytes for side in ("NumPy", "dispatcharr"))
        if theirs is None or ours is None:
            return Reading("peak memory of examples", float("nan"), notes=["not known here"])
        allowed = _TIMES * theirs + _PLUS
        cells.append({"example": name, "numpy": theirs, "ours": ours, "share": ours / allowed})
        notes.append(
            f"{name}: NumPy {theirs / MIB:.0f} MiB, ours {ours / MIB:.0f}, "
            f"allowed {allowed / MIB:.0f}"
        )
    shares = [float(cell["share"]) for cell in cells]
    return without_others(
        Reading(
            "examples' memory / allowed",
            max(shares),
            min(shares),
            max(shares),
            goal=1.0,
            notes=["(the figure is the worst; allowed: 1.1 x NumPy's + 64 MiB)", *notes],
            cells=cells,
        )
    )


def import_time(quick: bool) -> list[Reading]:
    """Measure a process that imports dispatcharr, one that imports NumPy, and their difference."""
    rounds, repetitions = (9, 3) if quick else (25, 5)
    _import("dispatcharr")  # leaves compiled modules behind
    pairs = []
    for turn in range(rounds):
        order = ("numpy", "dispatcharr")[:: -1 if turn % 2 else 1]
        took = {name: _import(name) for name in order}
        pairs.append((took["numpy"], took["dispatcharr"]))
    size = rounds // repetitions
    groups = [pairs[i : i + size] for i in range(0, size * repetitions, size)]
    more = [1e3 * median(ours - theirs for theirs, ours in group) for group in groups]
    heavy = _heavy()
    return [
        Reading(
            "import, ms over NumPy's",
            1e3 * median(ours - theirs for theirs, ours in pairs),
            min(more),
            max(more),
            goal=60.0,
            theirs=median(theirs for theirs, _ in pairs),
            ours=median(ours for _, ours in pairs),
        ),
        Reading(
            "heavy modules imported",
            float(len(heavy)),
            goal=0.0,
            notes=[f"imported by `import dispatcharr`: {', '.join(heavy) or 'none'} of {HEAVY}"],
        ),
    ]


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout


def _import(name: str) -> float:
    """Return the seconds of a process that imports one package."""
    start = time.perf_counter()
    _python(f"import {name}")
    return time.perf_counter() - start


def _heavy() -> list[str]:
    """Return which of the heavy libraries ``import dispatcharr`` imports."""
    return _python(
        f"import sys, dispatcharr; print(*sorted(sys.modules.keys() & set({HEAVY!r})))"
    ).split()
