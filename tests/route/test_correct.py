"""Learned corrections: slow to believe, hard to fool, never far from 1."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy
import pytest

from dispatcharr.backends.base import host_rates
from dispatcharr.route import correct
from dispatcharr.route.correct import Corrections, keep_at_exit, store
from dispatcharr.route.machine import machine
from dispatcharr.route.price import price
from dispatcharr.route.stored import as_stored, read, write

KEY = "arith/22"


@pytest.fixture
def estimate(stage):
    """Return an estimate whose time grows with the kernel for the most part."""
    return price(stage.work(1 << 22), "threads", host_rates(stage.laptop, "threads"))


def took(estimate, ratio):
    """Return what a run took whose kernel-long part was ``ratio`` times the predicted."""
    return estimate.run + (ratio - estimate.correction) * estimate.sized


def teach(corrections, estimate, ratio, times, key=KEY):
    for _ in range(times):
        corrections.learn(key, estimate, took(estimate, ratio))


def test_nothing_known_is_no_correction():
    assert Corrections().ratio("threads", KEY) == 1.0


def test_first_sample_is_dropped_and_ten_more_are_awaited(estimate):
    corrections = Corrections()
    corrections.learn(KEY, estimate, took(estimate, 3.9))  # the first, cold one
    teach(corrections, estimate, 2.0, 9)
    assert corrections.ratio("threads", KEY) == 1.0
    teach(corrections, estimate, 2.0, 1)
    assert corrections.ratio("threads", KEY) == pytest.approx(2.0, rel=0.02)


def test_ratio_is_of_the_part_that_grows_and_prices_come_true(stage, estimate):
    corrections = Corrections()
    teach(corrections, estimate, 2.5, 30)
    ratio = corrections.ratio("threads", KEY)
    again = price(stage.work(1 << 22), "threads", host_rates(stage.laptop, "threads"), ratio)
    assert again.run == pytest.approx(took(estimate, 2.5), rel=0.02)
    # An estimate that is corrected already teaches the same ratio, not the ratio's ratio.
    teach(corrections, again, 2.5, 30)
    assert corrections.ratio("threads", KEY) == pytest.approx(2.5, rel=0.02)


@pytest.mark.parametrize(("truth", "bound"), [(50.0, 4.0), (0.01, 0.25)])
def test_ratio_stays_within_bounds(estimate, truth, bound):
    corrections = Corrections()
    teach(corrections, estimate, truth, 50)
    assert corrections.ratio("threads", KEY) == pytest.approx(bound, rel=0.01)


def test_outliers_are_discarded(estimate):
    corrections = Corrections()
    teach(corrections, estimate, 1.5, 20)
    for _ in range(8):
        corrections.learn(KEY, estimate, took(estimate, 40.0))
        teach(corrections, estimate, 1.5, 2)
    assert corrections.ratio("threads", KEY) == pytest.approx(1.5, rel=0.05)


def test_lasting_change_is_believed_in_the_end(estimate):
    corrections = Corrections()
    teach(corrections, estimate, 0.3, 30)
    teach(corrections, estimate, 3.0, 60)
    assert corrections.ratio("threads", KEY) == pytest.approx(3.0, rel=0.1)


def test_noise_averages_out(estimate):
    corrections = Corrections()
    random = numpy.random.default_rng(7)
    for noise in random.lognormal(0.0, 0.2, 300):
        corrections.learn(KEY, estimate, took(estimate, 1.4 * noise))
    assert corrections.ratio("threads", KEY) == pytest.approx(1.4, rel=0.15)


def test_kernel_of_fixed_costs_alone_says_little(stage):
    tiny = price(stage.work(64), "threads", host_rates(stage.laptop, "threads"))
    corrections = Corrections()
    teach(corrections, tiny, 4.0, 12)
    assert corrections.ratio("threads", KEY) < 2.0


@pytest.mark.parametrize("measured", [0.0, -1.0, math.nan, math.inf])
def test_impossible_times_teach_nothing(estimate, measured):
    corrections = Corrections()
    for _ in range(20):
        corrections.learn(KEY, estimate, measured)
    assert len(corrections) == 0


def test_classes_and_backends_are_kept_apart(estimate):
    corrections = Corrections()
    teach(corrections, estimate, 2.0, 20)
    assert corrections.ratio("threads", "trig/22") == 1.0
    assert corrections.ratio("serial", KEY) == 1.0


def test_half_of_a_sibling_stands_in_until_there_are_own_samples(estimate):
    corrections = Corrections()
    teach(corrections, estimate, 2.0, 20)
    assert corrections.ratio("serial", KEY, ["threads"]) == pytest.approx(2.0**0.5, rel=0.02)
    teach(corrections, replace(estimate, backend="serial"), 1.0, 20)
    assert corrections.ratio("serial", KEY, ["threads"]) == pytest.approx(1.0, rel=0.02)


def test_given_ratio_holds_still_while_it_moves_little(estimate):
    corrections = Corrections()
    teach(corrections, estimate, 2.0, 20)
    given = corrections.ratio("threads", KEY)
    teach(corrections, estimate, 2.04, 20)
    assert corrections.ratio("threads", KEY) == given
    teach(corrections, estimate, 2.5, 20)
    assert corrections.ratio("threads", KEY) != given


def test_number_of_classes_is_bounded_and_the_unused_go_first(estimate):
    corrections = Corrections()
    teach(corrections, estimate, 2.0, 20, key="kept")
    for number in range(2000):
        teach(corrections, estimate, 2.0, 1, key=str(number))
        if number % 500 == 0:
            teach(corrections, estimate, 2.0, 1, key="kept")
    assert len(corrections) == 1024
    assert corrections.ratio("threads", "kept") == pytest.approx(2.0, rel=0.02)


def test_threads_may_learn_at_once(estimate):
    corrections = Corrections()
    failures = []

    def work(number):
        try:
            for i in range(400):
                teach(corrections, estimate, 2.0, 1, key=str((number + i) % 1500))
                corrections.ratio("threads", str(i))
                if i % 50 == 0:
                    corrections.learned()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(0, 1600, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(corrections) <= 1024


@pytest.fixture
def measured(stage, tmp_path):
    """Return a stored profile of this machine."""
    profile = as_stored(replace(stage.laptop, machine=machine()), str(tmp_path / "profile.json"))
    write(profile, profile.path)
    return profile


def test_what_was_learned_is_stored_and_found_again(measured, estimate):
    corrections = Corrections(measured)
    teach(corrections, estimate, 2.0, 20)
    teach(corrections, estimate, 3.0, 5, key="not trusted yet")
    assert store(corrections, measured)
    stored = read(measured.path)
    assert stored.correction == {"threads": {KEY: pytest.approx(2.0, rel=0.02)}}
    again = Corrections(stored)
    assert again.ratio("threads", KEY) == stored.correction["threads"][KEY]
    teach(again, estimate, 3.0, 60)  # and goes on learning
    assert again.ratio("threads", KEY) == pytest.approx(3.0, rel=0.06)


def test_storing_keeps_what_others_have_stored(measured, estimate):
    mine, theirs = Corrections(measured), Corrections(measured)
    teach(theirs, estimate, 3.0, 20, key="theirs")
    teach(mine, estimate, 2.0, 20, key="mine")
    assert store(theirs, measured)
    assert store(mine, measured)
    assert set(read(measured.path).correction["threads"]) == {"mine", "theirs"}


def test_what_is_stored_is_bounded(measured, estimate):
    many = {"serial": {str(number): 1.5 for number in range(1020)}}
    write(replace(measured, correction=many), measured.path)
    corrections = Corrections()
    for number in range(10):
        teach(corrections, estimate, 2.0, 20, key=f"new {number}")
    assert store(corrections, measured)
    stored = read(measured.path).correction
    assert len(stored["threads"]) == 10
    assert sum(len(classes) for classes in stored.values()) == 1024


def test_nothing_new_leaves_the_file_alone(measured, estimate):
    os.utime(measured.path, ns=(1, 1))
    corrections = Corrections(measured)
    teach(corrections, estimate, 2.0, 3)
    assert not store(corrections, measured)
    assert os.stat(measured.path).st_mtime_ns == 1


def test_new_figures_are_not_given_ratios_to_the_old_ones(measured, estimate):
    corrections = Corrections(measured)
    teach(corrections, estimate, 2.0, 20)
    write(replace(measured, op={"arith": {"d": 9e-10}}), measured.path)
    assert not store(corrections, measured)
    assert read(measured.path).correction == {}


def test_storing_never_raises(measured, estimate, tmp_path):
    corrections = Corrections(measured)
    teach(corrections, estimate, 2.0, 20)
    with open(measured.path, "w") as file:
        file.write("{")
    assert not store(corrections, measured)
    os.unlink(measured.path)
    assert not store(corrections, measured)
    assert not store(corrections, replace(measured, path=None))
    assert os.listdir(tmp_path) == []


def test_shipped_figures_have_nothing_stored(stage, measured, monkeypatch):
    monkeypatch.setattr(correct, "_kept", [])
    keep_at_exit(Corrections(), replace(measured, source="defaults"))
    keep_at_exit(Corrections(), replace(measured, path=None))
    assert correct._kept == []


SCRIPT = """
import sys
from dispatcharr.plan.work import Work
from dispatcharr.route.router import choose, learn
from dispatcharr.route.stored import read
from dispatcharr.backends.base import host_rates

class Serial:
    name, place = "serial", "host"
    def rates(self, profile):
        return host_rates(profile, "serial")

profile = read(sys.argv[1])
size = 8 << 20
work = Work(size >> 3, 2 * size, size, size, (("arith", "d"),), None, True, "arith/21")
for _ in range(20):
    decision = choose(work, [(Serial(), None)], profile)
    learn(decision, work, profile, 2 * decision.estimate.sized + decision.predicted)
{end}
"""


@pytest.mark.parametrize(
    ("end", "status"), [("", 0), ("raise SystemExit(3)", 3), ("raise KeyError(1)", 1)]
)
def test_process_stores_what_it_learned_when_it_ends(measured, end, status):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{end}", end), measured.path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert read(measured.path).correction["serial"]["arith/21"] > 1.5
