"""What the driver knows of a GPU without a context: names, sizes, rates."""

from __future__ import annotations

import ctypes
import uuid

from dispatcharr.devices.device import DeviceError, Props
from dispatcharr.devices.libcuda import Driver

__all__ = ["describe", "has_pools"]

# CUdevice_attribute
_CLOCK, _MULTIPROCESSORS, _MEMORY_CLOCK, _BUS_WIDTH, _L2, _MAJOR, _MINOR, _RATIO, _POOLS = (
    13, 16, 36, 37, 38, 75, 76, 87, 115,
)  # fmt: skip
#: What of the memory's nominal bandwidth a good kernel has, and what is taken where none is told.
_REACHED = 0.8
_BANDWIDTH = 0.8e12


def describe(driver: Driver, device: int) -> Props:
    """Return the properties of a device by its CUdevice."""
    version = driver.number("cuDriverGetVersion")
    name = ctypes.create_string_buffer(256)
    driver.call("cuDeviceGetName", name, len(name), device)
    clock = _attribute(driver, _MEMORY_CLOCK, device) * 1000.0  # told in kHz
    width = _attribute(driver, _BUS_WIDTH, device)
    major, minor = _attribute(driver, _MAJOR, device), _attribute(driver, _MINOR, device)
    return Props(
        name=name.value.decode(errors="replace"),
        uuid=_uuid(driver, device),
        driver=f"{version // 1000}.{version % 1000 // 10}",
        target=f"sm_{major}{minor}",
        multiprocessors=max(1, _attribute(driver, _MULTIPROCESSORS, device)),
        clock_hz=_attribute(driver, _CLOCK, device) * 1000.0,
        memory_bandwidth=clock * 2 * width / 8 * _REACHED or _BANDWIDTH,
        l2_bytes=_attribute(driver, _L2, device),
        total_memory=driver.number("cuDeviceTotalMem_v2", device, kind=ctypes.c_size_t),
        double_ratio=max(1, _attribute(driver, _RATIO, device)),
    )


def has_pools(driver: Driver, device: int) -> bool:
    """Return whether memory can be allocated in the order of a stream."""
    return bool(_attribute(driver, _POOLS, device))


def _attribute(driver: Driver, attribute: int, device: int) -> int:
    try:
        return driver.number("cuDeviceGetAttribute", attribute, device)
    except DeviceError:  # a driver that does not know it: the caller has a value for 0
        return 0


def _uuid(driver: Driver, device: int) -> str:
    """Return the identity of a GPU, or of the part of one that this process may use."""
    content = (ctypes.c_ubyte * 16)()
    try:
        driver.call("cuDeviceGetUuid_v2", content, device)
    except DeviceError:  # before CUDA 11.4
        driver.call("cuDeviceGetUuid", content, device)
    return f"GPU-{uuid.UUID(bytes=bytes(content))}"
