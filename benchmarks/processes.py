"""Rows about whole processes: peak memory of the examples, and what importing costs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.start import HEAVY
from compare import QUICK, program
from reading import Reading, without_others

__all__ = ["import_time", "memory"]

ROOT = Path(__file__).resolve().parent.parent
MIB = 2**20
#: Allowed for a program: this many times what NumPy takes, plus this many bytes.
_TIMES, _PLUS = 1.1, 64 * MIB


def memory(quick: bool) -> Reading:
    """Measure the most memory that each example holds, as a share of what it may hold."""
    cells, shares, notes = [], [], []
    for name, (theirs, ours) in _peaks(quick).items():
        if theirs is None or ours is None:
            return Reading("examples' memory / allowed", math.nan, notes=["not known here"])
        allowed = _TIMES * theirs + _PLUS
        shares.append(ours / allowed)
        cells.append({"example": name, "numpy": theirs, "ours": ours, "share": shares[-1]})
        notes.append(
            f"{name}: NumPy {theirs / MIB:.0f} MiB, ours {ours / MIB:.0f}, "
            f"allowed {allowed / MIB:.0f}"
        )
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


def _peaks(quick: bool) -> dict[str, tuple[int | None, int | None]]:
    """Return the most bytes that each example holds under NumPy and under dispatcharr.

    They are started by a small process: at its start a child counts as holding what its parent
    holds, and this process holds much.
    """
    # Repeated, because the result of the first time is still there during the second.
    commands = {name: [*program(name, quick), "--repeat", "2"] for name in QUICK}
    code = (
        "import json, sys; sys.path.insert(0, 'examples'); from compare import run\n"
        "print(json.dumps({name: [run(side, command).peak_bytes for side in ('NumPy', "
        f"'dispatcharr')] for name, command in {commands!r}.items()}}))"
    )
    return {name: (peaks[0], peaks[1]) for name, peaks in json.loads(_python(code)).items()}


def import_time(quick: bool) -> list[Reading]:
    """Measure a process that imports dispatcharr, one that imports NumPy, and their difference."""
    rounds, repetitions = (6, 3) if quick else (25, 5)
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        # As installed packages are: compiled, whatever this environment says of compiled modules.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        _import("dispatcharr", environment)
        for turn in range(rounds):
            order = ("numpy", "dispatcharr")[:: -1 if turn % 2 else 1]
            took = {name: _import(name, environment) for name in order}
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
            notes=[f"{', '.join(heavy) or 'none'} of {', '.join(HEAVY)}"],
        ),
    ]


def _python(code: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what Python prints; the traceback of code that fails goes where ours would."""
    command = [sys.executable, "-c", code]
    return subprocess.check_output(command, cwd=ROOT, env=environment, text=True)


def _import(name: str, environment: Mapping[str, str]) -> float:
    """Return the seconds of a process that imports one package."""
    start = time.perf_counter()
    _python(f"import {name}", environment)
    return time.perf_counter() - start


def _heavy() -> list[str]:
    """Return which of the heavy libraries ``import dispatcharr`` imports."""
    return _python(
        f"import sys, dispatcharr; print(*sorted(sys.modules.keys() & set({HEAVY!r})))"
    ).split()
