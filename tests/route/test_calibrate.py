"""Calibration: within its time, believable, and whole even when cut short."""

from __future__ import annotations

import time

import numpy
import pytest

from dispatcharr.devices import found
from dispatcharr.kernels.pool import Pool
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.table import ELEMENTWISE, GENERATORS
from dispatcharr.route import bench, calibrate
from dispatcharr.route.calibrate import QUICK_LIMIT
from dispatcharr.route.machine import machine
from dispatcharr.route.probes import DTYPES, REPRESENTATIVE, op_cost, typical
from dispatcharr.route.profile import load, save


@pytest.fixture(scope="module")
def quick():
    """Return a quick calibration, what it told, and what it took."""
    told = []
    start = time.perf_counter()
    profile = calibrate.calibrate(
        quick=True, progress=lambda share, what: told.append((share, what))
    )
    return profile, told, time.perf_counter() - start


def test_quick_calibration_keeps_its_time(quick):
    device = 0.0 if found.device() is None else 2.0
    assert quick[2] <= 1.2 * QUICK_LIMIT + device


def test_calibrated_profile_can_be_stored_and_loaded(quick, tmp_path):
    profile = quick[0]
    assert profile.source == "calibrated"
    assert profile.machine == machine()
    path = str(tmp_path / "profile.json")
    assert load(path).source == "defaults"
    save(profile, path)
    assert load(path).source == "calibrated"


def test_progress_goes_from_nothing_to_all(quick):
    shares = [share for share, _ in quick[1]]
    assert shares[0] == 0.0
    assert shares == sorted(shares)
    assert quick[1][-1] == (1.0, "done")


def test_far_levels_are_not_faster(quick):
    for crew in quick[0].bandwidth.values():
        rates = [crew[level] for level in ("L1", "L2", "L3", "memory")]
        assert rates == sorted(rates, reverse=True)


def test_dear_operations_are_found_dearer(quick):
    op = quick[0].op
    assert op["trig"]["d"] > op["arith"]["d"]
    assert op["power"]["D"] > op["arith"]["D"]


def test_every_cost_class_of_the_op_table_is_measured():
    classes = {row.cost for row in (*ELEMENTWISE, *GENERATORS, *REDUCTIONS)}
    assert set(REPRESENTATIVE) == classes


@pytest.mark.parametrize("cost", REPRESENTATIVE)
def test_representative_runs_for_float64(cost):
    assert op_cost(cost, numpy.dtype("f8"), 4096, 1e-4) > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operations_that_a_dtype_lacks_are_left_out(dtype):
    found = {cost for cost in REPRESENTATIVE if op_cost(cost, dtype, 1024, 1e-5) is not None}
    assert {"arith", "compare", "reduce_sum"} <= found
    assert ("round" in found) == (dtype.kind != "c")
    assert ("reduce_moments" in found) == (dtype.kind in "fc")


def test_a_near_level_that_was_disturbed_is_as_fast_as_the_next():
    found = bench.Bench.begin(1.0, 1.0)
    found.bandwidth["serial"].update(L1=5e9, L2=7e9, L3=40e9, memory=20e9)
    assert found.profile().bandwidth["serial"] == {
        "L1": 40e9,
        "L2": 40e9,
        "L3": 40e9,
        "memory": 20e9,
    }


def test_own_overheads_are_taken_over(monkeypatch):
    monkeypatch.setattr(calibrate, "_QUICK_PLANNED", 0.05)
    found = calibrate.calibrate(quick=True, overhead={"record": 7e-6})
    assert found.overhead["record"] == 7e-6
    assert found.overhead["plan"] > 0


def test_time_that_is_up_leaves_scaled_defaults(monkeypatch, tmp_path):
    """Not even the first step is reached: all that is left is shipped, and whole."""
    monkeypatch.setattr(calibrate, "QUICK_LIMIT", 0.0)
    found = calibrate.calibrate(quick=True)
    path = str(tmp_path / "profile.json")
    save(found, path)
    assert load(path).source == "calibrated"
    assert found.op.keys() == bench.shipped(2).op.keys()


def test_costs_that_were_not_reached_keep_pace_with_the_measured():
    base = bench.shipped(2)
    measured = {"arith": {"d": 3 * base.op["arith"]["d"]}, "exp": {"d": 3 * base.op["exp"]["d"]}}
    found = bench.completed(measured, base.op)
    assert found["arith"]["d"] == measured["arith"]["d"]
    assert found["trig"]["f"] == pytest.approx(3 * base.op["trig"]["f"])


def test_one_thread_is_enough(monkeypatch):
    monkeypatch.setattr(bench, "shared_pool", lambda: Pool(1))
    monkeypatch.setattr(calibrate, "_QUICK_PLANNED", 0.3)
    found = calibrate.calibrate(quick=True)
    assert found.threads == 1
    assert found.overhead["wake"] == found.overhead["queue"] == found.overhead["crew"] == 0


def test_typical_time_ignores_the_first_and_the_worst():
    naps = iter([0.05, *[0.001] * 3, 0.05, *[0.001] * 1000])
    found = typical(lambda: time.sleep(next(naps)), 0.08, time.perf_counter)
    assert 0.001 <= found < 0.02


def test_typical_time_is_the_threads_own():
    assert typical(lambda: time.sleep(0.002), 0.02) < 0.001
