"""One test file in processes of its own, and what became of each of its tests.

A process that dies or hangs is started again without the tests that it had come to, so that one
crash costs one test. Tests that ran out of time have another go at the end: a machine that stood
still for a while says nothing about them, and what hangs does so again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite import BELOW

__all__ = ["MODES", "NUMPY", "Outcomes", "run_file"]

#: What a run of the tests is called, and the options in force in it; None is NumPy itself.
NUMPY = "numpy"
MODES: dict[str, dict[str, Any] | None] = {
    NUMPY: None,
    "auto": {},
    "deferred": {"defer": "always"},
    "threads": {"backend": "threads"},
    # Small arrays too, which would else not be planned, and so not fused anyhow.
    "unfused": {"fusion": False, "defer": "always"},
}
#: Seconds after which a test is given up.
TEST_SECONDS = 120
#: Processes that may die before a file is given up.
MOST_DEATHS = 10
HERE = Path(__file__).resolve().parent


@dataclass
class Outcomes:
    """What became of the tests of one file.

    Attributes
    ----------
    results, messages : dict
        Outcomes, and what failures said, by the tests' names.
    planned, waited : int
        Elementwise operations of numbers that were planned, and those of them that waited.
    """

    results: dict[str, str]
    messages: dict[str, str]
    planned: int = 0
    waited: int = 0


def run_file(tree: Path, name: str, mode: str, scratch: Path, seconds: float) -> Outcomes:
    """Run one file of ``tree``.

    Parameters
    ----------
    tree : Path
        Where :func:`suite.lay_out` put it.
    name : str
        The file, as :func:`suite.available` returns it.
    mode : str
        One of :data:`MODES`.
    scratch : Path
        An empty folder for files of this run.
    seconds : float
        After how long without a test that ended a process is given up.
    """
    record, done = scratch / "record.jsonl", scratch / "done.txt"
    found = Outcomes({}, {})
    had_another_go: set[str] = set()
    for _ in range(MOST_DEATHS):
        record.write_text("", "utf-8")
        done.write_text("\n".join([f"{BELOW}/{test}" for test in found.results]), "utf-8")
        ended, said = _process(tree, name, mode, record, done, seconds)
        running = _take(record, found)
        if running is not None:
            found.results[running] = "failed"
            found.messages[running] = f"the process ended with {ended}: {said[-300:]}"
        elif ended not in (0, 1, 5):
            found.results[name] = "failed"
            found.messages[name] = f"pytest ended with {ended}: {said[-300:]}"
            return found
        elif late := _out_of_time(found) - had_another_go:
            had_another_go |= late
            for test in late:
                del found.results[test], found.messages[test]
        else:
            return found
    return found


def _out_of_time(found: Outcomes) -> set[str]:
    """Return the tests that pytest-timeout gave up."""
    return {
        test for test, message in found.messages.items()
        if found.results[test] == "failed" and "pytest-timeout" in message
    }  # fmt: skip


def _process(
    tree: Path, name: str, mode: str, record: Path, done: Path, seconds: float
) -> tuple[int | str, str]:
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "numpy.conftest", "-p", "recording",
        "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-m", "not slow",
        "-c", str(tree / "pytest.ini"), "--rootdir", str(tree), "--import-mode=importlib",
        f"--timeout={TEST_SECONDS}", "--tb=short", "--available-memory=1GB",
        str(tree / BELOW / name),
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=record.parent, env=_environment(mode, record, done), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        written = -1
        while True:
            try:
                said, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                # However slow the machine is, a file may take its time as long as tests end.
                if written == (written := record.stat().st_size):
                    process.kill()
                    return "no answer in time", ""
            else:
                return process.returncode, said


def _environment(mode: str, record: Path, done: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DISPATCHARR_")}
    folder = os.environ.get("DISPATCHARR_CACHE_DIR")
    if folder:
        kept["DISPATCHARR_CACHE_DIR"] = folder
    root = str(HERE.parents[1])
    path = os.pathsep.join(filter(None, (str(HERE), root, os.environ.get("PYTHONPATH"))))
    return {
        **kept,
        "PYTHONPATH": path,
        "PYTHONHASHSEED": "0",
        "CONFORMANCE_RECORD": str(record),
        "CONFORMANCE_DONE": str(done),
        "CONFORMANCE_OPTIONS": json.dumps(MODES[mode]),
    }


def _take(record: Path, found: Outcomes) -> str | None:
    """Add what a process wrote down; return the test that it did not come back from."""
    running: str | None = None
    for text in record.read_text("utf-8").splitlines():
        line = json.loads(text)
        if line["outcome"] == "started":
            running = line["test"].removeprefix(f"{BELOW}/")
            continue
        running = None
        test = line["test"].removeprefix(f"{BELOW}/")
        found.results[test] = line["outcome"]
        found.planned += line.get("planned", 0)
        found.waited += line.get("waited", 0)
        if line.get("message"):
            found.messages[test] = line["message"]
    return running
