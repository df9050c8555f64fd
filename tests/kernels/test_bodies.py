"""Bodies of compiled kernels: each, in a loop of its own, against NumPy.

What NumPy computes exactly has to agree bit for bit, functions within 4 units in the last place
of the exact result; and no floating-point error that NumPy reports may go unnoticed.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import pytest

pytest.importorskip("llvmlite")

from body_loops import (
    PLANNED,
    QUICK,
    Case,
    Dtype,
    Loops,
    apart,
    bodies,
    by_numpy,
    cases,
    columns,
    errors_by_numpy,
    optimised,
)
from dispatcharr.kernels import native
from dispatcharr.ops.bodies import Body, body_of, prelude
from dispatcharr.ops.bodies.arithmetic import extreme
from dispatcharr.ops.bodies.table import RULES
from dispatcharr.ops.bodies.writing import DOUBLE, Text, Value
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME, ELEMENTWISE

HOST = native.host()
compiled = pytest.mark.skipif(isinstance(HOST, str), reason=str(HOST))
x86 = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"}, reason="reads the status register of x86"
)
FUNCTIONS = (
    "cbrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "arcsin",
    "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "power", "arctan2",
    "hypot",
)  # fmt: skip
ROWS = [row for row in ELEMENTWISE if row.nout == 1]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def check(found: Sequence[tuple[Case, Body]], loops: Loops) -> None:
    for case, body in found:
        operands = columns(case)
        ours = loops.run(body, operands, case[2])
        theirs = by_numpy(case, operands)
        # Two results, each within 4 units of the exact one, are within 8 of each other.
        limit = 8 if body.calls else 0
        distance = apart(ours, theirs)
        if (case[1][0].kind, case[2].str[1:]) in {("f", "u4"), ("c", "u4")}:
            # Beyond its range NumPy's result depends on where in the array an element lies.
            with numpy.errstate(all="ignore"):
                number = operands[0].real.astype("d")
            distance[(number < -(2.0**31)) | ~(number < 2.0**32)] = 0
        worst = int(distance.argmax()) // (len(distance) // len(ours))
        assert distance.max() <= limit, (
            f"{body.symbol}{tuple(o[worst] for o in operands)}: {ours[worst]}, not {theirs[worst]}"
        )


def test_every_row_has_rules() -> None:
    assert {row.name for row in ROWS} == set(RULES)


@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)
def test_every_case_has_a_body_or_a_sentence(row: Elementwise) -> None:
    if row.nout == 2:
        assert "2 results" in str(body_of(row, (numpy.dtype("d"),) * row.nin, numpy.dtype("d")))
        return
    for case in cases(row):
        found = body_of(*case)
        if isinstance(found, str):
            assert re.fullmatch(rf"{row.name} of \w+ is not compiled: [^.]+", found)
        else:
            assert f"@{found.symbol}(" in found.text


def test_symbols_are_unique() -> None:
    """One for each row and dtypes, of which int64 and the like have several characters."""
    found = {case: body for row in ROWS for case, body in bodies(row, PLANNED)}
    assert len({body.symbol for body in found.values()}) == len(found) > 850


@compiled
@each_row
def test_bodies_compute_what_numpy_does(row: Elementwise) -> None:
    found = bodies(row, QUICK)
    if found:
        check(found, Loops(found))


@compiled
@pytest.mark.slow
@each_row
def test_all_dtypes_compute_what_numpy_does(row: Elementwise) -> None:
    found = bodies(row, PLANNED)
    if found:
        check(found, Loops(found))


def check_flags(found: Sequence[tuple[Case, Body]], loops: Loops, few: int) -> None:
    for case, body in found:
        for values in zip(*columns(case, few=few), strict=True):
            operands = [numpy.full(64, v, d) for v, d in zip(values, case[1], strict=True)]
            ours = loops.flags(body, operands, case[2])
            theirs = errors_by_numpy(case, values)
            missed = theirs - ours
            if body.calls:
                # Functions differ in what they call underflow, and report of infinities.
                missed -= {"underflow"}
                missed = missed if numpy.isfinite(values).all() else missed & {"invalid value"}
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


def mixed(row: Elementwise) -> Iterator[Case]:
    """Cases whose operands have to be cast first."""
    for a in PLANNED:
        for b in PLANNED:
            pair = (numpy.dtype(a), numpy.dtype(b))
            if row.name == "where":
                yield row, (pair[0], *pair), numpy.result_type(*pair)
            elif row.name == "clip":
                yield row, (*pair, pair[1]), numpy.result_type(*pair)
            else:
                try:
                    yield row, pair, row.ufunc.resolve_dtypes((*pair, None))[-1]
                except TypeError:
                    continue


def _check_mixed(names: Sequence[str], step: int) -> None:
    for name in names:
        chosen = list(mixed(BY_NAME[name]))[::step]
        found = [(c, b) for c in chosen if isinstance(b := body_of(*c), Body)]
        assert found
        loops = Loops(found)
        with numpy.errstate(all="ignore"):
            check(found, loops)


@compiled
def test_operands_are_cast_as_numpy_casts_them() -> None:
    _check_mixed(["add", "less", "divide", "where"], 11)


@compiled
@pytest.mark.slow
def test_all_pairs_of_operands_are_cast_as_numpy_casts_them() -> None:
    _check_mixed(["add", "less", "equal", "divide", "floor_divide", "maximum", "where"], 1)


def samples(dtype: Dtype, n: int) -> list[numpy.ndarray]:
    """Arguments of functions, over all magnitudes and where they bend."""
    rng = numpy.random.default_rng(11)
    f = numpy.finfo(dtype)
    low, high = f.minexp - f.nmant, f.maxexp
    sign = rng.choice([-1.0, 1.0], n)
    turns = rng.integers(-2000, 2000, n) * (numpy.pi / 4)
    with numpy.errstate(all="ignore"):
        sets = [sign * 2.0 ** rng.uniform(low, high, n), rng.uniform(-10, 10, n),
                rng.uniform(-1, 1, n), 1 + sign * 2.0 ** rng.uniform(-40, 0, n),
                rng.uniform(-1e5, 1e5, n), rng.uniform(-750, 750, n),
                turns * (1 + sign * 2.0 ** rng.uniform(-52, -20, n)),
                sign * 2.0 ** rng.uniform(-30, 30, n)]  # fmt: skip
        return [s.astype(dtype) for s in sets]


def check_accuracy(name: str, char: str, n: int) -> None:
    """Compare with a result of more digits."""
    row, dtype = BY_NAME[name], numpy.dtype(char)
    more: Any = numpy.float64 if char == "f" else numpy.longdouble
    body = body_of(row, (dtype,) * row.nin, dtype)
    assert isinstance(body, Body)
    loops = Loops([((row, (dtype,) * row.nin, dtype), body)])
    sets = samples(dtype, n)
    pairs = [(a, b) for a in sets for b in sets]
    for operands in [(s,) for s in sets] if row.nin == 1 else pairs:
        with numpy.errstate(all="ignore"):
            ours = loops.run(body, operands, dtype)
            exact = row.ufunc(*(o.astype(more) for o in operands))
            rounded = exact.astype(dtype)
            finite = numpy.isfinite(rounded) & numpy.isfinite(ours)
            error = numpy.abs(ours - exact) / numpy.abs(numpy.spacing(rounded))
        assert error[finite].max(initial=0) <= 4
        odd = apart(ours, rounded)[~finite]
        assert odd.max(initial=0) <= 4  # the largest float is next to infinity


more_digits = pytest.mark.skipif(
    numpy.finfo(numpy.longdouble).nmant == 52, reason="no type has more digits than float64"
)


@compiled
@more_digits
@pytest.mark.parametrize("char", "fd")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_within_4_units_in_the_last_place(name: str, char: str) -> None:
    check_accuracy(name, char, 512)


@compiled
@more_digits
@pytest.mark.slow
@pytest.mark.parametrize("char", "fd")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_accurate_everywhere(name: str, char: str) -> None:
    check_accuracy(name, char, 1 << 15)


#: Rows that end up in SIMD instructions whatever the machine, and what is seen of it.
VECTORISED = {
    "add": "fadd <", "multiply": "fmul <", "divide": "fdiv <", "where": "select <",
    "clip": "select <", "maximum": "select <", "less": "fcmp olt <", "sqrt": "@llvm.sqrt.v",
    "floor": "@llvm.floor.v", "floor_divide": r"_ZGV\wN\d+vv_dispatcharr_fmod_f64(",
}  # fmt: skip


def _loop_of(name: str, chars: str, result: str) -> tuple[str, Body]:
    case = BY_NAME[name], tuple(map(numpy.dtype, chars)), numpy.dtype(result)
    body = body_of(*case)
    assert isinstance(body, Body)
    text = str(optimised([(case, body)]).get_function(f"loop_{body.symbol}"))
    return text, body


@compiled
@pytest.mark.parametrize(("name", "seen"), VECTORISED.items())
def test_loops_around_bodies_are_vectorised(name: str, seen: str) -> None:
    chars = {"where": "?dd", "clip": "ddd"}.get(name, "d" * BY_NAME[name].nin)
    text, _ = _loop_of(name, chars, "?" if name == "less" else "d")
    assert re.search(seen.replace("(", r"\("), text)


@compiled
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_called_for_whole_vectors(name: str) -> None:
    if isinstance(HOST, str) or not HOST.simd_math:
        pytest.skip("this machine has no SIMD functions")
    text, body = _loop_of(name, "d" * BY_NAME[name].nin, "d")
    assert re.search(rf"call <\d+ x double> @_ZGV\w+_{body.calls[0]}\(", text)


@compiled
def test_bodies_share_their_helpers() -> None:
    double = numpy.dtype("d")
    found = [
        (
            (BY_NAME[name], (double, double), double),
            body_of(BY_NAME[name], (double, double), double),
        )
        for name in ("remainder", "fmod", "floor_divide", "add")
    ]
    together = prelude(need for _, body in found for need in body.needs)
    assert together.count("@dispatcharr_fmod_f64(double %x, double %y)") == 1
    check(found, Loops(found))


@compiled
@pytest.mark.parametrize("negative", [False, True])
def test_the_zero_taken_is_that_of_numpys_loops(negative: bool) -> None:
    """On some machines the sign of zeros tells which is larger, not their place."""
    text = Text()
    rule = extreme(lambda a, _: numpy.full_like(a, -0.0 if negative else 0.0), True, True)
    larger = rule(Value(text, DOUBLE, "%x0"), Value(text, DOUBLE, "%x1"))
    lines = ["define internal double @larger(double %x0, double %x1) alwaysinline {", *text.lines,
             f"  ret double {larger.name}", "}\n"]  # fmt: skip
    body = Body("larger", "\n".join(lines), tuple(text.needs), (), frozenset())
    double = numpy.dtype("d")
    zeros = numpy.array([0.0, -0.0, 1.0, -0.0] * 16)
    found = [((BY_NAME["maximum"], (double, double), double), body)]
    ours = Loops(found).run(body, [zeros, zeros[::-1].copy()], double)
    taken = -0.0 if negative else 0.0
    expected = numpy.array([taken, 1.0, 1.0, taken] * 16)
    assert apart(ours, expected).max() == 0


def test_what_no_kernel_can_do_is_refused() -> None:
    double = numpy.dtype("d")
    for odd in (numpy.dtype(">f8"), numpy.dtype("g"), numpy.dtype("O"), numpy.dtype("M8[s]")):
        assert "is not compiled" in str(body_of(BY_NAME["add"], (odd, double), double))
    refused = body_of(BY_NAME["bitwise_and"], (double, double), double)
    assert refused == "bitwise_and is not defined by NumPy for float64, float64"


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
