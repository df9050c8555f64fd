"""NumPy's own tests under this package: ``python -m tests.conformance --help``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parent))

from comparing import Comparison, compare, known_differences, unused
from page import figures, groups, with_section
from reporting import as_data, badge, table
from running import MODES, NUMPY, Outcomes, run_file
from suite import available, lay_out


def main(given: list[str] | None = None) -> int:
    """Run what was asked for; return 1 if anything unexpected was found."""
    asked = _arguments(given)
    files = [name for name in available() if not asked.file or _is_asked(name, asked.file)]
    modes = asked.mode or [mode for mode in MODES if mode != NUMPY]
    if not files:
        print(f"no file of NumPy's tests is called {', '.join(asked.file)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        ran = _run(Path(folder), files, modes, asked)
    compared = {key: comparison for key, (_, comparison) in ran.items()}
    print(table(compared))
    if asked.json:
        asked.json.write_text(json.dumps(as_data(compared), indent=1) + "\n", "utf-8")
    if asked.badge:
        asked.badge.write_text(badge(as_data(compared)), "utf-8")
    if asked.page:
        _write_page(asked.page, as_data(compared))
    wrong = [(*key, t, one) for key, one in compared.items() for t in one.unlisted]
    for _, mode, test, one in wrong:
        print(f"unlisted, {mode}: {test}: {one.failures[test].splitlines()[0][:200]}")
    stale = unused(known_differences(), ran)
    for pattern in stale:
        print(f"listed, but passes: {pattern}")
    return 1 if wrong or stale else 0


def _write_page(path: Path, data: dict[str, Any]) -> None:
    text = with_section(path.read_text("utf-8"), "figures", figures(data))
    path.write_text(with_section(text, "groups", groups(known_differences())), "utf-8")


def _is_asked(name: str, asked: list[str]) -> bool:
    return any(name == one or name.endswith(f"test_{one}.py") or one in name for one in asked)


def _run(
    folder: Path, files: list[str], modes: list[str], asked: argparse.Namespace
) -> dict[tuple[str, str], tuple[Outcomes, Comparison]]:
    lay_out(folder / "numpys", files, None)
    lay_out(folder / "ours", files, "dispatcharr")
    known = known_differences()
    ran: dict[tuple[str, str], tuple[Outcomes, Comparison]] = {}
    for name in files:
        outcomes: dict[str, Outcomes] = {}
        for mode in (NUMPY, *modes):
            scratch = folder / "scratch" / name.replace("/", "-") / mode
            scratch.mkdir(parents=True)
            tree = folder / ("numpys" if mode == NUMPY else "ours")
            if mode == NUMPY:
                outcomes[mode] = _numpys(tree, name, scratch, asked)
                continue
            outcomes[mode] = run_file(tree, name, mode, scratch, asked.timeout)
            found = compare(outcomes[NUMPY], outcomes[mode], mode, known)
            ran[name, mode] = outcomes[NUMPY], found
            print(f"{name} {mode}: {found.passed} of {found.total}", file=sys.stderr, flush=True)
    return ran


def _numpys(tree: Path, name: str, scratch: Path, asked: argparse.Namespace) -> Outcomes:
    """Return what becomes of a file's tests under NumPy, perhaps from an earlier run."""
    if asked.keep is None:
        return run_file(tree, name, NUMPY, scratch, asked.timeout)
    kept = asked.keep / numpy.__version__ / f"{name.replace('/', '-')}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        found = run_file(tree, name, NUMPY, scratch, asked.timeout)
        kept.write_text(json.dumps(asdict(found)), "utf-8")
    return Outcomes(**json.loads(kept.read_text("utf-8")))


def _arguments(given: list[str] | None) -> argparse.Namespace:
    modes = [mode for mode in MODES if mode != NUMPY]
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Run NumPy's own tests with this package in NumPy's place, and compare.",
    )
    parser.add_argument("--file", action="append", help="such as umath, or _core/tests; repeatable")
    parser.add_argument("--mode", action="append", choices=modes, help="all, unless named")
    parser.add_argument("--json", type=Path, help="file for everything that was found")
    parser.add_argument("--badge", type=Path, help="file for a badge with the worst mode's share")
    parser.add_argument("--page", type=Path, help="page whose figures and groups to write anew")
    parser.add_argument("--keep", type=Path, help="folder that keeps NumPy's outcomes between runs")
    parser.add_argument(
        "--timeout", type=float, default=300, help="seconds without a test that ended (300)"
    )
    asked = parser.parse_args(given)
    if (asked.badge or asked.page) and (asked.file or asked.mode):
        parser.error(
            "a badge and a page show every file in every mode: leave --file and --mode out"
        )
    return asked


if __name__ == "__main__":
    sys.exit(main())
