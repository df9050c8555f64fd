"""Warnings and errors come where NumPy's come, from the user's line, in NumPy's words."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import _fastpath

Waits = Callable[[Any], bool]
SIZE = 50_000


@pytest.fixture
def zeros(large: None) -> Any:
    return np.array(numpy.zeros(SIZE))


def caught(call: Callable[[], Any]) -> list[tuple[type, str, str]]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [(w.category, str(w.message), w.filename) for w in found]


STATEMENTS: dict[str, Callable[[Any, Any], Any]] = {
    "divide": lambda m, z: z / 0,
    "zero by zero": lambda m, z: m.ones(SIZE) / z,
    "log": lambda m, z: m.log(z),
    "chain": lambda m, z: m.sqrt(m.log(z) * 2) + 1,
    "overflow": lambda m, z: m.exp(z + 1e4),
    "integers": lambda m, z: m.ones(SIZE, int) // m.zeros(SIZE, int),
    "cast": lambda m, z: (z * m.nan).astype(int),
    "reduce": lambda m, z: (z + m.inf - m.inf).sum(),
    "power": lambda m, z: z**-1,
    "in place": lambda m, z: z.__itruediv__(0),
    "out": lambda m, z: m.divide(1.0, z, out=z),
    "where": lambda m, z: m.where(z > 1, 1 / z, z),
    "setitem": lambda m, z: z.__setitem__(slice(None), 1 / z),
    "square": lambda m, z: m.square(z + 1e200),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_warnings_are_heard_by_whoever_waits_for_them_there(name: str, zeros: Any) -> None:
    wanted = caught(lambda: STATEMENTS[name](numpy, numpy.zeros(SIZE)))
    got = caught(lambda: STATEMENTS[name](np, zeros))
    assert wanted
    assert {w[:2] for w in got} == {w[:2] for w in wanted}
    assert {w[2] for w in got} == {__file__}


SMALL: dict[str, Callable[[Any, Any], Any]] = {
    "divide": lambda m, z: 1 / z,
    "function": lambda m, z: m.log(z),
    "divmod": lambda m, z: divmod(z, z),
    "matmul": lambda m, z: (z + 1e200) @ (z + 1e200),
    "in place": lambda m, z: z.__itruediv__(0),
    "two results": lambda m, z: m.divmod(z, 0.0),
    "keywords": lambda m, z: m.log(z, dtype="f4"),
    "into": lambda m, z: m.log(z, out=z),
    "accumulate": lambda m, z: m.multiply.accumulate(z + 1e300),
    "method": lambda m, z: (z + 1e300).prod(),
    "power": lambda m, z: z**-1.0,
    "cast": lambda m, z: (z + m.nan).astype(int),
    "scalar": lambda m, z: m.log(m.float64(0)),
}


@pytest.mark.parametrize("mode", ["auto", "always"])
@pytest.mark.parametrize("name", SMALL)
def test_warnings_of_small_arrays_point_at_the_users_line(name: str, mode: str) -> None:
    wanted = caught(lambda: SMALL[name](numpy, numpy.zeros(3)))
    with np.dispatch_options(defer=mode):
        got = caught(lambda: numpy.asarray(SMALL[name](np, np.array(numpy.zeros(3)))))
    assert wanted
    assert {w[:2] for w in got} == {w[:2] for w in wanted}
    # NumPy's own Python code warns in its own name; in Python, the fast path does too.
    places = {__file__, *(w[2] for w in wanted)}
    assert {w[2] for w in got} <= places or not _fastpath.COMPILED


@pytest.mark.parametrize("name", STATEMENTS)
def test_ignored_errors_stay_silent(name: str, zeros: Any) -> None:
    with numpy.errstate(all="ignore"):
        assert caught(lambda: numpy.asarray(STATEMENTS[name](np, zeros))) == []


@pytest.mark.parametrize("mode", ["raise", "call", "log"])
def test_other_error_modes_act_at_once(mode: str, zeros: Any, always: None) -> None:
    heard: list[Any] = []

    class Log:
        def write(self, text: str) -> None:
            heard.append(text)

    handler: Any = Log() if mode == "log" else lambda kind, flag: heard.append(kind)
    with numpy.errstate(divide=mode, call=handler):
        if mode == "raise":
            with pytest.raises(FloatingPointError, match="divide by zero encountered in"):
                1 / zeros
            with pytest.raises(FloatingPointError):
                ones = zeros + 1
                ones /= zeros
        else:
            1 / zeros
            assert heard


def test_the_state_of_the_operation_counts_and_not_that_of_the_look(
    zeros: Any, waits: Waits
) -> None:
    with numpy.errstate(divide="ignore"):
        silent = 1 / zeros
        assert waits(silent)
    assert caught(lambda: numpy.asarray(silent)) == []
    with numpy.errstate(divide="warn"):
        heard = 1 / zeros
        assert waits(heard)
    with numpy.errstate(all="ignore"):
        found = caught(lambda: numpy.asarray(heard))
    assert [(w[0], w[1]) for w in found] == [
        (RuntimeWarning, "divide by zero encountered in divide")
    ]
    assert found[0][2] == __file__


def test_states_of_fused_operations_stay_apart(zeros: Any) -> None:
    with numpy.errstate(all="ignore"):
        first = 1 / zeros
    with numpy.errstate(all="warn"):
        second = first - first
    with numpy.errstate(all="ignore"):
        third = numpy.sqrt(-second - 1)
        found = caught(lambda: numpy.asarray(third))
    assert {w[1] for w in found} == {"invalid value encountered in subtract"}


def test_pytest_warns_sees_the_warning(zeros: Any) -> None:
    with pytest.warns(RuntimeWarning, match="divide by zero encountered in log"):
        np.log(zeros)
    with pytest.warns(RuntimeWarning, match="invalid value encountered in sqrt"):
        np.sqrt(zeros - 1).sum()


def test_a_warning_that_is_an_error_is_raised_by_its_statement(zeros: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="divide by zero"):
            1 / zeros
    warnings.filterwarnings("error", category=RuntimeWarning)
    try:
        unbound = None
        with pytest.raises(RuntimeWarning, match="divide by zero"):
            unbound = 1 / zeros
        assert unbound is None
    finally:
        warnings.filters.pop(0)


def test_a_warning_is_given_once(zeros: Any) -> None:
    with numpy.errstate(divide="warn"):
        array = 1 / zeros
        assert len(caught(lambda: numpy.asarray(array))) == 1
        assert caught(lambda: (numpy.asarray(array), array + 1)) == []


def test_impossible_results_fail_at_once_and_change_nothing(
    always: None, same_outcome: Callable[..., None]
) -> None:
    array = np.arange(2000.0)
    waiting = array + 1
    column = np.arange(2000.0).reshape(-1, 1)
    for shape in ((1 << 40,), (1 << 20, 1 << 20), (1 << 62,), (1 << 31, 1 << 31, 1 << 31)):
        for make in ("ones", "zeros", "empty"):
            same_outcome(lambda s=shape, n=make: getattr(np, n)(s),
                         lambda s=shape, n=make: getattr(numpy, n)(s))  # fmt: skip
        same_outcome(lambda s=shape: np.full(s, 2.0), lambda s=shape: numpy.full(s, 2.0))
        thin = tuple(1 for _ in shape)
        spread = (
            np.broadcast_to(np.ones(thin), shape)
            if numpy.prod(shape, dtype=object) < 1 << 60
            else None
        )
        if spread is not None:
            with pytest.raises(MemoryError, match="Unable to allocate"):
                spread * 2
    same_outcome(lambda: np.arange(1 << 60), lambda: numpy.arange(1 << 60))
    same_outcome(lambda: np.linspace(0, 1, 1 << 50), lambda: numpy.linspace(0, 1, 1 << 50))
    huge = np.broadcast_to(np.ones((1, 1)), (1 << 20, 1 << 20))
    with pytest.raises(MemoryError):
        (huge + 1) * 2
    with pytest.raises(MemoryError):
        np.add.outer(np.ones(1 << 20), np.ones(1 << 20))
    numpy.testing.assert_array_equal(waiting, numpy.arange(2000.0) + 1)
    assert column[3] == 3


def test_running_out_of_memory_while_evaluating_loses_nothing(
    always: None, monkeypatch: pytest.MonkeyPatch, waits: Waits
) -> None:
    from dispatcharr import engine

    array = np.arange(3000.0)
    waiting = array * 2 + 1
    real = engine.empty_in_order

    def full(*args: Any) -> Any:
        raise MemoryError("Unable to allocate")

    monkeypatch.setattr(engine, "empty_in_order", full)
    for look in (numpy.asarray, lambda a: a[0], repr, lambda a: a.sum(), np.evaluate):
        with pytest.raises(MemoryError):
            look(waiting)
        assert waits(waiting)
    with pytest.raises(MemoryError):
        array += 1
    monkeypatch.setattr(engine, "empty_in_order", real)
    assert array[1] == 1
    numpy.testing.assert_array_equal(waiting, numpy.arange(3000.0) * 2 + 1)


def test_a_failing_backend_loses_nothing(always: None, monkeypatch: Any, waits: Waits) -> None:
    from dispatcharr.backends import serial, threads

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise OSError("the machine is on fire")

    array = np.arange(3000.0)
    waiting = array * 2 + 1
    with monkeypatch.context() as patch:
        patch.setattr(type(serial.BACKEND), "run", broken)
        patch.setattr(type(threads.BACKEND), "run", broken)
        with pytest.raises(OSError, match="on fire"):
            numpy.asarray(waiting)
        with pytest.raises(OSError, match="on fire"):
            array += 1
    assert waits(waiting)
    assert array[1] == 1
    numpy.testing.assert_array_equal(waiting, numpy.arange(3000.0) * 2 + 1)
    array += 1
    assert array[1] == 2


def test_warnings_in_other_threads_name_their_line(zeros: Any) -> None:
    found: list[Any] = []

    def work() -> None:
        with numpy.errstate(divide="warn"):
            found.append(1 / zeros)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught(lambda: numpy.asarray(found[0]))[0][2] == __file__


def test_complex_warning_names_the_users_line(zeros: Any) -> None:
    found = caught(lambda: (zeros * 1j).astype(float))
    assert [w[0] for w in found] == [numpy.exceptions.ComplexWarning]
    found = caught(lambda: zeros.__setitem__(slice(None), zeros * 1j))
    assert [w[0] for w in found] == [numpy.exceptions.ComplexWarning]


LARGE: dict[str, Callable[[Any, Any], Any]] = {
    "var of what overflows": lambda m, a: m.var(a * 1e308),
    "nanstd of what overflows": lambda m, a: m.nanstd(a * 1e308),
    "var of rows that overflow": lambda m, a: m.var((a * 1e308).reshape(2, -1), axis=1),
    "var with an infinity": lambda m, a: m.var(a / m.where(m.arange(len(a)) == 7, 0, 1)),
    "mean of nothing, as integers": lambda m, a: m.mean(
        a.astype("i4"), where=m.zeros(1, bool), dtype="i8"
    ),
    "mean of nothing": lambda m, a: m.mean(a, where=m.zeros(1, bool)),
    "product that starts with nothing": lambda m, a: m.prod(a * 1e300, initial=0),
}


@pytest.mark.parametrize("name", LARGE)
def test_reductions_that_go_wrong_do_so_as_numpys_do(name: str) -> None:
    kept: list[Any] = []
    wanted = caught(lambda: kept.append(LARGE[name](numpy, numpy.ones(400_000))))
    with np.dispatch_options(defer="always"):
        got = caught(lambda: kept.append(LARGE[name](np, np.ones(400_000))))
    numpy.testing.assert_array_equal(kept[1], kept[0], strict=True)
    assert {w[:2] for w in got} == {w[:2] for w in wanted}


@pytest.mark.parametrize("assign", [
    lambda x, z: x.__setitem__(..., z), lambda x, z: x.__setitem__(slice(1, None), z[1:]),
    lambda x, z: x.__setitem__(..., z * 1), lambda x, z: np.copyto(x, z, casting="unsafe"),
])  # fmt: skip
def test_casts_of_what_is_assigned_err_as_the_modes_say(assign: Any, always: None) -> None:
    for pending in (False, True):
        target = np.array(numpy.full(3000, 5))
        values = np.array(numpy.full(3000, -1e30))
        if pending:
            values = values - 1.0
        with np.errstate(invalid="raise"), pytest.raises(FloatingPointError, match="cast"):
            assign(target, values)
        heard: list[str] = []
        with np.errstate(invalid="call", call=lambda kind, flag: heard.append(kind)):
            assign(target, values)
        assert heard == ["invalid value"]


def test_a_reduction_is_told_of_by_its_own_modes(script: Callable[..., str]) -> None:
    """What it reduces may have been recorded under others."""
    told = script(
        """
        import warnings
        import numpy
        import dispatcharr as np

        warnings.showwarning = lambda message, *rest: print(message)
        warnings.simplefilter("always", RuntimeWarning)
        x, y = (np.array(numpy.ones(1 << 20)) for _ in range(2))
        for first, then in (("warn", "ignore"), ("ignore", "warn")):
            numpy.seterr(invalid=first)
            waiting = x * y + numpy.inf
            numpy.seterr(invalid=then)
            print(then, waiting.std())
        """
    )
    assert told.splitlines() == [
        "ignore nan", "invalid value encountered in subtract", "warn nan",
    ]  # fmt: skip
