"""What others learn of our arrays: of what class they are, and when a library has arrived."""

from __future__ import annotations

import _thread
import copy
import importlib
import importlib.machinery
import importlib.util
import operator
import pickle
import sys
import time
import types
import warnings
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


def test_two_may_await_the_same_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where this package is loaded anew; and what becomes of the finders is others' affair."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "awaited_twice.py").write_text("value = 7\n")
    told: list[str] = []
    before = list(sys.meta_path)
    await_module("awaited_twice", lambda: told.append("first"))
    await_module("awaited_twice", lambda: told.append("second"))
    spec = importlib.util.find_spec("awaited_twice")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.meta_path[:] = before
    spec.loader.exec_module(made)
    assert (made.value, sorted(told)) == (7, ["first", "second"])


def test_what_is_found_by_one_who_waits_is_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "awaited_lazily.py").write_text("value = 7\n")
    (tmp_path / "awaited_space").mkdir()
    told: list[str] = []
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("awaited_lazily", "awaited_space"):
        await_module(name, lambda: told.append("arrived"))
    assert importlib.import_module("awaited_space").__spec__ is not None
    spec = importlib.util.find_spec("awaited_lazily")
    assert spec is not None
    assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)
    assert type(copy.deepcopy(spec).loader) is importlib.machinery.SourceFileLoader
    assert pickle.loads(pickle.dumps(spec)).origin == spec.origin
    spec.loader = importlib.util.LazyLoader(spec.loader)
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "awaited_lazily", made)
    spec.loader.exec_module(made)
    monkeypatch.setitem(neighbours._untold, "awaited_lazily", lambda: told.append("met"))
    neighbours.meet()
    assert told == []
    assert (made.value, told) == (7, ["arrived"])
    neighbours.meet()
    assert told == ["arrived", "met"]


@pytest.mark.parametrize("stub", [types.SimpleNamespace(), None, types.ModuleType("a_stub")])
def test_a_stand_in_for_a_library_does_no_harm(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a_stub", stub)
    monkeypatch.setattr(neighbours, "_untellable", set())
    monkeypatch.setitem(neighbours._untold, "a_stub", lambda: stub.what_it_lacks)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        neighbours.meet()
        neighbours.meet()
    assert len(warned) == int(isinstance(stub, types.ModuleType))


def test_a_library_that_cannot_be_told_is_imported_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise AttributeError("it has another name now")

    monkeypatch.setattr(neighbours, "_untellable", set())
    monkeypatch.setitem(neighbours._untold, "some_library", fail)
    with pytest.warns(RuntimeWarning, match=r"some_library could not be told.*numpy\.asarray\(x\)"):
        neighbours._arrived("some_library", fail)


@pytest.mark.parametrize(
    "ask",
    [
        memoryview,
        operator.attrgetter("data"),
        operator.methodcaller("to_numpy"),
        operator.methodcaller("__array_namespace__"),
        operator.methodcaller("__array_function__", numpy.sort, (np.ndarray,), (np.ones(3),), {}),
    ],
)
def test_a_thread_without_a_frame_may_ask(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at who asks finds nobody there."""
    for library in ("netCDF4", "pandas", "torch"):
        monkeypatch.setitem(sys.modules, library, types.ModuleType(library))
    found: list[Any] = []
    _thread.start_new_thread(found.extend, (map(ask, [np.ones(3)]),))
    until = time.monotonic() + 10
    while not found and time.monotonic() < until:
        time.sleep(0.001)
    assert len(found) == 1
