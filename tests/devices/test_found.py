"""Which device a process has: what is asked in which order, in children, and at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import dispatcharr
from dispatcharr.devices import found, nvrtc, shim
from dispatcharr.devices.driver import CudaDevice
from dispatcharr.devices.libcuda import Driver
from fakes import Fake

ROOT = Path(dispatcharr.__file__).parents[1]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "_answer", None)
    for name in ("SIM_GPU", "SIM_SEED", "CUDA", "CUDA_DEVICE"):
        monkeypatch.delenv(f"DISPATCHARR_{name}", raising=False)


@pytest.fixture
def machine(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """A machine with one GPU and the compiler."""
    monkeypatch.setattr(Driver, "load", lambda: fake.driver)
    monkeypatch.setattr(nvrtc, "find", lambda: "libnvrtc.so")
    return fake


def test_a_gpu_is_found_once_and_not_started(machine: Fake) -> None:
    device = found.device()
    assert isinstance(device, CudaDevice)
    assert found.why() == ""
    assert found.device() is device
    assert machine.calls("cuInit") == 2  # once by the fixture
    assert machine.calls("cuDevicePrimaryCtxRetain") == 0


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("DISPATCHARR_CUDA", "0", "switched off by DISPATCHARR_CUDA=0"),
        ("DISPATCHARR_CUDA_DEVICE", "1", "must be the number of a GPU below 1, got '1'"),
        ("DISPATCHARR_CUDA_DEVICE", "-1", "must be the number of a GPU below 1, got '-1'"),
    ],
)
def test_the_environment_decides(
    machine: Fake, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert found.device() is None
    assert reason in found.why()


def test_the_virtual_device_comes_first(machine: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHARR_SIM_GPU", "1")
    monkeypatch.setenv("DISPATCHARR_CUDA", "0")
    if shim.missing() is not None:
        assert found.device() is None
        assert found.why() == shim.missing()
        return
    device = found.device()
    assert device is not None
    assert device.props.name == "virtual"
    monkeypatch.setattr(found, "_answer", None)
    monkeypatch.setenv("DISPATCHARR_SIM_SEED", "x")
    assert found.device() is None
    assert "DISPATCHARR_SIM_SEED must be a whole number" in found.why()


def test_a_device_that_failed_is_found_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    device = type("Device", (), {"dead": None})()
    monkeypatch.setattr(found, "_answer", found._Answer(device, ""))
    assert found.device() is device and not found.why()
    device.dead = "cuLaunchKernel: an illegal address"
    assert found.device() is None
    assert found.why() == "it failed: cuLaunchKernel: an illegal address"


def test_a_driver_that_fails_is_told(machine: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.fail("cuInit", 100)
    assert found.device() is None
    assert found.why().startswith("the CUDA driver reports cuInit: ")
    monkeypatch.setattr(found, "_answer", None)
    monkeypatch.setattr(nvrtc, "find", lambda: None)
    assert found.device() is None
    assert "install nvidia-cuda-nvrtc" in found.why()


def test_no_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Driver:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(Driver, "load", load)
    assert found.device() is None
    assert found.why() == "no CUDA driver was found (libcuda.so.1: cannot open shared object file)"


def run(fake: Fake, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process whose driver is the fake; ``device`` is started there."""
    begin = f"""
        import atexit, ctypes, functools, os, sys, warnings
        import numpy
        from dispatcharr.devices import found, nvrtc
        from dispatcharr.devices.libcuda import Driver
        library = ctypes.CDLL({str(fake.path)!r})
        library.fake_calls.restype = ctypes.c_long
        Driver.load = functools.partial(Driver, library)  # nothing that holds this module
        nvrtc.find = "libnvrtc.so".strip
        device = found.device()
        content = numpy.arange(20_000_000 // 8).view(numpy.uint8)
        host = numpy.zeros_like(content)
        memory = device.alloc(content.nbytes)
        device.to_device(memory, 0, content)
        frees = lambda: library.fake_calls(b"cuMemFreeAsync")
    """
    text = textwrap.dedent(begin) + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", text], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_no_device_and_frees_nothing(fake: Fake) -> None:
    done = run(
        fake,
        """
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and forks: that is the test
        child = os.fork()
        if child == 0:
            before = frees()
            del memory
            ok = frees() == before and found.device() is None and "forked" in found.why()
            try:
                device.alloc(5)
            except RuntimeError as error:
                ok = ok and "forked" in str(error)
            else:
                ok = False
            os._exit(0 if ok else 3)
        assert os.waitpid(child, 0)[1] == 0
        assert found.device() is device
        device.to_host(host, memory, 0)
        assert (host == content).all()
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_device_serves_until_the_end_and_nothing_is_freed_after_it(fake: Fake) -> None:
    done = run(
        fake,
        """
        def at_exit():
            device.to_host(host, memory, 0)
            print("right" if (host == content).all() else "wrong", frees(), flush=True)

        device.alloc(5).free()
        library.fake_tell_at_the_end()
        atexit.register(at_exit)
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "right 1\n1\n", "")


def test_the_package_looks_for_no_device_when_it_is_imported() -> None:
    code = (
        "import sys, dispatcharr, dispatcharr.devices.found\n"
        "names = ('driver', 'libcuda', 'nvrtc', 'virtual')\n"
        "print([n for n in names if f'dispatcharr.devices.{n}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
