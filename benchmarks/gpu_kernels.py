"""Parts of the check of a device: bandwidth of kernels, overheads, transfers, bytes moved.

Bandwidths are shares of what a plain copy on the device reached in the same process, reading and
writing counted. Operands are on the device already, and results stay there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy
from gpu_rows import Teller, timed

import dispatcharr as np
from dispatcharr.bench.expressions import EXPRESSIONS, under

__all__ = ["PARTS", "device_here", "resident"]

MIB = 2**20
_STREAMED = ("addition", "polynomial", "selection", "distance")
_DTYPES = ("f8", "f4")


def device_here() -> Any:
    """Return the device of this process; stop with the reason where there is none."""
    from dispatcharr.devices import found

    device = found.device()
    if device is None:
        raise SystemExit(f"gpu_check: no device: {found.why()}")
    return device


def cupy_here() -> Any:
    """Return CuPy, None where it is not installed or sees no device."""
    try:
        import cupy

        return cupy if cupy.cuda.is_available() else None
    except Exception:  # whatever is wrong with it costs its own figures alone
        return None


def resident(size: int, dtype: str, seed: int = 0) -> Any:
    """Return an array of ours with that many values between 0.25 and 2."""
    draw = numpy.random.default_rng(seed).random(min(size, 1 << 20))
    return np.array(numpy.resize((0.25 + 1.75 * draw).astype(dtype), size))


def on_device(device: Any, run: Callable[[], Any], seconds: float = 0.15) -> tuple[float, float]:
    """Return the seconds of one run by the device's clock and by ours, medians of some samples."""
    for _ in range(3):
        run()
    device.synchronize()
    start = time.perf_counter()
    run()
    device.synchronize()
    loops = min(max(int(seconds / 5 / max(time.perf_counter() - start, 1e-6)), 1), 200)
    clocks, walls = [], []
    for _ in range(5):
        device.synchronize()
        start, first = time.perf_counter(), device.event()
        for _ in range(loops):
            run()
        last = device.event()
        clocks.append(device.elapsed(first, last) / loops)
        device.synchronize()
        walls.append((time.perf_counter() - start) / loops)
    return median(clocks), median(walls)


def copy_bandwidth(device: Any, nbytes: int) -> float:
    """Return the bytes read and written in a second by a copy on the device."""
    source, target = device.alloc(nbytes), device.alloc(nbytes)
    clock, _ = on_device(device, lambda: device.copy(target, 0, source, 0, nbytes))
    return 2 * nbytes / clock


