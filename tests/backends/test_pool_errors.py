"""What becomes of errors in tasks, and what a run leaves behind."""

from __future__ import annotations

import threading
import time
import traceback
import weakref
from collections.abc import Callable

import pytest

from dispatcharr.kernels import pool as pool_module
from dispatcharr.kernels.pool import Pool

pytestmark = pytest.mark.timeout(60)
SOON = 20  # seconds: what must happen at all, on a busy machine too


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for what other threads are about to bring about."""
    end = time.monotonic() + SOON
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def assert_all_work(pool: Pool, threads: int) -> None:
    """Fail unless so many threads work at one time."""
    barrier = threading.Barrier(threads, timeout=SOON)
    pool.run(lambda index: barrier.wait() and None, threads)


class Watched:
    """Something that a task holds on to."""


def test_error_is_raised_with_the_task_in_its_traceback() -> None:
    def failing(index: int) -> None:
        if index == 3:
            raise LookupError("index three")

    with pytest.raises(LookupError, match="index three") as caught:
        Pool(2).run(failing, 4)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "failing"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_error_of_a_helper_reaches_the_caller(kind: type[BaseException]) -> None:
    pool, caller, barrier = Pool(2), threading.get_ident(), threading.Barrier(2, timeout=SOON)

    def task(index: int) -> None:
        barrier.wait()
        if threading.get_ident() != caller:
            raise kind("from a helper")

    with pytest.raises(kind, match="from a helper"):
        pool.run(task, 2)
    assert_all_work(pool, 2)


def test_indices_after_an_error_are_abandoned_and_running_tasks_end() -> None:
    pool, ended = Pool(2), []
    barrier = threading.Barrier(2, timeout=SOON)

    def task(index: int) -> None:
        if index < 2:
            barrier.wait()
        if index == 0:
            raise ValueError("zero")
        time.sleep(0.1)
        ended.append(index)

    with pytest.raises(ValueError, match="zero"):
        pool.run(task, 1000)
    assert ended == [1]
    assert_all_work(pool, 2)


def test_of_several_errors_the_one_that_a_loop_would_meet_first_is_raised() -> None:
    pool, later_failed = Pool(2), threading.Event()

    def task(index: int) -> None:
        if index == 0:
            assert later_failed.wait(SOON)
            time.sleep(0.01)
            raise ValueError("lower")
        later_failed.set()
        raise TypeError("higher")

    for _ in range(5):
        later_failed.clear()
        with pytest.raises(ValueError, match="lower"):
            pool.run(task, 2)


def test_exit_asked_for_by_a_task_comes_before_an_error() -> None:
    pool, higher_failed = Pool(2), threading.Event()

    def task(index: int) -> None:
        if index == 0:
            assert higher_failed.wait(SOON)
            time.sleep(0.01)
            raise ValueError("lower")
        higher_failed.set()
        raise SystemExit("higher")

    with pytest.raises(SystemExit, match="higher"):
        pool.run(task, 2)


def test_interruption_between_tasks_lets_running_tasks_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, caller, work = Pool(2), threading.get_ident(), pool_module._Run.work
    assert_all_work(pool, 2)
    entered, ended = threading.Event(), []

    def interrupted(run: pool_module._Run) -> None:
        if threading.get_ident() != caller:
            work(run)
            return
        for helper in run.asleep:
            helper.wake_up()
        assert entered.wait(SOON)
        raise KeyboardInterrupt

    def task(index: int) -> None:
        entered.set()
        time.sleep(0.1)
        ended.append(index)

    monkeypatch.setattr(pool_module._Run, "work", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.run(task, 1000)
    assert ended == [0]
    monkeypatch.undo()
    assert_all_work(pool, 2)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_run_is_kept_alive(fails: bool) -> None:
    pool = Pool(2)

    def use() -> weakref.ref[Watched]:
        watched, barrier = Watched(), threading.Barrier(2, timeout=SOON)

        def task(index: int, held: Watched = watched) -> None:
            barrier.wait()
            if fails:
                raise ValueError

        try:
            pool.run(task, 2)
        except ValueError:
            assert fails
        return weakref.ref(watched)

    reference = use()
    assert eventually(lambda: reference() is None)  # no collection of cycles is asked for
