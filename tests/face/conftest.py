"""What the tests of the face share: arrays in both states, and what it is to be NumPy's equal."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.expr import build
from dispatcharr.expr.nodes import Node
from dispatcharr.face import limits

# Modules that tests of this folder share.
sys.path.insert(0, str(Path(__file__).parent))


def is_pending(array: Any) -> bool:
    """Return whether an array of ours has no values yet."""
    return type(array._value) is Node and array._value.value is None


def pending_copy(values: Any) -> Any:
    """Return a pending array with the given values, of any planned dtype."""
    host = numpy.array(values)
    with np.dispatch_options(defer="always"):
        array = np.where(np.ones_like(host, bool), np.array(host), np.array(host))
    return array


def assert_same(ours: Any, numpys: Any) -> None:
    """Check that a result is what NumPy's would be: kind, type, dtype, shape, layout, values."""
    if type(numpys) is numpy.ndarray:
        assert type(ours) is np.ndarray, f"{type(ours)} in the place of an array"
        assert ours.dtype == numpys.dtype
        assert ours.shape == numpys.shape
        assert ours.strides == numpys.strides
        numpy.testing.assert_array_equal(numpy.asarray(ours), numpys, strict=True)
    elif isinstance(numpys, (tuple, list)):
        assert type(ours) is type(numpys)
        assert len(ours) == len(numpys)
        for one, other in zip(ours, numpys, strict=True):
            assert_same(one, other)
    else:
        assert type(ours) is type(numpys)
        if isinstance(numpys, numpy.ndarray):
            numpy.testing.assert_array_equal(ours, numpys)
        elif not (ours != ours and numpys != numpys):
            assert ours == numpys


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """Run ``call``; return its result, or the type and text of what it raised."""
    try:
        return "result", call()
    except Exception as error:
        return "error", (type(error), str(error))


@pytest.fixture(params=["concrete", "pending"])
def make(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Make an array of ours with given values: a concrete one, and a pending one."""
    if request.param == "concrete":
        return lambda values: np.array(numpy.array(values))
    return pending_copy


@pytest.fixture
def always() -> Iterator[None]:
    """Let operations on small arrays wait too, wherever that is sound."""
    with np.dispatch_options(defer="always"):
        yield


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let arrays of 50,000 elements count as large, and no warning filter as somebody waiting."""
    limits.forget()
    monkeypatch.setattr(limits, "limit_of", lambda name, dtype: limits.UNREAD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with build.own_filters():
            yield


@pytest.fixture
def same() -> Callable[[Any, Any], None]:
    return assert_same


@pytest.fixture
def same_outcome() -> Callable[[Callable[[], Any], Callable[[], Any]], None]:
    """Check that two calls give the same result or raise the same error."""

    def check(ours: Callable[[], Any], numpys: Callable[[], Any]) -> None:
        wanted_kind, wanted = outcome(numpys)
        kind, got = outcome(ours)
        assert kind == wanted_kind, f"got {got!r}, NumPy {wanted!r}"
        if kind == "error":
            assert got == wanted
        else:
            assert_same(got, wanted)

    return check


@pytest.fixture
def waits() -> Callable[[Any], bool]:
    return is_pending


@pytest.fixture
def pending() -> Callable[[Any], Any]:
    return pending_copy


@pytest.fixture
def script() -> Callable[..., str]:
    """Run a program in a process of its own; return what it printed."""

    def run(code: str, check: bool = True, **environment: str) -> str:
        made = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        if check:
            assert made.returncode == 0, made.stderr
            return made.stdout
        return made.stdout + made.stderr

    return run
