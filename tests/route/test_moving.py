"""Programs on a simulated machine with a device: what is moved, when, and what that costs.

Kernels take what their prices say, on a virtual clock; copies are those that the mirrors really
make, at the rates of the bus.
"""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest

import dispatcharr as np
from dispatcharr import engine
from dispatcharr._config import options
from dispatcharr.backends.base import Rates
from dispatcharr.plan import fuse
from dispatcharr.route import moving, standing
from dispatcharr.route import profile as profiles
from dispatcharr.route.moving import Ledger, Trade
from dispatcharr.storage import places

N = 20_000


class Memory:
    """Host memory that plays a device's."""

    def __init__(self, nbytes):
        self.bytes = numpy.zeros(nbytes + 256, numpy.uint8)
        start = self.bytes.__array_interface__["data"][0]
        self.offset = -start % 256
        self.address = start + self.offset
        self.nbytes = nbytes

    def part(self, offset, nbytes):
        first = self.offset + offset
        return self.bytes[first : first + nbytes]


class Bus:
    """A device that copies and nothing else, and counts what it copies."""

    dead = None

    def __init__(self):
        self.seconds = 0.0
        self.rates = None

    def alloc(self, nbytes):
        return Memory(nbytes)

    def to_device(self, memory, offset, host):
        memory.part(offset, host.nbytes)[:] = host
        self.seconds += host.nbytes / self.rates.transfer + self.rates.copy

    def to_host(self, host, memory, offset):
        host[:] = memory.part(offset, host.nbytes)
        self.seconds += host.nbytes / self.rates.home + self.rates.copy


class Seat:
    """A backend that is priced and never runs."""

    def __init__(self, name, place, rates):
        self.name, self.place = name, place
        self.speeds = rates

    def available(self):
        return None

    def supports(self, region):
        return None

    def rates(self, profile):
        return self.speeds

    def run(self, region, inputs, outputs, threads=None):
        raise AssertionError("nothing runs here")


HOST = Rates(
    overhead=5e-6, wake=0.0, call=0.0, block_bytes=0, parallel=1.0, cache_bytes={},
    bandwidth={"memory": 1e10}, fault=0.0, op={"arith": {"d": 1e-9}},
)  # fmt: skip
DEVICE = Rates(
    overhead=8e-6, wake=0.0, call=0.0, block_bytes=0, parallel=1.0, cache_bytes={},
    bandwidth={"memory": 1e12}, fault=0.0, op={"arith": {"d": 1e-12}}, transfer=5e9, launch=3e-6,
    device=True, home=5e9, copy=1e-6, sync=1e-5, margin=0.7,
)  # fmt: skip


class World:
    """A program's engine, with a clock."""

    def __init__(self, bus, host, device):
        self.host, self.device, self.bus = host, device, bus
        bus.rates = device
        self.run_seconds = 0.0
        self.where = []

    @property
    def seconds(self):
        return self.run_seconds + self.bus.seconds

    def kernel(self, chain=3, inputs=1, reduction=False):
        """Return the step of a kernel, of which each is a region of its own."""
        fuse._cache.clear()
        with np.dispatch_options(defer="always"):
            arrays = [np.array(numpy.ones(N)) for _ in range(inputs)]
            y = arrays[0]
            for i in range(chain):
                y = y + arrays[i % inputs]
            (step,) = engine.plan_of([y._value]).steps
        return step

    def run(self, step, inputs, outputs=None):
        """Run a kernel where the router says; return its result."""
        outputs = [numpy.empty(N)] if outputs is None else outputs
        found = standing.standing(step.region, step.work, options(), inputs, outputs)
        decision = found.decision
        self.where.append(decision.backend)
        self.run_seconds += decision.estimate.seconds - decision.estimate.once
        if decision.backend == "device":
            with places.running():
                for host in inputs:
                    places.address(host)
                for host in outputs:
                    places.target(host, fresh=all(host is not one for one in inputs))
                places.written(outputs)
        else:
            for host in inputs:
                places.home(host)
            for host in outputs:
                places.host_write(host)
        return outputs[0]

    def prices(self, step, arrays=1):
        """Return seconds of one run on the host and on the device, and of moving one array."""
        estimates = {
            one.backend: one.seconds
            for one in standing.route(step.region, step.work, options())[0].estimates
        }
        move = N * 8 / self.device.transfer + self.device.copy
        return estimates["host"], estimates["device"], move


@pytest.fixture
def world(stage, monkeypatch):
    bus = Bus()

    def make(host=HOST, device=DEVICE):
        seats = [Seat("host", "host", host), Seat("device", "device", device)]
        monkeypatch.setattr("dispatcharr.backends.registry._candidates", seats)
        monkeypatch.setattr(profiles, "_current", stage.fresh(stage.laptop))
        return World(bus, host, device)

    places.use(bus)
    yield make
    places.use(None)
    moving._stays.clear()


