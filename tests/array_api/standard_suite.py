"""Run the array API standard's public test suite, and count.

The suite is data-apis/array-api-tests at one commit. It is no part of this project: a checkout is
taken from ``--path`` or ``DISPATCHARR_ARRAY_API_TESTS``, or made by ``--fetch`` under ``build/``.
``make array-api`` fetches and runs it. It runs in a process of its own, for it brings a
configuration of pytest; what it needs installed is the extra ``array-api``.

Our namespace is held to the list of expected failures in both directions: whatever else fails is a
failure, and so is what is on the list and passes. Other namespaces are only counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["COMMIT", "EXPECTED", "Outcome", "located", "run"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXPECTED = HERE / "expected_failures.txt"
CHECKOUT = ROOT / "build" / "array-api-tests"
REPOSITORY = "https://github.com/data-apis/array-api-tests"
COMMIT = "55fcc60179efa2680ddd6cd926ddf17b83530e2b"
OURS = "dispatcharr.array_api"
VERSION = "2025.12"
_NEEDS = ("hypothesis", "ndindex", "pytest_jsonreport")


@dataclass(frozen=True)
class Outcome:
    """How many tests of the suite there were, by what became of them."""

    passed: int
    expected: int
    failed: tuple[str, ...]
    skipped: int
    status: int

    def __str__(self) -> str:
        counted = self.passed + self.expected + len(self.failed)
        share = self.passed / counted if counted else 0.0
        parts = [f"{self.passed} of {counted} pass ({share:.1%})"]
        parts += [f"{self.expected} fail as expected"] if self.expected else []
        parts += [f"{len(self.failed)} fail"] if self.failed else []
        parts += [f"{self.skipped} skipped"] if self.skipped else []
        return ", ".join(parts)


def located(path: str | None = None) -> Path | str:
    """Return the folder of a checkout of the suite, or the sentence why there is none."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: pip install '.[array-api]'"
    given = path or os.environ.get("DISPATCHARR_ARRAY_API_TESTS")
    folder = Path(given) if given else CHECKOUT
    if not (folder / "array_api_tests").is_dir():
        return f"no checkout of array-api-tests in {folder}: `make array-api` makes one"
    if not (folder / "array-api" / "src").is_dir():
        return f"{folder} lacks its submodule: git submodule update --init"
    return folder.resolve()


def fetch() -> None:
    """Make a checkout of the suite at its commit."""
    CHECKOUT.mkdir(parents=True, exist_ok=True)
    steps = (
        ("init", "--quiet"),
        ("fetch", "--quiet", "--depth", "1", REPOSITORY, COMMIT),
        ("checkout", "--quiet", "--force", COMMIT),
        ("submodule", "--quiet", "update", "--init", "--depth", "1"),
    )
    for step in steps:
        subprocess.run(["git", *step], cwd=CHECKOUT, check=True)


def run(
    folder: Path, module: str = OURS, examples: int = 100, files: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> Outcome:  # fmt: skip
    """Run the suite, or some of its files, on a namespace; what it prints goes where ours does."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [
            sys.executable, "-m", "pytest", "-q", "--tb=short", "-rfE",
            "-W", "ignore", "-p", "no:cacheprovider", "-o", "xfail_strict=true",
            "--disable-deadline", f"--max-examples={examples}", f"--junitxml={report}", *more,
            *([f"array_api_tests/test_{name}.py" for name in files] or ["array_api_tests"]),
        ]  # fmt: skip
        if module == OURS:
            command.append(f"--xfails-file={EXPECTED}")
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "ARRAY_API_TESTS_MODULE": module,
            "ARRAY_API_TESTS_VERSION": VERSION,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        done = subprocess.run(command, cwd=folder, env=environment, check=False)
        return _counted(report, done.returncode)


def _counted(report: Path, status: int) -> Outcome:
    passed = expected = skipped = 0
    failed = []
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag: child.get("type", "") for child in case}
        if "failure" in kinds or "error" in kinds:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in kinds:
            is_expected = kinds["skipped"] == "pytest.xfail"
            expected += is_expected
            skipped += not is_expected
        else:
            passed += 1
    return Outcome(passed, expected, tuple(failed), skipped, status)


def main() -> int:
    """Run the suite as the command line says; return 1 where something failed unexpectedly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", help="a checkout of array-api-tests, with its submodule")
    parser.add_argument("--fetch", action="store_true", help=f"make one in {CHECKOUT}")
    parser.add_argument("--module", default=OURS, help="the namespace (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=100, help="per test (default: 100)")
    parser.add_argument(
        "--file", action="append", default=[], metavar="NAME",
        help="only test_NAME.py of the suite; may be given again",
    )  # fmt: skip
    given, more = parser.parse_known_args()
    if given.fetch and isinstance(located(given.path), str):
        fetch()
    folder = located(given.path)
    if isinstance(folder, str):
        print(f"array-api: {folder}", file=sys.stderr)
        return 2
    outcome = run(folder, given.module, given.examples, tuple(given.file), tuple(more))
    print(f"{given.module}, version {VERSION}, {given.examples} examples: {outcome}")
    return int(bool(outcome.failed))


if __name__ == "__main__":
    sys.exit(main())
