"""One thread of the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from dispatcharr.backends.host import ENGINES, Host
from dispatcharr.kernels.blocks import Job as BlocksJob
from dispatcharr.plan.region import Region

__all__ = ["BACKEND"]


class Serial(Host):
    """Runs every task of a kernel on the calling thread."""

    name = "serial"
    engines: tuple[Serial, ...]

    def available(self) -> str | None:
        """Return None: it always is."""
        return None

    def run(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> frozenset[tuple[str, str]]:
        """Run ``region`` and return the floating-point errors met."""
        job = self.prepare(region, inputs, outputs, 1)
        if isinstance(job, BlocksJob) or not job.run_all(1):
            for task in range(job.count):
                job.run(task)
        job.finish()
        return frozenset(job.errors)


Serial.engines = tuple(Serial(engine) for engine in ENGINES)
BACKEND = Serial.engines[0]
