"""Every reduction row gives NumPy's answer, on arrays and on pending expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import MODES, Answer, ask, differ, genuine, mode, ours, report
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Reduction
from exactly import exact_sum, no_worse
from samples import DTYPES, LAYOUTS, filled, specials, tame

ROWS = pytest.mark.parametrize("row", REDUCTIONS, ids=[row.name for row in REDUCTIONS])
SHAPES = [(1,), (15,), (3, 4, 5), (40, 3), (0,), (2, 0, 3), ()]
LARGE = [(3 * 16384 + 7,), (300, 257), (2, 300, 130)]
AXES = [None, 0, -1, 1, (0, 2), (0, 1, 2), (-1, 0), ()]
WRONG_AXES = [7, -4, (0, 0), 1.0, "0", (0, 9)]
#: Rows whose result is one of the elements, or a count: nothing is ever rounded.
NEVER_ROUNDED = {"min", "max", "any", "all", "argmin", "argmax", "count_nonzero", "nanmin", "nanmax"}
FEWER = [("serial", "deferred"), ("serial", "at once")]


def pending(a: Any) -> Any:
    """Return ``a`` as an expression that waits to be evaluated, where that is allowed."""
    return np.where(True, a, a)


def close(row: Reduction, values: numpy.ndarray, wanted: Answer, **asked: Any) -> Any:
    """Return how answers of ``row`` are compared; None: bit by bit."""
    dtype = getattr(wanted.value, "dtype", None)
    if row.name in NEVER_ROUNDED or dtype is None or dtype.kind not in "fc":
        return None
    used = values if asked.get("dtype") is None else values.astype(asked["dtype"])
    return no_worse(row.name, used, asked.get("axis"), asked.get("ddof", 0), dtype)


def check(
    row: Reduction,
    values: numpy.ndarray,
    asked: dict[str, Any],
    name: str,
    wrong: list[str],
    modes: Any = MODES,
    view: Callable[[Any], Any] = lambda a: a,
) -> None:
    """Compare every way of saying one reduction with NumPy's answer."""
    numpys, function = getattr(numpy, row.name), getattr(np, row.name)
    seen = view(values)
    wanted = ask(lambda: numpys(seen, **asked))
    mine = view(ours(values))
    ways: dict[str, Callable[[], Any]] = {
        "function": lambda: function(mine, **asked),
        "of an expression": lambda: function(pending(mine), **asked),
    }
    if row.method:
        ways["method of an expression"] = lambda: getattr(pending(mine), row.name)(**asked)
    compare = None if wanted.error else close(row, seen, wanted, **asked)
    for backend, way in modes:
        for what, call in ways.items():
            with mode(backend, way):
                got = ask(genuine(call))
            reason = differ(got, wanted, close=compare)
            if reason:
                wrong.append(f"{backend}, {way}, {what}, {name}: {reason}")


def axes_of(row: Reduction, shape: tuple[int, ...]) -> Iterator[Any]:
    for axis in AXES:
        if not (row.ordered and type(axis) is tuple):
            yield axis


@ROWS
def test_dtypes_and_axes(row: Reduction) -> None:
    wrong: list[str] = []
    for char in DTYPES:
        for shape in ((15,), (3, 4, 5)):
            values = tame(char, shape)
            for axis in axes_of(row, shape):
                name = f"{char}, {shape}, axis={axis}"
                check(row, values, {"axis": axis}, name, wrong, FEWER)
    report(wrong)


@ROWS
def test_shapes_axes_and_keepdims_in_every_mode(row: Reduction) -> None:
    wrong: list[str] = []
    for char in "dlF?":
        for shape in SHAPES:
            values = tame(char, shape)
            for axis in axes_of(row, shape):
                for keepdims in (False, True):
                    if keepdims and char != "d":
                        continue
                    asked = {"axis": axis, **({"keepdims": True} if keepdims else {})}
                    name = f"{char}, {shape}, {asked}"
                    check(row, values, asked, name, wrong, MODES if char == "d" else FEWER)
    report(wrong)
