"""The memory of a virtual device: guarded, full of NaN, and remembered for a while once freed."""

from __future__ import annotations

import ctypes
from bisect import bisect_right, insort
from collections import deque

import numpy

from dispatcharr.devices.device import DeviceMemoryError

__all__ = ["Block", "Memories"]

_ALIGNMENT = 256
_GUARD = 256  # bytes at each end
_PATTERN = b"\xa5" * _GUARD
_RUBBISH = 0xFF  # repeated: NaN of every width, -1, and no boolean
#: Most freed memory that is kept to see who still uses it.
_MOST_FREED, _MOST_FREED_BYTES = 2000, 64 << 20
#: Most blocks whose guards are looked at when nothing says that they were touched.
_AT_ONCE = 50


class Block:
    """A piece of memory with its guards.

    Attributes
    ----------
    address, nbytes : int
        Where it is, and how much without the guards.
    bytes : numpy.ndarray
        Its contents.
    released : bool
        Whether its owner has freed it. Work that was queued before may still use it.
    """

    __slots__ = ("address", "bytes", "nbytes", "raw", "released")

    def __init__(self, nbytes: int) -> None:
        self.raw = numpy.empty(nbytes + 2 * _GUARD + _ALIGNMENT, numpy.uint8)
        start = self.raw.ctypes.data + _GUARD
        start += -start % _ALIGNMENT
        first = start - self.raw.ctypes.data
        self.raw[first - _GUARD : first] = _PATTERN[0]
        self.raw[first + nbytes : first + nbytes + _GUARD] = _PATTERN[0]
        self.bytes = self.raw[first : first + nbytes]
        self.bytes.fill(_RUBBISH)
        self.address = start
        self.nbytes = nbytes
        self.released = False

    def __repr__(self) -> str:
        state = "freed " if self.released else ""
        return f"<{state}Block of {self.nbytes} bytes at {self.address:#x}>"

    def guards(self) -> tuple[int, int]:
        """Return the addresses of its guards."""
        return self.address - _GUARD, self.address + self.nbytes

    def trouble(self) -> str | None:
        """Return what was written outside of it, if anything was."""
        for where, side in zip(self.guards(), ("before the start", "beyond the end"), strict=True):
            found = ctypes.string_at(where, _GUARD)
            if found != _PATTERN:
                at = next(i for i in range(_GUARD) if found[i] != _PATTERN[i])
                return f"a write {side} of {self.nbytes} bytes, at byte {where + at - self.address}"
        return None


class Memories:
    """All blocks of a device, by their addresses.

    Parameters
    ----------
    capacity : int
        Most bytes that may be in use at once.
    sanitize : bool
        Whether to tell the sanitizer, which must be loaded, what may be accessed.
    """

    def __init__(self, capacity: int, sanitize: bool) -> None:
        self.capacity = capacity
        self.used = 0
        self._blocks: dict[int, Block] = {}
        self._starts: list[int] = []
        # What was released and is not subtracted from `used`: those who release take no lock.
        self._released: deque[int] = deque()
        self._freed: deque[Block] = deque()
        self._freed_bytes = 0
        self._looked = 0
        self._sanitizer = ctypes.CDLL(None) if sanitize else None

    def take(self, nbytes: int) -> Block:
        """Return new memory; DeviceMemoryError where the capacity does not suffice."""
        if nbytes < 0:
            raise ValueError(f"alloc: nbytes must not be negative, got {nbytes}")
        used = self.count()
        if used + nbytes > self.capacity:
            raise DeviceMemoryError(
                f"alloc: {nbytes} bytes wanted, {self.capacity - used} of {self.capacity} are free"
            )
        block = Block(nbytes)
        self.used += nbytes
        self._blocks[block.address] = block
        insort(self._starts, block.guards()[0])
        self._forbid(block.guards()[0], _GUARD)
        self._forbid(block.guards()[1], _GUARD)
        return block

    def release(self, address: int) -> Block:
        """Note that the owner frees a block. From any thread, without a lock."""
        block = self._blocks[address]
        block.released = True
        self._released.append(block.nbytes)
        return block

    def count(self) -> int:
        """Return the bytes in use."""
        while self._released:
            self.used -= self._released.popleft()
        return self.used

    def find(self, address: int) -> Block | None:
        """Return the block that an address is in, guards included; freed ones are found too."""
        starts = self._starts
        if not starts or address < starts[0]:
            return None
        block = self._blocks[starts[bisect_right(starts, address) - 1] + _GUARD]
        return block if address < block.address + block.nbytes + _GUARD else None

    def free(self, block: Block) -> None:
        """Make rubbish of a block, now that nothing that was queued uses it."""
        block.bytes.fill(_RUBBISH)
        self._forbid(block.address, block.nbytes)
        self._freed.append(block)
        self._freed_bytes += block.nbytes
        while self._freed_bytes > _MOST_FREED_BYTES or len(self._freed) > _MOST_FREED:
            oldest = self._freed.popleft()
            self._freed_bytes -= oldest.nbytes
            self._forget(oldest)

    def trouble(self) -> str | None:
        """Return what was written outside of some blocks, if anything was: of others each time."""
        for _ in range(min(_AT_ONCE, len(self._starts))):
            self._looked = (self._looked + 1) % len(self._starts)
            trouble = self.check(self._blocks[self._starts[self._looked] + _GUARD])
            if trouble is not None:
                return trouble
        return None

    def check(self, block: Block) -> str | None:
        """Return what was written outside of a block; under a sanitizer that stops the process."""
        return None if self._sanitizer is not None else block.trouble()

    def _forget(self, block: Block) -> None:
        del self._blocks[block.address]
        start = block.guards()[0]
        del self._starts[bisect_right(self._starts, start) - 1]
        if self._sanitizer is not None:
            self._sanitizer["__asan_unpoison_memory_region"](
                ctypes.c_void_p(block.raw.ctypes.data), ctypes.c_size_t(block.raw.nbytes)
            )

    def _forbid(self, address: int, nbytes: int) -> None:
        if self._sanitizer is not None:
            self._sanitizer["__asan_poison_memory_region"](
                ctypes.c_void_p(address), ctypes.c_size_t(nbytes)
            )
