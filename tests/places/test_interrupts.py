"""What an interrupt, a thread that ended, or a dead device leaves behind harms nobody."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy
import pytest

from dispatcharr._errors import DeviceLostError
from dispatcharr.storage import mirrors, places, runs
from storing import StoringDevice, check_coherent, moved

LONG = 5000
_FILES = tuple(module.__file__ for module in (mirrors, places, runs))


def interrupt_before(line: int, body: Callable[[], None]) -> bool:
    """Run ``body`` with an interrupt before that line of the storage; return whether it came."""
    seen = 0

    def local(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == line:
                sys.settrace(None)
                raise KeyboardInterrupt
        return local

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        # Python prints what __del__ raises, and goes on.
        ended = frame.f_code.co_name == "__del__"
        return local if frame.f_code.co_filename in _FILES and not ended else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        body()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_at_any_line_leaves_nothing_in_use(device: StoringDevice) -> None:
    line, came = 0, True
    while came:
        line += 1
        x, y, z = numpy.zeros(LONG), moved(numpy.zeros(LONG), "both"), moved(numpy.zeros(LONG))

        def body(x: Any = x, y: Any = y, z: Any = z) -> None:
            with places.running():
                there = device.view(places.address(x), x)
                for host in (y, z[1:]):
                    target = device.view(places.target(host), host)
                    target[: LONG // 2] = there[: LONG // 2] + 1
                    target[LONG // 2 :] = 1
                    places.written([host])
            places.patch(x[:3], numpy.ones(3))
            with places.writing((z,)):
                z[:2] = 3

        came = interrupt_before(line, body)
        while mirrors.lock._is_owned():
            # Traced lines include the end of a with statement, where no real interrupt comes.
            mirrors.lock.release()
        assert not [run for run in mirrors.runs if run.pinned or run.targets], line
        assert not [hand for hand in runs.hands if hand.roots], line
        assert mirrors.current_run() is None, line
        check_coherent()
        for host in (x, y, z):
            places.host_write(host)
            assert places.state(host) == "host"
        assert set(y) <= {0, 1} and len(set(y)) == 1 and len(set(z[2:])) == 1
    assert line > 100


def test_an_interrupted_patch_leaves_one_value(device: StoringDevice) -> None:
    x = moved(numpy.zeros(LONG), "both")
    to_device = device.to_device

    def interrupted(*args: Any) -> None:
        to_device(*args)
        raise KeyboardInterrupt

    device.to_device = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        places.patch(x[:8], numpy.full(8, 7.0))
    device.to_device = to_device  # type: ignore[method-assign]
    check_coherent()
    with places.running():
        assert (device.view(places.address(x), x) == x).all()
    places.home(x)
    assert set(x) <= {0, 7} and (x[8:] == 0).all()


def test_nobody_waits_for_a_run_that_cannot_end(device: StoringDevice) -> None:
    x, kept = numpy.zeros(LONG), []

    def begin() -> None:
        run = places.running()
        run.__enter__()
        places.target(x)
        kept.append(run)

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    begin()  # and one of this thread
    done = threading.Event()

    def write() -> None:
        places.host_write(x)
        done.set()

    kept.pop()  # another thread would wait for that of this one, which lives
    waiting = threading.Thread(target=write, daemon=True)
    waiting.start()
    assert done.wait(10)
    begin()
    places.host_write(x)
    kept.clear()
    assert mirrors.current_run() is None and not list(mirrors.runs)


def test_a_run_that_was_not_made_ends_quietly() -> None:
    run = places.running.__new__(places.running)
    del run  # what it raised would be an error here
    gc.collect()


def test_lost_values_that_are_overwritten_are_not_missed(device: StoringDevice) -> None:
    x, y = moved(numpy.zeros(LONG)), moved(numpy.zeros(LONG))
    device.dead = "an illegal address"
    with places.writing((x,), whole=True):
        x[...] = 3
    assert places.state(x) == "host" and not places.is_away(x) and (x == 3).all()
    for hosts, whole in (((y,), False), ((y[1:],), True), ((y, y[::2]), False)):
        with pytest.raises(DeviceLostError), places.writing(hosts, whole=whole):
            pass
    with pytest.raises(ZeroDivisionError), places.writing((y,), whole=True):
        raise ZeroDivisionError
    with pytest.raises(DeviceLostError):
        places.home(y)


def test_lost_values_stay_lost_where_another_output_cannot_be_had(device: StoringDevice) -> None:
    x, y = moved(numpy.zeros(LONG)), moved(numpy.zeros(LONG))
    device.dead = "an illegal address"
    with pytest.raises(DeviceLostError), places.writing((x, y[1:]), whole=True):
        pass
    for host in (x, y):
        with pytest.raises(DeviceLostError):
            places.home(host)


@pytest.mark.parametrize("ask", [
    places.home, places.host_write, places.state, places.look, places.read,
    lambda host: places.writing((host,)).__enter__(),
])  # fmt: skip
def test_memory_of_dead_arrays_is_given_back_by_what_the_host_does(
    device: StoringDevice, ask: Callable[[Any], Any]
) -> None:
    arrays = [moved(numpy.zeros(LONG), way) for way in ("both", "device")]
    host = numpy.zeros(LONG)
    del arrays
    gc.collect()
    assert device.used
    ask(host)
    assert not device.used
