"""What is measured on, and what has been measured so far: the state of one round of calibration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

import numpy

from dispatcharr.backends.base import Profile
from dispatcharr.kernels.pool import Pool, shared_pool
from dispatcharr.route.defaults import NUMPY_CALL, shipped
from dispatcharr.route.machine import machine

__all__ = ["Bench", "completed"]

Array = numpy.ndarray


@dataclass
class Bench:
    """One round of measuring: what it is done on, and the figures so far.

    At first they are the shipped ones.

    Attributes
    ----------
    pool : Pool
        The threads.
    shipped : Profile
        What is known without measuring.
    began, planned, limit : float
        When the round began, how many seconds it plans to take, and how many it may take.
    gain : float
        How many times faster than one thread all threads compute.
    numpy_call : float
        Seconds of a NumPy call on next to nothing.
    bandwidth, fault, overhead, op, block_bytes
        As in a profile.
    large : tuple of array
        See :meth:`operands`.
    """

    pool: Pool
    shipped: Profile
    began: float
    planned: float
    limit: float
    bandwidth: dict[str, dict[str, float]]
    fault: dict[str, float]
    overhead: dict[str, float]
    block_bytes: int
    gain: float = 1.0
    numpy_call: float = NUMPY_CALL
    op: dict[str, dict[str, float]] = field(default_factory=dict)
    large: tuple[Array, Array, Array] | None = None

    @classmethod
    def begin(cls, planned: float, limit: float) -> Bench:
        """Start the clock."""
        began = time.perf_counter()
        pool = shared_pool()
        base = shipped(pool.threads)
        return cls(
            pool=pool,
            shipped=base,
            began=began,
            planned=planned,
            limit=limit,
            bandwidth={crew: dict(levels) for crew, levels in base.bandwidth.items()},
            fault=dict(base.fault),
            overhead=dict(base.overhead),
            block_bytes=base.block_bytes,
        )

    @property
    def crews(self) -> tuple[tuple[str, int], ...]:
        """Both columns of the profile, with the threads each stands for."""
        return ("serial", 1), ("threads", self.pool.threads)

    def late(self) -> bool:
        """Return whether what is left of the time is needed for the operations, which come last."""
        return self.left() < 0.35 * self.limit

    def left(self) -> float:
        """Return the seconds until the limit."""
        return self.began + self.limit - time.perf_counter()

    def operands(self) -> tuple[Array, Array, Array]:
        """Return three arrays that together do not fit in any cache."""
        if self.large is None:
            last = self.shipped.cache_bytes["L3"]
            # Three times the last level, within reason; less where pages come slowly.
            size = min(max(last, 16 << 20), 24 << 20 if self.planned < 2 else 128 << 20)
            first, second, third = (numpy.empty(size // 8) for _ in range(3))
            for array in (first, second, third):
                array.fill(1.5)
            self.large = first, second, third
        return self.large

    def profile(self) -> Profile:
        """Return the figures as a profile."""
        for levels in self.bandwidth.values():
            # A level is at least as fast as the next one: else two samples were disturbed.
            for near, far in (("L3", "memory"), ("L2", "L3"), ("L1", "L2")):
                levels[near] = max(levels[near], levels[far])
        return Profile(
            source="calibrated",
            machine=machine(),
            threads=self.pool.threads,
            cache_bytes=self.shipped.cache_bytes,
            bandwidth=self.bandwidth,
            fault=self.fault,
            op=completed(self.op, self.shipped.op),
            compiled=completed({}, self.shipped.compiled, pace(self.op, self.shipped.op)),
            scans=completed({}, self.shipped.scans, pace(self.op, self.shipped.op)),
            overhead=self.overhead,
            block_bytes=self.block_bytes,
        )


Table = Mapping[str, Mapping[str, float]]


def pace(op: Table, base: Table) -> float:
    """Return how much longer operations take here than in ``base``."""
    ratios = [
        seconds / base[cost][char]
        for cost, row in op.items()
        for char, seconds in row.items()
        if char in base.get(cost, {})
    ]
    return median(ratios) if ratios else 1.0


def completed(op: Table, base: Table, at: float | None = None) -> dict[str, dict[str, float]]:
    """Return the measured costs, and shipped ones at this machine's pace where there are none."""
    slower = pace(op, base) if at is None else at
    table = {
        cost: {char: seconds * slower for char, seconds in row.items()}
        for cost, row in base.items()
    }
    for cost, row in op.items():
        table.setdefault(cost, {}).update(row)
    return table
