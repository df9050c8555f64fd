"""The thread pool inside one process: who runs what, and how threads come and go."""

from __future__ import annotations

import _thread
import contextvars
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable

import pytest

from dispatcharr.kernels import pool as pool_module
from dispatcharr.kernels.pool import Pool, shared_pool, thread_count

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


def shares(pool: Pool, count: int, threads: int | None = None) -> Counter[int]:
    """Return how many indices each thread took of a run of tasks that let others work."""
    taken: list[int] = []

    def task(index: int) -> None:
        taken.append(threading.get_ident())
        time.sleep(0.002)

    pool.run(task, count, threads)
    return Counter(taken)


def assert_all_work(pool: Pool, threads: int) -> None:
    """Fail unless so many threads work at one time."""
    barrier = threading.Barrier(threads, timeout=SOON)
    pool.run(lambda index: barrier.wait() and None, threads)


class Watched:
    """Something that a task holds on to."""


class Elsewhere:
    """A run of ``count`` tasks, on another thread of the program, held inside its tasks."""

    def __init__(self, pool: Pool, count: int) -> None:
        self.pool, self.count = pool, count
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()
        self.thread = threading.Thread(target=pool.run, args=(self.task, count))

    def task(self, index: int) -> None:
        self.entered.release()
        self.release.wait(SOON)

    def __enter__(self) -> Elsewhere:
        self.thread.start()
        for _ in range(self.count):
            assert self.entered.acquire(timeout=SOON)
        return self

    def __exit__(self, *error: object) -> None:
        self.release.set()
        self.thread.join(SOON)
        assert not self.thread.is_alive()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_every_index_runs_once(threads: int, count: int) -> None:
    pool, seen = Pool(threads), []
    for _ in range(3):
        seen.clear()
        pool.run(seen.append, count)
        assert sorted(seen) == list(range(count))


def test_caller_alone_works_in_order() -> None:
    seen: list[int] = []
    Pool(1).run(seen.append, 50)
    assert seen == list(range(50))


@pytest.mark.parametrize("threads", [2, 3, 6])
def test_all_threads_work_at_one_time(threads: int) -> None:
    pool = Pool(threads)
    assert pool.threads == threads
    for _ in range(5):
        assert_all_work(pool, threads)


def test_calling_thread_takes_its_share() -> None:
    assert shares(Pool(2), 20)[threading.get_ident()] >= 1


def test_helpers_start_when_first_needed_and_stay() -> None:
    pool = Pool(3)
    assert "0 helpers" in repr(pool)
    pool.run(lambda index: None, 1)
    assert "0 helpers" in repr(pool)
    assert_all_work(pool, 3)
    for _ in range(20):
        assert_all_work(pool, 3)
    assert "2 helpers" in repr(pool)


def test_one_run_can_be_given_fewer_threads() -> None:
    pool = Pool(4)
    assert_all_work(pool, 4)
    assert set(shares(pool, 8, threads=1)) == {threading.get_ident()}
    assert len(shares(pool, 30, threads=2)) <= 2


@pytest.mark.parametrize("threads", [0, -3])
def test_fewer_threads_than_the_caller_are_refused(threads: int) -> None:
    with pytest.raises(ValueError, match=f"Pool: threads must be at least 1.*got {threads}"):
        Pool(threads)
    with pytest.raises(ValueError, match=f"Pool.run: threads must be at least 1.*got {threads}"):
        Pool(1).run(print, 1, threads=threads)


def test_uneven_work_is_balanced() -> None:
    """While one thread is held in index 0, the other does all the rest."""
    pool, rest = Pool(2), threading.Semaphore(0)

    def task(index: int) -> None:
        if index:
            rest.release()
        else:
            for _ in range(30):
                assert rest.acquire(timeout=SOON)

    pool.run(task, 31)


def test_late_helper_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(2)
    assert_all_work(pool, 2)
    monkeypatch.setattr(pool_module._Helper, "wake_up", lambda helper: None)
    held = Watched()
    pool.run(lambda index, held=held: None, 5)
    reference = weakref.ref(held)
    del held
    assert reference() is None  # though the helper still has to hear of the run
    monkeypatch.undo()
    assert_all_work(pool, 2)  # the call that was lost is not held against the helper


def test_task_that_runs_the_pool_does_so_on_its_own_thread() -> None:
    pool, barrier = Pool(4), threading.Barrier(2, timeout=SOON)
    assert_all_work(pool, 4)
    inner: list[Counter[int]] = []

    def outer(index: int) -> None:
        barrier.wait()  # two threads work, two helpers are free
        inner.append(shares(pool, 10))

    pool.run(outer, 2)
    assert [list(share.values()) for share in inner] == [[10], [10]]
    assert inner[0].keys() != inner[1].keys()


def test_nested_run_raises_into_the_task_around_it() -> None:
    pool, caught = Pool(2), []

    def outer(index: int) -> None:
        try:
            pool.run(lambda i: [][i], 3)
        except IndexError as error:
            caught.append(error)

    pool.run(outer, 4)
    assert len(caught) == 4


