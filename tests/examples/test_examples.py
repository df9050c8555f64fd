"""The example programs: each checks itself, and answers the same under NumPy and dispatcharr.

They run in subprocesses, from the project's root, with warnings as errors.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN = (sys.executable, "-W", "error")
DISPATCHED = (*PLAIN, "-m", "dispatcharr", "run")
RESULT = re.compile(r"result: name=(\S+) seconds=(\d+\.\d+) checksum=(\S+)")
# An odd size, so that nothing divides evenly, large enough for operations to be deferred.
SIZES = {
    "black_scholes": 60_007,
    "heat": 251,
    "hillshade": 301,
    "quantised_softmax": 6_007,
    "tonemap": 301,
}
NEEDS = {"hillshade": ["matplotlib"], "tonemap": ["matplotlib", "PIL"]}
EXAMPLES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(module) is None for module in NEEDS.get(name, [])),
            reason=f"{name} needs the extra dispatcharr[examples]",
        ),
    )
    for name in SIZES
]


def execute(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        timeout=100,
        check=False,
    )


@functools.cache
def result_of(interpreter: tuple[str, ...], name: str, *options: str) -> tuple[str, float, float]:
    """Name, seconds and checksum from the result line, which must be the last line."""
    done = execute(*interpreter, str(ROOT / "examples" / f"{name}.py"), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found = RESULT.fullmatch(done.stdout.strip().splitlines()[-1])
    assert found, done.stdout
    return found[1], float(found[2]), float(found[3])


@pytest.mark.parametrize("name", EXAMPLES)
def test_plain_numpy_runs_the_program(name: str) -> None:
    printed, seconds, checksum = result_of(PLAIN, name, "--size", str(SIZES[name]))
    assert printed == name
    assert seconds > 0.0
    assert math.isfinite(checksum)
    assert checksum != 0.0


@pytest.mark.parametrize("name", EXAMPLES)
def test_dispatcharr_gives_the_same_answer(name: str) -> None:
    options = ("--size", str(SIZES[name]))
    wanted = result_of(PLAIN, name, *options)
    got = result_of((*DISPATCHED, "--quiet"), name, *options)
    assert got[0] == wanted[0]
    assert got[2] == pytest.approx(wanted[2], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_dispatcharr_gives_the_same_answer_at_full_size(name: str) -> None:
    wanted = result_of(PLAIN, name, "--repeat", "1")
    got = result_of((*DISPATCHED, "--quiet"), name, "--repeat", "1")
    assert got[2] == pytest.approx(wanted[2], rel=1e-6)


def test_run_adds_a_dispatch_summary_unless_quiet() -> None:
    command = (str(ROOT / "examples" / "heat.py"), "--size", "251", "--repeat", "1")
    talking = execute(*DISPATCHED, *command)
    silent = execute(*DISPATCHED, "--quiet", *command)
    assert talking.returncode == silent.returncode == 0, talking.stderr + silent.stderr
    assert len((talking.stdout + talking.stderr).splitlines()) > len(silent.stdout.splitlines())
    assert silent.stderr == ""


# One wrong constant or sign each: the program's own check has to notice.
MISTAKES = {
    "black_scholes": ("1.421413741", "1.421403741"),
    "heat": ("inner += COURANT", "inner += 1.0000001 * COURANT"),
    "hillshade": ("AZIMUTH - aspect", "AZIMUTH + aspect"),
    "quantised_softmax": ("+ model.bias)\n\n\ndef infer_one", ")\n\n\ndef infer_one"),
    "tonemap": ("1.055 * linear ** (1 / 2.4)", "1.055 * linear ** (1 / 2.2)"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_mistake_in_the_program_is_noticed(name: str, tmp_path: Path) -> None:
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    right, wrong = MISTAKES[name]
    assert source.count(right) == 1
    mistaken = tmp_path / f"{name}.py"
    mistaken.write_text(source.replace(right, wrong), encoding="utf-8")
    done = execute(*PLAIN, str(mistaken), "--size", str(SIZES[name]), "--repeat", "1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: ")
    assert "result:" not in done.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_impossible_size_is_refused(name: str) -> None:
    done = execute(*PLAIN, str(ROOT / "examples" / f"{name}.py"), "--size", "0")
    assert done.returncode == 2
    assert "--size" in done.stderr


def test_compare_refuses_an_unknown_example() -> None:
    done = execute(sys.executable, str(ROOT / "examples" / "compare.py"), "nothing")
    assert done.returncode == 2
    assert "no example named nothing" in done.stderr


@pytest.mark.slow
def test_compare_finds_equal_answers() -> None:
    compare = str(ROOT / "examples" / "compare.py")
    done = execute(sys.executable, compare, "black_scholes", "heat", "--quick", "--rounds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" yes ") == 2, done.stdout
