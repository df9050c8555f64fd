"""Reductions whose kernel the compiled fast path runs by itself, and whose states it joins."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import repeats, tape
from dispatcharr.kernels import again
from dispatcharr.kernels.build import shared_builder
from repeating import (
    Entry,
    arrays,
    entry,
    hearing,
    kernels_for_nothing,
    only_where_repeated,
    reduced,
)
from taping import SIZE, planned

__all__ = ["entry", "kernels_for_nothing", "planned"]
pytestmark = only_where_repeated


@pytest.mark.parametrize(
    ("name", "axis", "dtype"),
    [
        ("sum", None, "f8"), ("sum", 1, "f4"), ("mean", 0, "f8"), ("mean", None, "f4"),
        ("min", 1, "f8"), ("max", None, "f4"), ("std", None, "f8"), ("std", 0, "f4"),
    ],
)  # fmt: skip
def test_reductions_of_all_values(name: str, axis: int | None, dtype: str) -> None:
    def statement(a: Any, b: Any) -> Any:
        return getattr(a * b, name)(axis=axis)

    _, ours = arrays(dtype, size=(130, 140))
    reduced(statement, *ours)
    for place, value in [(0, -0.0), (5, numpy.nan), (17, numpy.inf), (3, -numpy.inf), (2, 1e38)]:
        hosts, _ = arrays(dtype, place, (130, 140))
        hosts[0].flat[place] = hosts[0].flat[-place] = value
        ours = [np.array(host) for host in hosts]
        with numpy.errstate(all="ignore"):
            found, wanted = statement(*ours), statement(*hosts)
        assert found.dtype == wanted.dtype
        assert type(found) is (type(wanted) if axis is None else np.ndarray)
        rough = 1e-5 if dtype == "f4" else 1e-13
        numpy.testing.assert_allclose(numpy.asarray(found), wanted, rtol=rough)


def test_what_leaves_many_states_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "_MOST_KEPT", 64)

    def statement(a: Any, b: Any) -> Any:
        return (a * b).sum(axis=0)

    hosts, ours = arrays(size=(130, 140))
    for _ in range(10):
        numpy.testing.assert_allclose(numpy.asarray(statement(*ours)), statement(*hosts))
        shared_builder().wait(20.0)
    assert [one.plan.repeat for one in tape._reductions.values()] == [None]


def test_a_mean_that_underflows_is_told() -> None:
    def statement(a: Any, b: Any) -> Any:
        return (a * b).mean()

    with numpy.errstate(under="warn"):
        tape.notice()
        reduced(statement, *arrays("f4")[1])
        host = numpy.zeros(SIZE, "f4")
        host[3] = 2e-38
        for _ in range(3):
            ours = np.array(host), np.array(numpy.ones(SIZE, "f4"))
            with hearing() as told:
                assert statement(*ours) == numpy.float32(2e-38 / SIZE)
            assert len(told) == 1 and "underflow" in told[0]


def test_sums_have_the_bits_that_they_had_before() -> None:
    _, ours = arrays(size=300_000)

    def statement(a: Any, b: Any) -> Any:
        return (a * b).sum()

    first = statement(*ours)
    reduced(statement, *ours)
    assert {float(statement(*ours)) for _ in range(5)} == {float(first)}


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize(
    ("name", "asked"),
    [("std", {}), ("var", {"ddof": 1}), ("std", {"axis": 0}), ("var", {"axis": 1, "ddof": 0.5})],
)
def test_moments_have_the_bits_that_they_had_before(
    name: str, asked: dict[str, Any], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Any] = []
    end = repeats.Replayed._end
    monkeypatch.setattr(repeats.Replayed, "_end", lambda *args: (ended.append(args), end(*args))[1])
    _, ours = arrays(dtype, size=(700, 900))

    def statement(a: Any) -> Any:
        return numpy.asarray(getattr(a, name)(**asked)).tobytes()

    with monkeypatch.context() as patched:
        patched.setattr(again, "_join", lambda job: None)
        reduced(statement, ours[0])
        wanted = statement(ours[0])
    assert ended  # joined by Python
    tape._reductions.clear()
    reduced(statement, ours[0])
    ended.clear()
    assert {statement(ours[0]) for _ in range(5)} == {wanted}
    assert not ended


@pytest.mark.parametrize("name", ["std", "var", "nansum"])
def test_arrays_with_values_are_reduced_by_the_kernel_alone(name: str, entry: Entry) -> None:
    def statement(a: Any) -> Any:
        return getattr(np, name)(a)

    with np.dispatch_options(engine="compiled", defer="always"):
        reduced(statement, arrays(size=300_000)[1][0])
        for seed in (1, 2):
            (host, _), (mine, _) = arrays(size=300_000, seed=seed)
            for value in (host[5], -7.0):
                mine[5] = host[5] = value
                before, found = entry.calls, statement(mine)
                assert entry.calls == before + 1
                numpy.testing.assert_allclose(found, getattr(numpy, name)(host), rtol=1e-13)
