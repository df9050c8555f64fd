"""Short copies between the host and a device: in the stream of the kernels, through pinned memory.

The driver would take pageable memory too, but says of no call whether the memory may be changed
when it returns, and an interrupted copy could still write to it.
"""

from __future__ import annotations

import ctypes
import threading

from dispatcharr.devices.calls import PORTABLE, UNTIMED, Calls, drain
from dispatcharr.devices.device import DeviceError, DeviceMemoryError

__all__ = ["SHORT", "Landing", "Sending"]

#: Bytes up to which a copy is short.
SHORT = 64 << 10
_PART = 4 * SHORT
_PARTS = 4
_LINE = 64
_SLOTS = 16


class Sending:
    """Short copies to the device: each moves on in a pinned area, so none waits for the last one.

    A part of the area is entered again only after the event behind all that was in it.
    """

    def __init__(self, calls: Calls, stream: int) -> None:
        self._calls = calls
        self._stream = stream
        self._lock = threading.Lock()
        self._area = _pinned(calls, _PART * _PARTS)
        self._ends = [calls.handle("cuEventCreate", UNTIMED) for _ in range(_PARTS)]
        self._filled = [False] * _PARTS
        self._part = self._at = 0

    def copy(self, device: int, host: int, nbytes: int) -> None:
        """Copy up to :data:`SHORT` bytes; when it returns the host may change them."""
        with self._lock:
            source = self._place(nbytes) if self._area else 0
            if source:
                ctypes.memmove(source, host, nbytes)
                self._calls.call("cuMemcpyHtoDAsync_v2", device, source, nbytes, self._stream)
                return
            try:
                self._calls.call("cuMemcpyHtoDAsync_v2", device, host, nbytes, self._stream)
                self._calls.call("cuStreamSynchronize", self._stream)
            except BaseException:
                drain(self._calls, self._stream)
                raise

    def _place(self, nbytes: int) -> int:
        """Return an address in the area that no copy uses any more."""
        if self._at + nbytes > _PART:
            self._calls.call("cuEventRecord", self._ends[self._part], self._stream)
            self._filled[self._part] = True
            following = (self._part + 1) % _PARTS
            if self._filled[following]:
                self._calls.call("cuEventSynchronize", self._ends[following])
                self._filled[following] = False
            self._at, self._part = 0, following
        address = self._area + self._part * _PART + self._at
        self._at += -(-nbytes // _LINE) * _LINE
        return address


class Landing:
    """Short copies to the host, each through a pinned slot."""

    def __init__(self, calls: Calls, stream: int) -> None:
        self._calls = calls
        self._stream = stream
        area = _pinned(calls, SHORT * _SLOTS)
        self._slots = [area + i * SHORT for i in range(_SLOTS)] if area else []

    def copy(self, device: int, host: int, nbytes: int) -> None:
        """Copy up to :data:`SHORT` bytes, as they are after all work given before."""
        try:
            slot = self._slots.pop()
        except IndexError:  # more threads than slots, or nothing can be pinned
            self._fetch(device, host, nbytes)
            return
        try:
            self._fetch(device, slot, nbytes)
            ctypes.memmove(host, slot, nbytes)
        finally:
            self._slots.append(slot)

    def _fetch(self, device: int, host: int, nbytes: int) -> None:
        try:
            self._calls.call("cuMemcpyDtoHAsync_v2", host, device, nbytes, self._stream)
            self._calls.call("cuStreamSynchronize", self._stream)
        except BaseException:
            drain(self._calls, self._stream)
            raise


def _pinned(calls: Calls, nbytes: int) -> int:
    """Return the address of pinned memory, 0 where no more may be pinned."""
    try:
        return calls.handle("cuMemHostAlloc", nbytes, PORTABLE)
    except (DeviceError, DeviceMemoryError):
        return 0
