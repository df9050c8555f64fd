"""Statements whose kernel the compiled fast path runs by itself: NumPy's results, every time."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr import _events
from dispatcharr.face import _fastpath, tape
from dispatcharr.kernels import crew, native
from dispatcharr.kernels.build import shared_builder
from dispatcharr.route import profile as profiles
from dispatcharr.storage import readers
from taping import SIZE, planned, same, waits

__all__ = ["planned"]
pytestmark = pytest.mark.skipif(
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


STATEMENTS: dict[str, Callable[[Any, Any], Any]] = {
    "numbers": lambda a, b: 2 * a + 3 * b - a * b,
    "compare": lambda a, b: (a < b) & (a > 1),
    "root": lambda a, b: np.sqrt(a * a + b * b) / 2,
    "one number twice": lambda a, b: (a - 3) * (b + 3) * 3,
    "power": lambda a, b: (a - b) ** 2 + b,
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*[(name, "f8") for name in STATEMENTS], ("numbers", "f4"), ("numbers", "i8"), ("power", "f4")],
)
def test_other_arrays_give_numpys_bits(name: str, dtype: str) -> None:
    statement = STATEMENTS[name]
    _, ours = arrays(dtype)
    settled(statement, *ours)
    for seed in range(1, 6):
        hosts, ours = arrays(dtype, seed)
        same(np.evaluate(statement(*ours)), statement(*hosts))


def test_layouts_and_results_that_names_hold() -> None:
    def statement(a: Any, b: Any) -> Any:
        first = a.T + 1
        kept.append(first)
        return first * b.T

    kept: list[Any] = []
    hosts, ours = arrays(size=(96, 180))
    found = settled(statement, *ours)
    same(found, statement(*hosts))
    same(kept[-2], kept[-1])
    assert found.strides == statement(*hosts).strides


def test_numbers_may_change() -> None:
    def statement(a: Any, b: Any) -> Any:
        return a * number + b

    hosts, ours = arrays()
    number: Any = 1.5
    settled(statement, *ours)
    for other in (2.5, 3, numpy.float64(0.1), -0.0, float("inf")):
        number = other
        same(np.evaluate(statement(*ours)), statement(*hosts))


def reduced(statement: Callable[..., Any], *arrays: Any) -> None:
    for _ in range(60):
        statement(*arrays)
        shared_builder().wait(20.0)
        if any(getattr(getattr(one, "plan", None), "repeat", None) for one in _learned()):
            return
    pytest.fail("it was never run again by itself")


def _learned() -> list[Any]:
    return list(tape._reductions.values())


@pytest.mark.parametrize(
    ("name", "axis", "dtype"),
    [
        ("sum", None, "f8"), ("sum", 1, "f4"), ("mean", 0, "f8"), ("mean", None, "f4"),
        ("min", 1, "f8"), ("max", None, "f4"), ("std", None, "f8"), ("std", 0, "f4"),
    ],
)  # fmt: skip
def test_reductions_of_all_values(name: str, axis: int | None, dtype: str) -> None:
    def statement(a: Any, b: Any) -> Any:
        return getattr(a * b, name)(axis=axis)

    _, ours = arrays(dtype, size=(130, 140))
    reduced(statement, *ours)
    for place, value in [(0, -0.0), (5, numpy.nan), (17, numpy.inf), (3, -numpy.inf), (2, 1e38)]:
        hosts, _ = arrays(dtype, place, (130, 140))
        hosts[0].flat[place] = hosts[0].flat[-place] = value
        ours = [np.array(host) for host in hosts]
        with numpy.errstate(all="ignore"):
            found, wanted = statement(*ours), statement(*hosts)
        assert found.dtype == wanted.dtype
        assert type(found) is (type(wanted) if axis is None else np.ndarray)
        rough = 1e-5 if dtype == "f4" else 1e-13
        numpy.testing.assert_allclose(numpy.asarray(found), wanted, rtol=rough)


def test_sums_have_the_bits_that_they_had_before() -> None:
    _, ours = arrays(size=300_000)

    def statement(a: Any, b: Any) -> Any:
        return (a * b).sum()

    first = statement(*ours)
    reduced(statement, *ours)
    assert {float(statement(*ours)) for _ in range(5)} == {float(first)}


def test_errors_are_told_each_time() -> None:
    def statement(a: Any, b: Any) -> Any:
        return a / b + 1

    with numpy.errstate(divide="warn"):
        tape.notice()
        _, ours = arrays()
        settled(statement, *ours)
        hosts, ours = arrays(seed=1)
        ours[1][7] = hosts[1][7] = 0.0
        told: list[str] = []
        before = warnings.showwarning
        warnings.simplefilter("always", RuntimeWarning)
        try:
            warnings.showwarning = lambda message, *rest: told.append(str(message))
            for _ in range(4):
                found = np.evaluate(statement(*ours))
                assert numpy.isinf(numpy.asarray(found)[7])
        finally:
            warnings.showwarning = before
            warnings.filters.pop(0)
            warnings._filters_mutated()  # type: ignore[attr-defined]
    assert told == ["divide by zero encountered in divide"] * 4


def test_what_the_decision_was_made_on_may_change() -> None:
    def statement(a: Any, b: Any) -> Any:
        return 2 * a + 3 * b - a * b

    hosts, ours = arrays()
    wanted = statement(*hosts)
    settled(statement, *ours)
    with np.record_dispatch() as record:
        same(np.evaluate(statement(*ours)), wanted)
    assert len(record.records) == 1
    with np.dispatch_options(engine="blocks"):
        found = np.evaluate(statement(*ours))
        same(found, wanted)
        assert type(found._origin) is not tuple
    heard: list[Any] = []
    _events.add_process_listener(heard.append)
    try:
        same(np.evaluate(statement(*ours)), wanted)
    finally:
        _events.remove_process_listener(heard.append)
    assert heard
    with profiles.use(profiles.default_profile()):
        assert type(np.evaluate(statement(*ours))._origin) is not tuple
    settled(statement, *ours)


def test_explain_tells_of_it() -> None:
    _, ours = arrays()
    found = settled(lambda a, b: a * b + a, *ours)
    assert "2 operations fused" in str(np.explain(found))


class Entry:
    """What is called in the place of the crew."""

    def __init__(self) -> None:
        self.real = crew.entry
        self.before: Callable[[], None] = lambda: None

    def __call__(self, *args: Any) -> Any:
        before, self.before = self.before, lambda: None
        before()
        return self.real(*args)


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Entry:
    made = Entry()
    monkeypatch.setattr(crew, "entry", made)
    return made


def test_writers_of_other_threads_wait(entry: Entry) -> None:
    def statement(a: Any, b: Any) -> Any:
        return a * b + a

    hosts, ours = arrays()
    settled(statement, *ours)
    done = threading.Event()

    def write() -> None:
        ours[0][:] = 0.0
        done.set()

    writer = threading.Thread(target=write)

    def begin() -> None:
        assert readers.any_pending()
        writer.start()
        assert not done.wait(0.1)

    entry.before = begin
    found = np.evaluate(statement(*ours))
    writer.join(10.0)
    same(found, statement(*hosts))
    assert done.is_set()
    assert not _fastpath.running()
    assert not numpy.asarray(ours[0]).any()


def test_an_interrupt_leaves_everything_as_it_was(entry: Entry) -> None:
    def statement(a: Any, b: Any) -> Any:
        return a * b - a

    hosts, ours = arrays()
    settled(statement, *ours)

    def interrupt() -> None:
        raise KeyboardInterrupt

    entry.before = interrupt
    waiting = statement(*ours)
    with pytest.raises(KeyboardInterrupt):
        np.evaluate(waiting)
    assert not _fastpath.running()
    assert waits(waiting)
    same(np.evaluate(waiting), statement(*hosts))


def test_it_may_be_run_while_it_runs(entry: Entry) -> None:
    def statement(a: Any, b: Any) -> Any:
        return a * b * 2 - a

    hosts, ours = arrays()
    settled(statement, *ours)
    others, more = arrays(seed=5)
    inner: list[Any] = []
    entry.before = lambda: inner.append(np.evaluate(statement(*more)))
    same(np.evaluate(statement(*ours)), statement(*hosts))
    same(inner[0], statement(*others))


def test_what_was_computed_meanwhile_is_left_alone(entry: Entry) -> None:
    def statement(a: Any, b: Any) -> Any:
        return a * b * 3 - a

    hosts, ours = arrays()
    settled(statement, *ours)
    waiting = statement(*ours)
    entry.before = lambda: same(waiting, statement(*hosts))
    same(np.evaluate(waiting), statement(*hosts))


def test_nothing_is_kept_alive() -> None:
    def statement(a: Any, b: Any) -> Any:
        return a * b * 5 - a

    _, ours = arrays()
    settled(statement, *ours)
    hosts, _ = arrays(seed=2)
    value = np.evaluate(statement(*[np.array(host) for host in hosts]))
    del value
    tape._known.clear()
    tape._repeats.clear()
    gc.collect()
    assert not any(type(one) is _fastpath.Repeat for one in gc.get_objects())
