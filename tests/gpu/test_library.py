"""CuPy's answers on a device are NumPy's: every row of the table, for every dtype."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.backends import cuda_library
from dispatcharr.backends.library import binding
from dispatcharr.storage import places
from library_cases import CASES, Case, agree

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def library(device: Any) -> Iterator[None]:
    """Have the device in use, and CuPy on it."""
    before = places.device_in_use()
    places.use(device)
    reason = cuda_library.refusal()
    if reason is not None:
        places.use(before)
        pytest.skip(reason)
    yield
    binding.closed.clear()
    places.use(before)


def away(value: Any) -> Any:
    """Return arguments with their arrays on the device alone."""
    if type(value) is numpy.ndarray and value.size and value.ndim:
        device = places.device_in_use()
        memory = device.alloc(value.nbytes)
        flat = numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8)
        device.to_device(memory, 0, flat)
        return places.adopt(memory, value.shape, value.dtype)
    return type(value)(map(away, value)) if type(value) in (tuple, list) else value


def home(value: Any) -> Any:
    if type(value) is numpy.ndarray:
        places.home(value)
    elif isinstance(value, (tuple, list)):
        for item in value:
            home(item)
    return value


def served(function: Any, *args: Any, **kwargs: Any) -> Any:
    name = getattr(function, "__name__", "f")
    with np.use_backend("cuda"):
        return cuda_library.serve(name, function, args, kwargs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_row_gives_numpys_answer(case: Case) -> None:
    wrong = []
    for char in case.dtypes:
        args = case.make(char)
        with numpy.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = case.function(*case.view(*args), **case.kwargs)
            made = served(case.function, *case.view(*away(args)), **case.kwargs)
        if made is NotImplemented:
            wrong.append(f"{char}: declined, {cuda_library.declined()}")
        else:
            reason = agree(case, home(made), wanted, args)
            wrong += [f"{char}: {reason}"] if reason else []
    assert not wrong, "\n".join(wrong)


def test_nan_of_either_sign_are_sorted_last() -> None:
    a = numpy.random.default_rng(2).standard_normal(50_000)
    a[::3], a[1::7] = numpy.nan, -numpy.nan
    for dtype in ("e", "f", "d"):
        b = a.astype(dtype)
        assert numpy.array_equal(home(served(numpy.sort, away(b))), numpy.sort(b), equal_nan=True)
        made = home(served(numpy.argsort, away(b), kind="stable"))
        assert numpy.array_equal(made, numpy.argsort(b, kind="stable"))


def test_failures_of_linear_algebra_are_left_to_numpy() -> None:
    singular = numpy.ones((50, 50))
    indefinite = -numpy.eye(50)
    for function, a in (
        (numpy.linalg.inv, singular), (numpy.linalg.cholesky, indefinite),
        (numpy.linalg.inv, numpy.ones((3, 9, 9))), (numpy.linalg.svd, singular * numpy.nan),
    ):  # fmt: skip
        assert served(function, away(a)) is NotImplemented, function.__name__
    assert served(numpy.linalg.solve, away(singular), away(numpy.ones(50))) is NotImplemented
    assert not binding.closed


def test_a_matrix_of_zeros_has_eigenvalues() -> None:
    made = served(numpy.linalg.eigh, away(numpy.zeros((40, 40))))
    if made is not NotImplemented:
        assert not home(made)[0].any()


def test_single_precision_is_not_rounded() -> None:
    a = numpy.random.default_rng(3).standard_normal((512, 512)).astype("f")
    exact = a.astype("d") @ a.astype("d")
    made = home(served(numpy.matmul, away(a), away(a)))
    assert abs(made - exact).max() < 1e-3  # TF32 is off by 1e-2
    stack = numpy.stack([a, a])
    made = home(served(numpy.matmul, away(stack), away(stack)))
    assert abs(made - exact).max() < 1e-3


def test_indices_out_of_bounds_are_left_to_numpy() -> None:
    a = away(numpy.arange(20_000.0))
    for index in (20_000, -20_001):
        key = numpy.array([0, index])
        assert served(numpy.take, a, key) is NotImplemented
        assert served(numpy.ndarray.__getitem__, a, key) is NotImplemented


def test_large_ones() -> None:
    """What is computed in blocks is computed in several of them."""
    rng = numpy.random.default_rng(4)
    a = rng.standard_normal(3_000_001)
    b = rng.integers(0, 1 << 40, 3_000_001)
    there, integers = away(a), away(b)
    assert numpy.array_equal(home(served(numpy.sort, there)), numpy.sort(a))
    assert numpy.array_equal(home(served(numpy.cumsum, integers)), numpy.cumsum(b))
    sums = home(served(numpy.cumsum, there))
    assert abs(sums - numpy.cumsum(a)).max() < 1e-8
    assert numpy.array_equal(home(served(numpy.unique, integers)), numpy.unique(b))
    counted = served(numpy.histogram, there, 1000)
    wanted = numpy.histogram(a, 1000)
    assert numpy.array_equal(counted[0], wanted[0])
    assert numpy.array_equal(counted[1], wanted[1])
    found = home(served(numpy.fft.rfft, there))
    assert abs(found - numpy.fft.rfft(a)).max() < 1e-8 * numpy.sqrt(a.size)


def test_results_of_many_calls_do_not_pile_up() -> None:
    device = places.device_in_use()
    a = away(numpy.random.default_rng(5).standard_normal((2000, 2000)))
    served(numpy.matmul, a, a)
    device.synchronize()
    before = device.memory_info()[0]
    for _ in range(50):
        served(numpy.matmul, a, a)
        served(numpy.sort, a)
    device.synchronize()
    assert before - device.memory_info()[0] < 10 * a.nbytes
