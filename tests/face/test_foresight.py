"""Operations of middling size wait where the program has shown that others take their results."""

from __future__ import annotations

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import _fastpath, limits
from dispatcharr.kernels import native

pytestmark = pytest.mark.skipif(
    not _fastpath.COMPILED or native.missing() is not None,
    reason="the compiled fast path alone remembers places, for kernels that are compiled",
)
FLOAT = numpy.dtype(float)


@pytest.fixture(autouse=True)
def nobody_waits_for_warnings():
    """Let operations wait, which they do not where pytest listens to warnings."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def size():
    """Return a number of elements between the two limits of a sum."""
    x = np.ones(1 << 15)
    x + x  # has the limits worked out
    alone = limits.limit_of("add", FLOAT) // 8
    n = 400_000
    assert n < alone
    return n


def kernels(call):
    """Return how many operations each kernel of ``call`` had, and what it returned."""
    with np.record_dispatch() as record:
        value = call()
    return [len(one.region.program) for one in record.records], value


def test_a_chain_that_repeats_itself_becomes_one_kernel(size):
    a, b = numpy.random.default_rng(0).random((2, size))
    x, y = np.array(a), np.array(b)

    def step():
        return np.evaluate(2 * x + 3 * y - x * y)

    for _ in range(4):
        got = step()
        assert numpy.array_equal(got.to_numpy(), 2 * a + 3 * b - a * b)
    ran, got = kernels(step)
    assert ran == [5]
    assert numpy.array_equal(got.to_numpy(), 2 * a + 3 * b - a * b)


def test_functions_and_reductions_are_foreseen_too(size):
    a = numpy.random.default_rng(0).random(size)
    x = np.array(a)

    def step():
        return ((np.sqrt(x) - 1) * x).sum()

    for _ in range(4):
        step()
    ran, got = kernels(step)
    assert ran == [3]
    assert got == pytest.approx(((numpy.sqrt(a) - 1) * a).sum(), rel=1e-12)


def test_operations_that_stand_alone_are_not_planned(size):
    x = np.array(numpy.random.default_rng(0).random(size))
    kept = []

    def step():
        kept[:] = [x + 1.5]

    for _ in range(10):
        step()
    ran, _ = kernels(step)
    assert ran == []


def test_a_place_whose_results_are_no_longer_operands_runs_at_once_again(size):
    a = numpy.random.default_rng(0).random(size)
    x = np.array(a)

    def step(used):
        y = x * 1.25
        z = y - x if used else None
        return np.evaluate(y) if z is None else np.evaluate(z)

    for _ in range(4):
        step(True)
    assert kernels(lambda: step(True))[0] == [2]
    first, got = kernels(lambda: step(False))
    assert first == [1]  # it waited in vain
    assert numpy.array_equal(got.to_numpy(), a * 1.25)
    for _ in range(3):
        assert kernels(lambda: step(False))[0] == []
    for _ in range(12):
        step(True)
    assert kernels(lambda: step(True))[0] == [2]


def test_what_may_not_wait_runs_at_once(size):
    a = numpy.random.default_rng(0).random(size)
    x = np.array(a)

    def step():
        return np.evaluate(x * 1.25 - x)

    for _ in range(4):
        step()
    held = numpy.asarray(x)  # now anyone may write to it
    ran, got = kernels(step)
    assert ran == []
    assert numpy.array_equal(got.to_numpy(), a * 1.25 - a)
    del held
    with np.errstate(over="raise"):
        assert kernels(step)[0] == []
    with np.dispatch_options(defer="never"):
        assert kernels(step)[0] == []


def test_short_operations_do_not_ask_where_they_are():
    x = np.array(numpy.arange(1000.0))

    def step():
        return np.evaluate(2 * x + x)

    for _ in range(5):
        step()
    assert kernels(step)[0] == []


@pytest.mark.parametrize("number", [0, -1, 4097, 10**9])
def test_numbers_that_are_no_place_are_harmless(number):
    _fastpath.mistaken(number)


def test_limits_are_checked():
    with pytest.raises(ValueError, match="slot -1 is outside"):
        _fastpath.set_chain_limit(-1, 0, 0)
    with pytest.raises(TypeError, match="memory handler"):
        _fastpath.set_memory(3, 0)


def test_squares_by_the_operator_are_the_fast_paths_too():
    a = np.array(numpy.ones(4000))
    a**2  # asks for the limit
    before = _fastpath.served()
    assert float((a**2)[0]) == 1.0
    assert _fastpath.served() > before + 1
