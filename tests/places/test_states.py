"""Mirrors: where the bytes are, who has seen them, and what happens when there is no room."""

from __future__ import annotations

import gc
from typing import Any

import numpy
import pytest

from dispatcharr.storage import exports, places
from storing import StoringDevice, check_coherent, moved, spoil

LONG = 5000


def there(device: StoringDevice, host: numpy.ndarray) -> numpy.ndarray:
    """Return the device's array for ``host``, as a kernel that reads it would find it."""
    return device.view(places.address(host), host)


def counted(name: str) -> int:
    return places.counters[name]


def test_what_is_read_is_brought_once(device: StoringDevice) -> None:
    x = numpy.arange(float(LONG))
    for _ in range(2):
        with places.running():
            numpy.testing.assert_array_equal(there(device, x), x)
            numpy.testing.assert_array_equal(there(device, x[::-2]), x[::-2])
            numpy.testing.assert_array_equal(there(device, x[10:4000].reshape(-1, 10).T),
                                             x[10:4000].reshape(-1, 10).T)  # fmt: skip
    assert places.state(x) == "both" and places.state(x[3:]) == "both"
    assert counted("mirrors") == 1 and device.used >= x.nbytes


def test_addresses_are_aligned_as_on_the_host(device: StoringDevice) -> None:
    x = numpy.arange(float(LONG))
    views = [x, x[1:], x[5:900], numpy.arange(3.0), numpy.arange(100, dtype="i1")[3:50]]
    with places.running():
        for view in views:
            here = view.__array_interface__["data"][0]
            assert places.address(view) % 256 == here % 256
            assert places.target(view) % 256 == here % 256


def test_results_stay_away_until_somebody_looks(device: StoringDevice) -> None:
    y = numpy.empty(LONG)
    before = counted("to_device")
    with places.running():
        device.view(places.target(y), y)[...] = 3
        assert places.state(y) == "host"
        places.written([y])
    assert places.state(y) == "device" and places.is_away(y[7:9]) and places.is_placed(y)
    spoil(y)
    assert counted("to_device") == before
    places.home(y[3:])
    assert places.state(y) == "both" and (y == 3).all() and not places.is_away(y)
    places.host_write(y)
    assert places.state(y) == "host" and device.used == 0


def test_a_partial_write_keeps_the_rest(device: StoringDevice) -> None:
    y = numpy.arange(float(LONG))
    part = y[1000:4000]
    with places.running():
        device.view(places.target(part), part)[...] = -1
        places.written([part])
    assert places.state(y) == "device"
    spoil(y)
    places.home(y)
    assert y[999] == 999 and (y[1000:4000] == -1).all() and y[4000] == 4000


def test_targets_that_were_not_written_count_as_untouched(device: StoringDevice) -> None:
    fresh, clean, dirty = numpy.zeros(LONG), numpy.zeros(LONG), numpy.zeros(LONG)
    moved(clean, "both")
    moved(dirty)
    with pytest.raises(ZeroDivisionError), places.running():
        for host in (fresh, clean, dirty):
            device.view(places.target(host), host)[...] = 9
        raise ZeroDivisionError
    assert [places.state(x) for x in (fresh, clean, dirty)] == ["host", "host", "device"]
    assert (fresh == 0).all() and (clean == 0).all()


def test_a_view_and_its_root_are_one(device: StoringDevice) -> None:
    x = numpy.zeros((50, 100))
    before = x[3]
    moved(x)
    after = x[4]
    with places.running():
        device.view(places.target(after), after)[...] = 4
        device.view(places.target(before), before)[...] = 3
        places.written([after, before])
    for view in (before, after, x):
        places.home(view)
    assert (x[3] == 3).all() and (x[4] == 4).all() and not x[5:].any()


@pytest.mark.parametrize("order", ["C", "F"])
def test_roots_of_any_order(device: StoringDevice, order: str) -> None:
    x = numpy.asarray(numpy.arange(6000.0).reshape(20, 30, 10), order=order)
    y = numpy.ndarray((30, 200), float, strides=(8, 240))
    with places.running():
        numpy.testing.assert_array_equal(there(device, x), x)
        device.view(places.target(y), y)[...] = 5
        places.written([y])
    places.home(y)
    assert (y == 5).all()