def test_one_shot_stays_on_the_host(world):
    here = world()
    for _ in range(20):
        here.run(here.kernel(), [numpy.ones(N)])
    assert set(here.where) == {"host"}
    assert here.bus.seconds == 0


def test_a_one_shot_that_pays_the_way_there_and_back_goes_at_once(world):
    here = world(host=replace(HOST, op={"arith": {"d": 1e-7}}))
    here.run(here.kernel(), [numpy.ones(N)])
    assert here.where == ["device"]


@pytest.mark.parametrize("speed", [2e9, 5e9, 2e10])
def test_an_iteration_migrates_by_itself_and_costs_at_most_twice_the_clairvoyant(world, speed):
    here = world(device=replace(DEVICE, transfer=speed, home=speed))
    step = here.kernel()
    host, device, move = here.prices(step)
    for iterations in (1, 2, 3, 5, 10, 100):
        here = world(device=replace(DEVICE, transfer=speed, home=speed))
        step = here.kernel()
        here.bus.seconds = 0.0
        x = numpy.ones(N)
        for _ in range(iterations):
            x = here.run(step, [x])
        places.home(x)
        clairvoyant = iterations * min(host, device) + 2 * move
        assert here.seconds <= 2 * min(iterations * host, clairvoyant)
    assert here.where[-1] == "device"
    first = here.where.index("device")
    assert set(here.where[first:]) == {"device"}
    assert first <= 2 * move / (0.7 * host - device) + 1


def test_an_iteration_in_place_migrates_by_itself(world):
    here = world()
    step = here.kernel()
    _, device, move = here.prices(step)
    x = numpy.ones(N)
    for _ in range(100):
        here.run(step, [x], [x])
    assert here.where[-90:] == ["device"] * 90
    assert here.bus.seconds == pytest.approx(move)
    places.home(x)
    assert here.seconds <= 2 * (100 * device + 2 * move)


@pytest.mark.parametrize("home", [1e9, 2e9, 5e9, 2e10, 1e11])
@pytest.mark.parametrize("fresh", [True, False], ids=["new roots", "in place"])
def test_ping_pong_costs_at_most_twice_the_clairvoyant(world, home, fresh):
    here = world(device=replace(DEVICE, transfer=home, home=home))
    step = here.kernel()
    host, device, move = here.prices(step)
    for iterations in (1, 3, 10, 30, 100, 300):
        here = world(device=replace(DEVICE, transfer=home, home=home))
        step = here.kernel()
        here.bus.seconds = 0.0
        x = numpy.ones(N)
        for _ in range(iterations):
            x = here.run(step, [x], None if fresh else [x])
            places.home(x)  # the program looks at it
        clairvoyant = min(iterations * host, move + iterations * (device + move))
        assert here.seconds <= 2 * clairvoyant
    # In the long run it learns.
    assert here.seconds <= 1.35 * clairvoyant


def test_looking_now_and_then_does_not_drive_the_data_away(world):
    here = world()
    step = here.kernel()
    _, device, move = here.prices(step)
    x = numpy.ones(N)
    for iteration in range(500):
        x = here.run(step, [x])
        if iteration % 50 == 49:
            places.home(x)
    assert here.where[-400:] == ["device"] * 400
    assert here.seconds <= 1.5 * (500 * device + 11 * move)


def test_a_constant_operand_is_moved_once(world):
    here = world()
    step = here.kernel(inputs=2)
    x, c = numpy.ones(N), numpy.ones(N)
    for _ in range(50):
        x = here.run(step, [x, c])
    _, _, move = here.prices(step)
    assert here.where[-1] == "device"
    assert here.bus.seconds == pytest.approx(2 * move)


def test_a_chain_of_kernels_follows_its_data(world):
    here = world()
    first, second = here.kernel(3), here.kernel(4)
    x = numpy.ones(N)
    for _ in range(40):
        x = here.run(second, [here.run(first, [x])])
    assert set(here.where[-60:]) == {"device"}
    assert here.bus.seconds == pytest.approx(here.prices(first)[2])


def test_chain_whose_last_result_is_read_each_time_costs_at_most_twice_the_clairvoyant(world):
    for home in (1e9, 3e9, 1e10, 1e11):
        here = world(device=replace(DEVICE, transfer=home, home=home))
        here.bus.seconds = 0.0
        steps = [here.kernel(k) for k in (1, 2, 3)]
        x = numpy.ones(N)
        for _ in range(200):
            for step in steps:
                x = here.run(step, [x])
            places.home(x)
        host, device, move = (sum(each) for each in zip(*map(here.prices, steps), strict=True))
        clairvoyant = min(200 * host, move / 3 + 200 * (device + move / 3))
        assert here.seconds <= 2 * clairvoyant


