"""The thread pool: indices of one run, shared out between the calling thread and sleeping helpers.

Policy, once:

- The calling thread always works. Helpers are a bonus: a run never waits for a helper that has not
  yet taken an index, so a late or missing helper costs nothing but its help. Whoever is free takes
  the next index, hence uneven work is balanced.
- A run calls helpers only for the places, of ``threads``, that no other thread at work in the pool
  has taken. Where many threads of the program call :meth:`Pool.run` at once, each does its own
  work. A task that calls :meth:`Pool.run` of its own pool does the inner run on its own thread.
- Nobody spins: between runs helpers sleep in a lock (spinning was measured: it starves the others
  of the interpreter lock; compiled kernels have threads of their own, :mod:`.crew`). A task never
  calls BLAS (matrix products go to NumPy as a whole, from the calling thread), so pool threads and
  BLAS threads never compete for the CPUs.
- Helpers are daemon threads with an empty context (:mod:`contextvars`): an interpreter never waits
  for them at exit, and tasks get all they need by closure.
- A failed task ends the handing out of indices. Running tasks end, then the error that a plain loop
  would have met first is raised: lower indices were all handed out before, so it is known. What is
  not an :class:`Exception`, and what is raised in the calling thread from outside a task
  (KeyboardInterrupt is both), comes first.
- A forked child starts afresh, without helpers, wherever the parent's threads were.

The calling thread may be interrupted, or reentered by a signal handler or a finaliser, between any
two operations. So it holds no lock, and the one thing that it must give back, its place among those
at work, it gives back first thing in a ``finally``. All that threads share is changed by single
operations of built-in types (``list.append``, ``list.pop``, ``set.add``, a slot), which are atomic
with and without the global interpreter lock. A helper that is called by two runs at once serves one
of them; a stale call wakes it for nothing.
"""

from __future__ import annotations

import _thread
import os
import threading
import weakref
from collections.abc import Callable

from dispatcharr.kernels.cpus import cpu_count, thread_count

__all__ = ["Pool", "cpu_count", "shared_pool", "thread_count"]

# Helpers that each thread of a run wakes before it works. Waking one takes the waker 5 to 10 us,
# with the interpreter lock held, so the calling thread leaves most of it to those whom it woke.
_WAKES = 2
_FORKED = (
    "Pool.run: the process was forked inside a task, and what other threads were doing for this "
    "run is lost in the child; do not fork in a task"
)


class _Share:
    """What one helper does for one run; the lock is free once it is done."""

    __slots__ = ("done", "lock")

    def __init__(self) -> None:
        self.done = False
        self.lock = threading.Lock()
        self.lock.acquire()

    def end(self) -> None:
        self.done = True  # before the release: whoever is woken looks here
        self.lock.release()


class _Run:
    """One call of :meth:`Pool.run`."""

    __slots__ = ("asleep", "crew", "errors", "indices", "over", "shares", "task")

    def __init__(self, crew: _Crew, task: Callable[[int], None], count: int) -> None:
        self.crew = crew
        self.task = task
        # Popped from the end. A list costs less than any one call of a task, and its pop is atomic.
        self.indices = list(range(count - 1, -1, -1))
        self.asleep: list[_Helper] = []
        self.shares: list[_Share] = []
        self.errors: list[tuple[int, BaseException]] = []
        self.over = False

    def work(self) -> None:
        """Wake a few helpers, then take indices and run them until none is left."""
        for _ in range(_WAKES):
            try:
                self.asleep.pop().wake_up()
            except IndexError:
                break
        task, take = self.task, self.indices.pop
        while True:
            try:
                index = take()  # a failing pop, not a look at the length: it is what orders memory
            except IndexError:
                return
            try:
                task(index)
            except BaseException as error:  # raised by the caller, see first_error
                self.fail(error, index)

    def fail(self, error: BaseException, index: int = -1) -> None:
        """Hand out no more indices and keep ``error``; index -1: it came from outside a task."""
        self.indices.clear()
        self.errors.append((index, error))

    def join(self) -> _Share | None:
        """Enter a helper, before it takes an index; None when it comes too late."""
        if not self.indices:
            return None
        share = _Share()
        self.shares.append(share)
        return share

    def settle(self) -> None:
        """Wait, interrupted or not, until no helper runs a task of this run."""
        while True:
            try:
                self._wait()
                return
            except BaseException as error:  # helpers still use the task's memory: raised later
                self.fail(error)

    def _wait(self) -> None:
        # A helper takes an index only after it has joined, and the caller comes here only after it
        # found no index left: so every helper to wait for has joined by now.
        for share in self.shares.copy():
            while not share.done:
                if self.crew.dismissed:
                    self.fail(RuntimeError(_FORKED))
                    break
                share.lock.acquire()

    def first_error(self) -> BaseException:
        """Return the error to raise; keep none, since their tracebacks lead back to this run."""
        errors = self.errors.copy()
        self.errors.clear()
        return min(errors, key=lambda item: (isinstance(item[1], Exception), item[0]))[1]


def _nothing(index: int) -> None:
    """Stand in for the task of a run that is over."""


