"""What the parts of ``gpu_probe.py`` share: the clock, the table of figures, loaded kernels."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

try:
    from dispatcharr.devices.driver import CudaDevice, CudaKernel
except ImportError:  # not installed: the package lies beside this folder
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from dispatcharr.devices.driver import CudaDevice, CudaKernel

from dispatcharr.devices.device import Memory

__all__ = ["BLOCK", "GB", "MB", "SIZES", "Probe", "best", "clock"]

MB, GB = 1 << 20, 1 << 30
SIZES = {"8 B": 8, "64 KB": 64 << 10, "1 MB": MB, "64 MB": 64 * MB, "1 GB": GB}
BLOCK = 256


def clock() -> float:
    return time.perf_counter()


def best(act: Callable[[], Any], repeats: int = 3) -> float:
    """Return the least seconds that ``act`` took."""
    seconds = []
    for _ in range(repeats):
        began = clock()
        act()
        seconds.append(clock() - began)
    return min(seconds)


class Probe:
    """The device, and the figures so far."""

    def __init__(self, limit: float) -> None:
        self.figures: dict[str, Any] = {}
        self.began = clock()
        self.limit = limit
        self.section = ""
        self.device: CudaDevice
        self.kernels: dict[str, CudaKernel] = {}

    def note(self, name: str, value: Any, unit: str = "") -> None:
        key = f"{self.section}: {name}" + (f" [{unit}]" if unit else "")
        self.figures[key] = value
        shown = f"{value:12.4g}" if isinstance(value, float) else f"{value!s:>12}"
        print(f"{self.section:12} {name:52} {shown} {unit}", flush=True)

    def save(self) -> None:
        if os.environ.get("OUT"):
            path = Path(os.environ["OUT"], "gpu_probe.json")
            path.write_text(json.dumps(self.figures, indent=1), "utf-8")

    def late(self, share: float = 1.0) -> bool:
        return clock() - self.began > self.limit * share

    def kernel(self, text: str, name: str) -> CudaKernel:
        if text not in self.kernels:
            self.kernels[text] = self.device.load(self.device.compile(text, name), name)
        return self.kernels[text]

    def timed(self, launch: Callable[[], Any], repeats: int = 10) -> float:
        """Return the device's seconds for one launch: the best of three rows of them."""
        device, seconds = self.device, []
        launch()
        for _ in range(3):
            first = device.event()
            for _ in range(repeats):
                launch()
            seconds.append(device.elapsed(first, device.event()) / repeats)
        return min(seconds)

    def filled(self, nbytes: int) -> Memory:
        memory = self.device.alloc(nbytes)
        self.device.to_device(memory, 0, numpy.ones(nbytes // 8).view(numpy.uint8))
        return memory
