"""A GPU through the CUDA driver alone: no runtime library, no CuPy.

Policy, once:

- Nothing is started before it is needed: an object of this class costs no context.
- All kernels, allocations and short copies are in one stream. Long copies have a stream for each
  direction, so that both run at once for two threads; events put them in their place in the order.
- Launching is the path that is kept short. What it needs is made once and taken from a list for
  each launch, so that launches from several threads or a signal handler do not mix their words.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING

import numpy

from dispatcharr.devices.context import Context
from dispatcharr.devices.device import COUNTERS, CompileError, Event, Kernel, Memory
from dispatcharr.devices.flags import Flag, FlagRing
from dispatcharr.devices.libcuda import Driver
from dispatcharr.devices.pool import Pool
from dispatcharr.devices.short import SHORT, Landing, Sending
from dispatcharr.devices.staging import Lane

if TYPE_CHECKING:
    from dispatcharr.devices.nvrtc import Compiler

__all__ = ["CudaDevice", "CudaEvent", "CudaKernel"]

_NOT_READY = 600
#: Words that a launch has room for; more of them get room of their own.
_WORDS = 512
_MASK = (1 << 64) - 1


class CudaKernel:
    """A kernel of a loaded module. Modules stay: whoever builds them bounds how many there are."""

    __slots__ = ("handle", "name")

    def __init__(self, name: str, handle: int) -> None:
        self.name = name
        self.handle = handle


class CudaEvent:
    """A recorded event, with a clock. Its handle serves another one when it is collected."""

    __slots__ = ("_device", "handle")

    def __init__(self, device: CudaDevice, handle: int) -> None:
        self._device = device
        self.handle = handle

    def done(self) -> bool:
        """Return whether all work given before it is over; never wait for it."""
        device = self._device
        device.ready()
        code = device.driver.function("cuEventQuery")(self.handle)
        if code not in (0, _NOT_READY):
            device.failed(code, "cuEventQuery", self.handle)
        return code != _NOT_READY

    def __del__(self) -> None:
        if getattr(self, "handle", 0):
            self._device.events.append(self.handle)


class _Parcel:
    """Room for the words of one launch, and what points to it."""

    __slots__ = ("pointers", "room")

    def __init__(self, words: int) -> None:
        self.room = (ctypes.c_uint64 * words)()
        self.pointers = (ctypes.c_void_p * 1)(ctypes.addressof(self.room))


class _Parts:
    """What a device has once it is started."""

    def __init__(self, device: CudaDevice) -> None:
        stream = device.stream
        self.pool = Pool(device)
        self.sending = Sending(device, stream)
        self.landing = Landing(device, stream)
        self.inward = Lane(device, device.in_stream, stream, inward=True)
        self.outward = Lane(device, device.out_stream, stream, inward=False)
        self.flags = FlagRing(device, device.synchronize)


class CudaDevice(Context):
    """A GPU; see :class:`dispatcharr.devices.device.Device` for what its methods promise.

    Parameters
    ----------
    driver : Driver
        Initialised.
    ordinal : int
        Which of the driver's devices.
    nvrtc : str or None
        Where the compiler is; None to look for it when it is needed.
    """

    def __init__(self, driver: Driver, ordinal: int = 0, nvrtc: str | None = None) -> None:
        super().__init__(driver, ordinal)
        self.counters = dict.fromkeys(COUNTERS, 0)
        #: Handles of events that nobody holds any more.
        self.events: list[int] = []
        self._nvrtc = nvrtc
        self._compiler: Compiler | None = None
        self._making = threading.RLock()
        self._made: _Parts | None = None
        self._parcels: list[_Parcel] = []
        self._packers: dict[int, Struct] = {}
        self._launch = driver.function("cuLaunchKernel")

    def __repr__(self) -> str:
        state = "dead" if self.dead else "started" if self.started else "not started"
        return f"<CudaDevice {self.props.name}, {state}>"

    @property
    def _parts(self) -> _Parts:
        made = self._made
        if made is None:
            with self._making:
                made = self._made
                if made is None:
                    made = self._made = _Parts(self)
        return made

    def alloc(self, nbytes: int) -> Memory:
        """Return memory; DeviceMemoryError if there is none."""
        memory = self._parts.pool.alloc(nbytes)
        self.counters["allocations"] += 1
        return memory

    def memory_info(self) -> tuple[int, int]:
        """Return the bytes that can still be had, and the bytes there are."""
        return self._parts.pool.info()

    def to_device(self, memory: Memory, offset: int, host: numpy.ndarray) -> None:
        """Copy contiguous bytes in; when it returns the host may change them."""
        nbytes = _checked("to_device", host, memory, offset)
        if nbytes == 0:
            return
        address = host.__array_interface__["data"][0]
        parts = self._parts
        lane = parts.sending if nbytes <= SHORT else parts.inward
        lane.copy(memory.address + offset, address, nbytes)
        self.counters["to_device"] += 1
        self.counters["to_device_bytes"] += nbytes

    def to_host(self, host: numpy.ndarray, memory: Memory, offset: int) -> None:
        """Copy bytes out, as they are after all work given before."""
        nbytes = _checked("to_host", host, memory, offset)
        if nbytes == 0:
            return
        address = host.__array_interface__["data"][0]
        parts = self._parts
        began = parts.flags.begin()
        lane = parts.landing if nbytes <= SHORT else parts.outward
        lane.copy(memory.address + offset, address, nbytes)
        parts.flags.end(began)
        self.counters["to_host"] += 1
        self.counters["to_host_bytes"] += nbytes

    def copy(
        self, target: Memory, target_offset: int, source: Memory, source_offset: int, nbytes: int
    ) -> None:
        """Queue a copy on the device; the two ranges must not overlap."""
        _check_range("copy", target, target_offset, nbytes)
        _check_range("copy", source, source_offset, nbytes)
        if nbytes:
            self.call(
                "cuMemcpyDtoDAsync_v2", target.address + target_offset,
                source.address + source_offset, nbytes, self.stream,
            )  # fmt: skip
        self.counters["copies"] += 1

    @property
    def compiler(self) -> str:
        """The compiler, its version and options."""
        return self._nvrtc_compiler().version

    def compile(self, text: str, name: str) -> bytes:
        """Return the code of a kernel's text, from any thread; CompileError with the log."""
        return self._nvrtc_compiler().compile(text, self.props.target, name)

    def _nvrtc_compiler(self) -> Compiler:
        compiler = self._compiler
        if compiler is None:
            from dispatcharr.devices import nvrtc

            path = self._nvrtc or nvrtc.find()
            if path is None:
                raise CompileError(nvrtc.MISSING)
            compiler = self._compiler = nvrtc.Compiler(path)
        return compiler

    def load(self, image: bytes, name: str) -> CudaKernel:
        """Return the kernel ``name`` of an image."""
        module = self.handle("cuModuleLoadData", image)
        return CudaKernel(name, self.handle("cuModuleGetFunction", module, name.encode()))

    def launch(self, kernel: Kernel, grid: int, block: int, words: Sequence[int]) -> None:
        """Queue a kernel on ``grid`` blocks of ``block`` threads; words may have either sign."""
        if not self._here.ready:
            self._enter()
        length = len(words)
        try:
            parcel = self._parcels.pop() if length <= _WORDS else _Parcel(length)
        except IndexError:
            parcel = _Parcel(_WORDS)
        try:
            self._packers[length].pack_into(parcel.room, 0, *words)
        except (KeyError, StructError):  # a new length, or an address in the upper half
            packer = self._packers[length] = Struct(f"={length}q")
            packer.pack_into(parcel.room, 0, *map(_signed, words))
        handle, pointers = kernel.handle, parcel.pointers  # type: ignore[attr-defined]
        code = self._launch(handle, grid, 1, 1, block, 1, 1, 0, self._stream, pointers, None)
        if code:
            self.failed(code, "cuLaunchKernel", handle, grid, 1, 1, block, 1, 1, 0, self._stream,
                        pointers, None)  # fmt: skip
        if length <= _WORDS:
            self._parcels.append(parcel)
        self.counters["launches"] += 1

    def synchronize(self) -> None:
        """Wait for all work given so far."""
        flags = self._parts.flags
        began = flags.begin()
        self.call("cuStreamSynchronize", self._stream)
        flags.end(began)
        self.counters["synchronizes"] += 1

    def event(self) -> CudaEvent:
        """Mark this moment in the queue."""
        try:
            event = CudaEvent(self, self.events.pop())
        except IndexError:
            event = CudaEvent(self, self.handle("cuEventCreate", 0))
        self.call("cuEventRecord", event.handle, self.stream)
        return event

    def elapsed(self, first: Event, last: Event) -> float:
        """Return the seconds between two events, once the last one is over."""
        if not isinstance(first, CudaEvent) or not isinstance(last, CudaEvent):
            raise TypeError("elapsed: wanted two events of this device; make them with event()")
        self.call("cuEventSynchronize", last.handle)
        milliseconds = ctypes.c_float()
        self.call("cuEventElapsedTime", ctypes.byref(milliseconds), first.handle, last.handle)
        return milliseconds.value / 1000

    def flags(self) -> Flag:
        """Return a word that is zero."""
        return self._parts.flags.take()


def _signed(word: int) -> int:
    """Return the signed number with the bits of a word of either sign."""
    return ((word & _MASK) ^ (1 << 63)) - (1 << 63)


def _checked(function: str, host: numpy.ndarray, memory: Memory, offset: int) -> int:
    """Return the bytes of a copy if host and memory can take part in it."""
    if host.dtype != numpy.uint8 or not host.flags.c_contiguous:
        raise TypeError(
            f"{function}: the host's part must be a contiguous array of uint8, got {host.dtype} "
            f"with strides {host.strides}; view it as bytes"
        )
    _check_range(function, memory, offset, host.nbytes)
    return int(host.nbytes)


def _check_range(function: str, memory: Memory, offset: int, nbytes: int) -> None:
    if offset < 0 or nbytes < 0 or offset + nbytes > memory.nbytes:
        raise ValueError(
            f"{function}: {nbytes} bytes from {offset} on do not lie in memory of {memory.nbytes}"
        )
