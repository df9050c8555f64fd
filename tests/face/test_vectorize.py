"""``np.vectorize``: NumPy's, or compiled where that was asked for and numba can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

pytest.importorskip("numba")

import dispatcharr as np
from dispatcharr._events import FallbackRecord


def test_vectorize_is_numpys_unless_it_is_asked_to_compile() -> None:
    calls: list[float] = []

    def noted(x: float) -> float:
        calls.append(x)
        return x * 2

    x = numpy.arange(5.0)
    with np.dispatch_options(compile_vectorize=True):
        numpy.testing.assert_array_equal(np.vectorize(noted)(x), x * 2)  # numba cannot type it
    assert len(calls) >= 5
    seen: list[int] = []

    def plain(x: Any, y: Any) -> Any:
        return x * 2 + y

    found = np.vectorize(plain)
    for operands in [(x, 1.5), (x.astype("f4"), 1), ([1, 2], [3, 4]), (numpy.arange(3), 1.0)]:
        wanted = numpy.vectorize(plain)(*operands)
        with np.dispatch_options(compile_vectorize=True), np.record_dispatch() as record:
            got = found(*operands)
        assert not [event for event in record.events if isinstance(event, FallbackRecord)]
        assert type(got) is np.ndarray
        assert got.dtype == wanted.dtype
        numpy.testing.assert_allclose(got, wanted)
        seen.append(got.size)
    assert seen == [5, 5, 2, 3]


def test_compiled_vectorize_keeps_otypes_shapes_and_errors(
    same_outcome: Callable[..., None],
) -> None:
    def pair(x: Any) -> Any:
        return x + 1, x > 2

    x = numpy.arange(6).reshape(2, 3)
    with np.dispatch_options(compile_vectorize=True):
        for call in (
            lambda m: m.vectorize(pair, otypes="fi")(x),
            lambda m: m.vectorize(pair)(x),
            lambda m: m.vectorize(lambda x: x + 1, otypes=[float])(numpy.zeros((0, 2))),
            lambda m: m.vectorize(lambda x: x + 1)(numpy.zeros(0)),
            lambda m: m.vectorize(lambda x: x + 1)(3),
            lambda m: m.vectorize(lambda x: x + 1)(),
            lambda m: m.vectorize(lambda x, y: x + y, excluded=[1])(x, 2),
            lambda m: m.vectorize(lambda x: x + "a")(x),
            lambda m: m.vectorize(lambda x: x.sum(), signature="(n)->()")(x),
        ):
            same_outcome(lambda call=call: call(np), lambda call=call: call(numpy))


def test_records_say_where_compiling_would_pay() -> None:
    function = np.vectorize(lambda x: x + 1)
    with np.record_dispatch() as record:
        function(numpy.arange(3))
        assert not record.events
        function(numpy.arange(20_000))
    (left,) = record.events
    assert "compile_vectorize=True" in left.reason
