"""A device without a device: kernels run on the CPU, and mistakes that a GPU forgives do not pass.

It is for tests, and for looking at what would be done. What it does that a GPU does not:

- Work that is queued waits, and is done at some later moment that a seed decides: all of it in
  order, and at the latest when the host has to wait. Who reads too early reads rubbish.
- Memory is full of NaN when it is handed out and after it was freed, and has guards at both ends.
  A write beyond an end, a barrier that not all threads reach, a copy beyond an end, and the use
  of memory after it was freed are errors; they break the device.
- Threads of a block run in an ascending, a descending or a random order, launch by launch.
- Memory ends where it is told to, and calls fail that are told to (:meth:`VirtualDevice.fail`).
- Time is computed, not measured: events tell what a fast GPU might have taken, always the same.
"""

from __future__ import annotations

import platform
import random
import threading
from collections import deque
from collections.abc import Sequence
from weakref import ref

import numpy

from dispatcharr._config import variable
from dispatcharr._errors import OptionError
from dispatcharr.devices.device import (
    COUNTERS,
    CompileError,
    DeviceError,
    DeviceMemoryError,
    Event,
    Kernel,
    Memory,
    Props,
)
from dispatcharr.devices.shim import Program, compile_text, compiler, missing
from dispatcharr.devices.virtual_memory import Block, Memories
from dispatcharr.devices.virtual_tasks import (
    COPY,
    LINK,
    Copy,
    Free,
    FreeWord,
    Launch,
    Machine,
    Task,
    Upload,
)

__all__ = ["VirtualDevice", "VirtualEvent", "VirtualFlag"]

#: Most work that waits.
_MOST_WAITING, _MOST_WAITING_BYTES = 64, 32 << 20
_FAULTS = ("allocation", "launch", "compile", "to_device", "to_host")