class _Helper:
    """One worker thread, asleep in ``wake`` when it has nothing to do."""

    __slots__ = ("busy", "owners", "run", "started", "wake")

    def __init__(self) -> None:
        self.run: _Run | None = None
        self.busy = False
        self.started = False
        self.owners: list[int] = []
        self.wake = threading.Lock()
        self.wake.acquire()

    def idle(self) -> bool:
        run = self.run
        return not self.busy and (run is None or run.over)

    def wake_up(self) -> None:
        try:
            self.wake.release()
        except RuntimeError:  # not asleep: another run called it just now; it finds the latest call
            return

    def serve(self, crew: _Crew, name: str) -> None:
        """Be the body of the thread."""
        inside, me = crew.inside, threading.get_ident()
        self.owners.append(me)
        if self.owners[0] != me:  # two runs started this helper at once, or one was interrupted
            return
        threading.current_thread().name = name  # for debuggers and profilers
        while not crew.dismissed:
            run, self.run = self.run, None
            share = None if run is None else run.join()
            if run is not None and share is not None:
                self.busy = True
                inside.add(me)
                try:
                    run.work()
                finally:
                    # Free before the caller hears of it: its next run may follow at once.
                    inside.discard(me)
                    self.busy = False
                    share.end()
            run = share = None  # asleep, keep nothing alive
            self.wake.acquire()


class _Crew:
    """The helpers of a pool in one process, and who is at work. It outlives neither."""

    __slots__ = ("dismissed", "helpers", "inside", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.helpers: list[_Helper] = []
        self.inside: set[int] = set()
        self.dismissed = False

    def dismiss(self) -> None:
        self.dismissed = True
        for helper in self.helpers:
            helper.wake_up()


class Pool:
    """Threads that share out the indices of a run; see the module's docstring for the policy.

    Parameters
    ----------
    threads : int
        Most threads at work, the calling thread included. Helpers start when first needed.

    Attributes
    ----------
    threads : int
        As given.
    unavailable_reason : str or None
        Why no further helper could be started, where the system refused one. Runs go on with
        those there are, the calling thread alone if there are none.

    Examples
    --------
    >>> squares = [0] * 4
    >>> def square(index):
    ...     squares[index] = index * index
    >>> Pool(2).run(square, 4)
    >>> squares
    [0, 1, 4, 9]
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(
                f"Pool: threads must be at least 1 (the caller alone), got {threads!r}"
            )
        self.threads = threads
        self.unavailable_reason: str | None = None
        self._crew = _Crew(threads - 1)
        _pools.add(self)

    def __del__(self) -> None:
        crew = getattr(self, "_crew", None)  # None where __init__ refused
        if crew is not None:
            crew.dismiss()

    def __repr__(self) -> str:
        started = sum(helper.started for helper in self._crew.helpers)
        return f"<Pool of {self.threads} threads, {started} helpers started>"

    def run(self, task: Callable[[int], None], count: int, threads: int | None = None) -> None:
        """Call ``task(i)`` for each i in ``range(count)`` and return when all calls have ended.

        Parameters
        ----------
        task : callable
            Called with one index, from several threads at once, lower indices earlier.
        count : int
            How many indices there are.
        threads : int, optional
            Most threads at work for this run, the calling thread included.

        Raises
        ------
        BaseException
            What the task raised: of several errors the one with the lowest index.

        Examples
        --------
        >>> Pool(2).run(print, 1)
        0
        """
        if threads is not None and threads < 1:
            raise ValueError(f"Pool.run: threads must be at least 1, got {threads!r}")
        crew = self._crew
        me = threading.get_ident()
        if me in crew.inside:
            for index in range(count):
                task(index)
            return
        run = _Run(crew, task, count)
        helpers = min(count, self.threads if threads is None else threads) - 1
        try:
            crew.inside.add(me)
            try:
                if helpers > 0:
                    self._call_helpers(run, helpers)
                run.work()
            except BaseException as error:  # raised below, once no helper is at work
                run.fail(error)
            run.settle()
        finally:  # nothing can come between these, so however often a run is interrupted, they hold
            run.task = _nothing  # a helper that comes late must not keep the task's memory alive
            run.over = True
            crew.inside.discard(me)
        if run.errors:
            raise run.first_error()

    def _call_helpers(self, run: _Run, wanted: int) -> None:
        """Assign idle helpers to ``run``; those whose thread is still missing start at once."""
        crew = self._crew
        wanted = min(wanted, self.threads - len(crew.inside))
        for place in range(crew.size):
            if wanted <= 0:
                return
            if place >= len(crew.helpers):
                crew.helpers.append(_Helper())
            helper = crew.helpers[place]
            if not helper.idle():
                continue
            wanted -= 1
            helper.run = run
            if helper.started:
                run.asleep.append(helper)
            elif not self._start(helper, place):
                return

    def _start(self, helper: _Helper, place: int) -> bool:
        """Start a helper's thread; False if there is none to be had."""
        if self.unavailable_reason is None:
            name = f"dispatcharr-{place + 1}"
            try:
                # One C call: Thread.start() breaks when a signal handler raises into it, and from
                # Python 3.14 on it may hand down the context of whoever comes first.
                _thread.start_new_thread(helper.serve, (self._crew, name))
                helper.started = True
                return True
            except RuntimeError as error:  # no threads here, no more allowed, or at exit
                self.unavailable_reason = f"the system refused thread {name}: {error}"
        helper.run = None
        return False

    def _restart(self) -> None:
        """Forget the threads that a fork left behind."""
        self._crew.dismissed = True
        self._crew = _Crew(self.threads - 1)
        self.unavailable_reason = None


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_shared: dict[str, Pool] = {}


def shared_pool() -> Pool:
    """Return the pool of this process, made on first use for :func:`thread_count` threads.

    Examples
    --------
    >>> shared_pool() is shared_pool()
    True
    """
    pool = _shared.get("pool")
    if pool is None:  # of two made at once one is kept; the other has no threads yet
        pool = _shared.setdefault("pool", Pool(thread_count()))
    return pool


def _after_fork_in_child() -> None:
    _shared.clear()
    for pool in list(_pools):
        pool._restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
