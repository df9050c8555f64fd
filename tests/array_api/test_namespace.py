"""The standard's namespace: its names, its results, and where its answers are not NumPy's."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
import dispatcharr.array_api as xp

INF, NAN = float("inf"), float("nan")

#: Functions whose result without axes NumPy returns as a scalar.
SCALAR_RESULTS: dict[str, Callable[[Any], Any]] = {
    "sum": xp.sum,
    "mean": xp.mean,
    "argmax": xp.argmax,
    "any": xp.any,
    "count_nonzero": xp.count_nonzero,
    "vecdot": lambda x: xp.vecdot(x, x),
    "matmul": lambda x: xp.matmul(x, x),
    "add of elements": lambda x: xp.add(x[0], x[1]),
    "sort of nothing": lambda x: xp.max(xp.sort(x, descending=True)),
    "searchsorted": lambda x: xp.searchsorted(x, xp.asarray(1.0)),
    "linalg.vector_norm": lambda x: xp.linalg.vector_norm(x),
    "linalg.det": lambda x: xp.linalg.det(xp.eye(2)),
    "a field of a named tuple": lambda x: xp.linalg.slogdet(xp.eye(2)).sign,
    "an element of a tuple": lambda x: xp.unstack(x)[0],
}


def same(found: Any, wanted: Any) -> None:
    """Compare values, signs of zeros included, and dtypes."""
    found, wanted = numpy.asarray(found), numpy.asarray(wanted)
    assert found.dtype == wanted.dtype
    for part in ("real", "imag"):
        mine, theirs = getattr(found, part), getattr(wanted, part)
        numpy.testing.assert_array_equal(mine, theirs)
        is_number = ~numpy.isnan(theirs)
        numpy.testing.assert_array_equal(
            numpy.signbit(mine)[is_number], numpy.signbit(theirs)[is_number]
        )


@pytest.mark.parametrize("name", SCALAR_RESULTS)
def test_results_without_axes_are_arrays(name: str) -> None:
    found = SCALAR_RESULTS[name](xp.asarray([0.0, 1.0, 2.0]))
    assert type(found) is np.ndarray
    assert found.shape == ()
    assert found.__array_namespace__() is xp


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "+": lambda m: m + 1,
    "reflected": lambda m: 2 - m,
    "**": lambda m: m**2,
    "abs": abs,
    "-": lambda m: -m,
    "<": lambda m: m < 3,
    "==": lambda m: m == m,
    "both": lambda m: m * m,
    "again": lambda m: (m + 1) / 2,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operators_on_such_results_give_such_results(name: str) -> None:
    found = OPERATIONS[name](xp.mean(xp.asarray([1.0, 2.0])))
    assert type(found) is np.ndarray
    assert found.shape == ()
    same(found, OPERATIONS[name](numpy.float64(1.5)))
    with np.record_dispatch():
        assert type(OPERATIONS[name](xp.asarray(2.0))) is np.ndarray


def test_operators_on_the_programs_own_arrays_are_numpys() -> None:
    own = np.array(2.0)
    assert type(own + 1) is numpy.float64
    assert xp.asarray(own) is own
    assert type(own + 1) is numpy.float64


def test_the_plain_namespace_keeps_numpys_scalars() -> None:
    x = np.arange(3.0)
    assert type(np.sum(x)) is numpy.float64
    assert type(x[0]) is numpy.float64
    assert type(x.sum()) is numpy.float64


def test_there_is_one_namespace() -> None:
    x = np.arange(3)
    assert x.__array_namespace__() is xp
    assert (x * 2).__array_namespace__() is xp
    assert len({x.__array_namespace__(), xp.ones(2).__array_namespace__()}) == 1


@pytest.mark.parametrize("version", ["2021.12", "2022.12", "2023.12", "2024.12", "2025.12", None])
def test_revisions_of_the_standard(version: str | None) -> None:
    assert np.ones(1).__array_namespace__(api_version=version) is xp


def test_an_unknown_revision_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"2019\.10.*2025\.12"):
        np.ones(1).__array_namespace__(api_version="2019.10")
    assert xp.__array_api_version__ == "2025.12"


def test_it_has_every_name_of_dispatcharr() -> None:
    assert set(np.__all__) <= set(xp.__all__)
    assert set(xp.__all__) <= set(dir(xp))
    missing = [name for name in xp.__all__ if not hasattr(xp, name)]
    assert not missing
    with pytest.raises(AttributeError, match=r"dispatcharr\.array_api.*no_such"):
        xp.no_such
    with pytest.raises(AttributeError, match="no_such"):
        xp.linalg.no_such
    with pytest.raises(AttributeError, match="no_such"):
        xp.fft.no_such


@pytest.mark.parametrize("function", [xp.sum, xp.sort, xp.linalg.eig, xp.linalg.svd, xp.fft.fft])
def test_functions_are_pickled_by_name(function: Any) -> None:
    assert pickle.loads(pickle.dumps(function)) is function


def test_functions_show_a_signature() -> None:
    assert "descending" in inspect.signature(xp.sort).parameters
    assert "dtype" in inspect.signature(xp.ones).parameters
    assert "axis" in inspect.signature(xp.sum).parameters


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64", "bool"])
def test_descending_order(axis: int, dtype: str) -> None:
    host = (numpy.arange(24).reshape(4, 6) * 7 % 5).astype(dtype)
    x = xp.asarray(host)
    wanted = numpy.flip(numpy.sort(host, axis=axis), axis=axis)
    same(xp.sort(x, axis=axis, descending=True), wanted)
    found = xp.argsort(x, axis=axis, descending=True)
    same(xp.take_along_axis(x, found, axis=axis), wanted)
    # Equal elements stay in their order.
    places = numpy.asarray(found)
    ordered = numpy.take_along_axis(host, places, axis)
    equal = numpy.diff(ordered.astype(int), axis=axis) == 0
    assert (numpy.diff(places, axis=axis)[equal] > 0).all()


def test_sorting_takes_numpys_keywords_too() -> None:
    x = xp.asarray([3, 1, 2])
    same(xp.sort(x, kind="stable"), numpy.asarray([1, 2, 3]))
    same(xp.argsort(x, -1, "stable"), numpy.asarray([1, 2, 0]))


@pytest.mark.parametrize(
    ("x1", "x2", "wanted"),
    [
        (INF, 1.0, INF), (INF, -1.0, -INF), (-INF, 2.0, -INF), (-INF, -2.0, INF),
        (1.0, -INF, -0.0), (-1.0, INF, -0.0), (1.0, INF, 0.0), (INF, INF, NAN), (7.0, 2.0, 3.0),
        (-7.0, 2.0, -4.0), (NAN, 1.0, NAN), (1.0, 0.0, INF),
    ],
)  # fmt: skip
def test_floor_division_of_infinities(x1: float, x2: float, wanted: float) -> None:
    with numpy.errstate(all="ignore"):
        same(xp.floor_divide(xp.asarray([x1]), xp.asarray([x2])), numpy.asarray([wanted]))
        same(xp.floor_divide(xp.asarray([x1]), x2), numpy.asarray([wanted]))
        # The operator is NumPy's, whatever that is.
        same(xp.asarray([x1]) // xp.asarray([x2]), numpy.asarray([x1]) // numpy.asarray([x2]))


def test_floor_division_of_integers_is_numpys() -> None:
    x1, x2 = numpy.asarray([7, -7, 5], "int8"), numpy.asarray([2, 2, -3], "int16")
    same(xp.floor_divide(xp.asarray(x1), xp.asarray(x2)), x1 // x2)


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        (complex(INF, 0.0), complex(INF, 0.0)),
        (complex(-INF, INF), complex(-1.0, 0.0)),
        (complex(-INF, NAN), complex(-1.0, 0.0)),
        (complex(NAN, 0.0), complex(NAN, 0.0)),
        (complex(-0.0, 0.0), complex(0.0, 0.0)),
    ],
)
def test_expm1_of_complex_infinities(x: complex, wanted: complex) -> None:
    with numpy.errstate(all="ignore"):
        found = numpy.asarray(xp.expm1(xp.asarray(x)))
    numpy.testing.assert_array_equal(found.real, wanted.real)
    numpy.testing.assert_array_equal(abs(found.imag), wanted.imag)


def test_tanh_at_a_complex_infinity_has_the_operands_sign() -> None:
    x = xp.asarray([complex(INF, 2.0), complex(INF, -2.0), complex(-INF, 2.0)], dtype=xp.complex64)
    wanted = numpy.asarray([complex(1, 0.0), complex(1, -0.0), complex(-1, 0.0)], numpy.complex64)
    same(xp.tanh(x), wanted)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "wanted"),
    [
        ("uint8", -5, 300, [0, 100, 200]),
        ("uint8", 50, None, [50, 100, 200]),
        ("int8", None, None, [0, 100, -56]),
        ("float32", 0.5, numpy.asarray(150.0), [0.5, 100.0, 150.0]),
        ("uint8", numpy.asarray(-1, "int64"), numpy.asarray(1000, "int64"), [0, 100, 200]),
    ],
)
def test_clip_keeps_the_dtype(dtype: str, low: Any, high: Any, wanted: list[float]) -> None:
    x = numpy.asarray([0, 100, 200]).astype(dtype)
    same(xp.clip(xp.asarray(x), low, high), numpy.asarray(wanted, dtype))


@pytest.mark.parametrize("dtype", [xp.float32, xp.float64, xp.complex64, xp.complex128])
def test_limits_of_floats_are_pythons(dtype: Any) -> None:
    for asked in (dtype, xp.ones(1, dtype=dtype), numpy.dtype(dtype)):
        info, numpys = xp.finfo(asked), numpy.finfo(dtype)
        for name in ("eps", "max", "min", "smallest_normal"):
            assert type(getattr(info, name)) is float
            assert getattr(info, name) == getattr(numpys, name)
        assert info.dtype == numpys.dtype
        assert info.tiny == numpys.tiny
        assert repr(info) == repr(numpys)


def test_limits_of_integers() -> None:
    assert xp.iinfo(xp.asarray([1], dtype=xp.int16)).max == 32767
    assert xp.iinfo(xp.uint8).max == 255


@pytest.mark.parametrize("dtype", [xp.float32, xp.float64])
def test_eigenvalues_are_complex(dtype: Any) -> None:
    x = xp.asarray([[2.0, 0.0], [0.0, 3.0]], dtype=dtype)
    found = xp.linalg.eig(x)
    wanted = numpy.result_type(dtype, numpy.complex64)
    assert found.eigenvalues.dtype == found.eigenvectors.dtype == wanted
    assert xp.linalg.eigvals(x).dtype == wanted
    same(xp.sort(xp.real(found.eigenvalues)), numpy.asarray([2, 3], dtype))


def test_frequencies_take_a_dtype() -> None:
    same(xp.fft.fftfreq(4, d=0.5, dtype=xp.float32), numpy.fft.fftfreq(4, 0.5).astype("f4"))
    same(xp.fft.rfftfreq(4, dtype=xp.float32), numpy.fft.rfftfreq(4).astype("f4"))
    same(xp.fft.rfftfreq(4), numpy.fft.rfftfreq(4))


def test_inspection() -> None:
    info = xp.__array_namespace_info__()
    assert info.default_device() in info.devices()
    assert type(info.devices()) is tuple
    assert info.capabilities()["max dimensions"] == 64
    assert info.default_dtypes(device="cpu")["real floating"] == xp.asarray(1.0).dtype
    assert set(info.dtypes(kind="integral")) == set(
        info.dtypes(kind=("signed integer", "unsigned integer"))
    )
    assert set(info.dtypes()) == {"bool", *info.dtypes(kind="numeric")}
    assert all(xp.empty(1, dtype=dtype).dtype == dtype for dtype in info.dtypes().values())
    with pytest.raises(ValueError, match="no kind"):
        info.dtypes(kind="no kind")
    with pytest.raises(ValueError, match="moon"):
        info.dtypes(device="moon")


def test_devices_by_name() -> None:
    assert xp.ones(3, device="cpu").device == "cpu"
    assert xp.asarray([1, 2], device="cpu").to_device("cpu").device == "cpu"
    with pytest.raises(ValueError, match="moon"):
        xp.ones(3, device="moon")
    with pytest.raises(ValueError, match="moon"):
        xp.ones(3).to_device("moon")
    with pytest.raises(TypeError):
        xp.sum(xp.ones(3), device="cpu")


@pytest.mark.parametrize(
    "keys",
    [{}, {"copy": True}, {"copy": False}, {"max_version": (1, 0)}, {"dl_device": (1, 0)},
     {"max_version": (2, 0), "copy": None, "stream": None}],
)  # fmt: skip
def test_capsules_by_every_keyword(keys: dict[str, Any]) -> None:
    capsule = np.arange(5000.0).__dlpack__(**keys)
    versioned = keys.get("max_version", (0, 0)) >= (1, 0)
    assert ("dltensor_versioned" in repr(capsule)) is versioned


def test_exchange_without_and_with_a_copy() -> None:
    x = np.arange(5000.0)
    theirs = numpy.from_dlpack(x)
    x[0] = 7
    assert theirs[0] == 7
    copied = xp.from_dlpack(x, copy=True)
    x[0] = 8
    assert copied[0] == 7
    assert type(copied) is np.ndarray
    assert xp.from_dlpack(numpy.arange(3), device="cpu").device == "cpu"


def test_a_pending_array_is_exported_with_its_values() -> None:
    x = np.arange(100_000.0)
    y = x * 2 + 1
    numpy.testing.assert_array_equal(numpy.from_dlpack(y), numpy.arange(100_000.0) * 2 + 1)
