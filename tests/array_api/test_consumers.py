"""array-api-compat and array-api-extra take our arrays for what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
import dispatcharr.array_api as xp

compat = pytest.importorskip("array_api_compat", reason="comes with the extra `test`")
xpx = pytest.importorskip("array_api_extra", reason="comes with the extra `test`")

DATA = numpy.asarray([[3.0, 1.0, 2.0], [6.0, 5.0, 4.5]])


def test_an_array_is_recognised() -> None:
    x = np.asarray(DATA)
    assert compat.is_array_api_obj(x)
    assert not compat.is_numpy_array(x)
    assert not compat.is_cupy_array(x)
    assert compat.is_writeable_array(x)
    assert not compat.is_lazy_array(x)
    assert compat.size(x) == 6


def test_its_namespace_is_the_standards() -> None:
    x = np.asarray(DATA)
    assert compat.array_namespace(x) is xp
    assert compat.array_namespace(x, x + 1, xp.sum(x), 3, None) is xp
    assert compat.array_namespace(x, xp.mean(x) + 1, -xp.max(x)) is xp
    assert compat.array_namespace(x, api_version="2024.12") is xp
    assert not compat.is_numpy_namespace(xp)


def test_with_numpys_arrays_it_is_numpys() -> None:
    """Ours compute with both; with another library's arrays it is an error, as ever."""
    x = np.asarray(DATA)
    assert compat.is_numpy_namespace(compat.array_namespace(x, DATA))
    assert compat.array_namespace(numpy.float64(2.0), x) is compat.array_namespace(DATA)
    assert type(compat.array_namespace(x, DATA).add(x, DATA)) is np.ndarray
    strict = pytest.importorskip("array_api_strict", reason="another implementation")
    with pytest.raises(TypeError, match=r"[Mm]ultiple"):
        compat.array_namespace(x, strict.ones(2))


def test_its_device_is_known() -> None:
    x = np.asarray(DATA)
    assert compat.device(x) == "cpu"
    assert compat.to_device(x, "cpu") is x
    with pytest.raises(ValueError, match="moon"):
        compat.to_device(x, "moon")


def _set(x: Any) -> Any:
    return xpx.at(x, (0, slice(None))).set(9.0)


def _add(x: Any) -> Any:
    return xpx.at(x)[:, 1].add(10.0, copy=True)


#: What the library does for an array, given the namespace to compute in.
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "at set": _set,
    "at add": _add,
    "at multiply in place": lambda x: xpx.at(x + 0)[x > 2].multiply(2.0, copy=False),
    "cov": xpx.cov,
    "pad": lambda x: xpx.pad(x, 2, constant_values=1.5),
    "pad of each side": lambda x: xpx.pad(x, ((0, 1), (2, 0))),
    "atleast_nd": lambda x: xpx.atleast_nd(x, ndim=4),
    "create_diagonal": lambda x: xpx.create_diagonal(x[0], offset=1),
    "kron": lambda x: xpx.kron(x, x),
    "nunique": xpx.nunique,
    "setdiff1d": lambda x: xpx.setdiff1d(x[0], x[1] - 2.0),
    "sinc": xpx.sinc,
    "isclose": lambda x: xpx.isclose(x, x + 1e-12),
    "one_hot": lambda x: xpx.one_hot(x.__array_namespace__().astype(x, int)[0], 4),
    "default_dtype": lambda x: x.__array_namespace__().ones(
        2, dtype=xpx.default_dtype(x.__array_namespace__())
    ),
    "apply_where": lambda x: xpx.apply_where(x > 2, (x,), lambda v: v * 2, lambda v: v - 1),
    "lazy_apply": lambda x: xpx.lazy_apply(numpy.flipud, x, as_numpy=True),
    "argpartition": lambda x: x.__array_namespace__().sort(xpx.partition(x, 1)),
    "isin": lambda x: xpx.isin(x, x[0]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_extra_functions(name: str) -> None:
    function = FUNCTIONS[name]
    try:
        wanted = function(DATA.copy())
    except AttributeError as error:
        pytest.skip(f"this release lacks it: {error}")
    found = function(np.array(DATA))
    assert type(found) is np.ndarray
    assert found.dtype == wanted.dtype
    numpy.testing.assert_array_equal(numpy.asarray(found), wanted)


def test_a_function_of_the_standard_runs_as_it_stands() -> None:
    """Such code asks every result for its namespace, and mixes results with Python's numbers."""

    def standardised(x: Any) -> Any:
        xp = compat.array_namespace(x)
        mean = xp.mean(x, axis=0, keepdims=True)
        deviation = xp.std(x, axis=0, keepdims=True, correction=1)
        scaled = (x - mean) / xp.where(deviation > 0, deviation, 1.0)
        largest = xp.max(xp.abs(scaled))
        assert compat.array_namespace(scaled, largest) is xp
        return xp.astype(xp.round(scaled / largest * 100), xp.int16)

    found = standardised(np.asarray(DATA))
    assert type(found) is np.ndarray
    numpy.testing.assert_array_equal(numpy.asarray(found), standardised(DATA))
