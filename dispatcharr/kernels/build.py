"""Kernels of this process by key: those that are ready at once, the others by and by.

Policy, once:

- Whoever computes never waits for a compiler. :meth:`Builder.ask` answers from a table; what is
  bought and not there yet is loaded from disk or compiled on one thread in the background, the
  import of llvmlite included. Until then other ways of computing have to do.
- The text of a kernel is made on that thread too. It calls its function ``@kernel``; it is loaded
  under a name made of its digest, so equal texts are one kernel, whatever their keys.
- A kernel that cannot be built is not tried again in this process. The reason is kept, in one line,
  and logged once. Where nothing can be built at all no thread is started.
- A process builds a bounded number of kernels, since loaded code stays. A program that goes beyond
  it makes ever new kernels, and those are worth no compiler.
- A forked child has the kernels that were ready and a thread of its own when it needs one; a fork
  waits until LLVM is at rest. The end of the interpreter waits for the kernel that is being built,
  so that LLVM is not taken down under a thread that is in it; no further one is begun.

Callers may be interrupted or reentered between any two operations, so they take no lock: all that
threads share is changed by single operations of built-in types.
"""

from __future__ import annotations

import _thread
import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from queue import SimpleQueue

from dispatcharr.kernels import native
from dispatcharr.kernels.cache import Cache, kernel_key, user_cache

__all__ = ["ENTRY", "MOST", "Builder", "Counts", "shared_builder"]

