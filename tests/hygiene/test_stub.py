"""What editors and type checkers see of the namespace is what is there."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy
import pytest

import dispatcharr

ROOT = Path(__file__).parents[2]

ANNOTATED_FOR_NUMPY = """\
import numpy
import numpy.typing as npt

import dispatcharr as np
from dispatcharr import linalg, ndarray, random


def rotate(x: npt.NDArray[np.float64], by: np.ndarray[tuple[int], np.dtype[np.int64]]) -> ndarray:
    return np.add(x, np.sin(by)) @ np.linalg.inv(x) * linalg.det(x)


@np.use_backend("serial")
def draw(count: int) -> str:
    y = numpy.asarray(random.default_rng(count).normal(size=count))
    with np.dispatch_options(threads=1, fusion=False), np.record_dispatch() as record:
        np.evaluate(np.sum(y * 2.0, axis=0))
    return str(np.explain(y)) + str(record.table())


text: str = draw(3)
try:
    np.set_backend("auto")
except np.BackendUnavailableError as error:
    print(error)
"""
MISTAKEN = """\
import dispatcharr as np

np.set_backend(3)
np.dispatch_options(thread=2)
np.no_such_name
np.calibrate(quick="yes")
"""


@pytest.fixture(scope="module")
def stubs() -> ModuleType:
    path = ROOT / "tools" / "make_stub.py"
    spec = importlib.util.spec_from_file_location("make_stub", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names_bound(text: str) -> Iterator[str]:
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in statement.names)
        elif isinstance(statement, ast.ClassDef):
            yield statement.name


def test_the_stub_is_what_the_generator_writes_now(stubs: ModuleType) -> None:
    assert stubs.is_current(), "dispatcharr/__init__.pyi is stale: run `make stub`"


def test_an_edited_stub_is_stale(
    stubs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = tmp_path / "__init__.pyi"
    edited.write_text(stubs.STUB.read_text("utf-8").replace("use_backend", "use_backends"))
    monkeypatch.setattr(stubs, "STUB", edited)
    assert not stubs.is_current()


def test_every_name_that_the_stub_lists_is_in_numpys_own(stubs: ModuleType) -> None:
    """Run with the oldest NumPy and with the newest, this holds for all between."""
    assert stubs.listed() - stubs.numpy_names() == set()


def test_names_are_added_by_the_star_and_by_the_list(stubs: ModuleType) -> None:
    text = stubs.STUB.read_text("utf-8")
    assert "\nfrom numpy import *\n" in text
    unlisted = {name for name in dispatcharr.__all__ if not re.match("_[^_]", name)}
    unlisted -= set(names_bound(text))
    # What is newer than the oldest NumPy, or gone from the newest, has the star alone.
    assert unlisted <= set(numpy.__all__)
    assert len(unlisted) < 40
    assert {"linspace", "ndarray", "float64", "linalg", "explain"} <= set(names_bound(text))


def check_types(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy", reason="mypy comes with the dev extra; `make types` runs it too")
    program = folder / "program.py"
    program.write_text(text)
    return subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
            "--allow-any-generics", "--no-warn-return-any", "--config-file", os.devnull,
            "--cache-dir", str(folder.parent / "types"), str(program),
        ],
        cwd=folder, env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_program_annotated_for_numpy_is_checked_as_before(tmp_path: Path) -> None:
    done = check_types(ANNOTATED_FOR_NUMPY, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_in_our_own_names_are_found(tmp_path: Path) -> None:
    done = check_types(MISTAKEN, tmp_path)
    lines = [int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line]
    assert lines == [3, 4, 5, 6], done.stdout + done.stderr
