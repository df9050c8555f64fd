"""Arrays that the program puts on a device: where they are, and how they leave it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
import dispatcharr.array_api as xp
from dispatcharr.expr.nodes import Node
from dispatcharr.face import devices, dlpack
from dispatcharr.storage import places
from on_device import VIRTUAL

pytestmark = pytest.mark.gpu

HOST = numpy.arange(6000.0).reshape(60, 100)


@pytest.fixture(scope="module")
def gpu() -> str:
    """Return the name of the device."""
    devices: tuple[str, ...] = xp.__array_namespace_info__().devices()
    assert devices[0] == "cpu"
    return devices[1]


def equal(found: Any, wanted: numpy.ndarray) -> None:
    """Compare a copy: memory that NumPy holds is the host's."""
    numpy.testing.assert_array_equal(numpy.asarray(found.to_device("cpu")), wanted)


def test_arrays_are_on_the_cpu_until_the_program_says_otherwise(gpu: str) -> None:
    x = np.array(HOST)
    with np.use_backend("cuda"):
        y = np.evaluate(x * 2 + 1)
    assert x.device == y.device == "cpu"
    assert y.__dlpack_device__() == (dlpack.CPU, 0)
    equal(numpy.from_dlpack(y), HOST * 2 + 1)


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f4", "f8", "c16"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (60, 100)])
def test_there_and_back(gpu: str, dtype: str, shape: tuple[int, ...]) -> None:
    host = (numpy.arange(numpy.prod(shape, dtype=int)) % 7).reshape(shape).astype(dtype)
    x = np.array(host)
    there = x.to_device(gpu)
    assert (there.device, x.device) == (gpu, "cpu")
    assert there.to_device(gpu) is there
    back = there.to_device("cpu")
    assert back.device == "cpu"
    assert back.dtype == host.dtype
    equal(back, host)
    equal(there, host)
    assert repr(there) == repr(host)
    assert there.tolist() == host.tolist()
    assert there.device == gpu


@pytest.mark.parametrize(
    "view", [lambda a: a[::2, ::-3], lambda a: a.T, lambda a: np.broadcast_to(a[0], (4, 100))]
)
def test_views_go_there_by_their_elements(gpu: str, view: Callable[[Any], Any]) -> None:
    x = view(np.array(HOST))
    there = x.to_device(gpu)
    assert there.device == gpu
    equal(there, numpy.asarray(x))


def test_views_of_what_is_there_are_there(gpu: str) -> None:
    there = np.array(HOST).to_device(gpu)
    assert there.T.device == there[3].device == there.reshape(-1).device == gpu


def test_what_the_router_has_there_stays_and_no_byte_is_moved(gpu: str) -> None:
    with np.use_backend("cuda"):
        y = np.evaluate(np.array(HOST) * 2)
    before = dict(places.counters)
    there = y.to_device(gpu)
    assert there.device == gpu
    for name in ("to_device_bytes", "to_host_bytes"):
        assert places.counters[name] == before[name]
    equal(there, HOST * 2)


def test_results_of_kernels_are_where_the_operands_are(gpu: str) -> None:
    there = np.array(HOST).to_device(gpu)
    with np.use_backend("cuda"):
        result = np.evaluate(np.sqrt(there) + 1)
        beside = np.evaluate(np.array(HOST) + 1)
    assert result.device == gpu
    assert beside.device == "cpu"
    equal(result, numpy.sqrt(HOST) + 1)


def test_whoever_may_write_to_host_memory_brings_it_home(gpu: str) -> None:
    there = np.array(HOST).to_device(gpu)
    numpy.asarray(there)[0, 0] = -1
    assert there.device == "cpu"
    assert there[0, 0] == -1
    there = np.array(HOST).to_device(gpu)
    there += 1
    assert there.device == "cpu"
    equal(there, HOST + 1)


def test_making_arrays_on_the_device(gpu: str) -> None:
    assert xp.ones((3, 4), device=gpu).device == gpu
    assert xp.asarray([1, 2], device=gpu).device == gpu
    there = xp.full((2, 3), 2.5, device=gpu)
    equal(there, numpy.full((2, 3), 2.5))
    assert xp.zeros_like(there).device == gpu
    assert xp.zeros_like(there, device="cpu").device == "cpu"
    assert xp.ones_like(np.ones(3)).device == "cpu"


def test_what_cannot_go_there_says_why(gpu: str) -> None:
    with pytest.raises(TypeError, match="object"):
        np.asarray([None]).to_device(gpu)
    with pytest.raises(ValueError, match=f"cpu, {gpu}.*cuda:9"):
        np.ones(3).to_device("cuda:9")
    with pytest.raises(ValueError, match="stream"):
        np.ones(3).to_device(gpu, stream=1)


