"""Devices by the array API's names, and what it means for an array to be on one.

An array is on ``"cpu"``, wherever the router has its bytes, until the program says otherwise: by
``to_device``, or by ``device=`` where an array is made. Then its bytes are on that device, so are
those of results that a kernel computes from it there, and ``x.device`` says so, until the host
writes to it or the device needs the room. Only such arrays are handed to other libraries as memory
of the device; all others leave by way of the host, as NumPy's do.

They are handed out as copies on the device: two libraries that write to one memory from queues of
their own would have to wait for each other at every step.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy

from dispatcharr.devices import found
from dispatcharr.face import _fastpath, dlpack
from dispatcharr.face.array import behind, concrete
from dispatcharr.ops.kinds import is_planned
from dispatcharr.storage import places

__all__ = [
    "CPU",
    "HOST",
    "capsule",
    "device_of",
    "dlpack_device",
    "interface",
    "moved",
    "names",
    "taken",
]

CPU = "cpu"
#: The kind of host memory, as DLPack numbers it.
HOST = dlpack.CPU


def names() -> tuple[str, ...]:
    """Return the devices that arrays can be on."""
    device = found.device()
    return (CPU,) if device is None else (CPU, _name(device))


def _name(device: Any) -> str:
    return f"cuda:{_number(device)}"


def _number(device: Any) -> int:
    return int(getattr(device, "device", 0))  # the virtual one has no number


def device_of(array: Any) -> str:
    """Return the device that ``array`` is on."""
    # Where nothing is wanted on a device, what waits may go on waiting.
    if not places.any_assigned() or not places.is_assigned(behind(array)):
        return CPU
    return _name(places.device_in_use())


def moved(array: Any, name: Any, stream: Any = None) -> Any:
    """Return ``array`` on the device called ``name``: itself, or a copy."""
    if stream is not None or ":" not in str(name):
        host: Any = behind(array)
        host.to_device(name, stream=stream)  # NumPy words the error, for streams too
    device = None if name == CPU else found.device()
    if name != CPU and (device is None or name != _name(device)):
        why = f"; no CUDA device: {found.why()}" if device is None else ""
        raise ValueError(f"to_device: wanted one of {', '.join(names())}, got {name!r}{why}")
    if device_of(array) == name:
        return array
    if name == CPU:
        return _fastpath.wrap(places.read(behind(array)))
    if not is_planned(array.dtype):
        raise TypeError(f"to_device: arrays of dtype {array.dtype} live on the CPU only")
    if not places.enabled():
        places.use(device)
    host = behind(array)
    if not places.is_away(host) or not places.assign(host):
        host = places.sent(concrete(array))
        places.assign(host)
    return _fastpath.wrap(host)


def dlpack_device(array: Any) -> tuple[int, int]:
    """Return the device of ``array`` as DLPack numbers it."""
    if device_of(array) == CPU:
        return HOST, 0
    return dlpack.CUDA, _number(places.device_in_use())


def capsule(array: Any, max_version: Any, copy: bool | None) -> Any:
    """Return a copy on the device of an array that is there, as a capsule of DLPack's."""
    if copy is False:
        raise BufferError(
            "__dlpack__: arrays leave a device as copies on it, and copy=False forbids them"
        )
    host: numpy.ndarray = behind(array)
    memory, offset = places.duplicated(host)
    versioned = max_version is not None and tuple(max_version) >= (1, 0)
    return dlpack.capsule(memory, offset, host, dlpack_device(array), versioned)


def interface(array: Any) -> dict[str, Any]:
    """Return CUDA's array interface of an array that is on a device: of a copy there.

    It is one copy for each array, made anew whenever somebody asks, and lives as long as the array.
    """
    if device_of(array) == CPU:
        raise AttributeError(
            "__cuda_array_interface__: the array is on the CPU; to_device gives one on a GPU"
        )
    host: Any = behind(array)
    key = id(array)
    memory, offset = places.duplicated(host, _shown.get(key))
    if key not in _shown:
        weakref.finalize(array, _shown.pop, key, None).atexit = False
    _shown[key] = memory
    return {
        "version": 3,
        "shape": host.shape,
        "typestr": host.dtype.str,
        "data": (int(memory.address) + offset if host.size else 0, True),
        "strides": None if host.flags.c_contiguous else host.strides,
        "stream": None,  # the copy is done
    }


#: By id of the array, the memory of the copy that others see.
_shown: dict[int, Any] = {}


def taken(array: Any) -> Any:
    """Return an array of ours with the values of another library's on our device, else None."""
    device = found.device()
    there = getattr(array, "__dlpack_device__", None)
    if device is None or there is None or tuple(there()) != (dlpack.CUDA, _number(device)):
        return None
    if not places.enabled():
        places.use(device)
    stream = device.stream or 1  # that of the driver's default queue
    try:
        handed = array.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:  # it knows the protocol of before 1.0
        handed = array.__dlpack__(stream=stream)
    tensor = dlpack.opened(handed)
    try:
        host = places.received(tensor.address, tensor.shape, tensor.dtype, tensor.strides)
    finally:
        tensor.release()
    places.assign(host)
    return _fastpath.wrap(host)
