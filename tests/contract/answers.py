"""NumPy is the answer book: what a call gave, and in what two answers differ.

An answer is everything that a program can notice: the value with its type, dtype, shape, strides
and bits; the exception with its message; the warnings. Any NaN equals any other.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr._config import options
from dispatcharr.backends import registry
from dispatcharr.expr.build import own_filters

#: The backend that all tests are to run on, or "auto".
ASKED = options().backend
BACKENDS = (
    tuple(name for name in ("serial", "threads") if registry.available()[name] is None)
    if ASKED == "auto"
    else (ASKED,)
)
WAYS: dict[str, dict[str, Any]] = {
    "deferred": {"defer": "always"},
    "unfused": {"defer": "always", "fusion": False},
    "at once": {"defer": "never"},
    "as shipped": {},
}
MODES = (*itertools.product(BACKENDS, tuple(WAYS)[:3]), (ASKED, "as shipped"))
#: One backend and way each: enough where it is not the kernel that is tried.
FEWER = ((BACKENDS[0], "deferred"), (BACKENDS[-1], "at once"), (ASKED, "as shipped"))
#: Promised distance from the exact result of what is not bit-identical, in units in the last place.
#: NumPy's own functions are nearly exact, those of compiled kernels are other functions: between
#: two that keep the promise there may be twice as much.
ULPS = 4
Close = Callable[[numpy.ndarray, numpy.ndarray], str | None]
_BITS = {2: numpy.int16, 4: numpy.int32, 8: numpy.int64}


@contextmanager
def mode(backend: str, way: str) -> Iterator[None]:
    """Compute on one backend in one of the :data:`WAYS`; all but the last plan everything."""
    with ExitStack() as stack:
        stack.enter_context(np.use_backend(backend))
        stack.enter_context(np.dispatch_options(**WAYS[way]))
        yield


def is_compiled() -> bool:
    """Return whether the tests run with compiled kernels wherever these can do the work."""
    return options().engine == "compiled" or ASKED not in ("auto", "serial", "threads")


@dataclass(frozen=True)
class Answer:
    """What a call gave."""

    value: Any
    error: Exception | None
    warned: tuple[tuple[str, str], ...]
    owns: tuple[bool, ...] = ()

    def __str__(self) -> str:
        return repr(self.error) if self.error is not None else repr(self.value)


def ask(function: Callable[..., Any], *args: Any) -> Answer:
    """Call ``function``, look at everything that it returns, and note what happened."""
    value, error, owns = None, None, ()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            with own_filters():  # what may warn waits too, and is looked at in here
                found = function(*args)
                value, owns = plain(found), owns_memory(found)
        except Exception as raised:
            error = raised
    warned = sorted((w.category.__name__, str(w.message)) for w in heard)
    return Answer(value, error, tuple(warned), owns)


def owns_memory(value: Any) -> tuple[bool, ...]:
    """Return, for each array of a result, whether it owns its memory, as programs can ask."""
    items = value if type(value) is tuple else (value,)
    return tuple(a.base is None for a in items if isinstance(a, numpy.ndarray | np.ndarray))


def plain(value: Any) -> Any:
    """Return ``value`` with NumPy's arrays for ours, also in tuples; a genuine one is a mistake."""
    if type(value) is np.ndarray:
        shape, dtype, strides = value.shape, value.dtype, value.strides
        host = value.to_numpy()
        told, found = (shape, dtype, strides), (host.shape, host.dtype, host.strides)
        if told != found:
            raise AssertionError(f"a pending array said {told} and became {found}")
        return host
    if type(value) in (tuple, list):
        return type(value)(plain(item) for item in value)
    return value


def ours(value: Any) -> Any:
    """Return a copy of a NumPy array as ours, whose memory nobody else sees; the rest as it is."""
    return np.array(value) if type(value) is numpy.ndarray else value


def genuine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have arrays that ``function`` returns checked to be dispatcharr's."""

    def call(*args: Any) -> Any:
        result = function(*args)
        for item in result if type(result) is tuple else (result,):
            if type(item) is numpy.ndarray:
                raise AssertionError("a result is NumPy's own array, not dispatcharr's")
        return result

    return call


def differ(
    got: Answer,
    wanted: Answer,
    *,
    often: bool = True,
    strides: bool = True,
    owning: bool = True,
    close: Close | None = None,
) -> str | None:
    """Return in what ``got`` differs from NumPy's answer, None where they are the same.

    Parameters
    ----------
    got, wanted : Answer
        Ours and NumPy's.
    often : bool
        Whether the number of equal warnings counts.
    strides : bool
        Whether memory order counts.
    owning : bool
        Whether it matters if arrays own their memory.
    close : callable
        What compares two arrays of values; by default every bit counts.
    """
    if wanted.error is not None or got.error is not None:
        told = [(type(a.error).__name__, str(a.error)) for a in (got, wanted)]
        return None if told[0] == told[1] else f"error {told[0]} instead of {told[1]}"
    warned = [a.warned if often else tuple(dict.fromkeys(a.warned)) for a in (got, wanted)]
    if warned[0] != warned[1]:
        return f"warned {warned[0]} instead of {warned[1]}"
    if owning and got.owns != wanted.owns:
        return f"owning memory {got.owns} instead of {wanted.owns}"
    return _differ_in_value(got.value, wanted.value, close or same, strides)