def test_only_arrays_on_the_device_show_its_memory(gpu: str) -> None:
    assert not hasattr(np.ones(3), "__cuda_array_interface__")
    with pytest.raises(AttributeError, match="to_device"):
        np.ones(3).__cuda_array_interface__
    assert hasattr(np.ones(3).to_device(gpu), "__cuda_array_interface__")


@pytest.mark.parametrize("dtype", ["?", "i2", "u4", "f4", "f8", "c8"])
def test_the_interface_of_device_memory(gpu: str, dtype: str) -> None:
    host = (HOST % 5).astype(dtype)
    there = np.array(host).to_device(gpu)
    for view in (there, there.T, there[::2, ::-3], there[5]):
        shown = view.__cuda_array_interface__
        assert shown["version"] == 3
        assert (shown["shape"], shown["typestr"]) == (view.shape, host.dtype.str)
        assert shown["data"][1]  # it is not to be written: nobody would see it
        if VIRTUAL:
            strides = shown["strides"] or numpy.empty(view.shape, host.dtype).strides
            steps = [(n - 1) * step for n, step in zip(view.shape, strides, strict=True)]
            low = sum(min(step, 0) for step in steps)
            high = sum(max(step, 0) for step in steps) + host.itemsize
            data = ctypes.string_at(shown["data"][0] + low, high - low)
            found = numpy.ndarray(view.shape, host.dtype, data, -low, strides)
            numpy.testing.assert_array_equal(found, numpy.asarray(view.to_device("cpu")))


def test_the_memory_that_is_shown_lives_with_the_array(gpu: str) -> None:
    there = np.array(HOST).to_device(gpu)
    before = len(devices._shown)
    first = there.__cuda_array_interface__
    assert there.__cuda_array_interface__ == first
    assert len(devices._shown) == before + 1
    del there
    gc.collect()
    assert len(devices._shown) == before


def test_asking_for_the_device_evaluates_nothing(gpu: str) -> None:
    with np.dispatch_options(defer="always"):
        x = np.array(HOST)
        y = x * 2 + 1
        assert y.device == "cpu"
        assert not hasattr(y, "__cuda_array_interface__")
        assert y.__dlpack_device__() == (dlpack.CPU, 0)
        assert type(y._value) is Node
        assert y._value.value is None


# --- DLPack ---------------------------------------------------------------------------------------


def opened(capsule: Any) -> tuple[Any, Any, str]:
    """Return the tensor in a capsule, the structure around it, and the capsule's name."""
    name = "dltensor_versioned" if "versioned" in repr(capsule) else "dltensor"
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    kind = dlpack._Versioned if "versioned" in name else dlpack._Managed
    managed = kind.from_address(get(capsule, name.encode()))
    return managed.tensor, managed, name


def values(tensor: Any, dtype: Any) -> numpy.ndarray:
    """Return what a tensor on the virtual device holds: its memory is the host's."""
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(step * dtype.itemsize for step in tensor.strides[: tensor.ndim])
    steps = list(zip(shape, strides, strict=True))
    low = sum(min((n - 1) * step, 0) for n, step in steps)
    high = sum(max((n - 1) * step, 0) for n, step in steps) + dtype.itemsize
    data = ctypes.string_at(tensor.data + low, high - low)
    return numpy.ndarray(shape, dtype, data, -low, strides).copy()


@pytest.mark.parametrize("max_version", [None, (0, 8), (1, 0), (2, 1)])
@pytest.mark.parametrize("dtype", ["?", "i2", "u4", "f4", "f8", "c8"])
def test_a_capsule_of_device_memory(gpu: str, dtype: str, max_version: Any) -> None:
    host = (HOST % 5).astype(dtype)
    there = np.array(host).to_device(gpu)
    assert there.__dlpack_device__()[0] == dlpack.CUDA
    capsule = there.__dlpack__(max_version=max_version, stream=1)
    tensor, managed, name = opened(capsule)
    assert (name == "dltensor_versioned") is (max_version is not None and max_version[0] >= 1)
    if name == "dltensor_versioned":
        assert (managed.major, managed.flags) == (1, 2)
    assert (tensor.device.type, tensor.device.number) == there.__dlpack_device__()
    if VIRTUAL:
        numpy.testing.assert_array_equal(values(tensor, host.dtype), host)


@pytest.mark.skipif(not VIRTUAL, reason="memory of a real device cannot be looked into from here")
@pytest.mark.parametrize(
    "view", [lambda a: a[::2, ::-3], lambda a: a.T, lambda a: a[5], lambda a: a[:0]]
)
def test_a_capsule_of_a_view(gpu: str, view: Callable[[Any], Any]) -> None:
    there = view(np.array(HOST).to_device(gpu))
    assert there.device == gpu
    capsule = there.__dlpack__()
    tensor, _, _ = opened(capsule)
    if there.size:
        numpy.testing.assert_array_equal(values(tensor, HOST.dtype), view(HOST))
    assert tuple(tensor.shape[: tensor.ndim]) == there.shape


