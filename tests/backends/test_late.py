"""Errors that a device tells later: all are told, once, and never within a pass of the engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dispatcharr.backends import cuda, late
from dispatcharr.plan.region import REMARK

STEP: Any = SimpleNamespace(warns=frozenset({"overflow"}), may_tell=lambda name: True)


class Kernel:
    """What a kernel will have met, once the device has run it."""

    def __init__(self, *met: tuple[str, str], ran: bool = True) -> None:
        self.met = frozenset(met)
        self.ran = ran

    def __call__(self, wait: bool) -> frozenset[tuple[str, str]] | None:
        self.ran = self.ran or wait
        return self.met if self.ran else None


@pytest.fixture(autouse=True)
def queue() -> Iterator[Any]:
    assert not late._unheard
    yield late._unheard
    late._unheard.clear()


def told() -> list[str]:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        late.hear()
    return [str(one.message) for one in heard]


def test_what_has_run_is_told_once_and_the_rest_waits(queue: Any) -> None:
    waiting = Kernel(("overflow", "add"), ran=False)
    late.hear_later(STEP, waiting)
    late.hear_later(STEP, Kernel(("overflow", "exp"), ("invalid value", "exp")))
    assert told() == ["overflow encountered in exp"]
    assert told() == [] and len(queue) == 1
    waiting.ran = True
    assert told() == ["overflow encountered in add"] and not queue


def test_a_remark_is_told_in_its_own_words() -> None:
    late.hear_later(STEP, Kernel((REMARK, "Mean of empty slice")))
    assert told() == ["Mean of empty slice"]


def test_where_no_warning_may_come_later_the_device_is_waited_for() -> None:
    kernel = Kernel(("overflow", "add"), ran=False)
    late.hear_later(STEP, kernel, at_once=True)
    assert kernel.ran and told() == ["overflow encountered in add"]


def test_nothing_is_told_within_a_pass(queue: Any) -> None:
    late.hear_later(STEP, Kernel(("overflow", "add")))
    with late.working():
        with late.working():
            assert told() == []
        assert told() == []
    assert told() == ["overflow encountered in add"]


def test_a_warning_that_is_an_error_leaves_the_others_to_be_told(queue: Any) -> None:
    for name in ("add", "exp", "sin"):
        late.hear_later(STEP, Kernel(("overflow", name)))
    late.hear_later(STEP, Kernel(("overflow", "log"), ran=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="in add"):
            late.hear()
    assert told() == ["overflow encountered in exp", "overflow encountered in sin"]
    assert len(queue) == 1


def test_so_many_wait_at_most(queue: Any) -> None:
    kernels = [Kernel(ran=False) for _ in range(late._MOST_UNHEARD)]
    for kernel in kernels:
        late.hear_later(STEP, kernel)
    assert kernels[-1].ran and not kernels[-2].ran


def test_a_wait_that_began_before_the_launch_is_not_taken_for_its_end() -> None:
    counters = {"synchronizes": 0, "to_host": 0}
    marker, flags = SimpleNamespace(over=False), SimpleNamespace(read=lambda: 1)
    marker.done = lambda: marker.over
    device: Any = SimpleNamespace(counters=counters, event=lambda: marker)
    told_later = cuda._later(device, flags, [("overflow", "add")])  # type: ignore[arg-type]
    assert told_later(False) is None
    counters["to_host"] += 1  # by another thread, which had begun to copy
    assert told_later(False) is None
    marker.over = True
    assert told_later(False) == {("overflow", "add")}
