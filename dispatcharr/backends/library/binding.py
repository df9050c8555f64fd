"""CuPy, bound to a device: its arrays are the device's memory, its work is in the device's stream.

CuPy is imported when it is first needed. All its memory, that of results included, comes from the
device through ``places``: there is one pool, and what makes room for kernels makes room for CuPy.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy

from dispatcharr.backends.library.table import Declined
from dispatcharr.storage import mirrors, places

__all__ = ["ADVICE", "Libraries", "Library", "closed", "libraries"]

#: What helps where CuPy is missing.
ADVICE = "pip install dispatcharr[cuda13-ctk]"
#: ``COMPUTE_TYPE_DEFAULT`` of CuPy: single precision is not rounded to TF32.
_EXACT = 1
#: Rows that CuPy cannot do here, by name, with the reason.
closed: dict[str, str] = {}


class _Piece:
    """Device memory that was allocated for CuPy, and how many bytes it asked for."""

    __slots__ = ("memory", "nbytes")

    def __init__(self, memory: Any, nbytes: int) -> None:
        self.memory = memory
        self.nbytes = nbytes


class _Stream:
    """The device's stream, by the protocol that CuPy takes strange streams by."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


class Library:
    """CuPy, bound to a device.

    Parameters
    ----------
    cupy, cupyx : module
        The two parts of it.
    device : Device
        Whose memory and stream it uses.
    """

    def __init__(self, cupy: Any, cupyx: Any, device: Any) -> None:
        self.cp = cupy
        self._x = cupyx
        self._device = device
        self._number = int(getattr(device, "device", 0))
        stream = cupy.cuda.Stream
        strange = getattr(stream, "from_external", None)
        # Before CuPy 14 streams are taken by their handles, which it warns of since.
        handle = device.stream
        self._stream = strange(_Stream(handle)) if strange else cupy.cuda.ExternalStream(handle)

    def fits(self, device: Any) -> bool:
        """Return whether this is bound to ``device``."""
        return self._device is device

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work in the device's stream and memory, told of errors, without TF32."""
        with ExitStack() as stack:
            stack.enter_context(self.cp.cuda.Device(self._number))
            stack.enter_context(self._stream)
            stack.enter_context(self.cp.cuda.using_allocator(self._alloc))
            stack.enter_context(self._x.errstate(linalg="raise"))
            stack.enter_context(self._exact())
            yield

    @contextmanager
    def _exact(self) -> Iterator[None]:
        core, single = self.cp._core, numpy.dtype("f")
        before = core.get_compute_type(single)
        if before == _EXACT:
            yield
            return
        core.set_compute_type(single, _EXACT)
        try:
            yield
        finally:
            core.set_compute_type(single, before)

    def _alloc(self, nbytes: int) -> Any:
        piece = None
        if nbytes:
            with mirrors.lock:
                piece = _Piece(mirrors.alloc(nbytes), nbytes)
        return self._pointer(piece.memory.address if piece else 0, nbytes, piece)

    def _pointer(self, address: int, nbytes: int, owner: Any) -> Any:
        memory = self.cp.cuda.UnownedMemory(address, nbytes, owner, self._number)
        return self.cp.cuda.MemoryPointer(memory, 0)

    def operand(self, host: numpy.ndarray) -> Any:
        """Return CuPy's array on the device's bytes of ``host``; it holds within a run."""
        pointer = self._pointer(places.address(host), host.nbytes, None)
        return self.cp.ndarray(host.shape, host.dtype, pointer, host.strides)

    def result(self, array: Any, used: set[int]) -> Any:
        """Return the device memory that is ``array`` in rows and nothing else, copied if need be.

        ``used`` are the ids of memory that is some other result's already.
        """
        piece = self._piece(array)
        if piece is None or id(piece) in used:
            array = self.cp.array(array, order="C", copy=True)
            piece = self._piece(array)
        if piece is None:
            raise Declined("its result is in memory of another kind")
        used.add(id(piece))
        return piece.memory

    def _piece(self, array: Any) -> _Piece | None:
        piece = getattr(array.data.mem, "_owner", None)
        if not isinstance(piece, _Piece) or not array.flags.c_contiguous:
            return None
        same = array.data.ptr == piece.memory.address and array.nbytes == piece.nbytes
        return piece if same else None

    def clear(self) -> None:
        """Have CuPy free what it keeps for later."""
        self.cp.fft.config.get_plan_cache().clear()
        self.cp.get_default_memory_pool().free_all_blocks()


class Libraries:
    """The library of this process's device, made at first need."""

    def __init__(self) -> None:
        self._made: Library | None = None
        self._reason: str | None = None
        self._lock = threading.Lock()

    def bind(self, made: Library | None) -> None:
        """Use this library from now on; None to look for one anew."""
        with self._lock:
            self._made, self._reason = made, None
            closed.clear()

    def find(self, device: Any) -> Library:
        """Return the library of ``device``; Declined with the reason why there is none."""
        made = self._made
        if made is not None and made.fits(device):
            return made
        with self._lock:
            if self._made is None or not self._made.fits(device):
                self._made = None
                self._look(device)
            if self._made is None:
                raise Declined(self._reason or "there is no CuPy")
            return self._made

    def _look(self, device: Any) -> None:
        if self._reason is not None:
            return
        if not device.stream:
            self._reason = f"{device.props.name} has no stream for CuPy to work in"
            return
        try:
            import cupy

            self._made = Library(cupy, importlib.import_module("cupyx"), device)
        except ModuleNotFoundError as error:
            self._reason = f"CuPy is not installed ({error}); {ADVICE}"
        except Exception as error:
            self._reason = f"CuPy cannot be used here: {type(error).__name__}: {error}"


libraries = Libraries()
