"""The ``compiled`` engine, elementwise: layouts, bits, errors and refusals, against ``blocks``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from dispatcharr.kernels import compiled, native
from dispatcharr.kernels.build import Builder
from regions import (
    BUILDER,
    LAYOUTS,
    buffer,
    job_of,
    region,
    results,
    run,
    run_blocks,
)

if native.missing() is not None:
    pytest.skip(str(native.missing()), allow_module_level=True)

ARITHMETIC = [("add", (0, 1)), ("multiply", (2, 0)), ("subtract", (3, 1))]
CHOICE = [("less", (0, 1)), ("where", (2, 1, 0)), ("astype", (3,), "float32")]
SINE = [("sin", (0,)), ("multiply", (2, 1))]
SHAPES = [
    (1,), (5,), (1000,), (4099,), (100, 3), (300, 7), (90, 33), (3, 1030), (130, 140), (5, 6, 7),
    (2, 70, 90), (50, 1, 3), (3, 1), (20000, 2),
]  # fmt: skip


def same(found: numpy.ndarray, wanted: numpy.ndarray) -> bool:
    """Return whether the bits are the same, those of NaN aside."""
    if found.dtype.kind in "fc":
        return bool(((found == wanted) | (numpy.isnan(found) & numpy.isnan(wanted))).all())
    return bool((found == wanted).all())


@settings(max_examples=40)
@given(
    shape=st.sampled_from(SHAPES),
    program=st.sampled_from([ARITHMETIC, CHOICE]),
    dtype=st.sampled_from(["f8", "f4", "i2", "i8", "u1"]),
    layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
    out=st.sampled_from(["plain", "stepped", "backwards", "transposed", "part"]),
    pieces=st.integers(2, 7),
)
def test_every_layout_gives_the_bits_of_blocks(
    shape: tuple[int, ...], program: Any, dtype: str, layouts: tuple[str, str], out: str,
    pieces: int,
) -> None:  # fmt: skip
    inputs = [buffer(shape, dtype, layout, i) for i, layout in enumerate(layouts)]
    source = region(shape, inputs, program)
    wanted = results(source)[0]
    met = run_blocks(source, inputs, [wanted])
    target = buffer(shape, wanted.dtype, out)
    for number in (1, pieces):
        target[...] = 0
        assert run(source, inputs, [target], pieces=number) == met
        assert same(target, wanted)


@settings(max_examples=25)
@given(
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(["f8", "f4"]),
    layout=st.sampled_from(LAYOUTS[:5]),  # what is one value for many is computed once, alone
    pieces=st.integers(2, 7),
)
def test_bits_of_simd_functions_depend_on_the_element_alone(
    shape: tuple[int, ...], dtype: str, layout: str, pieces: int
) -> None:
    inputs = [buffer(shape, dtype, layout), buffer(shape, dtype, "plain", 1)]
    source = region(shape, inputs, SINE)
    first, cut = results(source)[0], results(source)[0]
    run(source, inputs, [first])
    run(source, inputs, [cut], pieces=pieces)
    assert first.tobytes() == cut.tobytes()
    flat = [numpy.ascontiguousarray(numpy.broadcast_to(a, shape)).reshape(-1) for a in inputs]
    for start in (0, 1, first.size // 2):
        part = [array[start:] for array in flat]
        line = region(part[0].shape, part, SINE)
        (again,) = results(line)
        run(line, part, [again])
        assert again.tobytes() == first.reshape(-1)[start:].tobytes()


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_simd_functions_are_within_four_units(dtype: str) -> None:
    x = numpy.linspace(-100, 100, 20_001).astype(dtype)
    for name in ("sin", "cos", "exp"):
        source = region(x.shape, [x], [(name, (0,))])
        (found,) = results(source)
        run(source, [x], [found], watch=False)
        exact = getattr(numpy, name)(x.astype(numpy.longdouble))
        with numpy.errstate(over="ignore"):
            wanted = exact.astype(dtype)
        finite = numpy.isfinite(wanted)
        units = numpy.abs(found[finite] - exact[finite]) / numpy.spacing(numpy.abs(wanted[finite]))
        assert units.max() <= 4


@pytest.mark.parametrize("shape", [(10_000,), (300, 7), (130, 140)], ids=str)
@pytest.mark.parametrize("layout", ["plain", "stepped", "transposed"])
def test_an_output_may_be_an_input(shape: tuple[int, ...], layout: str) -> None:
    inputs = [buffer(shape, "f8", layout), buffer(shape, "f8", "plain", 1)]
    source = region(shape, inputs, ARITHMETIC)
    (wanted,) = results(source)
    run(source, inputs, [wanted])
    run(source, inputs, [inputs[0]])
    assert same(inputs[0], wanted)


def test_a_sine_may_overwrite_its_operand() -> None:
    inputs = [buffer((1003,), "f8", "plain"), buffer((1003,), "f8", "plain", 1)]
    source = region((1003,), inputs, SINE)
    (wanted,) = results(source)
    run(source, inputs, [wanted])
    run(source, inputs, [inputs[0]], watch=False)
    assert inputs[0].tobytes() == wanted.tobytes()


def test_several_outputs_are_stored_in_one_pass() -> None:
    inputs = [buffer((37, 41), dtype, "plain", i) for i, dtype in enumerate(("f8", "f4"))]
    source = region((37, 41), inputs, ARITHMETIC, outputs=(2, 4, 3))
    found, wanted = results(source), results(source)
    run(source, inputs, found)
    run_blocks(source, inputs, wanted)
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i8", "f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("layouts", [("plain", "row"), ("backwards", "column")])
@pytest.mark.parametrize("shape", [(70, 3), (9, 50)], ids=str)
def test_every_dtype(dtype: str, layouts: tuple[str, str], shape: tuple[int, ...]) -> None:
    inputs = [buffer(shape, dtype, layout, i) for i, layout in enumerate(layouts)]
    source = region(shape, inputs, [("add", (0, 1)), ("not_equal", (2, 0))], outputs=(2, 3))
    found, wanted = results(source), results(source)
    run(source, inputs, found)
    run_blocks(source, inputs, wanted)
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_bool_of_any_byte_is_true() -> None:
    odd = numpy.array([0, 1, 2, 255] * 30, numpy.uint8).view(bool)
    source = region(odd.shape, [odd], [("astype", (0,), "i8")])
    (found,) = results(source)
    run(source, [odd], [found])
    assert found.tolist() == [0, 1, 1, 1] * 30


def test_generators_have_numpys_bits() -> None:
    n = 10_007
    first, step = numpy.int64(-7), numpy.int64(3)
    low, high = numpy.float64(0.1), numpy.float64(19.7)
    apart = (high - low) / (n - 1)
    source = region(
        (n,), [],
        [("arange", (), "i8", (first, step)), ("linspace", (), "f8", (low, apart, high, n)),
         ("full", (), "f8", (numpy.float64(0.3),)), ("multiply", (1, 2))],
        outputs=(0, 1, 2, 3),
    )  # fmt: skip
    found = results(source)
    run(source, [], found, pieces=3)
    places, line = numpy.arange(-7, -7 + 3 * n, 3), numpy.linspace(0.1, 19.7, n)
    for got, wanted in zip(found, (places, line, numpy.full(n, 0.3), line * 0.3), strict=True):
        assert got.tobytes() == wanted.tobytes()


def test_an_open_linspace_and_a_sine_of_it() -> None:
    n = 1001
    step = numpy.float64(1 / n)
    params = (numpy.float64(0), step, None, n)
    source = region((n,), [], [("linspace", (), "f8", params), ("sin", (0,))], outputs=(0, 1))
    found = results(source)
    run(source, [], found)
    assert found[0].tobytes() == numpy.linspace(0, 1, n, endpoint=False).tobytes()
    numpy.testing.assert_allclose(found[1], numpy.sin(found[0]), rtol=1e-15)


def test_one_kernel_serves_all_shapes_values_and_constants() -> None:
    def compute(shape: tuple[int, ...], constant: float) -> None:
        inputs = [buffer(shape, "f8", "plain"), numpy.array(constant)]
        source = region(shape, inputs, [("floor", (0,)), ("multiply", (2, 1))])
        (found,) = results(source)
        run(source, inputs, [found])
        assert (found == numpy.floor(inputs[0]) * constant).all()

    compute((1000,), 2.0)
    before = BUILDER.counts.compiled
    compute((77,), -3.5)
    compute((200_000,), 0.1)
    assert BUILDER.counts.compiled == before


@pytest.mark.parametrize("offset", [0, 8, 24])
@pytest.mark.parametrize("size", [100, 5_000, 100_003])
def test_streamed_results_are_the_same(offset: int, size: int) -> None:
    inputs = [buffer((size,), "f8", "plain", i) for i in range(2)]
    source = region((size,), inputs, ARITHMETIC)
    memory = numpy.zeros(size * 8 + 128, numpy.uint8)
    start = -memory.ctypes.data % 64 + offset
    found = memory[start : start + size * 8].view(numpy.float64)
    run(source, inputs, [found], stream=True, pieces=3)
    (wanted,) = results(source)
    run_blocks(source, inputs, [wanted])
    assert found.tobytes() == wanted.tobytes()
    assert not memory[:start].any()
    assert not memory[start + size * 8 :].any()


def test_a_kernel_that_is_not_built_is_not_waited_for() -> None:
    builder = Builder(None)
    x = buffer((10,), "f8", "plain")
    source = region((10,), [x], [("negative", (0,))])
    (out,) = results(source)
    assert compiled.prepare(source, [x], [out], buy=False, builder=builder) is None
    assert builder.counts.compiled == 0
    assert compiled.prepare(source, [x], [out], builder=builder) is None
    assert builder.wait(60)
    assert isinstance(compiled.prepare(source, [x], [out], builder=builder), compiled.Job)


# -- errors ---------------------------------------------------------------------------------------


def test_one_suspect_is_named_at_once() -> None:
    x = numpy.array([1.0, 0.0, -1.0])
    source = region((3,), [x, x], [("divide", (0, 1))])
    assert run(source, [x, x], results(source)) == {("invalid value", "divide")}
    assert run(source, [x, x], [x]) == {("invalid value", "divide")}


def test_of_several_suspects_the_guilty_are_named() -> None:
    x = numpy.full(5000, 2.0)
    x[4321] = 1e300
    inputs = [x, numpy.array(1e200)]
    source = region(x.shape, inputs, [("add", (0, 1)), ("multiply", (2, 0)), ("square", (1,))])
    (found,) = results(source)
    wanted = run_blocks(source, inputs, [found])
    assert run(source, inputs, [found]) == wanted
    assert ("overflow", "multiply") in wanted
    assert ("overflow", "add") not in wanted


def test_errors_that_nobody_asks_for_are_not_told() -> None:
    x = numpy.array([1e-200, 0.0])
    source = region((2,), [x, x], [("multiply", (0, 1)), ("divide", (2, 1))])
    (found,) = results(source)
    assert run(source, [x, x], [found], watch=False) == set()
    assert run(source, [x, x], [found], watch={"underflow"}) == {("underflow", "multiply")}


@pytest.mark.parametrize("name", ["sin", "exp", "log", "tanh"])
def test_simd_functions_report_what_numpys_report(name: str) -> None:
    special = numpy.array([0.0, -0.0, 1.0, -1.0, 1e3, -1e3, numpy.inf, -numpy.inf, numpy.nan])
    for values in (*special.reshape(-1, 1), special):
        source = region(values.shape, [values], [(name, (0,))])
        found, wanted = results(source)[0], results(source)[0]
        job = job_of(source, [values], [found])
        if isinstance(job, str):
            pytest.skip(job)
        assert run(source, [values], [found]) == run_blocks(source, [values], [wanted])
        numpy.testing.assert_allclose(found, wanted, rtol=1e-15)


def test_what_fills_up_a_vector_reports_nothing() -> None:
    x = numpy.full(3, 2.0)  # were the rest of the vector zero, there would be division by it
    source = region((3,), [x], [("sin", (0,)), ("divide", (0, 1))])
    assert run(source, [x], results(source)) == set()


# -- refusals -------------------------------------------------------------------------------------


def refused(source: Any, inputs: Any, outputs: Any, **options: Any) -> str:
    found = job_of(source, inputs, outputs, **options)
    assert isinstance(found, str)
    return found


def test_misaligned_operands_are_left_to_blocks() -> None:
    x = numpy.zeros(81, numpy.uint8)[1:].view(numpy.float64)
    source = region(x.shape, [x], [("negative", (0,))])
    assert "aligned" in refused(source, [x], results(source))
    record = numpy.zeros(10, [("a", "i1"), ("b", "f8")])["b"]
    source = region(record.shape, [record], [("negative", (0,))])
    assert "aligned" in refused(source, [record], results(source))


@pytest.mark.parametrize("dtype", [">f8", numpy.longdouble, numpy.clongdouble])
def test_other_dtypes_are_left_to_blocks(dtype: Any) -> None:
    x = numpy.ones(5, dtype)
    if x.dtype.isnative and x.dtype.char not in "gG":
        pytest.skip("a dtype of this machine")
    source = region((5,), [x], [("negative", (0,), dtype)])
    assert "NumPy" in str(compiled.refusal(source))


def test_rows_without_a_body_say_why() -> None:
    x = buffer((5,), "i8", "plain")
    source = region((5,), [x, x], [("add", (0, 1)), ("gcd", (2, 0))])
    assert "gcd" in str(compiled.refusal(source))
    assert compiled.refusal(region((5,), [x, x], [("add", (0, 1))])) is None


def test_simd_functions_over_their_operand_are_left_to_blocks_while_errors_are_watched() -> None:
    x = buffer((50,), "f8", "plain")
    source = region((50,), [x], [("sin", (0,))])
    assert "overwrites" in refused(source, [x], [x])


def test_underflow_of_simd_functions_is_told_by_blocks() -> None:
    x = buffer((50,), "f8", "plain")
    source = region((50,), [x], [("exp", (0,))])
    assert "underflow" in refused(source, [x], results(source), watch={"underflow"})
    assert "underflow" in str(compiled.refusal(replace(source, watch=frozenset({"underflow"}))))
    assert compiled.refusal(source) is None


@pytest.mark.parametrize(
    ("name", "lacking", "reason"),
    [("exp", "library", ""), ("power", "library", ""), ("sin", "library", "no SIMD variant of sin"),
     ("exp", "fma", ""), ("power", "fma", "no fused multiply-add")],
)  # fmt: skip
def test_functions_are_compiled_where_the_machine_has_what_they_need(
    name: str, lacking: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are written into the loop need no library, powers an instruction."""
    host = native.host()
    if isinstance(host, str) or (lacking == "fma" and "+fma" not in host.features.split(",")):
        pytest.skip("this machine lacks it")
    poorer = replace(host, simd_math={})
    if lacking == "fma":
        poorer = replace(host, features=host.features.replace("+fma,", "-fma,"))
    monkeypatch.setattr(native, "host", lambda: poorer)
    builder = Builder(None)
    x = buffer((1003,), "f8", "plain") ** 2 + 0.1
    given = [x] if name != "power" else [x, x[::-1].copy() % 3]
    source = region((1003,), given, [(name, tuple(range(len(given))))])
    outputs = results(source)
    for _ in range(2):
        found = compiled.prepare(source, given, outputs, watch=False, builder=builder)
        assert builder.wait(60)
    if reason:
        assert reason in str(found)
        return
    assert isinstance(found, compiled.Job)
    for task in range(found.count):
        found.run(task)
    with numpy.errstate(all="ignore"):
        numpy.testing.assert_allclose(outputs[0], getattr(numpy, name)(*given), rtol=1e-15)
