"""A GPU's memory, in the order of its stream: what is freed serves the next allocation at once.

The pool is our own, so that what it keeps and gives back is nobody else's. Memory is refused only
after all that is free was given back to the driver. Freeing takes no lock and never waits, since
the collector may do it anywhere; at the end of the interpreter and in a forked child nothing is
freed, since the driver is going, or is not ours. Where a driver has no pools, what is freed waits
for the next allocation.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

from dispatcharr.devices.context import Context
from dispatcharr.devices.describe import has_pools
from dispatcharr.devices.device import DeviceMemoryError, Memory
from dispatcharr.devices.libcuda import PoolProps

__all__ = ["Pool"]

# CUmemPool_attribute
_THRESHOLD, _RESERVED, _USED = 4, 5, 7
_ALLOCATE = "cuMemAllocFromPoolAsync"


class Pool:
    """The memory of one device, which is started when this is made.

    Attributes
    ----------
    trouble : str or None
        Why memory could not be freed, the last time that happened.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stream = context.stream
        self._allocate = context.driver.function(_ALLOCATE)
        self._free = context.driver.function("cuMemFreeAsync")
        self._freed: deque[int] = deque()
        self._release = self.release
        self.trouble: str | None = None
        self._pool = self._make() if has_pools(context.driver, context.device) else 0

    def _make(self) -> int:
        wanted = PoolProps.of_device(self._context.device)
        pool = self._context.handle("cuMemPoolCreate", ctypes.byref(wanted))
        # Above this the driver gives memory back whenever the program waits for the GPU.
        kept = ctypes.c_uint64(self._context.props.total_memory // 2)
        self._context.call("cuMemPoolSetAttribute", pool, _THRESHOLD, ctypes.byref(kept))
        return pool

    def alloc(self, nbytes: int) -> Memory:
        """Return memory; DeviceMemoryError if there is none."""
        self._context.ready()
        if nbytes < 0:
            raise ValueError(f"alloc: the size must be at least 0, got {nbytes}")
        if nbytes > self._context.props.total_memory:
            raise DeviceMemoryError(self._lack(nbytes))
        memory = Memory(0, nbytes, None)
        address = ctypes.c_uint64()
        room = ctypes.byref(address)
        if not self._pool:
            self._plain(room, nbytes)
        elif self._allocate(room, nbytes or 1, self._pool, self._stream):
            self._again(room, nbytes)
        memory.address = address.value
        memory._release = self._release
        return memory

    def release(self, address: int) -> None:
        """Free memory, after all work given so far; called from anywhere, so it never raises."""
        context = self._context
        if not context.usable():
            return
        if not self._pool:
            self._freed.append(address)
            return
        try:
            context.ready()
            code = self._free(address, self._stream)
            if code:
                context.failed(code, "cuMemFreeAsync", address, self._stream)
        except Exception as error:  # the collector has nobody to raise it to: the memory is lost
            self.trouble = f"memory could not be freed: {error}"

    def info(self) -> tuple[int, int]:
        """Return the bytes that can still be had, and the bytes there are."""
        context = self._context
        free, total, kept = ctypes.c_size_t(), ctypes.c_size_t(), 0
        if self._pool:
            held, used = ctypes.c_uint64(), ctypes.c_uint64()
            context.call("cuMemPoolGetAttribute", self._pool, _RESERVED, ctypes.byref(held))
            context.call("cuMemPoolGetAttribute", self._pool, _USED, ctypes.byref(used))
            kept = held.value - used.value
        else:
            self._free_now()
        context.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value + max(0, kept), total.value

    def _again(self, room: Any, nbytes: int) -> None:
        """Allocate once more in this context, then with all given back that is free."""
        arguments = (_ALLOCATE, room, nbytes or 1, self._pool, self._stream)
        try:
            self._context.call(*arguments)
        except DeviceMemoryError:
            self._context.call("cuStreamSynchronize", self._stream)
            self._context.call("cuMemPoolTrimTo", self._pool, 0)
            try:
                self._context.call(*arguments)
            except DeviceMemoryError:
                raise DeviceMemoryError(self._lack(nbytes)) from None

    def _plain(self, room: Any, nbytes: int) -> None:
        self._free_now()
        try:
            self._context.call("cuMemAlloc_v2", room, nbytes or 1)
        except DeviceMemoryError:
            raise DeviceMemoryError(self._lack(nbytes)) from None

    def _free_now(self) -> None:
        if self._freed:
            self._context.call("cuStreamSynchronize", self._stream)
        for _ in range(len(self._freed)):
            try:
                address = self._freed.popleft()
            except IndexError:  # another thread frees them too
                return
            self._context.call("cuMemFree_v2", address)

    def _lack(self, nbytes: int) -> str:
        free, total = self.info()
        return (
            f"alloc: wanted {nbytes} bytes on the GPU {self._context.props.name}, {free} of its "
            f"{total} are free; drop arrays that are not needed, or compute in smaller pieces"
        )
