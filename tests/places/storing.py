"""A device that stores and computes nothing, and arrays of ours whose bytes are on it.

Whatever is on the device alone has rubbish in its host memory, so that a read that was not guarded
shows; and :func:`check_coherent` finds a write that was not: a mirror that differs from the host.
With ``DISPATCHARR_TEST_PROTECT=1`` such a read ends the process, with a traceback.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy

from dispatcharr.devices.device import Props
from dispatcharr.face import _fastpath
from dispatcharr.storage import mirrors, places
from dispatcharr.storage.exports import root_of

POISON = 0xA5
PROTECT = os.environ.get("DISPATCHARR_TEST_PROTECT", "") == "1"
_PAGE = mmap.PAGESIZE
if PROTECT:
    faulthandler.enable()


class NoRoom(MemoryError):
    """The device is full."""


class Stored:
    """Memory of the device."""

    _next = 1 << 44

    def __init__(self, nbytes: int, device: StoringDevice) -> None:
        self.nbytes = nbytes
        self.data = numpy.full(nbytes, POISON, numpy.uint8)
        self.device = device
        with device.lock:
            self.address = Stored._next
            Stored._next += (nbytes // 4096 + 2) * 4096
            device.used += nbytes
            device.live[self.address] = weakref.ref(self)

    def __del__(self) -> None:
        with self.device.lock:
            self.device.used -= self.nbytes
            self.device.live.pop(self.address, None)


class StoringDevice:
    """Memory apart from the host's, of limited size; it may die."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.props = Props(
            name="storing", uuid="storing", driver="0.0", target="none", multiprocessors=1,
            clock_hz=1e9, memory_bandwidth=1e12, l2_bytes=1 << 20, total_memory=room,
            double_ratio=2,
        )  # fmt: skip
        self.room = room
        self.used = 0
        self.dead: str | None = None
        self.lock = threading.RLock()
        self.live: dict[int, weakref.ref[Stored]] = {}
        self.stream = 0

    def _check(self) -> None:
        if self.dead is not None:
            raise RuntimeError(f"the device is dead: {self.dead}")

    def alloc(self, nbytes: int) -> Stored:
        self._check()
        if self.used + nbytes > self.room:
            raise NoRoom(f"{nbytes} bytes")
        return Stored(nbytes, self)

    def to_device(self, memory: Stored, offset: int, host: numpy.ndarray) -> None:
        self._check()
        assert host.dtype == numpy.uint8 and host.flags.c_contiguous
        assert 0 <= offset <= offset + host.size <= memory.nbytes
        memory.data[offset : offset + host.size] = host

    def to_host(self, host: numpy.ndarray, memory: Stored, offset: int) -> None:
        self._check()
        assert 0 <= offset <= offset + host.size <= memory.nbytes
        unprotect(host)
        host[...] = memory.data[offset : offset + host.size]

    def synchronize(self) -> None:
        self._check()

    def view(self, address: int, host: numpy.ndarray) -> numpy.ndarray:
        """Return the array of this device at ``address``, with the layout of ``host``."""
        for start, reference in list(self.live.items()):
            memory = reference()
            if memory is not None and start <= address < start + memory.nbytes:
                offset = address - start
                return numpy.ndarray(host.shape, host.dtype, memory.data, offset, host.strides)
        raise AssertionError(f"no memory is at {address}")


@contextmanager
def stored_on(device: Any) -> Iterator[Any]:
    """Have mirrors on ``device``, and none afterwards."""
    assert not places.enabled()
    places.use(device)
    try:
        yield device
    finally:
        if places.enabled() and device.dead is None:
            places.use(None)
        else:
            places.forget_all("the test is over")


def pages_of(host: numpy.ndarray) -> tuple[int, int]:
    """Return start and length of the whole pages inside the memory of ``host``."""
    low, high = numpy.lib.array_utils.byte_bounds(host)
    start = -(-low // _PAGE) * _PAGE
    return start, max(high // _PAGE * _PAGE - start, 0)


_protected: dict[int, int] = {}


def protect(root: numpy.ndarray) -> None:
    """Have any access to the memory end the process, until it comes home."""
    start, length = pages_of(root)
    if not length:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(length), 0) == 0
    _protected[start] = length
    weakref.finalize(root, _unprotect, start).atexit = True


def _unprotect(start: int) -> None:
    length = _protected.pop(start, 0)
    if length:
        libc = ctypes.CDLL(None)
        libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(length), 3)


def unprotect(host: numpy.ndarray) -> None:
    """Make memory accessible again."""
    if _protected:
        low, high = numpy.lib.array_utils.byte_bounds(host)
        for start in list(_protected):
            if low < start + _protected[start] and start < high:
                _unprotect(start)


def spoil(root: numpy.ndarray) -> None:
    """Make rubbish of the host memory of what is on the device alone."""
    if PROTECT:
        protect(root)
    if root.nbytes and not PROTECT:
        low, high = numpy.lib.array_utils.byte_bounds(root)
        mirrors.bytes_at(low, high - low)[...] = POISON


def moved(host: numpy.ndarray, way: str = "device") -> numpy.ndarray:
    """Move the root of ``host`` to the device: ``"device"`` for away, or ``"both"``."""
    if way == "host" or not host.size:
        return host
    root = root_of(host)
    with places.running():
        if way == "both" and root.nbytes > places.SMALL:
            places.address(root)
            assert places.state(host) == "both"
            return host
        address = places.target(root, fresh=True)
        places.device_in_use().view(address, root)[...] = root
        places.written([root])
    if way == "both":
        places.home(host)
    else:
        spoil(root)
    assert places.state(host) == way
    return host


def placed(values: Any, way: str = "device", view: Callable[[Any], Any] | None = None) -> Any:
    """Return an array of ours with these values, in its own memory, somewhere."""
    made = _fastpath.wrap(numpy.array(values))
    shown = made if view is None else view(made)
    moved(made._value, way)
    return shown


def check_coherent() -> None:
    """Check that what counts as being on both sides is the same on both."""
    for place in list(mirrors.table.values()):
        root = place.ref()
        if root is not None and place.on_host and place.on_device:
            here = mirrors.bytes_at(place.low, place.nbytes)
            there = place.memory.data[place.pad : place.pad + place.nbytes]
            assert bytes(here) == bytes(there), f"the mirror of {root.shape} {root.dtype} is stale"
