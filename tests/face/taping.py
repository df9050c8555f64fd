"""What tests of the tape share: arrays that are noted, and how to see that they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import _fastpath, limits, tape
from dispatcharr.ops.table import ELEMENTWISE

__all__ = ["SIZE", "pair", "planned", "same", "waits"]

SIZE = 1 << 14  # bools of this size too are not among the operands that are copied


@pytest.fixture(autouse=True)
def planned() -> Iterator[None]:
    """Have whatever is larger than 16 KiB planned, its warnings kept away."""
    limits.forget()
    for row in ELEMENTWISE:  # those that are not known yet would be set by the first operation
        for char in "?ilqfd":
            limits.limit_of(row.name, numpy.dtype(char))
    for slot in range(_fastpath.SLOTS):
        if slot != _fastpath.SLOT_NAMES.index("forward"):
            for number in range(numpy.dtype("f2").num + 1):
                _fastpath.set_limit(slot, 1 << 14, number)
    with numpy.errstate(all="ignore"):
        tape.notice()
        yield
    limits.forget()


def pair(dtype: str = "f8", size: Any = SIZE) -> tuple[list[Any], list[Any]]:
    random = numpy.random.default_rng(3)
    hosts = [random.uniform(0.5, 4.0, size).astype(dtype) for _ in range(2)]
    return hosts, [np.array(host) for host in hosts]


def waits(array: Any) -> bool:
    return _fastpath.sketch_of(array) is not None


def same(ours: Any, numpys: Any) -> None:
    assert ours.dtype == numpys.dtype
    numpy.testing.assert_array_equal(numpy.asarray(ours), numpys)
