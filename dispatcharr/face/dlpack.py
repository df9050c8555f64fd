"""DLPack capsules of device memory; those of host memory are NumPy's.

A capsule points to a structure that names the memory and whom to call when it is no longer needed.
The structures that are out are kept in a table until then. Whoever takes a capsule renames it, so
one that still has its name when it is collected was not taken.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64
from typing import Any, NamedTuple

import numpy

__all__ = ["CPU", "CUDA", "Tensor", "capsule", "opened"]

#: Kinds of devices, by DLPack's numbers.
CPU, CUDA = 1, 2
_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_NAME, _VERSIONED_NAME = b"dltensor", b"dltensor_versioned"
#: What a taker calls them.
_USED = {_NAME: b"used_dltensor", _VERSIONED_NAME: b"used_dltensor_versioned"}
_KINDS = {code: kind for kind, code in _CODES.items()}
_IS_COPIED = 2


class _Device(Structure):
    _fields_ = (("type", c_int32), ("number", c_int32))


class _Dtype(Structure):
    _fields_ = (("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16))


class _Tensor(Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", c_int32),
        ("dtype", _Dtype),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


class _Versioned(Structure):
    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", c_uint64),
        ("tensor", _Tensor),
    )


#: What structures that are out need, by their addresses.
_out: dict[int, tuple[Any, ...]] = {}


def _delete(address: int | None) -> None:
    _out.pop(address or 0, None)


_deleter = _Deleter(_delete)
# Called with the interpreter held, and with a capsule that nobody refers to any more: ctypes must
# make no object of it.
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_api = ctypes.pythonapi
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _api)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_SetName", _api)
)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)(
    ("PyCapsule_New", _api)
)


def _collect(capsule: int | None) -> None:
    for name in (_NAME, _VERSIONED_NAME):
        if _is_valid(capsule, name):
            _delete(_pointer(capsule, name))


_destructor = _Destructor(_collect)


def capsule(
    memory: Any, offset: int, like: numpy.ndarray, device: tuple[int, int], versioned: bool
) -> Any:
    """Return a capsule that owns device memory.

    Parameters
    ----------
    memory : Memory
        What it owns.
    offset : int
        Bytes before the first element.
    like : numpy.ndarray
        Its shape, strides and dtype.
    device : tuple of int
        Kind and number of the device.
    versioned : bool
        Whether the taker knows DLPack 1.0.
    """
    shape = (c_int64 * like.ndim)(*like.shape)
    strides = (c_int64 * like.ndim)(*[step // like.itemsize for step in like.strides])
    managed = _Versioned() if versioned else _Managed()
    tensor = managed.tensor
    tensor.data = int(memory.address) + offset
    tensor.device = _Device(*device)
    tensor.ndim = like.ndim
    tensor.dtype = _Dtype(_CODES[like.dtype.kind], like.itemsize * 8, 1)
    tensor.shape, tensor.strides = shape, strides
    managed.deleter = _deleter
    if versioned:
        managed.major, managed.flags = 1, _IS_COPIED
    address = ctypes.addressof(managed)
    _out[address] = managed, shape, strides, memory
    return _new(address, _VERSIONED_NAME if versioned else _NAME, _destructor)


class Tensor(NamedTuple):
    """What a capsule held: the address of the first element, strides in bytes, whom to call."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: numpy.dtype[Any]
    release: Callable[[], None]


def opened(handed: Any) -> Tensor:
    """Take a capsule; its memory lives until ``release`` is called.

    Raises
    ------
    BufferError
        Where it is no capsule of DLPack's, was taken before, or has a dtype that NumPy has not.
    """
    name = next((n for n in _USED if _is_valid(id(handed), n)), None)
    if name is None:
        raise BufferError(f"from_dlpack: wanted a DLPack capsule that nobody took, got {handed!r}")
    address = _pointer(id(handed), name) or 0
    kind = _Versioned if name == _VERSIONED_NAME else _Managed
    managed = kind.from_address(address)
    tensor = managed.tensor
    code, bits = tensor.dtype.code, tensor.dtype.bits
    if code not in _KINDS or tensor.dtype.lanes != 1 or bits % 8:
        raise BufferError(f"from_dlpack: no dtype for DLPack's type {code} of {bits} bits")
    dtype = numpy.dtype(f"{_KINDS[code]}{bits // 8}")
    shape = tuple(tensor.shape[: tensor.ndim])
    if tensor.strides:
        strides = tuple([step * dtype.itemsize for step in tensor.strides[: tensor.ndim]])
    else:
        strides = _dense(shape, dtype)

    def release() -> None:
        if managed.deleter:
            managed.deleter(address)

    _set_name(id(handed), _USED[name])
    return Tensor((tensor.data or 0) + tensor.byte_offset, shape, strides, dtype, release)


def _dense(shape: tuple[int, ...], dtype: numpy.dtype[Any]) -> tuple[int, ...]:
    """Return the strides in bytes of an array whose elements lie side by side."""
    strides, step = [], dtype.itemsize
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
