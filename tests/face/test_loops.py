"""NumPy's loops, run without the ufunc around them, mean what the ufunc means."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.ops.table import ELEMENTWISE

ROWS = [row for row in ELEMENTWISE if row.ufunc is not None and row.nin <= 2]
CHARS = "?bBhHiIlLqQefdFD"
#: With zeros, for the errors; integers stay small, for the shifts.
VALUES = (0, 1, 2, 3, 5, 7)


def told(call: Callable[[], Any]) -> tuple[Any, list[tuple[type, str]]]:
    """Return the result or the error of a call, and what it warned of."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            found = call()
        except Exception as error:
            found = error
    return found, [(one.category, str(one.message)) for one in heard]


def check(ours: Callable[[], Any], numpys: Callable[[], Any]) -> None:
    found, heard = told(ours)
    wanted, expected = told(numpys)
    assert heard == expected
    if isinstance(wanted, Exception):
        assert (type(found), str(found)) == (type(wanted), str(wanted))
        return
    assert type(found) is tuple if type(wanted) is tuple else type(found) is np.ndarray
    for mine, theirs in zip(
        *[x if type(x) is tuple else (x,) for x in (found, wanted)], strict=True
    ):
        host = numpy.asarray(mine)
        assert host.dtype == theirs.dtype and host.strides == theirs.strides
        assert host.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_loop_gives_the_bits_and_the_warnings_of_its_ufunc(row: Any) -> None:
    function = getattr(np, row.name)
    for char in CHARS:
        x = numpy.array(VALUES * 4, char).reshape(4, 6)
        y = numpy.array(VALUES[::-1] * 4, char).reshape(4, 6)
        operands = [(x, y)[: row.nin]]
        if row.nin == 2:
            operands += [(x, 2), (3, y), (x, 2.5), (x, True), (x, y[:1]), (x.T, y.T)]
        for given in operands:
            mine = tuple(np.array(v) if type(v) is numpy.ndarray else v for v in given)
            check(lambda m=mine: function(*m), lambda g=given: row.ufunc(*g))  # type: ignore[misc]


@pytest.mark.parametrize("number", [300, -1, 2**40, 1e300, -1e-300, 1e39, numpy.inf, 0.1, 2**63])
@pytest.mark.parametrize("char", "bBhilqefd")
def test_a_number_becomes_an_element_as_in_numpy(char: str, number: float) -> None:
    x = numpy.array([1, 2, 3], char)
    mine = np.array(x)
    check(lambda: mine * number, lambda: x * number)
    check(lambda: number - mine, lambda: number - x)
    check(lambda: mine < number, lambda: x < number)


@pytest.mark.parametrize("char", "iIlLqQ")
def test_of_two_dtypes_of_one_size_the_one_is_made_that_numpy_makes(char: str) -> None:
    x = numpy.array([1, 2, 3], char)
    mine = np.array(x)
    for name in ("add", "xor", "or_", "and_", "lshift", "floordiv", "mod", "mul", "eq"):
        function = getattr(operator, name)
        for given in ((x, 3), (3, x), (x, x), (x, True)):
            ours = [mine if value is x else value for value in given]
            assert function(*ours).dtype.char == function(*given).dtype.char, name


def test_errors_are_raised_where_the_modes_ask_for_it() -> None:
    x = np.array([1.0, 0.0])
    with numpy.errstate(all="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        x / 0.0
    heard: list[Any] = []
    with numpy.errstate(all="call", call=lambda *told: heard.append(told)):
        np.array([1e300, 1.0]) * 1e300
    assert [kind for kind, _ in heard] == ["overflow"]
    assert (x + 1.0).tolist() == [2.0, 1.0]  # no flag stays up


def test_large_results_own_memory_of_the_pool() -> None:
    pool = np.get_default_memory_pool()
    if not pool.get_limit():
        pytest.skip("there is no pool on this machine")
    x = np.array(numpy.arange(50_000.0))
    before = pool.used_bytes()
    made = np.rint(x)
    assert pool.used_bytes() > before
    host = numpy.asarray(made)
    assert host.flags.owndata or host.base is not None
    del made, host
    assert pool.used_bytes() == before
