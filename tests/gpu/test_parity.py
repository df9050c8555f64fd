"""On the device every elementwise row gives NumPy's answer: dtypes, special values, layouts.

Rows of the same operands are computed by one kernel, since compiling takes most of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import Answer, ask, differ, genuine, mode, ours, plain, report, same
from dispatcharr.ops.bodies import Body, body_of
from dispatcharr.ops.row import Elementwise
from on_device import (
    AT_ONCE,
    VIRTUAL,
    able,
    compare_all,
    comparison,
    fewer,
    on_device,
    refusal,
    refused,
)  # fmt: skip
from rows import FUNCTIONS, SINGLE, accepts, few_dtypes, same_dtypes
from samples import DTYPES, LAYOUTS, OVERLAPS, filled, pairs, specials

pytestmark = pytest.mark.gpu

ROWS = list(SINGLE.values())
#: Operands of one kernel are few enough for it to compile in a second or two.
BATCH = 16
MIXED = ("df", "dl", "fb", "lB", "ei", "?d", "Dl", "Qq", "Fd", "Hf", "bB", "eH")
#: Layouts of which nothing is planned, or not both operands.
BY_NUMPY = {"big-endian", "0-d", "misaligned", "misaligned 2-d", "empty", "empty 2-d"}
#: Rows that compiled kernels of the host run, and those of the device do not.
HOST_ONLY: dict[str, str] = {}


def batches(rows: Sequence[Elementwise]) -> Iterator[Sequence[Elementwise]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


@pytest.mark.parametrize("char", fewer("dflB?Fe" + "bhHiILqQD", 5))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_special_values(char: str, count: int) -> None:
    wrong: list[str] = []
    several = [char * count, "?" + char * 2] if count == 3 else [char * count]
    for chars in dict.fromkeys(several):
        operands = pairs(*chars)
        for few in batches(able(ROWS, chars)):
            compare_all(few, operands, [ours(o) for o in operands], chars, wrong)
    report(wrong)


@pytest.mark.parametrize("chars", fewer(MIXED, 3))
def test_special_values_of_mixed_dtypes(chars: str) -> None:
    wrong: list[str] = []
    for given in (chars, chars[::-1]):
        operands = pairs(*given)
        for few in batches(able(ROWS, given)):
            compare_all(few, operands, [ours(o) for o in operands], given, wrong)
    report(wrong)


def cases() -> Iterator[tuple[Elementwise, str]]:
    for row in ROWS:
        for chars in same_dtypes(row):
            yield row, chars


def test_what_is_compiled_for_the_host_runs_on_the_device() -> None:
    wrong = []
    for row, chars in cases():
        why = refused(row, chars)
        if why == AT_ONCE and row.refuses is not None:
            continue  # values decide whether NumPy raises an error
        with numpy.errstate(all="ignore"):
            result = numpy.asarray(getattr(numpy, row.name)(*[numpy.ones(3, c) for c in chars]))
        body = body_of(row, tuple(map(numpy.dtype, chars)), result.dtype)
        if isinstance(body, Body) and why is not None and row.name not in HOST_ONLY:
            wrong.append(f"{row.name}, {chars}: {why}")
        if row.name in HOST_ONLY and why is None:
            wrong.append(f"{row.name}, {chars}: it runs, and is listed as one that does not")
    report(wrong)


def test_refusals_are_sentences() -> None:
    told = {(row.name, chars): refused(row, chars) for row, chars in cases()}
    wrong = [f"{case}: {why!r}" for case, why in told.items() if why is not None and " " not in why]
    assert sum(why is None for why in told.values()) > len(told) / 2
    report(wrong)


@pytest.mark.parametrize("name", ["a < b", "-a", "a * b + 1"])
def test_a_refused_dtype_is_computed_by_numpy(name: str) -> None:
    a, b = numpy.arange(4, dtype=numpy.longdouble), numpy.ones(4, numpy.longdouble)
    with mode("cuda", "deferred"):
        found = plain(eval(name, {"a": ours(a), "b": ours(b)}))
    assert same(found, eval(name, {"a": a, "b": b})) is None


def test_casts() -> None:
    """From every dtype to every other one, of values that both have."""
    wrong: list[str] = []
    for char in fewer("dlfBe?FhHiIbLqQD", 4):
        targets = [c for c in DTYPES if not (char in "FD" and c not in "FD")]
        values = specials(char)
        runs = [c for c in targets if refusal(lambda x, c=c: x.astype(c), values[:3]) is None]
        if char in "efdFD":  # beyond what integers hold, processors differ
            values = values[numpy.isfinite(values) & (abs(values) < 100) & (values.real >= 0)]
        if not runs:
            continue
        mine = ours(values)
        with on_device():
            found = [mine.astype(c) for c in runs]
            np.evaluate(*found)
        for c, result in zip(runs, found, strict=True):
            with numpy.errstate(all="ignore"):
                wanted = values.astype(c)
            reason = same(plain(result), wanted)
            if reason:
                wrong.append(f"{char} to {c}: {reason}")
    report(wrong)


@pytest.mark.parametrize("char", fewer("dlfB?De", 2))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, char: str) -> None:
    shape, view = LAYOUTS[layout]
    names = ("logical_or", "maximum") if char == "?" else ("add", "multiply")
    rows = [SINGLE[name] for name in names]
    wrong: list[str] = []
    bases = [filled(char, shape, seed) for seed in range(2)]
    seen = view(numpy.zeros(shape)) if shape else numpy.zeros(())
    others = [filled(char, seen.shape, 5), filled(char, seen.shape[-1:], 9)]
    for name, make in {
        "both": lambda use: [view(use(base)) for base in bases],
        "left": lambda use: [view(use(bases[0])), use(others[0])],
        "right, a row": lambda use: [use(others[1]), view(use(bases[1]))],
    }.items():
        theirs, mine = make(lambda x: x), make(ours)
        elsewhere = layout in BY_NUMPY
        compare_all(rows, theirs, mine, f"{char}, {layout}, {name}", wrong, elsewhere)
    report(wrong)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_views_of_the_same_memory(overlap: str) -> None:
    wrong: list[str] = []
    base = filled("d", 40)
    mine = ours(base)
    rows = [SINGLE["add"], SINGLE["less"]]
    compare_all(rows, OVERLAPS[overlap](base), OVERLAPS[overlap](mine), overlap, wrong)
    report(wrong)


SIZES = (1, 2, 3, 7, 31, 32, 33, 255, 256, 257, 1023, 1025, 4097, 100_003, (300, 257), (3, 1, 5))


@pytest.mark.parametrize("char", "dfB")
def test_sizes(char: str) -> None:
    """Ends of vectors, warps, blocks and grids."""
    wrong: list[str] = []
    rows = [SINGLE["add"], SINGLE["equal"]]
    for shape in SIZES:
        operands = [filled(char, shape, seed) for seed in range(2)]
        mine = [ours(operand) for operand in operands]
        compare_all(rows, operands, mine, f"{char}, {shape}", wrong)
        if type(shape) is int:  # operands that do not begin where vectors do
            rest = [operand[1:] for operand in operands]
            if rest[0].size:
                compare_all(rows, rest, [m[1:] for m in mine], f"{char}, {shape}[1:]", wrong)
    report(wrong)


def test_many_blocks() -> None:
    size = 100_003 if VIRTUAL else 70_000_001
    a = numpy.arange(size, dtype="i4")
    with on_device():
        found = np.evaluate(ours(a) * 3 + 1)
    assert numpy.array_equal(found.to_numpy(), a * 3 + 1)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 2)])
def test_nothing_at_all(shape: tuple[int, ...]) -> None:
    with mode("cuda", "deferred"):
        found = np.evaluate(ours(numpy.ones(shape)) + 1)
    assert found.shape == shape
    assert found.dtype == float


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_warnings(row: Elementwise) -> None:
    """Division by zero, overflow and invalid values are told as NumPy tells them."""
    wrong = []
    for chars in fewer([c for c in few_dtypes(row) if refused(row, c) is None], 1):
        operands = pairs(*chars)
        wanted = ask(getattr(numpy, row.name), *operands)
        mine = [ours(operand) for operand in operands]
        with on_device("at once", quiet=False):
            got = ask(genuine(getattr(np, row.name)), *mine)
        close = comparison(row, operands)
        reason = differ(got, wanted, often=False, owning=False, close=close)
        if reason:
            wrong.append(f"{chars}: {reason}")
    report(wrong)


def test_scalars_are_operands() -> None:
    x = filled("d", 50)
    scalars = [2, 0.1, True, numpy.float32(1.5), numpy.array(3.0), -0.0, float("inf")]
    for scalar in scalars:
        with on_device():
            found = np.evaluate(ours(x) * scalar, ours(x) - scalar)
        with numpy.errstate(all="ignore"):
            assert same(plain(found[0]), x * scalar) is None
            assert same(plain(found[1]), x - scalar) is None


def test_one_kernel_serves_all_scalars(device: Any) -> None:
    x = ours(filled("d", 64))
    with on_device() as record:
        for scalar in (1.25, 7.5, -3.0):
            np.evaluate(x * scalar + scalar)
    assert len({id(one.region) for one in record.records}) == 1


@pytest.mark.parametrize("make", [
    lambda use: use.arange(1000) * 2.0,
    lambda use: use.linspace(0.0, 1.0, 777) + 1,
    lambda use: use.full(300, 2.5) * use.ones(300),
    lambda use: use.zeros((7, 9)) - 1,
])  # fmt: skip
def test_generators(make: Callable[[Any], Any]) -> None:
    with mode("cuda", "deferred"):
        found = plain(np.evaluate(make(np)))
    assert same(found, make(numpy)) is None


EXPRESSIONS: dict[str, Callable[..., Any]] = {
    "polynomial": lambda use, a, b: 2 * a + 3 * b - a * b,
    "trigonometry": lambda use, a, b: use.sin(a) ** 2 + use.cos(b) ** 2,
    "distance": lambda use, a, b: use.sqrt(a * a + b * b),
    "selection": lambda use, a, b: use.where(a > b, a, b) * 2,
    "clipped": lambda use, a, b: use.clip(a - b, -0.5, 0.5),
    "broadcast": lambda use, a, b: a[:, None] * b[None, :] - a[:, None],
    "mixed": lambda use, a, b: (a * 10).astype("i4") // 3 + (b > 1),
    "stencil": lambda use, a, b: a[:-2] + a[2:] - 2 * a[1:-1] + b[1:-1],
}


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("char", "df")
def test_expressions(name: str, char: str) -> None:
    a, b = (numpy.random.default_rng(seed).random(257).astype(char) + 0.25 for seed in range(2))
    compute = EXPRESSIONS[name]
    wanted = compute(numpy, a, b)
    with on_device():
        found = plain(np.evaluate(compute(np, ours(a), ours(b))))
    reason = differ(
        Answer(found, None, ()),
        Answer(wanted, None, ()),
        owning=False,
        close=lambda got, wanted: (
            None
            if numpy.allclose(got, wanted, rtol=32 * numpy.finfo(char).eps, atol=0)
            else f"{got} instead of {wanted}"
        ),
    )
    assert reason is None
    if name in ("polynomial", "distance", "selection", "broadcast", "stencil", "mixed"):
        assert same(numpy.atleast_1d(found), numpy.atleast_1d(wanted)) is None


def test_every_row_is_tried() -> None:
    tried = {row.name for row, chars in cases() if accepts(row.name, chars)}
    assert tried == {name for name, row in FUNCTIONS.items() if row.nout == 1}
