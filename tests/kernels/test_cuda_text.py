"""Operations as CUDA C++: compiled for GPUs, and run on the CPU against NumPy.

What NumPy computes exactly has to agree bit for bit. The last bits of CUDA's functions cannot be
seen here: those of the C library stand for them.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy
import pytest

pytest.importorskip("llvmlite")

from body_loops import (
    PLANNED,
    QUICK,
    Case,
    apart,
    by_numpy,
    cases,
    columns,
    errors_by_numpy,
    special,
)
from cuda_cases import WATCHED, Kernels, missing, piece_of, region_of, text_of
from dispatcharr.devices import nvrtc
from dispatcharr.kernels.cuda_text import Piece, ctype, piece, scalars_of
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME, ELEMENTWISE
from dispatcharr.plan.region import Instruction, Layout
from test_bodies import FUNCTIONS, SCALARS, mixed

ROWS = [row for row in ELEMENTWISE if row.nout == 1]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
run_here = pytest.mark.skipif(missing() is not None, reason=str(missing()))
compiled_here = pytest.mark.skipif(nvrtc.find() is None, reason=nvrtc.MISSING)
#: Rows whose last bits are the C library's.
ROUGH = frozenset({*FUNCTIONS, "float_power"})
Found = list[tuple[Case, Piece]]


def pieces(row: Elementwise, chars: str, watch: frozenset[str] = WATCHED) -> Found:
    found = [(case, piece_of(case, watch)) for case in cases(row, chars)]
    return [(case, one) for case, one in found if isinstance(one, Piece)]


@cache
def all_pieces(chars: str) -> dict[str, Found]:
    return {row.name: pieces(row, chars) for row in ROWS}


@cache
def all_kernels(chars: str) -> Kernels:
    """One text for all rows: compiling it takes no longer than a few small ones."""
    return Kernels([one for found in all_pieces(chars).values() for one in found])


def check(found: Found, kernels: Kernels) -> None:
    for case, one in found:
        operands = columns(case)
        ours, _ = kernels.run(case, one, operands)
        with numpy.errstate(all="ignore"):
            theirs = by_numpy(case, operands)
        rough = case[0].name in ROUGH or (case[0].name, case[1][0].kind) in {
            ("absolute", "c"), ("sign", "c"),
        }  # fmt: skip
        distance = apart(ours, theirs)
        if (case[1][0].kind, case[2].str[1:]) in {("f", "u4"), ("c", "u4")}:
            # Beyond its range NumPy's result depends on where in the array an element lies.
            with numpy.errstate(all="ignore"):
                number = operands[0].real.astype("d")
            distance[(number < -(2.0**31)) | ~(number < 2.0**32)] = 0
        worst = int(distance.argmax()) // (len(distance) // len(ours))
        assert distance.max() <= (8 if rough and case[2].kind in "fc" else 0), (
            f"{case[0].name}{tuple(o[worst] for o in operands)}: {ours[worst]}, not {theirs[worst]}"
        )


def check_flags(found: Found, kernels: Kernels, few: int) -> None:
    for case, one in found:
        if platform.machine() not in {"x86_64", "AMD64"}:
            break  # what is undefined in C is different there, and so are flags
        operands = columns(case, few=few)
        _, flags = kernels.run(case, one, operands)
        for place, values in enumerate(zip(*operands, strict=True)):
            ours = {kind for bit, (kind, _) in enumerate(one.flags) if int(flags[place]) >> bit & 1}
            theirs = errors_by_numpy(case, values) & WATCHED
            assert ours == theirs, f"{case[0].name}{values}: {ours}, not {theirs}"


@each_row
def test_every_case_has_a_piece_or_a_sentence(row: Elementwise) -> None:
    found = [piece_of(case) for case in cases(row)]
    assert found
    for one in found:
        if isinstance(one, str):
            assert re.fullmatch(rf"{row.name} of \w+ is not compiled: [^.]+", one)
        else:
            assert "out0 = " in one.lines


def test_few_cases_have_no_piece() -> None:
    refused = {row.name for row in ROWS if not pieces(row, "bhilqBHILQ?efd")}
    assert refused == {"logaddexp", "logaddexp2"}


@run_here
@each_row
def test_pieces_compute_what_numpy_does(row: Elementwise) -> None:
    check(all_pieces(QUICK)[row.name], all_kernels(QUICK))


@run_here
@each_row
def test_pieces_report_what_numpy_does(row: Elementwise) -> None:
    check_flags(all_pieces(QUICK)[row.name], all_kernels(QUICK), 60)


@run_here
@pytest.mark.slow
@each_row
def test_all_dtypes_compute_and_report_what_numpy_does(row: Elementwise) -> None:
    found, kernels = all_pieces(PLANNED)[row.name], all_kernels(PLANNED)
    check(found, kernels)
    check_flags(found, kernels, 1500)


@run_here
@pytest.mark.parametrize("name", ["nextafter", "spacing", "add", "sqrt", "floor", "astype"])
def test_all_halves_are_computed_as_by_numpy(name: str) -> None:
    half = numpy.dtype("e")
    row = BY_NAME[name]
    every = numpy.arange(1 << 16, dtype=numpy.uint16).view("e")
    results = "efdhHlL" if name == "astype" else "e"
    found = [
        (case, one)
        for char in results
        for case in [(row, (half,) * row.nin, numpy.dtype(char))]
        if isinstance(one := piece_of(case), Piece)
    ]
    assert len(found) == len(results)
    kernels = Kernels(found)
    for case, one in found:
        for other in (every[::-1], numpy.full_like(every, 0.3)):
            operands = [every, other][: row.nin]
            ours, _ = kernels.run(case, one, operands)
            with numpy.errstate(all="ignore"):
                assert apart(ours, by_numpy(case, operands)).max() == 0


@run_here
def test_scalars_are_treated_as_by_numpys_loops_for_them() -> None:
    found = []
    for name, (chars, _) in SCALARS.items():
        for char in "efd":
            case = BY_NAME[name], (numpy.dtype(char),) * len(chars), numpy.dtype(char)
            one = piece_of(case, scalars=frozenset(range(1, len(chars))))
            assert isinstance(one, Piece)
            found.append((case, one))
    kernels = Kernels(found)
    for case, one in found:
        x = special(case[2])
        for values in SCALARS[case[0].name][1]:
            scalars = [case[2].type(value) for value in values]
            ours, _ = kernels.run(case, one, [x, *[numpy.full_like(x, s) for s in scalars]])
            with numpy.errstate(all="ignore"):
                theirs = by_numpy(case, [x, *scalars])
            distance = apart(ours, theirs)
            assert distance.max() <= (8 if case[0].name == "power" else 0), (values, x)


@run_here
@pytest.mark.parametrize(("step", "names"), [
    (11, ["add", "less", "divide", "where"]),
    pytest.param(1, ["add", "less", "equal", "divide", "floor_divide", "maximum", "where"],
                 marks=pytest.mark.slow),
])  # fmt: skip
def test_operands_are_cast_as_numpy_casts_them(step: int, names: Sequence[str]) -> None:
    found: Found = []
    for name in names:
        chosen = list(mixed(BY_NAME[name]))[::step]
        found += [(c, one) for c in chosen if isinstance(one := piece_of(c), Piece)]
    assert found
    with numpy.errstate(all="ignore"):
        check(found, Kernels(found))


def test_errors_that_nobody_asks_for_take_no_code() -> None:
    case = BY_NAME["divide"], (numpy.dtype("d"),) * 2, numpy.dtype("d")
    quiet, loud = piece_of(case, frozenset()), piece_of(case, frozenset({"overflow"}))
    assert isinstance(quiet, Piece)
    assert isinstance(loud, Piece)
    assert quiet.flags == ()
    assert "flags" not in quiet.lines
    assert loud.flags == (("overflow", "divide"),)
    assert "may underflow" in str(piece_of(case, frozenset({"underflow"})))
    assert isinstance(piece_of((BY_NAME["less"], *case[1:2], numpy.dtype("?")), WATCHED), Piece)


def test_operations_of_one_name_share_their_flags() -> None:
    double = numpy.dtype("d")
    source = region_of((BY_NAME["add"], (double, double), double))
    again = Instruction(BY_NAME["add"], (2, 2), (3,), (double,))
    one = piece(replace(source, program=(*source.program, again)), (3, 2), WATCHED, frozenset())
    assert isinstance(one, Piece)
    assert one.flags == (("overflow", "add"), ("invalid value", "add"))
    assert "const double out1" in one.lines


def test_what_is_the_same_twice_is_computed_once() -> None:
    double = numpy.dtype("d")
    source = region_of((BY_NAME["sin"], (double,), double))
    again = Instruction(BY_NAME["sin"], (0,), (2,), (double,))
    one = piece(replace(source, program=(*source.program, again)), (1, 2), WATCHED, frozenset())
    assert isinstance(one, Piece)
    assert one.lines.count("sin(") == 1


def test_inputs_of_one_element_are_scalars() -> None:
    double = numpy.dtype("d")
    source = region_of((BY_NAME["add"], (double, double), double))
    for shape, expected in [((), {1}), ((1,), {1}), ((1000,), set())]:
        layouts = (source.inputs[0], Layout(double, None, shape, True))
        assert scalars_of(replace(source, inputs=layouts)) == expected


def test_elements_have_types_of_their_size() -> None:
    assert [ctype(numpy.dtype(c)) for c in "?befdFD"] == [
        "unsigned char", "signed char", "Half", "float", "double", "Complex64", "Complex128",
    ]  # fmt: skip


@compiled_here
@pytest.mark.parametrize(("chars", "target"), [
    ("ldF", "sm_90"),
    *[pytest.param(PLANNED, target, marks=pytest.mark.slow)
      for target in ("sm_80", "sm_90", "sm_120")],
])  # fmt: skip
def test_all_texts_are_compiled_for_gpus(chars: str, target: str) -> None:
    compiler = nvrtc.Compiler(str(nvrtc.find()))
    every = [one for found in all_pieces(chars).values() for one in found]
    assert len(every) > 100
    for start in range(0, len(every), 400):
        text = text_of(every[start : start + 400])
        assert compiler.compile(text, target, "cases").startswith(b"\x7fELF")


def test_numbers_of_texts_are_exact() -> None:
    """Steps whose constants are no short decimals: written in hexadecimal digits."""
    double = numpy.dtype("d")
    one = piece_of((BY_NAME["degrees"], (double,), double))
    assert isinstance(one, Piece)
    assert (180.0 / math.pi).hex() in one.lines
