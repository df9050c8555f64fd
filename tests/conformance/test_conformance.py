"""NumPy's own tests pass here as with NumPy, but for those on a list with reasons."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import running
from comparing import Difference, compare, known_differences, unused
from page import groups, with_section
from reporting import as_data, badge, percent, table
from rewriting import rewritten
from running import MODES, NUMPY, Outcomes
from suite import BELOW, QUICK, available

ROOT = Path(__file__).resolve().parents[2]
shipped = pytest.mark.skipif(
    not available() or any(importlib.util.find_spec(m) is None for m in ("pytest_timeout",)),
    reason="this NumPy came without its tests, or pytest-timeout is not there",
)


def harness(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.conformance", *arguments],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=seconds, check=False,
    )  # fmt: skip


@shipped
@pytest.mark.timeout(300)
def test_a_few_files_pass() -> None:
    asked = [f"--file={name}" for name in QUICK]
    ended = harness(*asked, "--mode=auto", seconds=290)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "100.00" in ended.stdout


@shipped
@pytest.mark.slow
@pytest.mark.timeout(10800)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != NUMPY])
def test_all_files_pass(mode: str, tmp_path: Path) -> None:
    ended = harness("--mode", mode, "--json", str(tmp_path / "found.json"), seconds=10700)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert float(found["modes"][mode]["percent"]) >= 99.0


def test_public_modules_are_replaced_and_private_ones_stay() -> None:
    source = (
        "import numpy as np\n"
        "import numpy\n"
        "import numpy.linalg\n"
        "import numpy._core.umath as ncu\n"
        "from numpy.testing import (\n"
        "    assert_equal,\n"
        "    assert_raises as refuses,\n"
        ")\n"
        "from numpy._core import _rational_tests\n"
        "def f():\n"
        "    from numpy import linalg  # as late as that\n"
    )
    assert rewritten(source, "ours").splitlines() == [
        "import ours as np",
        "import ours; import ours as numpy",
        "import ours.linalg; import ours as numpy",
        "import numpy._core.umath as ncu",
        "from ours.testing import assert_equal, assert_raises as refuses",
        "",
        "",
        "",
        "from numpy._core import _rational_tests",
        "def f():",
        "    from ours import linalg  # as late as that",
    ]


NUMPYS = Outcomes({"a": "passed", "b": "passed", "c": "failed", "d": "skipped"}, {})
OURS = Outcomes({"a": "passed", "b": "failed", "c": "passed"}, {"b": "AssertionError"})


@shipped
@pytest.mark.timeout(120)
def test_what_ran_out_of_time_has_another_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "TEST_SECONDS", 1)
    tests = tmp_path / BELOW / "test_slow.py"
    tests.parent.mkdir()
    tests.write_text(
        "import pathlib, time\n"
        "import pytest\n"
        "def test_slow_once(once=pathlib.Path(__file__).with_name('once')):\n"
        "    if not once.exists():\n"
        "        once.touch()\n"
        "        time.sleep(9)\n"
        "@pytest.fixture\n"
        "def spoils():\n"
        "    yield\n"
        "    raise RuntimeError('at the end')\n"
        "def test_always(spoils):\n"
        "    time.sleep(9)\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (scratch := tmp_path / "scratch").mkdir()
    found = running.run_file(tmp_path, "test_slow.py", NUMPY, scratch, 60)
    assert found.results == {
        "test_slow.py::test_slow_once": "passed", "test_slow.py::test_always": "failed"
    }  # fmt: skip
    assert "pytest-timeout" in found.messages["test_slow.py::test_always"]


def test_only_what_passes_with_numpy_counts() -> None:
    found = compare(NUMPYS, OURS, "auto", [])
    assert (found.passed, found.total) == (1, 2)
    assert found.failures == {"b": "AssertionError"}
    assert found.unlisted == ["b"]


def test_what_is_not_collected_fails() -> None:
    found = compare(NUMPYS, Outcomes({}, {}), "auto", [])
    assert found.failures == dict.fromkeys("ab", "it was not collected")


def test_a_listed_failure_is_expected_in_its_modes_and_still_a_failure() -> None:
    known = [Difference("because", ["b*"], ["auto"])]
    assert compare(NUMPYS, OURS, "auto", known).unlisted == []
    assert compare(NUMPYS, OURS, "auto", known).passed == 1
    assert compare(NUMPYS, OURS, "threads", known).unlisted == ["b"]


def test_a_listed_test_that_passes_is_told() -> None:
    known = [Difference("because", ["a", "b", "of another version"])]
    ran = {("file", "auto"): (NUMPYS, compare(NUMPYS, OURS, "auto", known))}
    assert unused(known, ran) == ["a"]
    assert unused([Difference("because", ["a"], sometimes=True)], ran) == []


def test_every_known_difference_has_a_reason_and_is_listed_once() -> None:
    known = known_differences()
    assert all(len(one.reason) > 20 and one.tests for one in known)
    assert {mode for one in known for mode in one.modes} <= MODES.keys() - {NUMPY}
    keys = [(test, mode) for one in known for test in one.tests for mode in one.modes or [""]]
    assert len(keys) == len(set(keys))


def test_shares_are_rounded_down() -> None:
    assert percent(99_999, 100_000) == "99.99"
    assert percent(0, 0) == "-"
    compared = {("f", "auto"): compare(NUMPYS, OURS, "auto", [])}
    assert "50.00" in table(compared)
    assert "50.00 %" in badge(as_data(compared))


@shipped
@pytest.mark.timeout(300)
def test_operations_wait_where_everything_is_deferred(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    asked = ["--file=errstate", "--file=ufunclike", "--mode=deferred", "--mode=auto"]
    ended = harness(*asked, f"--json={path}", seconds=290)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    modes = json.loads(path.read_text("utf-8"))["modes"]
    deferred, auto = modes["deferred"]["elementwise"], modes["auto"]["elementwise"]
    # Those that do not wait are inside blocks that listen for warnings, or have modes that raise.
    assert deferred["waited"] > deferred["planned"] / 2 > 5
    assert auto["planned"] < deferred["planned"]


def test_a_badge_is_not_made_of_some_files() -> None:
    ended = harness("--file=errstate", "--badge=badge.svg", seconds=60)
    assert ended.returncode == 2
    assert "leave --file and --mode out" in ended.stderr


def test_page_and_badge_say_the_same_and_what_the_list_says() -> None:
    text = (ROOT / "docs" / "conformance.md").read_text("utf-8")
    assert with_section(text, "groups", groups(known_differences())) == text
    shares = re.findall(r"^\| `\w+` \|.* ([\d.]+) % \|", text, re.MULTILINE)
    assert len(shares) == len(MODES) - 1
    assert f">{min(shares, key=float)} %<" in (ROOT / "docs" / "conformance.svg").read_text("utf-8")
    with pytest.raises(ValueError, match="no section 'figures'"):
        with_section("", "figures", "")