def test_a_capsule_is_a_copy(gpu: str) -> None:
    there = np.array(HOST).to_device(gpu)
    with pytest.raises(BufferError, match="copy=False"):
        there.__dlpack__(copy=False)
    capsule = there.__dlpack__()
    there[...] = 0
    if VIRTUAL:
        numpy.testing.assert_array_equal(values(opened(capsule)[0], HOST.dtype), HOST)


def test_a_capsule_for_the_host(gpu: str) -> None:
    there = np.array(HOST).to_device(gpu)
    numpy.testing.assert_array_equal(numpy.from_dlpack(there, device="cpu"), HOST)
    capsule = there.__dlpack__(dl_device=(dlpack.CPU, 0))
    assert opened(capsule)[0].device.type == dlpack.CPU


def test_capsules_that_nobody_takes_are_freed(gpu: str) -> None:
    there = np.array(HOST).to_device(gpu)
    before = set(dlpack._out)
    capsules = [there.__dlpack__(), there.__dlpack__(max_version=(1, 0))]
    assert len(set(dlpack._out) - before) == 2
    del capsules
    gc.collect()
    assert set(dlpack._out) == before


def test_a_taken_capsule_is_freed_by_its_taker(gpu: str) -> None:
    there = np.array(HOST).to_device(gpu)
    before = set(dlpack._out)
    capsule = there.__dlpack__()
    _, managed, name = opened(capsule)
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
    used = f"used_{name}".encode()
    rename(capsule, used)
    del capsule
    gc.collect()
    assert len(set(dlpack._out) - before) == 1
    managed.deleter(ctypes.addressof(managed))
    assert set(dlpack._out) == before


class Foreign:
    """An array of another library on the device: it knows DLPack and nothing else."""

    def __init__(self, array: Any, versions: bool = True) -> None:
        self.array = array
        self.versions = versions

    def __dlpack_device__(self) -> tuple[int, int]:
        found: tuple[int, int] = self.array.__dlpack_device__()
        return found

    def __dlpack__(self, **keys: Any) -> Any:
        if not self.versions and keys.keys() - {"stream"}:
            raise TypeError("unexpected keyword")
        return self.array.__dlpack__(**keys)


@pytest.mark.parametrize("versions", [True, False])
@pytest.mark.parametrize(
    "view",
    [lambda a: a, lambda a: a[::2, ::-3], lambda a: a.T, lambda a: a[5], lambda a: a[:0],
     lambda a: np.broadcast_to(a[0], (4, 100))],
)  # fmt: skip
def test_memory_of_others_on_the_device_is_taken_over(
    gpu: str, view: Callable[[Any], Any], versions: bool
) -> None:
    there = view(np.array(HOST).to_device(gpu))
    out = set(dlpack._out)
    before = places.counters["to_host_bytes"]
    mine = xp.from_dlpack(Foreign(there, versions))
    assert places.counters["to_host_bytes"] == before
    assert set(dlpack._out) == out  # the capsule was given back
    assert (type(mine), mine.device) == (np.ndarray, gpu)
    equal(mine, numpy.asarray(there))
    assert (
        xp.from_dlpack(Foreign(view(np.array(HOST).to_device(gpu))), device="cpu").device == "cpu"
    )


def test_what_is_no_fresh_capsule_is_refused(gpu: str) -> None:
    capsule = np.array(HOST).to_device(gpu).__dlpack__()
    tensor = dlpack.opened(capsule)
    assert tensor.shape == HOST.shape
    assert tensor.strides == HOST.strides
    with pytest.raises(BufferError, match="nobody took"):
        dlpack.opened(capsule)
    tensor.release()
    with pytest.raises(BufferError, match="nobody took"):
        dlpack.opened(object())
    with pytest.raises(BufferError, match="copy=False"):
        xp.from_dlpack(Foreign(np.array(HOST).to_device(gpu)), copy=False)


def test_exchange_keeps_the_device(gpu: str) -> None:
    there = np.array(HOST).to_device(gpu)
    assert xp.from_dlpack(there).device == gpu
    assert xp.from_dlpack(there, copy=True).device == gpu
    assert xp.from_dlpack(there, device="cpu").device == "cpu"
    assert xp.from_dlpack(numpy.asarray(HOST), device=gpu).device == gpu
    with pytest.raises(BufferError, match="copy=False"):
        xp.from_dlpack(there, device="cpu", copy=False)
    equal(xp.from_dlpack(there, copy=True), HOST)
