"""The crew: every task once, on several threads, without the interpreter; alone where that is so.

Kernels here are Python functions, which take the interpreter's lock when they are called: what they
note says who ran what.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy
import pytest

from dispatcharr.kernels import compiled, crew, native
from dispatcharr.kernels.target import architecture
from regions import buffer, job_of, reducing, region, results

if not crew.COMPILED:
    pytest.skip("the crew was not built here", allow_module_level=True)

pytestmark = pytest.mark.timeout(60)
SOON = 20.0
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")


class Noted:
    """A kernel that notes its tables of arguments and its threads."""

    def __init__(self, then: Callable[[int], object] = lambda number: None) -> None:
        self.seen: list[tuple[int, int]] = []
        self.then = then
        self.words = (ctypes.c_int64 * 64)(*range(64))
        self.start = ctypes.addressof(self.words)
        self._kept = _SIGNATURE(self._call)
        self.address = ctypes.cast(self._kept, ctypes.c_void_p).value or 0

    def _call(self, args: int | None, box: int | None) -> None:
        number = ((args or 0) - self.start) // 8
        self.seen.append((number, threading.get_ident()))
        self.then(number)

    def run(self, count: int, threads: int) -> int:
        return crew.run_table(self.address, self.start, 8, count, threads)

    @property
    def numbers(self) -> list[int]:
        return sorted(number for number, _ in self.seen)

    @property
    def threads(self) -> set[int]:
        return {thread for _, thread in self.seen}


def nap(number: int) -> None:
    time.sleep(0.005)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 64])
def test_every_task_runs_once(count: int, threads: int) -> None:
    kernel = Noted()
    assert kernel.run(count, threads) == max(min(count, threads), 1)
    assert kernel.numbers == list(range(count))


def test_helpers_work_beside_the_caller() -> None:
    barrier = threading.Barrier(3, timeout=SOON)
    kernel = Noted(lambda number: barrier.wait())
    kernel.run(3, 3)
    assert len(kernel.threads) == 3
    assert threading.get_ident() in kernel.threads


def test_one_thread_is_the_caller_and_keeps_the_order() -> None:
    kernel = Noted()
    kernel.run(9, 1)
    assert kernel.seen == [(number, threading.get_ident()) for number in range(9)]


def test_whoever_is_free_takes_what_is_left_of_others() -> None:
    others = threading.Semaphore(0)

    def first_is_slow(number: int) -> None:
        if number:
            others.release()
        else:
            for _ in range(15):
                assert others.acquire(timeout=SOON)

    kernel = Noted(first_is_slow)
    kernel.run(16, 2)
    assert kernel.numbers == list(range(16))


def test_a_task_has_all_of_its_boxes() -> None:
    seen: list[int] = []
    kept = _SIGNATURE(lambda args, box: seen.append(box or 0))
    memory = numpy.zeros((6, 4), numpy.int64)
    starts = numpy.array([0, 2, 2, 5, 6], numpy.int64)
    address = ctypes.cast(kept, ctypes.c_void_p).value or 0
    crew.run(address, 0, (memory.ctypes.data, memory.strides[0], starts.ctypes.data, 4), 2)
    assert sorted(seen) == [memory.ctypes.data + 32 * box for box in range(6)]


def test_runs_of_several_threads_at_once_are_all_done() -> None:
    kernels = [Noted(nap) for _ in range(4)]
    errors: list[BaseException] = []

    def often(kernel: Noted) -> None:
        try:
            for _ in range(10):
                kernel.run(4, 2)
        except BaseException as error:
            errors.append(error)

    crowd = [threading.Thread(target=often, args=(kernel,)) for kernel in kernels]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(SOON)
    assert not errors
    for kernel in kernels:
        assert Counter(kernel.numbers) == dict.fromkeys(range(4), 10)


def test_threads_of_the_program_count_among_those_at_work() -> None:
    inside, through = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        inside.set()
        assert through.wait(SOON)

    busy = threading.Thread(target=lambda: Noted(hold).run(1, 1))
    busy.start()
    try:
        assert inside.wait(SOON)
        kernel = Noted(nap)
        assert kernel.run(8, 2) == 1
        assert kernel.threads == {threading.get_ident()}
    finally:
        through.set()
        busy.join(SOON)


def test_a_run_inside_a_task_is_done_by_its_own_thread() -> None:
    inner = Noted()
    outer = Noted(lambda number: inner.run(3, 2))
    outer.run(4, 2)
    assert Counter(inner.numbers) == dict.fromkeys(range(3), 4)


@needs_timer
def test_a_handler_that_raises_ends_the_run_between_tasks() -> None:
    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    steps = ctypes.c_int64(20_000_000)  # some 20 ms
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for threads in (1, 2):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            start = time.perf_counter()
            with pytest.raises(KeyboardInterrupt):
                crew.run_table(crew.PROBE, ctypes.addressof(steps), 0, 5000, threads)
            assert time.perf_counter() - start < SOON
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    kernel = Noted()
    assert kernel.run(8, 2) == 2
    assert kernel.numbers == list(range(8))


def test_nobody_spins_while_the_program_is_idle() -> None:
    for _ in range(50):
        Noted().run(4, 2)
    time.sleep(0.05)
    start = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(
    ("count", "threads", "error"),
    [(-1, 2, ValueError), (1 << 31, 2, ValueError), (4, 0, ValueError), ("4", 2, TypeError)],
)
def test_mistaken_numbers_are_refused(count: Any, threads: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        crew.run_table(crew.PROBE, 0, 0, count, threads)


needs_compiler = pytest.mark.skipif(native.missing() is not None, reason="nothing is compiled here")


def made(*args: Any, **options: Any) -> compiled.Job:
    job = job_of(*args, **options)
    assert isinstance(job, compiled.Job)
    return job


CHAIN = [("multiply", (0, 1)), ("add", (2, 0)), ("subtract", (3, 1))]


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("layout", ["plain", "part", "transposed"])
def test_bits_do_not_depend_on_threads(threads: int, layout: str) -> None:
    shape = (300, 1030)
    inputs = [buffer(shape, "f8", layout, 0), buffer(shape, "f8", "plain", 1)]
    source = region(shape, inputs, CHAIN)
    summed = reducing(source, "sum", (0, 1))
    for each in (source, summed):
        found, wanted = results(each), results(each)
        assert made(each, inputs, wanted).run_all(1)
        job = made(each, inputs, found, pieces=13)
        assert job.run_all(threads)
        job.finish()
        once = made(each, inputs, wanted)
        once.run_all(1)
        once.finish()
        assert all(f.tobytes() == w.tobytes() for f, w in zip(found, wanted, strict=True))


@needs_compiler
def test_errors_met_by_helpers_are_told() -> None:
    shape = (1 << 18,)
    for place in (0, shape[0] - 1):  # in the caller's lane, and in the helper's
        a, b = numpy.ones(shape), numpy.ones(shape)
        b[place] = 0
        source = region(shape, [a, b], [("divide", (0, 1))])
        job = made(source, [a, b], results(source), pieces=8)
        assert job.run_all(2)
        job.finish()
        assert job.errors == {("divide by zero", "divide")}


@needs_compiler
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="numbers of rounding modes")
def test_helpers_round_as_the_caller_does() -> None:
    if architecture() != "x86_64":
        pytest.skip("numbers of rounding modes")
    library = ctypes.CDLL("libm.so.6")
    shape = (1 << 20,)
    a, b = numpy.ones(shape), numpy.full(shape, 3.0)
    source = region(shape, [a, b], [("divide", (0, 1))])
    found = results(source)
    job = made(source, [a, b], found, pieces=64)
    upward = 0x800
    assert library.fesetround(upward) == 0
    try:
        job.run_all(2)
    finally:
        library.fesetround(0)
    assert set(found[0].tolist()) == {numpy.nextafter(1 / 3, 1)}
