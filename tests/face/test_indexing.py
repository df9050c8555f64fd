"""Indexing and assignment of all kinds, on concrete and pending arrays, next to NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

import dispatcharr as np

Make = Callable[[Any], Any]
CUBE = numpy.arange(60.0).reshape(3, 4, 5)
MASK = CUBE[..., 0] % 2 == 0
KEYS = (
    0, -1, 5, numpy.int64(1), numpy.uint8(2), True, False, None, ..., slice(None), slice(1, None),
    slice(None, None, -1), slice(5, 1, -2), (), (0, 1), (0, 1, 2), (0, 1, 2, 3), (..., 0),
    (0, ..., 1), (None, 0, None), (slice(None), 1), (slice(0, 2), ..., None), (..., ...),
    [0, 2], [0, 0, 1], [], [[0, 1], [2, 0]], ([0, 1], [1, 2]), ([0], slice(None), [1]),
    (slice(None), [0, 3]), [True, False, True], MASK, (slice(None), MASK[0]), (MASK, 0),
    numpy.array([2, 1]), numpy.array(1), numpy.array(True), numpy.array([], int), (MASK,),
    numpy.array([0.5]), 1.5, "name", [True], numpy.array([5]), (numpy.array([0, 1]), None, 1),
    (0, 0.5), {}, slice(0.5, None), slice(None, None, 0),
)  # fmt: skip


def ours(key: Any) -> Any:
    """Return ``key`` with NumPy's arrays as ours."""
    if isinstance(key, tuple):
        return tuple(ours(part) for part in key)
    return np.array(key) if isinstance(key, numpy.ndarray) else key


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_reading(key: Any, make: Make, same_outcome: Callable[..., None]) -> None:
    array = make(CUBE)
    same_outcome(lambda: array[ours(key)], lambda: CUBE[key])
    same_outcome(lambda: array[key], lambda: CUBE[key])


@pytest.mark.parametrize(
    "value", [7, numpy.arange(5), "pending", "text", [[1], [2], [3]]], ids=repr
)
@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_writing(
    key: Any, value: Any, make: Make, same_outcome: Callable[..., None], pending: Make
) -> None:
    given = ours(value)
    if isinstance(value, str) and value == "pending":
        value = numpy.arange(5.0)
        given = pending(value)
    for each in (key, ours(key)):
        host, array = CUBE.copy(), make(CUBE)
        same_outcome(lambda a=array, k=each: a.__setitem__(k, given),
                     lambda h=host: h.__setitem__(key, value))  # fmt: skip
        numpy.testing.assert_array_equal(array, host)


def test_reading_a_scalar_key_of_ours(make: Make) -> None:
    array = make([10, 20, 30])
    assert array[make([2])[0]] == 30
    assert array[np.array(1)] == 20
    assert list(array[np.array(1) :]) == [20, 30]
    assert [10, 20, 30][np.array(1)] == 20


@pytest.mark.parametrize("dtype", ["i1", "f4", "f8", "c16", bool, "U5", object, "M8[D]"])
def test_assignment_casts_as_numpy_does(
    dtype: Any, make: Make, same_outcome: Callable[..., None]
) -> None:
    for value in (1, 1.7, -1, 1j, True, None, "2020", numpy.float32(2.5), [1, 0], numpy.array([1,
    2.5]),
                  10**30, numpy.datetime64("2020-01-01")):  # fmt: skip
        host = numpy.zeros(2, dtype)
        array = make(host) if host.dtype.kind in "bifc" else np.zeros(2, dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", numpy.exceptions.ComplexWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            same_outcome(lambda a=array, v=value: a.__setitem__(..., ours(v)),
                         lambda h=host, v=value: h.__setitem__(..., v))  # fmt: skip
        assert repr(array) == repr(host)


def test_structured_arrays(same: Callable[..., None]) -> None:
    kind = numpy.dtype([("x", "f8"), ("y", "i4", (2,))])
    host = numpy.zeros(3, kind)
    array = np.zeros(3, kind)
    for each in (host, array):
        each["x"] = [1.0, 2.0, 3.0]
        each["y"][1] = 7
        each[2] = (9.0, 5)
        each[["x"]] = each[["x"]][::-1]
    same(array, host)
    same(array["x"] * 2, host["x"] * 2)
    same(array[["x", "y"]], host[["x", "y"]])
    assert type(array[0]) is numpy.void
    with pytest.raises(ValueError, match="no field of name"):
        array["z"]


def test_a_record_of_a_structured_array_is_a_view(always: None) -> None:
    array = np.zeros(2000, [("x", "f8")])
    field = array["x"]
    doubled = field * 2
    record = array[0]
    record["x"] = 5.0
    assert doubled[0] == 0
    assert field[0] == 5
    tripled = field * 3
    record["x"] = 6.0
    assert tripled[0] == 15


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_random_basic_and_advanced_keys(data: Any) -> None:
    shape = data.draw(nps.array_shapes(min_dims=1, max_dims=3, max_side=4))
    host = numpy.arange(float(numpy.prod(shape))).reshape(shape)
    key = data.draw(st.one_of(
        nps.basic_indices(shape, allow_newaxis=True),
        nps.integer_array_indices(shape),
        nps.arrays(bool, shape),
    ))  # fmt: skip
    with np.dispatch_options(defer=data.draw(st.sampled_from(["always", "auto"]))):
        array = np.array(host) + 0
        numpy.testing.assert_array_equal(array[ours(key)], host[key])
        array = np.array(host) + 0
        value = np.array(2.0) * array[ours(key)]
        array[ours(key)] = value
        wanted = host.copy()
        wanted[key] = 2.0 * wanted[key]
        numpy.testing.assert_array_equal(array, wanted)
        array[ours(key)] += 1
        wanted[key] += 1
        numpy.testing.assert_array_equal(array, wanted)
