"""Ways out show what is on a device; views of it, and facts about it, move nothing."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from alike import (
    SHAPE,
    SMALL,
    VALUES,
    WAYS,
    alike,
    no_buffers,
    numpy_or_ours,
    same,
)
from dispatcharr.storage import places
from storing import placed

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize("look", [
    bool, int, float, complex, repr, str, list, len, iter, copy.copy, copy.deepcopy,
    pytest.param(memoryview, marks=no_buffers), numpy.asarray, lambda x: x.tolist(),
    lambda x: numpy.array(x, copy=True),
    lambda x: pickle.loads(pickle.dumps(x)), lambda x: pickle.loads(pickle.dumps(x, 5)),
    numpy.from_dlpack, pytest.param(numpy.frombuffer, marks=no_buffers),
    lambda x: x.data.tobytes(),
    lambda x: list(x.flat), lambda x: x.flat[1], lambda x: numpy.float64(2) * x,
    lambda x: numpy.ones(len(x)) + x, lambda x: list(reversed(x)), lambda x: sum(x.ravel()),
    lambda x: sorted(x.ravel()), lambda x: max(x.ravel()), lambda x: f"{x}", lambda x: 1.5 in x,
    lambda x: numpy.lib.stride_tricks.as_strided(x, (2, 1), (0, 8)), lambda x: x.ctypes.data > 0,
    lambda x: numpy.ndarray.sum(numpy.asarray(x)), lambda x: x.dumps() != b"",
    lambda x: numpy.array(x.__array_interface__["shape"]), lambda x: numpy.asarray(x.imag),
    lambda x: numpy.asarray(x.real), lambda x: [numpy.asarray(row).tolist() for row in x],
])  # fmt: skip
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("values", [SMALL, SMALL[:, 0], VALUES["float64"], numpy.array([2.5])])
def test_every_way_out_shows_the_values(
    look: Callable[[Any], Any], way: str, values: numpy.ndarray
) -> None:
    def seen(x: Any) -> Any:
        found = look(x)
        if isinstance(found, memoryview):
            return found.tobytes()
        return list(found) if hasattr(found, "__next__") else found

    alike(seen, seen, [values], way)


VIEWS: list[Callable[[Any], Any]] = [
    lambda x: x[3], lambda x: x[2:9], lambda x: x[:, ::-2], lambda x: x.T, lambda x: x.mT,
    lambda x: x.real, lambda x: x.reshape(-1), lambda x: x.reshape(SHAPE[1], -1),
    lambda x: x.ravel(), lambda x: x.swapaxes(0, 1), lambda x: x[None].squeeze(),
    lambda x: x.diagonal(), lambda x: x.view("u1"), lambda x: x.transpose(1, 0),
    lambda x: x[3, 4, ...], lambda x: numpy_or_ours(x).broadcast_to(x, (2, *SHAPE)),
    lambda x: numpy_or_ours(x).transpose(x), lambda x: numpy_or_ours(x).reshape(x, -1),
    lambda x: numpy_or_ours(x).moveaxis(x, 0, 1), lambda x: numpy_or_ours(x).split(x, 2)[1],
    lambda x: numpy_or_ours(x).flip(x), lambda x: numpy_or_ours(x).rot90(x),
    lambda x: numpy_or_ours(x).expand_dims(x, 0), lambda x: numpy_or_ours(x).atleast_3d(x),
    lambda x: numpy_or_ours(x).ravel(x), lambda x: numpy_or_ours(x).asarray(x),
    lambda x: numpy_or_ours(x).lib.stride_tricks.sliding_window_view(x, 3, 1),
    lambda x: next(iter(x)), lambda x: x.getfield("u2", 2),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_views_move_nothing(number: int) -> None:
    values = VALUES["float64"]
    x = placed(values)
    before = dict(places.counters)
    view = VIEWS[number](x)
    assert view.shape == VIEWS[number](values.copy()).shape
    assert dict(places.counters) == before
    assert places.state(x._value) == "device"
    same(view, VIEWS[number](values))


def test_facts_move_nothing() -> None:
    x = placed(VALUES["float64"])
    before = dict(places.counters)
    assert (x.shape, x.dtype, x.ndim, x.size, x.nbytes, x.strides, len(x)) == (
        SHAPE, numpy.float64, 2, 3072, 24576, (512, 8), 48,
    )  # fmt: skip
    assert x.flags.c_contiguous and x.base is None
    assert np.shares_memory(x, x[3]) and np.empty_like(x).shape == SHAPE
    assert np.zeros_like(x).sum() == 0 and np.shape(x) == SHAPE
    x.shape = (SHAPE[1], SHAPE[0])
    assert dict(places.counters) == before
    same(x, VALUES["float64"].reshape(SHAPE[1], -1))


def test_a_few_elements_come_alone() -> None:
    values = numpy.arange(1e6)
    x = placed(values)
    assert x[12345] == 12345 and float(x[7:8][0]) == 7 and x[999_999].item() == 999_999
    same(x[5:8] + 0, values[5:8])
    assert places.counters["to_host_bytes"] < 1e9 and places.state(x._value) == "device"


def test_all_comes_home_when_looks_have_cost_as_much() -> None:
    values = numpy.arange(1e5)
    x = placed(values)
    assert sum(x[i] for i in range(1000)) == values[:1000].sum()
    assert places.state(x._value) == "both"
