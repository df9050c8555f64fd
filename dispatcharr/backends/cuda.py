"""CUDA devices. Not built yet: it reports itself unavailable, with the reason found here."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy

from dispatcharr.backends.base import Profile, Rates
from dispatcharr.plan.region import Region

__all__ = ["BACKEND"]


class Cuda:
    """The seat of the CUDA backend."""

    name = "cuda"
    place = "cuda"

    def available(self) -> str | None:
        """Return why CUDA cannot be used: no driver here, or no kernels in this release."""
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            return f"no CUDA driver was found ({error})"
        return "this release of dispatcharr has no CUDA kernels yet"

    def supports(self, region: Region) -> str | None:
        """Return why no region is supported."""
        return self.available()

    def rates(self, profile: Profile) -> Rates:
        """Raise: an unavailable backend has no price."""
        raise RuntimeError(f"cuda: {self.available()}")

    def run(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> frozenset[tuple[str, str]]:
        """Raise: an unavailable backend runs nothing."""
        raise RuntimeError(f"cuda: {self.available()}")


BACKEND = Cuda()
