"""The roofs: the most that this machine moves and computes, by loops made for nothing else.

The loops are compiled as kernels are, run by the pool's threads over parts of arrays that fit in no
cache and were touched before (their pages are there). Results are stored past the caches, so that
no line is read before it is overwritten. Bytes are counted as in STREAM: what is read and what is
written. Arithmetic is that of separate multiplications and additions, since contracting them would
alter results. Without a compiler NumPy's own loops on warm memory give the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy

from dispatcharr.kernels import native
from dispatcharr.kernels.pool import Pool, shared_pool
from dispatcharr.route import profile as profiles

__all__ = ["Moving", "Roof", "measure_roof", "moving_loops"]

_LANES = 8
_LINE = 64
_CHAINS = 12
_STEPS = 4096
_MOVES = {"copy": 2, "triad": 3, "read": 1}


@dataclass(frozen=True)
class Roof:
    """What bounds every expression on this machine.

    Attributes
    ----------
    bytes_per_second : dict of str to float
        For each pattern: ``copy`` (c = a), ``triad`` (c = a + 3*b), ``read`` (a sum).
    operations_per_second : dict of str to float
        Multiplications and additions, by dtype.
    threads : int
        All of them at work.
    how : str
        What the loops were made of.
    """

    bytes_per_second: dict[str, float]
    operations_per_second: dict[str, float]
    threads: int
    how: str

    @property
    def bandwidth(self) -> float:
        """The best of the patterns, in bytes per second."""
        return max(self.bytes_per_second.values())


@dataclass(frozen=True)
class Moving:
    """A loop made for nothing but moving bytes.

    Attributes
    ----------
    run : callable
        Goes over its arrays once.
    nbytes : int
        What it reads and writes.
    """

    run: Callable[[], None]
    nbytes: int


def measure_roof(seconds: float) -> tuple[Roof, dict[str, Moving]]:
    """Measure the roofs for about ``seconds``; the fastest pass of each counts.

    Return them and the loops, by pattern, that moved the bytes.
    """
    pool = shared_pool()
    last_level = profiles.current().cache_bytes.get("L3", 1 << 25)
    # Four times the last cache, as STREAM wants it, within reason.
    size = min(max(4 * last_level, 64 << 20), 256 << 20) // 8
    loops = moving_loops(8 * size)
    compiled = not isinstance(native.host(), str)
    share = seconds / (len(loops) + 2)
    rates = {name: loop.nbytes / _least(loop.run, share) for name, loop in loops.items()}
    how = (
        "compiled loops with streaming stores" if compiled
        else f"NumPy's loops on warm memory ({native.host()})"
    )  # fmt: skip
    computing = {
        name: _arithmetic(name, pool, share) if compiled else _numpy_arithmetic(name, pool, share)
        for name in ("float64", "float32")
    }
    return Roof(rates, computing, pool.threads, how), loops


def moving_loops(nbytes: int) -> dict[str, Moving]:
    """Return, by pattern, a loop over arrays of about ``nbytes`` each."""
    pool = shared_pool()
    arrays = tuple(_aligned(nbytes // 8 // _LANES * _LANES) for _ in range(3))
    compiled = not isinstance(native.host(), str)
    loops = _compiled(arrays, pool) if compiled else _by_numpy(arrays, pool)
    return {name: Moving(loops[name], count * arrays[0].nbytes) for name, count in _MOVES.items()}


def _aligned(size: int) -> numpy.ndarray:
    """Return an array of float64 on a cache line's border, each page touched."""
    raw = numpy.ones(size + _LANES)
    skip = -raw.ctypes.data % _LINE // raw.itemsize
    return raw[skip : skip + size]


