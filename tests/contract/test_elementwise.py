"""Every elementwise row gives NumPy's answer: dtypes, special values, layouts, sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import BACKENDS, FEWER, MODES, Answer, ask, differ, genuine, mode, ours, report
from dispatcharr.ops.row import Elementwise
from rows import (
    FUNCTIONS,
    SINGLE,
    both,
    few_dtypes,
    mixed_dtypes,
    promised,
    refused_dtypes,
    same_dtypes,
)
from samples import LAYOUTS, OVERLAPS, filled, pairs, specials, tame


def each(rows: dict[str, Elementwise]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows.values(), ids=list(rows))


ROWS, PLANNED = each(FUNCTIONS), each(SINGLE)
SEVERAL = each({name: row for name, row in FUNCTIONS.items() if row.nin > 1})
Case = tuple[str, tuple[Any, ...]]


def check(row: Elementwise, cases: Iterator[Case], modes: Any = MODES) -> None:
    """Ask NumPy once and us in every mode; fail with all that differs."""
    function, numpys = both(row)
    wrong = []
    for name, operands in cases:
        wanted = ask(numpys, *operands)
        mine = [ours(operand) for operand in operands]
        for backend, way in modes:
            with mode(backend, way):
                got = ask(genuine(function), *mine)
            reason = differ(got, wanted, close=promised(row))
            if reason:
                wrong.append(f"{backend}, {way}, {name}: {reason}")
    report(wrong)


@ROWS
def test_special_values_of_equal_dtypes(row: Elementwise) -> None:
    check(row, ((chars, pairs(*chars)) for chars in same_dtypes(row)))


@ROWS
def test_special_values_of_mixed_dtypes(row: Elementwise) -> None:
    check(row, ((chars, pairs(*chars)) for chars in mixed_dtypes(row)), [("serial", "deferred")])


@pytest.mark.slow
@ROWS
def test_special_values_of_mixed_dtypes_in_every_mode(row: Elementwise) -> None:
    check(row, ((chars, pairs(*chars)) for chars in mixed_dtypes(row)))


@ROWS
def test_dtypes_that_numpy_refuses(row: Elementwise) -> None:
    cases = ((chars, tuple(tame(char, 5) for char in chars)) for chars in refused_dtypes(row))
    check(row, cases, FEWER)


@ROWS
def test_dtypes_that_are_not_planned(row: Elementwise) -> None:
    others = (
        numpy.array([1, 2, 3], object), numpy.array(["a", "b", "c"]),
        numpy.array(["2020-01-01", "NaT", "2021-02-03"], "M8[D]"),
        numpy.array([1, 5, -3], "m8[s]"), numpy.array([1, 2, 3], numpy.longdouble),
        numpy.array([(1, 2.0)] * 3, "i4,f8"),
    )  # fmt: skip
    one = numpy.arange(3.0)

    def cases() -> Iterator[Case]:
        for other in others:
            yield str(other.dtype), (other,) * row.nin
            if row.nin == 2:
                yield f"{other.dtype}, float64", (other, one)
                yield f"float64, {other.dtype}", (one, other)

    check(row, cases(), FEWER)


def scalars(char: str) -> list[Any]:
    """Return scalars of every sort that meet an array of dtype ``char``."""
    python = [True, 0, 1, 2, -1, 127, 300, 2**40, 2**70, 0.5, -0.0, 1e300, float("nan"), 2j]
    numpys = [numpy.float32(1.5), numpy.float64(0.1), numpy.int8(-3), numpy.uint64(2**63),
              numpy.bool_(True), numpy.complex64(1 + 2j), numpy.float16(6e4)]  # fmt: skip
    zero_d = [numpy.array(3.0), numpy.array(2, "b"), numpy.array(specials(char)[1])]
    return [*python, *numpys, *zero_d]


@ROWS
def test_scalars(row: Elementwise) -> None:
    def cases() -> Iterator[Case]:
        chars = "?Bldfe" if row.nin == 2 else "fdB" if row.nin == 3 else "d"
        for char in chars:
            array = specials(char)
            for scalar in scalars(char):
                name = f"{char}, {type(scalar).__name__} {scalar!r}"
                if row.nin == 1:
                    yield name, (scalar,)
                elif row.nin == 2:
                    yield name, (array, scalar)
                    yield f"{name} on the left", (scalar, array)
                else:
                    yield name, (array, scalar, array)
                    yield f"{name}, twice", (array, scalar, scalar)
                    yield f"{name} first", (scalar, array, array[::-1])

    check(row, cases(), [("serial", "deferred")])


def layouts(row: Elementwise, chars: str) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Return, per layout, what makes the operands of a module's arrays."""
    for name, (shape, view) in LAYOUTS.items():
        bases = [filled(char, shape, seed) for seed, char in enumerate(chars)]
        seen = numpy.zeros(shape) if shape == () else view(numpy.zeros(shape))
        others = [filled(char, seen.shape, seed + 5) for seed, char in enumerate(chars)]
        rows = [filled(char, seen.shape[-1:], seed + 9) for seed, char in enumerate(chars)]
        yield name, lambda use, b=bases, v=view: [v(use(x)) for x in b]
        if row.nin > 1:
            for place in range(row.nin):
                for what, rest in (("plain", others), ("a row", rows)):
                    yield (
                        f"{name} at {place}, {what}",
                        (
                            lambda use, b=bases, r=rest, v=view, p=place: [
                                v(use(x)) if i == p else use(r[i]) for i, x in enumerate(b)
                            ]
                        ),
                    )


