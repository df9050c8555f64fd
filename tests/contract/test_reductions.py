"""Every reduction row gives NumPy's answer, on arrays and on pending expressions."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import (
    FEWER,
    MODES,
    ULPS,
    Answer,
    ask,
    differ,
    first_beyond,
    genuine,
    mode,
    ours,
    report,
)  # fmt: skip
from dispatcharr.kernels.blocks import PLAIN_REDUCE_ELEMENTS, REDUCE_BLOCK_BYTES
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Reduction
from exactly import exact_sum, no_worse
from samples import DTYPES, LAYOUTS, specials, tame

ROWS = pytest.mark.parametrize("row", REDUCTIONS, ids=[row.name for row in REDUCTIONS])
SHAPES = [(1,), (15,), (3, 4, 5), (40, 3), (0,), (2, 0, 3), ()]
#: Shapes that take several blocks, with a computation before the reduction and without.
LARGE = [(PLAIN_REDUCE_ELEMENTS + 7,), (2, 300, REDUCE_BLOCK_BYTES // 8 // 600 + 21)]
LARGER = [(300, 257), (PLAIN_REDUCE_ELEMENTS // 1000 + 100, 1000), (1000, 1000)]
AXES = [None, 0, -1, 1, (0, 2), (0, 1, 2), (-1, 0), ()]
WRONG_AXES = [[0], [0, 1], 7, -4, (0, 0), 1.0, (0, 1.0), "0", (0, 9)]
#: Rows whose result is one of the elements, or a count: nothing is ever rounded.
NEVER_ROUNDED = {
    "min",
    "max",
    "any",
    "all",
    "argmin",
    "argmax",
    "count_nonzero",
    "nanmin",
    "nanmax",
}


def pending(a: Any) -> Any:
    """Return ``a`` as an expression that waits to be evaluated, where that is allowed."""
    return np.where(True, a, a)


def close(row: Reduction, values: numpy.ndarray, wanted: Answer, **asked: Any) -> Any:
    """Return how answers of ``row`` are compared; None: bit by bit."""
    dtype = getattr(wanted.value, "dtype", None)
    if row.name in NEVER_ROUNDED or dtype is None or dtype.kind not in "fc":
        return None
    used = values if asked.get("dtype") is None else numpy.empty_like(values, asked["dtype"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numpy.exceptions.ComplexWarning)
        numpy.copyto(used, values, casting="unsafe")
    name = row.name
    if isinstance(asked.get("where"), numpy.ndarray) and used.dtype.kind in "fc":
        used, name = numpy.where(asked["where"], used, numpy.nan), "nan" + name.removeprefix("nan")
    if asked.get("initial") is not None:
        return few_ulps
    return no_worse(name, used, asked.get("axis"), asked.get("ddof", 0), dtype)


def few_ulps(got: numpy.ndarray, wanted: numpy.ndarray) -> str | None:
    if wanted.dtype.kind == "c":
        # Of a product, one part may be the small difference of larger numbers.
        size = 16 * ULPS * numpy.finfo(wanted.dtype).eps * abs(wanted)
        return None if (abs(got - wanted) <= size).all() else f"{got} instead of {wanted}"
    return first_beyond(got, wanted, ULPS)


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
    function = getattr(np, row.name)
    seen, mine = view(values), view(ours(values))
    wanted = ask(lambda: getattr(numpy, row.name)(seen, **asked))
    ways: dict[str, tuple[Callable[[], Any], Answer]] = {
        "function": (lambda: function(mine, **asked), wanted),
        "of an expression": (lambda: function(pending(mine), **asked), wanted),
    }
    if row.method:
        ways["method of an expression"] = (
            lambda: getattr(pending(mine), row.name)(**asked),
            ask(lambda: getattr(seen, row.name)(**asked)),
        )
    compare = None if wanted.error else close(row, seen, wanted, **asked)
    for backend, way in modes:
        for what, (call, answer) in ways.items():
            with mode(backend, way):
                got = ask(call if "out" in asked else genuine(call))
            reason = differ(got, answer, close=compare)
            if reason:
                wrong.append(f"{backend}, {way}, {what}, {name}: {reason}")


def axes_of(row: Reduction) -> Iterator[Any]:
    for axis in AXES:
        if not (row.ordered and type(axis) is tuple):
            yield axis


@ROWS
def test_dtypes_and_axes(row: Reduction) -> None:
    wrong: list[str] = []
    for char in DTYPES:
        values = tame(char, (3, 4, 5))
        for axis in axes_of(row):
            check(row, values, {"axis": axis}, f"{char}, axis={axis}", wrong, FEWER[:2])
    report(wrong)


@ROWS
def test_shapes_axes_and_keepdims_in_every_mode(row: Reduction) -> None:
    wrong: list[str] = []
    for char in "dlF?":
        for shape in SHAPES:
            values = tame(char, shape)
            for axis in axes_of(row):
                for keepdims in (False, True):
                    if keepdims and char != "d":
                        continue
                    asked = {"axis": axis, **({"keepdims": True} if keepdims else {})}
                    name = f"{char}, {shape}, {asked}"
                    every = char == "d" and not keepdims
                    check(row, values, asked, name, wrong, MODES if every else FEWER[:1])
    report(wrong)


@pytest.mark.parametrize(
    ("chars", "shapes"),
    [
        pytest.param("d", LARGE, id="float64"),
        pytest.param("efl?FB", LARGE, marks=pytest.mark.slow, id="more dtypes"),
        pytest.param("df", LARGER, marks=pytest.mark.slow, id="more shapes"),
    ],
)
@ROWS
def test_large_arrays(row: Reduction, chars: str, shapes: list[tuple[int, ...]]) -> None:
    """Sizes that take several blocks and tasks, in several layouts, of values of either sign."""
    wrong: list[str] = []
    views: dict[str, Callable[[Any], Any]] = {
        "C": lambda a: a,
        "reversed axes": lambda a: a.T,
        "every other": lambda a: a[..., ::2],
        "backwards": lambda a: a[::-1],
    }
    for char in chars:
        for shape in shapes:
            values = tame(char, shape)
            if row.cost == "reduce_prod" and values.dtype.kind in "fc":
                values **= 1 / values.size
            elif values.dtype.kind == "f":
                # A drift, so that blocks have something to tell each other.
                values += numpy.linspace(-3, 2, values.size).reshape(shape).astype(char)
                if char == "e":
                    # Halves are summed in single precision, so where NumPy's sum overflows on the
                    # way, ours does not.
                    values *= 1e-3
            for what, view in views.items():
                for axis in (None, *range(len(shape)), (0, -1)):
                    if (row.ordered or len(shape) == 1) and type(axis) is tuple:
                        continue
                    name = f"{char}, {shape}, {what}, axis={axis}"
                    check(row, values, {"axis": axis}, name, wrong, FEWER[:1], view)
    report(wrong)


@ROWS
def test_arguments_that_are_wrong(row: Reduction) -> None:
    wrong: list[str] = []
    values = tame("d", (3, 4))
    asked: list[dict[str, Any]] = [{"axis": axis} for axis in WRONG_AXES]
    asked += [
        {"nonsense": 1}, {"dtype": "nonsense"}, {"keepdims": 2}, {"out": 3}, {"ddof": "1"},
        {"initial": "a"}, {"out": numpy.zeros(7)}, {"where": numpy.ones(7, bool)},
        {"axis": 0, "out": numpy.zeros(4, "b")}, {"dtype": "S3"}, {"dtype": "b"},
    ]  # fmt: skip
    for given in asked:
        check(row, values, given, str(given), wrong, FEWER)
    report(wrong)


@ROWS
def test_special_values(row: Reduction) -> None:
    wrong: list[str] = []
    for char in DTYPES:
        values = specials(char)
        columns = numpy.concatenate([values, values[::-1], values[:1]])[: 2 * len(values) // 4 * 4]
        grid = columns.reshape(4, -1)
        for given in ({}, {"axis": 0}, {"axis": 1, "keepdims": True}):
            if char in "efdFD" and row.cost in ("reduce_sum", "reduce_prod", "reduce_moments"):
                # The largest numbers overflow or not by the order in which they are met.
                with numpy.errstate(all="ignore"):
                    most = 1e15 if char != "e" else 100
                    grid = numpy.where(abs(grid) > most, grid.dtype.type(numpy.inf), grid)
            check(row, grid, given, f"{char}, {given}", wrong, FEWER)
    report(wrong)


@ROWS
def test_slices_of_missing_values(row: Reduction) -> None:
    wrong: list[str] = []
    for char in "efdFD":
        values = tame(char, (4, 6))
        values[1] = numpy.nan
        values[:, 2] = numpy.nan
        values[3, 3] = numpy.nan
        for given in (
            {},
            {"axis": 0},
            {"axis": 1},
            {"axis": 1, "keepdims": True},
            {"axis": (0, 1)},
        ):
            if not (row.ordered and given.get("axis") == (0, 1)):
                check(row, values, given, f"{char}, {given}", wrong, FEWER)
                check(row, values[1:2], given, f"{char}, all missing, {given}", wrong, FEWER)
    report(wrong)


@ROWS
def test_dtype_argument(row: Reduction) -> None:
    wrong: list[str] = []
    for char in "?bBlfdeD":
        for asked in ("?", "b", "H", "l", "e", "f", "d", "F", "g", float, numpy.int32, None):
            given = {"dtype": asked}
            check(row, tame(char, (5, 7)), given, f"{char}, {given}", wrong, FEWER[:1])
    report(wrong)


@ROWS
def test_ddof(row: Reduction) -> None:
    wrong: list[str] = []
    values = tame("d", (3, 4))
    values[0, :3] = numpy.nan
    for ddof in (0, 1, 2.5, 3, 4, 12, 13, True, numpy.int64(1), -1, None):
        for axis in (None, 0, 1):
            for given in ({"ddof": ddof}, {"correction": ddof}):
                asked = {"axis": axis, **given}
                check(row, values[:, 1:], asked, str(asked), wrong, FEWER[:1])
    report(wrong)


@ROWS
def test_where_and_initial(row: Reduction) -> None:
    wrong: list[str] = []
    for char in "dfelB?FD":
        values = tame(char, (4, 6))
        check_where_and_initial(row, values, tame("d", (4, 6)) > 0.7, char, wrong)
    report(wrong)


@pytest.mark.parametrize("shape", LARGE)
@ROWS
def test_where_and_initial_of_large_arrays(row: Reduction, shape: tuple[int, ...]) -> None:
    """Masks that change often and masks that seldom do, of arrays that take several blocks."""
    wrong: list[str] = []
    values = tame("d", shape)
    if row.cost == "reduce_prod":
        values **= 1 / values.size
    changing = tame("d", shape, 1) > 1
    steady = numpy.broadcast_to(numpy.arange(shape[-1]) % 5000 < 3000, shape)
    for mask, axis in itertools.product((changing, steady), (None, 0, -1)):
        needs = () if row.masked is None else row.masked.needs
        given = {"where": mask, "axis": axis, **dict.fromkeys(needs, 0.5)}
        name = f"{shape}, {'changing' if mask is changing else 'steady'}, axis={axis}"
        check(row, values, given, name, wrong, FEWER[:1])
    report(wrong)


@pytest.mark.parametrize("name", ["var", "std", "nanvar", "nanstd"])
@pytest.mark.parametrize("first", [False, True])
def test_blocks_of_which_nothing_is_chosen(name: str, first: bool) -> None:
    """Values whose squares are too large for the dtype; those of their distances are not."""
    values = 1e156 + 1e150 * tame("d", PLAIN_REDUCE_ELEMENTS * 2)
    mask = (numpy.arange(values.size) < PLAIN_REDUCE_ELEMENTS) == first
    wanted = ask(lambda: getattr(numpy, name)(values, where=mask))
    with mode("serial", "deferred"), np.dispatch_options(on_fallback="raise"):
        got = ask(lambda: getattr(np, name)(ours(values), where=mask))
    assert differ(got, wanted, close=close_to(1e-9)) is None


def close_to(share: float) -> Any:
    return lambda got, wanted: None if abs(got / wanted - 1).max() <= share else f"{got}"


def check_where_and_initial(
    row: Reduction, values: numpy.ndarray, mask: numpy.ndarray, char: str, wrong: list[str]
) -> None:
    for given in (
        {"where": mask}, {"where": True}, {"where": False}, {"where": mask[0]}, {"initial": 3},
        {"initial": 3, "where": mask}, {"axis": 0, "where": mask, "initial": -1.5},
        {"axis": 1, "initial": None}, {"axis": 1, "where": mask, "keepdims": True},
        {"where": mask.astype(int)}, {"axis": (), "where": mask},
    ):  # fmt: skip
        name = f"{char}, {', '.join(given)}"
        check(row, values, given, name, wrong, FEWER if char == "d" else FEWER[:1])


@ROWS
def test_layouts(row: Reduction) -> None:
    wrong: list[str] = []
    for name, (shape, view) in LAYOUTS.items():
        for char in "dl":
            values = tame(char, shape)
            for axis in (None, 0, -1):
                what = f"{char}, {name}, axis={axis}"
                check(row, values, {"axis": axis}, what, wrong, FEWER[:1], view)
    report(wrong)


@ROWS
def test_out_argument(row: Reduction) -> None:
    wrong: list[str] = []
    values = tame("d", (3, 4))
    for out in (numpy.zeros(4), numpy.zeros(4, "f"), numpy.zeros(4, "l"), numpy.zeros((4, 1))[:, 0],
                numpy.zeros(8)[::2], numpy.zeros(3), numpy.zeros((1, 4)),
                numpy.zeros(4, ">f8")):  # fmt: skip
        theirs, mine = out.copy(), np.array(out)
        wanted = ask(lambda: getattr(numpy, row.name)(values, axis=0, out=theirs))
        given = ours(values)
        for backend, way in FEWER:
            for argument in (given, pending(given)):
                mine[...] = out
                with mode(backend, way):
                    got = ask(lambda: getattr(np, row.name)(argument, axis=0, out=mine))
                compare = None if wanted.error else close(row, values, wanted, axis=0)
                reason = differ(got, wanted, close=compare)
                if (
                    wanted.error is None
                    and getattr(np, row.name)(given, axis=0, out=mine) is not mine
                ):
                    reason = reason or "it does not return the array given as out"
                if reason:
                    wrong.append(f"{backend}, {way}, out {out.dtype} {out.shape}: {reason}")
    report(wrong)


def test_sums_are_no_further_from_the_exact_sum_than_numpys() -> None:
    random = numpy.random.default_rng(5)
    for size in (100, 16384, 300_001):
        values = random.normal(size=size) * 10.0 ** random.integers(-8, 8, size)
        truth = exact_sum(values)
        unit = 4 * numpy.spacing(numpy.abs(values).sum())
        with mode("serial", "deferred"):
            found = float(np.array(values).sum())
        assert abs(found - truth) <= max(abs(values.sum() - truth), unit)
