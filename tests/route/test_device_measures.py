"""A device's prices: what is expected of it, what is measured, and when that no longer holds."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest

from dispatcharr._errors import ProfileWarning
from dispatcharr.backends.base import device_rates
from dispatcharr.devices import shim
from dispatcharr.devices.device import DeviceError, Props
from dispatcharr.devices.figures import FIGURES, expected
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.table import ELEMENTWISE, GENERATORS
from dispatcharr.route import calibrate, device_measures
from dispatcharr.route.price import price
from dispatcharr.route.stored import UnusableProfile, as_stored, read, write

H100 = Props(
    name="H100", uuid="GPU-1", driver="13.0", target="sm_90", multiprocessors=132,
    clock_hz=1.98e9, memory_bandwidth=2.7e12, l2_bytes=50 << 20, total_memory=80 << 30,
    double_ratio=2,
)  # fmt: skip
CARD = replace(H100, name="card", uuid="GPU-2", target="sm_89", double_ratio=64)

MEASURED = {
    "name": "H100", "driver": "13.0", "to_device": 4.5e10, "to_host": 4e10, "launch": 4e-6,
    "bandwidth": {"L2": 6e12, "memory": 3e12}, "op": {"exp": {"d": 5e-12}}, "margin": 0.8,
}  # fmt: skip


def test_every_cost_class_is_expected_to_cost_something():
    op = expected(H100)["op"]
    for row in (*ELEMENTWISE, *GENERATORS, *REDUCTIONS):
        assert all(0 < seconds < 1e-9 for seconds in op[row.cost].values()), row.cost


def test_double_precision_is_dear_where_the_device_says_so(stage):
    assert expected(H100)["op"]["arith"]["d"] == 2 * expected(H100)["op"]["arith"]["f"]
    assert expected(CARD)["op"]["arith"]["d"] == 64 * expected(CARD)["op"]["arith"]["f"]
    bound = [
        price(stage.work(1 << 24, (("trig", "d"),)), "", device_rates(stage.laptop, one)).bound
        for one in (H100, CARD)
    ]
    assert bound == ["memory", "compute"]


def test_a_simple_kernel_on_what_is_there_takes_what_memory_takes(stage):
    work = stage.work(10**8)
    found = price(work, "cuda", device_rates(stage.laptop, H100))
    assert found.bound == "memory"
    assert found.run == pytest.approx(work.bytes_touched / H100.memory_bandwidth, rel=0.02)
    assert found.device
    assert found.back > found.run


def test_what_was_measured_replaces_what_is_expected(stage):
    profile = replace(stage.laptop, devices={"GPU-1": MEASURED})
    rates = device_rates(profile, H100)
    assert (rates.transfer, rates.home, rates.launch) == (4.5e10, 4e10, 4e-6)
    assert rates.op["exp"]["d"] == 5e-12
    assert rates.op["exp"]["f"] == expected(H100)["op"]["exp"]["f"]
    assert rates.sync == FIGURES["sync"]


@pytest.mark.parametrize(
    "props",
    [replace(H100, driver="13.1"), replace(H100, uuid="GPU-9"), replace(H100, name="H200")],
    ids=["driver", "another one", "another kind"],
)
def test_figures_hold_for_one_device_and_driver(stage, props):
    profile = replace(stage.laptop, devices={"GPU-1": MEASURED})
    assert device_rates(profile, props).transfer == expected(props)["to_device"]


def test_transfers_launches_and_waiting_are_terms_of_their_own(stage):
    rates = device_rates(stage.laptop, H100)
    work = replace(
        stage.work(1000, (), ("reduce_sum", "d")), scalar=True, states=("host", "host"),
        to_device=16_000,
    )  # fmt: skip
    found = price(work, "cuda", rates)
    assert found.term("transfer") == pytest.approx(16_000 / rates.transfer + 2 * rates.copy)
    assert found.term("launch") == rates.launch + rates.again
    assert found.term("sync") == rates.sync
    assert found.once == found.term("transfer") + rates.compile
    there = price(replace(work, states=("both", "device"), to_device=0), "cuda", rates)
    assert there.term("transfer") == 0


def test_figures_are_stored_and_read(stage, tmp_path):
    path = str(tmp_path / "profile.json")
    profile = replace(stage.laptop, machine=calibrate.Bench.begin(1, 1).profile().machine)
    write(profile, path)
    assert read(path).devices == {}
    write(replace(profile, devices={"GPU-1": MEASURED}), path)
    assert (
        read(path).devices == as_stored(replace(profile, devices={"GPU-1": MEASURED}), None).devices
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"to_device": -1.0}, "devices.GPU-1.to_device is -1.0"),
        ({"bandwidth": {"L2": 1e12}}, "devices.GPU-1.bandwidth.memory is missing"),
        ({"op": {"exp": {"d": 5.0}}}, "devices.GPU-1.op.exp.d is 5.0"),
        ({"name": None}, "devices.GPU-1.name is missing"),
    ],
)
def test_unbelievable_figures_void_the_file(stage, tmp_path, change, message):
    path = str(tmp_path / "profile.json")
    profile = replace(stage.laptop, machine=calibrate.Bench.begin(1, 1).profile().machine)
    write(replace(profile, devices={"GPU-1": {**MEASURED, **change}}), path)
    with pytest.raises(UnusableProfile, match=message):
        read(path)


@pytest.mark.skipif(shim.missing() is not None, reason="there is no compiler for the shim")
def test_a_device_is_measured_within_its_time(stage, tmp_path, monkeypatch):
    from dispatcharr.devices.virtual import VirtualDevice

    monkeypatch.setenv("DISPATCHARR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(device_measures, "_CLASSES", ("exp",))
    monkeypatch.setattr(device_measures, "_DTYPES", (numpy.dtype("f8"),))
    device = VirtualDevice()
    found = device_measures.device_figures(device, 30.0, elements=1 << 10)
    assert set(found) > {"to_device", "to_host", "copy", "launch", "sync", "compile", "bandwidth"}
    assert set(found["op"]) == {"exp"}
    profile = replace(stage.laptop, devices={device.props.uuid: found})
    rates = device_rates(profile, device.props)
    assert rates.transfer == found["to_device"]
    assert rates.margin == found["margin"]
    write(replace(profile, machine=calibrate.Bench.begin(1, 1).profile().machine),
          str(tmp_path / "p.json"))  # fmt: skip
    assert device.props.uuid in read(str(tmp_path / "p.json")).devices


def test_a_device_that_fails_costs_a_warning_and_keeps_what_is_expected():
    class Broken:
        props = H100

        def compile(self, text, name):
            raise DeviceError("the bus fell off")

    with pytest.warns(ProfileWarning, match=r"H100 could not be measured: the bus fell off"):
        assert calibrate._device_figures(Broken(), 1.0) == {}
