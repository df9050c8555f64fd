"""What a device is to the rest of the package: memory, copies, kernels, events, and how it fails.

Policy, once:

- Whatever is given to a device happens as if in the order in which it was given, from whichever
  thread. Copies to and from the host are over with the host's memory when the call returns; copies
  on the device and launches are queued.
- Memory is freed in that same order, so whoever drops memory that queued work still uses does no
  harm. It may be dropped anywhere: by the collector, at the interpreter's end, in a forked child.
- A kernel takes one parameter, a struct of 64-bit words. Pointers are addresses, scalars are bit
  patterns; nothing here knows what the words mean.
- Lack of memory and a text that does not compile leave a device as it was. Any other error names
  the call that failed; where the device cannot be used any more, :attr:`Device.dead` says why, and
  all further calls raise :class:`DeviceError` with that sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy

__all__ = [
    "COUNTERS", "CompileError", "Device", "DeviceError", "DeviceMemoryError", "Event", "FlagWord",
    "Kernel", "Memory", "Props",
]  # fmt: skip

#: What a device counts; see :attr:`Device.counters`.
COUNTERS = (
    "to_device_bytes", "to_host_bytes", "to_device", "to_host", "launches", "synchronizes",
    "allocations", "copies",
)  # fmt: skip


class DeviceError(RuntimeError):
    """A call to a device failed; :attr:`Device.dead` says whether the device went with it."""


class DeviceMemoryError(MemoryError):
    """A device had no memory for what was asked; it works on."""


class CompileError(RuntimeError):
    """A kernel's text does not compile; the message is the compiler's log."""


@dataclass(frozen=True, slots=True)
class Props:
    """What is known of a device before anything runs on it.

    Attributes
    ----------
    name, uuid : str
        As the maker and the driver call it.
    driver : str
        The newest CUDA version that the driver knows, such as ``"13.0"``.
    target : str
        What kernels are compiled for: ``"sm_90"``, or ``"virtual"``.
    multiprocessors : int
        How many blocks of threads truly run at once, at least.
    clock_hz : float
        Of the multiprocessors.
    memory_bandwidth : float
        Bytes a second that a good kernel can hope for.
    l2_bytes, total_memory : int
        Bytes of the last-level cache, and of the memory.
    double_ratio : int
        How many times slower than in single precision arithmetic in double precision is.
    """

    name: str
    uuid: str
    driver: str
    target: str
    multiprocessors: int
    clock_hz: float
    memory_bandwidth: float
    l2_bytes: int
    total_memory: int
    double_ratio: int


class Memory:
    """A piece of a device's memory, freed when it is collected or by :meth:`free`.

    Parameters
    ----------
    address, nbytes : int
        Where it is on the device, and how much.
    release : callable
        Called once with the address. It must not raise, block or take a lock: it may be called from
        any thread, inside of any other code, and while the interpreter ends.
    """

    __slots__ = ("__weakref__", "_release", "address", "nbytes")

    def __init__(self, address: int, nbytes: int, release: Callable[[int], None] | None) -> None:
        self.address = address
        self.nbytes = nbytes
        self._release = release

    def __repr__(self) -> str:
        state = f"at {self.address:#x}" if self._release is not None else "freed"
        return f"<Memory of {self.nbytes} bytes {state}>"

    def free(self) -> None:
        """Give the memory back, after all work that was queued before. Once is enough."""
        release, self._release = self._release, None
        if release is not None:
            release(self.address)

    def __del__(self) -> None:
        # The slot is empty where the constructor was interrupted.
        release = getattr(self, "_release", None)
        if release is not None:
            self._release = None
            release(self.address)


class Kernel(Protocol):
    """A loaded kernel; what else it holds is its device's business."""

    @property
    def name(self) -> str:
        """The name of its function."""


class Event(Protocol):
    """A moment in a device's queue; it belongs to the device that made it."""

    def done(self) -> bool:
        """Return whether all work given before it is over; never wait for it."""


class FlagWord(Protocol):
    """Sixty-four bits of host memory that kernels can set; zero when it is handed out.

    It goes back to the device when it is released or collected, and is not handed out again before
    the work that was queued until then is over.
    """

    @property
    def address(self) -> int:
        """Where kernels find it."""

    def read(self) -> int:
        """Return the bits; those of a kernel are there once it was waited for."""

    def release(self) -> None:
        """Give the word back. Once is enough."""


class Device(Protocol):
    """A device; see the module's docstring for what all of them promise."""

    @property
    def props(self) -> Props:
        """What is known of it; asking starts nothing."""

    @property
    def dead(self) -> str | None:
        """Why it cannot be used any more; None while it can."""

    @property
    def counters(self) -> dict[str, int]:
        """What was done so far, by the names in :data:`COUNTERS`."""

    @property
    def compiler(self) -> str:
        """The compiler, its version and options: all that an image depends on besides its text."""

    @property
    def stream(self) -> int:
        """The driver's handle of the queue of kernels, 0 where there is none."""

    def alloc(self, nbytes: int) -> Memory:
        """Return memory of at least 256-byte alignment; DeviceMemoryError if there is none."""

    def to_device(self, memory: Memory, offset: int, host: numpy.ndarray) -> None:
        """Copy contiguous bytes (uint8) in; when it returns the host may change them."""

    def to_host(self, host: numpy.ndarray, memory: Memory, offset: int) -> None:
        """Copy bytes out into a contiguous uint8 array, as they are after all work given before."""

    def copy(
        self, target: Memory, target_offset: int, source: Memory, source_offset: int, nbytes: int
    ) -> None:
        """Queue a copy on the device; the two ranges must not overlap."""

    def compile(self, text: str, name: str) -> bytes:
        """Return the image of a kernel's text, from any thread; CompileError with the log."""

    def load(self, image: bytes, name: str) -> Kernel:
        """Return the kernel ``name`` of an image."""

    def launch(self, kernel: Kernel, grid: int, block: int, words: Sequence[int]) -> None:
        """Queue a kernel on ``grid`` blocks of ``block`` threads; words may have either sign."""

    def synchronize(self) -> None:
        """Wait for all work given so far."""

    def event(self) -> Event:
        """Mark this moment in the queue."""

    def elapsed(self, first: Event, last: Event) -> float:
        """Return the seconds between two events, once the last one is over."""

    def memory_info(self) -> tuple[int, int]:
        """Return the bytes that can still be had, and the bytes there are."""

    def flags(self) -> FlagWord:
        """Return a word that is zero."""

    def abandon(self, reason: str) -> None:
        """Use the device no more, and free nothing; every call raises ``reason`` from now on."""
