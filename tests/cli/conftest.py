"""Programs written into an empty folder, run by Python and by the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from dispatcharr.cli import main

ROOT = Path(__file__).resolve().parents[2]
Finished = subprocess.CompletedProcess[str]
Start = Callable[..., Finished]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Run Python with these arguments in the test's folder and wait for it."""

    def start(*arguments: str, stdin: str = "", **environment: str) -> Finished:
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
        settings = {
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "utf-8",
            "DISPATCHARR_CACHE_DIR": str(tmp_path / "cache"),
            "COLUMNS": "80",
            **environment,
        }
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, **settings},
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return start


@pytest.fixture
def dispatcharr(start: Start) -> Start:
    """Run the command line with these arguments in the test's folder."""

    def dispatcharr(*arguments: str, **options: str) -> Finished:
        return start("-m", "dispatcharr", *arguments, **options)

    return dispatcharr


@pytest.fixture
def inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Start:
    """Run the command line in this process, which is faster, where that makes no difference."""

    def inside(*arguments: str, **environment: str) -> Finished:
        settings = {"DISPATCHARR_CACHE_DIR": str(tmp_path / "cache"), "COLUMNS": "80"}
        for name, value in {**settings, **environment}.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        status = main(arguments)
        return Finished(arguments, status, *capfd.readouterr())

    return inside


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Mapping[str, str]], None]:
    """Write source files, by path, into the test's folder."""

    def write(files: Mapping[str, str]) -> None:
        for name, source in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(source).lstrip("\n"), encoding="utf-8")

    return write
