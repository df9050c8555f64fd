"""Reductions that follow each other are made in one pass, and nobody can tell but by the time."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import together
from dispatcharr.storage import readers

SHAPE = (300, 40)


@pytest.fixture(autouse=True)
def planned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have small arrays planned, and nothing remembered of other tests."""
    monkeypatch.setattr(together, "WORTH", 0)
    together._habits.clear()
    together._here.seen.clear()
    together._here.kept.clear()
    with np.dispatch_options(defer="always"), np.errstate(all="ignore"):
        yield
    together._here.kept.clear()


def values(seed: int = 0) -> Any:
    return np.array(numpy.random.default_rng(seed).standard_normal(SHAPE))


def kernels(call: Callable[[], Any]) -> list[str]:
    """Return what ran."""
    with np.record_dispatch() as record:
        call()
    return [one.region.describe() for one in record.records]


def learnt(program: Callable[[Any], Any], make: Callable[[int], Any] = values) -> None:
    for seed in range(3):
        program(make(seed))


PAIRS = {
    "extremes": lambda x: (x.min(), x.max()),
    "moments": lambda x: (x.mean(), x.std(), x.var(ddof=1)),
    "along an axis": lambda x: (x.mean(axis=0), x.std(axis=0)),
    "kept axes": lambda x: (x.max(axis=1, keepdims=True), x.sum(axis=1)),
    "functions": lambda x: (np.sum(x), np.prod(x), np.nansum(x)),
    "places": lambda x: (x.argmin(), x.min(), x.argmax(), x.max()),
    "places along an axis": lambda x: (x.argmax(axis=1), x.max(axis=1)),
}


@pytest.mark.parametrize("name", sorted(PAIRS))
@pytest.mark.parametrize("waits", [False, True])
def test_what_followed_twice_is_made_in_the_same_pass(name: str, waits: bool) -> None:
    program = PAIRS[name]

    def made(seed: int) -> Any:
        return values(seed) * 2 if waits else values(seed)

    for seed in range(6):
        x = made(seed)
        with np.record_dispatch() as record:
            found = program(x)
        wanted = program(numpy.asarray(values(seed)) * (2 if waits else 1))
        for one, other in zip(found, wanted, strict=True):
            assert type(one) is type(other) or type(one) is np.ndarray
            assert one.shape == other.shape
            assert one.dtype == other.dtype
            numpy.testing.assert_allclose(numpy.asarray(one), other, rtol=1e-12)
        assert (len(record.records) == 1) is (seed > 1), seed


def test_an_expression_is_not_stored_for_them() -> None:
    def program(x: Any) -> Any:
        d = x - 1
        return d.min(), d.max()

    learnt(program)
    with np.record_dispatch() as record:
        program(values())
    assert [len(one.region.outputs) for one in record.records] == [0]


def test_what_is_wanted_later_is_right_and_stored_if_it_is_dear() -> None:
    def program(x: Any) -> Any:
        d = np.exp(np.sin(x) * np.cos(x) + np.tan(x))
        return d.min(), d.max(), d

    for seed in range(6):
        x = values(seed)
        low, high, d = program(x)
        assert (low, high) == (numpy.asarray(d).min(), numpy.asarray(d).max())


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.__setitem__((0, 0), 1e9),
        lambda x: np.add(x, 1e9, out=x),
        lambda x: x.__iadd__(1e9),
        lambda x: x.sort(),
        lambda x: x[3:].__imul__(1e9),
        lambda x: x.T.fill(1e9),
        lambda x: np.copyto(x, 1e9),
        lambda x: numpy.asarray(x).__setitem__((0, 0), 1e9),
        lambda x: numpy.put(x, [0], 1e9),
        lambda x: memoryview(x.data).cast("B").cast("d").__setitem__(0, 1e9),
        lambda x: np.clip(x, 2, 3, out=x),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_what_was_written_in_between_is_seen(write: Callable[[Any], Any], waits: bool) -> None:
    def program(x: Any, y: Any, act: Callable[[Any], Any]) -> Any:
        low = y.min()
        act(x)
        return low, y.max()

    def made(seed: int) -> tuple[Any, Any]:
        x = values(seed)
        return x, (x + 0 if waits else x)

    for seed in range(3):
        program(*made(seed), lambda x: None)
    x, y = made(5)
    original = numpy.array(y if not waits else x)
    low, high = program(x, y, write)
    assert low == original.min()
    assert high == (original.max() if waits else numpy.asarray(y).max())


