"""Functions that are never planned cost next to nothing on large arrays, and keep every promise."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import _fastpath, fallback
from dispatcharr.storage.exports import is_visible, root_of

Call = Callable[[Any, Any], Any]
SIZE = 3000  # of float64: more than what counts as small

compiled = pytest.mark.skipif(not _fastpath.COMPILED, reason="no compiled fast path here")
CALLS: dict[str, Call] = {
    "dot": lambda m, a: m.dot(a, a),
    "concatenate": lambda m, a: m.concatenate([a, a[5:], a[:1]]),
    "concatenate into": lambda m, a: m.concatenate((a[:1500], a[:1500]), out=a),
    "diff": lambda m, a: m.diff(a, prepend=0.0),
    "sort": lambda m, a: m.sort(a[::-1]),
    "the method sort": lambda m, a: a[::-1].sort(),
    "cumsum": lambda m, a: a.cumsum(),
    "take": lambda m, a: a.take([1, 2, 2]),
    "view": lambda m, a: a.view("i8"),
    "reshape": lambda m, a: m.reshape(a, (30, -1)),
    "ravel": lambda m, a: m.ravel(a),
    "the part of a view": lambda m, a: m.ravel(a[7:])[3:5],
    "split": lambda m, a: m.split(a, 3),
    "a tuple of arguments": lambda m, a: m.atleast_1d(a, a[3:]),
    "broadcast_to": lambda m, a: m.broadcast_to(a, (2, SIZE)),
    "matmul": lambda m, a: a.reshape(60, 50) @ a.reshape(50, 60),
    "unique": lambda m, a: m.unique(a, return_counts=True),
    "unique_counts": lambda m, a: m.unique_counts(a),
    "copyto": lambda m, a: m.copyto(a, 3),
    "put": lambda m, a: m.put(a, [0, 1], [8.0, 9.0]),
    "partition": lambda m, a: a.partition(5),
    "tolist": lambda m, a: a.tolist(),
    "iinfo of the largest": lambda m, a: m.searchsorted(a, 700.5),
    "asarray": lambda m, a: m.asarray(a),
    "asarray of a dtype": lambda m, a: m.asarray(a, dtype=m.float32),
    "empty_like": lambda m, a: m.empty_like(a).shape,
    "reduce": lambda m, a: m.add.reduce(a),
    "reduce into": lambda m, a: m.add.reduce(a.reshape(30, 100), axis=0, out=a[:100]),
    "reduce into a tuple": lambda m, a: m.add.reduce(a.reshape(30, 100), axis=0, out=(a[:100],)),
    "accumulate": lambda m, a: m.maximum.accumulate(a),
    "reduceat": lambda m, a: m.add.reduceat(a, [0, 5, 9]),
    "outer": lambda m, a: m.multiply.outer(a[:70], a[:70]),
    "at": lambda m, a: m.add.at(a, [0, 0, 1], 7),
    "dtype": lambda m, a: m.add(a, a, dtype="f4"),
    "where and out": lambda m, a: m.add(a, 1, where=a > 9, out=a),
    "casting": lambda m, a: m.multiply(a, 2, out=a, casting="unsafe"),
    "a list among operands": lambda m, a: m.add(a[:4], [1, 2, 3, 4]),
    "a tuple of arrays": lambda m, a: m.add((a, a), a),
}


@pytest.fixture(autouse=True)
def _nothing_pending() -> None:
    np.evaluate()


@pytest.fixture
def handed_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that come to the slow road."""
    names: list[str] = []
    slow = fallback.call

    def noted(name: str, *args: Any) -> Any:
        names.append(name)
        return slow(name, *args)

    monkeypatch.setattr(fallback, "call", noted)
    return names


def pair() -> tuple[Any, numpy.ndarray]:
    """One of our arrays whose memory is its own, and NumPy's equal."""
    values = numpy.arange(float(SIZE)) * 0.5
    return np.array(values), values


def is_seen(array: Any) -> bool:
    return is_visible(root_of(array._value))


