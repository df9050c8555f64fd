"""On the device every reduction row gives NumPy's answer, alone and after a computation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import ULPS, Answer, ask, differ, first_beyond, genuine, mode, ours, report
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Reduction
from exactly import no_worse
from on_device import VIRTUAL, fewer, on_device
from samples import DTYPES, LAYOUTS, specials, tame

pytestmark = pytest.mark.gpu

ROWS = pytest.mark.parametrize("row", REDUCTIONS, ids=[row.name for row in REDUCTIONS])
AXES = [None, 0, -1, 1, (0, 2), (0, 1, 2), (1, 2)]
#: Rows whose result is one of the elements, or a count: nothing is ever rounded.
EXACT = {
    "min", "max", "any", "all", "argmin", "argmax", "count_nonzero", "nanmin", "nanmax",
    "nanargmin", "nanargmax",
}  # fmt: skip
#: Rows that the host always reduces.
ON_THE_HOST = {"nanargmin", "nanargmax"}
CHARS = fewer("dlfB?e" + "".join(c for c in DTYPES if c not in "dlfB?e"), 2)


def close(row: Reduction, values: numpy.ndarray, wanted: Answer, axis: Any) -> Any:
    dtype = getattr(wanted.value, "dtype", None)
    if row.name in EXACT or dtype is None or dtype.kind not in "fc":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numpy.exceptions.ComplexWarning)
        return no_worse(row.name, values.astype(dtype), axis, 0, dtype)


def is_planned(row: Reduction, char: str) -> bool:
    dtype = numpy.dtype(char)
    return dtype.kind in row.kinds and dtype.char not in row.without


def check(
    row: Reduction,
    values: numpy.ndarray,
    asked: dict[str, Any],
    wrong: list[str],
    view: Callable[[Any], Any] = lambda a: a,
    compute: Callable[[Any, Any], Any] = lambda use, a: a,
) -> bool:
    """Compare one reduction; return whether the device ran it."""
    seen = compute(numpy, view(values))
    wanted = ask(lambda: getattr(numpy, row.name)(seen, **asked))
    mine = view(ours(values))
    with mode("cuda", "deferred"), np.record_dispatch() as record:
        got = ask(genuine(lambda: getattr(np, row.name)(compute(np, mine), **asked)))
    compare = None if wanted.error else close(row, seen, wanted, asked.get("axis"))
    reason = differ(got, wanted, often=False, owning=False, close=compare)
    if reason:
        wrong.append(f"{values.dtype.char}, {values.shape}, {asked}: {reason}")
    return any(one.decision.backend == "cuda" for one in record.records)


@ROWS
def test_dtypes_axes_and_keepdims(row: Reduction) -> None:
    wrong: list[str] = []
    ran = []
    for char in CHARS:
        values = tame(char, (3, 4, 5))
        for axis in AXES if char == "d" else fewer(AXES, 3):
            if row.ordered and type(axis) is tuple:
                continue
            for keepdims in (False, True):
                asked = {"axis": axis, **({"keepdims": True} if keepdims else {})}
                found = check(row, values, asked, wrong)
                if is_planned(row, char):
                    ran.append(found)
    report(wrong)
    assert any(ran) == (row.name not in ON_THE_HOST), f"{sum(ran)} of {len(ran)} on the device"


@ROWS
def test_shapes(row: Reduction) -> None:
    wrong: list[str] = []
    for shape in ((1,), (15,), (40, 3), (1, 7), (0,), (2, 0, 3)):
        for axis in (None, 0, -1):
            check(row, tame("d", shape), {"axis": axis}, wrong)
    report(wrong)


@ROWS
def test_special_values(row: Reduction) -> None:
    wrong: list[str] = []
    for char in fewer("dlfe?F", 2):
        values = specials(char)
        columns = numpy.concatenate([values, values[::-1], values[:1]])
        grid = columns[: len(columns) // 4 * 4].reshape(4, -1)
        if char in "efdF" and row.cost in ("reduce_sum", "reduce_prod", "reduce_moments"):
            # The largest numbers overflow or not by the order in which they are met.
            with numpy.errstate(all="ignore"):
                most = 1e15 if char != "e" else 100
                grid = numpy.where(abs(grid) > most, grid.dtype.type(numpy.inf), grid)
                # So do products of the smallest.
                grid = numpy.where(abs(grid) < 1 / most, 0 * grid, grid)
        for asked in ({}, {"axis": 0}, {"axis": 1, "keepdims": True}):
            check(row, grid, asked, wrong)
    report(wrong)


@ROWS
def test_missing_values(row: Reduction) -> None:
    wrong: list[str] = []
    values = tame("d", (4, 6))
    values[1] = values[:, 2] = values[3, 3] = numpy.nan
    for asked in ({}, {"axis": 0}, {"axis": 1}):
        check(row, values, asked, wrong)
    report(wrong)


def large_cases() -> Iterator[tuple[tuple[int, ...], Any]]:
    many = 20_011 if VIRTUAL else 1_000_003
    yield (many,), None
    for shape in ((300, 257), (2, many // 8, 3), (many // 700, 700), (5, 7, many // 40)):
        for axis in (None, 0, 1, -1):
            yield shape, axis


@pytest.mark.parametrize("char", fewer("dfle", 1))
@ROWS
def test_large_arrays(row: Reduction, char: str) -> None:
    """Several blocks, and values of either sign around a drift."""
    wrong: list[str] = []
    for shape, axis in large_cases():
        values = tame(char, shape)
        if row.cost == "reduce_prod" and values.dtype.kind == "f":
            values **= 1 / values.size
        elif values.dtype.kind == "f":
            values += numpy.linspace(-3, 2, values.size).reshape(shape).astype(char)
            values *= 1e-3 if char == "e" else 1
        check(row, values, {"axis": axis}, wrong)
    report(wrong)


@pytest.mark.parametrize("name", ["sum", "max", "argmin"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, name: str) -> None:
    row = next(row for row in REDUCTIONS if row.name == name)
    shape, view = LAYOUTS[layout]
    wrong: list[str] = []
    for axis in (None, 0, -1):
        check(row, tame("d", shape), {"axis": axis}, wrong, view)
    report(wrong)


@ROWS
def test_after_a_computation(row: Reduction) -> None:
    """The computation and the reduction are one kernel."""
    wrong: list[str] = []
    for axis in (None, 0, 1):
        check(
            row, tame("d", (33, 65)), {"axis": axis}, wrong,
            compute=lambda use, a: use.sqrt(a * a + 1) - 0.5 * a,
        )  # fmt: skip
    report(wrong)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_same_bits_every_time(axis: int | None) -> None:
    values = numpy.random.default_rng(3).normal(size=(513, 129)) * 1e3
    x = ours(values)
    with on_device():
        found = {np.asarray((x * 0.1).sum(axis=axis)).tobytes() for _ in range(5)}
    assert len(found) == 1


@pytest.mark.parametrize("name", ["sum", "mean", "std"])
def test_what_is_reduced_is_kept_where_it_is_asked_for(name: str) -> None:
    values = tame("d", (17, 19))
    x = ours(values)
    with on_device():
        y = x * 3 - 1
        found = getattr(y, name)(axis=0)
        np.evaluate(y)
    assert numpy.array_equal(y.to_numpy(), values * 3 - 1)
    wanted = getattr(values * 3 - 1, name)(axis=0)
    assert first_beyond(np.asarray(found).to_numpy(), wanted, 4 * ULPS) is None


def test_masks() -> None:
    wrong: list[str] = []
    values, mask = tame("d", (9, 11)), tame("d", (9, 11), 1) > 1
    for row in REDUCTIONS:
        if row.masked is not None:
            asked = {"where": mask, **dict.fromkeys(row.masked.needs, 0.5)}
            wanted = getattr(numpy, row.name)(values, **asked)
            with mode("cuda", "deferred"):
                found = getattr(np, row.name)(ours(values), **asked)
            if not numpy.allclose(found, wanted, rtol=1e-13, atol=0):
                wrong.append(f"{row.name}: {found} instead of {wanted}")
    report(wrong)
