"""One thread of the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from dispatcharr.backends.base import Profile, Rates, host_rates
from dispatcharr.kernels.blocks import prepare
from dispatcharr.plan.region import Region

__all__ = ["BACKEND"]


class Serial:
    """Runs every task of a kernel on the calling thread."""

    name = "serial"
    place = "host"
    block_bytes = 1 << 17

    def available(self) -> str | None:
        """Return None: it always is."""
        return None

    def supports(self, region: Region) -> str | None:
        """Return None: every row runs on NumPy."""
        return None

    def rates(self, profile: Profile) -> Rates:
        """Return the speeds of one thread."""
        self.block_bytes = profile.block_bytes
        return host_rates(profile, "serial")

    def run(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> frozenset[tuple[str, str]]:
        """Run ``region`` and return the floating-point errors met."""
        work = prepare(region, inputs, outputs, self.block_bytes, 1)
        for task in range(work.count):
            work.run(task)
        work.finish()
        return frozenset(work.errors)


BACKEND = Serial()
