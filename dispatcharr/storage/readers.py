"""Which pending work still reads a root, and which running kernels do.

A write to memory must first run the pending work that reads it, and wait for kernels of other
threads that already read it. Both questions are asked by root and answered here; the answer to the
first is weak, so a pending array that nobody wants any more disappears from the table by itself.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from dispatcharr._forks import shared

__all__ = [
    "Reader",
    "Watch",
    "any_pending",
    "ask_of_others",
    "lock",
    "observe",
    "pending_arrays",
    "readers_of",
    "reading",
    "roots_read",
    "settle_with",
    "wait_until_unread",
    "withdraw",
]

_readers: dict[int, dict[int, Reader]] = {}
#: What waits without reading anything: numbers that are still to be generated.
_rootless: dict[int, Reader] = {}
#: Held while the tables change, and while what waits is built on: of two locks each would be waited
#: for by who holds the other, since the garbage collector runs destructors, which may compute.
lock = shared(threading.RLock())
#: Readers whose arrays are gone. Their callback is no function of Python's: one of those would
#: swallow an interrupt that comes while it runs.
_dead: deque[Any] = deque()
_running: dict[int, weakref.ref[reading]] = {}
_running_changed = threading.Condition()
#: Numbers of kernels; never used again, as ids are.
_tickets = itertools.count()
_waiting: list[int] = []
_watches: dict[int, Watch] = {}
#: Writes to other memory that a watch outlives.
_PATIENCE = 32
#: Seconds between looks for kernels that ended without a word.
_LOOK = 0.05
_observers: list[Callable[[int], None]] = []
_settlers: list[Callable[[], None]] = []
#: A kernel that is not in the table: its ticket, its thread, ids of the roots that it reads.
Other = tuple[int, int, tuple[int, ...]]
_others: list[Callable[[], list[Other]]] = []
#: Seconds between looks for the end of one of those, which is told to nobody.
_GLANCE = 2e-4


class Reader(weakref.ref):  # type: ignore[type-arg]
    """Weak reference to a pending array, filed under every root that it reads."""

    __slots__ = ("key", "roots")
    roots: tuple[int, ...]
    key: int

    def __new__(cls, array: Any, roots: tuple[int, ...]) -> Reader:
        return super().__new__(cls, array, _dead.append)

    def __init__(self, array: Any, roots: tuple[int, ...]) -> None:
        super().__init__(array, _dead.append)  # type: ignore[call-arg]  # typeshed: __new__ alone
        self.roots = roots
        self.key = id(self)
        with lock:
            if not roots:
                _rootless[self.key] = self
            for root in roots:
                entry = _readers.get(root)
                if entry is None:
                    entry = _readers[root] = {}
                entry[self.key] = self
            _sweep()

    def file(self, roots: tuple[int, ...]) -> None:
        """File the array under ``roots`` in the place of those that it read before."""
        if self() is None:
            return
        with lock:
            for root in roots:
                _readers.setdefault(root, {})[self.key] = self
            _unlink(self, roots)
            self.roots = roots
            _sweep()

    def close(self) -> None:
        """Take the array out of the table: it is evaluated, or pending on something else."""
        with lock:
            _unlink(self)
            _sweep()


class Watch(Reader):
    """Notes that memory is about to be written which was read before; nothing waits on it.

    ``valid`` turns false then, and also when there were many writes to other memory: as long as
    anything is watched, each of them has to ask.
    """

    __slots__ = ("patience", "valid")
    valid: bool
    patience: int

    def __init__(self, array: Any, roots: tuple[int, ...]) -> None:
        self.valid = True
        self.patience = _PATIENCE
        super().__init__(array, roots)
        with lock:
            _watches[self.key] = self

    def close(self) -> None:
        """Watch no more."""
        self.valid = False
        _watches.pop(self.key, None)
        super().close()


def withdraw(root: int) -> None:
    """Tell those who watch the root with id ``root`` that it is about to be written."""
    if not _watches:
        return
    with lock:
        for watch in list(_watches.values()):
            watch.patience -= 1
            if root in watch.roots or not watch.patience or watch() is None:
                watch.close()


def _unlink(reader: Reader, kept: tuple[int, ...] = ()) -> None:
    _rootless.pop(reader.key, None)
    for root in reader.roots:
        entry = _readers.get(root)
        if entry is not None and root not in kept:
            entry.pop(reader.key, None)
            if not entry:
                _readers.pop(root, None)


def _tell() -> None:
    """Tell how much there is that a write must ask for; the lock is held."""
    for observer in _observers:
        observer(len(_readers) + len(_running))


def observe(observer: Callable[[int], None]) -> None:
    """Have ``observer`` told how many roots and kernels a write must ask for, when it changes."""
    _observers.append(observer)


def settle_with(settle: Callable[[], None]) -> None:
    """Have ``settle`` called before anybody is told what is pending, to file what is not yet."""
    _settlers.append(settle)


def ask_of_others(running: Callable[[], list[Other]]) -> None:
    """Have ``running`` asked which kernels read besides those in the table.

    Their tickets are negative.
    """
    _others.append(running)


def _other() -> list[Other]:
    return [one for running in _others for one in running()]


def _settle() -> None:
    for settle in _settlers:
        settle()


def _sweep() -> None:
    """Unlink the readers whose arrays are gone; the lock is held."""
    while _dead:
        _unlink(_dead.popleft())
    _tell()


def any_pending() -> bool:
    """Return whether any pending array, or any kernel that runs, reads any root."""
    _settle()
    if not _readers and not _running:
        return bool(_other())
    with lock:
        _sweep()
        return bool(_readers) or bool(_running) or bool(_other())


def readers_of(root: int) -> list[Any]:
    """Return the live pending arrays that read the root with id ``root``."""
    _settle()
    with lock:
        _sweep()
        entry = _readers.get(root)
        arrays = [] if entry is None else _arrays(entry)
    return [array for array in arrays if array is not None]


def _arrays(entry: dict[int, Reader]) -> list[Any]:
    """Return the arrays that wait, some of which may be gone."""
    return [reader() for reader in entry.values() if type(reader) is not Watch]


def roots_read() -> list[tuple[int, Any]]:
    """Return the id of every root that pending work reads, with one array that reads it."""
    _settle()
    with lock:
        entries = [(root, _arrays(entry)) for root, entry in list(_readers.items())]
    found = []
    for root, arrays in entries:
        for array in arrays:
            if array is not None:
                found.append((root, array))
                break
    return found


def pending_arrays() -> list[Any]:
    """Return every live pending array."""
    _settle()
    with lock:
        found = dict(_rootless)
        for entry in list(_readers.values()):
            found.update(entry)
    return [array for array in _arrays(found) if array is not None]


class reading:
    """Hold off writers of other threads while a kernel reads ``roots``; a context manager.

    It counts as long as it lives: an interrupt may come before the end of the block is noted.
    """

    __slots__ = ("__weakref__", "key", "roots", "thread")

    def __init__(self, roots: Iterable[int]) -> None:
        self.roots = frozenset(roots)
        self.thread = threading.get_ident()
        self.key = next(_tickets)

    def __enter__(self) -> None:
        with lock:
            _running[self.key] = weakref.ref(self)
            _tell()

    def __exit__(self, *exc: object) -> None:
        with lock:
            _running.pop(self.key, None)
            _tell()
        if _waiting:
            with _running_changed:
                _running_changed.notify_all()


def wait_until_unread(root: int) -> None:
    """Return once no kernel of another thread that began earlier reads ``root``.

    Kernels that begin while this waits are not waited for: they read nothing that was pending
    before, and readers that follow each other closely would else hold a writer up for ever.
    """
    earlier = _reading_now(root)
    if not earlier:
        return
    _waiting.append(root)
    try:
        with _running_changed:
            while earlier := earlier & _reading_now(root):
                _running_changed.wait(_LOOK if earlier & _running.keys() else _GLANCE)
    finally:
        _waiting.remove(root)


def _reading_now(root: int) -> set[int]:
    """Return the keys of the kernels of other threads that read ``root``."""
    here = threading.get_ident()
    found = set()
    for key, reference in list(_running.items()):
        one = reference()
        if one is None:
            with lock:
                _running.pop(key, None)
                _tell()
        elif root in one.roots and one.thread != here:
            found.add(key)
    found |= {key for key, thread, roots in _other() if root in roots and thread != here}
    return found


def _in_child() -> None:
    """Forget the kernels of threads that a fork left behind: they would read for ever."""
    global _running_changed
    _running_changed = threading.Condition()
    here = threading.get_ident()
    for key, reference in list(_running.items()):
        one = reference()
        if one is None or one.thread != here:
            _running.pop(key, None)
    _tell()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
