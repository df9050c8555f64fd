"""Mirrors where there is no room, where the device fails, in forks and threads."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading

import numpy
import pytest

import dispatcharr as np
from dispatcharr._errors import DeviceLostError, DispatcharrError
from dispatcharr.storage import mirrors, places
from storing import NoRoom, StoringDevice, moved, placed, stored_on

LONG = 5000


def there(device: StoringDevice, host: numpy.ndarray) -> numpy.ndarray:
    """Return the device's array for ``host``, as a kernel that reads it would find it."""
    return device.view(places.address(host), host)


def counted(name: str) -> int:
    return places.counters[name]


# --- room -----------------------------------------------------------------------------------------


def test_clean_mirrors_are_dropped_first_and_the_oldest_of_them() -> None:
    nbytes = 8 * LONG
    with stored_on(StoringDevice(room=4 * (nbytes + 256))) as device:
        dirty = moved(numpy.arange(float(LONG)))
        old, middle, late = [moved(numpy.zeros(LONG), "both") for _ in range(3)]
        with places.running():
            places.address(old)  # used again
        more = numpy.ones(LONG)
        with places.running():
            assert (there(device, more) == 1).all()
        states = [places.state(x) for x in (dirty, old, middle, late, more)]
        assert states == ["device", "both", "host", "both", "both"]
        keep = [moved(numpy.zeros(LONG)) for _ in range(3)]
        assert places.state(dirty) == "device"
        keep += [moved(numpy.zeros(LONG))]
        assert places.state(dirty) == "host" and (dirty == numpy.arange(LONG)).all()
        assert counted("evicted") > 0


def test_what_a_run_uses_is_not_dropped() -> None:
    nbytes = 8 * LONG
    with stored_on(StoringDevice(room=2 * (nbytes + 256))) as device:
        a, b, c = (numpy.full(LONG, float(i)) for i in range(3))
        with places.running():
            one, two = places.address(a), places.target(b)
            with pytest.raises(NoRoom):
                places.address(c)
            assert (device.view(one, a) == 0).all()
            device.view(two, b)[...] = 5
            places.written([b])
        assert places.state(b) == "device" and places.state(c) == "host"
        with places.running():
            assert (there(device, c) == 2).all()
        places.home(b)
        assert (b == 5).all()


def test_no_room_at_all_leaves_everything_as_it_was() -> None:
    with stored_on(StoringDevice(room=100)):
        x = numpy.arange(float(LONG))
        for function in (places.address, places.target):
            with pytest.raises(MemoryError), places.running():
                function(x)
            assert places.state(x) == "host" and not places.away


def test_memory_is_freed_with_its_array(device: StoringDevice) -> None:
    arrays = [moved(numpy.zeros(LONG), way) for way in ("both", "device")]
    assert device.used >= 16 * LONG
    del arrays
    gc.collect()
    mirrors.sweep()
    assert device.used == 0 and not mirrors.table and not places.away


def test_an_id_that_is_used_again_is_nobody(device: StoringDevice) -> None:
    x = moved(numpy.zeros(LONG))
    y = numpy.ones(LONG)
    place = mirrors.table[id(x)]
    mirrors.table[id(y)] = place
    places.away[id(y)] = place
    try:
        assert not places.is_away(y) and places.state(y) == "host"
        places.home(y)
        assert (y == 1).all()
    finally:
        mirrors.table.pop(id(y), None)
        places.away.pop(id(y), None)


# --- the device fails -----------------------------------------------------------------------------


def test_what_was_only_on_a_dead_device_is_lost(device: StoringDevice) -> None:
    away, both = placed(numpy.ones(LONG)), placed(numpy.ones(LONG), "both")
    device.dead = "an illegal address"
    with pytest.raises(DeviceLostError, match="an illegal address"):
        away.tolist()
    assert not places.enabled() and both.sum() == LONG
    for look in (
        lambda: away.sum(), lambda: away + 1, lambda: (away + both).sum(), lambda: away[3],
        lambda: numpy.asarray(away), lambda: away.copy()[0], lambda: np.sort(away),
        lambda: repr(away), lambda: away.__setitem__(3, 1), lambda: away[:5].__iadd__(1)[0],
        lambda: both.__setitem__(slice(None), away),
    ):  # fmt: skip
        with pytest.raises(DeviceLostError):
            result = look()
            assert result is None or numpy.asarray(result) is None
    assert away.shape == (LONG,) and away[3:5].shape == (2,)
    assert issubclass(DeviceLostError, RuntimeError) and issubclass(
        DeviceLostError, DispatcharrError
    )


