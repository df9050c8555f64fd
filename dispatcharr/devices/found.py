"""Which device this process has, or the sentence why it has none.

Policy, once:

- Nothing is looked for before somebody asks, and the answer is kept. Asking starts no context: the
  driver is loaded and initialised, the compiler is located, and that is all.
- In this order: ``DISPATCHARR_SIM_GPU=1`` is the virtual device, ``DISPATCHARR_CUDA=0`` is none;
  then a driver, a GPU (the one that ``DISPATCHARR_CUDA_DEVICE`` numbers) and NVRTC are wanted.
- A forked child cannot use what its parent has begun. Where the parent has looked, the child has no
  device, and what it inherits is dropped without a call to the driver.
"""

from __future__ import annotations

import os
import threading

from dispatcharr._config import variable
from dispatcharr.devices.device import Device, DeviceError, DeviceMemoryError

__all__ = ["device", "why"]

_FORKED = (
    "this process was forked from one that had looked for a GPU, and CUDA does not survive a fork; "
    "start processes with the method 'spawn' or 'forkserver'"
)


class _Answer:
    """A device, or why there is none."""

    __slots__ = ("device", "reason")

    def __init__(self, device: Device | None, reason: str) -> None:
        self.device = device
        self.reason = reason


_answer: _Answer | None = None
_looking = threading.RLock()


def device() -> Device | None:
    """Return the device of this process; None where :func:`why` says why there is none."""
    one = (_answer or _found()).device
    return None if one is None or one.dead is not None else one


def why() -> str:
    """Return why this process has no device, in one sentence; empty if it has one."""
    answer = _answer or _found()
    dead = None if answer.device is None else answer.device.dead
    return answer.reason if dead is None else f"it failed: {dead}"


def _found() -> _Answer:
    global _answer
    with _looking:
        if _answer is None:
            found = _look()
            _answer = _Answer(None, found) if isinstance(found, str) else _Answer(found, "")
        return _answer


def _look() -> Device | str:
    if variable("DISPATCHARR_SIM_GPU") == "1":
        return _virtual()
    if variable("DISPATCHARR_CUDA") == "0":
        return "switched off by DISPATCHARR_CUDA=0"
    try:
        return _cuda()
    except (DeviceError, DeviceMemoryError) as error:
        return f"the CUDA driver reports {error}"


def _virtual() -> Device | str:
    from dispatcharr.devices import shim

    missing = shim.missing()
    if missing is not None:
        return missing
    seed = variable("DISPATCHARR_SIM_SEED") or "0"
    if not (seed.isascii() and seed.isdecimal()):
        return f"DISPATCHARR_SIM_SEED must be a whole number, got {seed!r}"
    from dispatcharr.devices.virtual import VirtualDevice

    return VirtualDevice(int(seed))


def _cuda() -> Device | str:
    from dispatcharr.devices import nvrtc
    from dispatcharr.devices.libcuda import Driver

    try:
        driver = Driver.load()
    except OSError as error:
        return f"no CUDA driver was found ({error})"
    driver.call("cuInit", 0)
    count = driver.number("cuDeviceGetCount")
    if count < 1:
        return "the CUDA driver knows no GPU"
    wanted = variable("DISPATCHARR_CUDA_DEVICE") or "0"
    if not (wanted.isascii() and wanted.isdecimal() and int(wanted) < count):
        return f"DISPATCHARR_CUDA_DEVICE must be the number of a GPU below {count}, got {wanted!r}"
    compiler = nvrtc.find()
    if compiler is None:
        return nvrtc.MISSING
    from dispatcharr.devices.driver import CudaDevice

    return CudaDevice(driver, int(wanted), compiler)


def _after_fork_in_child() -> None:
    global _answer, _looking
    _looking = threading.RLock()
    had = _answer.device if _answer is not None else None
    if had is not None:
        had.abandon(_FORKED)
        _answer = _Answer(None, _FORKED)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
