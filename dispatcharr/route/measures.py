"""How the figures that belong to no single operation are measured.

Each measure works on a bench within a budget of seconds and leaves its figures there. What threads
do is timed with long NumPy calls, so that waiting for the interpreter's lock is not in it; that has
a figure of its own. One thread is timed by its own clock, which other programs do not move; several
are timed by the wall clock, so that a busy machine makes threads look worse, never better.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy

from dispatcharr.kernels import crew as native
from dispatcharr.route.bench import Bench
from dispatcharr.route.defaults import NUMPY_CALL, OVERHEAD
from dispatcharr.route.probes import lower_quartile, own_clock, typical

__all__ = ["block", "caches", "call", "crew", "fault", "memory"]

Array = numpy.ndarray

_BLOCKS = tuple(1 << power for power in range(16, 21))
# Above every malloc's threshold for keeping freed memory (glibc: 32 MiB), so that each is fresh.
_FRESH_BYTES = 40 << 20
#: Elements of a sine, and multiplications in a row, that take some hundred microseconds: longer
#: than waking a helper does.
_TASK = 24_000
_STEPS = 80_000
#: Seconds after which helpers are asleep.
_PAUSE = 1e-3


def call(bench: Bench, budget: float) -> None:
    """Find what a NumPy call costs however short its operands are, and dispatcharr's own steps.

    Those are Python as well: they are as much slower here than the shipped ones as the call is.
    """
    x, y, out = numpy.ones(4), numpy.ones(4), numpy.empty(4)
    bench.numpy_call = typical(lambda: numpy.add(x, y, out=out), budget)
    pace = min(max(bench.numpy_call / NUMPY_CALL, 0.3), 5.0)
    bench.overhead.update({name: seconds * pace for name, seconds in OVERHEAD.items()})


def _crew_seconds(
    bench: Bench, threads: int, task: Callable[[int], None], count: int, budget: float
) -> float:
    """Return what ``task`` takes over all indices, shared out among ``threads``."""
    if threads == 1:

        def run() -> None:
            for index in range(count):
                task(index)
    else:

        def run() -> None:
            bench.pool.run(task, count, threads)

    return typical(run, budget, own_clock if threads == 1 else time.perf_counter)


def crew(bench: Bench, budget: float) -> None:
    """Find what waking helpers costs, how far they get, and what waiting for each other costs.

    A task is one long NumPy call, so that no thread waits for the interpreter's lock, and times
    itself: what the run takes longer than one task is the waking and the joining. (A round trip of
    empty tasks would tell nothing, since nobody waits for a helper that comes too late.)
    """
    threads = bench.pool.threads
    if threads == 1:
        bench.overhead.update(wake=0.0, queue=0.0, crew=0.0)
        return
    angles = [numpy.full(_TASK, 1.5) for _ in range(threads)]
    results = [numpy.empty(_TASK) for _ in range(threads)]
    took = [0.0] * threads

    def task(index: int) -> None:
        start = own_clock()
        numpy.sin(angles[index], out=results[index])
        took[index] = own_clock() - start

    alone = typical(partial(task, 0), 0.2 * budget)
    tasks: list[float] = []
    wakes: list[float] = []
    end = time.perf_counter() + 0.5 * budget
    while len(tasks) < 10 or time.perf_counter() < end:
        start = time.perf_counter()
        bench.pool.run(task, threads)
        seconds = time.perf_counter() - start
        tasks.append(median(took))
        wakes.append(seconds - tasks[-1])
    bench.gain = min(max(threads * alone / lower_quartile(tasks), 1.0), float(threads))
    bench.overhead["wake"] = min(max(lower_quartile(wakes), 1e-6), 5e-3)
    bench.overhead["crew"] = _rouse(bench, 0.1 * budget)
    bench.overhead["queue"] = _queue(bench, 0.2 * budget)


def _rouse(bench: Bench, budget: float) -> float:
    """Return what calling the helpers of compiled kernels costs.

    They look out for a while for the next kernel before they sleep. In a loop in Python, where
    planning is all that comes between two kernels, they are found awake; after a longer pause they
    have to be woken. The mean of both counts.
    """
    if not native.COMPILED:
        return bench.overhead["wake"]
    threads, steps = bench.pool.threads, ctypes.c_int64(_STEPS)
    where = ctypes.addressof(steps)

    def typically(count: int, pause: float) -> float:
        samples: list[float] = []
        end = time.perf_counter() + budget / 3
        while len(samples) < 12 or time.perf_counter() < end:
            begin = time.perf_counter() + pause
            while time.perf_counter() < begin:
                pass
            start = time.perf_counter()
            native.run_table(native.PROBE, where, 0, count, count)
            samples.append(time.perf_counter() - start)
        return lower_quartile(samples)

    planning = sum([bench.overhead[name] for name in ("record", "plan", "run")])
    alone = typically(1, 0.0)
    awake, asleep = typically(threads, planning), typically(threads, _PAUSE)
    return min(max((awake + asleep) / 2 - alone, 1e-6), 5e-3)


def _queue(bench: Bench, budget: float) -> float:
    """Return what one block-long call takes longer while every thread makes such calls."""
    threads = bench.pool.threads
    blocks = [_triple(3 * bench.block_bytes) for _ in range(threads)]
    once = typical(lambda: _stream(blocks[0], 1), 0.2 * budget)
    loops = max(int(1e-3 / once), 1)
    samples: list[float] = []
    end = time.perf_counter() + 0.8 * budget
    while len(samples) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        bench.pool.run(lambda index: _stream(blocks[index], loops), threads)
        samples.append(time.perf_counter() - start)
    expected = bench.overhead["wake"] + loops * once * threads / bench.gain
    # The median: that threads meet is no disturbance but what is looked for.
    return min(max(median(samples) - expected, 0.0) / (2 * loops * threads), 1e-4)


def _triple(size: int) -> tuple[Array, Array, Array]:
    """Return three touched arrays of ``size`` bytes in all."""
    count = max(size // 24, 8)
    return numpy.ones(count), numpy.ones(count), numpy.ones(count)


def _stream(arrays: tuple[Array, Array, Array], loops: int) -> None:
    """Move five arrays' bytes: two are read and one written, then one is read and one written."""
    x, y, out = arrays
    for _ in range(loops):
        numpy.add(x, y, out=out)
        numpy.positive(x, out=out)


