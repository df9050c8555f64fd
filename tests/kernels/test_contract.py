"""Compiled contractions give NumPy's bits: every dtype, layout, block and width of vectors."""

from __future__ import annotations

import itertools
from typing import Any

import numpy
import pytest

from dispatcharr.kernels import contract, native
from dispatcharr.kernels.build import Builder
from dispatcharr.kernels.contract import Key, prepare
from dispatcharr.kernels.contract_kind import Kind, kind_of
from dispatcharr.kernels.contract_tiles import tiles_text

pytestmark = pytest.mark.skipif(
    native.missing() is not None, reason=f"no compiler here: {native.missing()}"
)

INTEGERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
#: Operands and results whose kinds differ.
COMBINATIONS = (
    *[(code, code, code) for code in INTEGERS], ("?", "?", "?"), ("i1", "i1", "i4"),
    ("u1", "i1", "i4"), ("i1", "u1", "i4"), ("u1", "u1", "u4"), ("i2", "i2", "i4"),
    ("u2", "u2", "i4"), ("i1", "i8", "i8"), ("?", "i1", "i1"), ("u1", "i4", "i8"),
)  # fmt: skip
SHAPES = (
    ((3, 4), (4, 5)), ((12, 32), (32, 32)), ((13, 33), (33, 65)), ((70, 1100), (1100, 40)),
    ((300, 9), (9, 600)), ((1, 300), (300, 70)), ((70, 300), (300, 1)), ((1, 9), (9, 1)),
    ((2, 3, 7, 6), (3, 6, 5)), ((300, 3, 4), (300, 4, 3)), ((50, 1, 9), (50, 9, 1)),
    ((4, 30, 5), (4, 5, 1)), ((2, 100, 100), (2, 100, 100)), ((64, 1), (1, 64)),
)  # fmt: skip
_builder = Builder(None)


def kernel(key: Key) -> Any:
    address = _builder.ask(key, key.text, buy=True)
    if address is None:
        assert _builder.wait(100)
        address = _builder.ask(key, key.text)
    assert address is not None, _builder.why_not(key)
    return address


def values(code: str, shape: tuple[int, ...], seed: int = 0) -> numpy.ndarray:
    """Return numbers of the whole range, so that sums wrap around; few bools are true."""
    made = numpy.random.default_rng(seed)
    if code == "?":
        return made.random(shape) < 0.05
    known = numpy.iinfo(code)
    return made.integers(known.min, known.max, shape, dtype=code, endpoint=True)


def contracted(
    a: numpy.ndarray, b: numpy.ndarray, code: str, threads: int = 2, order: str = "C"
) -> numpy.ndarray | None:
    outer = numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = numpy.broadcast_to(a, outer + a.shape[-2:])
    b = numpy.broadcast_to(b, outer + b.shape[-2:])
    c: numpy.ndarray = numpy.empty((*a.shape[:-1], b.shape[-1]), code, order=order)  # type: ignore[call-overload]
    job = prepare(a, b, c, threads)
    if job is None:
        return None
    job.run(kernel(job.key), threads)
    return c


def expected(a: numpy.ndarray, b: numpy.ndarray, code: str) -> numpy.ndarray:
    made: numpy.ndarray = numpy.matmul(a, b, dtype=code, casting="unsafe")  # type: ignore[call-overload]
    return made


def across(array: numpy.ndarray) -> numpy.ndarray:
    """Return the same values, contiguous along the last axis but one."""
    return array.swapaxes(-1, -2).copy().swapaxes(-1, -2)


def spread(array: numpy.ndarray) -> numpy.ndarray:
    """Return the same values, contiguous along no axis and backwards in memory."""
    wide = numpy.repeat(numpy.repeat(array, 2, axis=-1), 2, axis=-2)
    return wide[..., ::-2, ::-2][..., ::-1, ::-1]


@pytest.mark.parametrize("codes", COMBINATIONS, ids="-".join)
def test_results_are_those_of_numpy(codes: tuple[str, str, str]) -> None:
    left, right, code = codes
    for shapes in SHAPES:
        a, b = values(left, shapes[0]), values(right, shapes[1], seed=1)
        wanted = expected(a, b, code)
        for x, y in itertools.product((a, across(a)), (b, across(b))):
            got = contracted(x, y, code)
            if got is not None:
                numpy.testing.assert_array_equal(got, wanted, err_msg=f"{shapes}")
        assert contracted(a, across(b), code) is not None, shapes


