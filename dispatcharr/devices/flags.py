"""Words of host memory that kernels set: what they have met, without a copy to ask for it."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from itertools import count

from dispatcharr.devices.calls import MAPPED, PORTABLE, Calls

__all__ = ["Flag", "FlagRing"]

_BLOCK = 1024


class _Word:
    """A word: where kernels find it, and the word itself."""

    __slots__ = ("address", "content")

    def __init__(self, address: int, host: int) -> None:
        self.address = address
        self.content = ctypes.c_uint64.from_address(host)


class FlagRing:
    """Words that are handed out again when no kernel can set them any more.

    What is given back waits for a synchronisation that began afterwards. Moments are told apart by
    numbers that only grow, so this needs no lock.

    Parameters
    ----------
    calls : Calls
        The driver.
    synchronize : callable
        Waits for all work; it must call :meth:`begin` and :meth:`end`.
    """

    def __init__(self, calls: Calls, synchronize: Callable[[], None]) -> None:
        self._calls = calls
        self._synchronize = synchronize
        self._free: deque[_Word] = deque()
        self._retired: deque[tuple[int, _Word]] = deque()
        self._moments = count(1)
        self._settled = 0

    def begin(self) -> int:
        """Return a number for this moment; a synchronisation that begins now hands it to end."""
        return next(self._moments)

    def end(self, began: int) -> None:
        """Note that all work given before the moment ``began`` is over."""
        self._settled = max(self._settled, began)

    def take(self) -> Flag:
        """Return a word that is zero."""
        word = self._unused()
        while word is None:
            # What nobody has asked for in so many launches is over but for a few, most likely.
            if len(self._retired) >= _BLOCK:
                self._synchronize()
            else:
                self._grow()
            word = self._unused()
        word.content.value = 0
        return Flag(self, word)

    def retire(self, word: _Word) -> None:
        """Take back a word that kernels may still set."""
        self._retired.append((next(self._moments), word))

    def _unused(self) -> _Word | None:
        try:
            return self._free.popleft()
        except IndexError:
            pass
        try:
            oldest = self._retired.popleft()
        except IndexError:
            return None
        if oldest[0] < self._settled:
            return oldest[1]
        self._retired.appendleft(oldest)
        return None

    def _grow(self) -> None:
        host = self._calls.handle("cuMemHostAlloc", 8 * _BLOCK, PORTABLE | MAPPED)
        start = self._calls.handle("cuMemHostGetDevicePointer_v2", host, 0)
        self._free.extend(_Word(start + 8 * i, host + 8 * i) for i in range(_BLOCK))


class Flag:
    """One word, as it is handed out."""

    __slots__ = ("_ring", "_word", "address")

    def __init__(self, ring: FlagRing, word: _Word) -> None:
        self._ring: FlagRing | None = ring
        self._word = word
        self.address = word.address

    def read(self) -> int:
        """Return the bits; those of a kernel are there once it was waited for."""
        if self._ring is None:
            raise ValueError("read: this flag word was released; read it before that")
        return int(self._word.content.value)

    def release(self) -> None:
        """Give the word back. Once is enough."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.retire(self._word)

    def __del__(self) -> None:
        if getattr(self, "_ring", None) is not None:
            self.release()
