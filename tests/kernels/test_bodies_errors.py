"""Bodies of compiled kernels: the floating-point errors that they report, against NumPy's."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numpy
import pytest

pytest.importorskip("llvmlite")

from body_loops import (
    PLANNED,
    QUICK,
    Case,
    Loops,
    bodies,
    columns,
    errors_by_numpy,
    optimised,
)
from dispatcharr.kernels import native
from dispatcharr.ops.bodies import Body, body_of
from dispatcharr.ops.bodies.casting import memory_type
from dispatcharr.ops.bodies.writing import Text, Value, integer
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME, ELEMENTWISE

HOST = native.host()
compiled = pytest.mark.skipif(isinstance(HOST, str), reason=str(HOST))
x86 = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"}, reason="reads the status register of x86"
)
each_row = pytest.mark.parametrize(
    "row", [row for row in ELEMENTWISE if row.nout == 1], ids=lambda row: row.name
)


def check_flags(found: Sequence[tuple[Case, Body]], loops: Loops, few: int) -> None:
    for case, body in found:
        for values in zip(*columns(case, few=few), strict=True):
            operands = [numpy.full(64, v, d) for v, d in zip(values, case[1], strict=True)]
            ours = loops.flags(body, operands, case[2])
            theirs = errors_by_numpy(case, values)
            missed = theirs - ours
            if body.function:
                # Functions differ in what they call underflow. Any other flag has NumPy asked.
                hinted = body.spurious if ours - {"underflow"} else frozenset()
                missed -= hinted | {"underflow"}
            assert not missed, f"{body.symbol}{values}: {missed} not noticed"
            assert ours <= body.flags, f"{body.symbol}{values}: {ours - body.flags} not announced"
            false = ours - theirs - body.spurious
            assert not false, f"{body.symbol}{values}: {false} made up"


@compiled
@x86
@each_row
def test_no_error_that_numpy_reports_goes_unnoticed(row: Elementwise) -> None:
    found = bodies(row, QUICK)
    if found:
        check_flags(found, Loops(found, watched=True), few=60)


@compiled
@x86
@pytest.mark.slow
@each_row
def test_no_error_goes_unnoticed_for_any_dtype(row: Elementwise) -> None:
    found = bodies(row, PLANNED)
    if found:
        check_flags(found, Loops(found, watched=True), few=1500)


@compiled
@x86
@pytest.mark.parametrize(
    ("base", "exponent", "wanted"),
    [(4.0, 0.5, set()), (-4.0, 0.5, {"invalid value"}), (1e300, 0.5, set()), (-4.0, 2.0, set()),
     (1e300, 2.0, {"overflow"}), (-4.0, 3.0, set()), (1e300, 3.0, {"overflow"})],
)  # fmt: skip
def test_scalar_exponents_report_what_is_computed_alone(
    base: float, exponent: float, wanted: set[str]
) -> None:
    """Roots, squares and powers are made of all elements, but two of them of harmless ones."""
    double = numpy.dtype("d")
    case = BY_NAME["power"], (double, double), double
    body = body_of(*case, frozenset({1}))
    assert isinstance(body, Body)
    operands = [numpy.full(64, base), numpy.full(64, exponent)]
    assert Loops([(case, body)], watched=True).flags(body, operands, double) == wanted


@compiled
@x86
@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod", "reciprocal", "divide"])
@pytest.mark.parametrize("size", [1, 2, 64])
def test_divisors_that_can_but_be_zero_and_one_are_divided_by(name: str, size: int) -> None:
    """LLVM would divide by both beforehand, which reports nothing; also by those it cannot see."""
    row = BY_NAME[name]
    for chars in ("b?", "d?", "??") if row.nin == 2 else ("?",):
        operands = tuple(map(numpy.dtype, chars))
        result = row.ufunc.resolve_dtypes((*operands, None))[-1]
        case = row, operands, result
        body = body_of(*case)
        assert isinstance(body, Body)
        loops = Loops([(case, body)], watched=True)
        zeros = [*[numpy.ones(size, d) for d in operands[:-1]], numpy.zeros(size, bool)]
        wanted = errors_by_numpy(case, tuple(values[0] for values in zeros))
        assert loops.flags(body, zeros, result) == wanted
        assert wanted


@compiled
@x86
@pytest.mark.parametrize("char", "FD")
@pytest.mark.parametrize("name", ["less", "less_equal", "greater", "greater_equal"])
def test_nan_is_reported_where_the_result_is_known(name: str, char: str) -> None:
    """Nothing is less than itself, but NumPy looks."""
    whole, bit = numpy.dtype(char), numpy.dtype("?")
    inner = body_of(BY_NAME[name], (whole, whole), bit)
    assert isinstance(inner, Body)
    type_ = memory_type(whole)
    text = f"""define internal i8 @itself({type_} %x0) alwaysinline {{
  %result = call i8 @{inner.symbol}({type_} %x0, {type_} %x0)
  ret i8 %result
}}
"""
    body = Body("itself", inner.text + text, inner.needs, (), inner.flags)
    loops = Loops([((BY_NAME["isnan"], (whole,), bit), body)], watched=True)
    numbers = numpy.ones(64, whole)
    assert loops.flags(body, [numbers], bit) == set()
    numbers[7] = complex(1.0, numpy.nan)
    assert loops.flags(body, [numbers], bit) == {"invalid value"}
    ours, theirs = loops.run(body, [numbers], bit), BY_NAME[name].ufunc
    with numpy.errstate(invalid="ignore"):
        assert (ours == theirs(numbers, numbers)).all()


def test_what_is_hidden_twice_is_hidden() -> None:
    text = Text()
    x = Value(text, integer(8), "%x0")
    twice = x.apart().apart()
    lines = ["define i8 @twice(i8 %x0) {", *text.lines, f"  ret i8 {twice.name}", "}\n"]
    body = Body("twice", "\n".join(lines), tuple(text.needs), (), frozenset())
    byte = numpy.dtype("b")
    case = BY_NAME["positive"], (byte,), byte
    shown = str(optimised([(case, body)]).get_function("twice"))
    assert "load" in shown


def test_halves_that_are_widened_may_be_reported_without_reason() -> None:
    half = numpy.dtype("e")
    add = body_of(BY_NAME["add"], (numpy.dtype("i"), half), numpy.dtype("d"))
    negative = body_of(BY_NAME["negative"], (half,), half)
    assert isinstance(add, Body)
    assert isinstance(negative, Body)
    assert add.spurious == {"invalid value"}
    assert not negative.spurious


@compiled
@x86
def test_what_is_not_chosen_reports_its_errors() -> None:
    """NumPy has divided everywhere before it chooses; SIMD can leave the others out."""
    double, bit = numpy.dtype("d"), numpy.dtype("?")
    rows = [("divide", (double,) * 2, double), ("not_equal", (double,) * 2, bit),
            ("where", (bit, double, double), double)]  # fmt: skip
    parts = [body_of(BY_NAME[name], operands, result) for name, operands, result in rows]
    divide, differ, choose = [part for part in parts if isinstance(part, Body)]
    text = f"""define internal double @guarded(double %x0, double %x1) alwaysinline {{
  %quotient = call double @{divide.symbol}(double %x0, double %x1)
  %divides = call i8 @{differ.symbol}(double %x1, double 0.0)
  %chosen = call double @{choose.symbol}(i8 %divides, double %quotient, double 0.0)
  ret double %chosen
}}
"""
    whole = "".join(part.text for part in (divide, differ, choose)) + text
    needs = (*divide.needs, *differ.needs, *choose.needs)
    body = Body("guarded", whole, needs, (), divide.flags)
    loops = Loops([((BY_NAME["divide"], (double, double), double), body)], watched=True)
    operands = [numpy.ones(64), numpy.arange(64.0) % 4]
    assert loops.flags(body, operands, double) == {"divide by zero"}
    assert loops.flags(body, [numpy.ones(64), numpy.ones(64)], double) == set()


@compiled
@x86
@pytest.mark.parametrize("char", "fd")
@pytest.mark.parametrize("name", ["exp", "exp2", "expm1", "log", "tanh"])
def test_functions_written_into_the_loop_report_what_numpy_does(name: str, char: str) -> None:
    """A flag without reason would have NumPy's loops asked, at more than their price."""
    dtype = numpy.dtype(char)
    case = BY_NAME[name], (dtype,), dtype
    body = body_of(*case)
    assert isinstance(body, Body)
    loops = Loops([(case, body)], watched=True)
    ends = numpy.array([709.7, 709.8, -745.0, -746.0, 88.7, 88.8, -103.9, -104.1, 1023.9, 1025.0])
    for value in numpy.concatenate([columns(case, n=300)[0], ends.astype(char)]):
        ours = loops.flags(body, [numpy.full(64, value, char)], dtype) - {"underflow"}
        assert ours == errors_by_numpy(case, (value,)) - {"underflow"}, value
