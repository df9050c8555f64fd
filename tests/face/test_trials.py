"""Operations that would pay by a compiled loop alone are NumPy's until a trial has shown it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.expr.nodes import Node
from dispatcharr.face import _fastpath, limits, trials
from dispatcharr.kernels import build, native
from dispatcharr.route import rents

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


def ending(monkeypatch: pytest.MonkeyPatch, *ends: str) -> list[int]:
    """Have trials end so, one after the other; return the list of their runs."""
    left, runs = list(ends), []

    def tried(plain: Any, planned: Any, stands_for: float) -> str:
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


def test_after_a_trial_lost_by_far_only_larger_ones_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    due("sqrt")
    runs = ending(monkeypatch, "hopeless", "won")
    assert limits.limit_of("sqrt", DOUBLE) > 3 * 8 * SIZE
    x, larger = (np.array(numpy.linspace(1.0, 2.0, size)) for size in (SIZE, 3 * SIZE))
    for _ in range(1000):
        np.sqrt(x)
    assert len(runs) == 1
    for _ in range(200):
        np.sqrt(larger)
    assert len(runs) == 2
    assert limits.limit_of("sqrt", DOUBLE) == 3 * 8 * SIZE


def test_after_a_trial_that_is_won_smaller_ones_are_worth_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    due("sqrt")
    limits.be_worth("sqrt", DOUBLE, 8 * SIZE)
    ending(monkeypatch, "won")
    np.sqrt(np.array(numpy.linspace(1.0, 2.0, SIZE)))
    assert limits.worth_of("sqrt", DOUBLE) == 2 * SIZE


@pytest.mark.skipif(native.missing() is not None, reason=f"{native.missing()}")
def test_who_waits_for_a_kernel_is_told_once_it_is_there() -> None:
    builder = build.Builder(None)
    text = "define void @kernel(ptr %a, ptr %b) {\n  ret void\n}\n"
    told: list[str] = []
    builder.tell("wanted", lambda: told.append("before"))
    builder.tell("another", lambda: told.append("another"))
    assert builder.ask("wanted", lambda: text, buy=True) is None
    assert builder.wait(20)
    assert told == ["before"]
    builder.tell("wanted", lambda: told.append("after"))
    assert told == ["before", "after"]


def test_the_next_operation_is_tried_when_its_kernel_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    due("sqrt")
    there: dict[Any, Any] = {}

    class Builder:
        tell = there.__setitem__

    monkeypatch.setattr(build, "shared_builder", Builder)
    ends, runs = ["unbuilt", "won"], []

    def tried(plain: Any, planned: Any, stands_for: float) -> str:
        runs.append(stands_for)
        if len(runs) == 1:
            rents.want(rents.Rent("a kernel", 1.0, 1.0))
        return ends.pop(0)

    monkeypatch.setattr(trials, "_tried", tried)
    monkeypatch.setattr(limits, "SOON", 1e6)  # the clock alone would not come to it
    trials._patience["sqrt", DOUBLE.char] = 1e6
    x = np.array(numpy.linspace(1.0, 2.0, SIZE))
    for _ in range(5):
        np.sqrt(x)
    assert len(runs) == 1
    there.pop("a kernel")()
    np.sqrt(x)
    assert len(runs) == 2
    assert not trials._awaited


@pytest.mark.parametrize(
    ("share", "engine", "end"),
    [
        (0.5, "blocks", "won"), (1.1, "blocks", "hopeless"), (2.0, "blocks", "hopeless"),
        (0.5, "compiled", "won"), (1.1, "compiled", "lost"), (2.0, "compiled", "hopeless"),
    ],
)  # fmt: skip
def test_the_clock_decides_with_a_kernel_and_without(
    share: float, engine: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "compiled" and native.missing() is not None:
        pytest.skip(f"{native.missing()}")
    taken = {"planned": share, "plain": 1.0}
    monkeypatch.setattr(trials, "_seconds", lambda way: taken[way.__name__])

    def plain() -> None: ...

    def planned() -> None:
        with np.dispatch_options(engine=engine), np.use_backend("serial"):
            np.evaluate(np.array(numpy.ones(SIZE)) + 1.0)

    assert trials._tried(plain, planned, 1.0) == end


def test_one_operation_is_tried_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's trial would take the lowered limit for the one to put back."""
    x = np.array(numpy.linspace(1.0, 2.0, SIZE))
    runs: list[str] = []
    neg = _fastpath.SLOT_NAMES.index("neg")

    def tried(*_: Any) -> str:
        runs.append("tried")
        if len(runs) == 1:
            _fastpath.set_trial(neg, DOUBLE.num, 1 << 14, 1, 0)
            _fastpath.set_limit(neg, 1 << 30, DOUBLE.num)
            other = threading.Thread(target=lambda: -x)
            other.start()
            other.join()
        return "lost"

    due("negative")
    firm = limits.limit_of("negative", DOUBLE)
    monkeypatch.setattr(trials, "_tried", tried)
    assert np.negative(x)[0] == -1.0
    assert runs == ["tried"]
    assert limits.limit_of("negative", DOUBLE) == firm
    assert _fastpath.get_limit(neg, DOUBLE.num) == firm


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


def test_what_cannot_be_tried_now_is_served(script: Callable[..., str]) -> None:
    """Where somebody listens nothing is tried, however large the operation."""
    told = script(
        """
        import numpy
        import dispatcharr as np
        from dispatcharr.face import limits

        dtype = numpy.dtype("f8")
        limits.between_trials = lambda *args: 1
        x = np.array(numpy.ones(1 << 16))
        for name in ("mean", "sqrt", "add", "positive"):
            limits.limit_of(name, dtype)
            limits.lower(name, dtype, 1 << 40)
            limits._worth[name, "d"] = 1 << 15
            limits.try_later(name, dtype, 1.0)
        with np.record_dispatch():
            for _ in range(50):
                found = float(x.mean()), float(np.sqrt(x)[3]), float((x + x)[3]), float((+x)[3])
        print(found)
        """
    )
    assert told.strip() == "(1.0, 1.0, 2.0, 1.0)"
