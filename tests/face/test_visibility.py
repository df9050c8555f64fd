"""Who else sees memory: while somebody does, nothing waits; without views, work may wait again."""

from __future__ import annotations

import gc
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np

Waits = Callable[[Any], bool]


def out_of_band(array: Any) -> pickle.PickleBuffer:
    """Pickle an array; return the buffer that its memory is in."""
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(array, 5, buffer_callback=buffers.append)
    return buffers[0]


COUNTED: dict[str, Callable[[Any], Any]] = {
    "asarray": numpy.asarray,
    "array without copy": lambda a: numpy.array(a, copy=False),
    "__array__": lambda a: a.__array__(),
    "to_numpy": lambda a: a.to_numpy(),
    "a view of a view": lambda a: numpy.asarray(a)[5:].reshape(-1, 5)[::2],
    "a part": lambda a: numpy.asarray(a[3:6]),
    "data": lambda a: a.data,
    "flat": lambda a: a.flat,
    "dlpack": numpy.from_dlpack,
    "capsule": lambda a: a.__dlpack__(),
    "nditer": numpy.nditer,
    "frombuffer": numpy.frombuffer,
    "memoryview": memoryview,
    "masked": lambda a: numpy.ma.array(a, copy=False),
    "broadcast": lambda a: numpy.broadcast_to(numpy.asarray(a), (2, 3000)),
    "ndenumerate": numpy.ndenumerate,
    "a pickle's buffer": out_of_band,
}
#: Exports that do not go through NumPy's own conversion.
DIRECT = {"__array__", "to_numpy", "data", "flat", "dlpack", "capsule", "a pickle's buffer"}
FOR_EVER: dict[str, Callable[[Any], Any]] = {
    "an address": lambda a: a.ctypes.data,
    "an interface": lambda a: a.__array_interface__,
    "a subclass": lambda a: a.view(numpy.recarray),
    "a masked array of ours": lambda a: np.ma.asarray(a),
}


@pytest.fixture(autouse=True)
def _deferring(always: None) -> None:
    pass


def needs_buffers(name: str) -> None:
    from dispatcharr.face import _fastpath

    if name not in DIRECT and not _fastpath.COMPILED and sys.version_info < (3, 12):
        pytest.skip("classes have no __buffer__ before Python 3.12: NumPy asks for an address")


@pytest.mark.parametrize("name", COUNTED)
def test_nothing_waits_while_a_view_lives_outside(name: str, waits: Waits) -> None:
    needs_buffers(name)
    gc.disable()
    try:
        array = np.arange(3000.0)
        array += 0
        assert waits(array * 2)
        outside = COUNTED[name](array)
        assert not waits(array * 2)
        assert not waits(array[::2] * 2)
        assert not waits(np.sqrt(array))
        del outside
        assert waits(array * 2)
        assert waits(array[::2] * 2)
    finally:
        gc.enable()


@pytest.mark.parametrize("name", FOR_EVER)
def test_what_cannot_be_counted_is_seen_for_ever(name: str, waits: Waits) -> None:
    array = np.arange(3000.0) + 1
    FOR_EVER[name](array)
    assert not waits(array * 2)
    assert not waits(array[10:] * 2)
    assert waits(array.copy() * 2)


@pytest.mark.parametrize(
    "name", [name for name in COUNTED if name not in ("ndenumerate", "capsule")]
)
def test_what_waited_before_the_export_keeps_its_values(name: str) -> None:
    needs_buffers(name)
    array = np.arange(3000.0) + 0
    doubled = array * 2
    outside = COUNTED[name](array)
    if isinstance(outside, numpy.nditer):
        numpy.asarray(array)[...] = -1
    elif not getattr(getattr(outside, "flags", None), "writeable", True):
        pytest.skip("the export cannot be written to")
    else:
        numpy.asarray(outside)[...] = -1
    assert doubled.sum() == numpy.arange(3000.0).sum() * 2
    assert array.min() == -1


def test_visibility_of_memory_that_came_in(waits: Waits) -> None:
    owner = numpy.arange(3000.0)
    for ours in (np.asarray(owner), np.ascontiguousarray(owner), np.reshape(owner, (3, -1)),
                 np.from_dlpack(owner), np.frombuffer(bytearray(24000)), np.ravel(owner),
                 np.asarray([owner][0]), np.broadcast_to(owner, (2, 3000)),
                 owner + np.zeros(3000)):  # fmt: skip
        seen = not waits(ours * 2)
        assert seen or not np.shares_memory(ours, owner)
    assert waits(np.array(owner) * 2)
    assert waits(np.asarray(owner, "f4") * 2)
    assert waits(np.copy(owner) * 2)


def test_memory_maps_are_seen(tmp_path: Any, waits: Waits) -> None:
    numpy.save(tmp_path / "x.npy", numpy.arange(3000.0))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    ours = np.asarray(mapped)
    doubled = ours * 2
    mapped[0] = 9
    assert doubled[0] == 0
    assert ours[0] == 9


def test_fresh_results_of_numpy_functions_may_wait(waits: Waits) -> None:
    array = np.arange(3000.0)
    for fresh in (
        np.sort(array), np.cumsum(array), np.concatenate([array, array]), np.zeros(3000),
        np.random.default_rng(1).random(3000), np.random.rand(3000), array.copy(), array[array > 3],
        np.fft.fft(array), np.outer(array[:60], array[:60]), np.tile(array, 2),
        np.array([1.0] * 3000),
        np.meshgrid(array[:60], array[:60])[0], np.linspace([0, 1], 2, 3000), np.sort(array)[::-1],
        np.empty_like(array), np.stack([array, array]).T, np.indices((60, 60))[0],
    ):  # fmt: skip
        assert waits(fresh * 2), fresh


def test_results_that_numpy_keeps_are_seen(waits: Waits) -> None:
    kept = []

    def callback(row: Any) -> float:
        kept.append(row)
        return 0.0

    array = np.arange(6000.0).reshape(2, 3000)
    np.apply_along_axis(callback, 1, array)
    assert not waits(array * 2)

    class Keeper:
        def __init__(self) -> None:
            self.made = numpy.arange(3000.0)

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return self.made

    assert not waits(np.asarray(Keeper()) * 2)


def test_identity_of_ids_is_not_confused(waits: Waits) -> None:
    """A new array at the address of a lent or foreign one that died starts afresh."""
    for _ in range(50):
        array = np.asarray(numpy.arange(3000.0))
        outside = numpy.asarray(array)
        del array, outside
        assert waits(np.ones(3000) * 2)


def test_leases_leave_nothing_behind() -> None:
    from dispatcharr.storage import exports

    gc.collect()
    before = len(exports.lent_roots), len(exports.foreign_roots)
    for _ in range(100):
        array = np.arange(3000.0) + 0
        numpy.asarray(array), array.data, array.ctypes.data, np.asarray(numpy.ones(3000))
    del array
    gc.collect()
    after = len(exports.lent_roots), len(exports.foreign_roots)
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 1
