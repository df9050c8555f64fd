"""What a backend is, and what it may know of the machine.

A backend is one module of this folder, or one entry point of the group ``dispatcharr.backends``,
that offers an object with the members of :class:`Backend`. It receives regions and buffers; it
knows nothing of arrays, nodes or prices. Refusals are sentences, because ``explain`` prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy

from dispatcharr.devices.device import Props
from dispatcharr.devices.figures import expected
from dispatcharr.kernels.blocks import PLAIN_REDUCE_ELEMENTS, REDUCE_BLOCK_BYTES
from dispatcharr.kernels.target import architecture
from dispatcharr.plan.region import Region

__all__ = [
    "Backend", "Elsewhere", "LateErrors", "Profile", "Rates", "device_rates",
    "host_rates", "label",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """Measured constants of one machine. Seconds, bytes and bytes per second throughout.

    Attributes
    ----------
    source : str
        ``"defaults"`` (shipped) or ``"calibrated"`` (measured here).
    machine : mapping
        What the figures are bound to: CPU, cores, NumPy, Python and dispatcharr versions.
    threads : int
        Threads that the figures for all threads were measured with.
    cache_bytes : mapping
        ``{"L1": ..., "L2": ..., "L3": ...}`` sizes as seen by one thread.
    bandwidth : mapping
        ``{"serial": {"L1": ..., "L2": ..., "L3": ..., "memory": ...}, "threads": {...}}``:
        bytes read plus written per second.
    fault : mapping
        Seconds per byte to touch freshly allocated memory, for ``"serial"`` and ``"threads"``.
    op : mapping
        ``{cost class: {dtype character: seconds per element}}``, operands in cache, one thread.
    overhead : mapping
        Fixed seconds: ``"record"`` (one deferred operation), ``"plan"`` (from the look at a
        result to the choice of a backend), ``"run"`` (a backend's run of the smallest kernel),
        ``"call"`` (one instruction on a block), ``"wake"`` (until helpers are at work),
        ``"queue"`` (what a call takes longer while all threads make calls: they wait for the
        interpreter's lock); perhaps ``"crew"`` (until the helpers of compiled kernels are),
        ``"awake"`` (the same where kernels follow each other closely) and ``"replay"`` (what a
        statement that was run before takes besides a run).
    block_bytes : int
        Bytes of one operand's block in the ``blocks`` engine.
    correction : mapping
        ``{backend: {kernel class: ratio}}``, learned measured-to-predicted ratios.
    compiled : mapping
        As ``op``, of the ``compiled`` engine: what an operation adds to a loop, in registers.
    path : str or None
        File that it came from.
    scans : mapping
        ``{scan: {dtype character: seconds per element}}``, ``*`` for every other dtype; what NumPy
        takes for it by the name ``"numpy SCAN"``.
    devices : mapping
        ``{uuid: figures}`` of devices that were measured, as ``devices.figures`` has them, each
        with the ``name`` and ``driver`` that they hold for.
    """

    source: str
    machine: Mapping[str, Any]
    threads: int
    cache_bytes: Mapping[str, int]
    bandwidth: Mapping[str, Mapping[str, float]]
    fault: Mapping[str, float]
    op: Mapping[str, Mapping[str, float]]
    overhead: Mapping[str, float]
    block_bytes: int
    correction: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    path: str | None = None
    compiled: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    scans: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rates:
    """A backend's speeds, as the price sees them.

    Attributes
    ----------
    overhead : float
        Seconds per run, however small the kernel.
    wake : float
        Seconds to start and join helpers; charged when the kernel has more than one chunk.
    call : float
        Seconds per instruction and block.
    block_bytes : int
        Bytes of one operand's block; 0 when the backend does not work by blocks.
    parallel : float
        How many times faster than one thread arithmetic runs.
    cache_bytes, bandwidth : mapping
        Level sizes and bytes per second by level name, ``"memory"`` last.
    fault : float
        Seconds per byte of freshly allocated output.
    op : mapping
        ``{cost class: {dtype character: seconds per element}}`` on one lane.
    transfer : float
        Bytes per second to the backend's place from where its inputs may be; ``inf`` where there
        is nowhere else.
    compile : float
        Seconds to build a kernel that has not been built yet.
    launch : float
        Seconds per launch on a device.
    reduce_bytes, reduce_elements : int
        Bytes of one operand's block in reductions of something computed, and elements of a block
        in reductions of what is there; 0 where they are cut as everything else.
    device : bool
        Whether the place is a device, and not the host.
    home : float
        Bytes per second from a device to the host.
    copy : float
        Seconds per copy between the host and a device, however short.
    sync : float
        Seconds until the host has a result that it reads at once.
    again : float
        Seconds of what a device launches besides for a reduction.
    margin : float
        Share of the host's price that a device may ask at most before data is moved there.
    streams : bool
        Whether results that no cache holds are written without being read before.
    awake : float
        As ``wake``, where helpers still look out for the next kernel; ``inf`` where they never do.
    """

    overhead: float
    wake: float
    call: float
    block_bytes: int
    parallel: float
    cache_bytes: Mapping[str, int]
    bandwidth: Mapping[str, float]
    fault: float
    op: Mapping[str, Mapping[str, float]]
    transfer: float = float("inf")
    compile: float = 0.0
    launch: float = 0.0
    reduce_bytes: int = 0
    reduce_elements: int = 0
    device: bool = False
    home: float = float("inf")
    copy: float = 0.0
    sync: float = 0.0
    again: float = 0.0
    margin: float = 1.0
    streams: bool = False
    awake: float = float("inf")


def host_rates(profile: Profile, crew: str, engine: str = "blocks") -> Rates:
    """Return the host's speeds with one thread or with all, as ``profile`` measured them.

    Parameters
    ----------
    profile : Profile
        The machine.
    crew : {"serial", "threads"}
        Which of the profile's columns.
    engine : {"blocks", "compiled"}
        What runs the kernel's body.
    """
    alone, crewed = profile.bandwidth["serial"], profile.bandwidth[crew]
    # In-cache traffic scales as arithmetic does: neither leaves the core. Hyperthreads, clocks and
    # the stolen time of a virtual machine are in it.
    gain = min(max(crewed["L2"] / alone["L2"], 1.0), float(profile.threads))
    rates = Rates(
        overhead=profile.overhead["run"],
        wake=0.0 if crew == "serial" else profile.overhead["wake"],
        call=profile.overhead["call"] + (0.0 if crew == "serial" else profile.overhead["queue"]),
        block_bytes=profile.block_bytes,
        parallel=1.0 if crew == "serial" else gain,
        cache_bytes=profile.cache_bytes,
        bandwidth=crewed,
        fault=profile.fault[crew],
        op=profile.op,
        reduce_bytes=REDUCE_BLOCK_BYTES,
        reduce_elements=PLAIN_REDUCE_ELEMENTS,
    )
    if engine == "blocks":
        return rates
    # One loop: no blocks, no calls between them.
    return replace(
        rates,
        wake=0.0 if crew == "serial" else profile.overhead.get("crew", rates.wake),
        awake=profile.overhead.get("awake", float("inf")),
        streams=architecture() == "x86_64",  # elsewhere such stores are a hint, if there are any
        call=0.0,
        block_bytes=0,
        op=profile.compiled,
        compile=profile.overhead["compile"],
        reduce_bytes=0,
        reduce_elements=0,
    )


def device_rates(profile: Profile, props: Props) -> Rates:
    """Return a device's speeds, measured ones where ``profile`` has them.

    Parameters
    ----------
    profile : Profile
        The machine; what was measured with another driver is left out.
    props : Props
        The device.
    """
    known = expected(props)
    measured = profile.devices.get(props.uuid, {})
    if (measured.get("name"), measured.get("driver")) == (props.name, props.driver):
        op = {cost: {**row, **measured["op"].get(cost, {})} for cost, row in known["op"].items()}
        known = {**known, **measured, "op": op}
    return Rates(
        overhead=known["overhead"],
        wake=0.0,
        call=0.0,
        block_bytes=0,
        parallel=1.0,
        # Half of it: what a kernel writes pushes out what it has still to read.
        cache_bytes={"L2": props.l2_bytes // 2},
        bandwidth=known["bandwidth"],
        fault=0.0,
        op=known["op"],
        transfer=known["to_device"],
        compile=known["compile"],
        launch=known["launch"],
        device=True,
        home=known["to_host"],
        copy=known["copy"],
        sync=known["sync"],
        again=known["pass"],
        margin=known["margin"],
    )


class Elsewhere(RuntimeError):
    """A run that another backend has to do, for the values that there are this time."""


#: Called with whether to wait: the errors met, or None while the device has not got there.
LateErrors = Callable[[bool], frozenset[tuple[str, str]] | None]


@runtime_checkable
class Backend(Protocol):
    """A place that runs kernels.

    A backend that runs kernels in more ways than one has ``engines``: objects like itself, one for
    each way, with a member ``engine`` that names it. They are priced and routed as backends are.
    One whose kernels have to be built first, at the price that its rates call ``compile``, has more
    of them. ``kernel(region, inputs, outputs)`` names the kernel for such buffers: with a hashable
    value that is the same wherever one kernel will do, or with None where there can be none. It may
    be left out if no kernel serves two regions. ``ready(region)`` says whether the kernel is built,
    for buffers that ``kernel`` or ``order`` were told of, as far as it can say without any.
    ``order(region, inputs, outputs, stored=False, wait=False)`` has it built in the background:
    with ``stored`` only if it need not be built but loaded, with ``wait`` before the call returns.
    It returns None, or why it never can be.

    One whose ``place`` is not the host finds in ``storage.places`` where the buffers are. Its
    ``run`` may return before the kernel has run, and then returns what will tell the errors met;
    ``wait()`` returns once all that it was given has run.
    """

    name: str
    place: str

    def available(self) -> str | None:
        """Return None when it can run here, else the reason why not, as a sentence."""

    def supports(self, region: Region) -> str | None:
        """Return None when it can run ``region``, else the reason why not, as a sentence."""

    def rates(self, profile: Profile) -> Rates:
        """Return this backend's speeds on the machine that ``profile`` describes."""

    def run(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> frozenset[tuple[str, str]] | LateErrors:
        """Run ``region``: read ``inputs``, fill ``outputs``, both in the region's order.

        Returns the floating-point errors met, as ``(kind, operation)`` in NumPy's words:
        ``("divide by zero", "log")``; with ``plan.region.REMARK`` as the kind, a warning in words
        of its own. Raises Elsewhere where another backend has to run it this time.
        """


def label(backend: Backend) -> str:
    """Return a backend's name and, where it has several, its engine: ``"serial/compiled"``."""
    engine = getattr(backend, "engine", "")
    return f"{backend.name}/{engine}" if engine else backend.name