def check_made(
    row: Elementwise, made: Iterator[tuple[str, Callable[[Any], Any]]], modes: Any = MODES
) -> None:
    """As :func:`check`, for operands that are views of a module's own arrays."""
    function, numpys = both(row)
    wrong = []
    for name, make in made:
        wanted = ask(numpys, *make(lambda x: x))
        mine = make(ours)
        for backend, way in modes:
            with mode(backend, way):
                got = ask(genuine(function), *mine)
            reason = differ(got, wanted, close=promised(row))
            if reason:
                wrong.append(f"{backend}, {way}, {name}: {reason}")
    report(wrong)


@ROWS
def test_layouts(row: Elementwise) -> None:
    chars = few_dtypes(row, 1)[0]
    check_made(row, layouts(row, chars), FEWER)


@pytest.mark.slow
@ROWS
def test_layouts_of_more_dtypes_in_every_mode(row: Elementwise) -> None:
    for chars in few_dtypes(row):
        check_made(row, layouts(row, chars))


@SEVERAL
def test_views_of_the_same_memory(row: Elementwise) -> None:
    def made() -> Iterator[tuple[str, Callable[[Any], Any]]]:
        for chars in few_dtypes(row):
            base = filled(chars[0], 40)
            for name, views in OVERLAPS.items():
                yield (
                    f"{chars}, {name}",
                    lambda use, b=base, v=views: [*v(use(b)), b[:1]][: row.nin],
                )

    check_made(row, made())


#: Around the edges of blocks (16384 elements of 8 bytes) and of chunks, and grids.
SHAPES = [1, 15, 16383, 16384, 16385, 3 * 16384 + 7, (300, 257)]


@ROWS
def test_sizes_around_block_edges(row: Elementwise) -> None:
    chars = few_dtypes(row, 1)[0]
    cases = (
        (f"{chars}, {shape}", tuple(filled(char, shape, i) for i, char in enumerate(chars)))
        for shape in SHAPES
    )
    check(row, cases, [(backend, "at once") for backend in BACKENDS])


def fused(function: Callable[..., Answer], use: Any) -> Callable[..., Any]:
    """Return a program of one kernel in which the row's result is only ever a temporary."""

    def program(*operands: Any) -> Any:
        first = function(*operands)
        return use.where(use.logical_not(first), first, function(*operands))

    return program


@PLANNED
def test_fused_with_neighbours(row: Elementwise) -> None:
    function, numpys = both(row)
    wrong = []
    for chars in few_dtypes(row):
        for shape in (40, (7, 11), 2 * 16384 + 5, (150, 257)):
            operands = [filled(char, shape, i) for i, char in enumerate(chars)]
            mine = [ours(operand) for operand in operands]
            if type(shape) is tuple:
                operands, mine = [x.T for x in operands], [x.T for x in mine]
            wanted = ask(fused(numpys, numpy), *operands)
            for backend in BACKENDS:
                with mode(backend, "deferred"):
                    got = ask(fused(function, np), *mine)
                reason = differ(got, wanted, close=promised(row), often=False)
                if reason:
                    wrong.append(f"{backend}, {chars}, {shape}: {reason}")
    report(wrong)
