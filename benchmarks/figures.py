"""Measure the figures that dispatcharr promises, side by side with NumPy, in one run.

    python benchmarks/figures.py                       everything; under 8 minutes
    python benchmarks/figures.py --quick               fewer repetitions and cells; a minute
    python benchmarks/figures.py --only regret slow    some rows
    python benchmarks/figures.py --json figures.json   also every cell, as data

NumPy and dispatcharr take turns (A B A B) in this process; a figure is the median of several
repetitions and is shown with the smallest and the largest. Rows that other processes disturbed are
measured again, up to three times, and marked with ~ if that did not help.
"""

from __future__ import annotations

import argparse
import atexit
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reading import Reading

ROOT = Path(__file__).resolve().parent.parent
#: Settings that make NumPy's matrix library another one than users have.
FOREIGN = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
RETRIES = 3
#: Seconds for measuring again what was disturbed, full and quick.
SPARE = (60.0, 5.0)


@dataclass(frozen=True)
class Row:
    """What ``--only`` knows by a name.

    Attributes
    ----------
    name : str
        As typed.
    measure : callable
        ``measure(quick)`` returns a reading or several.
    seconds : tuple of float
        What it may take, full and quick, for a row that repeats by itself what was disturbed; its
        ``measure`` takes a second argument, when to end.
    """

    name: str
    measure: Callable[..., Any]
    seconds: tuple[float, float] | None = None


def rows() -> list[Row]:
    """Return the rows in the order of the table."""
    from grids import regret, slow_down
    from kernel_rows import axis_sums, compiling, contractions, near_the_roof, twelve
    from processes import import_time, memory

    from statements import expression, small, smallest, ten_thousand, thousand

    def fused(name: str, title: str, goal: float, size: int = 10_000_000) -> Row:
        return Row(name.replace("_", "-"), partial(expression, name, title, size, goal))

    return [
        Row("small", smallest),
        Row("thousand", thousand),
        Row("ten-thousand", ten_thousand),
        fused("polynomial", "2*a + 3*b - a*b, 1e7", 1.8),
        fused("trigonometry", "sin(a)**2+cos(b)**2, 1e7", 1.9),
        fused("square_sum", "((a - b)**2).sum(), 1e7", 1.5),
        fused("stencil", "stencil, 2000 x 2000", 6.0, 4_000_000),
        Row("large", partial(twelve, 10_000_000, "float64", "1e7", (6.0, 1.0))),
        Row("large-single", partial(twelve, 10_000_000, "float32", "1e7 f4", (4.0, 1.0))),
        Row("medium", partial(twelve, 1_000_000, "float64", "1e6", (4.0, 0.95))),
        Row("less", partial(twelve, 100_000, "float64", "1e5", (2.5, 0.95))),
        Row("roof", near_the_roof),
        Row("axis-sums", axis_sums),
        Row("contractions", contractions),
        Row("compiling", compiling),
        Row("memory", memory),
        Row("import", import_time),
        Row("regret", regret, (190.0, 12.0)),
        Row("slow", slow_down, (130.0, 7.0)),
        Row("small-ops", small),
    ]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a look, not a claim: one minute")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument(
        "--calibrate", action="store_true",
        help="measure the machine first and use that profile; the stored one stays as it is",
    )  # fmt: skip
    return parser.parse_args()


def chosen(names: list[str] | None) -> list[Row]:
    """Return the rows asked for; stop with a message where one is unknown."""
    known = rows()
    unknown = set(names or ()) - {row.name for row in known}
    if unknown:
        raise SystemExit(
            f"figures: no row named {', '.join(sorted(unknown))}; "
            f"there are {', '.join(row.name for row in known)}"
        )
    return [row for row in known if names is None or row.name in names]


class Taker:
    """Measures rows, again while they are disturbed and there is time to spare."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.spare = SPARE[quick]

    def take(self, row: Row) -> list[Reading]:
        """Return the readings of the quietest attempt."""
        if row.seconds is not None:
            return _listed(row.measure(self.quick, time.perf_counter() + row.seconds[self.quick]))
        # Not at the top: it loads NumPy, whose surroundings are to be cleaned before.
        from dispatcharr.bench.load import Load, is_disturbed

        best: list[Reading] = []
        for attempt in range(1, 2 + RETRIES):
            with Load() as load:
                found = _listed(row.measure(self.quick))
            found = [
                replace(one, others=load.others, attempts=attempt) if one.others is None else one
                for one in found
            ]
            if not best or (found[0].others or 0.0) < (best[0].others or 0.0):
                best = found
            if not is_disturbed(best[0].others) or self.spare < load.seconds:
                break
            self.spare -= load.seconds
        return best


def _listed(found: Any) -> list[Reading]:
    return found if isinstance(found, list) else [found]


def surroundings() -> dict[str, Any]:
    """Return where this was measured."""
    import numpy

    import dispatcharr
    from dispatcharr._config import ENVIRONMENT
    from dispatcharr.face import _fastpath
    from dispatcharr.kernels.cpus import thread_count
    from dispatcharr.route import profile as profiles

    settings = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    settings.pop("DISPATCHARR_CACHE_DIR", None)
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": thread_count(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "dispatcharr": dispatcharr.__version__,
        "profile": profiles.current().source,
        "fast path": "compiled" if _fastpath.COMPILED else "Python",
        **settings,
    }


def clean_environment(calibrating: bool) -> None:
    """Take off what would make this another NumPy; must run before NumPy is loaded."""
    environment = os.environ
    removed = [name for name in FOREIGN if environment.pop(name, None) is not None]
    if removed and "numpy" in sys.modules:  # something loads it at every start: start anew
        os.execv(sys.executable, sys.orig_argv)
    if calibrating:
        folder = tempfile.mkdtemp(prefix="figures-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        environment["DISPATCHARR_CACHE_DIR"] = folder
    for path in (ROOT, ROOT / "examples", ROOT / "asv_benchmarks"):
        sys.path.insert(0, str(path))


def failed(row: Row) -> Reading:
    """Return the reading of a row that ended with the current exception."""
    from reading import Reading

    told = traceback.format_exc().strip().splitlines()
    return Reading(f"{row.name} FAILED", math.nan, notes=told[-12:])


def report(asked: list[Row], quick: bool) -> tuple[list[Reading], dict[str, float], bool]:
    """Measure and print; return the readings, each row's seconds, and whether all is well."""
    from reading import HEADER, legend

    print(f"\n{HEADER}", flush=True)
    taker = Taker(quick)
    readings, took, fine = [], {}, True
    for row in asked:
        began = time.perf_counter()
        try:
            found = taker.take(row)
        except Exception:  # one broken row must not cost the others, which took minutes
            found, fine = [failed(row)], False
        took[row.name] = round(time.perf_counter() - began, 1)
        readings += found
        print(*found, sep="\n", flush=True)
    print(f"\n{legend()}")
    for reading in readings:
        if reading.notes:
            print(f"\n{reading.title.strip()}", *reading.notes, sep="\n  ")
    print(f"\n{sum(took.values()):.0f} s")
    return readings, took, fine


def main() -> None:
    """Measure, print and store."""
    options = arguments()
    clean_environment(options.calibrate)
    asked = chosen(options.only)
    import dispatcharr

    if options.calibrate:
        dispatcharr.calibrate(quick=options.quick)
    here = surroundings()
    print(textwrap.fill(", ".join(f"{name} {value}" for name, value in here.items()), 80))
    readings, took, fine = report(asked, options.quick)
    if options.json is not None:
        rows = [reading.to_dict() for reading in readings]
        content = {"quick": options.quick, "machine": here, "took": took, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
