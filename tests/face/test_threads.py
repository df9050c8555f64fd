"""Several threads of the program share arrays: each sees what NumPy would have shown it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.storage import readers

WORKERS = 6


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run ``calls`` in threads that begin at the same moment; return what they returned."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        with np.dispatch_options(defer="always"), numpy.errstate(all="ignore"):
            return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(run, c) for c in calls]]


@pytest.mark.parametrize("size", [200, 3000, 60_000])
def test_many_readers_of_one_waiting_array(size: int, always: None) -> None:
    for _ in range(20):
        base = np.array(numpy.arange(float(size)))
        shared = base * 2 + 1
        wanted = numpy.arange(float(size)) * 2 + 1
        results = together(
            lambda a=shared: numpy.array(a),
            lambda a=shared: a + 0,
            lambda a=shared: a[::-1] * 1,
            lambda a=shared: float(a.max()),
            lambda a=shared: np.stack([a, a])[1],
            lambda a=shared: (a * 3).sum() / 3,
        )
        numpy.testing.assert_array_equal(results[0], wanted)
        numpy.testing.assert_array_equal(results[1], wanted)
        numpy.testing.assert_array_equal(results[2], wanted[::-1])
        assert results[3] == wanted.max()
        numpy.testing.assert_array_equal(results[4], wanted)
        assert results[5] == pytest.approx(wanted.sum())


@pytest.mark.parametrize("size", [3000, 60_000])
def test_a_writer_waits_for_what_was_recorded_before(size: int, always: None) -> None:
    for _ in range(20):
        base = np.array(numpy.zeros(size))
        before = [base * 2 + i for i in range(WORKERS)]

        def write(array: Any = base) -> None:
            for _ in range(3):
                array += 1
                array[...] = array * 2

        results = together(write, *[lambda a=a: numpy.array(a) for a in before])
        for i, result in enumerate(results[1:]):
            numpy.testing.assert_array_equal(result, numpy.full(size, float(i)))
        assert float(base[0]) == 14


def test_a_write_waits_for_the_kernel_that_reads(
    always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dispatcharr.backends import serial

    reading, released, written = threading.Event(), threading.Event(), threading.Event()
    real = type(serial.BACKEND).run

    def slow(self: Any, *args: Any) -> Any:
        if threading.current_thread().name == "reader":
            reading.set()
            released.wait(20)
        return real(self, *args)

    monkeypatch.setattr(type(serial.BACKEND), "run", slow)
    base = np.array(numpy.ones(3000))
    waiting = base * 2

    def read() -> None:
        with np.use_backend("serial"):
            numpy.asarray(waiting)

    def write(array: Any = base) -> None:
        array.fill(7)
        written.set()

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    assert reading.wait(20)
    writer = threading.Thread(target=write)
    writer.start()
    assert not written.wait(0.2)
    released.set()
    reader.join(20)
    writer.join(20)
    assert written.is_set()
    assert (waiting == 2).all()
    assert (base == 7).all()


def test_a_write_waits_for_a_kernel_that_another_thread_began_too(
    always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dispatcharr.backends import serial

    began, released = threading.Semaphore(0), threading.Semaphore(0)
    real = type(serial.BACKEND).run

    def slow(self: Any, *args: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            began.release()
            assert released.acquire(timeout=20)
        return real(self, *args)

    monkeypatch.setattr(type(serial.BACKEND), "run", slow)
    base = np.array(numpy.ones(3000))
    waiting = base * 2
    sums: list[float] = []

    def read() -> None:
        with np.use_backend("serial"):
            sums.append(float(waiting.sum()))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
        assert began.acquire(timeout=20)
    released.release()  # one is done, and has stored what waited: nothing is pending any more
    while not sums:
        time.sleep(0.001)
    threading.Timer(0.1, released.release).start()
    base[:] = 0
    for reader in readers:
        reader.join(20)
    assert sums == [6000.0, 6000.0]


def test_threads_with_arrays_of_their_own() -> None:
    def work(seed: int) -> None:
        mine = np.array(numpy.arange(3000.0) + seed)
        theirs = numpy.arange(3000.0) + seed
        for i in range(60):
            view, model = mine[i:], theirs[i:]
            view *= 1.5
            model *= 1.5
            waiting, wanted = mine - view[0], theirs - model[0]
            mine[: i + 1] = waiting[: i + 1]
            theirs[: i + 1] = wanted[: i + 1]
            assert float(waiting.max()) == wanted.max()
        numpy.testing.assert_array_equal(mine, theirs)

    together(*[lambda s=s: work(s) for s in range(WORKERS)])


def test_views_taken_by_several_threads_at_once(always: None) -> None:
    for _ in range(30):
        array = np.array(numpy.arange(3000.0)) + 1

        def take(i: int, array: Any = array) -> Any:
            view = array[i::WORKERS]
            view += 10
            return view

        views = together(*[lambda i=i: take(i) for i in range(WORKERS)])
        numpy.testing.assert_array_equal(array, numpy.arange(3000.0) + 11)
        assert all(np.shares_memory(view, array) for view in views)


def test_names_dropped_while_others_record(always: None) -> None:
    base = np.array(numpy.ones(3000))

    def churn() -> float:
        total = 0.0
        for i in range(300):
            kept = [base * j for j in range(4)]
            total += float(kept[i % 4][0])
        return total

    assert together(*[churn] * WORKERS) == [450.0] * WORKERS


def test_exports_while_others_compute(always: None) -> None:
    array = np.array(numpy.zeros(3000))

    def export() -> None:
        for _ in range(300):
            assert numpy.asarray(array).base is not None

    def compute() -> None:
        for i in range(300):
            assert float((array * 2 + i)[5]) == i

    together(export, compute, export, compute)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_threads_for_a_while(always: None) -> None:
    test_threads_with_arrays_of_their_own()
    for _ in range(20):
        test_many_readers_of_one_waiting_array(3000, None)
        test_a_writer_waits_for_what_was_recorded_before(60_000, None)
        test_names_dropped_while_others_record(None)


def test_forks_carry_waiting_arrays(script: Callable[..., str]) -> None:
    import os

    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    printed = script(
        """
        import os
        import numpy
        import dispatcharr as np

        np.dispatch_options(defer="always")
        x = np.array(numpy.arange(200_000.0))
        numpy.asarray(x * 2)
        y = x + 1
        child = os.fork()
        if child == 0:
            ok = float(y[3]) == 4 and float((y * 2).sum()) > 0
            x += 1
            os._exit(0 if ok and float(x[0]) == 1 else 1)
        _, status = os.waitpid(child, 0)
        x += 1
        print(status, float(y[3]), float(x[0]))
        """
    )
    assert printed == "0 4.0 1.0\n"


def test_worker_processes_get_and_give_arrays(script: Callable[..., str]) -> None:
    printed = script(
        """
        import numpy
        import dispatcharr as np
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing

        if __name__ == "__main__":
            np.dispatch_options(defer="always")
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                made = pool.submit(np.sqrt, np.array(numpy.arange(5.0)) ** 2).result()
                norm = pool.submit(np.linalg.norm, np.ones(4) * 2).result()
            print(type(made) is np.ndarray, made.tolist(), norm)
        """
    )
    assert printed == "True [0.0, 1.0, 2.0, 3.0, 4.0] 4.0\n"


def test_a_value_is_seen_once_those_who_wait_to_read_it_can_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else another thread that sees it writes to it, and finds nobody to be computed before."""
    filed, is_hidden = readers.Reader.file, []
    with np.dispatch_options(defer="always"):
        x = np.array(numpy.arange(50_000.0)) * 2
        later = x + 1
        node = x._value

        def file(self: Any, roots: tuple[int, ...]) -> None:
            filed(self, roots)
            is_hidden.append(node.value is None)

        monkeypatch.setattr(readers.Reader, "file", file)
        np.evaluate(x)
        assert is_hidden == [True]
        x.fill(7.0)
        assert later[3] == 7.0
        assert x[3] == 7.0
