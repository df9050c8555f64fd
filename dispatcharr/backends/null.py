"""Prices, never computes: for testing plans and routes. Its outputs are zeros, to be defined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from dispatcharr.backends.base import Profile, Rates, host_rates
from dispatcharr.plan.region import Region

__all__ = ["BACKEND"]


class Null:
    """A backend that is asked for by name only, and does nothing."""

    name = "null"
    place = "host"
    only_when_asked = True

    def __init__(self) -> None:
        self.regions: list[Region] = []

    def available(self) -> str | None:
        """Return None: there is nothing that it needs."""
        return None

    def supports(self, region: Region) -> str | None:
        """Return None: it accepts everything."""
        return None

    def rates(self, profile: Profile) -> Rates:
        """Return the speeds of one thread."""
        return host_rates(profile, "serial")

    def run(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> frozenset[tuple[str, str]]:
        """Note the last regions seen, zero the outputs, compute nothing."""
        del self.regions[:-255]
        self.regions.append(region)
        for output in outputs:
            output.fill(0)
        return frozenset()


BACKEND = Null()
