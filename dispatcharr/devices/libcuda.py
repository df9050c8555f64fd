"""The CUDA driver's functions by ctypes: their signatures, and their results as exceptions.

Nothing but the driver's own library is needed, and nothing is loaded before :meth:`Driver.load`.
The signatures are those of ``cuda.h``; where it renames a function to one with a version, the table
has that name. A function that an old driver lacks fails when it is called, not before.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from dispatcharr.devices.device import DeviceError, DeviceMemoryError

__all__ = ["STICKY", "Driver", "DriverError", "PoolProps"]

#: After these results no call succeeds any more in this context.
STICKY = frozenset((4, 46, 214, 220, 226, 700, 702, 709, 710, *range(714, 720), 721, 999))
_OUT_OF_MEMORY = 2
_MISSING = 500

_int, _uint, _size = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t
#: Handles, host pointers and what points to a result; a CUdeviceptr is 64 bits on every system.
_p, _address = ctypes.c_void_p, ctypes.c_uint64

#: A CUdevice and a CUresult are ints.
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (_uint,),
    "cuDriverGetVersion": (_p,),
    "cuGetErrorName": (_int, _p),
    "cuGetErrorString": (_int, _p),
    "cuDeviceGetCount": (_p,),
    "cuDeviceGet": (_p, _int),
    "cuDeviceGetName": (_p, _int, _int),
    "cuDeviceGetUuid": (_p, _int),
    "cuDeviceGetUuid_v2": (_p, _int),
    "cuDeviceTotalMem_v2": (_p, _int),
    "cuDeviceGetAttribute": (_p, _int, _int),
    "cuDevicePrimaryCtxRetain": (_p, _int),
    "cuCtxSetCurrent": (_p,),
    "cuCtxGetCurrent": (_p,),
    "cuStreamCreate": (_p, _uint),
    "cuStreamSynchronize": (_p,),
    "cuStreamWaitEvent": (_p, _p, _uint),
    "cuEventCreate": (_p, _uint),
    "cuEventRecord": (_p, _p),
    "cuEventQuery": (_p,),
    "cuEventSynchronize": (_p,),
    "cuEventElapsedTime": (_p, _p, _p),
    "cuMemPoolCreate": (_p, _p),
    "cuMemPoolSetAttribute": (_p, _int, _p),
    "cuMemPoolGetAttribute": (_p, _int, _p),
    "cuMemPoolTrimTo": (_p, _size),
    "cuMemAllocFromPoolAsync": (_p, _size, _p, _p),
    "cuMemFreeAsync": (_address, _p),
    "cuMemAlloc_v2": (_p, _size),
    "cuMemFree_v2": (_address,),
    "cuMemGetInfo_v2": (_p, _p),
    "cuMemHostAlloc": (_p, _size, _uint),
    "cuMemFreeHost": (_p,),
    "cuMemHostGetDevicePointer_v2": (_p, _p, _uint),
    "cuMemcpyHtoDAsync_v2": (_address, _p, _size, _p),
    "cuMemcpyDtoHAsync_v2": (_p, _address, _size, _p),
    "cuMemcpyDtoDAsync_v2": (_address, _address, _size, _p),
    "cuModuleLoadData": (_p, _p),
    "cuModuleGetFunction": (_p, _p, _p),
    "cuLaunchKernel": (_p, _uint, _uint, _uint, _uint, _uint, _uint, _uint, _p, _p, _p),
}


class DriverError(DeviceError):
    """A driver's function returned an error.

    Attributes
    ----------
    code : int
        The driver's CUresult.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class PoolProps(ctypes.Structure):
    """``CUmemPoolProps``: memory of one device, not shared with other processes."""

    _fields_ = (
        ("alloc_type", ctypes.c_int),
        ("handle_types", ctypes.c_int),
        ("location_type", ctypes.c_int),
        ("location_id", ctypes.c_int),
        ("security_attributes", ctypes.c_void_p),
        ("max_size", ctypes.c_size_t),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 54),
    )

    @classmethod
    def of_device(cls, ordinal: int) -> PoolProps:
        """Return what a pool of pinned memory on the device ``ordinal`` is made with."""
        pinned = on_device = 1
        return cls(alloc_type=pinned, location_type=on_device, location_id=ordinal)


class Driver:
    """The driver's functions by name.

    Parameters
    ----------
    library : ctypes.CDLL
        Its functions get their signatures here, so it should not be shared with others.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._functions: dict[str, Callable[..., int]] = {}
        for name, signature in _SIGNATURES.items():
            try:
                function = getattr(library, name)
            except AttributeError:
                continue
            function.argtypes = signature
            function.restype = ctypes.c_int
            self._functions[name] = function

    @classmethod
    def load(cls) -> Driver:
        """Return the driver of this machine; OSError if there is none."""
        if sys.platform == "win32":
            return cls(ctypes.WinDLL("nvcuda.dll"))
        return cls(ctypes.CDLL("libcuda.so.1"))

    def function(self, name: str) -> Callable[..., int]:
        """Return a function by name; where the driver lacks it, one whose result says so."""
        return self._functions.get(name, _missing)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function and raise what it returned, unless that is success."""
        code = self.function(name)(*arguments)
        if code:
            self.refuse(name, code)

    def refuse(self, name: str, code: int) -> NoReturn:
        """Raise the exception for a result other than success."""
        message = f"{name}: {self.sentence(code)}"
        if code == _OUT_OF_MEMORY:
            raise DeviceMemoryError(message)
        raise DriverError(message, code)

    def sentence(self, code: int) -> str:
        """Return the driver's name of a result and what it says of it."""
        said = []
        for name in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            if self.function(name)(code, ctypes.byref(text)) == 0 and text.value is not None:
                said.append(text.value.decode(errors="replace"))
        return f"{': '.join(said) or 'an unknown error'} ({code})"

    def number(self, name: str, *arguments: int, kind: Any = ctypes.c_int) -> int:
        """Return the number that a function stores through its first parameter."""
        result = kind()
        self.call(name, ctypes.byref(result), *arguments)
        return int(result.value or 0)

    def handle(self, name: str, *arguments: Any) -> int:
        """Return the handle or the host pointer that a function stores likewise."""
        return self.number(name, *arguments, kind=ctypes.c_void_p)


def _missing(*arguments: Any) -> int:
    return _MISSING
