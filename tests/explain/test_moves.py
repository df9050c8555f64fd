"""What is said of data that is moved to a device, or home from it."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest

from dispatcharr._events import KernelRecord
from dispatcharr.backends.base import Rates
from dispatcharr.explain.explanation import explain_record, explain_records
from dispatcharr.explain.report import summarize
from dispatcharr.explain.tally import Tally
from dispatcharr.route import profile as profiles
from dispatcharr.route.router import choose

BYTES = 8 * 1_000_000
COMMON = {"wake": 0.0, "call": 0.0, "block_bytes": 0, "parallel": 1.0, "cache_bytes": {},
          "fault": 0.0}  # fmt: skip
HOST = Rates(overhead=5e-6, bandwidth={"memory": 1e9}, op={"arith": {"d": 1e-9}}, **COMMON)
DEVICE = Rates(
    overhead=8e-6, bandwidth={"memory": 1e12}, op={"arith": {"d": 1e-12}}, transfer=5e9,
    launch=3e-6, device=True, home=5e9, copy=1e-6, sync=1e-5, margin=0.7, **COMMON,
)  # fmt: skip


class Seat:
    def __init__(self, name, rates):
        self.name, self.place, self.speeds = name, name, rates

    def rates(self, profile):
        return self.speeds


@pytest.fixture
def moved(op, step):
    """Return the record of ``a + b`` that ran with its operands in such places."""

    def made(states, forced=None, seconds=2e-3):
        only = step(op("add", numpy.ones(1_000_000), numpy.ones(1_000_000)))
        work = replace(
            only.work,
            states=states,
            to_device=BYTES * states.count("host"),
            to_host=BYTES * states.count("device"),
        )
        candidates = [(Seat("serial", HOST), None), (Seat("cuda", DEVICE), None)]
        decision = choose(work, candidates, replace(profiles.current()), forced)
        return KernelRecord(only.region, work, decision, seconds)

    return made


def test_what_is_moved_to_a_device_is_named_with_its_bytes_and_seconds(moved, fits):
    told = explain_record(moved(("host", "both")))
    (kernel,) = told.kernels
    assert kernel.backend == "cuda"
    assert [one.move for one in kernel.reads] == ["to the device", "there"]
    assert kernel.bytes_moved == BYTES
    text = fits(told)
    assert "a: 8.00 MB, 1,000,000 float64, moved" in text
    assert "b: 8.00 MB, 1,000,000 float64, on the device already" in text
    assert "8.00 MB to the device, 1.60 ms" in text
    assert "moving data there" in text
    assert "launching on the device" in text


def test_what_comes_home_is_named_too(moved, fits):
    told = explain_record(moved(("device", "host"), forced="serial"))
    (kernel,) = told.kernels
    assert [one.move for one in kernel.reads] == ["home", ""]
    text = fits(told)
    assert "a: 8.00 MB, 1,000,000 float64, brought home" in text
    assert "8.00 MB home from the device, 1.60 ms" in text


def test_nothing_is_said_of_moves_where_there_is_no_device(moved, fits):
    text = fits(explain_record(moved((), forced="serial")))
    assert "moves" not in text
    assert "moved" not in text


def test_reports_and_records_count_the_bytes(moved):
    tally = Tally()
    tally.add_kernel(moved(("host", "both")))
    tally.add_kernel(moved(("both", "host")))
    assert tally.kernel_rows()[0]["bytes_moved"] == 2 * BYTES
    summary = summarize(tally, 0, None)
    assert summary.to_dict()["bytes_moved"] == 2 * BYTES
    assert "16.0 MB between the host and the device" in str(summary)


def test_kernels_that_nobody_waited_for_are_left_out_of_measured_over_predicted(moved, fits):
    told = explain_records([moved(("both", "both"), seconds=None)])
    assert told.rows[0]["runs"] == 1
    assert told.rows[0]["measured"] == told.rows[0]["predicted"] == 0.0
    assert told.kernels[0].measured is None
    text = fits(told)
    assert "Evaluated: 1 kernel on cuda, not timed, " in text
    assert "ran on  cuda" in text
    assert "took    not timed, since nobody waited for its end; " in text
    assert "0 s" not in text


def test_one_timed_kernel_is_enough_for_a_ratio(moved, fits):
    text = fits(explain_records([moved(("both", "both"), seconds=s) for s in (None, 1e-3)]))
    assert "Evaluated: 2 kernels on cuda, 1.00 ms measured, " in text


def test_an_untimed_kernel_has_no_seconds_in_a_table(moved):
    tally = Tally()
    tally.add_kernel(moved(("both", "both"), seconds=None))
    assert "0 s" not in str(summarize(tally, 0, None)).partition("Kernels")[2]


def test_the_way_that_data_goes_is_named_for_the_columns(moved, fits):
    there = fits(explain_record(moved(("host", "both"))))
    assert "moving data there" in there
    assert "bringing data home" not in there
    home = fits(explain_record(moved(("device", "device"))))
    assert "bringing data home" in home
    assert "moving data there" not in home
    assert "moving data there, or home" in fits(explain_record(moved(("device", "host"))))


@pytest.mark.parametrize(
    ("better", "chosen", "said"),
    [
        (("cuda", ""), "blocks", "; one on cuda would take 482 ns, and"),
        (("serial", "compiled"), "blocks", "; a compiled one would take 482 ns, and"),
        (("threads", "compiled"), "", "better  a compiled one on threads would take 482 ns, and"),
    ],
)
def test_what_is_not_built_yet_is_named_by_engine_and_backend(moved, fits, better, chosen, said):
    record = moved((), forced="serial")
    own = replace(record.decision.estimate, engine=chosen)
    late = replace(own, backend=better[0], engine=better[1], run=482e-9)
    decision = replace(record.decision, estimates=(own,), better=late)
    text = " ".join(fits(explain_record(replace(record, decision=decision))).split())
    assert " ".join(said.split()) in text
