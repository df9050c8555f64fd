"""Operations that would pay by a compiled loop alone are NumPy's until a trial has shown it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.expr.nodes import Node
from dispatcharr.face import _fastpath, limits, trials

pytestmark = pytest.mark.skipif(not _fastpath.COMPILED, reason="no compiled fast path here")

DOUBLE = numpy.dtype(float)
SIZE = 20_000


@pytest.fixture(autouse=True)
def _own_limits() -> Iterator[None]:
    trials.forget()
    limits.forget()
    yield
    trials.forget()
    limits.forget()


def due(name: str) -> None:
    """Have the next operation of a row on float64 tried."""
    firm = limits.limit_of(name, DOUBLE)
    assert firm > 8 * SIZE, "it is planned in any case"
    _fastpath.set_trial(limits.slot_of(name), DOUBLE.num, 1 << 14, 1, 0)


def ending(monkeypatch: pytest.MonkeyPatch, *ends: str | None) -> list[int]:
    """Have trials end so, one after the other; return the list of their runs."""
    left, runs = list(ends), []

    def tried(plain: Any, planned: Any, stands_for: float) -> str | None:
        runs.append(stands_for)
        assert numpy.array_equal(plain(), numpy.asarray(planned()))
        return left.pop(0)

    monkeypatch.setattr(trials, "_tried", tried)
    return runs


def waits(array: Any) -> bool:
    return type(array._value) is Node


@pytest.mark.parametrize("call", [np.sqrt, lambda x: np.arctan2(x, x)], ids=["one", "two"])
def test_a_trial_that_is_won_lowers_the_limit(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "sqrt" if call is np.sqrt else "arctan2"
    due(name)
    runs = ending(monkeypatch, "won")
    x = np.array(numpy.linspace(1.0, 2.0, SIZE))
    wanted = numpy.sqrt(x) if name == "sqrt" else numpy.full(SIZE, numpy.pi / 4)
    assert numpy.allclose(call(x), wanted, rtol=1e-15)
    assert len(runs) == 1
    assert limits.limit_of(name, DOUBLE) == 8 * SIZE
    assert limits.firm_limit_of(name, DOUBLE) > 8 * SIZE


def test_a_trial_that_is_lost_comes_again_much_later(monkeypatch: pytest.MonkeyPatch) -> None:
    due("sqrt")
    runs = ending(monkeypatch, "lost")
    firm = limits.limit_of("sqrt", DOUBLE)
    x = np.array(numpy.linspace(1.0, 2.0, SIZE))
    for _ in range(20):
        np.sqrt(x)
    assert len(runs) == 1
    assert limits.limit_of("sqrt", DOUBLE) == firm
    assert _fastpath.get_limit(limits.slot_of("sqrt"), DOUBLE.num) == firm


def test_where_there_will_be_no_kernel_nothing_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    due("sqrt")
    runs = ending(monkeypatch, None)
    x = np.array(numpy.linspace(1.0, 2.0, SIZE))
    for _ in range(2000):
        np.sqrt(x)
    assert len(runs) == 1


def test_nothing_is_tried_that_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    due("sqrt")
    runs = ending(monkeypatch)
    with pytest.warns(RuntimeWarning, match="invalid value") as heard:
        np.sqrt(np.array(numpy.linspace(-1.0, 2.0, SIZE)))
    assert len(heard) == 1 and not runs


def test_writing_keeps_the_limit_of_the_prices() -> None:
    limits.limit_of("add", DOUBLE)
    limits.lower("add", DOUBLE, 1 << 14)
    x = np.array(numpy.ones(SIZE))
    served = _fastpath.served()
    x += 1.0
    assert _fastpath.served() == served + 1
    assert x[0] == 2.0


def test_what_others_see_stays_numpys() -> None:
    due("add")
    limits.lower("add", DOUBLE, 1 << 14)
    limits.try_later("add", DOUBLE, 1.0)
    x = np.asarray(numpy.ones(SIZE))  # not a copy
    served = _fastpath.served()
    made = x + x
    assert _fastpath.served() == served + 1
    assert not waits(made) and made[0] == 2.0


def test_an_interrupt_of_a_trial_reaches_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    due("sqrt")

    def interrupted(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "_tried", interrupted)
    x = np.array(numpy.ones(SIZE))
    with pytest.raises(KeyboardInterrupt):
        np.sqrt(x)
    assert np.sqrt(x)[0] == 1.0
