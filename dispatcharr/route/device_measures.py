"""How a device is measured: copies, launches, its memory, and what operations cost on it.

Copies are timed as the mirrors make them, by the wall clock; what happens on the device by its own
events. The kernels are those that programs run. A figure that is not reached in time is missing,
and the expected one stands (see ``devices.figures``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy

from dispatcharr.devices.device import Device, DeviceMemoryError, Memory
from dispatcharr.devices.figures import expected
from dispatcharr.expr.build import Declined, build
from dispatcharr.kernels import cuda_bind, cuda_build
from dispatcharr.kernels.cuda_source import Bound
from dispatcharr.ops.table import BY_NAME
from dispatcharr.plan.fuse import plan
from dispatcharr.plan.graph import survey
from dispatcharr.route.probes import REPRESENTATIVE

__all__ = ["device_figures"]

#: Bytes of copies: short, of middle length, long.
_SHORT, _MIDDLE, _LONG = 64 << 10, 16 << 20, 256 << 20
#: Elements of the operands on which operations are timed, and operations in such a kernel: enough
#: for arithmetic to take longer than memory and a launch, where it is dear at all.
_ELEMENTS, _TIMES = 1 << 22, 4
_SAMPLED = 1 << 14
#: Cost classes worth a kernel: others are far below what memory takes, or are scaled.
_CLASSES = ("exp", "log", "trig", "power", "divide", "sqrt", "tanh", "tan")
_DTYPES = tuple(numpy.dtype(code) for code in ("f8", "f4"))
#: Share of the host's price once the device's is known: what is left is for what was not measured.
_MARGIN = 0.8
_SAMPLES = 5

_NOTHING = """\
struct Words { long long w[1]; };
extern "C" __global__ void __launch_bounds__(32) nothing(const Words p) {
    if (p.w[0] == 1) { __syncthreads(); }
}
"""


def device_figures(
    device: Device, budget: float = 2.5, elements: int = _ELEMENTS
) -> dict[str, Any]:
    """Measure ``device``, and return its figures with the name and driver that they hold for.

    Parameters
    ----------
    device : Device
        In use or not.
    budget : float
        Seconds after which no further measurement begins.
    elements : int
        Of the operands on which operations are timed.
    """
    end = time.perf_counter() + budget
    props = device.props
    figures: dict[str, Any] = {"name": props.name, "driver": props.driver, "margin": _MARGIN}
    _launches(device, figures)
    longest = min(_LONG, 64 * elements, device.memory_info()[0] // 4)
    with suppress(DeviceMemoryError):  # others use it: the expected figures stand
        _copies(device, figures, longest, end)
        _memory(device, figures, longest, end)
    bandwidth = figures.get("bandwidth", expected(props)["bandwidth"])["memory"]
    figures["op"] = _operations(device, elements, end, bandwidth, figures["launch"])
    return figures


def _launches(device: Device, figures: dict[str, Any]) -> None:
    device.compile(_NOTHING, "nothing")  # the first one starts the compiler
    start = time.perf_counter()
    image = device.compile(f"{_NOTHING}// again\n", "nothing")
    kernel = device.load(image, "nothing")
    # Generated kernels are longer than this one.
    figures["compile"] = 2.0 * (time.perf_counter() - start)
    device.launch(kernel, 1, 32, [0])
    device.synchronize()
    count = 50
    first = device.event()
    for _ in range(count):
        device.launch(kernel, 1, 32, [0])
    seconds = device.elapsed(first, device.event()) / count
    figures["launch"] = figures["pass"] = max(seconds, 1e-7)
    word, memory = numpy.zeros(8, numpy.uint8), device.alloc(256)

    def look() -> None:
        device.launch(kernel, 1, 32, [0])
        device.to_host(word, memory, 0)

    figures["sync"] = max(_least(look) - seconds, 1e-7)


def _copies(device: Device, figures: dict[str, Any], longest: int, end: float) -> None:
    middle = min(_MIDDLE, longest)
    host = numpy.empty(longest, numpy.uint8)
    host.fill(1)
    memory = device.alloc(longest)

    def there(nbytes: int) -> None:
        device.to_device(memory, 0, host[:nbytes])
        device.synchronize()

    def back(nbytes: int) -> None:
        device.to_host(host[:nbytes], memory, 0)

    def fresh(nbytes: int) -> None:
        device.to_host(numpy.empty(nbytes, numpy.uint8), memory, 0)

    def rate(ways: Sequence[Callable[[int], None]]) -> float:
        """Return bytes per second of the worse of a middling and a long copy."""
        rates: list[float] = []
        for nbytes in (middle, longest):
            left = end - time.perf_counter()
            if rates and 8 * len(ways) * nbytes / rates[0] > left:
                break
            taken = sum([_least(partial(way, nbytes), 3) for way in ways])
            rates.append(nbytes * len(ways) / taken)
        return min(rates)

    figures["to_device"] = rate([there])
    # Results come home to memory that was never touched, or that the pool had kept.
    figures["to_host"] = rate([back, fresh])
    short = _least(partial(there, _SHORT)) - _SHORT / figures["to_device"]
    figures["copy"] = max(short, 1e-7)


def _memory(device: Device, figures: dict[str, Any], longest: int, end: float) -> None:
    first, second = device.alloc(longest), device.alloc(longest)
    cached = min(device.props.l2_bytes // 8, longest)
    near = _copy_rate(device, first, second, cached, end)
    far = _copy_rate(device, first, second, longest, end)
    if near and far:
        figures["bandwidth"] = {"L2": max(near, far), "memory": far}


def _copy_rate(device: Device, first: Memory, second: Memory, nbytes: int, end: float) -> float:
    """Return bytes read plus written per second; nothing where there is no time left."""
    best, copies = 0.0, 4
    for _ in range(_SAMPLES):
        if time.perf_counter() >= end:
            break
        begun = device.event()
        for _ in range(copies):
            device.copy(second, 0, first, 0, nbytes)
        seconds = device.elapsed(begun, device.event())
        best = max(best, 2 * copies * nbytes / max(seconds, 1e-9))
    return best


def _operations(
    device: Device, elements: int, end: float, bandwidth: float, launch: float
) -> dict[str, dict[str, float]]:
    """Return seconds per element by cost class and dtype character, of those there was time for."""
    known = expected(device.props)["op"]
    table: dict[str, dict[str, float]] = {}
    for cost in _CLASSES:
        for dtype in _DTYPES:
            if time.perf_counter() >= end:
                return table
            seconds = _operation(device, cost, dtype, elements)
            if seconds is None:
                continue
            found = max(seconds - launch, 0.1 * seconds) / (_TIMES * elements)
            # What runs at the pace of memory takes no more than that, and maybe less.
            if seconds < 1.5 * 3 * dtype.itemsize * elements / bandwidth:
                found = min(found, known[cost][dtype.char])
            table.setdefault(cost, {})[dtype.char] = max(found, 1e-14)
    return table


def _operation(device: Device, cost: str, dtype: numpy.dtype[Any], elements: int) -> float | None:
    """Return what a kernel of several such operations takes; None where there is none."""
    name, sampler = REPRESENTATIVE[cost]
    sampled = sampler(numpy.random.default_rng(0), min(_SAMPLED, elements), dtype)
    first, *others = [numpy.resize(one, elements) for one in sampled]
    with numpy.errstate(all="ignore"):
        try:
            node = None
            for number in range(_TIMES):
                moved = build(BY_NAME["add"], (first, dtype.type(number / 100)))
                one = build(BY_NAME[name], (moved, *others))
                node = one if node is None else build(BY_NAME["add"], (node, one))
        except Declined:
            return None
    if node is None:
        return None
    graph = survey([node], frozenset([id(node)]))
    (step,) = plan(graph, True, None, {}).steps
    inputs = [graph.hosts[index] for _, index in step.inputs]
    output = numpy.empty(node.shape, node.dtype)
    bound = cuda_bind.bind(step.region, inputs, [output])
    return None if isinstance(bound, str) else _run_seconds(device, bound, inputs, output)


def _run_seconds(
    device: Device, bound: Bound, inputs: Sequence[numpy.ndarray], output: numpy.ndarray
) -> float | None:
    """Return what a kernel takes on the device, once it is built; None where it cannot be."""
    for source in bound.sources:
        cuda_build.order(device, source, wait=True)
    kernels = [cuda_build.ready(device, source) for source in bound.sources]
    held = [device.alloc(host.nbytes) for host in (*inputs, output)]
    operands: list[Any] = []
    for host, memory in zip(inputs, held, strict=False):
        if host.ndim:
            device.to_device(memory, 0, host.view(numpy.uint8))
        operands.append(memory.address if host.ndim else host)
    flags = device.flags()
    launches = list(bound.launches(operands, [held[-1].address], 0, flags.address))
    best = None
    for _ in range(_SAMPLES):
        first = device.event()
        for number, grid, block, words in launches:
            kernel = kernels[number]
            if kernel is None:
                return None
            device.launch(kernel, grid, block, words)
        seconds = device.elapsed(first, device.event())
        best = seconds if best is None else min(best, seconds)
    device.synchronize()
    flags.release()
    return best


def _least(call: Callable[[], Any], samples: int = _SAMPLES) -> float:
    """Return the shortest of some calls, after one that is dropped."""
    call()
    found = []
    for _ in range(samples):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)
