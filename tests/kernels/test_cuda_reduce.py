"""Map-reduce kernels for CUDA, run on the CPU: against NumPy, ``blocks``, and themselves."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy
import pytest

from cuda_runs import bind, build, run, run_everywhere
from dispatcharr.devices import nvrtc, shim
from dispatcharr.kernels import cuda_reduce
from dispatcharr.ops.reductions import REDUCTION_BY_NAME, REDUCTIONS
from dispatcharr.plan.region import Region
from regions import LAYOUTS, buffer, reducing, region, results, run_blocks

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
if shim.missing() is not None:
    pytest.skip(str(shim.missing()), allow_module_level=True)

SIZES = (1, 31, 255, 256, 257, 1000, 100_003)
#: Shapes with the axes that are reduced: inner, outer, middle, several.
PLACES = [
    ((70, 33), (1,)), ((6, 3000), (1,)), ((300, 40), (0,)), ((3000, 3), (0,)), ((5, 60, 7), (1,)),
    ((5, 60, 8), (0, 2)), ((3, 40, 5, 16), (1, 3)),
]  # fmt: skip
#: Rows that are left to the host.
LEFT = {"nanargmin", "nanargmax"}
DTYPES = {
    "sum": "f8 f4 f2 i4 u8 ? i2 c16 c8", "prod": "f8 f4 i8 c16",
    "min": "f4 f2 i1", "max": "f8 u4 ?",
    "mean": "f8 f4 f2 i4 u1", "var": "f8 f4", "std": "f4", "any": "? f4 c8", "all": "? f8 i2",
    "count_nonzero": "f4 f2 c16", "argmin": "f4 i8", "argmax": "f8 f2", "nansum": "f4 f2",
    "nanprod": "f8", "nanmin": "f2 f8", "nanmax": "f4", "nanmean": "f4 f2", "nanvar": "f4 f8",
    "nanstd": "f8",
}  # fmt: skip
#: Relative error allowed by dtype of the result, where both sides round.
CLOSE = {"d": 1e-12, "f": 3e-5, "e": 5e-3, "D": 1e-12, "F": 3e-5}
PROGRAMS: dict[str, list[Any]] = {
    "sum": [("add", (0, 1)), ("multiply", (2, 0))],
    "sine": [("sin", (0,)), ("multiply", (2, 1))],
    "quotient": [("divide", (0, 1)), ("subtract", (2, 0))],
}


def agrees(found: numpy.ndarray, wanted: numpy.ndarray, exact: bool = False) -> bool:
    if exact or found.dtype.kind in "biu":
        return bool(((found == wanted) | ((found != found) & (wanted != wanted))).all())
    close = CLOSE[found.dtype.char]
    scale = numpy.abs(wanted[numpy.isfinite(wanted)]).max(initial=1)
    return numpy.allclose(found, wanted, rtol=close, atol=close * scale, equal_nan=True)


def values(shape: tuple[int, ...], dtype: str, row: str) -> numpy.ndarray:
    made = buffer(shape, dtype, "plain")
    if row.endswith("prod") and made.dtype.kind in "fc":
        made = (1 + made / 10_000).astype(dtype)
    if row.startswith("nan") and made.size > 1:
        made.reshape(-1)[::3] = numpy.nan
    return made


def _cases(row: str) -> list[tuple[Region, numpy.ndarray]]:
    """Return all sizes and places for sums, and for other rows some of each, in turns."""
    places = [((size,), (0,)) for size in SIZES] + PLACES
    turn = list(DTYPES).index(row)
    found = []
    for i, dtype in enumerate(DTYPES[row].split()):
        step = 1 if row == "sum" and i == 0 else 3 if i == 0 else 7
        for shape, axes in places[(turn + i) % step :: step]:
            if not (len(axes) > 1 and REDUCTION_BY_NAME[row].ordered):
                x = values(shape, dtype, row)
                found.append((reducing(region(shape, [x], []), row, axes), x))
    return found


@pytest.fixture(scope="module")
def cases() -> dict[str, list[tuple[Region, numpy.ndarray]]]:
    """All cases by row; their kernels are compiled together."""
    found = {row: _cases(row) for row in DTYPES}
    every = [bind(s, [x], results(s)) for listed in found.values() for s, x in listed]
    build([source for bound in every for source in bound.sources])
    return found


def test_every_row_is_looked_at() -> None:
    assert {row.name for row in REDUCTIONS} == LEFT | DTYPES.keys()


@pytest.mark.parametrize("row", list(DTYPES))
def test_a_row_agrees_with_numpy_along_any_axes(row: str, cases: Any) -> None:
    for source, x in cases[row]:
        found, _ = run_everywhere(source, [x])
        axes: Any = source.reducing.axes
        # Along outer axes NumPy rounds halves in every step.
        given = x.astype("f4") if x.dtype.char == "e" and "count" not in row else x
        wanted = getattr(numpy, row)(given, axis=axes[0] if len(axes) == 1 else axes, keepdims=True)
        wanted = wanted.astype(found[0].dtype)
        exact = row.removeprefix("nan") in ("min", "max")
        assert agrees(found[0], wanted, exact), (x.dtype, x.shape, axes, found[0], wanted)


def _mixed(seed: int) -> tuple[Region, list[Any]]:
    """Return a region of any layout, program, mask and parameters."""
    any_ = random.Random(seed)
    rows = [row for row in REDUCTIONS if row.name not in LEFT and "prod" not in row.name]
    row = any_.choice(rows)
    program = any_.choice(list(PROGRAMS))
    dtype = numpy.dtype(any_.choice(["f8", "f4"]))
    shape = any_.choice([(5000,), (90, 33), (3, 1030), (5, 6, 7), (300, 64), (2, 70, 90)])
    axes = tuple(sorted(any_.sample(range(len(shape)), any_.randint(1, len(shape)))))
    if row.ordered and len(axes) > 1:
        axes = tuple(range(len(shape)))
    inputs = [buffer(shape, dtype, any_.choice(LAYOUTS), i) for i in range(2)]
    steps, params = PROGRAMS[program], ()
    masked = row.masked is not None and not row.masked.unsure and any_.random() < 0.4
    if masked:
        inputs.insert(0, buffer(shape, "f8", any_.choice(LAYOUTS[:-1]), 2) > 0)
        steps = [(name, tuple(i + 1 for i in operands)) for name, operands in steps]
    if "initial" in row.params and (masked or any_.random() < 0.3):
        params = (("initial", dtype.type(3)),)
    elif "ddof" in row.params:
        params = (("ddof", 1),)
    source = reducing(
        region(shape, inputs, steps), row.name, axes, -1, 0 if masked else None, params,
        keep=any_.random() < 0.4,
    )  # fmt: skip
    return source, inputs


def test_programs_of_any_layout_agree_with_blocks() -> None:
    mixed = [_mixed(seed) for seed in range(30)]
    build([s for source, inputs in mixed for s in bind(source, inputs, results(source)).sources])
    for seed, (source, inputs) in enumerate(mixed):
        found, met = run_everywhere(source, inputs)
        wanted = results(source)
        told = run_blocks(source, inputs, wanted)
        assert all(agrees(f, w) for f, w in zip(found, wanted, strict=True)), seed
        assert {flag for flag in met if flag[0] != "remark"} == told, seed


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)], ids=str)
def test_values_may_be_stored_in_the_memory_they_come_from(axes: tuple[int, ...]) -> None:
    inputs = [buffer((130, 72), "f8", "plain", i) for i in range(2)]
    source = region((130, 72), inputs, [("subtract", (0, 1)), ("square", (2,))], outputs=(2, 3))
    source = reducing(source, "sum", axes, keep=True)
    found, wanted = results(source), results(source)
    run_blocks(source, inputs, wanted)
    found[0] = inputs[0]
    run(source, inputs, found)
    assert found[0].tobytes() == wanted[0].tobytes()
    assert found[1].tobytes() == wanted[1].tobytes()
    numpy.testing.assert_allclose(found[2], wanted[2], rtol=1e-13)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [1000, 1_500_000])
def test_a_sums_error_is_no_larger_than_numpys(dtype: str, size: int) -> None:
    rng = numpy.random.default_rng(3)
    ours, numpys = [], []
    for _ in range(30 if size < 10_000 else 2):
        x = (rng.random(size) * 10.0 ** rng.integers(-6, 6, size)).astype(dtype)
        exact = math.fsum(x.tolist())
        source = reducing(region(x.shape, [x], []), "sum", (0,))
        (found,) = results(source)
        run(source, [x], [found])
        unit = float(numpy.spacing(numpy.dtype(dtype).type(exact)))
        ours.append(abs(float(found[0]) - exact) / unit)
        numpys.append(abs(float(x.sum()) - exact) / unit)
    assert max(ours) <= max(*numpys, 1)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_variances_error_is_as_small_as_numpys_where_the_mean_is_large(dtype: str) -> None:
    rng = numpy.random.default_rng(5)
    for mean, first in ((0, 0), (1e4, 1e4), (1e3, -7e3)):
        x = (rng.standard_normal(200_000) + mean).astype(dtype)
        x[0] = first
        wide = x.astype(numpy.longdouble)
        exact = float(((wide - wide.mean()) ** 2).mean())
        source = reducing(region(x.shape, [x], []), "var", (0,))
        (found,) = results(source)
        run(source, [x], [found])
        ours, numpys = abs(float(found[0]) - exact), abs(float(x.var()) - exact)
        assert ours <= max(2 * numpys, 4 * float(numpy.spacing(numpy.dtype(dtype).type(exact))))


@pytest.mark.parametrize("name", ["argmin", "argmax"])
@pytest.mark.parametrize("shape", [(5000,), (60, 40), (40, 60)], ids=str)
def test_of_equals_the_first_is_found_and_nan_before_all(name: str, shape: tuple[int, ...]) -> None:
    x = numpy.zeros(shape)
    for axis in (None, *range(len(shape))):
        axes = tuple(range(len(shape))) if axis is None else (axis,)
        source = reducing(region(shape, [x], []), name, axes)
        for value in (0, numpy.nan, numpy.inf, -numpy.inf):
            x[...] = 0
            x.reshape(-1)[[x.size // 3, x.size // 2, -1]] = value
            (found,) = results(source)
            run(source, [x], [found])
            wanted = getattr(numpy, name)(x, axis=axis, keepdims=True)
            assert (found.reshape(-1) == wanted.reshape(-1)).all()
        x[...] = numpy.inf if name == "argmin" else -numpy.inf
        (found,) = results(source)
        run(source, [x], [found])
        assert not found.any()


SPECIAL = {
    "inf and -inf": [numpy.inf, 1, -numpy.inf], "inf": [1, numpy.inf], "nan": [1, numpy.nan],
    "nan and inf": [numpy.inf, numpy.nan, -numpy.inf], "too large": [1e308, 1e308, 1],
    "zeros": [-0.0, -0.0], "small": [5e-324, 5e-324],
}  # fmt: skip


@pytest.mark.parametrize("case", SPECIAL)
@pytest.mark.parametrize("name", ["sum", "mean", "min", "max", "nansum", "nanmax", "var", "nanstd"])
def test_special_values_give_numpys_results_and_warnings(name: str, case: str) -> None:
    x = numpy.resize(numpy.array(SPECIAL[case]), 3000 if case == "inf and -inf" else 3)
    x[len(SPECIAL[case]) :] = 0
    source = reducing(region(x.shape, [x], []), name, (0,))
    found, wanted = results(source), results(source)
    met = run(source, [x], found)
    told = run_blocks(source, [x], wanted)
    assert agrees(found[0], wanted[0])
    assert bool(met) == bool(told) or (name, case) == ("var", "too large")


def test_what_numpy_remarks_is_a_flag() -> None:
    x = numpy.full((4, 3), numpy.nan)
    x[0, 0] = 1
    for name, text in (
        ("nanmin", "All-NaN slice encountered"),
        ("nanmean", "Mean of empty slice"),
        ("nanvar", "Degrees of freedom <= 0 for slice."),
    ):
        source = reducing(region(x.shape, [x], []), name, (0,))
        assert ("remark", text) in run(source, [x], results(source))
        whole = reducing(region(x.shape, [x], []), name, (0, 1))
        assert not run(whole, [x], results(whole))


def test_a_product_that_overflows_is_to_be_made_again() -> None:
    x = numpy.array([1e200, 1e200, 0.0])
    source = reducing(region(x.shape, [x], []), "prod", (0,))
    assert ("again", "prod") in run(source, [x], results(source))
    assert not run(source, [x[2:].repeat(3)], results(source))


def test_nothing_is_told_that_nobody_asks_for() -> None:
    x = numpy.array([1e308, 1e308])
    source = reducing(region(x.shape, [x], [("divide", (0, 0))]), "sum", (0,))
    source = replace(source, watch=frozenset())
    assert bind(source, [x], results(source)).flags == ()


def test_errors_of_the_program_are_told_by_name() -> None:
    x = numpy.array([1.0, 0.0, 3.0])
    source = reducing(region(x.shape, [x], [("reciprocal", (0,))]), "sum", (0,))
    assert run(source, [x], results(source)) == {("divide by zero", "reciprocal")}


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i1", "?"])
def test_numbers_may_come_by_value_or_by_address(dtype: str) -> None:
    x, c = buffer((300,), dtype, "plain"), buffer((300,), dtype, "constant")
    source = reducing(region(x.shape, [x, c], [("maximum", (0, 1))]), "sum", (0,))
    found, again = results(source), results(source)
    run(source, [x, c], found)
    run(source, [x, c], again, by_value=False)
    assert found[0] == again[0]
    assert agrees(found[0], numpy.maximum(x, c).sum())


def test_texts_depend_neither_on_extents_nor_on_numbers() -> None:
    def text(rows: int, columns: int, constant: float, axes: tuple[int, ...]) -> tuple[Any, ...]:
        x, c = numpy.zeros((rows, columns)), numpy.array(constant)
        source = region(x.shape, [x, c], [("add", (0, 1))])
        source = reducing(source, "sum", axes, params=(("initial", numpy.float64(constant)),))
        return bind(source, [x, c], results(source)).sources

    for axes in ((0,), (1,), (0, 1)):
        assert text(3000, 2000, 1.0, axes) == text(4000, 1600, 2.0, axes)


def test_what_is_made_from_places_is_reduced() -> None:
    for size in (1000, 100_003):
        steps = [("arange", (), "i8", (3, 2)), ("linspace", (), "f8", (0.0, 0.25, None, size))]
        for steps_of, wanted in (
            (steps[:1], numpy.arange(3, 3 + 2 * size, 2)), (steps[1:], numpy.arange(size) * 0.25),
        ):  # fmt: skip
            source = reducing(region((size,), [], steps_of), "sum", (0,))
            (found,) = results(source)
            run(source, [], [found])
            assert found[0] == wanted.sum()


def test_numbers_of_the_launch_may_be_complex() -> None:
    x, c = buffer((70, 33), "c8", "plain"), buffer((70, 33), "c16", "constant")
    steps = [("multiply", (0, 1)), ("absolute", (2,))]
    source = reducing(region(x.shape, [x, c], steps), "max", (1,))
    for by_value in (True, False):
        (found,) = results(source)
        run(source, [x, c], [found], by_value=by_value)
        assert agrees(found, numpy.abs(x * c).max(axis=1, keepdims=True))


def test_far_strides_are_taken_in_64_bits() -> None:
    far = numpy.zeros(5 << 30, numpy.uint8)[:: 1 << 30]  # pages that nobody touches take no memory
    far[:] = [1, 2, 3, 4, 5]
    source = reducing(region(far.shape, [far], []), "sum", (0,))
    (found,) = results(source)
    run(source, [far], [found])
    assert found[0] == 15


def test_what_is_left_to_the_host_is_said() -> None:
    def why(x: numpy.ndarray, name: str, mask: int | None = None) -> str:
        source = reducing(region(x.shape, [x, x > 0], []), name, (0,), 0, mask)
        found = cuda_reduce.bind(source, [x, x > 0], results(source))
        assert isinstance(found, str)
        return found

    x = buffer((50,), "f8", "plain")
    assert "nanargmin" in why(x, "nanargmin")
    assert "mask" in why(x, "mean", 1)
    assert "complex" in why(x.astype(complex), "max")
    assert "empty" in why(x[:0], "sum")
    shifted = numpy.zeros(401, numpy.uint8)[1:].view(numpy.float64)
    assert "aligned" in why(shifted, "sum")


def test_memory_that_is_less_aligned_than_on_the_host_is_refused() -> None:
    x = numpy.zeros(4096)
    source = reducing(region(x.shape, [x], []), "sum", (0,))
    bound = bind(source, [x], results(source))
    with pytest.raises(ValueError, match="multiples of 16"):
        list(bound.launches([8], [16], 0, 0))


def test_all_kinds_of_kernels_compile_for_a_gpu(cases: Any) -> None:
    path = nvrtc.find()
    if path is None:
        pytest.skip(nvrtc.MISSING)
    compiler = nvrtc.Compiler(path)
    for number, row in enumerate(DTYPES):
        listed = cases[row]
        source, x = listed[(number * 5) % len(listed)]
        for made in bind(source, [x], results(source)).sources:
            assert compiler.compile(made.text, "sm_90", made.name)
