"""The shipped constants: complete, believable, and cautious with threads."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.table import ELEMENTWISE, GENERATORS
from dispatcharr.route.defaults import KINDS, OP_SECONDS, cache_sizes, kind_of_machine, shipped
from dispatcharr.route.machine import machine
from dispatcharr.route.profile import default_profile
from dispatcharr.route.router import choose
from dispatcharr.route.stored import as_stored, read, write


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2, 8, 128])
def test_every_shipped_profile_could_have_been_measured(tmp_path, kind, threads):
    """The checks of stored profiles hold for it, so calibration may build on it."""
    profile = replace(shipped(threads, kind), machine=machine())
    path = str(tmp_path / "profile.json")
    write(profile, path)
    assert read(path) == as_stored(profile, path)


@pytest.mark.parametrize("kind", KINDS)
def test_far_levels_are_slower_and_threads_no_slower(kind):
    profile = shipped(8, kind)
    for crew in profile.bandwidth.values():
        rates = [crew[level] for level in ("L1", "L2", "L3", "memory")]
        assert rates == sorted(rates, reverse=True)
    alone, everyone = profile.bandwidth["serial"], profile.bandwidth["threads"]
    assert all(everyone[level] >= alone[level] for level in alone)


@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_is_never_shared_out(stage, kind):
    profile = shipped(1, kind)
    for size in (10, 10**4, 10**7):
        assert choose(stage.work(size), stage.host, profile).backend == "serial"


@given(
    size=st.integers(1, 10**8),
    kind=st.sampled_from(sorted(KINDS)),
    threads=st.integers(2, 128),
    cost=st.sampled_from(["arith", "exp", "trig"]),
)
def test_uncalibrated_threads_are_chosen_with_something_in_hand(stage, size, kind, threads, cost):
    """Kernels that end before a slow wake-up would are left to one thread."""
    profile = shipped(threads, kind)
    found = choose(stage.work(size, ((cost, "d"),)), stage.host, profile)
    if found.backend == "threads":
        serial = next(each for each in found.estimates if each.backend == "serial")
        assert serial.sized > profile.overhead["wake"] >= 40e-6


def test_every_cost_class_of_the_op_table_has_a_shipped_cost():
    classes = {row.cost for row in (*ELEMENTWISE, *GENERATORS, *REDUCTIONS)}
    assert classes <= set(OP_SECONDS)
    for cost, row in OP_SECONDS.items():
        assert row["d"] > 0, cost
        assert set(row) <= set("?bBhHiIlLqQefdFD")


def test_kind_follows_threads_and_hypervisor(tmp_path):
    assert kind_of_machine(64, str(tmp_path)) == "server"
    assert kind_of_machine(8, str(tmp_path)) == "laptop"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("flags\t\t: fpu vme hypervisor lahf_lm\n")
    assert kind_of_machine(8, str(tmp_path)) == "virtual machine"


def make_cache(root, index, level, kind, size, sharers):
    folder = root / "sys/devices/system/cpu/cpu0/cache" / f"index{index}"
    folder.mkdir(parents=True)
    for name, text in (
        ("level", level),
        ("type", kind),
        ("size", size),
        ("shared_cpu_list", sharers),
    ):
        (folder / name).write_text(f"{text}\n")


@pytest.mark.skipif("not __import__('sys').platform.startswith('linux')", reason="Linux tells")
def test_cache_sizes_are_those_that_one_thread_sees(tmp_path):
    make_cache(tmp_path, 0, "1", "Data", "48K", "0,64")
    make_cache(tmp_path, 1, "1", "Instruction", "32K", "0,64")
    make_cache(tmp_path, 2, "2", "Unified", "2M", "0-1")
    make_cache(tmp_path, 3, "3", "Unified", "32768K", "0-7,64-71")
    assert cache_sizes(str(tmp_path)) == {"L1": 24 << 10, "L2": 1 << 20, "L3": 32 << 20}


def test_cache_sizes_that_nobody_tells_are_left_to_the_kind(tmp_path):
    assert cache_sizes(str(tmp_path)) == {}
    make_cache(tmp_path, 0, "1", "Data", "garbage", "")
    assert cache_sizes(str(tmp_path)) == {}


def test_default_profile_is_of_this_machine():
    profile = default_profile()
    assert machine().items() <= profile.machine.items()
    assert profile.machine["kind"] in KINDS
    assert profile.cache_bytes["L1"] <= profile.cache_bytes["L2"]
    assert numpy.dtype("f8").char in profile.op["arith"]
