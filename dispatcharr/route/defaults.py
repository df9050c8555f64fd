"""Shipped constants, by kind of machine: what holds until this machine has been calibrated.

The rule is "like NumPy with threads, never worse". So the figures err to one side: waking threads
is dear and sharing memory between them gains little, which leaves threads where they win by a
margin on any machine of the kind, and single-thread figures are those of a middling core. Cache
sizes are read from the system where it tells them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from dispatcharr.backends.base import Profile
from dispatcharr.kernels.crew import COMPILED
from dispatcharr.route.scan_rates import shipped_scans

__all__ = [
    "COMPILED_SECONDS", "KINDS", "OP_SECONDS", "Kind", "cache_sizes", "kind_of_machine", "shipped",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of machine: bytes, bytes per second and seconds, of one thread if not said otherwise.

    Attributes
    ----------
    name : str
        As shown to users.
    cache_bytes : mapping
        Where the system does not tell.
    bandwidth : mapping
        By level.
    core_gain : float
        Share of a full core that each further thread adds.
    memory_gain : float
        Most that all threads together gain on memory.
    fault, wake, queue, crew : float
        Seconds per fresh byte; until helpers are at work; per call while all threads make calls;
        until the helpers of compiled kernels are at work.
    """

    name: str
    cache_bytes: Mapping[str, int]
    bandwidth: Mapping[str, float]
    core_gain: float
    memory_gain: float
    fault: float
    wake: float
    queue: float
    crew: float


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "laptop",
            {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20},
            {"L1": 120e9, "L2": 70e9, "L3": 40e9, "memory": 20e9},
            core_gain=0.6,
            memory_gain=1.5,
            fault=0.2e-9,
            wake=40e-6,
            queue=2e-6,
            crew=10e-6,
        ),
        Kind(
            "server",
            {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20},
            {"L1": 100e9, "L2": 70e9, "L3": 35e9, "memory": 15e9},
            core_gain=0.5,
            memory_gain=4.0,
            fault=0.2e-9,
            wake=100e-6,
            queue=4e-6,
            crew=30e-6,
        ),
        Kind(
            "virtual machine",
            {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20},
            {"L1": 100e9, "L2": 70e9, "L3": 35e9, "memory": 15e9},
            core_gain=0.6,
            memory_gain=1.3,
            fault=0.2e-9,
            wake=100e-6,
            queue=4e-6,
            crew=30e-6,
        ),
    )
}

#: Seconds of dispatcharr's own steps, on a core that makes a NumPy call in ``NUMPY_CALL``.
OVERHEAD = {
    "record": 12e-6, "plan": 25e-6, "replay": 2e-6, "run": 6e-6, "call": 2.2e-6, "compile": 40e-3,
    "load": 3e-3, "awake": 3e-6,
}  # fmt: skip
NUMPY_CALL = 0.37e-6
BLOCK_BYTES = 1 << 19

_NANO = 1e-9
_CODES = ("f8", "f4", "f2", "i8", "i4", "u1", "b1", "c16", "c8")
_NAN = float("nan")

