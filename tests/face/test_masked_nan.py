"""Masked means and variances with NaN in the data: computed once, warned of as NumPy does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr import _events
from dispatcharr.expr.build import own_filters

NAMES = ("mean", "var", "std")
SHAPE = (30, 50)


@pytest.fixture
def done() -> Iterator[list[Any]]:
    """What was done, with everything planned on one thread."""
    found: list[Any] = []
    with (
        _events.listening(found.append),
        np.use_backend("serial"),
        np.dispatch_options(defer="always"),
    ):
        yield found


def data() -> tuple[numpy.ndarray, numpy.ndarray]:
    """Values with NaN in the first row, and a mask that chooses some of each."""
    values = numpy.random.default_rng(3).random(SHAPE)
    values[0, :9] = numpy.nan
    return values, numpy.random.default_rng(4).random(SHAPE) < 0.6


def heard(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with own_filters():
            result = call()
    return numpy.asarray(result), sorted(str(one.message) for one in found)


def fallbacks(done: list[Any]) -> int:
    return sum(type(record) is _events.FallbackRecord for record in done)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("char", "fd")
def test_nan_that_is_chosen_is_the_answer(name: str, axis: Any, char: str, done: list[Any]) -> None:
    values, mask = data()
    values = values.astype(char)
    wanted, said = heard(lambda: getattr(numpy, name)(values, axis=axis, where=mask))
    assert numpy.isnan(wanted).any()
    assert said == []
    for where in (mask, np.array(mask), np.array(mask) & True):
        done.clear()
        got, ours = heard(lambda w=where: getattr(np, name)(np.array(values), axis=axis, where=w))
        assert ours == []
        assert fallbacks(done) == 0
        numpy.testing.assert_allclose(got, wanted, rtol=1e-5 if char == "f" else 1e-13)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ddof", [0, 1, 0.5, -1])
@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_slices_of_which_too_little_is_chosen_are_numpys_to_warn_of(
    name: str, ddof: float, chosen: int, done: list[Any]
) -> None:
    values, mask = data()
    mask[2] = False
    mask[2, :chosen] = True
    options: dict[str, Any] = {"axis": 1, "where": mask}
    if name != "mean":
        options["ddof"] = ddof
    wanted, said = heard(lambda: getattr(numpy, name)(values, **options))
    got, ours = heard(lambda: getattr(np, name)(np.array(values), **options))
    assert ours == said
    numpy.testing.assert_allclose(got, wanted, rtol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_masks_that_are_broadcast(name: str, done: list[Any]) -> None:
    values, mask = data()
    for where in (mask[:1], mask[:, :1] | True, mask[0]):
        for axis in (None, 0, 1):
            wanted, said = heard(
                lambda w=where, a=axis: getattr(numpy, name)(values, axis=a, where=w)
            )
            got, ours = heard(
                lambda w=where, a=axis: getattr(np, name)(np.array(values), axis=a, where=w)
            )
            assert ours == said
            assert fallbacks(done) == bool(said)
            done.clear()
            numpy.testing.assert_allclose(got, wanted, rtol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_infinity_beside_nan(name: str, done: list[Any]) -> None:
    values, mask = data()
    for spots in ((numpy.inf, numpy.inf), (numpy.inf, -numpy.inf)):
        values[1, :2], mask[1, :2] = spots, True
        wanted, said = heard(lambda: getattr(numpy, name)(values, axis=1, where=mask))
        got, ours = heard(lambda: getattr(np, name)(np.array(values), axis=1, where=mask))
        assert ours == said
        numpy.testing.assert_allclose(got, wanted, rtol=1e-13)


def test_of_two_mistakes_numpys_is_told() -> None:
    x, mask = numpy.ones(20_000), numpy.ones((2, 1), bool)
    for name in ("var", "std", "sum", "mean"):
        with pytest.raises(ValueError) as numpys:  # whatever NumPy says
            getattr(numpy, name)(x, axis=2, where=mask)
        with pytest.raises(type(numpys.value)) as ours:
            getattr(np, name)(np.array(x) + 0, axis=2, where=mask)
        assert type(ours.value) is type(numpys.value)
