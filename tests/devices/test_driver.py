"""A CUDA device on a driver that puts everything off: the order of things, and what fails."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy
import pytest

from dispatcharr.devices import staging
from dispatcharr.devices.device import DeviceError, DeviceMemoryError, Memory
from dispatcharr.devices.driver import CudaDevice
from fakes import Fake

KB, MB = 1 << 10, 1 << 20
#: Short, shorter than long, long: the borders, and odd sizes between them.
SIZES = (1, 64 * KB, 64 * KB + 1, 300_001, 4 * MB - 1, 4 * MB, 9_000_001, 70_000_003)


def some(nbytes: int, seed: int = 0) -> numpy.ndarray:
    return numpy.random.default_rng(seed).integers(0, 256, nbytes, numpy.uint8)


def sent(device: CudaDevice, content: numpy.ndarray) -> Memory:
    memory = device.alloc(content.nbytes)
    device.to_device(memory, 0, content)
    return memory


def fetched(device: CudaDevice, memory: Memory, offset: int = 0) -> numpy.ndarray:
    host = numpy.full(memory.nbytes - offset, 77, numpy.uint8)
    device.to_host(host, memory, offset)
    return host


def hands(device: CudaDevice, count: int) -> None:
    parts = device._parts
    for lane in (parts.inward, parts.outward):
        lane._most = count


def test_what_is_known_is_known_before_anything_starts(fake: Fake, device: CudaDevice) -> None:
    assert device.props.name == "Fake H100"
    assert device.props.uuid == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert (device.props.driver, device.props.target) == ("13.0", "sm_90")
    assert device.props.memory_bandwidth == pytest.approx(0.8 * 3.352e12, rel=0.01)
    assert (device.props.clock_hz, device.props.multiprocessors) == (1.98e9, 132)
    assert (device.props.double_ratio, device.props.l2_bytes) == (2, 50 * MB)
    assert fake.calls("cuDevicePrimaryCtxRetain") == 0
    assert "not started" in repr(device)


def test_it_starts_once_whichever_threads_begin(fake: Fake, device: CudaDevice) -> None:
    with ThreadPoolExecutor(8) as pool:
        streams = set(pool.map(lambda _: device.stream, range(32)))
    assert len(streams) == 1
    assert fake.calls("cuDevicePrimaryCtxRetain") == 1


@pytest.mark.parametrize("threads", [1, 3, 8])
@pytest.mark.parametrize("nbytes", SIZES)
def test_copies_and_kernels_take_their_turns(
    fake: Fake, device: CudaDevice, nbytes: int, threads: int
) -> None:
    hands(device, threads)
    add = fake.kernel(device, "add")
    content = some(nbytes)
    memory = sent(device, content)
    device.launch(add, 1, 1, [memory.address, nbytes, 1])
    assert (fetched(device, memory) == content + numpy.uint8(1)).all()
    device.launch(add, 1, 1, [memory.address, nbytes, 1])
    device.to_device(memory, 0, content[: nbytes // 2])  # after the launch, not before it
    device.launch(add, 1, 1, [memory.address, nbytes, 3])
    got = fetched(device, memory)
    assert (got[: nbytes // 2] == content[: nbytes // 2] + numpy.uint8(3)).all()
    assert (got[nbytes // 2 :] == content[nbytes // 2 :] + numpy.uint8(5)).all()


@pytest.mark.parametrize("nbytes", SIZES)
def test_the_host_may_change_what_was_sent(device: CudaDevice, nbytes: int) -> None:
    content = some(nbytes)
    kept = content.copy()
    memory = sent(device, content)
    content[:] = 0
    assert (fetched(device, memory) == kept).all()


def test_a_copy_begins_where_it_is_told_to(device: CudaDevice) -> None:
    content = some(200_000)
    memory = sent(device, content)
    device.to_device(memory, 100_003, content[:7])
    assert (fetched(device, memory, 100_003)[:7] == content[:7]).all()
    assert (fetched(device, memory, 100_010) == content[100_010:]).all()
    assert (fetched(device, memory)[:100_003] == content[:100_003]).all()


def test_many_short_copies_do_not_overwrite_each_other(device: CudaDevice) -> None:
    contents = [some(40_000 + i, i) for i in range(200)]
    memories = [sent(device, content) for content in contents]
    for content, memory in zip(contents, memories, strict=True):
        assert (fetched(device, memory) == content).all()


def test_copies_on_the_device_take_their_turn(fake: Fake, device: CudaDevice) -> None:
    content = some(5 * MB)
    memory, other = sent(device, content), device.alloc(5 * MB)
    device.copy(other, 10, memory, 20, 1000)
    device.launch(fake.kernel(device, "add"), 1, 1, [memory.address, 5 * MB, 9])
    assert (fetched(device, other)[10:1010] == content[20:1020]).all()


@pytest.mark.parametrize("pinned", [0, 100 * KB, 3 * MB])
def test_copies_do_without_pinned_memory(fake: Fake, device: CudaDevice, pinned: int) -> None:
    fake.limit(pinned=pinned)
    for nbytes in (100, 300_001, 9_000_001):
        content = some(nbytes)
        kept = content.copy()
        memory = sent(device, content)
        content[:] = 0
        assert (fetched(device, memory) == kept).all()


def test_copies_do_without_threads(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, *arguments: object) -> None:
            pass

        def submit(self, *arguments: object) -> None:
            raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(staging, "ThreadPoolExecutor", Refusing)
    content = some(20 * MB)
    hands(device, 4)
    assert (fetched(device, sent(device, content)) == content).all()


def test_both_directions_at_once_from_several_threads(device: CudaDevice) -> None:
    contents = [some(6_000_000 + i, i) for i in range(6)]

    def there_and_back(content: numpy.ndarray) -> bool:
        return bool((fetched(device, sent(device, content)) == content).all())

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(there_and_back, contents))


def test_what_cannot_be_copied_is_told(device: CudaDevice) -> None:
    memory = device.alloc(100)
    with pytest.raises(TypeError, match="contiguous array of uint8"):
        device.to_device(memory, 0, numpy.zeros(3))
    with pytest.raises(TypeError, match="contiguous array of uint8"):
        device.to_host(numpy.zeros(30, numpy.uint8)[::2], memory, 0)
    for offset, nbytes in ((1, 100), (-1, 5), (101, 0)):
        with pytest.raises(ValueError, match="do not lie in memory of 100"):
            device.to_device(memory, offset, numpy.zeros(nbytes, numpy.uint8))
    with pytest.raises(ValueError, match="do not lie in memory of 100"):
        device.copy(memory, 0, memory, 50, 51)


def test_a_kernel_gets_its_words_and_its_grid(fake: Fake, device: CudaDevice) -> None:
    memory = device.alloc(24)
    shape = fake.kernel(device, "shape")
    for word in (0, 5, -5, -(1 << 63), (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        device.launch(shape, 70_000, 256, [memory.address, word])
        grid, block, got = fetched(device, memory).view(numpy.int64)
        assert (grid, block) == (70_000, 256)
        assert int(got) % (1 << 64) == word % (1 << 64)
    device.launch(fake.kernel(device, "many"), 1, 1, [memory.address, *range(1, 600)])
    assert fetched(device, memory).view(numpy.int64)[0] == sum(range(1, 600))


def test_launches_of_several_threads_keep_their_words(fake: Fake, device: CudaDevice) -> None:
    memories = [sent(device, numpy.zeros(10, numpy.uint8)) for _ in range(8)]
    add = fake.kernel(device, "add")

    def launches(memory: Memory) -> None:
        for _ in range(300):
            device.launch(add, 1, 1, [memory.address, 10, 1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(launches, memories))
    for memory in memories:
        assert (fetched(device, memory) == 300 % 256).all()


def test_what_is_done_is_counted(fake: Fake, device: CudaDevice) -> None:
    memory = sent(device, some(1000))
    device.launch(fake.kernel(device, "add"), 1, 1, [memory.address, 5, 1])
    device.copy(memory, 0, memory, 500, 10)
    fetched(device, memory)
    device.synchronize()
    assert device.counters == {
        "to_device_bytes": 1000, "to_host_bytes": 1000, "to_device": 1, "to_host": 1,
        "launches": 1, "synchronizes": 1, "allocations": 1, "copies": 1,
    }  # fmt: skip


def test_events_tell_what_is_over_and_how_long_it_took(fake: Fake, device: CudaDevice) -> None:
    memory = device.alloc(10)
    first = device.event()
    for _ in range(5):
        device.launch(fake.kernel(device, "add"), 1, 1, [memory.address, 10, 1])
    last = device.event()
    assert not last.done()
    assert device.elapsed(first, last) == pytest.approx(0.005)
    assert last.done()
    made = fake.calls("cuEventCreate")
    del first, last
    device.event()
    assert fake.calls("cuEventCreate") == made


def test_flag_words_are_zero_and_not_handed_out_while_kernels_may_set_them(
    fake: Fake, device: CudaDevice
) -> None:
    flag = fake.kernel(device, "flag")
    words = [device.flags() for _ in range(1024)]
    addresses = {word.address for word in words}
    assert len(addresses) == 1024
    device.launch(flag, 1, 1, [words[0].address, 6])
    device.launch(flag, 1, 1, [words[1].address, 1])
    assert [word.read() for word in words[:2]] == [0, 0]
    words[1].release()
    del words[2]
    late = device.flags()  # the kernel that knows the released word has not run
    assert late.address not in addresses
    device.synchronize()
    assert words[0].read() == 6
    words[0].release()
    del late
    device.synchronize()
    again = [device.flags() for _ in range(1500)]
    assert all(word.read() == 0 for word in again)
    assert len({word.address for word in again} & addresses) == 3
    with pytest.raises(ValueError, match="released"):
        words[0].read()


def test_flag_words_come_back_from_programs_that_never_wait(fake: Fake, device: CudaDevice) -> None:
    for _ in range(10_000):
        device.flags().release()
    assert fake.calls("cuMemHostGetDevicePointer_v2") <= 3


def test_want_of_memory_is_a_memory_error_and_passes(fake: Fake, device: CudaDevice) -> None:
    fake.limit(total=10 * MB)
    device = fake.device()
    kept = device.alloc(6 * MB)
    with pytest.raises(DeviceMemoryError, match=r"wanted 5242880 bytes .* 4194304 of its 10485760"):
        device.alloc(5 * MB)
    with pytest.raises(DeviceMemoryError, match="wanted 1099511627776 bytes"):
        device.alloc(1 << 40)
    assert device.dead is None
    kept.free()  # put off, as everything here: it is waited for before memory is refused
    assert device.alloc(9 * MB).nbytes == 9 * MB
    with pytest.raises(ValueError, match="at least 0"):
        device.alloc(-1)


@pytest.mark.parametrize("pools", [True, False])
def test_memory_is_freed_when_it_is_dropped(fake: Fake, pools: bool) -> None:
    fake.limit(pools=pools)
    device = fake.device()
    memory = device.alloc(1000)
    other = device.alloc(0)
    assert memory.address % 256 == 0
    assert other.address not in (0, memory.address)
    memory.free()
    memory.free()
    cycle = [device.alloc(MB)]
    cycle.append(cycle)  # type: ignore[arg-type]
    thread = threading.Thread(target=device.alloc(2 * MB).free)
    thread.start()
    thread.join()
    del cycle, thread
    gc.collect()
    device.synchronize()
    free, total = device.memory_info()
    assert total - free == fake.library.fake_used() == 1
    assert not fake.calls("cuMemAllocFromPoolAsync" if not pools else "cuMemAlloc_v2")


def test_memory_is_freed_after_the_work_that_uses_it(fake: Fake, device: CudaDevice) -> None:
    content = some(5 * MB)
    memory, other = sent(device, content), device.alloc(5 * MB)
    device.copy(other, 0, memory, 0, 5 * MB)
    del memory
    assert (fetched(device, other) == content).all()


def test_a_crash_ends_the_device_and_says_so_ever_after(fake: Fake, device: CudaDevice) -> None:
    memory = device.alloc(100)
    kernel = fake.kernel(device, "crash")
    device.launch(kernel, 1, 1, [0])
    with pytest.raises(DeviceError, match="CUDA_ERROR_ILLEGAL_ADDRESS: what it means"):
        device.synchronize()
    assert "Fake H100 failed and is not used any more" in str(device.dead)
    frees = fake.calls("cuMemFreeAsync")
    acts: list[Callable[[], object]] = [
        lambda: device.alloc(1), lambda: device.launch(kernel, 1, 1, [0]), device.event,
        partial(device.to_host, numpy.zeros(9, numpy.uint8), memory, 0), device.synchronize,
    ]  # fmt: skip
    for act in acts:
        with pytest.raises(DeviceError, match="ILLEGAL_ADDRESS"):
            act()
    acts.clear()
    del memory, act
    assert fake.calls("cuMemFreeAsync") == frees


@pytest.mark.parametrize("nbytes", [100, 300_000, 9_000_000])
@pytest.mark.parametrize("name", ["cuMemcpyDtoHAsync_v2", "cuMemcpyHtoDAsync_v2"])
def test_a_failed_copy_is_told_and_the_next_one_is_right(
    fake: Fake, device: CudaDevice, name: str, nbytes: int
) -> None:
    hands(device, 3)
    content = some(nbytes)
    memory = sent(device, content)
    fake.fail(name, 1)
    with pytest.raises(DeviceError, match=name):
        _ = fetched(device, sent(device, content))
    assert device.dead is None
    assert fake.library.fake_under_way() == 0 or nbytes == 100
    assert (fetched(device, memory) == content).all()
    assert (fetched(device, sent(device, content)) == content).all()


def test_what_is_no_kernel_is_told(fake: Fake, device: CudaDevice) -> None:
    with pytest.raises(DeviceError, match=r"cuModuleLoadData: .* \(200\)"):
        device.load(b"what is this", "add")
    with pytest.raises(DeviceError, match=r"cuModuleGetFunction: .* \(500\)"):
        fake.kernel(device, "absent")
    with pytest.raises(DeviceError, match=r"cuLaunchKernel: .* \(1\)"):
        device.launch(fake.kernel(device, "shape"), 0, 1, [0, 0])
    assert device.dead is None


def test_a_device_that_cannot_be_started_is_given_up(fake: Fake, device: CudaDevice) -> None:
    fake.fail("cuDevicePrimaryCtxRetain", 2)
    with pytest.raises(DeviceError, match=r"Fake H100 cannot be started: .*OUT_OF_MEMORY"):
        device.alloc(1)
    assert fake.calls("cuDevicePrimaryCtxRetain") == 1
    with pytest.raises(DeviceError, match="cannot be started"):
        device.alloc(1)
    assert fake.calls("cuDevicePrimaryCtxRetain") == 1


def test_another_context_in_the_thread_is_put_right(fake: Fake, device: CudaDevice) -> None:
    content = some(100)
    memory = sent(device, content)
    add = fake.kernel(device, "add")
    for act in (
        lambda: device.launch(add, 1, 1, [memory.address, 100, 1]), lambda: device.alloc(5).free(),
        device.synchronize, lambda: device.event(), lambda: device.alloc(5),
    ):  # fmt: skip
        fake.library.fake_forget_context()
        act()
        assert fake.library.fake_context_is_current()
    assert (fetched(device, memory) == content + numpy.uint8(1)).all()


def test_an_unknown_result_is_told_by_its_number(fake: Fake, device: CudaDevice) -> None:
    fake.fail("cuStreamSynchronize", 12345, after=0)
    with pytest.raises(DeviceError, match=r"an unknown error \(12345\)"):
        device.synchronize()