#: What a text calls the function that is asked for.
ENTRY = "kernel"
#: Most kernels that a process builds, failures included. Each takes at least 8 KB for good.
MOST = 4096
#: Seconds that an exit waits for the kernel that is being built.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What a builder has done, and why it can do no more.

    Attributes
    ----------
    compiled, loaded, failed : int
        Kernels made here, kernels found on disk, and those that could not be had.
    compile_seconds, load_seconds : float
        What the first two took, on the thread in the background.
    start_seconds : float
        What it took to import and start LLVM.
    unavailable_reason : str or None
        Why nothing can be built in this process.
    cache_trouble : str or None
        Why kernels could not be read from disk or stored there, the last time that happened.
    """

    compiled: int = 0
    loaded: int = 0
    failed: int = 0
    compile_seconds: float = 0.0
    load_seconds: float = 0.0
    start_seconds: float = 0.0
    unavailable_reason: str | None = None
    cache_trouble: str | None = None


class _Order:
    """One kernel to build, or without ``make`` a mark that all before it is done.

    With ``stored`` the kernel is wanted only if it is on disk.
    """

    __slots__ = ("done", "key", "make", "stored")

    def __init__(
        self, key: Hashable, make: Callable[[], str] | None, *, stored: bool = False
    ) -> None:
        self.key = key
        self.make = make
        self.stored = stored
        self.done = threading.Lock()
        self.done.acquire()


class _Line:
    """The orders of one process, and who serves them."""

    __slots__ = ("nothing", "open", "orders", "owners", "started", "waiting")

    def __init__(self) -> None:
        self.orders: SimpleQueue[_Order] = SimpleQueue()
        #: The last order of each key; those that are done may still be among them.
        self.waiting: dict[Hashable, _Order] = {}
        self.owners: list[int] = []
        self.started = False
        self.open = True
        self.nothing = _Order(None, None)

    def awaits(self, key: Hashable) -> bool:
        order = self.waiting.get(key)
        return order is not None and order.done.locked()

    def dismiss(self) -> None:
        """Have nothing more built. Modules may be gone by now: it needs nothing of theirs."""
        self.open = False
        self.orders.put(self.nothing)  # wakes whoever serves this


class Builder:
    """Builds kernels and knows those that are ready; see the module's docstring for the policy.

    Parameters
    ----------
    cache : Cache or None
        Where compiled kernels are kept for other processes; None for nowhere.

    Examples
    --------
    >>> builder = Builder(None)
    >>> builder.ask("a key", lambda: "some text") is None
    True
    """

    def __init__(self, cache: Cache | None) -> None:
        self.cache = cache
        self._ready: dict[Hashable, int] = {}
        self._failed: dict[Hashable, str] = {}
        self._not_stored: set[Hashable] = set()
        self._told: dict[Hashable, list[Callable[[], None]]] = {}
        self._unavailable: str | None = None
        self._line = _Line()
        # One lock for the time in which LLVM may be at work. Only the thread in the background
        # takes it, and whoever ends or forks the process.
        self._working = threading.Lock()
        self._compiled, self._loaded = [0, 0.0], [0, 0.0]
        self._start_seconds = 0.0
        _builders.add(self)

    def __repr__(self) -> str:
        return f"<Builder of {len(self._ready)} kernels, {len(self._failed)} failed>"

    def __del__(self) -> None:
        line = getattr(self, "_line", None)
        if line is not None:
            line.dismiss()

    def ask(self, key: Hashable, make: Callable[[], str], *, buy: bool = False) -> int | None:
        """Return the address of a kernel if it is ready, else None; never wait for it.

        Parameters
        ----------
        key : hashable
            What tells this kernel from others in this process.
        make : callable
            Returns the kernel's IR text; called in the background, if at all.
        buy : bool
            Have it built, so that a later call finds it.
        """
        address = self._ready.get(key)
        if address is None and buy and key not in self._failed and not self._line.awaits(key):
            self._order(key, make)
        return address

    def look(self, key: Hashable, make: Callable[[], str]) -> None:
        """Have a kernel loaded if an earlier process left it on disk; compile nothing.

        The disk is looked at once for a key.
        """
        if self.cache is None or key in self._ready or key in self._not_stored:
            return
        if key not in self._failed and not self._line.awaits(key):
            self._order(key, make, stored=True)

    def tell(self, key: Hashable, told: Callable[[], None]) -> None:
        """Have ``told`` called when a kernel is there, whoever orders it; at once if it is.

        Called in the background, it must neither raise nor take long.
        """
        waiting = self._told.setdefault(key, [])
        waiting.append(told)
        if key in self._ready:
            self._tell(key)

    def why_not(self, key: Hashable) -> str | None:
        """Return why a kernel cannot be had in this process; None where it can, or may yet."""
        if key in self._ready:
            return None
        return self._failed.get(key) or self._unavailable or native.missing()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all that was bought is built or has failed; False if the time is up first.

        Where no thread can be started, or the interpreter is about to end, nothing is built, and
        there is nothing to wait for.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            line, mark = self._line, _Order(None, None)
            line.orders.put(mark)
            if not self._serve_somehow(line):
                return True
            while line is self._line:  # else the process was forked meanwhile
                left = 0.1 if end is None else min(0.1, end - time.monotonic())
                if left < 0:
                    return False
                if mark.done.acquire(timeout=left) or not line.open:
                    return True

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return Counts(
            compiled=int(self._compiled[0]),
            loaded=int(self._loaded[0]),
            failed=len(self._failed),
            compile_seconds=self._compiled[1],
            load_seconds=self._loaded[1],
            start_seconds=self._start_seconds,
            unavailable_reason=self._unavailable or native.missing(),
            cache_trouble=None if self.cache is None else self.cache.trouble,
        )

    def _order(self, key: Hashable, make: Callable[[], str], *, stored: bool = False) -> None:
        if self._unavailable is None:
            self._unavailable = native.missing()
        if self._unavailable is not None:
            return
        line = self._line
        if len(self._ready) + len(self._failed) + len(line.waiting) >= MOST:
            self._unavailable = (
                f"this process has built {MOST} kernels, which is the most it may; programs that "
                "need more make new ones all the time"
            )
            return
        # In this order: whoever is interrupted in between has ordered nothing yet, or orders twice,
        # which costs nothing.
        if self._serve_somehow(line):
            order = _Order(key, make, stored=stored)
            line.orders.put(order)
            line.waiting[key] = order

    def _serve_somehow(self, line: _Line) -> bool:
        """See to it that somebody serves the line; False if nobody does."""
        if line.started:
            return True
        if self._unavailable is None:
            try:
                # One C call: Thread.start() breaks when a signal handler raises into it.
                _thread.start_new_thread(_serve, (weakref.ref(self), line))
                line.started = True
                return True
            except RuntimeError as error:  # no threads here, no more allowed, or at exit
                self._unavailable = f"the system refused a thread to compile on: {error}"
        return False

    def _build(self, order: _Order) -> None:
        """Build what was ordered, on the thread in the background."""
        key, make = order.key, order.make
        if make is not None and key not in self._ready and key not in self._failed:
            try:
                address = self._address(make, stored=order.stored)
                if address is None:
                    self._not_stored.add(key)
                else:
                    self._ready[key] = address
                    self._tell(key)
            except BaseException as error:  # kept as data; the thread has nobody to raise it to
                if self._unavailable is None:
                    self._fail(key, error)

    def _tell(self, key: Hashable) -> None:
        for told in self._told.pop(key, ()):
            told()

    def _address(self, make: Callable[[], str], *, stored: bool) -> int | None:
        """Return where a kernel is, or None if only a stored one would do and there is none."""
        began = time.perf_counter()
        host = native.host()
        started = time.perf_counter()
        self._start_seconds += started - began
        if isinstance(host, str):
            self._unavailable = host
            raise native.BuildError(host)
        text = make()
        digest = kernel_key(host, text)
        name = f"k{digest[:32]}"
        address = native.loaded(name)
        if address is not None:  # another key's text is the same
            return address
        address, tally = self._from_disk(digest, name), self._loaded
        if address is None and not stored:
            code = native.optimise_and_emit(text.replace(f"@{ENTRY}", f"@{name}"), name)
            if self.cache is not None:
                self.cache.put(digest, code)
            address, tally = native.load(name, code), self._compiled
        if address is not None:
            tally[0] += 1
            tally[1] += time.perf_counter() - started
        return address

    def _from_disk(self, digest: str, name: str) -> int | None:
        code = None if self.cache is None else self.cache.get(digest)
        if code is None:
            return None
        try:
            return native.load(name, code)
        except native.BuildError as error:  # whole, but of no use here: it is compiled afresh
            if self.cache is not None:
                self.cache.trouble = f"a stored kernel cannot be used: {error}"
            return None

    def _fail(self, key: Hashable, error: BaseException) -> None:
        import logging

        reason = " ".join(f"{error}".split()) or type(error).__name__
        if not isinstance(error, native.BuildError):  # a mistake of ours: say where
            reason = f"{type(error).__name__}: {reason}"
        self._failed[key] = reason
        self._told.pop(key, None)
        logging.getLogger("dispatcharr").info(f"a kernel was left to NumPy's loops: {reason}")

    def _restart(self) -> None:
        """Forget the thread that a fork left behind, and what it was to do."""
        self._line = _Line()
        self._working = threading.Lock()
        self._unavailable = None


def _serve(mine: weakref.ref[Builder], line: _Line) -> None:
    """Be the body of the thread. It keeps no builder alive."""
    line.owners.append(_thread.get_ident())
    if line.owners[0] != _thread.get_ident():  # started twice, by two threads at once
        return
    threading.current_thread().name = "dispatcharr-compiler"  # for debuggers and profilers
    while line.open:
        order = line.orders.get()
        builder = mine()
        if builder is None:
            return
        with builder._working:
            builder._build(order)
        if order.done.locked():
            order.done.release()
        line.waiting.pop(order.key, None)
        del order, builder  # asleep, keep nothing alive


_builders: weakref.WeakSet[Builder] = weakref.WeakSet()
_shared: dict[str, Builder] = {}


def shared_builder() -> Builder:
    """Return the builder of this process, made on first use with the user's cache.

    Examples
    --------
    >>> shared_builder() is shared_builder()
    True
    """
    builder = _shared.get("builder")
    if builder is None:  # of two made at once one is kept; the other has no thread yet
        builder = _shared.setdefault("builder", Builder(user_cache()))
    return builder


def _at_exit() -> None:
    for builder in list(_builders):
        builder._line.dismiss()
        # Not given back. Whoever is still compiling after this time meets its end in there.
        builder._working.acquire(timeout=_PATIENCE)


def _after_fork_in_child() -> None:
    for builder in list(_builders):
        builder._restart()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