def fused(tell: Teller) -> None:
    """Measure expressions of one fused kernel that are bound by memory."""
    device = device_here()
    sizes = [MIB // 4] if tell.small else [64 * MIB, 256 * MIB, 1024 * MIB]
    rates = {size: copy_bandwidth(device, size) for size in sizes}
    for size, rate in rates.items():
        tell.tell(f"copy on the device, {_mib(size)}", rate / 1e9, "GB/s")
    for dtype in _DTYPES:
        for size, rate in rates.items():
            _fused(tell, device, dtype, size, rate)


def _fused(tell: Teller, device: Any, dtype: str, size: int, rate: float) -> None:
    count = size // numpy.dtype(dtype).itemsize
    a, b = resident(count, dtype), resident(count, dtype, 1)
    for name in _STREAMED:
        compute = under(EXPRESSIONS[name].compute, np)
        with np.use_backend("cuda"):
            clock, wall = on_device(device, lambda f=compute: np.evaluate(f(a, b)))
        tell.tell(
            f"{EXPRESSIONS[name].title}, {dtype}, {_mib(size)}", 3 * size / clock / rate, "of copy",
            # The smallest are short, and partly in the device's cache: they inform.
            goal=0.90 if size >= 256 * MIB else None,
            note=f"{3 * size / clock / 1e9:.0f} GB/s; wall {wall * 1e6:.0f} us",
            data={"device_s": clock, "wall_s": wall},
        )  # fmt: skip


def _mib(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // 1024} KiB"


def reductions(tell: Teller) -> None:
    """Measure sums over everything and over one axis."""
    device = device_here()
    size = MIB // 4 if tell.small else 1024 * MIB
    rate = copy_bandwidth(device, size)
    tell.tell(f"copy on the device, {_mib(size)}", rate / 1e9, "GB/s")
    for dtype in _DTYPES:
        count = size // numpy.dtype(dtype).itemsize
        for name, run, passes, goal in _sums(resident(count, dtype), resident(count, dtype, 1)):
            if tell.left() < 2:
                tell.tell(f"{name}, {dtype}", None, note="no time left")
                continue
            with np.use_backend("cuda"):
                clock, wall = on_device(device, lambda f=run: np.evaluate(f()))
            nbytes = passes * size
            tell.tell(
                f"{name}, {dtype}", nbytes / clock / rate, "of copy", goal=goal,
                note=f"{nbytes / clock / 1e9:.0f} GB/s; wall {wall * 1e6:.0f} us",
                data={"device_s": clock, "wall_s": wall},
            )  # fmt: skip


def _sums(flat: Any, other: Any) -> list[tuple[str, Callable[[], Any], int, float | None]]:
    """Return names of reductions, what runs them, how many operands they read, and their goals."""
    side = 2 ** ((flat.size.bit_length() - 1) // 3)
    cube, wide = flat.reshape(side, -1, side), flat.reshape(side, -1)
    narrow, rows = flat.reshape(-1, 32), other.reshape(side, -1)
    return [
        ("sum", flat.sum, 1, 0.85),
        ("max", flat.max, 1, 0.85),
        (f"sum over axis 0 of {wide.shape}", lambda: wide.sum(axis=0), 1, 0.85),
        (f"sum over axis 0 of {cube.shape}", lambda: cube.sum(axis=0), 1, 0.85),
        (f"sum over axis 1 of {cube.shape}", lambda: cube.sum(axis=1), 1, 0.85),
        (f"sum over axis 2 of {cube.shape}", lambda: cube.sum(axis=2), 1, 0.85),
        (f"sum over axis 1 of {narrow.shape}", lambda: narrow.sum(axis=1), 1, None),
        (f"sum over axis 0 of {narrow.shape}", lambda: narrow.sum(axis=0), 1, None),
        ("((a-b)**2).sum()", lambda: np.sum((flat - other) ** 2), 2, 0.85),
        ("(a*b).sum(axis=0)", lambda: (wide * rows).sum(axis=0), 2, 0.85),
        ("std", flat.std, 2, None),
    ]


def overhead(tell: Teller) -> None:
    """Measure what an operation on 8 elements that are on the device costs the host."""
    device, cupy = device_here(), cupy_here()
    times = 200 if tell.small else 2000
    host = numpy.ones(8), numpy.full(8, 1e-3)

    def steps(evaluate: Callable[[Any], Any], x: Any, y: Any) -> None:
        for _ in range(times):
            x = evaluate(x + y)

    def each(run: Callable[[], Any], settle: Callable[[], None] = _nothing) -> float:
        run()
        return timed([run], settle, 0.3, 3)[0] / times * 1e6

    with np.use_backend("cuda"):
        # Results of kernels: they are there.
        a, b = (np.evaluate(np.array(array) * 1.0) for array in host)
        ours = each(lambda: steps(np.evaluate, a, b), device.synchronize)
        before = dict(device.counters)
        steps(np.evaluate, a, b)
        done = {name: (device.counters[name] - before[name]) / times for name in before}
        with np.dispatch_options(defer="always"):
            chain = each(lambda: np.evaluate(_chain(a, b, times)), device.synchronize)
        given = np.array(host[1])
        mixed = each(lambda: steps(np.evaluate, a, given), device.synchronize)
    note = ", ".join(f"{name} {share:.2f}" for name, share in done.items() if share)
    tell.tell("a+b on 8 elements, evaluated each", ours, "us", goal=15, at_least=False, note=note)
    tell.tell("a+b on 8 elements, a chain that waits", chain, "us", note="an operation of it")
    tell.tell("a+b on 8 elements, b from the host", mixed, "us")
    tell.tell("the same in NumPy", each(lambda: steps(lambda x: x, *host)), "us")
    with np.use_backend("serial"):
        c, d = map(np.array, host)
        tell.tell("the same, serial", each(lambda: steps(np.evaluate, c, d)), "us")
    if cupy is not None:
        x, y = map(cupy.asarray, host)
        settle = cupy.cuda.Device().synchronize
        tell.tell("the same in CuPy", each(lambda: steps(lambda z: z, x, y), settle), "us")
    _launching(tell, device, a)
    moved(tell)


def _nothing() -> None:
    pass


def _chain(a: Any, b: Any, times: int) -> Any:
    for _ in range(times):
        a = a + b
    return a


def _launching(tell: Teller, device: Any, a: Any) -> None:
    """Measure what the device itself asks for a synchronisation and for reading one number."""
    seconds = timed([device.synchronize], _nothing, 0.1, 3)[0]
    tell.tell("synchronize, nothing to wait for", seconds * 1e6, "us")
    with np.use_backend("cuda"):
        seconds = timed([lambda: float((a + a).sum())], device.synchronize, 0.2, 3)[0]
    tell.tell("float((a+a).sum()) of 8 elements", seconds * 1e6, "us")


def moved(tell: Teller) -> None:
    """Count what is moved when something is used for the first time, and for the second."""
    device = device_here()
    size = (MIB // 4 if tell.small else 64 * MIB) // 8
    a, b = resident(size, "f8"), resident(size, "f8", 1)

    def counted(run: Callable[[], Any]) -> tuple[int, int]:
        before = dict(device.counters)
        run()
        device.synchronize()
        names = ("to_device_bytes", "to_host_bytes")
        there, back = (device.counters[name] - before[name] for name in names)
        return there, back

    with np.use_backend("cuda"):
        first = counted(lambda: np.evaluate(a + b))
        again = counted(lambda: np.evaluate(a * b))
        view = counted(lambda: np.evaluate(a[1:] - a[:-1]))
        chain = counted(lambda: np.evaluate(np.evaluate(a + b) * a))
        seen = counted(lambda: numpy.asarray(np.evaluate(a + b)))
    told = f"of {2 * a.nbytes} bytes of operands"
    tell.tell("bytes moved there, first use", first[0], "bytes", note=told)
    for name, found in (("second use", again), ("views", view), ("of a result", chain)):
        tell.tell(f"bytes moved, {name}", sum(found), "bytes", goal=0, at_least=False)
    tell.tell(
        "bytes moved back for NumPy", seen[1], "bytes", goal=a.nbytes + 64, at_least=False,
        note=f"of {a.nbytes}",
    )  # fmt: skip


def transfers(tell: Teller) -> None:
    """Measure moving pageable memory, against what pinned memory reaches."""
    device = device_here()
    size = MIB if tell.small else 256 * MIB
    memory = device.alloc(size)
    host = numpy.ones(size, numpy.uint8)

    def rate(run: Callable[[], Any]) -> float:
        run()
        return size / timed([run], device.synchronize, 0.5, 3)[0]

    there = rate(lambda: device.to_device(memory, 0, host))
    back = rate(lambda: device.to_host(host, memory, 0))
    pinned = _pinned(device, memory, size)
    for name, found, bound in zip(
        ("to the device", "to the host"), (there, back), pinned, strict=True
    ):
        known = bound is not None
        if known:
            tell.tell(f"pinned memory, {name}", bound / 1e9, "GB/s")
        tell.tell(f"{_mib(size)} {name}", found / 1e9, "GB/s")
        tell.tell(
            f"{_mib(size)} {name}, of pinned", found / bound if known else None, goal=0.9,
            note="" if known else "a virtual device has no bus",
        )  # fmt: skip
    for nbytes in (8, 4096, 65536, MIB):
        part = host[:nbytes]
        seconds = timed([lambda p=part: device.to_device(memory, 0, p)], device.synchronize, 0.1, 3)
        tell.tell(f"{nbytes} bytes to the device", seconds[0] * 1e6, "us")
        seconds = timed([lambda p=part: device.to_host(p, memory, 0)], device.synchronize, 0.1, 3)
        tell.tell(f"{nbytes} bytes to the host", seconds[0] * 1e6, "us")
    _fresh(tell, size)


def _fresh(tell: Teller, size: int) -> None:
    """Measure what a program waits: from arrays of the host to an array of the host."""
    a, b = resident(size // 8, "f8"), resident(size // 8, "f8", 1)
    with np.use_backend("cuda"):
        result = np.evaluate(a + b)
        samples = []
        for _ in range(3):
            result = np.evaluate(a + b)
            start = time.perf_counter()
            result.to_numpy()
            samples.append(time.perf_counter() - start)
    note = "memory that nobody has touched"
    tell.tell(f"{_mib(size)} into fresh memory", size / median(samples) / 1e9, "GB/s", note=note)


def _pinned(device: Any, memory: Any, size: int) -> tuple[float | None, float | None]:
    """Return the rates of the driver's own copies from and to pinned memory, the best of some."""
    from dispatcharr.devices.driver import CudaDevice

    if not isinstance(device, CudaDevice):
        return None, None
    pinned = device.handle("cuMemHostAlloc", size, 1)

    def rate(name: str, *places: int) -> float:
        samples = []
        for _ in range(7):
            device.synchronize()
            start = time.perf_counter()
            device.call(name, *places, size, device.stream)
            device.synchronize()
            samples.append(time.perf_counter() - start)
        return size / min(samples)

    there = rate("cuMemcpyHtoDAsync_v2", memory.address, pinned)
    back = rate("cuMemcpyDtoHAsync_v2", pinned, memory.address)
    device.call("cuMemFreeHost", pinned)
    return there, back


PARTS = {
    "fused kernels": fused,
    "reductions": reductions,
    "overhead": overhead,
    "transfers": transfers,
}
