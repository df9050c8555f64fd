"""Imports between the parts of the package go down its road only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint_imports(*options: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip(
        "importlinter", reason="import-linter comes with the dev extra; `make layers` runs it too"
    )
    code = "from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_part_imports_from_above() -> None:
    done = lint_imports()
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_import_from_above_is_found(tmp_path: Path) -> None:
    """The contract of the project, with two of its stations swapped, is broken by the package."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    upside_down = text.replace('"kernels",', '"?",').replace('"backends",', '"kernels",')
    upside_down = upside_down.replace('"?",', '"backends",')
    config = tmp_path / "pyproject.toml"
    config.write_text(upside_down)
    done = lint_imports("--config", str(config))
    assert done.returncode == 1
    assert "dispatcharr.backends is not allowed to import dispatcharr.kernels" in done.stdout
