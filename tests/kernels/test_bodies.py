"""Bodies of compiled kernels: each, in a loop of its own, against NumPy.

What NumPy computes exactly has to agree bit for bit, functions within 4 units in the last place
of the exact result.
"""

from __future__ import annotations

import itertools
import math
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
    module_text,
    optimised,
    special,
)
from dispatcharr.kernels import native
from dispatcharr.kernels.hints import are_risky
from dispatcharr.ops.bodies import Body, body_of, prelude
from dispatcharr.ops.bodies.arithmetic import extreme
from dispatcharr.ops.bodies.table import RULES
from dispatcharr.ops.bodies.writing import DOUBLE, Text, Value
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME, ELEMENTWISE

HOST = native.host()
compiled = pytest.mark.skipif(isinstance(HOST, str), reason=str(HOST))
FUNCTIONS = (
    "cbrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "arcsin",
    "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "power", "arctan2",
    "hypot",
)  # fmt: skip
#: Those that are written into the loop.
SERIES = ("exp", "exp2", "expm1", "log", "tanh", "power")
CALLED = [name for name in FUNCTIONS if name not in SERIES]
ROWS = [row for row in ELEMENTWISE if row.nout == 1]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def check(found: Sequence[tuple[Case, Body]], loops: Loops) -> None:
    for case, body in found:
        operands = columns(case)
        ours = loops.run(body, operands, case[2])
        theirs = by_numpy(case, operands)
        # Two results, each within 4 units of the exact one, are within 8 of each other.
        limit = 8 if body.function else 0
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


#: What NumPy has loops for where operands are scalars: those operands, and some of their values.
SCALARS = {
    "power": ("dd", [(e,) for e in (0.5, 2.0, -0.5, -1.0, 0.0, 1.0, 3.0, math.inf, math.nan)]),
    "clip": ("ddd", list(itertools.product((0.0, -0.0, -1.0, math.nan), (0.0, -0.0, 1.0)))),
}


@compiled
@pytest.mark.parametrize("char", "efd")
@pytest.mark.parametrize("name", SCALARS)
def test_scalars_are_treated_as_by_numpys_loops_for_them(name: str, char: str) -> None:
    chars, given = SCALARS[name]
    dtype = numpy.dtype(char)
    case = BY_NAME[name], (dtype,) * len(chars), dtype
    body = body_of(*case, frozenset(range(1, len(chars))))
    assert isinstance(body, Body)
    general = body_of(*case)
    assert isinstance(general, Body)
    assert (body.symbol == general.symbol) == (char == "e")
    x = special(dtype)
    loops = Loops([(case, body)])
    for values in given:
        scalars = [dtype.type(value) for value in values]
        ours = loops.run(body, [x, *[numpy.full_like(x, s) for s in scalars]], dtype)
        distance = apart(ours, by_numpy(case, [x, *scalars]))
        assert distance.max() <= (8 if body.function else 0), (values, x[distance.argmax()])


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


#: Units in the last place that functions written into the loop may be off, with fused
#: multiply-add and without.
LIMITS = {"exp": 1.2, "exp2": 1.25, "expm1": 1.5, "log": 0.95, "tanh": 1.75, "power": 1.5}


