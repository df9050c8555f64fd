"""Random graphs of operations: fused equals unfused equals NumPy, to the bit where promised."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dispatcharr as np

pytestmark = pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")

UNARY: tuple[Callable[[Any, Any], Any], ...] = (
    lambda m, a: -a, lambda m, a: m.square(a), lambda m, a: abs(a), lambda m, a: m.isnan(a),
    lambda m, a: m.sqrt(abs(a)), lambda m, a: a.astype("f4"), lambda m, a: a.T,
    lambda m, a: a[::-1],
    lambda m, a: m.logical_not(a), lambda m, a: a**2, lambda m, a: m.reciprocal(a),
    lambda m, a: a[1:], lambda m, a: a[..., None], lambda m, a: m.sign(a), lambda m, a: a.ravel(),
    lambda m, a: m.conjugate(a), lambda m, a: m.floor(a), lambda m, a: a.astype("i2"),
    lambda m, a: a.real,
)  # fmt: skip
BINARY: tuple[Callable[[Any, Any, Any], Any], ...] = (
    lambda m, a, b: a + b, lambda m, a, b: a - b, lambda m, a, b: a * b, lambda m, a, b: a / b,
    lambda m, a, b: a // b, lambda m, a, b: a % b, lambda m, a, b: m.maximum(a, b),
    lambda m, a, b: a < b, lambda m, a, b: a == b, lambda m, a, b: m.where(a > 0, a, b),
    lambda m, a, b: m.clip(a, b, 3), lambda m, a, b: m.copysign(a, b), lambda m, a, b: a & b,
    lambda m, a, b: m.fmin(a, b), lambda m, a, b: m.logical_or(a, b), lambda m, a, b: a + 2,
    lambda m, a, b: 0.5 * a, lambda m, a, b: 1j - a, lambda m, a, b: m.add(a, b, dtype="f8"),
)  # fmt: skip
LEAVES = (
    "f8",
    "f4",
    "i8",
    "u1",
    "?",
    "c8",
    "f2",
    "transposed",
    "strided",
    "row",
    "column",
    "zero-d",
)


def leaf(module: Any, kind: str, rows: int, columns: int) -> Any:
    values = numpy.random.default_rng(len(kind)).integers(-4, 9, (rows, columns)).astype("f8")
    values[0, 0] = numpy.nan
    if kind == "transposed":
        return module.array(values.T.copy()).T
    if kind == "strided":
        return module.array(numpy.repeat(values, 2, axis=1))[:, ::-2]
    if kind == "row":
        return module.array(values[0])
    if kind == "column":
        return module.array(values[:, :1].copy())
    if kind == "zero-d":
        return module.array(2.5)
    return module.array(numpy.nan_to_num(values).astype(kind) if kind != "f8" else values)


@st.composite
def graphs(draw: Any, longest: int = 25) -> tuple[list[str], list[tuple[int, int, int, bool]]]:
    """Draw leaves and steps ``(function, operand, operand, whether a name keeps the result)``."""
    leaves = draw(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=4))
    steps = []
    for i in range(draw(st.integers(1, longest))):
        known = st.integers(0, len(leaves) + i - 1)
        function = draw(st.integers(0, len(UNARY) + len(BINARY) - 1))
        steps.append((function, draw(known), draw(known), draw(st.booleans())))
    return leaves, steps


def evaluate(module: Any, graph: Any, sizes: tuple[int, int]) -> list[Any]:
    """Run a graph; return what its names hold in the end."""
    leaves, steps = graph
    values = [leaf(module, kind, *sizes) for kind in leaves]
    kept = []
    for function, left, right, keep in steps:
        try:
            if function < len(UNARY):
                made = UNARY[function](module, values[left])
            else:
                made = BINARY[function - len(UNARY)](module, values[left], values[right])
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            made = None
            kept.append(type(error))
        if made is not None and getattr(made, "size", 1) > 400_000:
            made = None
        values.append(values[left] if made is None else made)
        if keep:
            kept.append(values[-1])
    return [*kept, values[-1]]


def steps(array: Any) -> list[int]:
    """Return the strides that matter; those of axes of length one depend on NumPy's shortcuts."""
    return [s for s, extent in zip(array.strides, array.shape, strict=True) if extent != 1]


def compare(graph: Any, sizes: tuple[int, int], *options: dict[str, Any]) -> None:
    with numpy.errstate(all="ignore"):
        wanted = evaluate(numpy, graph, sizes)
        for chosen in options:
            with np.dispatch_options(**chosen):
                got = evaluate(np, graph, sizes)
                assert len(got) == len(wanted)
                for one, other in zip(got, wanted, strict=True):
                    if isinstance(other, type):
                        assert one is other
                        continue
                    if isinstance(other, numpy.ndarray):
                        assert steps(one) == steps(other)
                    numpy.testing.assert_array_equal(numpy.asarray(one), other, strict=True)


#: The same examples every time; the slow test tries others.
QUIET = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@QUIET
@given(graph=graphs())
def test_graphs_of_small_arrays(graph: Any) -> None:
    compare(graph, (3, 4), {"defer": "always"}, {"defer": "always", "fusion": False}, {})


@settings(QUIET, max_examples=60)
@given(graph=graphs(12))
def test_graphs_of_arrays_whose_memory_is_shared(graph: Any) -> None:
    compare(graph, (33, 40), {"defer": "always", "backend": "threads"}, {"defer": "always"})


@settings(QUIET, max_examples=25)
@given(graph=graphs(12))
def test_graphs_of_large_arrays(large: None, graph: Any) -> None:
    compare(graph, (210, 230), {}, {"backend": "threads"}, {"fusion": False})


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(QUIET, max_examples=3000, derandomize=False)
@given(graph=graphs(60))
def test_many_graphs(graph: Any) -> None:
    compare(graph, (3, 5), {"defer": "always"}, {"defer": "always", "fusion": False})
    compare(graph, (33, 34), {"defer": "always", "backend": "serial"})


@pytest.mark.parametrize("fusion", [True, False])
def test_long_chains_are_fine(fusion: bool) -> None:
    with np.dispatch_options(defer="always", fusion=fusion):
        array = first = np.arange(1500.0)
        for i in range(10_000):
            array = array + (1 if i % 2 else -1)
        numpy.testing.assert_array_equal(array, numpy.arange(1500.0))
        numpy.testing.assert_array_equal(first, numpy.arange(1500.0))


def test_a_chain_of_names_that_all_live(always: None) -> None:
    arrays = [np.arange(1500)]
    for _ in range(500):
        arrays.append(arrays[-1] + 1)
    for i, array in enumerate(arrays):
        assert array[0] == i


def test_a_node_used_a_hundred_times(always: None) -> None:
    base = np.arange(1500.0) + 1
    total = base * 0
    for _ in range(100):
        total = total + base
    numpy.testing.assert_array_equal(total, (numpy.arange(1500.0) + 1) * 100)


def test_doubling_does_not_grow_exponentially(always: None) -> None:
    array = np.ones(1500)
    for _ in range(200):
        array = array + array
        array = array * 0.5
    assert (array == 1).all()


def test_pending_lists_of_arrays(always: None) -> None:
    base = np.arange(1500.0)
    arrays = [base * i for i in range(300)]
    stacked = np.stack(arrays)
    assert stacked.shape == (300, 1500)
    assert stacked[299, 2] == 598
    assert np.concatenate(arrays).shape == (450_000,)
    assert sum(arrays)[1] == sum(range(300))
    assert max(float(a[1]) for a in arrays) == 299
    assert operator.add(*np.array(arrays[:2]))[1] == 1
