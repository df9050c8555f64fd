"""Where the bytes of an array are: on the host, on a device, or on both.

A concrete value is a ``numpy.ndarray`` and stays one. Its root, the array that owns the memory, may
have a *mirror*: device memory of the same layout. A view's device address is as far from the
mirror's as its host address is from the root's, so views cost nothing. The root is in one of three
states: ``"host"``; ``"both"``, with a mirror that holds the same bytes; ``"device"``, *away*: its
host memory is allocated, and what is in it is rubbish.

Whoever reads host memory calls :func:`home` first, or :func:`read` for a few bytes; whoever writes
it does so inside :class:`writing`, or calls :func:`host_write` first. Kernels get addresses inside
:class:`running`, which keeps the memory alive, and what they wrote is told by :func:`written`.

Memory that anybody outside can see has no mirror: it is copied for one run, and what a kernel wrote
comes home element by element. The same is done while another thread writes to the memory, perhaps
to another part of it; with small views of large memory, until that has cost as much as copying all
of it; and with memory that is too small for its views to be counted, unless it was made for a
kernel's result: such memory stays known until the host writes to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy
from numpy.lib.array_utils import byte_bounds

from dispatcharr._errors import DeviceLostError
from dispatcharr.storage import exports, mirrors
from dispatcharr.storage.exports import root_of
from dispatcharr.storage.mirrors import (
    SMALL,
    Place,
    away,
    bring,
    bytes_at,
    counters,
    dead,
    find,
    pointer,
    prepare_write,
    table,
    tell_home,
)  # fmt: skip
from dispatcharr.storage.runs import (
    address,
    adopt,
    covers,
    duplicated,
    hands,
    received,
    refusal,
    running,
    sent,
    target,
    watch,
    written,
)  # fmt: skip

__all__ = [
    "DECIDED_BY", "SMALL", "address", "adopt", "any_assigned", "assign", "away", "counters",
    "device_in_use", "duplicated", "enabled", "expect", "forget_all", "home", "host_write",
    "in_use", "is_assigned", "is_away", "is_placed", "look", "observe", "on_home", "patch",
    "read", "received", "refusal", "running", "sent", "state", "target", "use", "watch",
    "writing", "written",
]  # fmt: skip

#: A view of more than this part of its root comes home with all of it.
_PART = 4
#: What a look at a few bytes on a device costs, and a byte of all of them: seconds.
_LOOK, _BYTE = 20e-6, 1 / 20e9


#: What :func:`enabled` answers from: the name of a module.
DECIDED_BY = ((vars(mirrors), "_device"),)


def enabled() -> bool:
    """Return whether a device is in use in this process."""
    return mirrors.device_in_use() is not None


def in_use() -> bool:
    """Return whether anything may be elsewhere: there is a device, or was one."""
    return bool(table) or mirrors.device_in_use() is not None


def device_in_use() -> Any:
    """Return the device, None where there is none."""
    return mirrors.device_in_use()


def use(device: Any) -> None:
    """Have mirrors on ``device`` from now on; None for nowhere."""
    mirrors.use(device)


def observe(observer: Callable[[int, int], None]) -> None:
    """Have ``observer`` told, by id, of roots with a mirror (1), away (2), and neither (0)."""
    with mirrors.lock:
        mirrors.observers.append(observer)
        for place in list(table.values()):
            if place.memory is not None or not place.on_host:
                observer(place.key, 1 if place.on_host else 2)


def expect(host: numpy.ndarray) -> None:
    """Note that ``host`` was allocated for a result: however small, it may live on the device."""
    with mirrors.lock:
        root = root_of(host)
        place = find(root) or mirrors.enter(root)
        place.fresh = True
        # The fast path must not hand small memory out behind our back.
        mirrors.tell_state(place)


def on_home(callback: Callable[[], None]) -> None:
    """Have ``callback`` called after copies to the host, which waited for the device."""
    mirrors.on_home.append(callback)


# --- what is where --------------------------------------------------------------------------------


def state(host: numpy.ndarray) -> str:
    """Return where the bytes of ``host`` are: ``"host"``, ``"both"`` or ``"device"``."""
    if dead:
        mirrors.tidy()
    if not table:
        return "host"
    with mirrors.lock:
        place = find(root_of(host))
        if place is None or not (place.on_device or not place.on_host):
            return "host"
        return "both" if place.on_host else "device"


def is_away(host: numpy.ndarray) -> bool:
    """Return whether the host memory of ``host`` is rubbish now."""
    if not away:
        return False
    root = root_of(host)
    place = away.get(id(root))
    return place is not None and place.ref() is root


def is_placed(host: numpy.ndarray) -> bool:
    """Return whether the root of ``host`` has a mirror: writes to it have to be told."""
    if not table:
        return False
    root = root_of(host)
    place = table.get(id(root))
    return place is not None and place.memory is not None and place.ref() is root


def assign(host: numpy.ndarray) -> bool:
    """Note that the program wants ``host`` to be on the device; return whether it is there.

    It holds until the host writes to the memory, or the device needs the room; and for the results
    of kernels that read it there.
    """
    with mirrors.lock:
        place = find(root_of(host))
        if place is None or not place.on_device:
            return False
        place.assigned = True
        return True


def any_assigned() -> bool:
    """Return whether the program wants anything to be on the device."""
    if not table:
        return False
    with mirrors.lock:
        return any([place.assigned for place in table.values()])


def is_assigned(host: numpy.ndarray) -> bool:
    """Return whether ``host`` is on the device because the program wanted it there."""
    if not table:
        return False
    with mirrors.lock:
        place = find(root_of(host))
        return place is not None and place.on_device and place.assigned


# --- the host -------------------------------------------------------------------------------------


def home(host: numpy.ndarray) -> None:
    """Return once the host memory of ``host`` holds its bytes; a mirror stays."""
    if dead:
        mirrors.tidy()
    if not away:
        return
    with mirrors.lock:
        place = find(root_of(host))
        if place is not None:
            bring(place)
    tell_home()


def host_write(host: numpy.ndarray) -> None:
    """Return once the host memory of ``host`` may be written; it has no mirror any more."""
    if dead:
        mirrors.tidy()
    if not table:
        return
    with mirrors.lock:
        prepare_write(host)
    tell_home()


class writing:
    """Write to host memory: no mirror of it is made meanwhile; a context manager.

    Another thread may want one for another part of the memory.

    Parameters
    ----------
    hosts : iterable of numpy.ndarray
        What is written.
    whole : bool
        Whether every element of them is: then it does not matter that values of theirs were lost
        with a device, unless an error ends the writing.
    """

    __slots__ = ("__weakref__", "hosts", "missed", "roots", "whole")

    def __init__(self, hosts: Iterable[numpy.ndarray], whole: bool = False) -> None:
        self.hosts = hosts
        self.whole = whole
        self.roots: list[numpy.ndarray] = []
        #: Roots whose values were lost, with the reason.
        self.missed: list[tuple[numpy.ndarray, str]] = []

    def __enter__(self) -> None:
        if dead:
            mirrors.tidy()
        if not enabled() and not table:
            return
        try:
            with mirrors.lock:
                hands.add(self)
                for host in self.hosts:
                    try:
                        prepare_write(host)
                    except DeviceLostError:
                        if not self.whole or not self._forgo(host):
                            raise
                    self.roots.append(root_of(host))
            tell_home()
        except BaseException:
            self._stop()
            raise

    def _forgo(self, host: numpy.ndarray) -> bool:
        """Forget lost values if all of them are about to be overwritten; return whether."""
        root = root_of(host)
        place = find(root)
        if place is None or place.lost is None or not covers(host, place):
            return False
        self.missed.append((root, place.lost))
        mirrors.remove(place)
        return True

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is None:
            self.roots.clear()
        else:
            self._stop()

    def _stop(self) -> None:
        """Let go after an error: what may not have been overwritten is lost as before."""
        self.roots.clear()
        if self.missed:
            with mirrors.lock:
                for root, reason in self.missed:
                    place = find(root) or mirrors.enter(root)
                    place.lost, place.on_host = reason, False
                    mirrors.tell_away(place)


def read(host: numpy.ndarray) -> numpy.ndarray:
    """Return a copy of ``host``, for which no more than its bytes come home; see :func:`look`."""
    found = look(host)
    return host.copy() if found is host else found


def look(host: numpy.ndarray) -> numpy.ndarray:
    """Return ``host`` with its bytes at home, or a copy of what is small beside its root.

    It is for whoever reads it at once. All bytes come where so many looks were taken at the root
    that it would have cost less, or where ``host`` is much of it.
    """
    if dead:
        mirrors.tidy()
    if not is_away(host):
        return host
    found = host
    with mirrors.lock:
        place = find(root_of(host))
        low, high = byte_bounds(host)
        if place is None or (high - low) * _PART > place.nbytes or _is_worn(place, high - low):
            if place is not None:
                bring(place)
        elif place.lost is not None:
            raise mirrors.lost(place)
        elif not place.on_host:
            counters["looks"] += 1
            came = numpy.empty(high - low, numpy.uint8)
            mirrors.take(came, place.memory, place.pad + low - place.low)
            first = pointer(host) - low
            found = numpy.ndarray(host.shape, host.dtype, came, first, host.strides).copy()
    tell_home()
    return found


def patch(host: numpy.ndarray, values: numpy.ndarray) -> bool:
    """Write a few ``values`` to ``host`` wherever its root is; return whether that was done.

    Parameters
    ----------
    host : numpy.ndarray
        A contiguous view of a root with a mirror; nobody waits to read it.
    values : numpy.ndarray
        A contiguous array of its shape and dtype.
    """
    with mirrors.lock:
        place = find(root_of(host))
        if place is None or not place.on_device or not host.flags.c_contiguous:
            return False
        mirrors.settle(place)
        if not place.on_device or _is_worn(place, host.nbytes):
            return False
        counters["patches"] += 1
        start = pointer(host) - place.low
        if place.on_host:
            # An interrupt must not leave two sides that differ and are both believed.
            place.on_device = False
            numpy.copyto(host, values)
        mirrors.put(place.memory, place.pad + start, bytes_at(pointer(values), values.nbytes))
        place.on_device = True
    return True


def _is_worn(place: Place, nbytes: int) -> bool:
    """Count a look at a few bytes; return whether they have cost as much as all would."""
    place.looked += _LOOK + nbytes * _BYTE
    return bool(place.looked > _LOOK + place.nbytes * _BYTE)


def forget_all(reason: str) -> None:
    """Note that the device died: what was only there raises ``DeviceLostError`` with ``reason``."""
    mirrors.forget(reason)


# --- what others do -------------------------------------------------------------------------------


def _before_fork() -> None:
    """Bring everything home: the new process has no device, and its arrays have their values."""
    mirrors.lock.acquire()
    for place in list(table.values()):
        try:
            if place.lost is None:
                bring(place)
        except Exception:  # the device's error: what is lost for both says so when it is looked at
            continue


def _after_fork() -> None:
    mirrors.lock.release()
    mirrors.here.homed = False


def _in_child() -> None:
    hands.clear()
    mirrors.renew("the process was forked, and a device cannot be used in both")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
exports.withdraw_with(host_write)