#: Nanoseconds per element, operands in cache, one thread; nan where NumPy has no such loop.
#: Measured with NumPy 2.4 on a server core with AVX-512; the functions for which NumPy has code for
#: that instruction set alone are taken half as dear again.
_TABLE: Mapping[str, tuple[float, ...]] = {
    # f8, f4, f2, i8, i4, u1, b1, c16, c8
    "copy": (0.28, 0.27, 0.27, 0.14, 0.07, 0.018, 0.018, 1.7, 1.7),
    "generate": (1.0, 1.0, 1.0, 0.6, 0.6, 0.02, 0.02, 1.0, 1.0),
    "cast": (0.11, 0.14, 0.84, 0.28, 0.14, 0.17, 0.21, 0.21, 0.28),
    "arith": (0.22, 0.11, 5.0, 0.22, 0.11, 0.027, 0.03, 0.45, 0.24),
    "divide": (0.33, 0.12, 5.0, 0.9, 0.63, 0.66, 0.75, 2.7, 2.4),
    "int_divide": (9.8, 10.0, 26.0, 2.0, 1.7, 1.1, 7.0, _NAN, _NAN),
    "compare": (0.16, 0.08, 1.9, 0.15, 0.08, 0.035, 0.028, 1.0, 1.0),
    "predicate": (0.11, 0.053, 1.4, 0.01, 0.01, 0.009, 0.009, 0.42, 0.42),
    "select": (1.3, 0.7, 0.4, 1.3, 0.7, 0.3, 0.3, 2.3, 1.3),
    "step": (1.6, 1.6, 11.0, 2.2, 1.9, 10.0, 10.0, _NAN, _NAN),
    "round": (0.14, 0.07, 5.2, 0.14, 0.07, 0.018, 0.018, _NAN, _NAN),
    "sqrt": (1.2, 0.36, 5.0, 1.5, 1.3, 7.5, 15.0, 15.0, 39.0),
    "exp": (1.2, 0.7, 5.0, 1.6, 1.4, 4.0, 6.7, 15.0, 33.0),
    "log": (1.2, 0.6, 5.0, 1.5, 1.4, 4.0, 11.0, 58.0, 69.0),
    "power": (3.3, 1.0, 9.5, 1.5, 1.4, 6.5, 6.2, 90.0, 130.0),
    "float_power": (10.5, 10.3, 14.0, 14.5, 14.0, 14.0, 15.0, 90.0, 130.0),
    "trig": (12.0, 0.8, 5.0, 12.0, 17.0, 4.0, 6.7, 42.0, 75.0),
    "tan": (2.1, 0.6, 5.0, 2.5, 2.3, 4.0, 6.8, 32.0, 65.0),
    "inverse_trig": (1.9, 0.6, 5.0, 2.2, 2.1, 5.0, 6.8, 57.0, 120.0),
    "hyperbolic": (1.8, 0.5, 5.0, 2.1, 1.9, 4.0, 6.8, 31.0, 72.0),
    "tanh": (2.5, 0.6, 5.0, 3.0, 2.8, 4.0, 6.8, 35.0, 75.0),
    "atan2": (3.2, 0.9, 24.0, 4.0, 3.8, 29.0, 29.0, _NAN, _NAN),
    "hypot": (6.4, 3.9, 9.1, 7.0, 16.0, 14.0, 28.0, _NAN, _NAN),
    "special": (16.0, 18.0, 26.0, 10.0, 10.0, 23.0, 28.0, 5.5, 5.5),
    "reduce_sum": (0.16, 0.16, 1.8, 0.07, 0.22, 0.26, 0.28, 0.24, 0.33),
    "reduce_minmax": (0.078, 0.04, 2.1, 0.072, 0.036, 0.009, 0.014, 2.5, 2.5),
    "reduce_prod": (0.83, 0.82, 3.3, 0.48, 0.62, 0.68, 0.68, 4.6, 4.9),
    "reduce_logical": (0.17, 0.11, 1.4, 0.16, 0.1, 0.04, 0.014, 0.35, 0.2),
    "reduce_arg": (0.13, 0.066, 2.2, 0.075, 0.037, 0.011, 0.009, _NAN, _NAN),
    "reduce_count": (0.43, 0.43, 2.7, 0.15, 0.083, 0.037, 0.037, 1.3, 1.7),
    "reduce_moments": (0.67, 0.48, 15.0, _NAN, _NAN, _NAN, _NAN, _NAN, _NAN),
}