@pytest.mark.parametrize("codes", COMBINATIONS, ids="-".join)
def test_operands_may_lie_in_memory_as_they_like(codes: tuple[str, str, str]) -> None:
    a, b = values(codes[0], (37, 70)), values(codes[1], (70, 41), seed=1)
    got = contracted(spread(a), spread(b), codes[2])
    numpy.testing.assert_array_equal(got, expected(a, b, codes[2]))  # type: ignore[arg-type]
    got = contracted(a[::-1], b[:, ::-1], codes[2])
    wanted = expected(a[::-1], b[:, ::-1], codes[2])
    numpy.testing.assert_array_equal(got, wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("codes", COMBINATIONS, ids="-".join)
def test_the_result_may_be_in_fortran_order(codes: tuple[str, str, str]) -> None:
    a, b = values(codes[0], (37, 70)), values(codes[1], (70, 41), seed=1)
    got = contracted(a, b, codes[2], order="F")
    numpy.testing.assert_array_equal(got, expected(a, b, codes[2]))  # type: ignore[arg-type]


@pytest.mark.parametrize("features", ["+avx2,+avxvnni", "+avx2", "+sse2", "none"])
@pytest.mark.parametrize("codes", [*COMBINATIONS[:9], ("i1", "i1", "i4"), ("i2", "i2", "i4")])
def test_other_vectors_and_instructions_give_the_same(
    codes: tuple[str, str, str], features: str
) -> None:
    host = native.host()
    assert isinstance(host, native.Host)
    # Only what this machine can run: the text may say more.
    for feature in features.replace("none", "").split(","):
        if feature and feature not in host.features.split(","):
            features = "none"
    width = 32 if features.startswith("+avx2") and host.vector_bytes >= 32 else 16
    a, b = values(codes[0], (37, 1100)), values(codes[1], (1100, 41), seed=1)
    c = numpy.empty((37, 41), codes[2])
    job = prepare(a, b, c, 1)
    assert job is not None
    key = (job.key, features)
    address = _builder.ask(key, lambda: tiles_text(job.key.kind, width, features), buy=True)
    if address is None:
        assert _builder.wait(100)
        address = _builder.ask(key, str)
    assert address is not None, _builder.why_not(key)
    job.run(address, 1)
    numpy.testing.assert_array_equal(c, expected(a, b, codes[2]))


@pytest.mark.parametrize("code", INTEGERS)
def test_the_extremes_wrap_around(code: str) -> None:
    known = numpy.iinfo(code)
    for left, right in itertools.product((known.min, known.max), repeat=2):
        a = numpy.full((20, 3000), left, code)
        b = numpy.full((3000, 20), right, code)
        numpy.testing.assert_array_equal(contracted(a, b, code), expected(a, b, code))  # type: ignore[arg-type]
        if known.bits <= 16:
            numpy.testing.assert_array_equal(contracted(a, b, "i4"), expected(a, b, "i4"))  # type: ignore[arg-type]


def test_any_byte_that_is_not_zero_is_true() -> None:
    a = numpy.array([[0, 2], [0, 128], [0, 0]], "u1").repeat(20, axis=1).view(bool)
    b = numpy.array([[255, 0]], "u1").repeat(40, axis=0).view(bool)
    for x, y in itertools.product((a, across(a)), (b, across(b))):
        got = contracted(x, y, "?")
        assert got is not None
        assert got.view("u1").tolist() == [[1, 0], [1, 0], [0, 0]]
        assert contracted(x, y[:, :1].copy(), "?").tolist() == [[True], [True], [False]]  # type: ignore[union-attr]


@pytest.mark.parametrize("code", ["i4", "i1", "?"])
def test_a_long_sum_is_shared_out(code: str) -> None:
    a, b = values(code, (1, 400_003)), values(code, (400_003, 1), seed=1)
    if code == "?":  # only the last part has something true in it
        a[:, :-1], a[:, -1], b[-1] = False, True, True
    for threads in (1, 2, 3):
        got = contracted(a, b, code, threads)
        numpy.testing.assert_array_equal(got, expected(a, b, code))  # type: ignore[arg-type]


def test_blocks_do_not_depend_on_the_threads() -> None:
    a, b = values("i4", (530, 300)), values("i4", (300, 700), seed=1)
    wanted = expected(a, b, "i4")
    for threads in (1, 2, 5, 16):
        numpy.testing.assert_array_equal(contracted(a, b, "i4", threads), wanted)  # type: ignore[arg-type]


def test_nothing_beside_the_result_is_written() -> None:
    a, b = values("i4", (35, 50)), values("i4", (50, 45), seed=1)
    around = numpy.full((37, 47), 99, "i4")
    c = around[1:-1, 1:-1]
    job = prepare(a, b, c, 2)
    assert job is not None
    job.run(kernel(job.key), 2)
    numpy.testing.assert_array_equal(c, expected(a, b, "i4"))
    around[1:-1, 1:-1] = 99
    assert (around == 99).all()


@pytest.mark.parametrize(
    ("codes", "name"),
    [
        (("i1", "i1", "i1"), "bytes"), (("i1", "i1", "i4"), "bytes"), (("u1", "i1", "i4"), "bytes"),
        (("u1", "u1", "i4"), "pairs"), (("i2", "i1", "i4"), "pairs"), (("u2", "u2", "u4"), "plain"),
        (("?", "?", "?"), "bits"), (("i1", "i1", "i8"), "plain"),
    ],
)  # fmt: skip
def test_kinds(codes: tuple[str, str, str], name: str) -> None:
    found = kind_of(*map(numpy.dtype, codes))
    assert isinstance(found, Kind)
    assert found.name == name


@pytest.mark.parametrize("codes", ["f4 f4 f4", ">i4 >i4 >i4", "i4 i4 ?", "c8 i4 i4", "O i4 i4"])
def test_other_dtypes_have_no_kind(codes: str) -> None:
    assert kind_of(*map(numpy.dtype, codes.split())) is None


def test_what_has_no_kernel_is_refused() -> None:
    a, b = values("i4", (30, 40)), values("i4", (40, 30))
    apart = numpy.empty((60, 60), "i4")[::2, ::2]
    assert prepare(a, b, apart, 1) is None
    assert prepare(a[:0], b, numpy.empty((0, 30), "i4"), 1) is None
    assert prepare(spread(a), b[:, :1], numpy.empty((30, 1), "i4"), 1) is None


def test_memory_of_a_task_is_bounded() -> None:
    kind = Kind("plain", 4, 4)
    rows, columns = contract._BLOCK[0], contract._BLOCK[1] // 4
    assert sum(contract._room(rows + 12, columns + 32, 10**6, kind)) < 1 << 20
