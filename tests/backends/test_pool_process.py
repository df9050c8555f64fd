"""The thread pool and its process: signals, forks and the end of the interpreter."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dispatcharr
from dispatcharr.kernels.pool import Pool, shared_pool

pytestmark = pytest.mark.timeout(60)
SOON = 20  # seconds: what must happen at all, on a busy machine too
ROOT = Path(dispatcharr.__file__).parents[1]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
needs_kill = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="the platform cannot signal a thread"
)

PREAMBLE = """
import os, signal, sys, threading, time
from dispatcharr.kernels.pool import Pool, shared_pool
SOON = 20
def assert_all_work(pool, threads):
    barrier = threading.Barrier(threads, timeout=SOON)
    pool.run(lambda index: barrier.wait() and None, threads)
"""


def run_program(program: str, returncode: int = 0) -> str:
    """Run a program of its own; return what it printed. It must not complain."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert (done.returncode, done.stderr) == (returncode, "")
    return done.stdout


def assert_all_work(pool: Pool, threads: int) -> None:
    """Fail unless so many threads work at one time."""
    barrier = threading.Barrier(threads, timeout=SOON)
    pool.run(lambda index: barrier.wait() and None, threads)


@contextlib.contextmanager
def forks_allowed() -> Iterator[None]:
    """Let the tests fork beside running threads, which Python 3.12 and newer warn about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def exit_code_of_child(child: Callable[[], None]) -> int:
    """Fork, run ``child`` there, and return 0 if it returned (1: it raised, -14: it hung)."""
    with forks_allowed():
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SOON)
            child()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def busy(pool: Pool, threads: int) -> Iterator[None]:
    """Have ``threads`` threads, none of them this one, inside tasks of the pool."""
    entered, release = threading.Semaphore(0), threading.Event()

    def task(index: int) -> None:
        entered.release()
        release.wait(SOON)

    caller = threading.Thread(target=pool.run, args=(task, threads))
    caller.start()
    try:
        for _ in range(threads):
            assert entered.acquire(timeout=SOON)
        yield
    finally:
        release.set()
        caller.join(SOON)
        assert not caller.is_alive()


@needs_kill
def test_interrupt_in_a_task_stops_the_run_and_spares_the_pool() -> None:
    printed = run_program(
        """
        pool, started, ended, main = Pool(2), [], [], threading.get_ident()
        both = threading.Barrier(2, timeout=SOON)
        def task(index):
            started.append(index)
            if index < 2:
                both.wait()
            if threading.get_ident() == main:
                signal.pthread_kill(main, signal.SIGINT)
                time.sleep(SOON)
            else:
                time.sleep(0.2)
                ended.append(index)
        try:
            pool.run(task, 1000)
        except KeyboardInterrupt:
            print("interrupted", len(started), len(ended))
        assert_all_work(pool, 2)
        """
    )
    assert printed == "interrupted 2 1\n"


@needs_kill
def test_interrupts_while_waiting_wait_on_and_are_raised_then() -> None:
    printed = run_program(
        """
        pool, ended, main = Pool(2), [], threading.get_ident()
        both = threading.Barrier(2, timeout=SOON)
        def task(index):
            both.wait()
            if threading.get_ident() != main:
                for _ in range(3):
                    time.sleep(0.1)
                    signal.pthread_kill(main, signal.SIGINT)
                time.sleep(0.1)
                ended.append(index)
        try:
            pool.run(task, 2)
        except KeyboardInterrupt:
            print("interrupted", len(ended))
        assert_all_work(pool, 2)
        """
    )
    assert printed == "interrupted 1\n"


@needs_kill
def test_interrupt_comes_before_a_failed_task() -> None:
    printed = run_program(
        """
        pool, main = Pool(2), threading.get_ident()
        both = threading.Barrier(2, timeout=SOON)
        def task(index):
            both.wait()
            if threading.get_ident() != main:
                time.sleep(0.1)
                signal.pthread_kill(main, signal.SIGINT)
                time.sleep(0.1)
                raise ValueError("of the task")
        try:
            pool.run(task, 2)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert printed == "interrupted\n"


@needs_kill
def test_interrupts_at_any_moment_leave_the_pool_whole() -> None:
    """Signals strike at hundreds of random places of a run; nothing hangs and nothing is lost."""
    printed = run_program(
        """
        import random
        class Strike(Exception):
            pass
        armed = False
        def handler(number, frame):
            if armed:
                raise Strike
        signal.signal(signal.SIGALRM, handler)
        pool, running, strikes, random = Pool(3), [], 0, random.Random(7)
        def task(index):
            running.append(index)
            sum(range(50))
            running.pop()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 4e-4))
            try:
                armed = True
                for _ in range(100):
                    pool.run(task, 6)
            except Strike:
                strikes += 1
            finally:
                armed = False
            running.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert strikes > 100, strikes
        assert not pool._crew.inside - {threading.get_ident()}
        for _ in range(3):
            assert_all_work(pool, 3)
        print("whole")
        """
    )
    assert printed == "whole\n"