#: The same of the ``compiled`` engine: what an operation adds to a loop that has its operands in
#: registers, with AVX-512. Functions that are not written into the loop are those of glibc's
#: libmvec. Of cheap ones it is an estimate: in a loop of their own they take what memory takes.
_COMPILED: Mapping[str, tuple[float, ...]] = {
    # f8, f4, f2, i8, i4, u1, b1, c16, c8
    "copy": (0.03, 0.02, 0.05, 0.03, 0.02, 0.01, 0.01, 0.06, 0.03),
    "generate": (0.1, 0.05, 0.2, 0.1, 0.05, 0.02, 0.02, 0.1, 0.1),
    "cast": (0.08, 0.08, 0.1, 0.2, 0.1, 0.06, 0.15, 0.2, 0.2),
    "arith": (0.06, 0.03, 0.1, 0.06, 0.03, 0.02, 0.02, 0.3, 0.2),
    "divide": (0.35, 0.13, 0.15, 0.6, 0.4, 0.35, 0.45, 2.0, 1.2),
    "int_divide": (2.5, 1.0, 1.3, 1.0, 0.6, 0.3, 0.35, _NAN, _NAN),
    "compare": (0.06, 0.03, 0.1, 0.06, 0.03, 0.02, 0.02, 0.8, 0.6),
    "predicate": (0.05, 0.03, 0.06, 0.01, 0.01, 0.01, 0.01, 0.1, 0.1),
    "select": (0.12, 0.08, 0.1, 0.12, 0.08, 0.05, 0.05, 0.4, 0.3),
    "step": (0.15, 0.1, 0.3, 0.3, 0.3, 0.2, 0.2, _NAN, _NAN),
    "round": (0.06, 0.03, 0.3, 0.03, 0.02, 0.01, 0.01, _NAN, _NAN),
    "sqrt": (0.55, 0.15, 0.2, 0.65, 0.6, 0.2, 0.2, _NAN, _NAN),
    "exp": (0.9, 0.38, 0.45, 0.9, 0.9, 0.42, 0.42, _NAN, _NAN),
    "log": (0.95, 0.42, 0.52, 1.0, 1.0, 0.5, 0.55, _NAN, _NAN),
    "power": (4.5, 2.4, 2.0, 0.5, 0.5, 0.2, 0.2, _NAN, _NAN),
    "float_power": (4.0, 4.0, 4.1, 4.0, 4.0, 4.0, 4.0, _NAN, _NAN),
    "trig": (0.7, 0.4, 0.45, 1.0, 1.0, 0.45, 0.5, _NAN, _NAN),
    "tan": (0.9, 0.45, 0.5, 1.0, 1.0, 0.45, 0.5, _NAN, _NAN),
    "inverse_trig": (1.1, 0.42, 0.45, 1.3, 1.3, 0.5, 0.6, _NAN, _NAN),
    "hyperbolic": (1.6, 0.7, 0.5, 1.5, 1.5, 0.45, 0.5, _NAN, _NAN),
    "tanh": (1.4, 0.65, 0.7, 1.4, 1.4, 0.65, 0.65, _NAN, _NAN),
    "atan2": (1.7, 0.63, 0.9, 1.7, 1.7, 0.7, 1.1, _NAN, _NAN),
    "hypot": (0.45, 0.23, 0.26, 0.5, 0.45, 0.25, 1.4, _NAN, _NAN),
    "reduce_sum": (0.07, 0.04, 0.3, 0.07, 0.05, 0.05, 0.05, _NAN, _NAN),
    "reduce_minmax": (0.08, 0.04, 0.3, 0.07, 0.04, 0.02, 0.02, _NAN, _NAN),
    "reduce_prod": (0.1, 0.05, 0.3, 0.3, 0.1, 0.1, 0.1, _NAN, _NAN),
    "reduce_logical": (0.06, 0.04, 0.1, 0.06, 0.04, 0.02, 0.02, _NAN, _NAN),
    "reduce_arg": (0.3, 0.2, 0.5, 0.3, 0.2, 0.1, 0.1, _NAN, _NAN),
    "reduce_count": (0.07, 0.05, 0.1, 0.07, 0.05, 0.05, 0.05, _NAN, _NAN),
    "reduce_moments": (0.25, 0.2, 0.8, 0.4, 0.4, 0.4, 0.4, _NAN, _NAN),
}


