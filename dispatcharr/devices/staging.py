"""Copies between the host and a device through pinned memory of our own.

Policy, once:

- A GPU copies pinned memory alone at full speed, and pinning costs more than a copy. So a lane, one
  for each direction, owns a few pinned buffers for good: a few small ones for copies that are over
  soon, a ring of large ones from the first long copy on. A user's memory is never pinned.
- One thread copies a fifth of what the bus carries. Long copies are shared out: each thread has
  buffers of its own and takes the next chunk when it is done with one, while the GPU works on the
  one before. Where no thread can be had, the calling one does it all.
- A buffer is touched again only after the event behind its last copy.
- Whatever breaks a copy off, an interrupt included, leaves when all that was begun is over: no
  thread is at work and no copy is under way, in either kind of memory.
- Where nothing can be pinned the driver copies pageable memory in its own slower way.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from dispatcharr.devices.calls import PORTABLE, UNTIMED, Calls, drain, surely
from dispatcharr.devices.device import DeviceError, DeviceMemoryError

__all__ = ["LONG", "Lane"]

#: A flag of cuEventCreate: whoever waits sleeps. In long copies another thread can use the core.
_ASLEEP = 1

#: Bytes from which a copy is long: shared out among threads, through the ring.
LONG = 4 << 20
_RING = 64 << 20
_LARGEST = 16 << 20
_SHORT_RING = 2 << 20
_SHORT_BUFFERS = 4
_SMALLEST_CHUNK = 256 << 10
#: What a thread has to copy so that it is worth waking.
_SHARE = 2 << 20
_MOST_HANDS = 8


class _Buffer:
    """A pinned buffer, and the event behind the last copy from or into it."""

    __slots__ = ("address", "event", "nbytes", "used")

    def __init__(self, address: int, nbytes: int, event: int) -> None:
        self.address = address
        self.nbytes = nbytes
        self.event = event
        self.used = False


class _Job:
    """One copy: where from and to, and the chunks that nobody has taken yet."""

    __slots__ = ("chunk", "device", "host", "nbytes", "starts")

    def __init__(self, device: int, host: int, nbytes: int, chunk: int) -> None:
        self.device = device
        self.host = host
        self.nbytes = nbytes
        self.chunk = chunk
        self.starts = deque(range(0, nbytes, chunk))

    def take(self) -> tuple[int, int] | None:
        """Return start and size of a chunk, None when all are taken."""
        try:
            start = self.starts.popleft()
        except IndexError:
            return None
        return start, min(self.chunk, self.nbytes - start)


class _Hand:
    """The buffers of one thread; its lock is held while it works."""

    __slots__ = ("buffers", "lock")

    def __init__(self, buffers: Sequence[_Buffer]) -> None:
        self.buffers = buffers
        self.lock = threading.Lock()

    def rest(self) -> None:
        """Return when nobody works with them."""
        with self.lock:
            pass


class Lane:
    """One direction of copies: a stream, pinned buffers, and the threads that fill or empty them.

    Parameters
    ----------
    calls : Calls
        The driver.
    stream, compute : int
        The stream of the copies, and the one that kernels and allocations are in.
    inward : bool
        Whether it copies to the device.
    """

    def __init__(self, calls: Calls, stream: int, compute: int, *, inward: bool) -> None:
        self._calls = calls
        self._stream, self._compute = stream, compute
        self._inward = inward
        self._lock = threading.Lock()
        self._mark = calls.handle("cuEventCreate", UNTIMED)
        self._rings: dict[bool, list[_Buffer]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._most = min(_MOST_HANDS, _cores())

    def copy(self, device: int, host: int, nbytes: int) -> None:
        """Copy ``nbytes`` between two addresses, after all earlier work and before all later."""
        with self._lock:
            try:
                self._after(self._stream, self._compute)
                buffers = self._buffers(nbytes >= LONG)
                if buffers:
                    self._share(device, host, nbytes, buffers)
                else:
                    self._pageable(device, host, nbytes)
                if self._inward:
                    self._after(self._compute, self._stream)
            except BaseException:
                drain(self._calls, self._stream)
                raise

    def _after(self, later: int, earlier: int) -> None:
        """Have what comes in one stream wait for what is in another now."""
        self._calls.call("cuEventRecord", self._mark, earlier)
        self._calls.call("cuStreamWaitEvent", later, self._mark, 0)

    def _pageable(self, device: int, host: int, nbytes: int) -> None:
        if self._inward:
            self._calls.call("cuMemcpyHtoDAsync_v2", device, host, nbytes, self._stream)
        else:
            self._calls.call("cuMemcpyDtoHAsync_v2", host, device, nbytes, self._stream)
        self._calls.call("cuStreamSynchronize", self._stream)

    def _buffers(self, long: bool) -> list[_Buffer]:
        """Return the ring for a copy, made at first use; a short one if the long one is refused."""
        ring = self._rings.get(long)
        if ring is None:
            ring = self._pin(_RING, min(_LARGEST, _RING // (2 * self._most))) if long else None
            if ring is None:
                ring = self._pin(_SHORT_RING, _SHORT_RING // _SHORT_BUFFERS)
            self._rings[long] = ring
        return ring or self._rings.get(False, [])

    def _pin(self, nbytes: int, each: int) -> list[_Buffer]:
        calls = self._calls
        try:
            flags = UNTIMED | _ASLEEP if nbytes == _RING else UNTIMED
            events = [calls.handle("cuEventCreate", flags) for _ in range(nbytes // each)]
            start = calls.handle("cuMemHostAlloc", nbytes, PORTABLE)
        except (DeviceError, DeviceMemoryError):  # no more may be pinned here
            return []
        return [_Buffer(start + i * each, each, event) for i, event in enumerate(events)]

    def _share(self, device: int, host: int, nbytes: int, buffers: list[_Buffer]) -> None:
        count = max(1, min(self._most, nbytes // _SHARE)) if nbytes >= LONG else 1
        count = min(count, len(buffers))
        wanted = -(-nbytes // (4 * count * 4096)) * 4096
        job = _Job(device, host, nbytes, min(buffers[0].nbytes, max(_SMALLEST_CHUNK, wanted)))
        work = self._send if self._inward else self._fetch
        hands = [_Hand(buffers[i::count]) for i in range(count)]
        if count == 1:
            work(job, hands[0])
            return
        try:
            self._in_threads(work, job, hands)
        finally:
            job.starts.clear()
            for hand in hands:  # those that were begun end with the chunk they are at
                surely(hand.rest)

    def _in_threads(
        self, work: Callable[[_Job, _Hand], None], job: _Job, hands: list[_Hand]
    ) -> None:
        futures: list[Future[None]] = []
        for hand in hands:
            try:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._most, "dispatcharr-copy")
                futures.append(self._pool.submit(work, job, hand))
            except RuntimeError:  # at exit, or where the system allows no more threads
                work(job, hand)
                break
        for future in futures:
            future.result()

    def _send(self, job: _Job, hand: _Hand) -> None:
        with hand.lock:
            turn = 0
            while (chunk := job.take()) is not None:
                start, size = chunk
                buffer = hand.buffers[turn % len(hand.buffers)]
                turn += 1
                self._wait(buffer)
                ctypes.memmove(buffer.address, job.host + start, size)
                self._calls.call(
                    "cuMemcpyHtoDAsync_v2", job.device + start, buffer.address, size, self._stream
                )
                self._calls.call("cuEventRecord", buffer.event, self._stream)
                buffer.used = True

    def _fetch(self, job: _Job, hand: _Hand) -> None:
        with hand.lock:
            under_way: deque[tuple[_Buffer, int, int]] = deque()
            turn = 0
            while (chunk := job.take()) is not None:
                start, size = chunk
                if len(under_way) == len(hand.buffers):
                    self._land(job, *under_way.popleft())
                buffer = hand.buffers[turn % len(hand.buffers)]
                turn += 1
                self._wait(buffer)
                self._calls.call(
                    "cuMemcpyDtoHAsync_v2", buffer.address, job.device + start, size, self._stream
                )
                self._calls.call("cuEventRecord", buffer.event, self._stream)
                buffer.used = True
                under_way.append((buffer, start, size))
            while under_way:
                self._land(job, *under_way.popleft())

    def _land(self, job: _Job, buffer: _Buffer, start: int, size: int) -> None:
        self._wait(buffer)
        ctypes.memmove(job.host + start, buffer.address, size)

    def _wait(self, buffer: _Buffer) -> None:
        if buffer.used:
            self._calls.call("cuEventSynchronize", buffer.event)
            buffer.used = False


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
