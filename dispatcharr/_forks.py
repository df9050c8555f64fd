"""What a forked child finds of the threads that it does not have.

The child has one thread, the one that forked. A lock that another one held stays locked, and a
module that another one was importing stays half imported: whoever waits for either waits for ever.
So locks that threads share are made known here, and the child gets them free; and a fork waits for
imports of parts of the package, which come with the first operation that needs them.
"""

from __future__ import annotations

import os
import threading
import weakref
from importlib import import_module
from typing import Any, TypeVar

__all__ = ["Late", "imported", "shared"]

#: Seconds that a fork waits for imports at most.
_PATIENCE = 10.0

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
#: Threads that import, once for each import, and who watches over them.
_importing: list[int] = []
_gate = threading.Condition()

_Lock = TypeVar("_Lock")


def shared(lock: _Lock) -> _Lock:
    """Return ``lock``, which a child finds free unless the thread that forked held it.

    It guards single operations and what may be seen half done: a table with an entry more or less.
    """
    _locks.add(lock)
    return lock


def imported(name: str) -> Any:
    """Return the module ``name``; no process is forked while it is imported."""
    me = threading.get_ident()
    with _gate:
        _importing.append(me)
    try:
        return import_module(name)
    finally:
        with _gate:
            _importing.remove(me)
            _gate.notify_all()


class Late:
    """A module that is imported when an attribute is asked for, by whichever thread is first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._module: Any = None

    def __getattr__(self, attribute: str) -> Any:
        if self._module is None:
            self._module = imported(self._name)
        return getattr(self._module, attribute)

    def __repr__(self) -> str:
        return f"<late module {self._name}>"


def _before() -> None:
    me = threading.get_ident()
    _gate.acquire()
    _gate.wait_for(lambda: all([one == me for one in _importing]), _PATIENCE)


def _in_parent() -> None:
    _gate.release()


def _in_child() -> None:
    global _gate
    _gate = threading.Condition()
    me = threading.get_ident()
    _importing[:] = [one for one in _importing if one == me]
    for lock in list(_locks):
        if lock.acquire(blocking=False):
            lock.release()
        else:
            lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
