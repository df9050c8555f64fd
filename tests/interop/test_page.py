"""The page of the neighbours says what the tests here say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_written_from_the_tests() -> None:
    """In a process of its own, where stand-ins take the place of the libraries."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "tools" / "make_neighbours.py"), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
