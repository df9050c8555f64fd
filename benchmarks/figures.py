"""Measure the figures that dispatcharr promises, side by side with NumPy, in one run.

    python benchmarks/figures.py                       everything; under 8 minutes
    python benchmarks/figures.py --quick               the same with fewer repetitions and cells; a minute
    python benchmarks/figures.py --only regret slow    some rows
    python benchmarks/figures.py --json figures.json   also every cell, as data

NumPy and dispatcharr take turns (A B A B) in this process; a figure is the median of several repetitions and is
shown with the smallest and the largest. Rows that other processes disturbed are measured again, up to three
times, and marked with ~ if that did not help.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load import Load, is_disturbed

if TYPE_CHECKING:
    from reading import Reading

ROOT = Path(__file__).resolve().parent.parent
#: Settings that make NumPy's matrix library another one than users have.
FOREIGN = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
RETRIES = 3
#: Seconds after which nothing is measured again, full and quick.
LIMIT = (450.0, 55.0)

Measured = "Reading | list[Reading]"


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
    from processes import import_time, memory
    from statements import expression, small, smallest, ten_thousand

    def fused(name: str, title: str, goal: float, size: int = 10_000_000) -> Row:
        return Row(name.replace("_", "-"), partial(expression, name, title, size, goal))

    return [
        Row("small", smallest),
        Row("ten-thousand", ten_thousand),
        fused("polynomial", "2*a + 3*b - a*b, 1e7", 1.8),
        fused("trigonometry", "sin(a)**2 + cos(b)**2, 1e7", 1.9),
        fused("square_sum", "((a - b)**2).sum(), 1e7", 1.5),
        fused("stencil", "stencil, 2000 x 2000", 1.5, 4_000_000),
        Row("memory", memory),
        Row("import", import_time),
        Row("regret", regret, (170.0, 16.0)),
        Row("slow", slow_down, (130.0, 10.0)),
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


def take(row: Row, quick: bool, end: float) -> list[Reading]:
    """Measure a row, again while it is disturbed and before ``end``; return the quietest attempt."""
    if row.seconds is not None:
        until = min(time.perf_counter() + row.seconds[quick], max(end, time.perf_counter() + 5))
        return _listed(row.measure(quick, until))
    best: list[Reading] = []
    for attempt in range(1, 2 + RETRIES):
        with Load() as load:
            found = _listed(row.measure(quick))
        found = [
            replace(one, others=load.others, attempts=attempt) if one.others is None else one
            for one in found
        ]
        if not best or (found[0].others or 0.0) < (best[0].others or 0.0):
            best = found
        if not is_disturbed(best[0].others) or time.perf_counter() + load.seconds > end:
            break
        time.sleep(0.5)  # what disturbs may be short
    return best


def _listed(found: Any) -> list[Reading]:
    return found if isinstance(found, list) else [found]


def surroundings() -> dict[str, Any]:
    """Return where this was measured."""
    import numpy

    import dispatcharr
    from dispatcharr.face import _fastpath
    from dispatcharr.kernels.cpus import thread_count
    from dispatcharr.route import profile as profiles

    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": thread_count(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "dispatcharr": dispatcharr.__version__,
        "profile": profiles.current().source,
        "fast path": "compiled" if _fastpath.COMPILED else "Python",
    }


def clean_environment(calibrating: bool) -> None:
    """Take off what would make this another NumPy; must run before NumPy is loaded."""
    for name in FOREIGN:
        os.environ.pop(name, None)  # noqa: TID251 - read by NumPy's libraries, not by us
    if calibrating:
        folder = tempfile.mkdtemp(prefix="figures-")
        os.environ["DISPATCHARR_CACHE_DIR"] = folder  # noqa: TID251 - the profile's, not the user's
    if "numpy" in sys.modules:
        raise SystemExit("figures: NumPy was loaded before its environment could be cleaned")
    for folder in (ROOT, ROOT / "examples", ROOT / "asv_benchmarks"):
        sys.path.insert(0, str(folder))


def main() -> None:
    """Measure, print and store."""
    options = arguments()
    clean_environment(options.calibrate)
    asked = chosen(options.only)
    import dispatcharr
    from reading import HEADER, legend

    start = time.perf_counter()
    if options.calibrate:
        dispatcharr.calibrate(quick=options.quick)
    here = surroundings()
    print(", ".join(f"{name} {value}" for name, value in here.items()))
    print(f"\n{HEADER}", flush=True)
    end = time.perf_counter() + LIMIT[options.quick]
    readings = []
    for row in asked:
        for reading in take(row, options.quick, end):
            readings.append(reading)
            print(reading, flush=True)
    print(f"\n{legend()}")
    for reading in readings:
        if reading.notes:
            print(f"\n{reading.title.strip()}", *reading.notes, sep="\n  ")
    print(f"\n{time.perf_counter() - start:.0f} s")
    if options.json is not None:
        content = {
            "quick": options.quick,
            "machine": here,
            "rows": [reading.to_dict() for reading in readings],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