def test_signal_handler_may_run_the_pool_that_it_interrupts() -> None:
    printed = run_program(
        """
        pool, seen, main = Pool(2), [], threading.get_ident()
        both = threading.Barrier(2, timeout=SOON)
        signal.signal(signal.SIGINT, lambda number, frame: pool.run(seen.append, 3))
        def task(index):
            both.wait()
            if threading.get_ident() == main:
                signal.raise_signal(signal.SIGINT)
        pool.run(task, 2)
        print(sorted(seen))
        """
    )
    assert printed == "[0, 1, 2]\n"


@pytest.mark.parametrize(
    "before", ["", "shared_pool().run(print, 0)", "assert_all_work(Pool(3), 3)"]
)
def test_idle_pool_does_not_hold_up_the_exit(before: str) -> None:
    assert run_program(f"{before}\nprint('end')") == "end\n"


def test_exit_in_the_middle_of_a_run_neither_hangs_nor_prints() -> None:
    printed = run_program(
        """
        pool, both = Pool(2), threading.Barrier(3, timeout=SOON)
        def task(index):
            if index < 2:
                both.wait()
            sum(range(20_000))
        threading.Thread(target=pool.run, args=(task, 1_000_000), daemon=True).start()
        both.wait()
        print("end")
        """
    )
    assert printed == "end\n"


def test_pool_works_in_other_threads_and_exit_functions_after_the_main_thread() -> None:
    printed = run_program(
        """
        import atexit
        pool = Pool(2)
        assert_all_work(pool, 2)
        def late(message):
            seen = []
            pool.run(seen.append, 100)
            print(message, len(seen))
        def other():
            time.sleep(0.1)
            assert_all_work(pool, 2)
            late("thread")
        atexit.register(late, "exit")
        threading.Thread(target=other).start()
        """
    )
    assert printed == "thread 100\nexit 100\n"


def test_first_run_at_exit_is_done_by_the_caller_if_need_be() -> None:
    printed = run_program(
        """
        import atexit
        seen = []
        atexit.register(lambda: (shared_pool().run(seen.append, 100), print(len(seen))))
        """
    )
    assert printed == "100\n"


def test_stack_that_no_thread_can_have_leaves_the_caller() -> None:
    printed = run_program(
        """
        threading.stack_size(1 << 46)
        pool, seen = Pool(2), []
        pool.run(seen.append, 10)
        print(len(seen), pool.unavailable_reason)
        """
    )
    assert printed.startswith("10 the system refused thread dispatcharr-1: can't start new thread")


@needs_fork
def test_forked_child_has_a_pool_of_its_own() -> None:
    shared, own = shared_pool(), Pool(2)
    assert_all_work(own, 2)

    def child() -> None:
        assert shared_pool() is not shared
        assert shared_pool() is shared_pool()
        assert own._crew.helpers == []
        assert_all_work(own, 2)

    assert exit_code_of_child(child) == 0
    assert_all_work(own, 2)
    assert shared_pool() is shared


@needs_fork
def test_fork_while_other_threads_are_inside_a_run() -> None:
    pool = Pool(3)
    with busy(pool, 3):
        assert exit_code_of_child(lambda: assert_all_work(pool, 3)) == 0
    assert_all_work(pool, 3)


@needs_fork
def test_fork_at_any_moment_of_other_threads_runs() -> None:
    pool, stop = Pool(2), threading.Event()

    def use() -> None:
        while not stop.is_set():
            pool.run(lambda index: None, 4)

    user = threading.Thread(target=use)
    user.start()
    try:
        for _ in range(20):
            assert exit_code_of_child(lambda: assert_all_work(pool, 2)) == 0
    finally:
        stop.set()
        user.join(SOON)


@needs_fork
def test_child_knows_that_the_run_it_was_forked_in_cannot_be_finished() -> None:
    pool, caller, children = Pool(2), threading.get_ident(), []
    entered, release = threading.Event(), threading.Event()

    def task(index: int) -> None:
        if threading.get_ident() != caller:
            entered.set()
            assert release.wait(SOON)
        else:
            assert entered.wait(SOON)
            with forks_allowed():
                children.append(os.fork())
            if children[0]:
                release.set()
            else:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(SOON)

    code = 1
    try:
        pool.run(task, 2)
    except RuntimeError as error:
        assert "forked inside a task" in str(error)
        assert children == [0]
        assert_all_work(pool, 2)
        code = 0
    finally:
        if children == [0]:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert_all_work(pool, 2)


def sum_with_the_shared_pool(count: int) -> int:
    seen: list[int] = []
    shared_pool().run(seen.append, count)
    assert_all_work(Pool(2), 2)
    return sum(seen)


@needs_fork
def test_multiprocessing_by_fork_while_the_pool_is_busy() -> None:
    fork = multiprocessing.get_context("fork")
    with busy(shared_pool(), 1), forks_allowed(), fork.Pool(2) as processes:
        sums = processes.map_async(sum_with_the_shared_pool, [10, 100, 1000]).get(SOON)
    assert sums == [45, 4950, 499500]
