"""Calls on arrays that are placed somewhere, compared with NumPy's on the same values."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.expr.build import own_filters
from dispatcharr.face import _fastpath
from storing import check_coherent, placed

WAYS = ("device", "both")
SHAPE = (48, 64)
VALUES = {
    "float64": numpy.random.default_rng(1).normal(size=SHAPE),
    "int64": numpy.random.default_rng(2).integers(1, 9, SHAPE),
    "bool": numpy.random.default_rng(3).random(SHAPE) < 0.5,
    "complex128": numpy.random.default_rng(4).normal(size=(*SHAPE, 2)).view(complex)[..., 0],
}
SMALL = numpy.arange(12.0).reshape(3, 4) + 0.5


def plain(value: Any) -> Any:
    """Return a result with our arrays as NumPy's."""
    if type(value) is np.ndarray:
        return value.to_numpy(copy=True)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def same(ours: Any, numpys: Any) -> None:
    ours, numpys = plain(ours), plain(numpys)
    if isinstance(numpys, (list, tuple)):
        assert len(ours) == len(numpys)
        for one, other in zip(ours, numpys, strict=True):
            same(one, other)
    elif isinstance(numpys, (numpy.ndarray, numpy.generic)):
        assert ours.dtype == numpys.dtype and ours.shape == numpys.shape
        if numpys.dtype.kind not in "biufc":
            assert ours.tolist() == numpys.tolist()
            return
        # Sums may be added up in another order.
        numpy.testing.assert_allclose(ours, numpys, rtol=1e-12, atol=1e-12)
    elif isinstance(numpys, (int, float, str, bytes, bool, complex, type(None), numpy.dtype)):
        assert ours == numpys
    else:
        assert type(ours) is type(numpys)


class Outcome:
    """What a call returned or raised, and what it left of its arguments."""

    def __init__(self, function: Callable[..., Any], arrays: list[Any]) -> None:
        self.error: BaseException | None = None
        self.result: Any = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with own_filters():  # what may warn waits too
                    self.result = function(*arrays)
            except Exception as error:
                self.error = error
            self.result = plain(self.result)
        self.left = [plain(array) for array in arrays]


def alike(
    ours: Callable[..., Any], numpys: Callable[..., Any], values: list[Any], way: str
) -> None:
    """Check a call on arrays that are placed ``way`` against NumPy's."""
    expected = Outcome(numpys, [numpy.array(value) for value in values])
    arrays = [placed(value, way) for value in values]
    found = Outcome(ours, arrays)
    check_coherent()
    if expected.error is not None:
        assert type(found.error) is type(expected.error), found.error
    else:
        assert found.error is None, repr(found.error)
        same(found.result, expected.result)
    same(found.left, expected.left)


#: Without a compiled fast path, Python before 3.12 lends no buffers.
no_buffers = pytest.mark.skipif(
    not _fastpath.COMPILED and sys.version_info < (3, 12), reason="no buffers are lent here"
)


def numpy_or_ours(x: Any) -> Any:
    return np if type(x) is np.ndarray else numpy
