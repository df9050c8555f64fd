"""Functions and methods that the fast path answers: those that only read, and `out=`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import _fastpath

compiled = pytest.mark.skipif(not _fastpath.COMPILED, reason="no compiled fast path here")

PURE: tuple[Callable[[Any, Any], Any], ...] = (
    lambda m, a: a.sum(), lambda m, a: m.max(a, axis=0), lambda m, a: a.argmax(0),
    lambda m, a: m.where(a > 9, a, 0.5), lambda m, a: m.clip(a, 2, 7), lambda m, a: a.clip(2, 7),
    lambda m, a: a.astype("f4"), lambda m, a: a.astype("f8", copy=False), lambda m, a: m.modf(a),
    lambda m, a: m.frexp(a), lambda m, a: m.divmod(a, 3), lambda m, a: m.nanmean(a),
)  # fmt: skip


@compiled
@pytest.mark.parametrize("call", PURE)
def test_functions_that_only_read_are_served_up_to_their_own_limit(
    call: Callable[[Any, Any], Any], same: Callable[[Any, Any], None]
) -> None:
    values = numpy.arange(1500.0) * 0.75
    array = np.array(values)
    call(np, array)  # the first one asks for the limit
    before = _fastpath.served()
    got = call(np, array)
    assert _fastpath.served() > before
    for one, wanted in zip(*map(_results, (got, call(numpy, values))), strict=True):
        same(one, wanted)
    assert (got is array) == (call(numpy, values) is values)
    with np.dispatch_options(defer="always"):
        doubled = array * 2
    call(np, array)
    array[0] = 5  # whatever read it, what waits is computed before it is written
    assert doubled[0] == 0


@compiled
@pytest.mark.parametrize(
    "call",
    [
        lambda m, a: a.reshape(30, -1), lambda m, a: a.reshape((50, 30), order="F"),
        lambda m, a: a.view("i8"), lambda m, a: a.ravel("K"), lambda m, a: a.transpose(0),
        lambda m, a: a.copy("C"), lambda m, a: a.item(3), lambda m, a: m.negative(a, a + 1),
        lambda m, a: m.where(m.array(a > 9), a, 1), lambda m, a: a.sum(where=m.array(a > 3)),
    ],
)  # fmt: skip
def test_calls_with_arguments_are_served_whatever_their_size(
    call: Callable[[Any, Any], Any], same: Callable[[Any, Any], None]
) -> None:
    values = numpy.arange(3000.0)
    values = values[:1500]
    array = np.array(values)
    same(call(np, array), call(numpy, values.copy()))
    before = _fastpath.served()
    call(np, array)
    served = _fastpath.served() - before
    with np.dispatch_options(defer="always"):
        before = _fastpath.served()
        call(np, array)
        assert served > _fastpath.served() - before


def test_a_view_made_with_arguments_shares_memory() -> None:
    array = np.array(numpy.arange(1500.0))
    table = array.reshape(30, 50)
    table[0, 1] = 9
    assert array[1] == 9
    with np.dispatch_options(defer="always"):
        waiting = array * 2
    array.reshape(-1, 2)[0, 1] = 7
    assert (waiting[1], array[1]) == (18, 7)


def _results(result: Any) -> tuple[Any, ...]:
    return result if type(result) is tuple else (result,)


def test_outputs_of_ours_are_written_by_the_fast_path() -> None:
    a, out = np.array(numpy.arange(1500.0)), np.array(numpy.zeros(1500))
    assert np.add(a, 1, out=out) is out
    before = _fastpath.served()
    assert np.add(a, 1, out=out) is out
    assert np.negative(a, out=a) is a
    assert _fastpath.served() == before + 2 or not _fastpath.COMPILED
    assert (out[3], a[3]) == (4, -3)
    with pytest.raises(ValueError, match="broadcast"):
        np.add(a, 1, out=out[:3])
    with pytest.raises(TypeError):
        np.add(a, 1, out=np.array(numpy.zeros(1500, "i4")))
    theirs = numpy.zeros(1500)
    assert np.add(a, 1, out=theirs) is theirs
    assert np.add(a, 1, out=(out,)) is out
    assert np.add(a, 1, out=None)[3] == -2
    with np.dispatch_options(defer="always"):
        waiting = out * 2
    np.add(a, 7, out=out)
    assert waiting[3] == -4
    assert out[3] == 4