def caches(bench: Bench, budget: float) -> None:
    """Find the bandwidths of the caches."""
    sizes = bench.shipped.cache_bytes
    serial, threads = bench.bandwidth["serial"], bench.bandwidth["threads"]
    serial["L1"] = _cache_rate(bench, 1, sizes["L1"] * 3 // 4, budget / 4)
    serial["L2"] = _cache_rate(bench, 1, sizes["L2"] * 3 // 4, budget / 4)
    # Short calls queue for the interpreter's lock, which would hide the caches; they belong to
    # the cores and scale with them.
    for level in ("L1", "L2"):
        threads[level] = serial[level] * bench.gain
    for column, count in bench.crews:
        if bench.late():
            return
        # What is shared is split between the threads, but no part may fit in a thread's own L2.
        shared = max(sizes["L3"] // 2 // count, 3 * sizes["L2"])
        bench.bandwidth[column]["L3"] = _cache_rate(bench, count, shared, budget / 4)


def _cache_rate(bench: Bench, threads: int, size: int, budget: float) -> float:
    """Return bytes per second of ``threads`` at once, each over ``size`` bytes of its own."""
    sets = [_triple(size) for _ in range(threads)]
    loops = max(int(1e-3 / typical(lambda: _stream(sets[0], 1), 0.1 * budget)), 1)
    seconds = _crew_seconds(
        bench, threads, lambda index: _stream(sets[index], loops), threads, 0.8 * budget
    )
    fixed = 2 * loops * bench.numpy_call
    fixed += bench.overhead["wake"] if threads > 1 else 0.0
    moved = threads * loops * 5 * sets[0][0].nbytes
    return float(moved / max(seconds - fixed, 0.25 * seconds))


def _cuts(length: int, threads: int) -> list[slice]:
    """Return two parts per thread: enough to balance, few enough to be long calls."""
    step = -(-length // (2 * threads))
    return [slice(at, at + step) for at in range(0, length, step)]


def memory(bench: Bench, budget: float) -> None:
    """Find the bandwidth of memory, of sums and copies alike."""
    x, y, out = bench.operands()
    cuts = _cuts(len(x), bench.pool.threads)

    def add(index: int) -> None:
        cut = cuts[index]
        numpy.add(x[cut], y[cut], out=out[cut])

    def copy(index: int) -> None:
        cut = cuts[index]
        numpy.positive(x[cut], out=out[cut])

    for column, threads in bench.crews:
        if bench.late():
            return
        seconds = _crew_seconds(bench, threads, add, len(cuts), budget / 4)
        seconds += _crew_seconds(bench, threads, copy, len(cuts), budget / 4)
        bench.bandwidth[column]["memory"] = 5 * x.nbytes / seconds


def _touch(array: Array, cuts: list[slice], index: int) -> None:
    array[cuts[index]].fill(1.5)


def fault(bench: Bench, budget: float) -> None:
    """Find what the first touch of fresh memory costs, the giving back included.

    The least of several runs counts: programs that use memory over and over get pages that the
    system has at hand, while a page that a hypervisor has to find first may cost twenty times that.
    """
    cuts = _cuts(_FRESH_BYTES // 8, bench.pool.threads)
    warm = numpy.ones(_FRESH_BYTES // 8)

    def least(threads: int, make: Callable[[], Array]) -> float:
        clock = own_clock if threads == 1 else time.perf_counter
        samples: list[float] = []
        end = time.perf_counter() + budget / 4
        while len(samples) < 3 or time.perf_counter() < end:
            start = clock()
            array = make()
            bench.pool.run(partial(_touch, array, cuts), len(cuts), threads)
            del array
            samples.append(clock() - start)
        return min(samples)

    for column, threads in bench.crews:
        if bench.late():
            return
        fresh = least(threads, lambda: numpy.empty(_FRESH_BYTES // 8))
        bench.fault[column] = max(fresh - least(threads, lambda: warm), 0.0) / _FRESH_BYTES
    # At best threads share the work, at worst they wait for each other in the system. What is
    # outside of that is noise, of which a difference has much.
    shared, alone = bench.fault["threads"], bench.fault["serial"]
    bench.fault["serial"] = min(alone, shared * bench.pool.threads) if shared > 0 else alone
    bench.fault["threads"] = min(shared, alone)


def block(bench: Bench, budget: float) -> None:
    """Find the block length that suits five operations in a row best."""
    count = bench.pool.threads
    large = bench.operands()
    length = min(len(large[0]), (8 << 20) // 8 * count) // count
    parts = [tuple(a[i * length : (i + 1) * length] for a in large) for i in range(count)]
    seconds: dict[int, float] = {}
    for block_bytes in _BLOCKS:
        if bench.late():
            return
        step = block_bytes // 8
        scratch = [(numpy.ones(step), numpy.ones(step)) for _ in range(count)]

        def chain(index: int, step: int = step, scratch: Any = scratch) -> None:
            _chain(parts[index], scratch[index], step)

        seconds[block_bytes] = _crew_seconds(bench, count, chain, count, budget / len(_BLOCKS))
    # The optimum is flat. What is within 5 % of it is told apart by chance, so there the shipped
    # length stands, or its nearest neighbour.
    good = [size for size in _BLOCKS if seconds[size] <= 1.05 * min(seconds.values())]
    usual = bench.shipped.block_bytes
    bench.block_bytes = min(good, key=lambda size: max(size / usual, usual / size))


def _chain(arrays: Any, scratch: tuple[Array, Array], step: int) -> None:
    x, y, out = arrays
    for at in range(0, len(x) - step + 1, step):
        a, b = x[at : at + step], y[at : at + step]
        numpy.multiply(a, b, out=scratch[0])
        numpy.add(scratch[0], a, out=scratch[1])
        numpy.multiply(scratch[1], b, out=scratch[0])
        numpy.subtract(scratch[0], a, out=scratch[1])
        numpy.add(scratch[1], b, out=out[at : at + step])