def _by_char(table: Mapping[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    chars = [numpy.dtype(code).char for code in _CODES]
    return {
        cost: {
            char: value * _NANO for char, value in zip(chars, values, strict=True) if value == value
        }
        for cost, values in table.items()
    }


#: ``{cost class: {dtype character: seconds per element}}``
OP_SECONDS: Mapping[str, Mapping[str, float]] = _by_char(_TABLE)
#: Without ``special``: but for one of its rows, those are what is not compiled.
COMPILED_SECONDS: Mapping[str, Mapping[str, float]] = _by_char(_COMPILED)


def shipped(threads: int, kind: str | None = None) -> Profile:
    """Return the shipped profile for this machine.

    Parameters
    ----------
    threads : int
        Threads that may be used.
    kind : {"laptop", "server", "virtual machine"}, optional
        Default: what this machine looks like.

    Examples
    --------
    >>> shipped(threads=4).source
    'defaults'
    """
    constants = KINDS[kind or kind_of_machine(threads)]
    alone = dict(constants.bandwidth)
    cores = 1.0 + constants.core_gain * (threads - 1)
    shared = min(cores, constants.memory_gain)
    return Profile(
        source="defaults",
        machine={"kind": constants.name},
        threads=threads,
        cache_bytes={**constants.cache_bytes, **cache_sizes()},
        bandwidth={
            "serial": alone,
            "threads": {
                "L1": alone["L1"] * cores,
                "L2": alone["L2"] * cores,
                # Between the two: some machines have one last-level cache per few cores.
                "L3": alone["L3"] * (cores * shared) ** 0.5,
                "memory": alone["memory"] * shared,
            },
        },
        fault={"serial": constants.fault, "threads": constants.fault / shared},
        op=OP_SECONDS,
        compiled=COMPILED_SECONDS,
        scans=shipped_scans(),
        overhead={
            **OVERHEAD,
            "wake": constants.wake,
            "queue": constants.queue,
            "crew": constants.crew if COMPILED else constants.wake,
        },
        block_bytes=BLOCK_BYTES,
    )


def kind_of_machine(threads: int, root: str = "/") -> str:
    """Return which of :data:`KINDS` this machine is taken for.

    A hypervisor makes a virtual machine of it, more than 16 threads a server. Neither is certain,
    and neither has to be: the figures differ by less than calibration finds between two laptops.
    """
    if threads > 16:
        return "server"
    return "virtual machine" if _has_hypervisor(root) else "laptop"


def _has_hypervisor(root: str) -> bool:
    # Linux tells guests by a CPU flag (x86) or by this file (Xen and others).
    if os.path.exists(os.path.join(root, "sys/hypervisor/type")):
        return True
    head = read_head(os.path.join(root, "proc/cpuinfo"), 8192)
    return " hypervisor " in head.replace("\n", " ")


def cache_sizes(root: str = "/") -> dict[str, int]:
    """Return the cache sizes that the system tells, as seen by one thread.

    L1 and L2 are divided by the hyperthreads that share them; the last level is shared by design
    and counts in full.
    """
    if not sys.platform.startswith("linux"):
        return {}
    sizes: dict[str, int] = {}
    base = os.path.join(root, "sys/devices/system/cpu/cpu0/cache")
    for index in range(5):
        folder = os.path.join(base, f"index{index}")
        level, kind = read_head(f"{folder}/level"), read_head(f"{folder}/type")
        size = _bytes(read_head(f"{folder}/size"))
        if level not in {"1", "2", "3"} or kind == "Instruction" or not size:
            continue
        sharers = 1 if level == "3" else _count(read_head(f"{folder}/shared_cpu_list"))
        sizes[f"L{level}"] = size // sharers
    return sizes


def read_head(path: str, limit: int = 256) -> str:
    """Return the beginning of a small system file; nothing where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit).strip()
    except OSError:  # another system, or a container that hides it: the caller has a default
        return ""


def _bytes(text: str) -> int:
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    digits = text.rstrip("KMG")
    return int(digits) * scale if digits.isdecimal() else 0


def _count(cpus: str) -> int:
    """Return how many CPUs a list such as ``0-1,64-65`` names, at least 1."""
    total = 0
    for part in cpus.split(","):
        first, dash, last = part.partition("-")
        if first.isdecimal():
            total += int(last) - int(first) + 1 if dash and last.isdecimal() else 1
    return max(total, 1)
