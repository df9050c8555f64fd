"""Rent or buy: when a better kernel is loaded, built and used."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy
import pytest

import dispatcharr as np
from dispatcharr import engine
from dispatcharr._config import options
from dispatcharr.backends import registry
from dispatcharr.backends.base import label
from dispatcharr.plan import fuse
from dispatcharr.route import profile as profiles
from dispatcharr.route import rents, standing

N = 50_000


class Late:
    """A second engine of the serial backend, ten times as fast once it is built.

    One kernel serves all lengths where it ``shares``.
    """

    name, place, engine = "serial", "host", "late"

    def __init__(self, serial):
        self.serial = serial
        self.built = False
        self.shares = True
        self.told = weakref.WeakSet()
        self.orders = []
        self.runs = 0
        self.refuses = None
        self.never = None

    def available(self):
        return None

    def supports(self, region):
        return self.refuses

    def rates(self, profile):
        rates = self.serial.rates(profile)
        op = {cost: {c: s / 10 for c, s in row.items()} for cost, row in rates.op.items()}
        bandwidth = {level: 10 * speed for level, speed in rates.bandwidth.items()}
        return replace(rates, op=op, bandwidth=bandwidth, call=0.0, compile=1.0)

    def kernel(self, region, inputs, outputs):
        self.told.add(region)
        return region.describe() if self.shares else None

    def ready(self, region):
        return self.built and region in self.told

    def order(self, region, inputs, outputs, stored=False, wait=False):
        self.told.add(region)
        self.orders.append("load" if stored else "build")
        if wait:
            self.built = True
        return self.never

    def run(self, region, inputs, outputs, threads=None):
        self.runs += 1
        return self.serial.run(region, inputs, outputs, threads)


@pytest.fixture
def late(monkeypatch):
    serial = registry.engines_of(registry.backend("serial"))[0]
    made = Late(serial)
    monkeypatch.setattr(registry, "_candidates", [serial, made])
    return made


@pytest.fixture
def kernel():
    fuse._cache.clear()  # what is known of a kernel goes with its plan
    rents._rents.clear()
    return kernel_of(N)


def kernel_of(length):
    with np.dispatch_options(defer="always"):
        y = np.sin(np.asarray(numpy.linspace(0, 9, length))) * 2
        (step,) = engine.plan_of([y._value]).steps
    return step


def savings(step):
    """Return what one run would be the shorter by, and the prices of loading and of building."""
    decision, _ = standing.route(step.region, step.work, options())
    overhead = profiles.current(None).overhead
    return decision.predicted - decision.better.run, overhead["load"], overhead["compile"]


def run(step, times, chosen=None):
    length = step.region.elements
    source, out = numpy.linspace(0, 9, length), numpy.empty(length)
    two = numpy.asarray(2.0)
    for _ in range(times):
        inputs = [source, two][: len(step.region.inputs)]
        found = standing.standing(step.region, step.work, chosen or options(), inputs, [out])
    return found


def test_what_is_not_built_does_not_run_and_is_told_of(late, kernel):
    decision, backend = standing.route(kernel.region, kernel.work, options())
    assert label(backend) == "serial/blocks"
    assert decision.better.label == "serial/late"
    assert decision.better.run < decision.predicted
    assert [estimate.label for estimate in decision.estimates] == ["serial/blocks"]


def test_it_is_loaded_and_built_when_the_savings_have_paid_for_it(late, kernel):
    saving, load, build = savings(kernel)
    run(kernel, int(load / saving))
    assert late.orders == []
    run(kernel, 2)
    assert late.orders == ["load"]
    run(kernel, int((build - load) / saving) - 3)
    assert late.orders == ["load"]
    run(kernel, 5)
    assert set(late.orders) == {"load", "build"}
    late.built = True
    run(kernel, 1)
    made = len(late.orders)
    run(kernel, 100)
    assert len(late.orders) == made


def test_it_is_used_from_the_run_on_that_finds_it_built(late, kernel):
    saving, load, _ = savings(kernel)
    found = run(kernel, int(load / saving) + 2)
    assert label(found.backend) == "serial/blocks"
    late.built = True
    assert label(run(kernel, 1).backend) == "serial/late"
    decision = run(kernel, 1).decision
    assert decision.better is None
    assert decision.estimate.engine == "late"
    assert decision.estimate.term("compile") == 0.0


def test_what_can_never_be_built_is_not_asked_for_again(late, kernel):
    saving, load, _ = savings(kernel)
    late.never = "it is too hard"
    run(kernel, int(load / saving) + 2)
    standing.forget(kernel.region)
    decision = run(kernel, 1).decision
    assert decision.better is None
    assert decision.engines == (("serial/late", "it is too hard"),)
    assert decision.refused == ()


def test_an_engine_that_refuses_leaves_the_backend_in_the_running(late, kernel):
    late.refuses = "it knows no sines"
    decision = run(kernel, 50).decision
    assert decision.engines == (("serial/late", "it knows no sines"),)
    assert decision.backend == "serial"
    assert late.orders == []


def test_an_engine_that_is_asked_for_is_waited_for(late, kernel, monkeypatch):
    monkeypatch.setattr("dispatcharr._config.ENGINES", ("auto", "blocks", "late"))
    with np.dispatch_options(engine="late"):
        assert label(run(kernel, 1).backend) == "serial/late"
        assert late.orders == ["build"]
    with np.dispatch_options(engine="blocks"):
        assert label(run(kernel, 1).backend) == "serial/blocks"


def test_a_barred_engine_is_left_out(late, kernel):
    late.built = True
    assert label(run(kernel, 1).backend) == "serial/late"
    standing.bar(kernel.region, {"serial/late": "it disagreed with NumPy on this kernel"})
    assert label(run(kernel, 1).backend) == "serial/blocks"


def test_no_more_than_twice_the_clairvoyants_price_is_paid(late, kernel):
    saving, load, build = savings(kernel)
    price = load + build
    for runs in (1, 5, 20, 100, 400):
        standing.forget(kernel.region)
        rents._rents.clear()
        late.orders.clear()
        run(kernel, runs)
        paid = load * ("load" in late.orders) + build * ("build" in late.orders)
        forgone = saving * runs if "build" not in late.orders else build
        assert paid + min(forgone, build) <= 2 * min(saving * runs, price) + saving


def test_kernels_of_other_lengths_pay_into_the_same_accounts(late, kernel):
    saving, load, build = savings(kernel)
    needed = int((load + build) / saving)
    found = [run(kernel_of(N + k), 1) for k in range(needed)]
    assert late.orders.count("load") == 1
    assert "build" in late.orders
    assert len({one.rent for one in found}) == 1


def test_a_kernel_serves_other_lengths_from_their_first_run_on(late, kernel):
    run(kernel, 1)
    late.built = True
    found = run(kernel_of(N + 1), 1)
    assert label(found.backend) == "serial/late"
    assert found.rent is None
    assert late.orders == []


def test_kernels_that_are_not_shared_have_accounts_of_their_own(late, kernel):
    late.shares = False
    saving, load, _ = savings(kernel)
    others = [kernel_of(N + k) for k in range(8)]
    for other in others:
        run(other, int(load / saving / 2))
    assert late.orders == []
    assert len(rents._rents) == len(others)


def test_the_table_of_accounts_is_bounded(late, kernel, monkeypatch):
    monkeypatch.setattr(rents, "_MOST_RENTS", 8)
    late.shares = False
    for k in range(40):
        run(kernel_of(N + k), 1)
    assert 0 < len(rents._rents) <= 8


def test_a_forced_backend_that_fails_leaves_its_reason(late, kernel, monkeypatch):
    (serial, _), threads = registry._candidates, registry.engines_of(registry.backend("threads"))[0]
    monkeypatch.setattr(registry, "_candidates", [serial, late, threads])
    failed = {"serial/blocks": "it failed on this kernel: ValueError: no"}
    decision, backend = standing.route(kernel.region, kernel.work, options(), failed)
    assert backend is threads
    assert decision.reason.startswith(
        "'serial/blocks' was tried first, and it failed on this kernel: ValueError: no; "
    )
    standing.bar(kernel.region, failed)
    with np.use_backend("serial"):
        decision, backend = standing.route(kernel.region, kernel.work, options())
    assert backend is threads
    assert "'serial' was asked for and refused (" in decision.reason
