"""Programs that once differed from NumPy, each of them made small by the fuzzer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lockstep import run
from statements import load

FOUND = sorted((Path(__file__).parent / "found").glob("*.txt"))
#: What may differ where there is no compiled fast path: Python before 3.12 lends no buffers.
_LENDING = ("memoryview(", ".data", "frombuffer(", "bytes(")


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])
def test_program(path: Path) -> None:
    from dispatcharr.face import _fastpath

    program = load(path)
    lends = any(word in s.text for s in program.statements for word in _LENDING)
    if lends and not _fastpath.COMPILED and sys.version_info < (3, 12):
        pytest.skip("no buffers are lent here")
    assert run(program) is None


def test_there_are_programs() -> None:
    assert FOUND
