"""What a kernel costs: each term, which one counts, and how they grow."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcharr.backends.base import Rates, host_rates
from dispatcharr.route.defaults import OP_SECONDS
from dispatcharr.route.price import TERMS, duration, op_seconds, price

RATES = Rates(
    overhead=1e-5,
    wake=2e-5,
    call=1e-6,
    block_bytes=8 * 1024,
    parallel=4.0,
    cache_bytes={"L1": 32 << 10, "L2": 1 << 20, "L3": 8 << 20},
    bandwidth={"L1": 200e9, "L2": 100e9, "L3": 50e9, "memory": 10e9},
    fault=1e-10,
    op={"arith": {"d": 1e-9}, "trig": {"d": 1e-8}},
)


def test_total_is_the_sum_of_the_terms_that_count(stage):
    work = stage.work(1 << 20, (("arith", "d"), ("trig", "d")), moves=100)
    found = price(work, "any", replace(RATES, transfer=1e9, launch=3e-6, compile=0.5), 1.5)
    terms = dict(found.terms)
    assert tuple(terms) == TERMS
    sized = sum(terms[name] for name in ("calls", "fault", "memory", "compute", "overlap"))
    fixed = sum(terms[name] for name in ("overhead", "wake", "transfer", "launch", "compile"))
    assert found.seconds == pytest.approx(fixed + 1.5 * sized)
    assert found.sized == pytest.approx(sized)
    assert found.correction == terms["correction"] == 1.5
    outside = terms["transfer"] + terms["compile"]
    assert found.run == pytest.approx(found.seconds - outside)


def test_each_term_is_counted_from_the_work(stage):
    elements = 1 << 22
    work = stage.work(elements, (("arith", "d"), ("trig", "d")), inputs=2)
    found = price(work, "any", RATES)
    blocks = elements // 1024
    assert found.term("calls") == pytest.approx(2 * blocks * 1e-6)
    assert found.term("compute") == pytest.approx(elements * 1.1e-8 / 4)
    assert found.term("memory") == pytest.approx(24 * elements / 10e9)
    assert found.term("fault") == pytest.approx(8 * elements * 1e-10)
    assert found.term("wake") == 2e-5


def test_one_loop_hides_the_shorter_of_memory_and_compute(stage):
    for rates in (RATES, replace(RATES, op={"arith": {"d": 1e-7}})):
        found = price(stage.work(1 << 22), "any", rates)
        both = found.term("memory"), found.term("compute")
        assert sum(both) + found.term("overlap") == pytest.approx(max(both))


def test_blocks_hide_one_part_in_as_many_as_there_are_loops(stage):
    work = stage.work(1 << 22, (("arith", "d"),) * 4)
    found = price(work, "any", RATES)
    shorter = min(found.term("memory"), found.term("compute"))
    assert found.term("overlap") == pytest.approx(-shorter / 4)
    compiled = price(work, "any", replace(RATES, block_bytes=0))
    assert compiled.term("overlap") == pytest.approx(-shorter)


def test_the_longer_of_memory_and_compute_is_named(stage):
    assert price(stage.work(1 << 22, (("arith", "d"),)), "any", RATES).bound == "memory"
    assert price(stage.work(1 << 22, (("trig", "d"),)), "any", RATES).bound == "compute"


@pytest.mark.parametrize(
    ("elements", "level"), [(1000, "L1"), (30_000, "L2"), (300_000, "L3"), (3_000_000, "memory")]
)
def test_bandwidth_is_that_of_the_level_that_holds_the_working_set(stage, elements, level):
    alone = replace(RATES, parallel=1.0)
    found = price(stage.work(elements), "any", alone)
    assert found.term("memory") == pytest.approx(24 * elements / RATES.bandwidth[level])


def test_threads_bring_their_own_l2_but_share_l3(stage):
    wide = stage.work(100_000)  # 2.4 MB: more than one L2, less than four
    assert price(wide, "any", RATES).term("memory") == pytest.approx(2.4e6 / 100e9)
    alone = replace(RATES, parallel=1.0)
    assert price(wide, "any", alone).term("memory") == pytest.approx(2.4e6 / 50e9)
    over = stage.work(400_000)  # 9.6 MB: more than the L3, however many threads
    assert price(over, "any", RATES).term("memory") == pytest.approx(9.6e6 / 10e9)


def test_streamed_results_are_not_read_before_they_are_written(stage):
    rates = replace(RATES, streams=True)
    large = stage.work(400_000)  # 6.4 MB are read and 3.2 written: more than the caches hold
    assert price(large, "any", rates).term("memory") == pytest.approx((9.6e6 - 16e6 / 7) / 10e9)
    for work in (
        stage.work(100_000),
        replace(large, contiguous=False),
        stage.work(400_000, (("arith", "d"),), ("reduce_sum", "d")),
    ):
        assert price(work, "any", rates) == price(work, "any", RATES)


def test_compiled_kernels_have_their_own_helpers(stage):
    profile = stage.laptop
    crewed = replace(profile, overhead={**profile.overhead, "crew": 3e-6})
    assert host_rates(crewed, "threads", "compiled").wake == 3e-6
    assert host_rates(crewed, "threads").wake == profile.overhead["wake"]
    assert host_rates(crewed, "serial", "compiled").wake == 0
    # A profile that was measured before there were any.
    assert host_rates(profile, "threads", "compiled").wake == profile.overhead["wake"]


def test_few_threads_at_work_draw_their_part_of_the_bandwidth(stage):
    """Two blocks keep two of four threads busy."""
    work = stage.work(2048, (("arith", "d"),) * 2)
    found = price(work, "any", RATES)
    assert found.term("memory") == pytest.approx(work.bytes_touched / (200e9 * 2 / 4))


def test_one_block_is_one_thread_and_wakes_nobody(stage):
    work = stage.work(1024, (("trig", "d"), ("arith", "d")))
    found = price(work, "any", RATES)
    assert found.term("wake") == 0
    assert found.term("compute") == pytest.approx(1024 * 1.1e-8)
    longer = price(stage.work(1025, (("trig", "d"), ("arith", "d"))), "any", RATES)
    assert longer.term("wake") == 2e-5


def test_single_instruction_makes_one_call_per_thread(stage):
    alone = replace(RATES, parallel=1.0)
    assert price(stage.work(1 << 22), "any", alone).term("calls") == pytest.approx(1e-6)
    assert price(stage.work(1 << 22), "any", RATES).term("calls") == pytest.approx(4e-6)
    reduced = stage.work(1 << 22, (("arith", "d"),), ("reduce_sum", "d"))
    assert price(reduced, "any", alone).term("calls") == pytest.approx(2 * 4096 * 1e-6)


def test_single_instruction_is_shared_out_evenly(stage):
    """A block's length is for temporaries, of which it has none."""
    found = price(stage.work(1024, (("trig", "d"),)), "any", RATES)
    assert found.term("compute") == pytest.approx(1024 * 1e-8 / 4)
    assert found.term("wake") == 2e-5