class VirtualDevice:
    """A device of the host's own memory; see the module's docstring.

    Parameters
    ----------
    seed : int, optional
        Decides when queued work is done and in which order threads run; unset,
        ``DISPATCHARR_SIM_SEED`` does, or 0.
    capacity : int
        Bytes of its memory.
    sanitize : bool, optional
        Whether kernels are compiled to be sanitized; unset, ``DISPATCHARR_SIM_SANITIZE`` says so.
        It takes the variables of :func:`~dispatcharr.devices.shim.sanitizer_environment`.

    Attributes
    ----------
    peak : int
        Most bytes that were allocated at once.
    """

    stream = 0

    def __init__(
        self, seed: int | None = None, *, capacity: int = 4 << 30, sanitize: bool | None = None
    ) -> None:
        self.props = Props(
            name="virtual", uuid=f"virtual-{platform.node()}", driver="0.0",
            target=f"virtual-{platform.machine()}", multiprocessors=132, clock_hz=1.98e9,
            memory_bandwidth=2.7e12, l2_bytes=50 << 20, total_memory=capacity, double_ratio=2,
        )  # fmt: skip
        self.dead: str | None = None
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.peak = 0
        if sanitize is None:
            sanitize = variable("DISPATCHARR_SIM_SANITIZE") == "1"
        self._sanitize = sanitize
        self._random = random.Random(_seed() if seed is None else seed)
        self._lock = threading.RLock()
        self._memories = Memories(capacity, sanitize)
        self._machine = Machine(self._memories, self.props.memory_bandwidth)
        self._queue: deque[Task] = deque()
        self._waiting_bytes = 0

    def __repr__(self) -> str:
        state = f"dead: {self.dead}" if self.dead else f"{len(self._queue)} tasks wait"
        return f"<VirtualDevice, {self._memories.used} bytes used, {state}>"

    @staticmethod
    def missing() -> str | None:
        """Return why there can be no such device here; None where there can."""
        return missing()

    @property
    def seconds(self) -> float:
        """Computed time of all that was done so far."""
        return self._machine.seconds

    @property
    def compiler(self) -> str:
        """What compiles its kernels: all that an image depends on besides its text."""
        return compiler() + ("; sanitized" if self._sanitize else "")

    def fail(self, what: str, *, at: int = 1, times: int = 1) -> None:
        """Let calls fail that would not.

        Parameters
        ----------
        what : str
            ``"allocation"``: DeviceMemoryError. ``"compile"``: CompileError. ``"launch"``: the
            device dies when the kernel is run. ``"to_device"``, ``"to_host"``: KeyboardInterrupt
            when half is copied.
        at : int
            The first call to fail, counted from now: 1 is the next.
        times : int
            How many calls fail, from that one on.
        """
        if what not in _FAULTS:
            raise ValueError(f"fail: what must be one of {', '.join(_FAULTS)}, got {what!r}")
        self._machine.faults[what] = [at - 1, times]

    def alloc(self, nbytes: int) -> Memory:
        """Return memory full of NaN; DeviceMemoryError when the capacity is used up."""
        with self._lock:
            self._check_alive()
            if self._machine.due("allocation"):
                raise DeviceMemoryError(f"alloc: {nbytes} bytes, a failure that was asked for")
            block = self._memories.take(nbytes)
            self.counters["allocations"] += 1
            self.peak = max(self.peak, self._memories.used)
            return Memory(block.address, nbytes, self._release)

    def to_device(self, memory: Memory, offset: int, host: numpy.ndarray) -> None:
        """Queue a copy of ``host`` as it is now."""
        with self._lock:
            self._check_alive()
            block = self._block("to_device", memory, offset, host.nbytes)
            interrupted = self._machine.due("to_device")
            if interrupted:
                host = host[: host.nbytes // 2]
            self.counters["to_device"] += 1
            self.counters["to_device_bytes"] += host.nbytes
            self._waiting_bytes += host.nbytes
            self._give(Upload(block, offset, host.tobytes()))
            if interrupted:
                raise KeyboardInterrupt("to_device: an interrupt that was asked for")

    def to_host(self, host: numpy.ndarray, memory: Memory, offset: int) -> None:
        """Do all work that waits, then copy."""
        with self._lock:
            self._check_alive()
            block = self._block("to_host", memory, offset, host.nbytes)
            self._run()
            if self._machine.due("to_host"):
                half = host.nbytes // 2
                host[:half] = block.bytes[offset : offset + half]
                raise KeyboardInterrupt("to_host: an interrupt that was asked for")
            self.counters["to_host"] += 1
            self.counters["to_host_bytes"] += host.nbytes
            host[:] = block.bytes[offset : offset + host.nbytes]
            self._machine.seconds += COPY + host.nbytes / LINK

    def copy(
        self, target: Memory, target_offset: int, source: Memory, source_offset: int, nbytes: int
    ) -> None:
        """Queue a copy on the device."""
        with self._lock:
            self._check_alive()
            into = self._block("copy", target, target_offset, nbytes)
            out = self._block("copy", source, source_offset, nbytes)
            self.counters["copies"] += 1
            self._give(Copy(into, target_offset, out, source_offset, nbytes))

    def compile(self, text: str, name: str) -> bytes:
        """Return the shared object of a kernel's text."""
        with self._lock:
            due = self._machine.due("compile")
        if due:
            raise CompileError(f"{name}: a failure that was asked for")
        return compile_text(text, name, sanitize=self._sanitize)

    def load(self, image: bytes, name: str) -> Kernel:
        """Return the kernel of an image."""
        self._check_alive()
        return Program(image, name)

    def launch(self, kernel: Kernel, grid: int, block: int, words: Sequence[int]) -> None:
        """Queue a kernel; what it would not be launched with by a GPU is a ValueError."""
        if not isinstance(kernel, Program):
            raise TypeError(f"launch: {kernel!r} was not loaded by this device")
        _check_launch(kernel, grid, block, words)
        with self._lock:
            self._check_alive()
            touched = []
            task = Launch(kernel, grid, block, words)
            for word in words:
                found = self._memories.find(word)
                if found is not None:
                    if found.released:
                        raise self._die(f"{kernel.name}: launched on memory that was freed")
                    touched.append(found)
                    continue
                flag = self._machine.flags[word]() if word in self._machine.flags else None
                if flag is not None:
                    flag.last = task
            task.touched = touched
            task.schedule = self._random.randrange(3)
            task.seed = self._random.getrandbits(63)
            self.counters["launches"] += 1
            self._give(task)

    def synchronize(self) -> None:
        """Do all work that waits."""
        with self._lock:
            self._check_alive()
            self.counters["synchronizes"] += 1
            self._run()
            trouble = self._memories.trouble()
            if trouble is not None:
                raise self._die(f"synchronize: {trouble}")

    def event(self) -> Event:
        """Mark this moment in the queue."""
        with self._lock:
            self._check_alive()
            event = VirtualEvent()
            self._give(event)
            return event

    def elapsed(self, first: Event, last: Event) -> float:
        """Return the computed seconds between two events of this device."""
        if not isinstance(first, VirtualEvent) or not isinstance(last, VirtualEvent):
            raise TypeError(f"elapsed: {first!r} or {last!r} is no event of this device")
        with self._lock:
            self._check_alive()
            self._run()
        return last.seconds - first.seconds

    def memory_info(self) -> tuple[int, int]:
        """Return the bytes that can still be had, and the capacity."""
        with self._lock:
            return self._memories.capacity - self._memories.count(), self._memories.capacity

    def flags(self) -> VirtualFlag:
        """Return a word of host memory that is zero."""
        with self._lock:
            self._check_alive()
            if not self._machine.words:
                self._run()
            if not self._machine.words:
                self._machine.words.extend(numpy.zeros((64, 1), "u8"))
            word = self._machine.words.popleft()
            word[0] = 0
            flag = VirtualFlag(self, word)
            self._machine.flags[flag.address] = ref(flag)
            return flag

    def _give(self, task: Task) -> None:
        """Queue a task, and do some or none of what waits."""
        self._queue.append(task)
        waiting = len(self._queue)
        if waiting > _MOST_WAITING or self._waiting_bytes > _MOST_WAITING_BYTES:
            self._run()
        elif self._random.random() < 0.3:
            self._run(self._random.randrange(waiting + 1))

    def _run(self, most: int | None = None) -> None:
        """Do tasks in order: all, or at most so many."""
        while self._queue and self.dead is None and (most is None or most > 0):
            # It stays in the queue until it is over: an interrupt must neither lose nor repeat it.
            task = self._queue[0]
            try:
                if not task.over:
                    task.run(self._machine)
            except DeviceError as error:
                raise self._die(str(error)) from error
            self._queue.popleft()
            if most is not None:
                most -= 1
        if not self._queue:
            self._waiting_bytes = 0

    def _release(self, address: int) -> None:
        # No lock, see Memory.
        if self.dead is None:
            self._queue.append(Free(self._memories.release(address)))

    def _block(self, call: str, memory: Memory, offset: int, nbytes: int) -> Block:
        block = self._memories.find(memory.address)
        if block is None or block.address != memory.address or block.released:
            raise self._die(f"{call}: {memory!r} was freed")
        if offset < 0 or offset + nbytes > block.nbytes:
            raise ValueError(f"{call}: {nbytes} bytes at {offset} are not inside {memory!r}")
        return block

    def abandon(self, reason: str) -> None:
        """Use the device no more; every call raises ``reason`` from now on."""
        self.dead = self.dead or reason

    def _die(self, why: str) -> DeviceError:
        self.abandon(why)
        return DeviceError(why)

    def _check_alive(self) -> None:
        if self.dead is not None:
            raise DeviceError(self.dead)


class VirtualEvent:
    """A moment in a device's queue, and when that was."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.over = False

    def __repr__(self) -> str:
        return f"<VirtualEvent at {self.seconds:.6f} s>" if self.over else "<VirtualEvent, waiting>"

    def done(self) -> bool:
        """Return whether all work given before it is over."""
        return self.over

    def run(self, machine: Machine) -> None:
        """Note the time."""
        self.seconds = machine.seconds
        self.over = True


class VirtualFlag:
    """A word of host memory; reading it before the kernels that set it are over is an error."""

    def __init__(self, device: VirtualDevice, word: numpy.ndarray) -> None:
        self.address = int(word.ctypes.data)
        self.last: Launch | None = None
        self._device = device
        self._word: numpy.ndarray | None = word

    def __repr__(self) -> str:
        state = "released" if self._word is None else f"{self._word[0]:#x}"
        return f"<VirtualFlag, {state}>"

    def read(self) -> int:
        """Return the bits."""
        if self._word is None:
            raise DeviceError("read: the flags were released")
        if self.last is not None and not self.last.over and self._device.dead is None:
            raise DeviceError(f"read: {self.last.kernel.name} sets these flags and still waits")
        return int(self._word[0])

    def release(self) -> None:
        """Give the word back, after all work that was queued before."""
        word, self._word = self._word, None
        if word is not None:
            self._device._queue.append(FreeWord(self.address, word))

    def __del__(self) -> None:
        if getattr(self, "_word", None) is not None:
            self.release()


def _seed() -> int:
    text = variable("DISPATCHARR_SIM_SEED") or "0"
    if not (text.isascii() and text.isdecimal()):
        raise OptionError(f"DISPATCHARR_SIM_SEED must be a whole number, got {text[:40]!r}")
    return int(text)


def _check_launch(kernel: Program, grid: int, block: int, words: Sequence[int]) -> None:
    """Raise for what no GPU would launch."""
    if not (0 < grid < 2**31 and 0 < block <= 1024):
        raise ValueError(
            f"launch: {kernel.name} wants 1 to 2**31 - 1 blocks of 1 to 1024 threads, "
            f"got {grid} of {block}"
        )
    if len(words) != kernel.words:
        raise ValueError(f"launch: {kernel.name} takes {kernel.words} words, got {len(words)}")
    if len(words) > 512:
        raise ValueError(f"launch: a parameter has at most 4096 bytes, got {len(words)} words")
    for word in words:
        if not -(2**63) <= word < 2**64:
            raise ValueError(f"launch: {kernel.name}: {word} has more than 64 bits")
