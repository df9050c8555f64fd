"""What tests of repeated statements share: having their kernels run by themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import _fastpath, tape
from dispatcharr.kernels import crew, native
from dispatcharr.kernels.build import shared_builder
from dispatcharr.route import profile as profiles
from taping import SIZE

__all__ = [
    "Entry",
    "arrays",
    "entry",
    "kernels_for_nothing",
    "only_where_repeated",
    "reduced",
    "settled",
]

only_where_repeated = pytest.mark.skipif(
    not (_fastpath.COMPILED and crew.COMPILED) or native.missing() is not None,
    reason="nothing runs again by itself here",
)


@pytest.fixture(autouse=True)
def kernels_for_nothing() -> Iterator[None]:
    """Have kernels built at once, and used however short they are."""
    shipped = profiles.default_profile()
    costs = {**shipped.overhead, "compile": 1e-9, "load": 1e-9, "call": 1e-3}
    tape._known.clear()
    tape._repeats.clear()
    tape._reductions.clear()
    with profiles.use(replace(shipped, overhead=costs)):
        yield


def settled(statement: Callable[..., Any], *arrays: Any) -> Any:
    """Run a statement until nothing but its kernel is run; return the result of that."""
    found: Any = None
    for _ in range(60):
        found = np.evaluate(statement(*arrays))
        if type(found._origin) is tuple:
            return found
        shared_builder().wait(20.0)
    pytest.fail("it was never run again by itself")


def arrays(dtype: str = "f8", seed: int = 0, size: Any = SIZE) -> tuple[list[Any], list[Any]]:
    random = numpy.random.default_rng(seed)
    hosts = [random.uniform(0.5, 4.0, size).astype(dtype) for _ in range(2)]
    return hosts, [np.array(host) for host in hosts]


def reduced(statement: Callable[..., Any], *arrays: Any) -> None:
    for _ in range(60):
        statement(*arrays)
        shared_builder().wait(20.0)
        if any(getattr(getattr(one, "plan", None), "repeat", None) for one in _learned()):
            return
    pytest.fail("it was never run again by itself")


def _learned() -> list[Any]:
    return list(tape._reductions.values())


class Entry:
    """What is called in the place of the crew."""

    def __init__(self) -> None:
        self.real = crew.entry
        self.before: Callable[[], None] = lambda: None
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        before, self.before = self.before, lambda: None
        before()
        return self.real(*args)


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Entry:
    made = Entry()
    monkeypatch.setattr(crew, "entry", made)
    return made


@contextmanager
def hearing() -> Iterator[list[str]]:
    """Hear warnings, which may come later than their operations: the filters are the program's."""
    told: list[str] = []
    before = warnings.showwarning
    warnings.simplefilter("always", RuntimeWarning)
    try:
        warnings.showwarning = lambda message, *rest: told.append(str(message))
        yield told
    finally:
        warnings.showwarning = before
        warnings.filters.pop(0)
        warnings._filters_mutated()  # type: ignore[attr-defined]
