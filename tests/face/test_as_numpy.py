"""What programs may rely on beyond values: which NaN, which side of a cut, whose memory, when."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np

SIZE = 200_000
WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "compiled": {"defer": "always", "engine": "compiled"},
    "on threads": {"defer": "always", "backend": "threads"},
    "unfused": {"fusion": False},
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    with np.dispatch_options(**WAYS[request.param]):
        yield


def ones() -> numpy.ndarray:
    return numpy.linspace(1.0, 2.0, SIZE)


# -- which NaN -------------------------------------------------------------------------------------


def with_nans(first: int, second: int) -> numpy.ndarray:
    """Return numbers with two NaN that can be told apart by what they carry."""
    found = ones()
    found.view(numpy.uint64)[[first, second]] = 0x7FF8000000000001, 0x7FF8000000000002
    return found


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("places", [(5, 6), (10, SIZE - 10), (SIZE // 2, 3)])
@pytest.mark.parametrize("name", ["argmax", "argmin", "nanargmax", "nanmin", "sort", "argsort"])
def test_the_order_of_missing_values_is_numpys(name: str, places: tuple[int, int]) -> None:
    host = with_nans(*places)
    wanted = numpy.asarray(getattr(numpy, name)(host))
    found = numpy.asarray(getattr(np, name)(np.array(host)))
    assert found.dtype == wanted.dtype
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin", "add", "multiply"])
def test_a_missing_value_that_meets_a_number_stays_what_it_is(name: str) -> None:
    host = with_nans(7, SIZE - 9)
    wanted = getattr(numpy, name)(host, ones())
    found = numpy.asarray(getattr(np, name)(np.array(host), np.array(ones())) + 0.0)
    assert (found.view(numpy.uint64) == (wanted + 0.0).view(numpy.uint64)).all()


# -- which side of a cut ---------------------------------------------------------------------------

CUTS = [
    complex(x, y)
    for x in (-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0)
    for y in (-2.0, -0.5, -0.0, 0.0, 0.5, 2.0)
]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "name",
    ["sqrt", "log", "log2", "log10", "log1p", "arcsin", "arccos", "arctan", "arcsinh", "arccosh",
     "arctanh"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["complex128", "complex64"])
def test_complex_functions_are_on_numpys_side_of_their_cuts(name: str, dtype: str) -> None:
    host = numpy.resize(numpy.array(CUTS, dtype), 20_000)
    with numpy.errstate(all="ignore"):
        wanted = getattr(numpy, name)(host)
        found = numpy.asarray(getattr(np, name)(np.array(host)))
    assert found.dtype == wanted.dtype
    for mine, theirs in ((found.real, wanted.real), (found.imag, wanted.imag)):
        numpy.testing.assert_allclose(mine, theirs, rtol=8 * numpy.finfo(dtype).eps)
        far = numpy.abs(theirs) > 0
        assert (numpy.signbit(mine) == numpy.signbit(theirs))[far].all()
        assert (numpy.signbit(mine) == numpy.signbit(theirs))[theirs == 0].all()


# -- when ------------------------------------------------------------------------------------------


def test_errstate_decorates_functions_that_defer() -> None:
    @np.errstate(divide="ignore")
    def inverse(x: Any) -> Any:
        return 1 / x

    @np.errstate(divide="raise")
    def strict(x: Any) -> Any:
        return 1 / x

    x = np.array(ones())
    x[3] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert inverse(x)[3] == numpy.inf
    with pytest.raises(FloatingPointError, match="divide by zero encountered in divide"):
        strict(x)
    assert numpy.geterr()["divide"] == "warn"


def test_generators_keep_what_they_computed() -> None:
    x = np.array(ones())

    def steps() -> Iterator[Any]:
        for number in range(3):
            yield x * 2 + number
            x[0] += 1.0

    found = [(one, float(x[0])) for one in steps()]
    for number, (one, first) in enumerate(found):
        assert one[0] == first * 2 + number
        assert one[-1] == 4.0 + number


# -- whose memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["shares_memory", "may_share_memory"])
def test_memory_is_shared_as_with_numpy(ask: str) -> None:
    x = np.array(ones())
    waiting = x * 2
    asked = getattr(np, ask)
    assert asked(x, x[::2]) and asked(x[5:], x[:6])
    assert asked(waiting, waiting[::2])
    assert not asked(x, waiting) and not asked(x[:5], x[5:])
    assert asked(numpy.asarray(x), x)


def test_writes_through_strided_views_are_seen_and_come_after_what_waited() -> None:
    x = np.array(ones())
    pairs = np.lib.stride_tricks.as_strided(x, (SIZE // 2, 2), (16, 8))
    before = x * 2 + 1
    pairs[0, 1] = -5.0
    assert x[1] == -5.0
    assert before[1] == ones()[1] * 2 + 1
    assert (x * 2)[1] == -10.0
    windows = np.lib.stride_tricks.sliding_window_view(x, 3)
    assert not windows.flags.writeable
    assert (windows.sum(axis=1) == numpy.lib.stride_tricks.sliding_window_view(
        numpy.asarray(x), 3
    ).sum(axis=1)).all()  # fmt: skip
