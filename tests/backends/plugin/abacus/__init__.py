"""A third party's package that brings a backend: how one is written, seen from outside.

It works on whole arrays by the reference that every backend is compared with, claims to be a
thousand times faster than the machine, and refuses reductions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy

from dispatcharr.backends.base import Profile, Rates, host_rates
from dispatcharr.plan.reference import run_reference
from dispatcharr.plan.region import Region

REFUSAL = "an abacus has no rod to carry a reduction over"


class Abacus:
    """A backend with the members that the protocol asks for, and no base class."""

    name = "abacus"
    place = "host"

    def __init__(self) -> None:
        self.ran: list[str] = []

    def available(self) -> str | None:
        return None

    def supports(self, region: Region) -> str | None:
        return None if region.reducing is None else REFUSAL

    def rates(self, profile: Profile) -> Rates:
        measured = host_rates(profile, "serial")
        return replace(
            measured,
            call=measured.call / 1000,
            bandwidth={level: 1000 * speed for level, speed in measured.bandwidth.items()},
            fault=measured.fault / 1000,
            op={
                cost: {dtype: seconds / 1000 for dtype, seconds in row.items()}
                for cost, row in measured.op.items()
            },
        )

    def run(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> frozenset[tuple[str, str]]:
        self.ran.append(region.describe())
        found = run_reference(region, inputs)
        for layout, result, output in zip(region.output_layouts, found, outputs, strict=True):
            numpy.copyto(layout.view(output), result)
        return frozenset()


BACKEND = Abacus()


def make() -> Abacus:
    """Return the backend: an entry point may name this instead of the object."""
    return BACKEND
