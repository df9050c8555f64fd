"""What others learn of our arrays: of what class they are, and when a library has arrived."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import neighbours
from dispatcharr.face.arrivals import await_module
from dispatcharr.face.believed import FUNCTIONS

ASKING = """
def aslinearoperator(x):
    return isinstance(x, kind), any([isinstance(v, kind) for v in [x]])
def another(x):
    return isinstance(x, kind)
"""


def test_a_function_that_is_known_to_take_numpys_alone_takes_ours() -> None:
    space: dict[str, Any] = {"__name__": "scipy.sparse.linalg._interface", "kind": numpy.ndarray}
    exec(ASKING, space)
    assert space["aslinearoperator"](np.ones(2)) == (True, True)
    assert not space["another"](np.ones(2))
    assert not space["aslinearoperator"]([1.0])[0]


def test_everybody_else_learns_the_truth() -> None:
    x = np.ones(2)
    assert x.__class__ is np.ndarray
    assert not isinstance(x, numpy.ndarray)
    assert isinstance(x, np.ndarray)
    assert "scipy.sparse.linalg._interface" in FUNCTIONS
    with pytest.raises((TypeError, AttributeError)):
        x.__class__ = int
    exec("found = isinstance(x, kind)", space := {"x": x, "kind": numpy.ndarray})
    assert space["found"] is False


def test_arrival_is_told_once_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "arriving_late.py").write_text("value = 7\n")
    told: list[str] = []
    before = list(sys.meta_path)
    await_module("arriving_late", lambda: told.append("arrived"))
    assert importlib.util.find_spec("arriving_late") is not None
    assert importlib.util.find_spec("never_arriving") is None
    assert told == []
    made = importlib.import_module("arriving_late")
    assert (made.value, told, sys.meta_path) == (7, ["arrived"], before)
    assert "dispatcharr" not in type(made.__loader__).__module__
    assert made.__spec__ is not None
    assert made.__spec__.loader is made.__loader__
    importlib.reload(made)
    assert told == ["arrived"]
    del sys.modules["arriving_late"]


def test_a_library_that_cannot_be_told_is_imported_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise AttributeError("it has another name now")

    monkeypatch.setitem(neighbours._untold, "some_library", fail)
    with pytest.warns(RuntimeWarning, match=r"some_library could not be told.*numpy\.asarray\(x\)"):
        neighbours._arrived("some_library", fail)