def test_results_that_always_come_home_bring_their_input_home_in_the_end(world):
    """An array made on the device, and kernels on it whose results are read on the host."""
    here = world(device=replace(DEVICE, home=1e9))
    step = here.kernel()
    host, device, _ = here.prices(step)
    made = numpy.empty(N)
    with places.running():
        places.target(made, fresh=True)
        places.written([made])
    for _ in range(200):
        places.home(here.run(step, [made]))
    assert here.where[-100:].count("host") >= 90
    back = N * 8 / 1e9 + 1e-6
    assert here.seconds <= 2 * min(back + 200 * host, 200 * (device + back))


def test_the_behaviour_of_a_program_may_change(world):
    """Looked at each time, then never again: it goes to the device after all."""
    here = world(device=replace(DEVICE, transfer=2e9, home=2e9))
    step = here.kernel()
    x = numpy.ones(N)
    for _ in range(200):
        x = here.run(step, [x])
        places.home(x)
    for _ in range(500):
        x = here.run(step, [x])
    assert here.where[-300:] == ["device"] * 300


def test_what_is_read_at_once_is_priced_and_not_charged_again():
    ledger = Ledger()
    assert ledger.goes(Trade(1e-3, 1e-5, 0.0, 0.0, 0.0, 0.7))


def test_a_saving_below_the_margin_is_not_believed():
    ledger = Ledger()
    assert not any(ledger.goes(Trade(1e-3, 8e-4, 0.0, 1e-4, 0.0, 0.7)) for _ in range(1000))


def test_decisions_say_why_data_moves_or_does_not(world):
    here = world()
    step = here.kernel()
    x = numpy.ones(N)
    reasons = []
    for _ in range(20):
        out = numpy.empty(N)
        found = standing.standing(step.region, step.work, options(), [x], [out])
        reasons.append((found.decision.backend, found.decision.reason))
        if found.decision.backend == "device":
            break
    assert reasons[0][0] == "host"
    assert reasons[0][1].startswith("moving its data to a device has not paid yet: ")
    backend, reason = reasons[-1]
    assert backend == "device"
    assert reason.startswith("moving its data pays: earlier runs would have saved what it takes: ")
    assert found.work.to_device == N * 8
    assert found.work.states == ("host",)
    assert found.decision.estimate.term("transfer") > 0


def test_trips_that_bring_in_the_way_home_alone_are_learned_to_be_rare(world):
    """Each result is read, and inputs are new each time: no single trip can pay."""
    here = world(device=replace(DEVICE, transfer=4e9, home=4e9))
    step = here.kernel()
    host, device, move = here.prices(step)
    assert move < host - device < 2 * move  # it brings in the way home, and not the way there
    for _ in range(300):
        places.home(here.run(step, [numpy.ones(N)]))
    trips = [i for i, name in enumerate(here.where) if name == "device"]
    assert trips
    assert standing._located[step.region].ledger.patience == moving._PATIENCE
    assert trips[-1] - trips[-2] >= 3 * (trips[1] - trips[0])
    assert here.seconds <= 1.15 * 300 * host


def test_a_way_there_that_pays_later_is_no_reason_for_patience():
    ledger = Ledger()
    going = Trade(3.0, 0.0, 0.0, 2.0, 2.0, 1.0)
    staying = going._replace(to_device=0.0)
    x, y = numpy.ones(4), numpy.ones(4)
    moving.departed(ledger, going, [x], [y])
    moving._stays[id(y)].end(True)
    assert ledger.owed == 1.0
    assert ledger.patience == 1.0
    moving.departed(ledger, staying, [x], [y])
    moving._stays[id(y)].end(True)
    assert ledger.owed == 0.0
    ledger.goes(going)
    assert ledger.patience == 1.0


def test_a_way_there_that_is_made_again_too_soon_doubles_the_patience_once():
    ledger = Ledger()
    going = Trade(3.0, 0.0, 0.0, 2.0, 2.0, 1.0)
    x, y = numpy.ones(4), numpy.ones(4)
    moving.departed(ledger, going, [x], [y])
    moving._stays[id(y)].end(True)
    for _ in range(2):
        ledger.goes(going)
        assert ledger.patience == 2.0


def test_building_the_kernel_is_paid_once_and_held_against_no_trip():
    ledger = Ledger()
    going = Trade(3.0, 0.0, 0.0, 52.0, 2.0, 1.0, compile=51.0)
    x, y = numpy.ones(4), numpy.ones(4)
    moving.departed(ledger, going, [x], [y])
    moving._stays[id(y)].end(True)
    assert ledger.owed == 0.0
