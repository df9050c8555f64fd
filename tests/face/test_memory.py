"""Waiting keeps no memory alive that the eager program would have freed, and nothing leaks."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.storage import readers

Waits = Callable[[Any], bool]
MEGABYTE = 1 << 20


@pytest.fixture
def traced() -> Iterator[Callable[[], float]]:
    """Give the megabytes that NumPy and Python hold now."""
    gc.collect()
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]
    yield lambda: (tracemalloc.get_traced_memory()[0] - base) / MEGABYTE
    tracemalloc.stop()


def big() -> Any:
    return np.array(numpy.ones(MEGABYTE))  # 8 MB


def test_masks_of_dead_arrays_do_not_pin_them(large: None, traced: Callable[[], float]) -> None:
    masks = [big() > 0.5 for _ in range(10)]
    assert traced() < 10 + 3 * 8
    assert all(mask.all() for mask in masks)


def test_casts_and_slices_of_dead_arrays_do_not_pin_them(
    large: None, traced: Callable[[], float]
) -> None:
    halves = [(big() * 2)[: MEGABYTE // 64].astype("f4") for _ in range(8)]
    assert traced() < 8 * 8 + 16  # NumPy's slices pin their arrays as well
    del halves
    small = [np.isnan(big()[::4]) for _ in range(8)]
    assert traced() < 30
    assert not any(mask.any() for mask in small)


def test_expressions_that_need_more_than_they_give_are_run(
    large: None, traced: Callable[[], float]
) -> None:
    results = []
    for i in range(6):
        a, b, c = big(), big(), big()
        results.append(a * b + c * i)
    del a, b, c
    results.append(big() + 1)
    assert traced() < 7 * 8 + 3 * 8 + 8
    assert [float(r[0]) for r in results] == [1, 2, 3, 4, 5, 6, 2]


def test_sums_of_dead_arrays_do_not_pin_them(large: None, traced: Callable[[], float]) -> None:
    total = big() * 0
    most = 0.0
    for _ in range(20):
        total += big()
        most = max(most, traced())
    assert float(total[0]) == 20
    assert most < 5 * 8


def test_names_that_live_are_not_hurried(large: None, waits: Waits) -> None:
    a, b = big(), big()
    masks = [a > b for _ in range(3)]
    assert all(map(waits, masks))


def test_a_loop_over_temporaries_stays_flat(large: None, traced: Callable[[], float]) -> None:
    state = big()
    most = 0.0
    for _ in range(30):
        state = np.sqrt(state * 2 + 1) - 0.5
        most = max(most, traced())
    assert float(state[0]) > 0
    assert most < 6 * 8


def test_memory_limit_makes_larger_results_at_once(large: None, waits: Waits) -> None:
    array = big()
    assert waits(array * 2)
    with np.dispatch_options(memory_limit=MEGABYTE):
        assert not waits(array * 2)
        assert waits(array[: MEGABYTE // 16] * 2)


def updates(count: int, array: Any) -> tuple[float, float]:
    """Update in place; return the seconds of the first and of the last tenth."""
    times = []
    tenth = count // 10
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(tenth):
            array += 1
        times.append(time.perf_counter() - start)
    return min(times[:3]), min(times[-3:])


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_many_updates_neither_leak_nor_slow_down(mode: str, traced: Callable[[], float]) -> None:
    count = 100_000 if mode == "auto" else 10_000
    with np.dispatch_options(defer=mode):
        array = np.zeros(64)
        updates(1000, array)
        held = traced()
        first, last = updates(count, array)
        assert float(array[0]) == count + 1000
    assert traced() - held < 0.5
    assert last < 2.5 * first


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_updates() -> None:
    for mode, count in (("auto", 1_000_000), ("always", 200_000)):
        with np.dispatch_options(defer=mode):
            array = np.zeros(1500)
            first, last = updates(count, array)
            assert float(array[0]) == count
        assert last < 2 * first


def test_updates_of_large_arrays_stay_flat(large: None, traced: Callable[[], float]) -> None:
    array = big()
    for _ in range(300):
        array += 1
    assert float(array[-1]) == 301
    assert traced() < 2 * 8 + 8


def test_the_tables_empty_themselves(always: None) -> None:
    gc.collect()
    arrays = [np.arange(1500.0) * 2 + i for i in range(50)]
    views = [numpy.asarray(a) for a in arrays[:10]]
    del arrays, views
    gc.collect()
    readers.any_pending()
    alive = len(readers.pending_arrays())
    x = np.arange(1500.0) + 1
    assert len(readers.pending_arrays()) == alive + 1
    assert x[0] == 1
    assert len(readers.pending_arrays()) == alive


def test_many_waiting_arrays_do_not_slow_each_other_down(large: None) -> None:
    base = np.array(numpy.ones(50_000))

    def record(count: int) -> tuple[float, list[Any]]:
        start = time.perf_counter()
        made = [base * i for i in range(count)]
        return (time.perf_counter() - start) / count, made

    record(50)
    each = min(record(100)[0] for _ in range(3))
    many, arrays = record(3000)
    assert many < 8 * each
    assert arrays[2999][0] == 2999


def test_arrays_are_freed_by_their_last_reference(always: None) -> None:
    gc.disable()
    try:
        array = np.array(numpy.arange(3000.0))
        count = sys.getrefcount(array._value)
        for _ in range(20):
            y = array * 2 + 1
            y.sum()
            (array[5:] - 1).max()
            np.where(array > 1, array, 0)
            repr(array)
            array[0] = array[1]
            array.sort()
            np.fft.fft(array)
            numpy.asarray(array), memoryview(array.data), array.flat
        del y
        after = sys.getrefcount(array._value)  # an assert would hold a reference too
        assert after == count
    finally:
        gc.enable()


def test_resident_memory_stays_flat(script: Callable[..., str]) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    printed = script(
        """
        import numpy, dispatcharr as np

        def resident():
            with open("/proc/self/statm") as f:
                return int(f.read().split()[1]) * 4096 / 2**20

        x = np.array(numpy.ones(2_000_000))
        for i in range(20):
            y = np.sqrt(x * 2 + 1) - 0.5
            total = (y * y).sum()
        first = resident()
        for i in range(150):
            y = np.sqrt(x * 2 + 1) - 0.5
            total = (y * y).sum()
            mask = (x * i) > 3
            del mask
        print(resident() - first)
        """
    )
    assert float(printed) < 64
