"""``where`` on conditions of every kind: it takes other ways for those that are hard to foresee."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.ops.masks import changes
from dispatcharr.ops.table import BY_NAME

SIZE = 70_000


def conditions(size: int) -> dict[str, numpy.ndarray]:
    """Return conditions from the easiest to the hardest."""
    random = numpy.random.default_rng(2).random(size)
    places = numpy.arange(size)
    return {
        "all": places >= 0,
        "none": places < 0,
        "halves": places > size // 2,
        "runs of 50": places // 50 % 2 == 0,
        "a tenth": random < 0.1,
        "half": random < 0.5,
        "every other": places % 2 == 0,
    }


@pytest.mark.parametrize("kind", conditions(4))
@pytest.mark.parametrize("char", "dfeqilhB?DF")
@pytest.mark.parametrize("size", [5, SIZE])
def test_values_and_bits(kind: str, char: str, size: int) -> None:
    random = numpy.random.default_rng(3)
    bits = random.integers(0, 2, size * numpy.dtype(char).itemsize, "B")
    x = (bits if char == "?" else bits * 127).view(char)[:size]
    y = x[::-1].copy()
    mask = conditions(size)[kind]
    for mode in ("auto", "always"):
        with np.dispatch_options(defer=mode):
            for a, b in ((x, y), (x, y[:1]), (x[::-1], y)):
                got = np.where(np.array(mask), np.array(a), np.array(b))
                wanted = numpy.where(mask, a, b)
                assert numpy.asarray(got).tobytes() == wanted.tobytes()
            got = np.where(np.array(mask), np.array(x), 1)
            numpy.testing.assert_array_equal(got, numpy.where(mask, x, 1), strict=True)


@pytest.mark.parametrize("kind", conditions(4))
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("char", "df?D")
def test_the_output_may_be_an_operand(kind: str, place: int, char: str) -> None:
    random = numpy.random.default_rng(4)
    mask = conditions(SIZE)[kind]
    x, y = ((random.random(SIZE) * 3).astype(char) for _ in range(2))
    wanted = [mask.copy(), x.copy(), y.copy()]
    wanted[place][...] = numpy.where(mask, x, y)
    with np.dispatch_options(defer="always"), numpy.errstate(all="ignore"):
        ours: list[Any] = [np.array(mask), np.array(x), np.array(y)]
        if ours[place].dtype.kind == "b" and char == "D":
            return  # NumPy warns of what is lost
        ours[place][...] = np.where(*ours)
    numpy.testing.assert_array_equal(ours[place], wanted[place], strict=True)


def test_rows_of_tables_and_broadcast_conditions() -> None:
    random = numpy.random.default_rng(5)
    x, y = random.random((2, 300, 400))
    for mask in (
        random.random((300, 400)) < 0.5,
        random.random(400) < 0.5,
        random.random((300, 1)) < 0.5,
    ):
        with np.dispatch_options(defer="always"):
            for a, b in ((x, y), (x.T.copy().T, y), (x, y[0])):
                got = np.where(np.array(mask), np.array(a), np.array(b))
                numpy.testing.assert_array_equal(got, numpy.where(mask, a, b), strict=True)


def test_changes_are_those_of_the_whole() -> None:
    for kind, share in {
        "all": 0,
        "halves": 0,
        "runs of 50": 0.02,
        "half": 0.5,
        "every other": 1,
    }.items():
        assert changes(conditions(SIZE)[kind]) == pytest.approx(share, abs=0.05), kind
    assert changes(numpy.array(True)) == changes(numpy.zeros((0, 3), bool)) == 0
    assert BY_NAME["where"].fill is not None