def _bent(name: str, dtype: Dtype, n: int) -> list[numpy.ndarray]:
    """Arguments whose results are neither zero nor infinite, where the series change."""
    rng = numpy.random.default_rng(17)
    f = numpy.finfo(dtype)
    top = {"log": math.inf, "exp2": f.maxexp, "tanh": 22.0}.get(name, math.log(f.max))
    with numpy.errstate(all="ignore"):
        if name == "power":
            x = 2.0 ** numpy.concatenate([rng.uniform(-2, 2, n), rng.uniform(f.minexp, 100, n)])
            return [x.astype(dtype), (rng.uniform(-1, 1, 2 * n) * top / numpy.log(x)).astype(dtype)]
        halves = (numpy.arange(n) - n // 2 + 0.5) * (1.0 if name == "exp2" else math.log(2))
        sign, near = rng.choice([-1.0, 1.0], n), 1 + rng.uniform(-1e-4, 1e-4, n)
        far = rng.uniform(0, min(top, 700), n)
        sets = [rng.uniform(-1, 1, n), halves, halves * 0.5, far, -far,
                2.0 ** rng.uniform(f.minexp - f.nmant, min(f.maxexp, 1000), n),
                1 + sign * 2.0 ** rng.uniform(-f.nmant, -1, n),
                math.sqrt(2) * 2.0 ** rng.integers(-50, 50, n) * near]  # fmt: skip
        x = numpy.concatenate(sets).astype(dtype)
        return [numpy.abs(x) if name == "log" else x[numpy.abs(x) <= top]]


@compiled
@more_digits
@pytest.mark.parametrize("char", "fd")
@pytest.mark.parametrize("name", SERIES)
def test_functions_written_into_the_loop_are_accurate(name: str, char: str) -> None:
    row, dtype = BY_NAME[name], numpy.dtype(char)
    more: Any = numpy.float64 if char == "f" else numpy.longdouble
    case = row, (dtype,) * row.nin, dtype
    body = body_of(*case)
    assert isinstance(body, Body)
    operands = _bent(name, dtype, 1 << 13)
    with numpy.errstate(all="ignore"):
        ours = Loops([(case, body)]).run(body, operands, dtype)
        exact = row.ufunc(*(o.astype(more) for o in operands))
        rounded = exact.astype(dtype)
        finite = numpy.isfinite(rounded) & numpy.isfinite(ours)
        error = numpy.abs(ours - exact) / numpy.abs(numpy.spacing(rounded))
    assert finite.mean() > 0.9
    assert error[finite].max() <= LIMITS[name]


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
@pytest.mark.parametrize("char", "efdi")
@pytest.mark.parametrize("name", SERIES)
def test_functions_written_into_the_loop_are_vectorised(name: str, char: str) -> None:
    row, operands = BY_NAME[name], (numpy.dtype(char),) * BY_NAME[name].nin
    result = row.ufunc.resolve_dtypes((*operands, None))[-1]
    if result.kind != "f":
        pytest.skip("powers of integers are integers")
    body = body_of(row, operands, result)
    assert isinstance(body, Body)
    case = (row, operands, result), body
    assert not body.calls
    assert not are_risky(module_text([case], lanes=4)), "it would be compiled twice"
    text = str(optimised([case]).get_function(f"loop_{body.symbol}"))
    assert re.search(r"@llvm\.fmuladd\.v\d+f", text)


@compiled
@pytest.mark.parametrize("name", CALLED)
def test_functions_are_called_for_whole_vectors(name: str) -> None:
    if isinstance(HOST, str) or not HOST.simd_math:
        pytest.skip("this machine has no SIMD functions")
    text, body = _loop_of(name, "d" * BY_NAME[name].nin, "d")
    assert re.search(rf"call <\d+ x double> @_ZGV\w+_{body.calls[0]}\(", text)


@compiled
@pytest.mark.parametrize("char", "?bhiBHIef")
@pytest.mark.parametrize("name", CALLED)
def test_functions_of_other_dtypes_are_called_for_whole_vectors(
    name: str, char: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """LLVM knows better, as ``ldexp`` for ``exp2`` of integers, which is no call of vectors."""
    if isinstance(HOST, str) or not HOST.simd_math:
        pytest.skip("this machine has no SIMD functions")
    row, operands = BY_NAME[name], (numpy.dtype(char),) * BY_NAME[name].nin
    result = row.ufunc.resolve_dtypes((*operands, None))[-1]
    body = body_of(row, operands, result)
    assert isinstance(body, Body)
    if not body.calls:  # powers of integers
        return
    case = (row, operands, result), body
    lanes = 8 if body.calls[0].endswith("f") else 4
    assert not are_risky(module_text([case], lanes=lanes)), "it would be compiled twice"
    text = str(optimised([case], lanes=lanes).get_function(f"loop_{body.symbol}"))
    assert re.search(rf"call <{lanes} x \w+> @_ZGV\w+_{body.calls[0]}\(", text)
    assert capfd.readouterr().err == ""


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
