"""numba's compiled functions with our arrays as arguments."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

import dispatcharr as np
from neighbours import Call, Neighbour, load

nb = load("numba")
numba = Neighbour("numba")
works, ours, numpys = numba.works, numba.ours, numba.numpys


@nb.njit
def total(x: Any) -> Any:
    found = 0.0
    for value in x.flat:
        found += value
    return found


@nb.njit
def scaled(x: Any) -> Any:
    return x * 2 + 1, x


@nb.njit
def written(x: Any) -> Any:
    x[0] = 9
    return x.shape, x.sum()


@nb.njit("f8(f8[::1])")
def typed(x: Any) -> Any:
    return x[0]


@nb.vectorize(["f8(f8, f8)"])
def product(x: Any, y: Any) -> Any:
    return x * y


@nb.vectorize
def dynamic(x: Any) -> Any:
    return x + 1


@nb.guvectorize(["void(f8[:], f8[:])"], "(n)->()")
def largest(x: Any, out: Any) -> Any:
    out[0] = x.max()


@nb.njit(parallel=True)
def spread(x: Any) -> Any:
    found = 0.0
    for i in nb.prange(x.size):
        found += x[i]
    return found


def smoothing(a: Any) -> Any:
    """Return a compiled function that finds the module, functions and an array outside itself."""
    m = a.np
    weights, square = a([0.25, 0.5, 0.25]), m.square

    @nb.njit
    def smooth(x: Any) -> Any:
        found = m.zeros_like(x)
        for i in range(1, x.size - 1):
            found[i] = m.sum(x[i - 1 : i + 2] * weights) + square(m.pi)
        return found + m.float32(0.5)

    return smooth


works("njit f(x): loop over x", lambda a: total(a.random(9)))
works(
    "njit f(x2d), f(x.T), f(x[::2])",
    lambda a: [total(a.random(3, 4)), total(a.random(3, 4).T), total(a.random(9)[::2])],
)
numpys("njit f(x) returning arrays", lambda a: scaled(a.random(9)))
numpys("njit f(x) with np.zeros_like, np.sum", lambda a: smoothing(a)(a.random(9)))
works("njit f(x) writing to x", lambda a: [written(a([1.0, 2.0])), changed(a([1.0, 2.0]))])
works(
    "njit f(x) of ints, bools, complex",
    lambda a: [total(a([1, 2])), total(a([True, False])), scaled(a([1j]))[0].tolist()],
)
works(
    "njit(signature) f(x)",
    lambda a: [typed(a([1.0, 2.0])), refused(a([1.0, 2.0], "f4"))],
)
works("njit(parallel=True) f(x)", lambda a: round(spread(a.random(50)), 9))
ours("vectorize(signature) f(x, y)", lambda a: product(a.random(5), a.random(5, seed=1)))
ours("vectorize f(x)", lambda a: dynamic(a.random(5)))
works("vectorize f.reduce(x)", lambda a: product.reduce(a.random(5)))
ours("guvectorize f(x2d)", lambda a: largest(a.random(3, 4)))
works("typeof(x)", lambda a: [nb.typeof(a([1.0])).dtype.name, nb.typeof(a.random(2, 3)).ndim])
works("typed.List of rows of x2d", lambda a: sums(nb.typed.List(list(a.random(2, 3)))))
works("x in an njit closure's argument tuple", lambda a: summed((a.random(3), a.random(2))))


@nb.njit
def sums(rows: Any) -> Any:
    found = 0.0
    for row in rows:
        found += row.sum()
    return found


@nb.njit
def summed(pair: Any) -> Any:
    return pair[0].sum() + pair[1].sum()


def refused(array: Any) -> str:
    with pytest.raises(TypeError) as error:
        typed(array)
    return type(error.value).__name__


def changed(array: Any) -> Any:
    written(array)
    return array.tolist()


@numba.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


def test_what_waits_reads_the_values_from_before_a_compiled_write() -> None:
    array = np.arange(5000.0)
    with np.dispatch_options(defer="always"):
        doubled = array * 2
        written(array)
        assert doubled[0] == 0
        assert array[0] == 9


def test_readonly_arrays_are_not_written() -> None:
    array = np.arange(5.0)
    array.flags.writeable = False
    with pytest.raises(nb.TypingError):
        written(array)
    assert total(array) == 10


def test_one_compilation_serves_arrays_of_one_type() -> None:
    function = nb.njit(lambda x: x.sum())
    for size in (3, 5):
        assert function(np.ones(size)) == size
    assert len(function.signatures) == 1
    assert function(numpy.ones(3)) == 3
    assert len(function.signatures) == 2
