"""Mirrors: copies of host memory on a device, one for each root, and what is known of them.

This is the table behind :mod:`dispatcharr.storage.places`, which holds its rules. Everything here
is done under :data:`lock`. Entries are keyed by ``id(root)`` and have a weak reference to it; the
id of a root that died may be used again, so whoever finds an entry compares the root itself.

Where a device has no room left, mirrors of what is on the host too are dropped, the least recently
used first, then what is only on the device comes home. What a running kernel uses stays.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy
from numpy.lib.array_utils import byte_bounds

from dispatcharr._errors import DeviceLostError
from dispatcharr.storage.exports import root_of

__all__ = [
    "ALIGNMENT", "SMALL", "Place", "alloc", "away", "bring", "bytes_at", "clone", "counters",
    "current_run", "dead", "device_in_use", "drop", "enter", "find", "forget", "is_aimed_at",
    "lost", "observers", "on_home", "pointer", "prepare_write", "put", "remove", "renew", "reserve",
    "runs", "settle", "sweep", "table", "take", "tell_away", "tell_home", "tell_state", "tidy",
    "upload", "use",
]  # fmt: skip

#: Memory up to this size is copied when operations on it are recorded, and handed to the outside
#: uncounted.
SMALL = 8192
#: Device addresses are congruent to host addresses by this, which vector loads rely on.
ALIGNMENT = 256
#: Seconds between looks for runs that ended without a word.
_PATIENCE = 0.05

#: The roots that are away, by id: where it is empty, nobody who reads needs to ask.
away: dict[int, Any] = {}
#: What was done since the start, and what there is now.
counters = {
    "mirrors": 0, "mirror_bytes": 0, "to_device": 0, "to_device_bytes": 0, "to_host": 0,
    "to_host_bytes": 0, "temporary": 0, "evicted": 0, "looks": 0, "patches": 0,
}  # fmt: skip

lock: Any = threading.RLock()
#: Notified when a run ends.
changed = threading.Condition(lock)
#: By id of the root, the least recently used first.
table: dict[int, Place] = {}
#: What this thread does: its run (a weak reference: one that an interrupt kept from ending is over
#: when nobody holds it), and whether something came home that nobody was told of.
here = threading.local()
#: Runs that use mirrors, as long as they live. Their lists alone say which mirrors are used, and
#: which are written: a count could be left wrong by an interrupt.
runs: weakref.WeakSet[Any] = weakref.WeakSet()
observers: list[Callable[[int, int], None]] = []
on_home: list[Callable[[], None]] = []
#: References to roots that died. The callback is no function of Python's, see ``readers``.
dead: deque[Any] = deque()
_device: Any = None
#: Device memory that this process, forked from another, must not free.
_orphans: list[Any] = []


class _Root(weakref.ref):  # type: ignore[type-arg]
    """Weak reference to a root, which knows its id."""

    __slots__ = ("key",)
    key: int


class Place:
    """What is known of one root."""

    __slots__ = (
        "assigned", "fresh", "key", "looked", "lost", "low", "memory", "nbytes", "on_device",
        "on_host", "pad", "ref", "rented",
    )  # fmt: skip

    def __init__(self, root: numpy.ndarray) -> None:
        self.ref = _Root(root, dead.append)
        self.ref.key = self.key = id(root)
        low, high = byte_bounds(root)
        self.low: int = low
        self.nbytes: int = high - low
        #: Bytes of the memory before the first.
        self.pad = self.low % ALIGNMENT
        self.memory: Any = None
        #: Whether it was allocated for a kernel's result: nobody has seen it, however small it is.
        self.fresh = False
        #: Whether the program itself wants it there, and not only the router.
        self.assigned = False
        self.on_host = True
        self.on_device = False
        #: Bytes that were copied for one run each, and seconds that looks at a few bytes took.
        self.rented = 0
        self.looked = 0.0
        self.lost: str | None = None

    def address(self, host: numpy.ndarray) -> int:
        """Return the device address of the first element of ``host``."""
        return int(self.memory.address) + self.pad + pointer(host) - self.low


class _Span:
    """Bytes of host memory, for NumPy."""

    __slots__ = ("__array_interface__",)

    def __init__(self, low: int, nbytes: int) -> None:
        self.__array_interface__ = {
            "data": (low, False), "shape": (nbytes,), "typestr": "|u1", "version": 3,
        }  # fmt: skip


def bytes_at(low: int, nbytes: int) -> numpy.ndarray:
    """Return host memory as an array of bytes; somebody else keeps it."""
    return numpy.asarray(_Span(low, nbytes))


def pointer(host: numpy.ndarray) -> int:
    """Return the host address of the first element."""
    address: int = host.__array_interface__["data"][0]
    return address


# --- the table; the lock is held ------------------------------------------------------------------


def find(root: numpy.ndarray) -> Place | None:
    """Return what is known of a root, None for nothing."""
    place = table.get(id(root))
    if place is not None and place.ref() is not root:
        remove(place)  # the id of one that died is used again
        return None
    return place


def enter(root: numpy.ndarray) -> Place:
    """Make the entry of a root."""
    place = table[id(root)] = Place(root)
    return place


def sweep() -> None:
    """Forget roots that died."""
    while dead:
        place = table.get(dead[0].key)
        if place is not None and place.ref() is None:
            remove(place)
        dead.popleft()


def tidy() -> None:
    """Give the device memory of roots that died back; the lock is not held."""
    with lock:
        sweep()


def remove(place: Place) -> None:
    """Forget a root, and free its mirror."""
    place.on_device = False
    _release(place)
    if table.get(place.key) is place:
        # The entry goes last: an interrupt must not leave a word about a root without one.
        away.pop(place.key, None)
        _announce(place.key, 0)
        del table[place.key]


def _release(place: Place) -> None:
    if place.memory is not None:
        counters["mirrors"] -= 1
        counters["mirror_bytes"] -= place.nbytes
        place.memory = None


def _announce(key: int, number: int) -> None:
    for observer in observers:
        observer(key, number)


def tell_away(place: Place) -> None:
    """Tell the fast path that a root will be away."""
    away[place.key] = place
    _announce(place.key, 2)


def tell_state(place: Place) -> None:
    """Tell the fast path where a root is: 1 on both sides, 2 away."""
    if place.on_host:
        away.pop(place.key, None)
        _announce(place.key, 1)
    else:
        tell_away(place)


def reserve(place: Place) -> None:
    """Have memory for the mirror, and the fast path know of it before anything is copied."""
    tell_state(place)
    if place.memory is None:
        place.memory = alloc(place.nbytes + place.pad)
        counters["mirrors"] += 1
        counters["mirror_bytes"] += place.nbytes


def upload(place: Place) -> None:
    """Have the bytes on the device; the caller holds the root."""
    try:
        reserve(place)
        put(place.memory, place.pad, bytes_at(place.low, place.nbytes))
    except BaseException:
        if place.on_host and not is_aimed_at(place):
            remove(place)
        raise
    place.on_device = True


def bring(place: Place) -> None:
    """Have the bytes on the host; where they are lost, say so."""
    root = place.ref()  # lives until the copy is done
    if place.on_host or root is None:
        if place.on_host and place.key in away:
            tell_state(place)  # an interrupt came before
        return
    try:
        if place.lost is None:
            take(bytes_at(place.low, place.nbytes), place.memory, place.pad)
    except Exception as error:
        if place.lost is None:
            raise
        raise lost(place) from error
    if place.lost is not None:
        raise lost(place)
    place.on_host = True
    tell_state(place)


def lost(place: Place) -> DeviceLostError:
    """Return the error about values that are nowhere any more."""
    return DeviceLostError(
        f"the values of this array were on a device that failed ({place.lost}), and nowhere else; "
        "compute them anew"
    )


def drop(place: Place) -> None:
    """Forget the mirror of what is on the host."""
    bring(place)
    remove(place)


def current_run() -> Any:
    """Return the run of this thread, None for none."""
    reference = getattr(here, "run", None)
    return None if reference is None else reference()


def is_aimed_at(place: Place, but: Any = None) -> bool:
    """Return whether a run writes to the mirror; ``but`` this one."""
    return any([place in run.targets for run in list(runs) if run is not but])


def settle(place: Place) -> None:
    """Wait for the runs of other threads that write to the mirror."""
    own = threading.current_thread()
    while any(
        [
            place in run.targets and run.thread is not own and run.thread.is_alive()
            for run in list(runs)
        ]
    ):
        changed.wait(_PATIENCE)


def prepare_write(host: numpy.ndarray) -> None:
    """Have the bytes on the host, and no mirror: the host is about to write."""
    place = find(root_of(host))
    if place is not None:
        settle(place)
        if table.get(place.key) is place:
            drop(place)


def tell_home() -> None:
    """Call the callbacks if anything came home; the lock is not held: they may raise."""
    if getattr(here, "homed", False):
        here.homed = False
        for callback in on_home:
            callback()


# --- the device; the lock is held -----------------------------------------------------------------


def use(device: Any) -> None:
    """Have mirrors on ``device`` from now on; None for nowhere."""
    global _device
    with lock:
        if device is not _device and _device is not None:
            for place in list(table.values()):
                drop(place)
        _device = device


def device_in_use() -> Any:
    """Return the device, None where there is none."""
    return _device


def forget(reason: str) -> None:
    """Note that the device is no more: what is on the host too just has no mirror."""
    global _device
    with lock:
        _device = None
        for place in list(table.values()):
            if place.on_host:
                remove(place)
            else:
                _release(place)
                place.on_device = False
                place.lost = reason
        changed.notify_all()


def renew(reason: str) -> None:
    """Do as :func:`forget` in a process that was just forked: other threads, and locks, are gone.

    The device memory is the other process's: nothing here frees it.
    """
    global lock, changed, here
    lock = threading.RLock()
    changed = threading.Condition(lock)
    here = threading.local()
    runs.clear()
    for place in table.values():
        _orphans.append(place.memory)
    forget(reason)


def put(memory: Any, offset: int, host: numpy.ndarray) -> None:
    """Copy bytes to the device."""
    _ask(_device.to_device, memory, offset, host)
    counters["to_device"] += 1
    counters["to_device_bytes"] += host.nbytes


def take(host: numpy.ndarray, memory: Any, offset: int) -> None:
    """Copy bytes from the device, as they are after all work given before."""
    _ask(_device.to_host, host, memory, offset)
    counters["to_host"] += 1
    counters["to_host_bytes"] += host.nbytes
    here.homed = True


def clone(memory: Any, source: Any, offset: int, nbytes: int) -> None:
    """Copy bytes on the device, and wait for it: whoever gets them has queues of its own."""
    _ask(_device.copy, memory, 0, source, offset, nbytes)
    _ask(_device.synchronize)


def _ask(function: Callable[..., Any], *args: Any) -> Any:
    """Call the device; if it died of that, what was only there is lost."""
    device = _device
    try:
        return function(*args)
    except Exception:
        if device.dead is not None:
            forget(device.dead)
        raise


def alloc(nbytes: int) -> Any:
    """Allocate; where there is no room, drop mirrors, then bring home what is only there."""
    try:
        return _ask(_device.alloc, nbytes)
    except MemoryError:
        sweep()
    pinned = {id(place) for run in list(runs) for place in run.pinned}
    for on_host in (True, False):
        freed = 0
        for place in list(table.values()):
            # Small memory must stay in the table, and frees nothing that matters.
            if place.memory is None or id(place) in pinned or place.nbytes <= SMALL:
                continue
            if place.on_host is not on_host:
                continue
            freed += place.nbytes + ALIGNMENT
            counters["evicted"] += 1
            drop(place)
            if freed >= nbytes:
                try:
                    return _ask(_device.alloc, nbytes)
                except MemoryError:
                    continue
    return _ask(_device.alloc, nbytes)