def test_reductions_are_cut_by_their_own_lengths(stage):
    rates = replace(RATES, reduce_bytes=80_000, reduce_elements=5_000)
    plain = price(stage.work(20_000, (), ("reduce_sum", "d")), "any", rates)
    assert plain.term("calls") == pytest.approx(4 * 1e-6)
    fused = price(stage.work(20_000, (("arith", "d"),), ("reduce_sum", "d")), "any", rates)
    assert fused.term("calls") == pytest.approx(2 * 2 * 1e-6)
    single = price(stage.work(5_000, (), ("reduce_sum", "d")), "any", rates)
    assert single.term("wake") == 0


def test_a_device_is_neither_woken_nor_called(stage):
    rates = stage.device().rates(stage.laptop)
    found = price(stage.work(1 << 22, moves=1 << 20), "any", rates)
    assert found.term("calls") == found.term("wake") == 0
    assert found.term("launch") == 10e-6
    assert found.term("transfer") == pytest.approx((1 << 20) / 12e9)


def test_nothing_to_do_costs_the_overhead_alone(stage):
    assert price(stage.work(0), "any", replace(RATES, call=0.0)).seconds == RATES.overhead
    assert price(stage.work(0, ()), "any", RATES).seconds == RATES.overhead


OPS = st.lists(
    st.tuples(st.sampled_from(sorted(OP_SECONDS)), st.sampled_from("dfliB?DFe")),
    min_size=1,
    max_size=6,
).map(tuple)


@given(
    ops=OPS,
    reduced=st.booleans(),
    sizes=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
    crew=st.sampled_from(["serial", "threads"]),
    server=st.booleans(),
)
def test_more_elements_never_cost_less(stage, ops, reduced, sizes, crew, server):
    """Over every border: of cache levels, of blocks, of the number of threads at work."""
    rates = host_rates(stage.server if server else stage.laptop, crew)
    reduction = ("reduce_sum", "d") if reduced else None
    few, many = (stage.work(size, ops, reduction) for size in sorted(sizes))
    cheap, dear = price(few, crew, rates), price(many, crew, rates)
    assert cheap.seconds <= dear.seconds * (1 + 1e-12)
    assert math.isfinite(dear.seconds)


@given(ops=OPS, elements=st.integers(1, 10**8), factor=st.floats(0.25, 4.0))
def test_correction_scales_what_grows_and_nothing_else(stage, ops, elements, factor):
    work = stage.work(elements, ops)
    plain, corrected = price(work, "any", RATES), price(work, "any", RATES, factor)
    assert corrected.seconds - plain.seconds == pytest.approx((factor - 1) * plain.sized, abs=1e-12)


def test_unmeasured_dtype_is_the_nearest_one_scaled_by_width():
    table = {"arith": {"d": 2e-10, "i": 3e-10}}
    assert op_seconds(table, "arith", "d") == 2e-10
    assert op_seconds(table, "arith", "f") == pytest.approx(1e-10)
    assert op_seconds(table, "arith", "h") == pytest.approx(1.5e-10)
    assert op_seconds(table, "arith", "Q") == pytest.approx(6e-10)


def test_unmeasured_class_is_the_shipped_one_at_the_pace_of_this_table():
    table = {"arith": {"d": 3 * OP_SECONDS["arith"]["d"]}}
    assert op_seconds(table, "exp", "f") == pytest.approx(3 * OP_SECONDS["exp"]["f"])
    assert op_seconds({}, "exp", "f") == OP_SECONDS["exp"]["f"]
    assert op_seconds(table, "no such class", "d") == pytest.approx(3 * OP_SECONDS["special"]["d"])


@given(
    cost=st.sampled_from([*OP_SECONDS, "no such class"]), dtype=st.sampled_from("?bBhHiIlLqQefdFD")
)
def test_every_operation_has_a_price(cost, dtype):
    assert 0 < op_seconds(OP_SECONDS, cost, dtype) < 1e-6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1.23, "1.2 s"),
        (0.0031, "3.1 ms"),
        (0.000_999_9, "1 ms"),
        (4.2e-5, "42 us"),
        (3e-9, "3 ns"),
        (123.0, "123 s"),
    ],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
