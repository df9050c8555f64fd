"""All cores of the host that the process may use, through the shared pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import get_ident
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy

from dispatcharr.backends.base import Profile, Rates
from dispatcharr.backends.host import ENGINES, Host
from dispatcharr.kernels import crew
from dispatcharr.kernels.blocks import Job as BlocksJob
from dispatcharr.kernels.pool import shared_pool, thread_count
from dispatcharr.plan.region import Region
from dispatcharr.plan.work import count_work

__all__ = ["BACKEND"]

#: Most tasks per thread, so that a thread that is held up leaves work for the others.
TASKS_PER_THREAD = 32
#: Seconds of arithmetic that are worth a task of their own: its own costs are some 15 us on Python
#: threads, and nothing to speak of on those of the crew.
TASK_SECONDS = 200e-6
CREW_TASK_SECONDS = 20e-6
#: Seconds per element of an operation that the profile does not know.
UNKNOWN_OP = 0.5e-9


class _Lanes:
    """Hands out tasks so that each thread walks through memory of its own.

    Tasks are cut into one run of neighbours per thread; a thread works through its own and then
    helps the others from their far ends. A thread gets the same lane in every kernel, so that what
    it left in its core's cache is what it finds there. (On two cores, the sum of 80 MB took 1.1 ms
    so, and 2.1 ms with tasks dealt out in turn.)
    """

    __slots__ = ("lanes", "own")

    _numbers: ClassVar[dict[int, int]] = {}

    def __init__(self, count: int, width: int) -> None:
        # Taken from the end, which is the first of its run.
        self.lanes = [
            list(range(count * (i + 1) // width - 1, count * i // width - 1, -1))
            for i in range(width)
        ]
        self.own = {get_ident(): 0}

    def take(self) -> int:
        """Return the next task of this thread; there are as many calls as tasks."""
        me = get_ident()
        lane = self.own.get(me)
        if lane is None:
            number = self._numbers.setdefault(me, len(self._numbers) + 1)
            lane = self.own[me] = number % len(self.lanes)
        try:
            return self.lanes[lane].pop()
        except IndexError:
            return self._help(lane)

    def _help(self, lane: int) -> int:
        for other in (*self.lanes[lane + 1 :], *self.lanes[:lane]):
            try:
                return other.pop(0)
            except IndexError:
                continue
        raise RuntimeError("threads: more calls than tasks")


class Threads(Host):
    """Shares the tasks of a kernel between the calling thread and the pool."""

    name = "threads"
    engines: tuple[Threads, ...]

    def __init__(self, engine: str) -> None:
        super().__init__(engine)
        self.op: Mapping[str, Mapping[str, float]] = {}
        self.wished: WeakKeyDictionary[Region, float] = WeakKeyDictionary()

    def available(self) -> str | None:
        """Return None, or that there is one thread only."""
        if thread_count() > 1:
            return None
        return "only one thread may be used here (affinity, quota or DISPATCHARR_NUM_THREADS)"

    def rates(self, profile: Profile) -> Rates:
        """Return the speeds of all threads together."""
        rates = super().rates(profile)
        self.op = rates.op
        self.wished.clear()
        return rates

    def width(self, threads: int | None) -> int:
        """Return how many threads there are, ``threads`` at most."""
        most = shared_pool().threads
        return most if threads is None else min(threads, most)

    def tasks(self, region: Region, width: int) -> int:
        """Return how many tasks to wish for: what the work is worth, one per thread at least."""
        wished = self.wished.get(region)
        if wished is None:
            ops = count_work(region, ()).ops
            seconds = [self.op.get(cost, {}).get(dtype, UNKNOWN_OP) for cost, dtype in ops]
            crewed = self.engine == "compiled" and crew.COMPILED
            worth = CREW_TASK_SECONDS if crewed else TASK_SECONDS
            wished = self.wished[region] = region.elements * sum(seconds) / worth
        # The same number for each: one more task than there are threads takes twice as long.
        return width * min(max(round(wished / width), 1), TASKS_PER_THREAD)

    def run(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> frozenset[tuple[str, str]]:
        """Run ``region`` on ``threads`` threads at most; return the floating-point errors met."""
        pool, width = shared_pool(), self.width(threads)
        job = self.prepare(region, inputs, outputs, self.tasks(region, width))
        if isinstance(job, BlocksJob) or not job.run_all(width):
            lanes = _Lanes(job.count, width)
            pool.run(lambda _: job.run(lanes.take()), job.count, width)
        job.finish()
        return frozenset(job.errors)


Threads.engines = tuple(Threads(engine) for engine in ENGINES)
BACKEND = Threads.engines[0]
