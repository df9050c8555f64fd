"""Fusion: what shares a kernel, what is stored, why a region ends, and what is remembered."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr import _events, engine
from dispatcharr.plan import fuse
from dispatcharr.plan.work import count_work
from dispatcharr.storage import pool

LARGE = 10_000_000
N = 2000  # above the size that is copied when recorded


@pytest.fixture(autouse=True)
def everything_waits() -> Iterator[None]:
    with np.dispatch_options(defer="always"):
        yield


@pytest.fixture
def kernels() -> Iterator[list[Any]]:
    heard: list[Any] = []
    with _events.listening(heard.append):
        yield heard


def regions(heard: list[Any]) -> list[Any]:
    return [record.region for record in heard if isinstance(record, _events.KernelRecord)]


def line(n: int = N) -> Any:
    return np.array(numpy.linspace(0.5, 2.0, n))


def test_a_chain_of_operations_is_one_kernel_with_one_output(kernels: list[Any]) -> None:
    a, b = line(), line()
    y = np.evaluate(2 * a + 3 * b - a * b)
    (region,) = regions(kernels)
    assert len(region.program) == 5
    assert len(region.outputs) == 1
    numpy.testing.assert_array_equal(
        y, 2 * line().to_numpy() + 3 * line().to_numpy() - line().to_numpy() ** 2
    )


def test_an_intermediate_that_a_name_shows_becomes_an_output(kernels: list[Any]) -> None:
    a = line()
    middle = a * 2
    end = middle + 1
    np.evaluate(end)
    (region,) = regions(kernels)
    assert len(region.outputs) == 2
    kernels.clear()
    assert middle[0] == 1.0  # line() starts at 0.5
    assert not regions(kernels), "the intermediate was computed again"


def test_the_same_operand_is_read_once(kernels: list[Any]) -> None:
    a = line()
    np.evaluate(a * a + a)
    (region,) = regions(kernels)
    assert len(region.inputs) == 1


def test_a_reduction_ends_the_kernel_of_what_it_reduces(kernels: list[Any]) -> None:
    a, b = line(), line()
    total = ((a - b) ** 2).sum()  # not in an assert, which holds on to intermediates
    assert total == 0.0
    (region,) = regions(kernels)
    assert region.reducing is not None
    assert region.outputs == ()
    assert region.border == "reduction"


def test_what_a_name_shows_is_stored_while_it_is_reduced(kernels: list[Any]) -> None:
    y = line() * 2
    total = y.sum()
    (region,) = regions(kernels)
    assert region.reducing is not None and len(region.outputs) == 1
    kernels.clear()
    assert numpy.isclose(total, y.to_numpy().sum())
    assert not regions(kernels)


def test_a_smaller_operand_is_computed_once_and_not_per_element(kernels: list[Any]) -> None:
    row, table = line(), np.array(numpy.ones((7, N)))
    np.evaluate(np.sin(row) * table)
    small, large = regions(kernels)
    assert small.border == "shape"
    assert [i.row.name for i in small.program] == ["sin"]
    assert [i.row.name for i in large.program] == ["multiply"]


def test_error_modes_part_kernels_but_not_operations_that_cannot_err(kernels: list[Any]) -> None:
    a, b = line(), line()
    np.evaluate(np.where(a > b, a, b) * 2)
    assert len(regions(kernels)) == 1
    kernels.clear()
    y = a / b
    with np.errstate(all="ignore"):
        z = y + 1
    del y
    np.evaluate(z)
    assert [region.border for region in regions(kernels)] == ["errors", "asked"]


def test_a_reduction_under_other_error_modes_is_a_kernel_of_its_own(kernels: list[Any]) -> None:
    a, b = line(), line()
    y = a / b
    with np.errstate(all="ignore"):
        y.sum()
    stored, reduced = regions(kernels)
    assert stored.border == "errors" and stored.outputs and stored.reducing is None
    assert not reduced.program and reduced.reducing is not None


def test_what_cannot_err_takes_the_modes_of_what_it_is_fused_with(kernels: list[Any]) -> None:
    a, b = line() * 1e200, line() - 1
    np.evaluate(a, b)
    for modes, heard in (("warn", ["overflow encountered in reduce"]), ("ignore", [])):
        with np.errstate(all="ignore"):
            quotient = a / b
        chosen = np.where(a > b, abs(a), quotient)
        with warnings.catch_warnings(record=True) as caught, np.errstate(all=modes):
            warnings.simplefilter("always")
            assert np.prod(chosen) == numpy.inf
        assert [str(one.message) for one in caught] == heard


def test_without_fusion_every_operation_is_a_kernel(kernels: list[Any]) -> None:
    a = line()
    with np.dispatch_options(fusion=False):
        np.evaluate(a * 2 + 1)
    assert [len(region.program) for region in regions(kernels)] == [1, 1]
    assert regions(kernels)[0].border == "fusion off"


def test_a_repeated_statement_is_planned_once() -> None:
    def statement() -> Any:
        return np.evaluate(line() * 3 + line())

    statement()
    before = len(fuse._cache)
    plans = {id(plan) for plan in fuse._cache.values()}
    for _ in range(20):
        statement()
    assert len(fuse._cache) == before
    assert {id(plan) for plan in fuse._cache.values()} == plans


def test_the_plan_cache_is_bounded() -> None:
    for n in range(fuse._CACHED_PLANS + 50):
        np.evaluate(line(n + 2) + 1)
    assert len(fuse._cache) <= fuse._CACHED_PLANS


def test_a_long_program_is_cut_and_still_right() -> None:
    a = line()
    y = a
    expected = a.to_numpy()
    with np.dispatch_options(memory_limit=1 << 40):
        for i in range(500):
            y = y + float(i)
            expected = expected + float(i)
    numpy.testing.assert_array_equal(y, expected)


def test_plan_of_runs_nothing(kernels: list[Any]) -> None:
    y = line() * 2
    plan = engine.plan_of([y._value])
    assert len(plan.steps) == 1
    assert not regions(kernels)
    assert y._value.value is None


def test_work_counts_each_operand_once() -> None:
    a = line()
    y = a * a + a
    (step,) = engine.plan_of([y._value]).steps
    assert step.work.elements == N
    assert step.work.bytes_read == 8 * N
    assert step.work.bytes_written == 8 * N
    assert len(step.work.ops) == 2


def test_only_memory_that_nothing_left_behind_is_fresh() -> None:
    y = line() * 2
    (step,) = engine.plan_of([y._value]).steps
    assert count_work(step.region, [True]).bytes_fresh == 0
    memory = pool.get_default_memory_pool()
    before = memory.get_limit()
    large = replace(
        step.region, output_layouts=(replace(step.region.output_layouts[0], shape=(LARGE,)),)
    )
    try:
        memory.set_limit(0)
        assert count_work(large, [True]).bytes_fresh == 8 * LARGE
        assert count_work(large, [False]).bytes_fresh == 0
        memory.set_limit(8 * LARGE)
        assert (count_work(large, [True]).bytes_fresh == 0) == (memory.get_limit() > 0)
    finally:
        memory.set_limit(before)
