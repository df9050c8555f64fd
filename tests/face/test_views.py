"""Views share memory: what is written through any alias is seen by all, waiting work excepted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np

VIEWS: dict[str, Callable[[Any, Any], Any]] = {
    "slice": lambda m, a: a[1:, ::2],
    "reverse": lambda m, a: a[::-1, ::-1],
    "newaxis": lambda m, a: a[:, None],
    "ellipsis": lambda m, a: a[...],
    "row": lambda m, a: a[1],
    "T": lambda m, a: a.T,
    "mT": lambda m, a: a.mT,
    "real": lambda m, a: a.real,
    "reshape": lambda m, a: a.reshape(-1),
    "ravel": lambda m, a: a.ravel(),
    "view": lambda m, a: a.view(),
    "view dtype": lambda m, a: a.view("i8"),
    "transpose": lambda m, a: a.transpose(1, 0),
    "swapaxes": lambda m, a: a.swapaxes(0, 1),
    "squeeze": lambda m, a: a[None].squeeze(),
    "diagonal": lambda m, a: m.diagonal(a),
    "iteration": lambda m, a: list(a)[1],
    "np.transpose": lambda m, a: m.transpose(a),
    "np.moveaxis": lambda m, a: m.moveaxis(a, 0, 1),
    "np.rollaxis": lambda m, a: m.rollaxis(a, 1),
    "np.reshape": lambda m, a: m.reshape(a, (2, -1)),
    "np.ravel": lambda m, a: m.ravel(a),
    "np.expand_dims": lambda m, a: m.expand_dims(a, 0),
    "np.squeeze": lambda m, a: m.squeeze(a),
    "np.broadcast_to": lambda m, a: m.broadcast_to(a, (2, *a.shape)),
    "np.broadcast_arrays": lambda m, a: m.broadcast_arrays(a, a[:1])[0],
    "np.split": lambda m, a: m.split(a, 2)[1],
    "np.hsplit": lambda m, a: m.hsplit(a, 2)[0],
    "np.unstack": lambda m, a: m.unstack(a)[1],
    "np.atleast_3d": lambda m, a: m.atleast_3d(a),
    "np.asarray": lambda m, a: m.asarray(a),
    "np.ascontiguousarray": lambda m, a: m.ascontiguousarray(a),
    "np.flip": lambda m, a: m.flip(a, 0),
    "np.flipud": lambda m, a: m.flipud(a),
    "np.rot90": lambda m, a: m.rot90(a),
    "np.swapaxes": lambda m, a: m.swapaxes(a, 0, 1),
    "np.real": lambda m, a: m.real(a),
    "np.diag": lambda m, a: m.diag(a),
    "np.einsum": lambda m, a: m.einsum("ij->ji", a),
    "np.matrix_transpose": lambda m, a: m.matrix_transpose(a),
    "sliding_window_view": lambda m, a: m.lib.stride_tricks.sliding_window_view(a, 2, axis=1),
    "as_strided": lambda m, a: m.lib.stride_tricks.as_strided(a, (3,), (a.strides[0],)),
    "asarray": lambda m, a: m.asarray(a, copy=False),
    "concat of one": lambda m, a: m.permute_dims(a, (1, 0)),
}
if not hasattr(numpy, "unstack"):  # before NumPy 2.1
    del VIEWS["np.unstack"]
COPIES: dict[str, Callable[[Any, Any], Any]] = {
    "fancy": lambda m, a: a[[0, 1]],
    "mask": lambda m, a: a[a > 3],
    "copy": lambda m, a: a.copy(),
    "flatten": lambda m, a: a.flatten(),
    "arithmetic": lambda m, a: a + 0,
    "positive": lambda m, a: +a,
    "astype": lambda m, a: a.astype(float),
    "np.array": lambda m, a: m.array(a),
    "np.concatenate": lambda m, a: m.concatenate([a]),
    "np.where": lambda m, a: m.where(a > -1, a, a),
    "np.tile": lambda m, a: m.tile(a, 1),
    "np.sort": lambda m, a: m.sort(a),
    "np.clip": lambda m, a: m.clip(a, -99, 99),
}
#: One below the size whose operands are copied when they are recorded, and one above.
SIDES = (4, 48)


@pytest.fixture(params=list(itertools.product(("auto", "always"), SIDES)), ids=str)
def side(request: pytest.FixtureRequest) -> Any:
    mode, length = request.param
    with np.dispatch_options(defer=mode):
        yield length


def matrix(module: Any, side: int) -> Any:
    return module.arange(float(side * side)).reshape(side, side)


@pytest.mark.filterwarnings("ignore:future versions:FutureWarning")
@pytest.mark.filterwarnings("ignore:Numpy has detected:DeprecationWarning")
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_numpys(name: str, side: int, same: Callable[..., None]) -> None:
    wanted = VIEWS[name](numpy, matrix(numpy, side))
    got = VIEWS[name](np, matrix(np, side))
    same(got, wanted)
    assert got.flags.writeable == wanted.flags.writeable


@pytest.mark.filterwarnings("ignore:future versions:FutureWarning")
@pytest.mark.filterwarnings("ignore:Numpy has detected:DeprecationWarning")
@pytest.mark.parametrize("name", VIEWS)
def test_writes_show_in_both_directions(name: str, side: int) -> None:
    array = matrix(np, side)
    view = VIEWS[name](np, array)
    assert np.shares_memory(array, view)
    waiting, reading = view + 0, array + 0
    before, below = numpy.array(waiting), numpy.array(reading)
    waiting, reading = view + 0, array + 0
    array += 1
    numpy.testing.assert_array_equal(waiting, before)
    numpy.testing.assert_array_equal(reading, below)
    if view.dtype == array.dtype:
        numpy.testing.assert_array_equal(view, before + 1)
    reading, again = array + 0, VIEWS[name](np, array + 0)
    if view.flags.writeable:
        view[...] = 77
        assert (VIEWS[name](np, array) == 77).all()
    numpy.testing.assert_array_equal(reading, below + 1)
    if view.dtype == array.dtype:
        numpy.testing.assert_array_equal(again, before + 1)


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_independent(name: str, side: int, same: Callable[..., None]) -> None:
    array = matrix(np, side)
    made = COPIES[name](np, array)
    assert not np.shares_memory(array, made)
    array += 1000
    same(made, COPIES[name](numpy, matrix(numpy, side)))
    made[...] = 0
    assert (array >= 1000).all()


@pytest.mark.parametrize("first", ["slice", "T", "reverse", "reshape", "np.split", "row"])
@pytest.mark.parametrize("second", ["slice", "T", "reverse", "np.ravel", "ellipsis"])
def test_views_of_views(first: str, second: str, side: int) -> None:
    host, array = matrix(numpy, side), matrix(np, side)
    if (first in ("row", "reshape") and second == "slice") or (first, second) == ("row", "reverse"):
        pytest.skip("the second view takes two axes")
    if first == "reshape" and second == "reverse":
        pytest.skip("the second view takes two axes")
    one, other = (VIEWS[first](m, a) for m, a in ((numpy, host), (np, array)))
    deep_one, deep_other = VIEWS[second](numpy, one), VIEWS[second](np, other)
    waiting = array * 2
    held = host * 2
    deep_one *= 3
    deep_other *= 3
    numpy.testing.assert_array_equal(array, host)
    numpy.testing.assert_array_equal(other, one)
    numpy.testing.assert_array_equal(waiting, held)


def test_a_pending_arrays_views_share_its_memory(always: None) -> None:
    array = np.arange(3000.0) + 1
    view = array[::2]
    transposed = array.reshape(30, 100).T
    array += 1
    assert view[0] == 2
    view[0] = 9
    assert array[0] == 9
    assert transposed[0, 0] == 9
    alias = array
    alias -= 9
    assert array is alias
    assert view[0] == 0


def test_small_operands_are_safe_through_large_views(always: None) -> None:
    """A broadcast or windowed view of small memory is large, and its memory is still small."""
    array = np.arange(8.0)
    for spread in (
        np.broadcast_to(array, (1000, 8)),
        np.lib.stride_tricks.sliding_window_view(array, 4)[None].repeat(600, 0)[:, :1],
        np.lib.stride_tricks.as_strided(array, (5000, 4), (0, 8)),
    ):
        outside = numpy.asarray(array)
        array[...] = numpy.arange(8.0)
        waiting = spread + 0
        outside[...] = -1
        assert waiting.min() == 0
        array[...] = numpy.arange(8.0)


def test_small_views_of_large_memory_are_lent_too(always: None) -> None:
    array = np.arange(5000.0)
    outside = numpy.asarray(array[:10])
    waiting = array * 2
    outside[0] = 9
    assert waiting[0] == 0
    waiting = array * 2
    outside[0] = 3
    assert waiting[0] == 18
    masked = np.ma.array(array[:10], copy=False)
    waiting = array * 2
    masked[0] = 4
    assert waiting[0] == 6
