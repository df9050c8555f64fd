"""The CUDA driver of ``fake_cuda.c``, built once and loaded anew for each test."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from dispatcharr.devices.driver import CudaDevice, CudaKernel
from dispatcharr.devices.libcuda import Driver

_SOURCE = Path(__file__).with_name("fake_cuda.c")


@cache
def built() -> Path:
    """Return the path of the compiled fake; skip the test where no C compiler is."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the fake driver with")
    path = Path(tempfile.mkdtemp(prefix="dispatcharr-fake-")) / "fake_cuda.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-pthread", str(_SOURCE), "-o", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


class Fake:
    """A fresh fake: its library, a driver on it, and devices of that."""

    def __init__(self, folder: Path) -> None:
        path = folder / "libcuda.so"
        shutil.copy(built(), path)  # a library's state is that of its file
        self.path = path
        self.library = ctypes.CDLL(str(path))
        self.library.fake_calls.restype = ctypes.c_long
        self.library.fake_used.restype = ctypes.c_size_t
        self.driver = Driver(self.library)
        self.driver.call("cuInit", 0)

    def device(self) -> CudaDevice:
        return CudaDevice(self.driver)

    def fail(self, name: str, code: int, after: int = 0) -> None:
        """Have a later call of a function return ``code``, the next one by default."""
        self.library.fake_fail(name.encode(), ctypes.c_long(after), code)

    def calls(self, name: str) -> int:
        return int(self.library.fake_calls(name.encode()))

    def limit(self, *, pools: bool = True, total: int = 1 << 30, pinned: int = 1 << 40) -> None:
        self.library.fake_set(int(pools), ctypes.c_size_t(total), ctypes.c_size_t(pinned))

    def kernel(self, device: CudaDevice, name: str) -> CudaKernel:
        return device.load(b"image of a kernel", name)
