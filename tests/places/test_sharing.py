"""Arrays on a device whose memory somebody else sees too: outsiders, views, threads."""

from __future__ import annotations

import threading

import numpy
import pytest

import dispatcharr as np
from alike import (
    SHAPE,
    VALUES,
    WAYS,
    no_buffers,
    same,
)
from dispatcharr.storage import places
from storing import StoringDevice, check_coherent, moved, placed, spoil

pytestmark = pytest.mark.usefixtures("device")


@no_buffers
def test_lent_memory_has_no_mirror(device: StoringDevice) -> None:
    x = placed(VALUES["float64"])
    seen = numpy.asarray(x)
    assert places.state(x._value) == "host" and device.used == 0
    with places.running():
        places.address(x._value)
        assert places.counters["mirrors"] == 0
    seen[3] = 5
    assert (numpy.asarray(x[3]) == 5).all() and float(x[3].sum()) == 5 * SHAPE[1]
    del seen
    moved(x._value, "both")
    x[0] = 1
    check_coherent()


def test_iterators_see_later_writes() -> None:
    for values in (numpy.arange(3.0), numpy.arange(4000.0)):
        x = placed(values)
        steps = iter(x)
        assert next(steps) == 0
        with places.running():
            places.target(x._value)
            assert places.state(x._value) == "host"
        x += 10
        assert next(steps) == 11


def test_results_computed_from_both_places(device: StoringDevice) -> None:
    values = VALUES["float64"]
    for left in (*WAYS, "host"):
        for right in (*WAYS, "host"):
            x, y = placed(values, left), placed(values[0], right)
            same((x - y) * 2 + x[1], (values - values[0]) * 2 + values[1])
            check_coherent()


def test_as_strided_views_are_guarded() -> None:
    x = placed(numpy.arange(3000.0))
    view = np.lib.stride_tricks.as_strided(x, (4, 2), (16, 8))
    spoil(x._value) if places.is_away(x._value) else moved(x._value)
    same(view, numpy.arange(8.0).reshape(4, 2))
    moved(x._value)
    assert view[1, 1] == 3
    same(view + 1, numpy.arange(8.0).reshape(4, 2) + 1)


def test_threads_on_parts_of_one_array() -> None:
    count, rows = 4, 40
    x = placed(numpy.zeros((count, 5000)))
    failed: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for i in range(rows):
                part = x[k]
                part += 1
                part[i] = -5
                assert part[i] == -5
                if i % 7 == k:
                    with places.running():
                        address = places.target(x._value[k])
                        there = places.device_in_use().view(address, x._value[k])
                        there[...] = x._value[k] if not places.is_away(x._value) else there
                assert numpy.array(part)[i + 1] == i + 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    expected = numpy.full((count, 5000), float(rows))
    expected[:, :rows] = -5 + rows - 1 - numpy.arange(rows)
    same(x, expected)
