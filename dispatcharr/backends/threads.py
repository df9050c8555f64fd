"""All cores of the host that the process may use, through the shared pool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from dispatcharr.backends.base import Profile, Rates, host_rates
from dispatcharr.kernels.blocks import prepare
from dispatcharr.kernels.pool import shared_pool, thread_count
from dispatcharr.plan.region import Region

__all__ = ["BACKEND"]

#: Tasks per thread, so that a thread that is held up leaves work for the others.
TASKS_PER_THREAD = 8


class Threads:
    """Shares the tasks of a kernel between the calling thread and the pool."""

    name = "threads"
    place = "host"
    block_bytes = 1 << 17

    def available(self) -> str | None:
        """Return None, or that there is one thread only."""
        if thread_count() > 1:
            return None
        return "only one thread may be used here (affinity, quota or DISPATCHARR_NUM_THREADS)"

    def supports(self, region: Region) -> str | None:
        """Return None: every row runs on NumPy, which lets other threads run."""
        return None

    def rates(self, profile: Profile) -> Rates:
        """Return the speeds of all threads together."""
        self.block_bytes = profile.block_bytes
        return host_rates(profile, "threads")

    def run(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> frozenset[tuple[str, str]]:
        """Run ``region`` on at most ``threads`` threads and return the floating-point errors met."""
        pool = shared_pool()
        width = pool.threads if threads is None else min(threads, pool.threads)
        work = prepare(region, inputs, outputs, self.block_bytes, width * TASKS_PER_THREAD)
        pool.run(work.run, work.count, width)
        work.finish()
        return frozenset(work.errors)


BACKEND = Threads()
