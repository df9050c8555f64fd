"""Statements whose kernel the compiled fast path runs by itself: NumPy's results, every time."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr import _config, _events
from dispatcharr.backends import registry
from dispatcharr.face import _fastpath, repeats, tape
from dispatcharr.kernels import crew, pool
from dispatcharr.route import profile as profiles
from dispatcharr.route import standing
from dispatcharr.storage import readers
from repeating import (
    Entry,
    arrays,
    entry,
    hearing,
    kernels_for_nothing,
    only_where_repeated,
    settled,
)
from taping import planned, same, waits

__all__ = ["entry", "kernels_for_nothing", "planned"]
pytestmark = only_where_repeated


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


def test_errors_are_told_each_time() -> None:
    def statement(a: Any, b: Any) -> Any:
        return a / b + 1

    with numpy.errstate(divide="warn"):
        tape.notice()
        _, ours = arrays()
        settled(statement, *ours)
        hosts, ours = arrays(seed=1)
        ours[1][7] = hosts[1][7] = 0.0
        with hearing() as told:
            for _ in range(4):
                found = np.evaluate(statement(*ours))
                assert numpy.isinf(numpy.asarray(found)[7])
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


def test_options_set_by_another_thread_while_a_kernel_runs_are_heeded() -> None:
    def statement(a: Any, b: Any) -> Any:
        return a * b * 7 - a

    def change() -> None:
        for one in list(tape._known.values()):
            if getattr(one, "repeat", None) is not None:
                one.repeat.left = 0  # the next run decides anew

    _, ours = arrays()
    settled(statement, *ours)
    change()
    real, before = standing.settled, _config._process

    def late(*args: Any) -> Any:
        found = real(*args)
        _config._process = replace(before)
        return found

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(standing, "settled", late)
            np.evaluate(statement(*ours))
        assert type(np.evaluate(statement(*ours))._origin) is not tuple
    finally:
        _config._process = before


@pytest.mark.skipif(pool.thread_count() < 2, reason="there is one thread")
def test_it_runs_on_as_many_threads_as_are_allowed_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def statement(a: Any, b: Any) -> Any:
        return a * b * 9 - a

    used: list[int] = []
    real = crew.entry
    monkeypatch.setattr(crew, "entry", lambda *args: used.append(args[-1]) or real(*args))
    monkeypatch.setattr(type(registry.backend("threads")), "width", lambda self, threads: threads)
    _, ours = arrays(size=500_000)
    for threads in (4, 2, 3):
        with np.dispatch_options(threads=threads):
            settled(statement, *ours)
        assert used[-1] == threads


def test_explain_tells_of_it() -> None:
    _, ours = arrays()
    found = settled(lambda a, b: a * b + a, *ours)
    assert "2 operations fused" in str(np.explain(found))


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


def test_writers_wait_too_while_python_looks_at_what_was_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    end = repeats.Replayed._end

    def noted(self: Any, *args: Any) -> Any:
        read.append(len(_fastpath.running()))
        return end(self, *args)

    def statement(a: Any, b: Any) -> Any:
        return a / b + 7

    monkeypatch.setattr(repeats.Replayed, "_end", noted)
    with numpy.errstate(divide="warn"):
        tape.notice()
        hosts, ours = arrays()
        settled(statement, *ours)
        ours[1][7] = hosts[1][7] = 0.0
        with hearing() as told:
            found = np.evaluate(statement(*ours))
        with numpy.errstate(divide="ignore"):
            same(found, statement(*hosts))
    assert read == [1] and len(told) == 1


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
