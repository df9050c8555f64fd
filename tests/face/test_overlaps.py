"""Statements that read what they write: NumPy's answer, whatever is fused, cut or waits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np

STATEMENTS: dict[str, Callable[[Any, Any], None]] = {}


def statement(function: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    STATEMENTS[function.__name__] = function
    return function


@statement
def shift_up(m: Any, u: Any) -> None:
    u[1:] = u[:-1] + 1


@statement
def shift_down(m: Any, u: Any) -> None:
    u[:-1] = u[1:] * 2 - 1


@statement
def reverse(m: Any, u: Any) -> None:
    u[...] = u[::-1]


@statement
def reverse_named(m: Any, u: Any) -> None:
    turned = u[::-1] + 0
    u[:] = turned
    turned += 1
    u += turned


@statement
def add_reversed(m: Any, u: Any) -> None:
    u += u[::-1]


@statement
def add_reversed_into(m: Any, u: Any) -> None:
    m.add(u[::-1], 1, out=u)


@statement
def add_shifted_into(m: Any, u: Any) -> None:
    m.add(u[:-1], u[1:], out=u[1:])
    m.multiply(u[2:], 0.5, out=u[:-2])


@statement
def add_shifted_in_place(m: Any, u: Any) -> None:
    u[1:] += u[:-1]
    u[:-3] -= u[3:]


@statement
def add_transposed(m: Any, u: Any) -> None:
    square = u.reshape(m.shape(u)[0], -1)[:, : m.shape(u)[0]]
    square += square.T


@statement
def assign_transposed(m: Any, u: Any) -> None:
    square = u.reshape(m.shape(u)[0], -1)[:, : m.shape(u)[0]]
    square[...] = square.T


@statement
def cast_in_place(m: Any, u: Any) -> None:
    whole = u.view("i8")
    u[...] = whole % 7
    m.add(u, 1, out=whole.view("f8"))


@statement
def write_a_part_of_what_waits(m: Any, u: Any) -> None:
    later = u * 2
    u[::2] = 0
    later[1::2] = u[1::2]
    u[...] = later


@statement
def heat(m: Any, u: Any) -> None:
    for _ in range(3):
        u[1:-1] = u[1:-1] + 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])


@statement
def heat_between_two_arrays(m: Any, u: Any) -> None:
    v = u.copy()
    for _ in range(4):
        v[1:-1] = u[1:-1] + 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
        u, v = v, u
    if _ % 2 == 0:
        v[...] = u


@statement
def swap_halves(m: Any, u: Any) -> None:
    half = len(u) // 2
    first = u[:half] * 1
    u[:half] = u[-half:]
    u[-half:] = first


@statement
def swap_names(m: Any, u: Any) -> None:
    a, b = u[0] + 0, u[1] + 0
    u[0], u[1] = b, a


@statement
def broadcast_a_row_of_itself(m: Any, u: Any) -> None:
    u -= u[0]
    u /= 1 + abs(u[-1])


@statement
def conditional(m: Any, u: Any) -> None:
    u[u > 5] = 5
    m.where(u > 1, u, u[::-1])
    u[...] = m.where(u > 1, u[::-1], -u)


@statement
def clip_into_itself(m: Any, u: Any) -> None:
    m.clip(u, -3, 4, out=u)
    m.clip(u[::-1], -2, 3, out=u)


@statement
def running_sum_by_hand(m: Any, u: Any) -> None:
    for i in range(1, 5):
        u[i] += u[i - 1]


@statement
def read_own_sum(m: Any, u: Any) -> None:
    u[...] = u - u.max()
    u[0] = (u * 0).max(axis=0)


SHAPES = ((50_000,), (220, 230), (1100,), (33, 34), (7,), (5, 6))
MODES = ({"defer": "always"}, {"defer": "always", "fusion": False}, {}, {"backend": "serial"},
         {"backend": "threads", "threads": 2}, {"defer": "always", "verify": 1.0})  # fmt: skip


@pytest.fixture(params=MODES, ids=str)
def mode(request: pytest.FixtureRequest, large: None) -> Iterator[None]:
    with np.dispatch_options(**request.param):
        yield


@pytest.mark.parametrize(("name", "shape"), list(itertools.product(STATEMENTS, SHAPES)), ids=str)
def test_statement(name: str, shape: tuple[int, ...], mode: None) -> None:
    rng = numpy.random.default_rng(3)
    wanted = rng.permutation(int(numpy.prod(shape))).reshape(shape) - 3.0
    if len(shape) == 1 and "transposed" in name:
        wanted = wanted[: int(len(wanted) ** 0.5) ** 2]
    got = np.array(wanted)
    if "transposed" in name and len(shape) == 1:
        side = int(len(wanted) ** 0.5)
        wanted, got = wanted.reshape(side, side), got.reshape(side, side)
    held = got + 0
    before = wanted.copy()
    STATEMENTS[name](numpy, wanted)
    STATEMENTS[name](np, got)
    numpy.testing.assert_array_equal(got, wanted)
    numpy.testing.assert_array_equal(held, before)


@pytest.mark.parametrize("shape", [(50_000,), (1100,), (7,)], ids=str)
def test_memory_written_by_its_owner_between_statements(shape: tuple[int, ...], mode: None) -> None:
    owner = numpy.zeros(shape)
    ours = np.asarray(owner)
    results = []
    for i in range(5):
        results.append(ours * 2 + 1)
        owner += i
        results.append(np.where(ours > 2, ours, -ours))
    for i, result in enumerate(results):
        value = sum(range(i // 2 + (i % 2)))
        wanted = value * 2 + 1 if i % 2 == 0 else value if value > 2 else -value
        numpy.testing.assert_array_equal(result, numpy.full(shape, float(wanted)))


def test_a_read_only_or_failing_write_changes_nothing(mode: None) -> None:
    array = np.arange(50_000.0)
    waiting = array * 2
    with pytest.raises(ValueError, match="could not broadcast"):
        array[1:] = waiting
    with pytest.raises(TypeError):
        np.arange(50_000).__iadd__(waiting)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        array += waiting
    with pytest.raises(ValueError, match="read-only"):
        array[...] = waiting
    numpy.testing.assert_array_equal(array, numpy.arange(50_000.0))
    numpy.testing.assert_array_equal(waiting, numpy.arange(50_000.0) * 2)
