"""What is stored: values that a name shows, once; temporaries never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np

Waits = Callable[[Any], bool]


def stored(record: Any) -> list[int]:
    """Return how many arrays each kernel stored, its scalar result aside."""
    return [len(kernel.region.outputs) for kernel in record.records]


def programs(record: Any) -> list[str]:
    return [kernel.region.describe() for kernel in record.records]


@pytest.fixture
def pair(always: None) -> tuple[Any, Any]:
    return np.array(numpy.arange(3000.0)), np.array(numpy.ones(3000))


def test_a_reduced_temporary_is_not_stored(pair: Any) -> None:
    a, b = pair
    with np.record_dispatch() as record:
        total = ((a - b) ** 2).sum()
    assert programs(record) == ["subtract square sum"]
    assert stored(record) == [0]
    assert total == ((numpy.arange(3000.0) - 1) ** 2).sum()


def test_a_reduced_temporary_as_an_argument_is_not_stored(pair: Any) -> None:
    a, b = pair
    with np.record_dispatch() as record:
        np.sum(a * b)
        np.max(np.sqrt(a) + b)
    assert stored(record) == [0, 0]


def test_a_reduced_name_is_stored_with_the_reduction(pair: Any, waits: Waits) -> None:
    a, b = pair
    with np.record_dispatch() as record:
        y = a * 2 + b
        assert waits(y)
        first = y.sum()
        assert not waits(y)
        second = y.sum()
        numpy.asarray(y)
    assert programs(record)[0] == "multiply add sum"
    assert stored(record)[0] == 1
    assert sum(stored(record)) == 1
    assert first == second


def test_a_named_operand_is_stored_in_the_kernel_that_computes_it(pair: Any, waits: Waits) -> None:
    a, b = pair
    with np.record_dispatch() as record:
        named = a + b
        numpy.asarray(named * 2)
    assert programs(record) == ["add multiply"]
    assert stored(record) == [2]
    assert not waits(named)


def test_a_dropped_name_is_not_stored(pair: Any) -> None:
    a, b = pair
    with np.record_dispatch() as record:
        dropped = a + b
        result = dropped * 2
        del dropped
        numpy.asarray(result)
    assert stored(record) == [1]


def test_a_name_in_a_container_a_closure_or_an_attribute_counts(pair: Any, waits: Waits) -> None:
    a, b = pair

    class Holder:
        pass

    holder = Holder()
    holder.value = a + 1  # type: ignore[attr-defined]
    inside = [a + 2, {"x": a + 3}]
    captured = a + 4

    def closure() -> Any:
        return captured.sum()

    with np.record_dispatch() as record:
        holder.value.sum()  # type: ignore[attr-defined]
        inside[0].sum()
        inside[1]["x"].sum()
        closure()
        b.sum()
    assert stored(record)[:4] == [1, 1, 1, 1]


def test_a_function_parameter_counts_as_a_name(pair: Any) -> None:
    a, b = pair

    def total(values: Any) -> Any:
        return values.sum(), values.max()

    with np.record_dispatch() as record:
        total(a * b)
    assert sum(stored(record)) <= 1
    assert programs(record)[0].endswith("sum")


def test_an_expression_assigned_to_a_slice_runs_into_it(pair: Any) -> None:
    a, b = pair
    target = np.zeros(4000)
    with np.record_dispatch() as record:
        target[500:3500] = a * 2 + b
    assert programs(record) == ["multiply add"]
    assert target[500] == 1
    assert target[3499] == 2 * 2999 + 1
    named = a * 3
    with np.record_dispatch() as record:
        target[:3000] = named
        target += 1
        assert named[1] == 3
    assert sum("multiply" in program for program in programs(record)) == 1


def test_an_unused_result_is_never_computed(pair: Any) -> None:
    a, b = pair
    with np.record_dispatch() as record:
        unused = a * b
        del unused
        for _ in range(5):
            a + b
    assert record.records == []


def test_evaluating_together_computes_what_is_shared_once(pair: Any, waits: Waits) -> None:
    a, b = pair
    base = a * 2
    x, y = base + b, base - b
    with np.record_dispatch() as record:
        np.evaluate(x, y)
    assert programs(record) == ["multiply add subtract"]
    assert not any(map(waits, (base, x, y)))


def test_evaluate_without_arguments_runs_everything(pair: Any, waits: Waits) -> None:
    a, b = pair
    arrays = [a + b, np.linspace(0, 1, 3000), np.full(3000, 2.0) * 3, np.arange(3000) + 1]
    assert all(map(waits, arrays))
    assert np.evaluate() is None
    assert not any(map(waits, arrays))


def test_evaluate_returns_what_it_was_given(pair: Any) -> None:
    a, b = pair
    c = a + b
    assert np.evaluate(c) is c
    assert np.evaluate(c, a)[1] is a
    assert np.evaluate(3) == 3


def test_looking_at_what_is_known_evaluates_nothing(pair: Any, waits: Waits) -> None:
    a, b = pair
    y = a + b
    for name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "device"):
        getattr(y, name)
    len(y), type(y), isinstance(y, np.ndarray), y.sum, hasattr(y, "__array_ufunc__"), id(y)
    y.__array_namespace__()
    assert waits(y)


def test_asking_for_a_protocol_does_not_mark_memory_as_seen(pair: Any, waits: Waits) -> None:
    a, b = pair
    for name in ("__dlpack__", "__buffer__", "data", "__array__", "__array_ufunc__"):
        hasattr(a, name)
    assert waits(a + b)


def test_explain_runs_nothing(pair: Any, waits: Waits) -> None:
    a, b = pair
    y = a * 2 + b
    with np.record_dispatch() as record:
        assert "2 operations fused" in str(np.explain(y))
    assert waits(y)
    assert record.records == []
