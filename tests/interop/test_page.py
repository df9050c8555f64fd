"""The page of the neighbours says what the tests here say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labels import PROSE, unfounded

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_written_from_the_tests() -> None:
    """In a process of its own, where stand-ins take the place of the libraries."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "tools" / "make_neighbours.py"), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda p: p.stem
)
def test_a_text_names_what_its_test_calls(path: Path) -> None:
    assert dict(unfounded(path)) == {}


def test_texts_that_name_more_are_found(tmp_path: Path) -> None:
    source = 'works("solve(x), inv", lambda a: solved(a))\ndef solved(a):\n    return solve(a)\n'
    (tmp_path / "test_it.py").write_text(source)
    assert dict(unfounded(tmp_path / "test_it.py")) == {"solve(x), inv": ["inv"]}
    assert "solve" not in PROSE
