"""Who gets a kernel, and what is said about it."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import FrozenInstanceError, replace

import numpy
import pytest

from dispatcharr._errors import BackendUnavailableError
from dispatcharr.backends.base import host_rates
from dispatcharr.kernels import native
from dispatcharr.route.decision import UNBUILT, Decision
from dispatcharr.route.price import price
from dispatcharr.route.profile import with_threads
from dispatcharr.route.router import chain_floor, choose, defer_floor, learn
from dispatcharr.storage.pool import SYSTEM_RECYCLES, recycled

SMALL, LARGE = 1_000, 10_000_000


def test_small_work_stays_on_one_thread_and_large_work_is_shared(stage):
    assert choose(stage.work(SMALL), stage.host, stage.laptop).backend == "serial"
    assert choose(stage.work(LARGE), stage.host, stage.laptop).backend == "threads"


def test_decision_keeps_every_price_the_cheapest_first(stage):
    found = choose(stage.work(LARGE), stage.host, stage.laptop)
    assert [estimate.backend for estimate in found.estimates] == ["threads", "serial"]
    assert found.expected == found.estimates[0].seconds < found.estimates[1].seconds
    assert found.predicted == found.estimate.run
    assert found.reason == f"cheapest of 2: {found.estimates[0]}, {found.estimates[1]}"
    assert found.measured is None
    with pytest.raises(FrozenInstanceError):
        found.backend = "serial"


def test_forced_backend_wins_and_the_others_are_still_priced(stage):
    found = choose(stage.work(LARGE), stage.host, stage.laptop, "serial")
    assert found.backend == found.estimate.backend == "serial"
    assert found.reason == "forced by use_backend('serial')"
    assert found.estimates[0].backend == "threads"


def test_refusals_are_kept_with_their_reasons(stage):
    candidates = [*stage.host, (stage.device(), "needs a driver")]
    found = choose(stage.work(SMALL), candidates, stage.laptop)
    assert found.refused == (("device", "needs a driver"),)


def test_forced_backend_that_refuses_is_replaced_and_that_is_said(stage):
    candidates = [*stage.host, (stage.device(), "no complex numbers")]
    found = choose(stage.work(LARGE), candidates, stage.laptop, "device")
    assert found.backend == "threads"
    assert found.reason.startswith("'device' was asked for and refused (no complex numbers); cheap")


def test_forced_backend_whose_engines_cannot_run_it_is_explained_by_engine():
    shape = {"estimates": (), "forced": "serial"}
    barred = Decision(
        "threads",
        refused=(),
        engines=(("serial/blocks", "it failed"), ("threads/x", "no")),
        **shape,
    )
    assert "'serial' was asked for and refused (serial/blocks: it failed); " in barred.reason
    assert (
        "refused (its kernel is not compiled yet)"
        in Decision("threads", refused=(), **shape).reason
    )


def test_what_was_tried_before_and_failed_is_part_of_the_reason(stage):
    found = choose(stage.work(LARGE), stage.host, stage.laptop)
    tried = replace(found, failed=(("cuda", "it failed: no memory"), ("serial", "it failed too")))
    assert tried.reason.startswith(
        "'cuda' was tried first, and it failed: no memory; "
        "'serial' was tried first, and it failed too; cheapest of 2: "
    )


class _Unbuilt:
    """A backend that builds kernels in the background."""

    def __init__(self, name, rates):
        self.name, self.place, self.speeds = name, name, rates

    def rates(self, profile):
        return self.speeds

    def order(self, region, inputs, outputs):
        return None


def test_a_backend_whose_kernel_is_not_built_is_listed_as_such(stage):
    rates = stage.device().rates(stage.laptop)
    candidates = [*stage.host, (_Unbuilt("late", replace(rates, compile=1.0)), None)]
    found = choose(stage.work(LARGE), candidates, stage.laptop)
    assert {one.backend for one in found.estimates} == {"serial", "threads"}
    assert found.refused == (("late", UNBUILT),)
    found = choose(stage.work(LARGE), candidates, stage.laptop, built={"late"})
    assert {one.backend for one in found.estimates} == {"serial", "threads", "late"}
    assert found.refused == ()


def test_an_engine_that_failed_is_named_while_the_other_one_is_not_built(stage):
    rates = stage.device().rates(stage.laptop)
    rates = replace(rates, compile=1.0, device=False)
    failed, late = (_Unbuilt("late", rates) for _ in range(2))
    failed.engine, late.engine = "blocks", "compiled"
    candidates = [(stage.threads, None), (failed, "it failed: no"), (late, None)]
    found = choose(stage.work(LARGE), candidates, stage.laptop, "late")
    why = f"{UNBUILT}; late/blocks: it failed: no"
    assert found.refused == (("late", why),)
    assert found.reason.startswith(f"'late' was asked for and refused ({why}); ")


def test_a_host_kernel_is_not_worth_building_for_what_is_away(stage):
    there = replace(stage.device().rates(stage.laptop), device=True, home=1e9, overhead=1.0)
    quick = host_rates(stage.laptop, "serial")
    work = stage.work(LARGE)
    built = _Unbuilt("device", replace(there, compile=0.0))
    candidates = [(built, None), (_Unbuilt("late", replace(quick, compile=1.0)), None)]
    assert choose(work, candidates, stage.laptop, going=True).backend == "device"
    assert choose(work, candidates, stage.laptop, going=True).better is not None
    away = replace(work, to_host=10**9, states=("device",))
    assert choose(away, candidates, stage.laptop, going=True).better is None


def test_only_candidate_is_said_to_be_the_only_one(stage):
    found = choose(stage.work(LARGE), [(stage.serial, None)], stage.laptop)
    assert found.reason.startswith("the only one that can: serial ")


def test_unknown_forced_backend_is_an_error_that_lists_the_known(stage):
    with pytest.raises(BackendUnavailableError, match=r"no backend 'gpu'.*serial, threads"):
        choose(stage.work(SMALL), stage.host, stage.laptop, "gpu")


def test_nobody_able_is_an_error_that_says_why(stage):
    with pytest.raises(ValueError, match="device: too small"):
        choose(stage.work(SMALL), [(stage.device(), "too small")], stage.laptop)


def test_equal_prices_go_to_the_first_candidate(stage):
    alone = with_threads(stage.laptop, 1)
    tied = replace(alone, overhead={**alone.overhead, "wake": 0.0, "queue": 0.0})
    for candidates in (stage.host, stage.host[::-1]):
        found = choose(stage.work(LARGE), candidates, tied)
        assert found.estimates[0].seconds == found.estimates[1].seconds
        assert found.backend == candidates[0][0].name


def test_same_question_is_answered_from_memory(stage):
    work = stage.work(LARGE)
    first = choose(work, stage.host, stage.laptop)
    assert choose(stage.work(LARGE), stage.host, stage.laptop) is first
    assert choose(work, stage.host, stage.laptop, "serial") is not first
    assert choose(work, stage.host, stage.fresh(stage.laptop)) is not first
    refusing = [stage.host[0], (stage.threads, "asleep")]
    assert choose(work, refusing, stage.laptop).backend == "serial"


def test_another_machine_decides_otherwise(stage):
    work = stage.work(60_000)
    assert choose(work, stage.host, stage.laptop).backend == "threads"
    assert choose(work, stage.host, stage.server).backend == "serial"


def test_what_was_built_need_not_be_compiled(stage):
    device = stage.device(compile=0.5)
    candidates = [*stage.host, (device, None)]
    work = stage.work(LARGE)
    assert choose(work, candidates, stage.laptop).backend == "threads"
    built = choose(work, candidates, stage.laptop, built={"device"})
    assert built.backend == "device"
    assert built.estimate.term("compile") == 0


def test_data_that_is_far_away_keeps_work_where_it_is(stage):
    candidates = [*stage.host, (stage.device(), None)]
    there = stage.work(LARGE)
    assert choose(there, candidates, stage.server).backend == "device"
    away = stage.work(LARGE, moves=16 * LARGE)
    assert choose(away, candidates, stage.server).backend == "threads"


def test_learning_fills_in_the_measured_time(stage):
    profile = stage.fresh(stage.laptop)
    work = stage.work(LARGE)
    decision = choose(work, stage.host, profile)
    done = learn(decision, work, profile, 0.123)
    assert done.measured == 0.123
    assert decision.measured is None
    assert replace(done, measured=None) == decision


def test_a_backend_that_disappoints_loses_the_work(stage):
    profile = stage.fresh(stage.laptop)
    work = stage.work(300_000)
    first = choose(work, stage.host, profile)
    assert first.backend == "threads"
    for _ in range(12):
        decision = choose(work, stage.host, profile)
        learn(decision, work, profile, 3.9 * first.predicted if decision is first else 1.0)
    serial = choose(work, stage.host, profile, "serial")
    for _ in range(12):  # serial keeps what was promised for it
        learn(serial, work, profile, price(work, "", host_rates(profile, "serial")).run)
    assert choose(work, stage.host, profile).backend == "serial"


def test_deciding_is_quick(stage):
    works = [stage.work(size, (("arith", "d"), ("trig", "d"))) for size in range(1000, 1200)]
    choose(works[0], stage.host, stage.laptop)

    def per_decision() -> float:
        start = time.perf_counter()
        for work in works:
            choose(work, stage.host, stage.laptop)
        return (time.perf_counter() - start) / len(works)

    # Measured: 15 us, then 3 us from memory. The margin is for machines that do other things.
    assert per_decision() < 150e-6
    assert min(per_decision() for _ in range(5)) < 15e-6


FLOAT = numpy.dtype(float)


@pytest.mark.parametrize(
    "cost", ["arith", "trig", "hypot", "special", "reduce_sum", "reduce_moments"]
)
@pytest.mark.parametrize("machine", ["laptop", "server"])
def test_floor_is_where_planning_pays(stage, cost, machine):
    profile = getattr(stage, machine)
    floor = defer_floor(cost, FLOAT, profile)
    assert floor % 8 == 0
    assert gain(stage, cost, profile, floor) or loss(stage, cost, profile, floor) <= 0.04
    below = floor * 9 // 10
    assert not gain(stage, cost, profile, below)
    assert loss(stage, cost, profile, below) > 0.04


def single(stage, cost, profile, size):
    """Return plain NumPy's seconds for one operation, and those of the best planned way."""
    step = (cost, "d")
    if cost.startswith("reduce_"):
        work = stage.work(size // 8, (), step, inputs=1)
    else:
        work = stage.work(size // 8, (step,), inputs=1)
    # What NumPy's allocator recycles, and what the pool does.
    fresh = work.bytes_written if work.bytes_written >= SYSTEM_RECYCLES else 0
    rates = replace(host_rates(profile, "serial"), overhead=0.0, call=0.0)
    plain = price(replace(work, bytes_fresh=fresh), "", rates).seconds
    fresh = 0 if recycled(work.bytes_written) else work.bytes_written
    ways = [host_rates(profile, "threads")]
    if cost not in ("special", "reduce_sum") and native.missing() is None:
        loops = [host_rates(profile, crew, "compiled") for crew in ("serial", "threads")]
        ways += [replace(rates, compile=0.0) for rates in loops]
    return plain, min(price(replace(work, bytes_fresh=fresh), "", way).seconds for way in ways)


def gain(stage, cost, profile, size) -> bool:
    plain, planned = single(stage, cost, profile, size)
    planning = profile.overhead["record"] + profile.overhead["plan"]
    return planning + planned <= 0.9 * plain


def loss(stage, cost, profile, size) -> float:
    if cost.startswith("reduce_"):
        return math.inf  # nothing will be fused with its result
    overhead = sum(profile.overhead[name] for name in ("record", "plan", "run"))
    return overhead / single(stage, cost, profile, size)[0]


def test_a_single_operation_waits_for_its_compiled_loop_as_for_threads(stage, monkeypatch):
    monkeypatch.setattr(native, "missing", lambda: None)
    found = defer_floor("hypot", FLOAT, stage.fresh(stage.laptop))
    monkeypatch.setattr(native, "missing", lambda: "there is no compiler")
    assert found < defer_floor("hypot", FLOAT, stage.fresh(stage.laptop)) / 2


def test_floor_falls_with_dearer_operations_and_rises_with_dearer_planning(stage):
    laptop = stage.laptop
    assert defer_floor("trig", FLOAT, laptop) < defer_floor("arith", FLOAT, laptop)
    slow = replace(laptop, overhead={**laptop.overhead, "plan": 1e-3})
    assert defer_floor("arith", FLOAT, slow) > defer_floor("arith", FLOAT, laptop)


def test_floors_are_in_elements_of_their_dtype(stage):
    half = numpy.dtype(numpy.float32)
    # Half as wide and far cheaper on vector units: many more elements before threads pay.
    assert defer_floor("trig", half, stage.laptop) > 2 * defer_floor("trig", FLOAT, stage.laptop)
    assert defer_floor("trig", half, stage.laptop) % 4 == 0


def test_one_thread_defers_only_where_planning_is_lost_in_the_work(stage, monkeypatch):
    monkeypatch.setattr(native, "missing", lambda: "there is no compiler")
    alone = with_threads(stage.laptop, 1)
    floor = defer_floor("arith", FLOAT, alone)
    assert floor > defer_floor("arith", FLOAT, stage.laptop)
    assert loss(stage, "arith", alone, floor) == pytest.approx(0.04, rel=0.05)


def test_a_reduction_is_planned_only_where_it_gains(stage, monkeypatch):
    monkeypatch.setattr(native, "missing", lambda: "there is no compiler")
    alone = with_threads(stage.laptop, 1)
    # Nothing will be fused with its result, and NumPy's call on the whole is the fastest there is.
    assert defer_floor("reduce_minmax", FLOAT, alone) >= 1 << 32
    assert defer_floor("arith", FLOAT, alone) < 1 << 32


def test_no_chain_pays_where_nothing_is_compiled(stage, monkeypatch):
    if native.missing() is None:
        assert chain_floor("arith", FLOAT, stage.laptop) < defer_floor("arith", FLOAT, stage.laptop)
    monkeypatch.setattr(native, "missing", lambda: "there is no compiler")
    assert chain_floor("arith", FLOAT, stage.laptop) == sys.maxsize
