"""Reductions of the ``compiled`` engine, against ``blocks`` and NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from dispatcharr.kernels import compiled, native
from dispatcharr.ops.reductions import REDUCTION_BY_NAME, REDUCTIONS
from regions import buffer, reducing, region, results, run, run_blocks

if native.missing() is not None:
    pytest.skip(str(native.missing()), allow_module_level=True)

SHAPES = [
    (1,), (5,), (1000,), (70001,), (100, 3), (300, 7), (90, 33), (3, 1030), (5, 6, 7),
    (2, 70, 90), (50, 1, 3), (3, 1), (20000, 2), (2, 3, 4, 5), (40, 2500), (600, 2050),
]  # fmt: skip
PROGRAMS: dict[str, list[Any]] = {
    "itself": [],
    "sum": [("add", (0, 1)), ("multiply", (2, 0))],
    "sine": [("sin", (0,)), ("multiply", (2, 1))],
    "order": [("less", (0, 1))],
}
LAYOUTS = ("plain", "stepped", "backwards", "transposed", "part", "row", "column")
#: Relative error allowed by dtype of the result, where both engines round.
CLOSE = {"d": 1e-12, "f": 3e-4, "e": 2e-2, "D": 1e-12, "F": 3e-4}
#: Rows that are not compiled; the others have to be.
LEFT: set[str] = set()


def agrees(found: numpy.ndarray, wanted: numpy.ndarray, name: str) -> bool:
    if found.dtype.kind in "biu" or name.removeprefix("nan") in ("min", "max"):
        return bool(((found == wanted) | ((found != found) & (wanted != wanted))).all())
    close = CLOSE[found.dtype.char]
    scale = numpy.abs(wanted[numpy.isfinite(wanted)]).max(initial=1)
    return numpy.allclose(found, wanted, rtol=close, atol=close * scale, equal_nan=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=100)
@given(
    row=st.sampled_from([row for row in REDUCTIONS if row.name not in LEFT]),
    program=st.sampled_from(sorted(PROGRAMS)),
    dtype=st.sampled_from(["f8", "f4", "f2", "i2", "i8", "u4", "?", "c16", "c8"]),
    shape=st.sampled_from(SHAPES),
    layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
    masked=st.booleans(),
    nans=st.booleans(),
    data=st.data(),
)
def test_every_row_agrees_with_blocks_along_any_axes(
    row: Any, program: str, dtype: str, shape: tuple[int, ...], layouts: tuple[str, str],
    masked: bool, nans: bool, data: st.DataObject,
) -> None:  # fmt: skip
    assume(program != "sine" or dtype in ("f8", "f4"))
    assume(program != "sum" or dtype not in "?f2")
    value = numpy.dtype("?" if program == "order" else dtype)
    assume(value.kind in row.kinds and value.char not in row.without)
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    if row.ordered:
        axes = set(range(len(shape))) if len(axes) > 1 else axes
    inputs = [buffer(shape, dtype, layout, i) for i, layout in enumerate(layouts)]
    if nans and inputs[0].dtype.kind in "fc":
        inputs[0].flat[:: max(inputs[0].size // 3, 1)] = numpy.nan
    steps, params = PROGRAMS[program], ()
    if masked and row.masked is not None:
        inputs.insert(0, buffer(shape, "f8", layouts[1], 2) > 0)
        steps = [(name, tuple(i + 1 for i in operands)) for name, operands in steps]
        params = tuple((need, value.type(1)) for need in row.masked.needs)
    mask = 0 if len(inputs) == 3 else None
    register = 1 if mask == 0 and not steps else -1
    if not steps and mask is None:
        del inputs[1]
    source = reducing(region(shape, inputs, steps), row.name, tuple(sorted(axes)), register, mask,
                      params)  # fmt: skip
    found, again, wanted = results(source), results(source), results(source)
    told = run_blocks(source, inputs, wanted)
    met = run(source, inputs, found)
    run(source, inputs, again, pieces=5)
    # The library's sine is not NumPy's to the last bit.
    assert agrees(found[0], wanted[0], "sum" if program == "sine" else row.name)
    assert found[0].tobytes() == again[0].tobytes()
    assert met == told or row.name.removeprefix("nan") in ("prod", "var", "std")


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_values_may_be_stored_and_reduced_in_one_pass(axes: tuple[int, ...]) -> None:
    inputs = [buffer((130, 70), "f8", "plain", i) for i in range(2)]
    source = region((130, 70), inputs, [("subtract", (0, 1)), ("square", (2,))], outputs=(2, 3))
    source = reducing(source, "sum", axes, keep=True)
    found, wanted = results(source), results(source)
    run(source, inputs, found)
    run_blocks(source, inputs, wanted)
    assert found[0].tobytes() == wanted[0].tobytes()
    assert found[1].tobytes() == wanted[1].tobytes()
    numpy.testing.assert_allclose(found[2], wanted[2], rtol=1e-13)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [100, 513, 5000, 1_500_000])
def test_a_sums_error_is_no_larger_than_numpys(dtype: str, size: int) -> None:
    rng = numpy.random.default_rng(3)
    ours, numpys = [], []
    for _ in range(30 if size < 10_000 else 3):
        values = (rng.random(size) * 10.0 ** rng.integers(-6, 6, size)).astype(dtype)
        exact = math.fsum(values.tolist())
        source = reducing(region(values.shape, [values], []), "sum", (0,))
        (found,) = results(source)
        run(source, [values], [found])
        unit = float(numpy.spacing(numpy.dtype(dtype).type(exact)))
        ours.append(abs(float(found[0]) - exact) / unit)
        numpys.append(abs(float(values.sum()) - exact) / unit)
    assert max(ours) <= max(*numpys, 2)


def test_halves_are_summed_in_float32_and_rounded_once() -> None:
    values = numpy.full(40_000, 0.1, numpy.float16)
    source = reducing(region(values.shape, [values], []), "sum", (0,))
    (found,) = results(source)
    run(source, [values], [found])
    assert found[0] == values.sum()


@pytest.mark.parametrize("name", ["argmin", "argmax"])
@pytest.mark.parametrize("shape", [(5000,), (60, 40), (40, 60)], ids=str)
def test_of_equals_the_first_is_found_and_nan_before_all(name: str, shape: tuple[int, ...]) -> None:
    values = numpy.zeros(shape)
    for axis in (None, *range(len(shape))):
        axes = tuple(range(len(shape))) if axis is None else (axis,)
        for places in ((), (-1,), (-1, values.size // 2)):
            values[...] = 0
            for place in places:
                values.flat[place] = numpy.nan
            source = reducing(region(shape, [values], []), name, axes)
            (found,) = results(source)
            run(source, [values], [found])
            wanted = getattr(numpy, name)(values, axis=axis, keepdims=True)
            assert (found == wanted).all()


@pytest.mark.parametrize("name", ["any", "all"])
@pytest.mark.parametrize("place", [0, 511, 512, 40_000, 99_999])
def test_one_element_decides(name: str, place: int) -> None:
    values = numpy.full(100_000, name == "all")
    values[place] = name == "any"
    source = reducing(region(values.shape, [values], []), name, (0,))
    (found,) = results(source)
    run(source, [values], [found])
    assert bool(found[0]) is (name == "any")


def test_errors_behind_the_deciding_element_are_told() -> None:
    values = numpy.ones(5000)
    values[4999] = -1
    source = reducing(region(values.shape, [values], [("sqrt", (0,))]), "any", (0,))
    assert run(source, [values], results(source)) == {("invalid value", "sqrt")}


def test_an_overflow_is_named_as_numpy_names_it() -> None:
    values = numpy.full(5000, 1e308)
    for name in ("sum", "var"):
        source = reducing(region(values.shape, [values], []), name, (0,))
        wanted = run_blocks(source, [values], results(source))
        assert wanted
        assert run(source, [values], results(source)) == wanted


def test_a_product_that_overflows_is_that_of_blocks() -> None:
    values = numpy.full(3000, 10.0)
    values[1500:] = 0.1  # halves by themselves are infinite and zero, and their product is not
    values[::7] *= -1
    source = reducing(region(values.shape, [values], []), "prod", (0,))
    found, wanted = results(source), results(source)
    run(source, [values], found)
    run_blocks(source, [values], wanted)
    assert found[0] == wanted[0]
    assert numpy.isinf(found[0])


def test_a_slice_without_numbers_is_remarked_once() -> None:
    values = numpy.full(50, numpy.nan)
    source = reducing(region(values.shape, [values], []), "nanmax", (0,))
    with pytest.warns(RuntimeWarning, match="All-NaN") as told:
        run(source, [values], results(source))
    assert len(told) == 1


def test_an_initial_joins_once() -> None:
    values = numpy.ones(100_000)
    params = (("initial", numpy.float64(5)),)
    source = reducing(region(values.shape, [values], []), "sum", (0,), params=params)
    (found,) = results(source)
    run(source, [values], [found])
    assert found[0] == 100_005


@pytest.mark.parametrize(("shape", "axis"), [((1000,), 0), ((90, 3), 1), ((3, 90), 0)])
def test_sums_start_from_zero(shape: tuple[int, ...], axis: int) -> None:
    values = numpy.full(shape, -0.0)
    source = reducing(region(shape, [values], []), "sum", (axis,))
    (found,) = results(source)
    run(source, [values], [found])
    assert (numpy.signbit(found) == numpy.signbit(values.sum(axis, keepdims=True))).all()


def test_reductions_have_kernels_for_all_rows_but_few() -> None:
    x = buffer((50,), "f8", "plain")
    left = {
        row.name
        for row in REDUCTIONS
        if compiled.refusal(reducing(region((50,), [x], []), row.name, (0,))) is not None
    }
    assert left == LEFT
    assert left <= set(REDUCTION_BY_NAME)
