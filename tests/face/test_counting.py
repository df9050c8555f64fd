"""``count_nonzero``: whatever way each dtype is counted by, the number is NumPy's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import limits
from dispatcharr.kernels import blocks
from dispatcharr.ops.reductions import REDUCTION_BY_NAME

CHARS = "?bBhHiIlLefdFD"
ROW = REDUCTION_BY_NAME["count_nonzero"]


def values(char: str, size: int = 40_000) -> numpy.ndarray:
    """Return what counts and what does not, the smallest, the signed zero and NaN among it."""
    random = numpy.random.default_rng(5)
    made = random.integers(-2, 3, size).astype(char)
    if made.dtype.kind in "fc":
        least = numpy.finfo(char).smallest_subnormal
        made[:6] = [0.0, -0.0, numpy.nan, -numpy.inf, least, -least]
    if made.dtype.kind == "c":
        made[6:9] = [1j, complex(-0.0, -0.0), complex(0, numpy.nan)]
    return made


@pytest.mark.parametrize("char", CHARS)
def test_every_dtype_and_layout(char: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "PLAIN_REDUCE_ELEMENTS", 1000)
    flat = values(char)
    table = flat.reshape(200, 200)
    for model in (flat, flat[::3], flat[::-1], table, table.T, table[:, ::2], table[::2]):
        ours = np.asarray(model)
        wanted = numpy.count_nonzero(model)
        for backend in ("auto", "serial", "threads"):
            with np.use_backend(backend):
                got = np.count_nonzero(ours)
                assert type(got) is type(wanted)
                assert got == wanted
                for axis in range(model.ndim):
                    counted = np.count_nonzero(ours, axis=axis)
                    assert numpy.array_equal(counted, numpy.count_nonzero(model, axis=axis))
        with np.dispatch_options(defer="always"):
            assert np.count_nonzero(np.array(model) + 0) == wanted


@pytest.fixture
def _own_limits() -> Iterator[None]:
    yield
    limits.forget()


@pytest.mark.usefixtures("_own_limits")
@pytest.mark.parametrize("char", CHARS)
def test_only_counts_that_threads_can_share_are_planned(char: str) -> None:
    array: Any = np.array(numpy.ones(40_000_000 // numpy.dtype(char).itemsize, char))
    limits.limit_of(ROW.name, array.dtype)
    limits.lower(ROW.name, array.dtype, 1 << 20)  # whatever the prices say of this machine
    with np.record_dispatch() as record:
        assert np.count_nonzero(array) == array.size
    assert len(record.records) == (array.dtype.kind not in ROW.unshared)
    array = np.array(array)  # counts of the first may have been made in one pass with its own
    with np.record_dispatch() as record:
        assert np.count_nonzero(array, axis=0) == array.size
        assert np.count_nonzero(array[::2]) == array.size // 2
    assert len(record.records) >= 1