def test_helper_that_was_started_twice_is_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = _thread.start_new_thread, []

    def record(body: Callable[..., object], arguments: tuple[object, ...]) -> int:
        started.append(start(body, arguments))
        return started[-1]

    monkeypatch.setattr(_thread, "start_new_thread", record)
    pool = Pool(2)
    assert_all_work(pool, 2)
    pool._crew.helpers[0].started = False  # as an interruption right after the start leaves it
    pool.run(lambda index: None, 2)
    assert len(started) == 2
    assert eventually(lambda: len(pool._crew.helpers[0].owners) == 2)
    assert eventually(lambda: started[1] not in sys._current_frames())
    assert started[0] in sys._current_frames()
    assert_all_work(pool, 2)


def test_many_threads_of_the_program_are_all_served() -> None:
    pool, wrong, workers = Pool(3), [], set()
    together = threading.Barrier(8, timeout=SOON)

    def user(number: int) -> None:
        together.wait()
        for _ in range(150):
            seen: list[int] = []

            def task(index: int, seen: list[int] = seen) -> None:
                seen.append(number + index)
                workers.add(threading.get_ident())

            pool.run(task, 7)
            if sorted(seen) != list(range(number, number + 7)):
                wrong.append(seen)

    users = [threading.Thread(target=user, args=(100 * n,)) for n in range(8)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join(SOON)
        assert not thread.is_alive()
    assert wrong == []
    assert len(workers) <= 8 + 2
    assert_all_work(pool, 3)


def test_busy_helpers_are_done_without() -> None:
    pool = Pool(2)
    with Elsewhere(pool, 2):
        assert set(shares(pool, 5)) == {threading.get_ident()}
    assert_all_work(pool, 2)


def test_no_helper_is_called_when_callers_take_all_places() -> None:
    pool = Pool(2)
    assert_all_work(pool, 2)
    with Elsewhere(pool, 1):  # its helper sleeps, yet two threads are at work with ours
        assert set(shares(pool, 5)) == {threading.get_ident()}
    assert_all_work(pool, 2)


def test_helper_does_not_inherit_the_context_of_who_started_it() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="empty")
    token, seen = variable.set("set by the caller"), {}
    pool, barrier = Pool(2), threading.Barrier(2, timeout=SOON)

    def task(index: int) -> None:
        barrier.wait()
        seen[threading.get_ident()] = variable.get()

    try:
        pool.run(task, 2)
    finally:
        variable.reset(token)
    assert seen.pop(threading.get_ident()) == "set by the caller"
    assert list(seen.values()) == ["empty"]


def test_dropped_pool_ends_its_threads() -> None:
    pool, barrier, names = Pool(3), threading.Barrier(3, timeout=SOON), {}

    def task(index: int) -> None:
        barrier.wait()
        names[threading.get_ident()] = threading.current_thread().name

    pool.run(task, 3)
    del names[threading.get_ident()]
    assert len(names) == 2
    assert all(name.startswith("dispatcharr-") for name in names.values())
    assert names.keys() <= sys._current_frames().keys()
    del pool
    assert eventually(lambda: not names.keys() & sys._current_frames().keys())


@pytest.mark.parametrize("allowed", [0, 1])
def test_system_that_refuses_threads_leaves_the_caller(
    monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    start, tries = _thread.start_new_thread, []

    def refuse(body: Callable[..., object], arguments: tuple[object, ...]) -> int:
        tries.append(body)
        if len(tries) > allowed:
            raise RuntimeError("can't start new thread")
        return start(body, arguments)

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    pool = Pool(4)
    assert pool.unavailable_reason is None
    for _ in range(3):
        seen: list[int] = []
        pool.run(seen.append, 100)
        assert sorted(seen) == list(range(100))
    assert pool.unavailable_reason is not None
    assert "can't start new thread" in pool.unavailable_reason
    assert len(tries) == allowed + 1  # a refusal is taken as final
    assert_all_work(pool, 1 + allowed)


def test_shared_pool_is_one_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_shared", {})
    found: list[Pool] = []
    threads = [threading.Thread(target=lambda: found.append(shared_pool())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert [pool is found[0] for pool in found] == [True] * 4
    assert found[0].threads == thread_count()


def test_shared_pool_obeys_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_shared", {})
    monkeypatch.setenv("DISPATCHARR_NUM_THREADS", "none")
    with pytest.raises(ValueError, match="DISPATCHARR_NUM_THREADS"):
        shared_pool()
    monkeypatch.setenv("DISPATCHARR_NUM_THREADS", "3")
    assert shared_pool().threads == 3


def test_latency_is_reported() -> None:
    """Print what a run costs (see it with ``pytest -s``); how fast it must be is for benchmarks."""
    pool, turn = Pool(2), threading.Lock()
    turn.acquire()

    def handshake(index: int) -> None:
        if index:
            turn.release()
        else:
            turn.acquire()

    for name, task, count in (
        ("caller alone", lambda index: None, 1),
        ("empty tasks", lambda index: None, 2),
        ("both threads, one after the other", handshake, 2),
    ):
        times = []
        for _ in range(300):
            start = time.perf_counter()
            pool.run(task, count)
            times.append(time.perf_counter() - start)
        assert len(times) == 300
        print(f"Pool.run, {name}: {1e6 * sorted(times)[150]:.1f} us")