def test_a_dead_device_costs_nothing_that_is_at_home(device: StoringDevice) -> None:
    x = placed(numpy.arange(float(LONG)), "both")
    places.forget_all("it was unplugged")
    x += 1
    assert x.sum() == numpy.arange(1.0, LONG + 1).sum() and not places.enabled()


# --- processes and threads ------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_the_values_and_no_device() -> None:
    code = """
        import os, sys
        sys.path.insert(0, sys.argv[1])
        import numpy
        from storing import StoringDevice, placed
        from dispatcharr.storage import places
        device = StoringDevice()
        places.use(device)
        x, y = placed(numpy.arange(5000.0)), placed(numpy.arange(5000.0), "both")
        child = os.fork()
        x[3] = 7 if child else 8
        good = x[3] == (7 if child else 8) and x.sum() == y.sum() - 3 + (7 if child else 8)
        if not child:
            os._exit(0 if good and not places.enabled() and device.used else 1)
        assert good and places.enabled()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print("done")
    """
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), os.path.dirname(__file__)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.stdout == "done\n", found.stderr


def test_writes_of_another_thread_to_another_part_are_kept(device: StoringDevice) -> None:
    x = numpy.zeros((2, LONG))
    entered, go = threading.Event(), threading.Event()

    def write() -> None:
        with places.writing((x[0],)):
            entered.set()
            go.wait(10)
            x[0] = 1

    thread = threading.Thread(target=write)
    thread.start()
    entered.wait(10)
    part = x[1]
    with places.running():
        device.view(places.target(part), part)[...] = 2
        places.written([part])
    assert places.state(x) == "host"  # it could not stay there
    go.set()
    thread.join()
    assert (x[0] == 1).all() and (x[1] == 2).all()


def test_a_host_write_waits_for_runs_that_write(device: StoringDevice) -> None:
    x = numpy.zeros((2, LONG))
    running, wrote = threading.Event(), threading.Event()

    def run() -> None:
        part = x[1]
        with places.running():
            address = places.target(part)
            running.set()
            assert not wrote.wait(0.2)
            device.view(address, part)[...] = 2
            places.written([part])

    thread = threading.Thread(target=run)
    thread.start()
    running.wait(10)
    places.host_write(x)
    x[0] = 1
    wrote.set()
    thread.join()
    assert places.state(x) == "host" and (x[0] == 1).all() and (x[1] == 2).all()


def test_what_another_thread_overwrites_there_is_not_overwritten_from_here(
    device: StoringDevice,
) -> None:
    x = numpy.zeros(LONG)

    def read() -> None:
        with places.running():
            assert (device.view(places.address(x), x) == 0).all()

    with places.running():
        there = device.view(places.target(x), x)
        there[...] = 1
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        places.written([x])
    places.home(x)
    assert (x == 1).all()


def test_a_fresh_result_is_fresh_once(device: StoringDevice) -> None:
    y = numpy.empty(100)
    places.expect(y)
    for part, value in ((y, 1), (y[10:20], 2)):
        with places.running():
            device.view(places.target(part), part)[...] = value
            places.written([part])
        assert places.state(y) == "device"
        places.home(y)
    places.host_write(y)
    with places.running():
        device.view(places.target(y[50:]), y[50:])[...] = 3  # and was not told of
    assert places.state(y) == "host"
    assert y.tolist() == [1] * 10 + [2] * 10 + [1] * 80


def test_callbacks_are_called_after_copies_home(device: StoringDevice) -> None:
    heard: list[str] = []
    x = moved(numpy.arange(float(LONG)))

    def hear() -> None:
        heard.append(places.state(x))
        raise RuntimeError("heard")

    places.on_home(hear)
    try:
        with pytest.raises(RuntimeError, match="heard"):
            places.home(x)
        places.home(x)
    finally:
        mirrors.on_home.remove(hear)
    assert heard == ["both"] and x[3] == 3


def test_addresses_want_a_run(device: StoringDevice) -> None:
    with pytest.raises(RuntimeError, match="running"):
        places.address(numpy.zeros(4))


def test_observers_are_told(device: StoringDevice) -> None:
    x = moved(numpy.zeros(LONG))
    told: list[tuple[int, int]] = []

    def observer(key: int, state: int) -> None:
        if key == id(x):
            told.append((key, state))

    places.observe(observer)
    try:
        places.home(x)
        places.host_write(x)
    finally:
        mirrors.observers.remove(observer)
    assert [state for _, state in told] == [2, 1, 0]
