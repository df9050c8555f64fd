"""The virtual device: it does what is asked for, in order, and mistakes do not pass."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import numpy
import pytest

from dispatcharr._errors import OptionError
from dispatcharr.devices.device import (
    COUNTERS,
    CompileError,
    Device,
    DeviceError,
    DeviceMemoryError,
    Kernel,
    Memory,
)
from dispatcharr.devices.shim import Program
from dispatcharr.devices.virtual import VirtualDevice
from dispatcharr.devices.virtual_tasks import Launch, Upload

pytestmark = pytest.mark.skipif(
    VirtualDevice.missing() is not None, reason=str(VirtualDevice.missing())
)

SEEDS = range(10)
HEAD = 'struct Words { long long w[3]; };\nextern "C" __global__ void '
LOOP = "for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < p.w[2]; " \
       "i += gridDim.x * blockDim.x)"  # fmt: skip
DOUBLE = HEAD + f"twice(const Words p) {{ double* y = (double*)p.w[1]; {LOOP} y[i] *= 2; }}"
ADD = (
    HEAD + f"add(const Words p) {{ const double* x = (const double*)p.w[0]; "
    f"double* y = (double*)p.w[1]; {LOOP} y[i] += x[i]; }}"
)
FLAG = HEAD + "flag(const Words p) { atomicOr((unsigned long long*)p.w[0], 1ull << p.w[1]); }"
N = 1000


@pytest.fixture
def device() -> VirtualDevice:
    return VirtualDevice(1)


def loaded(device: VirtualDevice, text: str, name: str) -> Kernel:
    return device.load(device.compile(text, name), name)


def up(device: VirtualDevice, values: object) -> Memory:
    host = numpy.ascontiguousarray(values, "f8")
    memory = device.alloc(host.nbytes)
    device.to_device(memory, 0, host.view("u1"))
    host[...] = -1
    return memory


def down(device: VirtualDevice, memory: Memory, offset: int = 0) -> numpy.ndarray:
    host = numpy.empty((memory.nbytes - offset) // 8)
    device.to_host(host.view("u1"), memory, offset)
    return host


def test_it_is_a_device(device: VirtualDevice) -> None:
    as_device: Device = device  # the types say so
    assert device.props.target.startswith("virtual")
    assert set(device.counters) == set(COUNTERS)
    assert as_device.stream == 0
    assert "g++" in device.compiler or "GCC" in device.compiler


@pytest.mark.parametrize("seed", SEEDS)
def test_all_happens_in_the_order_it_was_given(seed: int) -> None:
    device = VirtualDevice(seed)
    twice, add = loaded(device, DOUBLE, "twice"), loaded(device, ADD, "add")
    y, expected = up(device, numpy.arange(N)), numpy.arange(N, dtype="f8")
    for i in range(30):
        x = up(device, numpy.full(N, i))
        device.launch(add, 2, 64, [x.address, y.address, N])
        x.free()
        other = device.alloc(8 * N)
        device.launch(twice, 3, 32, [0, y.address, N])
        device.copy(other, 8, y, 0, 8 * (N - 1))
        device.copy(y, 0, other, 8, 8 * (N - 1))
        expected = (expected + i) * 2
    assert (down(device, y) == expected).all()


def test_views_are_addresses_inside_of_memory(device: VirtualDevice) -> None:
    twice, y = loaded(device, DOUBLE, "twice"), up(device, numpy.arange(10))
    device.launch(twice, 1, 32, [0, y.address + 8 * 4, 3])
    assert down(device, y).tolist() == [0, 1, 2, 3, 8, 10, 12, 7, 8, 9]
    assert down(device, y, 64).tolist() == [8, 9]
    assert y.address % 256 == 0


def test_queued_work_waits_for_a_while() -> None:
    waited = 0
    for seed in SEEDS:
        device = VirtualDevice(seed)
        flag, word = loaded(device, FLAG, "flag"), device.flags()
        device.launch(flag, 1, 1, [word.address, 3, 0])
        try:
            assert word.read() == 8
        except DeviceError as error:
            assert "still waits" in str(error)
            waited += 1
        device.synchronize()
        assert word.read() == 8
    assert 0 < waited < len(SEEDS)


def test_memory_is_rubbish_until_it_is_written(device: VirtualDevice) -> None:
    assert numpy.isnan(down(device, device.alloc(80))).all()


def test_words_of_flags_are_handed_out_again(device: VirtualDevice) -> None:
    flag = loaded(device, FLAG, "flag")
    addresses = set()
    for i in range(300):
        word = device.flags()
        addresses.add(word.address)
        device.launch(flag, 1, 1, [word.address, i % 60, 0])
        device.synchronize()
        assert word.read() == 1 << i % 60
        if i % 2:
            word.release()
            word.release()
            with pytest.raises(DeviceError, match="released"):
                word.read()
    assert len(addresses) <= 64


def test_a_word_of_flags_is_not_reused_before_its_kernels_are_over() -> None:
    for seed in SEEDS:
        device = VirtualDevice(seed)
        flag = loaded(device, FLAG, "flag")
        for _ in range(80):
            word = device.flags()
            device.launch(flag, 1, 1, [word.address, 0, 0])
            del word
        words = [device.flags() for _ in range(70)]
        device.synchronize()
        assert not any(word.read() for word in words)


def test_no_memory_beyond_the_capacity() -> None:
    device = VirtualDevice(1, capacity=1000)
    first = device.alloc(600)
    with pytest.raises(DeviceMemoryError, match="600 bytes wanted, 400 of 1000 are free"):
        device.alloc(600)
    assert device.memory_info() == (400, 1000)
    first.free()
    first.free()
    second = device.alloc(1000)
    assert (device.memory_info(), device.peak) == ((0, 1000), 1000)
    del second
    gc.collect()
    assert device.memory_info() == (1000, 1000)
    assert device.dead is None


def test_calls_fail_that_shall(device: VirtualDevice) -> None:
    device.fail("allocation", at=2, times=2)
    kept = [device.alloc(8)]
    for _ in range(2):
        with pytest.raises(DeviceMemoryError):
            device.alloc(8)
    kept.append(device.alloc(8))
    device.fail("compile")
    with pytest.raises(CompileError, match="twice"):
        device.compile(DOUBLE, "twice")
    device.compile(DOUBLE, "twice")
    with pytest.raises(ValueError, match="what must be one of allocation"):
        device.fail("alloc")


def test_an_interrupted_copy_is_half_a_copy(device: VirtualDevice) -> None:
    y, host = up(device, numpy.zeros(8)), numpy.ones(8)
    device.fail("to_device")
    with pytest.raises(KeyboardInterrupt):
        device.to_device(y, 0, host.view("u1"))
    assert down(device, y).tolist() == [1] * 4 + [0] * 4
    device.fail("to_host")
    host[:] = 5
    with pytest.raises(KeyboardInterrupt):
        device.to_host(host.view("u1"), y, 0)
    assert host.tolist() == [1] * 4 + [5] * 4


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failed_launch_is_the_end(seed: int) -> None:
    device = VirtualDevice(seed)
    twice, y = loaded(device, DOUBLE, "twice"), up(device, numpy.ones(4))
    device.fail("launch", at=3)
    with pytest.raises(DeviceError, match="asked for"):
        for _ in range(4):
            device.launch(twice, 1, 32, [0, y.address, 4])
        device.synchronize()
    assert device.dead is not None
    calls: list[Callable[[], object]] = [
        device.synchronize, device.flags, device.event, lambda: device.alloc(1),
        lambda: down(device, y), lambda: device.launch(twice, 1, 1, [0, 0, 0]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(DeviceError, match=device.dead):
            call()
    y.free()
    assert "dead" in repr(device)


@pytest.mark.parametrize("place, side", [(-3, "before the start"), (5, "beyond the end")])
def test_a_write_outside_of_memory_is_found(place: int, side: str) -> None:
    for seed in SEEDS:
        device = VirtualDevice(seed)
        twice, y = loaded(device, DOUBLE, "twice"), up(device, numpy.ones(5))
        with pytest.raises(DeviceError, match=f"twice: a write {side} of 40 bytes"):
            device.launch(twice, 1, 1, [0, y.address + 8 * place, 1])
            device.synchronize()


def test_a_write_into_the_guard_of_other_memory_is_found(device: VirtualDevice) -> None:
    twice, y = loaded(device, DOUBLE, "twice"), up(device, numpy.ones(4))
    other = up(device, numpy.ones(4))
    distance = (other.address - y.address) // 8
    text = DOUBLE.replace("y[i] *= 2", f"y[i + {distance + 4}] = 2")
    far = loaded(device, text, "twice")
    device.launch(twice, 1, 1, [0, other.address, 1])
    with pytest.raises(DeviceError, match="a write beyond the end of 32 bytes"):
        device.launch(far, 1, 1, [0, y.address, 1])
        device.synchronize()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("use", ["launch", "to_host", "copy"])
def test_memory_is_not_used_after_it_was_freed(seed: int, use: str) -> None:
    device = VirtualDevice(seed)
    x, y, twice = device.alloc(32), up(device, numpy.ones(4)), loaded(device, DOUBLE, "twice")
    device.launch(twice, 1, 1, [0, y.address, 4])
    y.free()  # after the launch: in order
    device.synchronize()
    uses: dict[str, Callable[[], object]] = {
        "launch": lambda: device.launch(twice, 1, 1, [0, y.address + 8, 1]),
        "to_host": lambda: down(device, y),
        "copy": lambda: device.copy(x, 0, y, 0, 8),
    }
    with pytest.raises(DeviceError, match=r"freed"):
        uses[use]()


def test_copies_stay_inside_of_memory(device: VirtualDevice) -> None:
    y, host = up(device, numpy.ones(4)), numpy.zeros(16, "u1")
    calls: list[Callable[[], object]] = [
        lambda: device.to_device(y, 24, host),
        lambda: device.to_host(host, y, -8),
        lambda: device.copy(y, 0, device.alloc(8), 0, 16),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"bytes at -?\d+ are not inside"):
            call()
    assert device.dead is None


def test_what_no_gpu_would_launch(device: VirtualDevice) -> None:
    twice = loaded(device, DOUBLE, "twice")
    for grid, block, words in ((0, 1, 3), (1, 1025, 3), (2**31, 1, 3), (1, 1, 2), (1, 1, 4)):
        with pytest.raises(ValueError, match="launch: twice"):
            device.launch(twice, grid, block, [0] * words)
    with pytest.raises(ValueError, match="64 bits"):
        device.launch(twice, 1, 1, [2**64, 0, 0])
    with pytest.raises(TypeError, match="not loaded by this device"):
        device.launch("twice", 1, 1, [0, 0, 0])  # type: ignore[arg-type]
    device.launch(twice, 1, 1, [2**64 - 1, -(2**63), 0])
    device.synchronize()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_barrier_that_not_all_reach_is_the_end(seed: int) -> None:
    device = VirtualDevice(seed)
    text = HEAD + "some(const Words p) { if (threadIdx.x) __syncthreads(); }"
    with pytest.raises(DeviceError, match="some: not all threads reach the barrier in line 2"):
        device.launch(loaded(device, text, "some"), 1, 64, [0, 0, 0])
        device.synchronize()
    assert device.dead is not None


def test_a_missing_barrier_changes_results() -> None:
    text = (
        HEAD
        + """neighbours(const Words p) {
        double* y = (double*)p.w[0];
        y[threadIdx.x] = y[(threadIdx.x + 1) % 64] + 1;
    }"""
    )
    seen = set()
    for seed in SEEDS:
        device = VirtualDevice(seed)
        kernel, y = loaded(device, text, "neighbours"), up(device, numpy.zeros(64))
        device.launch(kernel, 1, 64, [y.address, 0, 0])
        seen.add(down(device, y).tobytes())
    assert len(seen) > 1


def test_counters_tell_what_was_done(device: VirtualDevice) -> None:
    twice, y = loaded(device, DOUBLE, "twice"), up(device, numpy.ones(4))
    x = device.alloc(32)
    device.launch(twice, 1, 32, [0, y.address, 4])
    device.copy(x, 0, y, 0, 32)
    device.synchronize()
    down(device, x, 8)
    assert device.counters == {
        "to_device_bytes": 32, "to_host_bytes": 24, "to_device": 1, "to_host": 1, "launches": 1,
        "synchronizes": 1, "allocations": 2, "copies": 1,
    }  # fmt: skip


def test_time_is_computed_and_always_the_same() -> None:
    taken = set()
    for seed in SEEDS:
        device = VirtualDevice(seed)
        twice, y = loaded(device, DOUBLE, "twice"), up(device, numpy.ones(1000))
        first = device.event()
        for _ in range(10):
            device.launch(twice, 1, 32, [0, y.address, 4])
        last = device.event()
        taken.add(round(device.elapsed(first, last), 12))
        assert first.done() and last.done()
    assert len(taken) == 1
    assert 10e-6 < taken.pop() < 100e-6
    with pytest.raises(TypeError, match="no event of this device"):
        device.elapsed(first, None)  # type: ignore[arg-type]


def test_an_interrupt_neither_loses_nor_repeats_work(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts: list[int] = []
    run = Program.run

    def interrupted(self: Program, *args: object) -> None:
        run(self, *args)  # type: ignore[arg-type]
        if len(interrupts) < 3:
            interrupts.append(1)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Program, "run", interrupted)
    device = VirtualDevice(2)
    twice, y = loaded(device, DOUBLE, "twice"), up(device, numpy.ones(4))
    for _ in range(5):
        with suppress(KeyboardInterrupt):
            device.launch(twice, 1, 32, [0, y.address, 4])
    for _ in range(4):
        with suppress(KeyboardInterrupt):
            device.synchronize()
    assert len(interrupts) == 3
    assert down(device, y).tolist() == [32] * 4


def test_threads_may_use_it_at_once(device: VirtualDevice) -> None:
    twice = loaded(device, DOUBLE, "twice")
    wrong = []

    def work(start: int) -> None:
        for i in range(60):
            y = up(device, numpy.full(N, start + i))
            device.launch(twice, 1, 64, [0, y.address, N])
            if (down(device, y) != 2 * (start + i)).any():
                wrong.append(start + i)

    threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert device.counters["launches"] == 240
    gc.collect()
    assert device.memory_info()[0] == device.props.total_memory


def test_the_environment_may_choose_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHARR_SIM_SEED", "5")
    assert VirtualDevice()._random.random() == VirtualDevice(5)._random.random()
    monkeypatch.setenv("DISPATCHARR_SIM_SEED", "five")
    with pytest.raises(OptionError, match="whole number, got 'five'"):
        VirtualDevice()


def test_work_does_not_pile_up(device: VirtualDevice) -> None:
    big, host = device.alloc(16 << 20), numpy.zeros(16 << 20, "u1")
    for _ in range(20):
        device.to_device(big, 0, host)
        assert sum(isinstance(task, Upload) for task in device._queue) <= 2
    twice = loaded(device, DOUBLE, "twice")
    for _ in range(500):
        device.launch(twice, 1, 1, [0, big.address, 1])
        assert sum(isinstance(task, Launch) for task in device._queue) <= 64