def test_adopted_memory_is_the_truth(device: StoringDevice) -> None:
    memory = device.alloc(8 * LONG)
    memory.data.view(float)[...] = numpy.arange(LONG)
    for strides in (None, (8 * LONG // 10, 8)):
        y = places.adopt(memory, (10, LONG // 10), numpy.dtype(float), strides)
        assert places.state(y) == "device"
        assert (places.read(y[3]) == numpy.arange(LONG).reshape(10, -1)[3]).all()
        places.home(y)
        assert (y == numpy.arange(LONG).reshape(10, -1)).all()


# --- memory that others see -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda: numpy.frombuffer(bytearray(40000)), lambda: numpy.arange(float(LONG)),
    lambda: numpy.arange(4.0), lambda: numpy.ndarray(LONG, buffer=bytearray(8 * LONG)),
])  # fmt: skip
def test_visible_memory_is_copied_for_one_run(device: StoringDevice, make: Any) -> None:
    x = make()
    if x.flags.owndata and x.nbytes > places.SMALL:
        exports.mark_foreign(x)
    assert places.refusal(x)
    for number in (1, 2):
        x[...] = number
        with places.running():
            assert (there(device, x) == number).all()
            assert device.used >= x.nbytes
        assert places.state(x) == "host" and device.used == 0


def test_outputs_in_visible_memory_come_home_at_once(device: StoringDevice) -> None:
    root = numpy.zeros((100, 100))
    exports.mark_foreign(root)
    for view in (root[::2, ::3], root[5], root, root[:, 0]):
        root[...] = 1
        with places.running():
            device.view(places.target(view), view)[...] = 7
            root[1, 1] = 2  # somebody else, meanwhile
            places.written([view])
        assert (view == 7).all() and places.state(view) == "host"
        seen = numpy.shares_memory(view, root[1:2, 1:2])
        rest = view.size * 7 + (root.size - view.size) + (0 if seen else 1)
        assert root.sum() == rest and root[1, 1] == (7 if seen else 2)
    assert device.used == 0


def test_objects_never_go_there(device: StoringDevice) -> None:
    x = numpy.array([object()] * LONG)
    assert "objects" in str(places.refusal(x))


def test_lending_takes_the_mirror_away(device: StoringDevice) -> None:
    for way in ("both", "device"):
        x = moved(numpy.arange(float(LONG)), way)
        lent = exports.lend(x)
        assert (lent == numpy.arange(LONG)).all() and device.used == 0
        with places.running():
            assert places.refusal(x) and there(device, x)[3] == 3
            lent[3] = 77
        with places.running():
            assert there(device, x)[3] == 77
        del lent
        gc.collect()
        assert places.refusal(x) is None


def test_foreign_memory_has_no_mirror(device: StoringDevice) -> None:
    for way in ("both", "device"):
        x = moved(numpy.arange(float(LONG)), way)
        exports.mark_foreign(x[3:])
        assert places.state(x) == "host" and (x == numpy.arange(LONG)).all()


def test_small_memory_stays_unless_it_was_made_there(device: StoringDevice) -> None:
    x, y = numpy.arange(4.0), numpy.empty(4)
    with places.running():
        places.address(x)
        device.view(places.target(y, fresh=True), y)[...] = 2
        places.written([y])
    assert places.state(x) == "host" and places.state(y) == "device"
    places.home(y)
    assert places.state(y) == "both"
    places.host_write(y)
    assert places.state(y) == "host" and places.refusal(y)


# --- how much is moved ----------------------------------------------------------------------------


def test_small_views_are_rented_and_then_bought(device: StoringDevice) -> None:
    x = numpy.arange(100_000.0)
    for number in range(25):
        with places.running():
            part = x[4000 * number : 4000 * number + 4000]
            assert (there(device, part) == part).all()
        state = places.state(x)
        assert state == ("host" if number < 24 else "both")


def test_a_part_of_a_large_target_goes_home(device: StoringDevice) -> None:
    x = numpy.zeros(100_000)
    part = x[:100]
    with places.running():
        device.view(places.target(part), part)[...] = 1
        places.written([part])
    assert places.state(x) == "host" and x.sum() == 100


def test_looks_at_few_elements(device: StoringDevice) -> None:
    x = moved(numpy.arange(1_000_000.0))
    before = counted("to_host_bytes")
    assert places.read(x[5:7]).tolist() == [5, 6] and places.look(x[9, ...])[()] == 9
    assert counted("to_host_bytes") - before == 24 and places.state(x) == "device"
    copy = places.read(x)
    assert copy is not x and places.state(x) == "both" and (copy == numpy.arange(1e6)).all()


def test_patches(device: StoringDevice) -> None:
    for way in ("device", "both"):
        x = moved(numpy.zeros(100_000), way)
        assert places.patch(x[3:5], numpy.array([1.0, 2.0]))
        assert not places.patch(x[::2], numpy.ones(50_000))
        assert places.state(x) == way
        check_coherent()
        places.home(x)
        assert x[:6].tolist() == [0, 0, 0, 1, 2, 0]
    assert not places.patch(numpy.zeros(4), numpy.zeros(4))
