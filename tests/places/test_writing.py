"""No write to an array whose bytes are on a device goes unseen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from alike import (
    SHAPE,
    VALUES,
    WAYS,
    alike,
    no_buffers,
    numpy_or_ours,
    plain,
    same,
)
from dispatcharr.storage import places
from storing import check_coherent, placed

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("write", [
    lambda x: x.__setitem__(3, 1.5), lambda x: x.__setitem__((3, 4), 1), lambda x: x.fill(2),
    lambda x: x.__setitem__(Ellipsis, x * 2), lambda x: x.__setitem__(slice(1, None), x[:-1]),
    lambda x: x.__iadd__(1), lambda x: x[1:-1].__imul__(3), lambda x: x.__iadd__(x[::-1]),
    lambda x: x[:, 3].__isub__(x[:, 4]), lambda x: numpy_or_ours(x).add(x, 1, out=x),
    lambda x: numpy_or_ours(x).add(x[0], 1, out=x[1]), lambda x: x.sort(axis=0),
    lambda x: numpy_or_ours(x).copyto(x, 3), lambda x: numpy_or_ours(x).put(x, [1, 2], [3, 4]),
    lambda x: numpy_or_ours(x).exp(x, out=x), lambda x: numpy_or_ours(x).sum(x, 0, out=x[0]),
    lambda x: numpy_or_ours(x).fill_diagonal(x, 0), lambda x: numpy_or_ours(x).add.at(x, 3, 1),
    lambda x: numpy_or_ours(x).clip(x, 0, 1, out=x), lambda x: setattr(x, "real", 4),
    lambda x: setattr(x, "flat", [1, 2, 3]), lambda x: x.flat.__setitem__(3, 9),
    lambda x: numpy_or_ours(x).cumsum(x[0], out=x[1]), lambda x: x.__setitem__(x > 0, 0),
    lambda x: numpy_or_ours(x).random.default_rng(3).shuffle(x), lambda x: x.byteswap(True),
    pytest.param(lambda x: memoryview(x).cast("B").__setitem__(5, 77), marks=no_buffers),
    lambda x: x.partition(5, 0), lambda x: numpy_or_ours(x).copyto(dst=x, src=4),
    lambda x: numpy.asarray(x).__setitem__(4, 8), lambda x: x.__array__().__setitem__(1, 8),
    lambda x: x.data.__setitem__((2, 3), 4.0),
    lambda x: numpy_or_ours(x).where(x > 0, x, 0), lambda x: x.put([5], [9]),
    lambda x: numpy_or_ours(x).matmul(x[:, :48].copy(), x, out=x), lambda x: x.ctypes.data,
    lambda x: numpy_or_ours(x).place(x, x > 1, [5]),
    lambda x: x.__setstate__(plain(x).T.copy().__reduce__()[2]),
    lambda x: numpy_or_ours(x).nan_to_num(x, copy=False),
    lambda x: x.resize((7, 9), refcheck=False),
    lambda x: numpy.add(x, 1, out=x), lambda x: numpy.copyto(numpy.asarray(x), 4),
])  # fmt: skip
@pytest.mark.parametrize("values", [VALUES["float64"], VALUES["float64"][:48, :48][:6, :64]])
def test_every_write_is_seen(write: Callable[[Any], Any], way: str, values: numpy.ndarray) -> None:
    def written(x: Any) -> None:
        with contextlib.suppress(BufferError):
            write(x)

    alike(written, written, [values], way)


def test_what_is_only_read_keeps_its_mirror() -> None:
    x = placed(VALUES["float64"], "both")
    y = placed(VALUES["float64"], "both")
    for use in (
        lambda: np.copyto(y, x), lambda: np.sort(x, axis=None), lambda: x.argsort(),
        lambda: np.fft.fft(x), lambda: np.linalg.norm(x), lambda: np.concatenate([x, x]),
        lambda: np.matmul(x, x.T), lambda: np.cumsum(x, out=y.reshape(-1)),
        lambda: y.put([1], x[:1, 0]), lambda: np.modf(x), lambda: np.add.reduce(x),
    ):  # fmt: skip
        use()
        assert places.state(x._value) == "both"
    assert places.state(y._value) == "host"


def test_elements_are_written_where_the_array_is() -> None:
    values = numpy.arange(1e6)
    x = placed(values)
    x[5] = -1
    x[10:20] = 3
    x[30:33] = [1, 2, 3]
    assert places.state(x._value) == "device"
    values[5], values[10:20], values[30:33] = -1, 3, [1, 2, 3]
    same(x, values)


def test_pending_readers_see_what_was_there() -> None:
    values = VALUES["float64"]
    for way in WAYS:
        with np.dispatch_options(defer="always"):
            x = placed(values, way)
            y, part, tiny = x + 1, x[3] * 2, x[0, :3] + 0.5
            x[...] = 0
            x[0] += 7
        same(y, values + 1)
        same(part, values[3] * 2)
        same(tiny, values[0, :3] + 0.5)
        assert float(x.sum()) == 7 * SHAPE[1]
        check_coherent()


def test_pending_readers_of_small_results_see_what_was_there() -> None:
    for write in (
        lambda s: s.__setitem__(0, 9), lambda s: s.__iadd__(1), lambda s: s.sort(),
        lambda s: np.copyto(s, 1), lambda s: numpy.asarray(s).fill(2), lambda s: s.fill(1),
    ):  # fmt: skip
        with np.dispatch_options(defer="always"):
            for home in (False, True):
                s = placed(numpy.arange(9.0)[::-1])
                y = s * 2
                if home:
                    assert "8." in repr(s)
                write(s)
                same(y, numpy.arange(9.0)[::-1] * 2)


EXOTIC = {
    "g": numpy.arange(3000).astype("g"),
    "M8[s]": numpy.arange(3000).astype("M8[s]"),
    "S3": numpy.arange(3000).astype("S3"),
    "i4,f8": numpy.zeros(3000, "i4,f8"),
    ">f8": numpy.arange(3000.0).astype(">f8"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", EXOTIC)
@pytest.mark.parametrize("size", [3000, 5])
def test_what_is_not_planned_is_guarded_too(kind: str, way: str, size: int) -> None:
    first = EXOTIC[kind][0]
    for use in (
        lambda x: x[3], lambda x: x[1:4].tolist(), lambda x: x == x[2], lambda x: x.__iadd__(1),
        lambda x: x.__setitem__(2, first), lambda x: x.__setitem__(slice(2, 4), x[3]),
        lambda x: x[:4].__iadd__(x[:4]), lambda x: x["f0"].__iadd__(5), lambda x: x["f1"].sum(),
        lambda x: x.sort(), lambda x: x.copy(), lambda x: x + x, lambda x: x.max(), lambda x: -x,
        lambda x: x[2]["f0"], lambda x: x[4].__setitem__("f0", 9), lambda x: x.astype("U9"),
        lambda x: x.fill(first), lambda x: [item for item in x][3], lambda x: x.view("u1").sum(),
        lambda x: x.byteswap(True), lambda x: x.item(3), lambda x: numpy_or_ours(x).unique(x),
    ):  # fmt: skip
        alike(use, use, [EXOTIC[kind][:size]], way)


@pytest.mark.parametrize("way", WAYS)
def test_arrays_without_axes_are_operands(way: str) -> None:
    for defer in ("auto", "always"):
        with np.dispatch_options(defer=defer):
            x = placed(VALUES["float64"], way)
            y = placed(numpy.array(2.5), way)
            same(x + x[3, 4, ...], VALUES["float64"] + VALUES["float64"][3, 4])
            same(x * y, VALUES["float64"] * 2.5)
            same(y * 2, numpy.float64(5))
            z = x - y
            y[...] = 1
            y += 1
            same(z, VALUES["float64"] - 2.5)
            same(y, numpy.array(2.0))
