"""The commands that inform: what they print, and what they say to mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from dispatcharr._version import __version__
from dispatcharr.cli.console import in_binary
from dispatcharr.cli.explain import _parsed, _shape
from dispatcharr.devices import shim
from dispatcharr.face import context
from dispatcharr.route.profile import default_profile

COMMANDS = ["run", "info", "explain", "calibrate", "bench"]


def widest(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


def test_version(dispatcharr):
    done = dispatcharr("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"dispatcharr, version {__version__}\n"


def test_help_lists_every_command(inside):
    done = inside("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"  {command} " in done.stdout for command in COMMANDS)
    assert widest(done.stdout) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_fits_a_terminal(command, inside):
    done = inside(command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: dispatcharr {command} ")
    assert widest(done.stdout) <= 80


@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["nonsense"], ["info", "--nonsense"], ["run"], ["run", "--nonsense", "x.py"]],
)
def test_wrong_arguments_are_clicks_business(arguments, inside):
    done = inside(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: dispatcharr ")
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_info_is_text_for_people(inside):
    done = inside("info")
    assert (done.returncode, done.stderr) == (0, "")
    assert widest(done.stdout) <= 80
    for word in ("Versions", "Machine", "Backends", "serial", "cuda", "Profile", "memory, GB/s"):
        assert word in done.stdout


def test_info_is_data_for_programs(inside, tmp_path):
    done = inside("info", "--json", DISPATCHARR_NUM_THREADS="1", DISPATCHARR_BACKEND="serial")
    facts = json.loads(done.stdout)
    assert facts["versions"]["dispatcharr"] == __version__
    assert facts["versions"]["numpy"]
    assert facts["machine"]["threads"] == 1
    assert facts["machine"]["cpus_usable"] >= 1
    assert facts["backends"]["serial"] is None
    assert facts["profile"]["source"] == "defaults"
    assert facts["profile"]["stored"] is False
    assert facts["profile"]["bandwidth"]["serial"]["memory"] > 0
    assert facts["cache_folder"] == str(tmp_path / "cache")
    assert facts["environment"]["DISPATCHARR_NUM_THREADS"] == "1"
    assert facts["environment"]["DISPATCHARR_BACKEND"] == "serial"


def test_info_on_a_wide_terminal_stays_narrow(inside):
    assert widest(inside("info", COLUMNS="200").stdout) <= 80


def test_info_names_a_broken_profile_and_goes_on(dispatcharr, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "profile.json").write_text("{", encoding="utf-8")
    done = dispatcharr("info")
    assert done.returncode == 0
    assert "profile.json cannot be used" in done.stderr
    assert "shipped defaults" in done.stdout


def test_a_bad_setting_is_one_sentence(inside):
    done = inside("info", DISPATCHARR_NUM_THREADS="many")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("dispatcharr: ")
    assert "DISPATCHARR_NUM_THREADS" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="no such pipes")
def test_a_reader_that_leaves_is_no_error(start):
    """What `dispatcharr info | head -1` meets when head is quick."""
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (["info"], ["info", "--json"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "dispatcharr", *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        assert done.returncode == 1
    os.close(writer)


def test_explain_shows_a_plan_and_prices(inside):
    done = inside("explain", "np.sin(a)**2 + np.cos(b)**2", "--size", "1e6")
    assert (done.returncode, done.stderr) == (0, "")
    assert widest(done.stdout) <= 80
    assert "sin" in done.stdout
    assert "serial" in done.stdout
    assert "threads" in done.stdout


def test_explain_as_data(inside):
    done = inside("explain", "sqrt(a) + b", "--size", "300x1000", "--dtype", "float32", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a +"], ["invalid syntax", "a +", "^"]),
        (["a = 1"], ["invalid syntax"]),
        (["scale(a)"], ["'scale' is called", "NumPy has no function"]),
        (["a", "--size", "many"], ["'many'", "1e7", "2000x2000"]),
        (["a", "--size", "1.5"], ["'1.5'"]),
        (["a", "--size", "0"], ["'0'"]),
        (["a", "--size", "-3"], ["'-3'"]),
        (["a", "--dtype", "text"], ["'text'", "float32"]),
        (["a", "--dtype", "datetime64[s]"], ["datetime64"]),
        (["a + b", "--size", "1e15"], ["2 arrays of 1000000000000000 float64", "memory are free"]),
    ],
)
def test_explain_says_what_was_wrong(arguments, words, inside):
    done = inside("explain", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_explain_tells_of_an_expression_that_fails(inside):
    done = inside("explain", "a.no_such_method()", "--size", "10")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: a.no_such_method(): AttributeError: ")


@pytest.mark.parametrize(
    ("expression", "arrays", "functions"),
    [
        ("np.sin(a)**2 + numpy.cos(b)**2", ["a", "b"], []),
        ("sin(a).mean() + abs(b)", ["a", "b"], ["sin"]),
        ("sum(x * weight for x in a)", ["a", "weight"], []),
        ("(lambda x: x + y)(z)", ["y", "z"], []),
        ("np.where(mask > 0.5, a, -a).T", ["a", "mask"], []),
        (" 1 + 1", [], []),
    ],
)
def test_names_in_an_expression(expression, arrays, functions):
    assert _parsed(expression)[1:] == (arrays, functions)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ("1e7", (10_000_000,)),
        ("12", (12,)),
        ("1_000", (1000,)),
        ("2000x3000", (2000, 3000)),
        ("2000X1e3", (2000, 1000)),
        ("(4, 5, 6)", (4, 5, 6)),
    ],
)
def test_sizes(size, shape):
    assert _shape(size) == shape


def test_calibrate_measures_prints_and_saves(dispatcharr, tmp_path):
    done = dispatcharr("calibrate", "--quick")
    assert (done.returncode, done.stderr) == (0, "")
    assert widest(done.stdout) <= 80
    path = tmp_path / "cache" / "profile.json"
    assert str(path) in done.stdout.replace("\n", "").replace(" ", "")
    assert path.exists()
    facts = json.loads(dispatcharr("info", "--json").stdout)
    assert facts["profile"]["source"] == "calibrated"
    assert facts["profile"]["stored"] is True


def test_calibrate_as_data(inside, monkeypatch):
    monkeypatch.setattr(context, "calibrate", lambda quick, progress: default_profile())
    done = inside("calibrate", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    profile = json.loads(done.stdout)
    assert profile["bandwidth"] == default_profile().bandwidth
    assert profile["path"] is None


def test_calibrate_says_when_it_could_not_save(inside, monkeypatch):
    monkeypatch.setattr(context, "calibrate", lambda quick, progress: default_profile())
    done = inside("calibrate")
    assert (done.returncode, done.stderr) == (0, "")
    assert "until the process ends" in done.stdout


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1023, "0.999 KiB"), (49152, "48 KiB"), (3 << 40, "3 TiB")],
)
def test_sizes_of_hardware(count, words):
    assert in_binary(count) == words


@pytest.mark.skipif(shim.missing() is not None, reason=str(shim.missing()))
def test_info_names_the_device(dispatcharr):
    done = dispatcharr("info", DISPATCHARR_SIM_GPU="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Device\n" in done.stdout and "virtual" in done.stdout
