"""Synthetic machines and kernels: nothing here is measured, so tests are exact and repeatable."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy
import pytest

from dispatcharr.backends.base import Profile, Rates, host_rates
from dispatcharr.plan.work import Work
from dispatcharr.route import profile as profiles
from dispatcharr.route import router
from dispatcharr.route.defaults import COMPILED_SECONDS, OP_SECONDS


@dataclass(frozen=True)
class HostBackend:
    """The serial or the threads backend, as far as a router sees it."""

    name: str
    place: str = "host"

    def rates(self, profile: Profile) -> Rates:
        return host_rates(profile, self.name)


@dataclass(frozen=True)
class DeviceBackend:
    """A device behind a bus: 1.5 TB/s inside, 12 GB/s on the way in."""

    name: str = "device"
    place: str = "device:0"
    compile: float = 0.0

    def rates(self, profile: Profile) -> Rates:
        return Rates(
            overhead=profile.overhead["run"],
            wake=0.0,
            call=0.0,
            block_bytes=0,
            parallel=1.0,
            cache_bytes={"L2": 40 << 20},
            bandwidth={"L2": 4e12, "memory": 1.5e12},
            fault=0.0,
            op={"arith": {"d": 1e-12, "f": 5e-13}, "trig": {"d": 2e-11, "f": 2e-12}},
            transfer=12e9,
            compile=self.compile,
            launch=10e-6,
            device=True,
        )


def make_machine(
    threads: int, *, memory: float, gain: float, cores: float, wake: float, l3: int
) -> Profile:
    """Return a machine from its traits: bytes per second, gains of all threads, seconds, bytes."""
    serial = {"L1": 12 * memory, "L2": 6 * memory, "L3": 3 * memory, "memory": memory}
    everyone = {
        "L1": serial["L1"] * cores,
        "L2": serial["L2"] * cores,
        "L3": serial["L3"] * math.sqrt(cores * gain),
        "memory": memory * gain,
    }
    return Profile(
        source="calibrated",
        machine={"cpu": "synthetic"},
        threads=threads,
        cache_bytes={"L1": 32 << 10, "L2": 1 << 20, "L3": l3},
        bandwidth={"serial": serial, "threads": everyone},
        fault={"serial": 1e-10, "threads": 1e-10 / gain},
        op=OP_SECONDS,
        overhead={
            "record": 4e-6,
            "plan": 15e-6,
            "run": 1e-5,
            "call": 4e-7,
            "wake": wake,
            "queue": 1e-6,
            "compile": 40e-3,
            "load": 3e-3,
        },
        block_bytes=256 << 10,
        compiled=COMPILED_SECONDS,
    )


LAPTOP = make_machine(4, memory=15e9, gain=1.6, cores=3.4, wake=2e-5, l3=8 << 20)
SERVER = make_machine(64, memory=12e9, gain=8.0, cores=48.0, wake=8e-5, l3=64 << 20)
SERIAL, THREADS = HostBackend("serial"), HostBackend("threads")


def make_work(
    elements: int,
    ops: tuple[tuple[str, str], ...] = (("arith", "d"),),
    reduction: tuple[str, str] | None = None,
    *,
    inputs: int = 2,
    moves: int = 0,
) -> Work:
    """Return the work of a kernel over ``inputs`` arrays of one length, as a planner counts it."""
    size = elements * numpy.dtype(ops[0][1] if ops else "d").itemsize
    written = size if reduction is None else 8
    classes = sorted({cost for cost, _ in ops} | ({reduction[0]} if reduction else set()))
    return Work(
        elements=elements,
        bytes_read=inputs * size,
        bytes_written=written,
        bytes_fresh=written,
        ops=ops,
        reduction=reduction,
        contiguous=True,
        key=f"{'+'.join(classes)}/{max(elements, 1).bit_length() - 1}",
        to_device=moves,
    )


@dataclass(frozen=True)
class Stage:
    """What tests are played on, handed over by a fixture since test folders are no packages."""

    laptop: Profile = LAPTOP
    server: Profile = SERVER
    serial: HostBackend = SERIAL
    threads: HostBackend = THREADS
    work = staticmethod(make_work)
    machine = staticmethod(make_machine)

    @property
    def host(self) -> list[tuple[HostBackend, None]]:
        return [(self.serial, None), (self.threads, None)]

    def device(self, compile: float = 0.0) -> DeviceBackend:
        return DeviceBackend(compile=compile)

    def fresh(self, profile: Profile) -> Profile:
        """Return an equal profile that no router has seen yet."""
        return replace(profile)


@pytest.fixture(scope="session")
def stage() -> Stage:
    return Stage()


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see the profile, warning or corrections of another."""
    monkeypatch.setattr(profiles, "_current", None)
    monkeypatch.setattr(profiles, "_warned", False)
    monkeypatch.setattr(router, "_desks", [])