def _least(run: Callable[[], None], seconds: float) -> float:
    """Return the least time of a run: whatever disturbs it is not the machine's roof."""
    run()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def _parts(size: int, threads: int) -> list[slice]:
    step = -(-size // (4 * threads) // _LANES) * _LANES
    return [slice(at, min(at + step, size)) for at in range(0, size, step)]


def _compiled(arrays: tuple[numpy.ndarray, ...], pool: Pool) -> dict[str, Callable[[], None]]:
    a, b, c = arrays
    parts = _parts(len(a) // _LANES * _LANES, pool.threads)

    def loop(name: str) -> Callable[[], None]:
        call = native.function(_built(f"roof_{name}", _moving(name)))
        # The parts are kept: the loop is handed nothing but addresses.
        kept = [[each[part] for each in (a, b, c)] for part in parts]
        tables = [
            numpy.array([each.ctypes.data for each in three] + [three[0].nbytes], numpy.int64)
            for three in kept
        ]
        sums = numpy.empty((len(parts), _LANES))

        def task(index: int) -> None:
            call(tables[index].ctypes.data, sums[index].ctypes.data)

        return lambda: pool.run(task, len(kept))

    return {name: loop(name) for name in _MOVES}


def _built(name: str, text: str) -> int:
    address = native.loaded(name)
    return native.load(name, native.optimise_and_emit(text, name)) if address is None else address


def _moving(name: str) -> str:
    """Return the IR of a loop over whole cache lines: one vector of eight numbers each."""
    vector = f"<{_LANES} x double>"
    three = ", ".join(["double 3.0"] * _LANES)
    store = f"  store {vector} %last, ptr %pc, align 64, !nontemporal !0"
    body = {
        "copy": [f"  %last = load {vector}, ptr %pa, align 64", store],
        "triad": [
            f"  %x = load {vector}, ptr %pa, align 64",
            f"  %y = load {vector}, ptr %pb, align 64",
            f"  %s = fmul {vector} %y, <{three}>",
            f"  %last = fadd {vector} %x, %s",
            store,
        ],
        "read": [
            f"  %sum = phi {vector} [zeroinitializer, %entry], [%last, %loop]",
            f"  %x = load {vector}, ptr %pa, align 64",
            f"  %last = fadd {vector} %sum, %x",
        ],
    }[name]
    # A phi comes before all else.
    phis, rest = body[: name == "read"], body[name == "read" :]
    return "\n".join([
        f"define void @roof_{name}(ptr noalias %args, ptr noalias %box) nounwind {{",
        "entry:",
        *(
            line
            for at, each in enumerate("abc")
            for line in (
                f"  %at_{each} = getelementptr i8, ptr %args, i64 {8 * at}",
                f"  %{each} = load ptr, ptr %at_{each}",
            )
        ),
        "  %at_n = getelementptr i8, ptr %args, i64 24",
        "  %n = load i64, ptr %at_n",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [0, %entry], [%next, %loop]",
        *phis,
        *(f"  %p{each} = getelementptr i8, ptr %{each}, i64 %i" for each in "abc"),
        *rest,
        f"  %next = add nuw i64 %i, {_LINE}",
        "  %go = icmp ult i64 %next, %n",
        "  br i1 %go, label %loop, label %end",
        "end:",
        f"  store {vector} %last, ptr %box, align 8",
        "  ret void",
        "}",
        "!0 = !{i32 1}",
    ])  # fmt: skip


def _arithmetic(name: str, pool: Pool, seconds: float) -> float:
    """Return operations per second of chains that never leave the registers."""
    host = native.host()
    assert not isinstance(host, str)
    dtype = numpy.dtype(name)
    lanes = host.vector_bytes // dtype.itemsize
    entry = f"roof_arithmetic_{dtype.char}"
    call = native.function(_built(entry, _computing(entry, dtype, lanes)))
    start = numpy.full(lanes, 0.5, dtype)
    boxes = numpy.empty((4 * pool.threads, lanes), dtype)

    def task(index: int) -> None:
        for _ in range(16):
            call(start.ctypes.data, boxes[index].ctypes.data)

    tasks = len(boxes)
    took = _least(lambda: pool.run(task, tasks), seconds)
    return tasks * 16 * 2 * _CHAINS * _STEPS * lanes / took


def _computing(entry: str, dtype: numpy.dtype, lanes: int) -> str:
    element = "double" if dtype.itemsize == 8 else "float"
    vector = f"<{lanes} x {element}>"
    half = ", ".join([f"{element} 0.5"] * lanes)
    chains = range(_CHAINS)
    return "\n".join([
        f"define void @{entry}(ptr noalias %args, ptr noalias %box) nounwind {{",
        "entry:",
        f"  %s0 = load {vector}, ptr %args, align 4",
        # Chains that begin alike would be computed once.
        *(f"  %s{k} = fadd {vector} %s{k - 1}, <{half}>" for k in chains[1:]),
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [0, %entry], [%next, %loop]",
        *(f"  %x{k} = phi {vector} [%s{k}, %entry], [%z{k}, %loop]" for k in chains),
        *(
            line
            for k in chains
            for line in (
                f"  %y{k} = fmul {vector} %x{k}, <{half}>",
                f"  %z{k} = fadd {vector} %y{k}, <{half}>",
            )
        ),
        "  %next = add nuw i64 %i, 1",
        f"  %go = icmp ult i64 %next, {_STEPS}",
        "  br i1 %go, label %loop, label %end",
        "end:",
        f"  %t0 = fadd {vector} %z0, %z1",
        *(f"  %t{k} = fadd {vector} %t{k - 1}, %z{k + 1}" for k in chains[1:-1]),
        f"  store {vector} %t{_CHAINS - 2}, ptr %box, align 4",
        "  ret void",
        "}",
    ])  # fmt: skip


def _by_numpy(arrays: tuple[numpy.ndarray, ...], pool: Pool) -> dict[str, Callable[[], None]]:
    a, b, c = arrays
    parts = _parts(len(a), pool.threads)
    tasks: dict[str, Callable[[slice], object]] = {
        "copy": lambda part: numpy.positive(a[part], out=c[part]),
        "triad": lambda part: numpy.add(a[part], b[part], out=c[part]),
        "read": lambda part: a[part].max(),
    }

    def loop(task: Callable[[slice], object]) -> Callable[[], None]:
        def one(index: int) -> None:
            task(parts[index])

        return lambda: pool.run(one, len(parts))

    return {name: loop(task) for name, task in tasks.items()}


def _numpy_arithmetic(name: str, pool: Pool, seconds: float) -> float:
    """Return operations per second of NumPy's multiplication within the nearest cache."""
    blocks = [numpy.ones(1024, name) for _ in range(pool.threads)]

    def task(index: int) -> None:
        for _ in range(1000):
            numpy.multiply(blocks[index], blocks[index], out=blocks[index])

    took = _least(lambda: pool.run(task, pool.threads), seconds)
    return pool.threads * 1000 * 1024 / took
