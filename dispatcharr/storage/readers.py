"""Which pending work still reads a root, and which running kernels do.

A write to memory must first run the pending work that reads it, and wait for kernels of other
threads that already read it. Both questions are asked by root and answered here; the answer to the
first is weak, so a pending array that nobody wants any more disappears from the table by itself.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

__all__ = [
    "Reader",
    "any_pending",
    "observe",
    "pending_arrays",
    "readers_of",
    "reading",
    "wait_until_unread",
]

_readers: dict[int, dict[int, Reader]] = {}
#: What waits without reading anything: numbers that are still to be generated.
_rootless: dict[int, Reader] = {}
_lock = threading.RLock()
_running: dict[int, int] = {}
_running_changed = threading.Condition()
_observers: list[Callable[[int], None]] = []


class Reader(weakref.ref):  # type: ignore[type-arg]
    """Weak reference to a pending array, filed under every root that it reads."""

    __slots__ = ("key", "roots")
    roots: tuple[int, ...]
    key: int

    def __new__(cls, array: Any, roots: tuple[int, ...]) -> Reader:
        return super().__new__(cls, array, _gone)

    def __init__(self, array: Any, roots: tuple[int, ...]) -> None:
        super().__init__(array, _gone)  # type: ignore[call-arg]  # typeshed knows its __new__ alone
        self.roots = roots
        self.key = id(self)
        with _lock:
            if not roots:
                _rootless[self.key] = self
            for root in roots:
                entry = _readers.get(root)
                if entry is None:
                    entry = _readers[root] = {}
                entry[self.key] = self
            _tell()

    def file(self, roots: tuple[int, ...]) -> None:
        """File the array under ``roots`` in the place of those that it read before."""
        if self() is None:
            return
        with _lock:
            for root in self.roots:
                entry = _readers.get(root)
                if entry is not None and root not in roots:
                    entry.pop(self.key, None)
                    if not entry:
                        del _readers[root]
            self.roots = roots
            for root in roots:
                _readers.setdefault(root, {})[self.key] = self
            _tell()

    def close(self) -> None:
        """Take the array out of the table: it is evaluated, or pending on something else."""
        with _lock:
            _rootless.pop(self.key, None)
            for root in self.roots:
                entry = _readers.get(root)
                if entry is not None:
                    entry.pop(self.key, None)
                    if not entry:
                        del _readers[root]
            _tell()


def _gone(reader: Reader) -> None:
    # Runs inside the garbage collector: only unlink. Empty entries are swept by the next lookup.
    _rootless.pop(reader.key, None)
    for root in reader.roots:
        entry = _readers.get(root)
        if entry is not None:
            entry.pop(reader.key, None)


def _tell() -> None:
    for observer in _observers:
        observer(len(_readers))


def observe(observer: Callable[[int], None]) -> None:
    """Have ``observer`` told the number of roots that pending work reads, when it changes."""
    _observers.append(observer)


def _sweep() -> None:
    for root in [root for root, entry in list(_readers.items()) if not entry]:
        _readers.pop(root, None)
    _tell()


def any_pending() -> bool:
    """Return whether any pending array reads any root."""
    if not _readers:
        return False
    with _lock:
        _sweep()
        return bool(_readers)


def readers_of(root: int) -> list[Any]:
    """Return the live pending arrays that read the root with id ``root``."""
    with _lock:
        _sweep()
        entry = _readers.get(root)
        arrays = [] if entry is None else [reader() for reader in list(entry.values())]
    return [array for array in arrays if array is not None]


def pending_arrays() -> list[Any]:
    """Return every live pending array."""
    with _lock:
        # Copies, because an array that dies meanwhile is unlinked without the lock.
        found = dict(_rootless)
        for entry in list(_readers.values()):
            found.update(entry)
    arrays = [reader() for reader in found.values()]
    return [array for array in arrays if array is not None]


class reading:
    """Hold off writers of other threads while a kernel reads ``roots``; a context manager."""

    __slots__ = ("roots",)

    def __init__(self, roots: Iterable[int]) -> None:
        self.roots = tuple(roots)

    def __enter__(self) -> None:
        with _running_changed:
            for root in self.roots:
                _running[root] = _running.get(root, 0) + 1

    def __exit__(self, *exc: object) -> None:
        with _running_changed:
            for root in self.roots:
                _running[root] -= 1
                if not _running[root]:
                    del _running[root]
            _running_changed.notify_all()


def wait_until_unread(root: int) -> None:
    """Return once no kernel of another thread that began earlier reads ``root``."""
    if root in _running:
        with _running_changed:
            _running_changed.wait_for(lambda: root not in _running)