def test_memory_that_others_see_is_reduced_when_it_is_asked_for() -> None:
    learnt(PAIRS["extremes"])
    memory = numpy.random.default_rng(0).standard_normal(SHAPE)
    x = np.asarray(memory)

    def act() -> Any:
        x.min()
        memory[0, 0] = 1e9
        return x.max()

    for _ in range(4):
        memory[0, 0] = 0
        assert act() == 1e9


def test_an_array_that_shows_another_value_is_reduced_anew() -> None:
    def program(x: Any, more: int) -> Any:
        low = x.min()
        x += more
        return low, x.max()

    for seed in range(8):
        x = values(seed) * 2
        assert program(x, 5)[1] == numpy.asarray(x).max()


def test_a_place_where_nobody_asks_is_left_alone() -> None:
    learnt(PAIRS["extremes"])
    pair = PAIRS["extremes"]
    wasted = 0
    for seed in range(100):
        x = values(seed)
        with np.record_dispatch() as record:
            # The same place, and nothing after it.
            one = type("Half", (), {"min": lambda self: x.min(), "max": lambda self: None})()
            pair(one)
        wasted += "max" in record.records[0].region.describe()
    assert wasted <= 1


def test_errors_are_warned_of_where_they_are_met() -> None:
    def program(x: Any) -> Any:
        low = x.min()
        with warnings.catch_warnings(record=True) as told, np.errstate(all="warn"):
            warnings.simplefilter("always")
            x.var()
        return low, [str(one.message) for one in told]

    def big(seed: int) -> Any:
        x = values(seed)
        x[3] *= 1e200
        return x

    program_of_numpy = program(numpy.asarray(big(0)))[1]
    for seed in range(6):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            low = big(seed)
        with numpy.errstate(all="warn"):
            assert program(low)[1] == program_of_numpy


def test_settings_in_between_count() -> None:
    def program(x: Any) -> Any:
        x.min()
        with np.use_backend("serial"):
            return x.max()

    for seed in range(5):
        x = values(seed)
        ran = kernels(lambda: program(x))
        assert ran[-1] == "max"


def test_nothing_is_watched_once_the_array_is_gone() -> None:
    pair = PAIRS["extremes"]
    learnt(pair)
    x = values()
    x.min()
    learnt(lambda y: y.min())
    x = values()
    for _ in range(40):
        other = values(1)
        other[0] = 1
    del x, other
    gc.collect()
    together._here.kept.clear()
    assert not readers.any_pending()


def test_a_watch_gives_way_to_many_writes() -> None:
    array = values()
    watch = readers.Watch(array, (7,))
    for _ in range(readers._PATIENCE - 1):
        readers.withdraw(8)
    assert watch.valid
    readers.withdraw(8)
    assert not watch.valid
    assert not readers.readers_of(7)


def test_a_watch_is_told_of_a_write_and_is_no_reader() -> None:
    array = values()
    watch = readers.Watch(array, (7,))
    assert not readers.readers_of(7)
    assert not [one for one in readers.pending_arrays() if one is array]
    assert 7 not in dict(readers.roots_read())
    readers.withdraw(7)
    assert not watch.valid


def test_the_same_asked_at_two_places_is_never_made_twice_in_one_pass() -> None:
    for seed in range(6):
        x = values(seed)
        with np.record_dispatch() as record:
            first = x.sum()
            again = x.sum()
        assert first == again
        for made in record.records:
            assert not made.region.others, seed