@pytest.mark.parametrize("name", CALLS)
def test_results_are_numpys(name: str, same: Callable[[Any, Any], None]) -> None:
    array, model = pair()
    call = CALLS[name]
    result = call(np, array)
    assert not is_seen(array)
    same(result, call(numpy, model))
    same(array, model)


@compiled
@pytest.mark.parametrize("name", CALLS)
def test_the_slow_road_is_not_taken(name: str, handed_on: list[str]) -> None:
    CALLS[name](np, pair()[0])
    assert handed_on == []


@pytest.mark.parametrize("name", CALLS)
def test_what_waits_is_computed_before(name: str) -> None:
    array, model = pair()
    with np.dispatch_options(defer="always"):
        waiting = array * 2
    CALLS[name](np, array)
    numpy.testing.assert_array_equal(waiting, model * 2)


@compiled
def test_what_waits_sends_calls_down_the_slow_road(handed_on: list[str]) -> None:
    array, _ = pair()
    with np.dispatch_options(defer="always"):
        waiting = array * 2
    np.copyto(array, 5)
    assert handed_on == ["copyto"]
    assert waiting[1] == 1
    np.copyto(array, 6)
    assert handed_on == ["copyto"]


@pytest.mark.parametrize("name", ["dot", "sort", "reduce", "dtype", "a list among operands"])
def test_recorders_hear_of_them(name: str) -> None:
    array, _ = pair()
    with np.record_dispatch() as record:
        CALLS[name](np, array)
    assert len(record.events) == 1
    with (
        np.dispatch_options(on_fallback="raise"),
        pytest.raises(np.FallbackError, match="left to NumPy"),
    ):
        CALLS[name](np, array)


def test_results_may_be_the_arguments_themselves() -> None:
    array, _ = pair()
    assert np.asarray(array) is array
    assert np.require(array) is array
    one, other = np.atleast_1d(array, array[3:])
    assert one is array
    assert other.base is not None
    out, theirs = np.array(numpy.zeros(SIZE)), numpy.zeros(SIZE)
    assert np.add(array, 1, out=out, dtype="f8") is out
    assert np.add(array, 1, out=(out,), dtype="f8") is out
    assert np.add(array, 1, out=theirs, dtype="f8") is theirs
    assert np.add(array, 1, out=(theirs,), dtype="f8") is theirs
    assert np.cumsum(array, out=theirs) is theirs
    assert np.cumsum(array, out=out) is out
    assert np.add.accumulate(array, out=(out,)) is out


def test_views_share_memory_and_fresh_results_are_alone() -> None:
    array, _ = pair()
    for view in (
        np.reshape(array, (30, -1)), np.split(array, 3)[1], np.broadcast_to(array, (2, SIZE)),
        np.ravel(array)[5:], np.lib.stride_tricks.as_strided(array, (5,), (8,)),
        np.lib.stride_tricks.sliding_window_view(array, 4), np.atleast_2d(array),
    ):  # fmt: skip
        assert type(view) is np.ndarray
        assert np.shares_memory(view, array)
    fresh = (
        np.sort(array), np.cumsum(array), np.concatenate([array, array]), np.tile(array, 2),
        np.random.default_rng(1).random(SIZE), np.add(array, 1, dtype="f8"), np.diff(array),
        np.meshgrid(array[:60], array[:60])[0], np.multiply.outer(array[:60], array[:60]),
        np.stack([array, array]).T, np.zeros(SIZE), np.array([1.0] * SIZE),
    )  # fmt: skip
    for made in fresh:
        assert not is_seen(made)
        assert not np.shares_memory(made, array)


def test_memory_that_numpy_keeps_is_seen() -> None:
    array, _ = pair()
    np.dot(array, array), np.reshape(array, (30, 100)), np.split(array, 3)
    assert not is_seen(array)
    kept = np.ma.asarray(array[4:])
    assert isinstance(kept, numpy.ma.MaskedArray)
    assert is_seen(array)


