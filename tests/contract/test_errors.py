"""Floating-point errors: ignored, warned of, raised, called or logged, and where they point to."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import BACKENDS, MODES, ask, differ, mode, ours, report
from dispatcharr.expr.build import own_filters
from dispatcharr.face import _fastpath
from dispatcharr.ops.reductions import REDUCTIONS
from rows import FUNCTIONS, both, few_dtypes, promised
from samples import pairs, specials

ROWS = pytest.mark.parametrize("row", FUNCTIONS.values(), ids=list(FUNCTIONS))
STATES: list[dict[str, str]] = [
    {"all": "ignore"},
    {"all": "warn"},
    {"all": "raise"},
    {"divide": "raise"},
    {"over": "ignore", "invalid": "warn"},
    {"invalid": "raise", "divide": "ignore"},
    {"under": "warn"},
    {"under": "raise", "all": "ignore"},
]


class Log:
    """Takes down what NumPy logs or calls."""

    def __init__(self) -> None:
        self.heard: set[str] = set()

    def write(self, message: str) -> None:
        self.heard.add(message)

    def __call__(self, kind: str, flag: int) -> None:
        self.heard.add(kind)


@ROWS
@pytest.mark.parametrize("backend", BACKENDS)
def test_error_states(row: Any, backend: str) -> None:
    function, numpys = both(row)
    wrong = []
    for chars in few_dtypes(row, 2):
        operands = pairs(*chars)
        mine = [ours(operand) for operand in operands]
        for state in STATES:
            with numpy.errstate(**state):  # type: ignore[arg-type]
                wanted = ask(numpys, *operands)
                for way in ("deferred", "at once"):
                    with mode(backend, way):
                        got = ask(function, *mine)
                    reason = differ(got, wanted, close=promised(row))
                    if reason:
                        wrong.append(f"{way}, {chars}, {state}: {reason}")
    report(wrong)


@pytest.mark.parametrize("kind", ["call", "log"])
@ROWS
def test_errors_that_are_called_or_logged(row: Any, kind: str) -> None:
    function, numpys = both(row)
    operands = pairs(*few_dtypes(row, 1)[0])
    heard = []
    for use, arrays in ((numpys, operands), (function, [ours(operand) for operand in operands])):
        log = Log()
        with numpy.errstate(all=kind, call=log), mode("serial", "deferred"):  # type: ignore[call-overload]
            ask(use, *arrays)
        heard.append(log.heard)
    assert heard[1] == heard[0]


@pytest.mark.parametrize("row", REDUCTIONS, ids=[row.name for row in REDUCTIONS])
def test_error_states_of_reductions(row: Any) -> None:
    wrong = []
    for char in "df":
        values = specials(char)
        values = values[numpy.abs(values) != numpy.finfo(char).max]
        for state, given in itertools.product(STATES[:-2], keywords(row, values)):
            with numpy.errstate(**state):  # type: ignore[arg-type]
                wanted = ask(lambda: getattr(numpy, row.name)(values, **given))
                for backend, way in MODES:
                    with mode(backend, way):
                        got = ask(lambda: getattr(np, row.name)(ours(values), **given))
                        pending = ask(
                            lambda x: getattr(np, row.name)(np.where(True, x, x), **given),
                            ours(values),
                        )
                    for answer in (got, pending):
                        reason = differ(answer, wanted, close=lambda got, wanted: None)
                        if reason:
                            wrong.append(f"{backend}, {way}, {char}, {state}, {given}: {reason}")
    report(wrong)


def keywords(row: Any, values: numpy.ndarray) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{}]
    if "initial" in row.params:
        found.append({"initial": values.dtype.type(1e30)})
    if row.masked is not None:
        found.append({"where": values > 0.5, **dict.fromkeys(row.masked.needs, 1)})
    return found


@pytest.mark.parametrize(("backend", "way"), MODES)
def test_an_operation_keeps_the_state_under_which_it_was_written(backend: str, way: str) -> None:
    def program(use: Any, x: Any) -> Any:
        with numpy.errstate(divide="ignore"):
            quiet = 1 / x
        with numpy.errstate(invalid="ignore"):
            loud = use.log(x)
        return quiet, loud, quiet - loud

    values = numpy.array([0.0, -1.0, 2.0] * 100)
    wanted = ask(program, numpy, values)
    with mode(backend, way):
        got = ask(program, np, ours(values))
    assert differ(got, wanted) is None
    assert wanted.warned == (("RuntimeWarning", "divide by zero encountered in log"),)


@pytest.mark.parametrize(("backend", "way"), MODES)
def test_each_operation_of_a_kernel_warns_once(backend: str, way: str) -> None:
    values = numpy.zeros(100_000)
    with mode(backend, way):
        x = ours(values)
        got = ask(lambda: np.log(x) + 1 / x - np.sqrt(x - 1))
    wanted = ask(lambda: numpy.log(values) + 1 / values - numpy.sqrt(values - 1))
    assert got.warned == wanted.warned
    assert len(wanted.warned) == 4


@pytest.mark.parametrize(("backend", "way"), MODES)
def test_warnings_point_at_the_line_of_the_program(backend: str, way: str) -> None:
    if way == "as shipped" and not _fastpath.COMPILED:
        pytest.skip("without the compiled fast path, Python code of ours calls NumPy")
    x = ours(numpy.zeros(50_000))
    missing = ours(numpy.full(50_000, numpy.nan))
    calls: list[Callable[[], Any]] = [
        lambda: np.log(x),
        lambda: 1 / x,
        lambda: (np.log(x) - np.log(x)).sum(),
        lambda: np.log([0.0]),
        lambda: np.log(x, out=x + 1),
        lambda: np.divmod(x, x),
        lambda: np.divide.outer(x[:9], x[:9]),
        lambda: numpy.log(x),
        lambda: x / [0.0],
    ]
    if way != "as shipped":
        # NumPy's Python code, which serves what is not worth planning, points at its caller: us.
        calls += [
            lambda: np.nanmean(missing),
            lambda: np.nanmax(missing),
            lambda: np.nanvar(missing),
        ]
    for call in calls:
        with warnings.catch_warnings(record=True) as heard, mode(backend, way):
            warnings.simplefilter("always")
            with own_filters():
                np.evaluate(call())
        assert heard
        assert {w.filename for w in heard} == {__file__}


@pytest.mark.parametrize(("backend", "way"), MODES)
def test_warnings_as_errors_leave_everything_as_it_was(backend: str, way: str) -> None:
    values = numpy.arange(5000.0)
    with mode(backend, way):
        x = ours(values)
        with pytest.raises(RuntimeWarning, match="divide by zero encountered in divide"):
            np.evaluate(1 / x)
        assert (x.to_numpy() == values).all()
        assert float((x + 1).sum()) == float((values + 1).sum())
