"""Interrupts in the middle of a copy: nothing stays under way, and the next copy is right."""

from __future__ import annotations

import threading
from typing import Any

import numpy
import pytest

from dispatcharr.devices.driver import CudaDevice
from fakes import Fake

MB = 1 << 20


def interrupt_at(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch, turn: int, *, before: bool
) -> None:
    """Have the calling thread interrupted around its call of the driver number ``turn``."""
    original, owner, calls = device.call, threading.get_ident(), iter(range(10_000))

    def call(name: str, *arguments: Any) -> None:
        now = next(calls) if threading.get_ident() == owner else -1
        if now == turn and before:
            raise KeyboardInterrupt
        original(name, *arguments)
        if now == turn:
            raise KeyboardInterrupt

    monkeypatch.setattr(device, "call", call)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("inward", [True, False])
@pytest.mark.parametrize("nbytes", [1000, 3 * MB, 20 * MB])
def test_an_interrupted_copy_leaves_nothing_under_way(
    fake: Fake, device: CudaDevice, monkeypatch: pytest.MonkeyPatch, nbytes: int, inward: bool,
    before: bool,
) -> None:  # fmt: skip
    content = numpy.random.default_rng(1).integers(0, 256, nbytes, numpy.uint8)
    memory = device.alloc(nbytes)
    for lane in (device._parts.inward, device._parts.outward):
        lane._most = 3
    device.to_device(memory, 0, content)
    host = numpy.zeros(nbytes, numpy.uint8)
    device.to_host(host, memory, 0)
    interrupted = 0
    for turn in range(60):
        with monkeypatch.context() as patch:
            interrupt_at(device, patch, turn, before=before)
            try:
                if inward:
                    device.to_device(memory, 0, content)
                else:
                    device.to_host(host, memory, 0)
                break  # it has fewer calls than that
            except KeyboardInterrupt:
                interrupted += 1
        # What is still to come reads the device's own memory and nothing that the host may change.
        assert (inward and nbytes == 1000) or fake.library.fake_under_way() == 0
        other = content[::-1].copy()
        device.to_device(memory, 0, other)
        got = numpy.zeros(nbytes, numpy.uint8)
        device.to_host(got, memory, 0)
        assert (got == other).all()
    assert interrupted == turn
    assert interrupted >= 1


def test_a_signal_in_a_long_copy_is_an_interrupt(fake: Fake, device: CudaDevice) -> None:
    import _thread

    nbytes = 150 * MB
    content = numpy.ones(nbytes, numpy.uint8)
    memory = device.alloc(nbytes)
    device.to_device(memory, 0, content)
    for delay in (0.001, 0.005, 0.01, 0.02):
        timer = threading.Timer(delay, _thread.interrupt_main)
        try:
            timer.start()  # the interrupt may come before it returns, on a busy machine
            for _ in range(50):
                device.to_device(memory, 0, content)
            pytest.fail("the interrupt did not arrive")
        except KeyboardInterrupt:
            assert fake.library.fake_under_way() == 0
        timer.join()
    content[:] = 3
    device.to_device(memory, 0, content)
    got = numpy.zeros(nbytes, numpy.uint8)
    device.to_host(got, memory, 0)
    assert (got == 3).all()