def test_memory_of_others_stays_theirs() -> None:
    theirs = numpy.arange(float(SIZE))
    assert is_seen(np.ravel(theirs))
    assert is_seen(np.asarray(theirs))
    assert is_seen(np.reshape(theirs, (30, 100)))
    held = [numpy.arange(float(SIZE))]
    assert is_seen(np.split(held[0], 1)[0])


def test_what_code_of_the_programs_keeps_is_seen() -> None:
    array, model = pair()
    kept: list[Any] = []

    def keep(row: Any) -> float:
        kept.append(row)
        return float(row[0])

    np.apply_along_axis(keep, 0, array)
    assert is_seen(array)

    class Left:
        __array_ufunc__ = None

        def __rmatmul__(self, other: Any) -> Any:
            return other

    array, model = pair()
    assert (array @ Left()) is array
    with pytest.raises(ValueError, match="shape"):
        np.dot(array, model[1:])
    assert not is_seen(array)


@pytest.mark.parametrize("name", CALLS)
def test_no_reference_is_lost_or_kept(name: str) -> None:
    array, _ = pair()
    host, call = array._value, CALLS[name]
    call(np, array)
    gc.collect()
    before = sys.getrefcount(array), sys.getrefcount(host)
    for _ in range(50):
        call(np, array)
    gc.collect()
    assert (sys.getrefcount(array), sys.getrefcount(host)) == before


def test_no_reference_is_kept_by_errors() -> None:
    array, _ = pair()
    host, other = array._value, numpy.zeros(5)
    before = [sys.getrefcount(one) for one in (array, host, other)]
    for call in (
        lambda: np.dot(array, other), lambda: np.concatenate([array, [[array]]]),
        lambda: np.add(array, 1, dtype="nonsense"), lambda: np.add(array, [1, 2]),
        lambda: np.add.reduce(array, axis=7), lambda: np.reshape(array, (7,)),
        lambda: np.concatenate([array] * 40 + [[array]]), lambda: np.copyto(array, other),
        lambda: np.take(array, {}, out=other),
    ):  # fmt: skip
        for _ in range(20):
            with pytest.raises((ValueError, TypeError)):
                call()
    gc.collect()
    assert [sys.getrefcount(one) for one in (array, host, other)] == before


def test_lists_of_many_arrays() -> None:
    array, model = pair()
    for count in (31, 32, 33, 200):
        parts, models = np.split(array, 1) * count, numpy.split(model, 1) * count
        assert (np.concatenate(parts)._value == numpy.concatenate(models)).all()
        assert (np.stack([*parts, *models])._value == numpy.stack([*models, *models])).all()


def test_a_list_changed_by_elements_while_it_is_read_stays_alive() -> None:
    """Elements may run code of the program's, which may let go of the arguments."""
    arguments: list[Any] = []

    class Sly:
        def __add__(self, other: Any) -> Any:
            arguments.clear()
            return self

    objects = np.array([Sly() for _ in range(SIZE)])
    arguments[:] = [objects[:], objects[:]]
    del objects
    assert np.add.reduce(arguments, axis=0).shape == (SIZE,)
    assert arguments == []


def test_warnings_name_the_users_line() -> None:
    array, _ = pair()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        np.log(array - 1, dtype="f8")
        np.multiply.reduce(array[1:])
    assert [str(one.message).split()[0] for one in heard] == ["divide", "invalid", "overflow"]
    assert {one.filename for one in heard} == {__file__}


def test_lists_without_arrays_are_returned_as_they_are() -> None:
    inner: list[Any] = [1, 2.5, "x", None, (3, [4])]
    objects = np.empty(2, object)
    for i in range(2):
        objects[i] = inner
    assert objects.tolist()[0] is inner


def test_methods_of_ufuncs_are_one_object_each() -> None:
    import pickle

    reduce = np.add.reduce
    assert np.add.reduce is reduce
    assert reduce.__name__ == "reduce"
    assert reduce.__doc__ == numpy.add.reduce.__doc__
    assert pickle.loads(pickle.dumps(reduce)) is reduce
    assert pickle.loads(pickle.dumps(np.add.outer)) is np.add.outer
    assert np.add.reduce is not np.multiply.reduce
    assert not hasattr(np.add, "nonsense")
