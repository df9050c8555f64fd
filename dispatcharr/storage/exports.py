"""Who else can see a piece of memory.

Every concrete value is a ``numpy.ndarray``; the array at the end of its chain of bases is its root,
and roots are what this module knows. Work on a root may wait only while nobody outside can write to
it:

- memory that came in without a copy is *foreign* for ever (:func:`mark_foreign`);
- memory that went out is *lent*: :func:`lend` gives the outside a view whose chain of bases ends
  at a :class:`Lease`; NumPy keeps the lease alive exactly as long as any outside view lives, and
  a weak reference to it says when the last one is gone;
- memory that does not end in an array owning its data (a memory map, bytes, another library's
  buffer) is foreign by nature.

The tables are keyed by ``id(root)`` and each entry carries a weak reference to its root whose
callback removes the entry, so an id that is used again never meets a stale entry.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy

__all__ = ["Lease", "is_visible", "lend", "mark_foreign", "root_of", "withdraw_with"]

foreign_roots: dict[int, weakref.ref[numpy.ndarray]] = {}
lent_roots: dict[int, weakref.WeakSet[Lease]] = {}
_withdrawals: list[Callable[[numpy.ndarray], None]] = []


def withdraw_with(withdraw: Callable[[numpy.ndarray], None]) -> None:
    """Have ``withdraw`` called with memory that the outside sees from now on.

    Before anybody gets it: what it holds must be there, and nowhere else.
    """
    _withdrawals.append(withdraw)


class Lease:
    """Owner of an outside view: alive while any view made through it lives."""

    __slots__ = ("__array_interface__", "__weakref__", "root")

    def __init__(self, interface: dict[str, Any], root: numpy.ndarray) -> None:
        self.root = root
        self.__array_interface__ = interface


def root_of(host: numpy.ndarray) -> numpy.ndarray:
    """Return the array at the end of the chain of bases of ``host``, seen through leases."""
    base: Any = host.base
    while base is not None:
        if type(base) is Lease:
            base = base.root
        elif type(base) is memoryview:
            base = base.obj
        elif not isinstance(base, numpy.ndarray):
            # NumPy's own as_strided puts an object between its result and the array.
            base = getattr(base, "base", None)
        if not isinstance(base, numpy.ndarray):
            break
        host = base
        base = host.base
    return host


def mark_foreign(host: numpy.ndarray) -> None:
    """Note that someone outside holds the memory of ``host`` and may write to it at any time."""
    root = root_of(host)
    key = id(root)
    if key not in foreign_roots:

        def forget(_: object, key: int = key) -> None:
            foreign_roots.pop(key, None)

        foreign_roots[key] = weakref.ref(root, forget)
        for withdraw in _withdrawals:
            withdraw(root)


def is_visible(root: numpy.ndarray) -> bool:
    """Return whether anyone outside can see the memory of ``root`` now."""
    if root.base is not None or not root.flags.owndata:
        return True
    key = id(root)
    if key in foreign_roots:
        return True
    return bool(lent_roots.get(key))


def _hold(interface: dict[str, Any], root: numpy.ndarray) -> numpy.ndarray:
    lease = Lease(interface, root)
    key = id(root)
    leases = lent_roots.get(key)
    if leases is None:
        leases = lent_roots[key] = weakref.WeakSet()
        weakref.finalize(root, lent_roots.pop, key, None).atexit = False
    leases.add(lease)
    for withdraw in _withdrawals:
        withdraw(root)
    return numpy.asarray(lease)


def lend(host: numpy.ndarray) -> numpy.ndarray:
    """Return a view of ``host`` for the outside; its memory counts as visible while it lives."""
    if host.dtype.hasobject or host.size == 0:
        mark_foreign(host)
        return host.view()
    view = _hold(dict(host.__array_interface__), root_of(host))
    # Dtypes that an interface dictionary cannot name are given back by a view; `longlong` is one.
    named = view.dtype == host.dtype and view.dtype.char == host.dtype.char
    return view if named else view.view(host.dtype)