def _differ_in_value(got: Any, wanted: Any, close: Close, strides: bool) -> str | None:
    if type(got) is not type(wanted):
        return f"type {type(got).__name__} instead of {type(wanted).__name__}"
    if isinstance(wanted, tuple):
        if len(got) != len(wanted):
            return f"{len(got)} results instead of {len(wanted)}"
        found = (_differ_in_value(g, w, close, strides) for g, w in zip(got, wanted, strict=True))
        return next((reason for reason in found if reason), None)
    if not isinstance(wanted, (numpy.ndarray, numpy.generic)):
        return None if repr(got) == repr(wanted) else f"{got!r} instead of {wanted!r}"
    if (got.dtype, got.dtype.char) != (wanted.dtype, wanted.dtype.char):
        return f"dtype {got.dtype} {got.dtype.char} instead of {wanted.dtype} {wanted.dtype.char}"
    if got.shape != wanted.shape:
        return f"shape {got.shape} instead of {wanted.shape}"
    if strides and wanted.size and _long(got) != _long(wanted):
        return f"strides {got.strides} instead of {wanted.strides}"
    return close(numpy.atleast_1d(got), numpy.atleast_1d(wanted))


def _long(array: Any) -> list[int]:
    return [s for s, extent in zip(array.strides, array.shape, strict=True) if extent > 1]


def same(got: numpy.ndarray, wanted: numpy.ndarray) -> str | None:
    """Return the first element whose bits differ."""
    return first_beyond(got, wanted, 0.0)


def near(got: numpy.ndarray, wanted: numpy.ndarray) -> str | None:
    """Return the first element that is further from the wanted one than is promised."""
    return first_beyond(got, wanted, 2 * ULPS if is_compiled() else ULPS)


def same_but_zeros(got: numpy.ndarray, wanted: numpy.ndarray) -> str | None:
    """Return the first element that differs in more than the sign of a zero."""
    return first_beyond(got, wanted, 0.0, (got == 0) & (wanted == 0))


def near_if_complex(got: numpy.ndarray, wanted: numpy.ndarray) -> str | None:
    """Return the first element that differs, for complex numbers by more than their size allows.

    Both parts count as off by as much as the whole is: one may be all that a product's terms leave.
    """
    if wanted.dtype.kind != "c":
        return first_beyond(got, wanted, 0.0)
    limit = ULPS * numpy.finfo(wanted.dtype).eps
    with numpy.errstate(all="ignore"):
        near_enough = numpy.abs(got - wanted) <= limit * numpy.abs(wanted)
        return first_beyond(got, wanted, 0.0, near_enough & numpy.isfinite(wanted))


def first_beyond(
    got: numpy.ndarray, wanted: numpy.ndarray, limit: Any, excused: Any = False
) -> str | None:
    """Return the first element that is more than ``limit`` units from the wanted one."""
    distance = ulps(got, wanted)
    bad = (distance > limit) & ~numpy.asarray(excused)
    if not bad.any():
        return None
    at = tuple(int(i) for i in numpy.argwhere(bad)[0])
    first = f"{got[at]!r} instead of {wanted[at]!r}"
    return f"{int(bad.sum())} of {bad.size} elements; at {at}: {first}, {distance[at]:g} ulp"


def ulps(got: numpy.ndarray, wanted: numpy.ndarray) -> numpy.ndarray:
    """Return the distance of each element in units in the last place; 0 only for the same bits."""
    if wanted.dtype.kind == "c":
        return numpy.maximum(ulps(got.real, wanted.real), ulps(got.imag, wanted.imag))
    if wanted.dtype.kind != "f" or wanted.dtype.itemsize not in _BITS:
        same = numpy.asarray((got == wanted) | ((got != got) & (wanted != wanted)))
        return numpy.where(same, 0.0, numpy.inf)
    integer = _BITS[wanted.dtype.itemsize]
    native = wanted.dtype.newbyteorder("=")
    places = []
    for array in (got, wanted):
        bits = numpy.ascontiguousarray(array, native).view(integer).reshape(wanted.shape)
        # Numbers in order on one line, -0.0 right below 0.0, counted from the lowest one.
        lowest = numpy.iinfo(integer).min
        line = numpy.where(bits < 0, (lowest - bits) - 1, bits).astype(numpy.int64)
        places.append(line.view(numpy.uint64) + numpy.uint64(1 << 63))
    low, high = numpy.minimum(*places), numpy.maximum(*places)
    distance = (high - low).astype(numpy.float64)
    distance[numpy.isnan(got) & numpy.isnan(wanted)] = 0.0
    distance[numpy.isnan(got) != numpy.isnan(wanted)] = numpy.inf
    return distance


def report(wrong: list[str]) -> None:
    """Fail with the first few of what is wrong, if anything is."""
    if wrong:
        shown = "\n".join(wrong[:5])
        pytest.fail(f"{len(wrong)} differ from NumPy:\n{shown}", pytrace=False)
