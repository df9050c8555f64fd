"""Kernels of a device, built by and by: what is built, kept, remembered and given up."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dispatcharr
from dispatcharr.devices.device import CompileError, DeviceError, DeviceMemoryError
from dispatcharr.kernels import cuda_build
from dispatcharr.kernels.cuda_build import counts, image_key, order, ready, settle
from dispatcharr.kernels.cuda_source import Source

SOON = 20
ROOT = Path(dispatcharr.__file__).parents[1]


class Maker:
    """A device of which only compiling and loading are asked."""

    def __init__(self, compiler: str = "maker 1") -> None:
        self.props = SimpleNamespace(target="sm_90", name="the maker")
        self.compiler = compiler
        self.dead: str | None = None
        self.compiled: list[str] = []
        self.errors: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()

    def compile(self, text: str, name: str) -> bytes:
        self.gate.wait(SOON)
        self.compiled.append(text)
        if "nonsense" in text:
            raise CompileError(f"{name}: nonsense\n  in line 1")
        return f"image of {text}".encode()

    def load(self, image: bytes, name: str) -> Any:
        if self.errors:
            raise self.errors.pop()
        return SimpleNamespace(name=name, image=image)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISPATCHARR_CACHE_DIR", str(tmp_path))
    return tmp_path / "kernels"


@pytest.fixture
def device() -> Any:
    return Maker()


def source(text: str = "text") -> Source:
    return Source(text, "kernel")


def test_nobody_waits_for_a_kernel_that_is_not_there(device: Any) -> None:
    device.gate.clear()
    assert ready(device, source()) is None
    began = time.monotonic()
    assert order(device, source()) is None
    assert order(device, source()) is None
    assert ready(device, source()) is None
    assert time.monotonic() - began < SOON / 2
    assert not settle(device, timeout=0.05)
    device.gate.set()
    assert settle(device, SOON)
    kernel = ready(device, source())
    assert kernel is not None
    assert kernel.name == "kernel"
    assert device.compiled == ["text"]
    assert order(device, source()) is None
    assert device.compiled == ["text"]


def test_a_kernel_is_waited_for_when_that_is_asked(device: Any) -> None:
    assert order(device, source(), wait=True) is None
    assert ready(device, source()) is not None
    assert repr(counts(device)) == "<1 compiled, 0 loaded, 0 failed>"


def test_a_kernel_that_does_not_compile_is_not_tried_again(device: Any) -> None:
    reason = "kernel: nonsense in line 1"
    assert order(device, source("nonsense"), wait=True) == reason
    assert order(device, source("nonsense")) == reason
    assert order(device, source("nonsense"), stored=True, wait=True) == reason
    assert device.compiled == ["nonsense"]
    assert counts(device).failed == 1
    assert order(device, source("sense"), wait=True) is None


def test_a_mistake_is_told_with_its_kind(device: Any) -> None:
    device.errors = [KeyError("handle")]
    assert order(device, source(), wait=True) == "KeyError: 'handle'"


def test_want_of_memory_passes(device: Any) -> None:
    device.errors = [DeviceMemoryError("full")]
    assert order(device, source(), wait=True) is None
    assert ready(device, source()) is None
    assert order(device, source(), wait=True) is None
    assert ready(device, source()) is not None


def test_another_process_finds_the_image_on_disk(device: Any, empty_cache: Path) -> None:
    order(device, source(), wait=True)
    assert len(list(empty_cache.iterdir())) == 1
    other: Any = Maker()
    assert order(other, source(), stored=True, wait=True) is None
    kernel: Any = ready(other, source())
    assert kernel.image == b"image of text"
    assert other.compiled == []
    assert counts(other).loaded == 1
    newer: Any = Maker("maker 2")
    assert image_key(newer, source()) != image_key(device, source())
    order(newer, source(), wait=True)
    assert newer.compiled == ["text"]


def test_what_is_only_looked_for_is_not_compiled(device: Any) -> None:
    assert order(device, source(), stored=True, wait=True) is None
    assert ready(device, source()) is None
    assert device.compiled == []
    assert order(device, source(), wait=True) is None
    assert ready(device, source()) is not None


def test_a_stored_image_that_cannot_be_loaded_is_made_anew(device: Any) -> None:
    order(device, source(), wait=True)
    other: Any = Maker()
    other.errors = [DeviceError("no image for this GPU")]
    assert order(other, source(), wait=True) is None
    assert ready(other, source()) is not None
    assert other.compiled == ["text"]


def test_a_device_that_dies_is_the_reason(device: Any) -> None:
    order(device, source(), wait=True)
    other: Any = Maker()
    other.dead = "it is gone"
    other.errors = [DeviceError("it is gone")]
    assert order(other, source(), wait=True) == "it is gone"
    assert other.compiled == []


def test_a_process_builds_a_bounded_number(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_build, "MOST", 2)
    assert order(device, source("a"), wait=True) is None
    assert order(device, source("nonsense"), wait=True) is not None
    assert "has built 2 kernels for the maker" in str(order(device, source("c")))
    assert order(device, source("a")) is None


def test_without_threads_a_kernel_is_built_by_whoever_waits(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(cuda_build._thread, "start_new_thread", refuse)
    assert "refused a thread" in str(order(device, source()))
    assert order(device, source(), wait=True) is None
    assert ready(device, source()) is not None
    assert settle(device)


def test_many_threads_get_one_kernel(device: Any) -> None:
    threads = [
        threading.Thread(target=order, args=(device, source(str(i % 3)), False, True))
        for i in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()
    assert sorted(device.compiled) == ["0", "1", "2"]


def test_the_thread_ends_with_its_device() -> None:
    other: Any = Maker()
    order(other, source(), wait=True)
    held_by_the_thread = weakref.ref(cuda_build._line(other))
    gc.collect()
    assert held_by_the_thread() is not None
    del other
    end = time.monotonic() + SOON
    while held_by_the_thread() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert held_by_the_thread() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_an_exit_waits_for_the_kernel_that_is_being_built(tmp_path: Path) -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_cuda_build import Maker, order, source
class Slow(Maker):
    def compile(self, text, name):
        print("begin", flush=True)
        time.sleep(0.5)
        print("end", flush=True)
        return b"image"
device = Slow()
order(device, source())
order(device, source("another"))
time.sleep(0.2)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, "DISPATCHARR_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "begin\nend\n", "")
