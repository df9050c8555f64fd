"""What the backends of the host have in common: the engines that run a kernel's body.

``blocks`` runs everything. ``compiled`` has to build its kernels first; a kernel that is not there
yet, or cannot be made for these buffers, is run by ``blocks``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy

from dispatcharr.backends.base import Profile, Rates, host_rates
from dispatcharr.kernels import blocks, compiled
from dispatcharr.kernels.again import Again, again
from dispatcharr.kernels.several import Several
from dispatcharr.plan.region import Region

__all__ = ["ENGINES", "Host"]

ENGINES = ("blocks", "compiled")
#: Elements of a row under which calling NumPy's loop for it takes as long as the loop.
_SHORT = 256
Job = blocks.Job | Several | compiled.Job


def _is_as_fast(region: Region) -> bool:
    """Return whether NumPy's own reduction is at the limit of memory already."""
    reducing = region.reducing
    if reducing is None or region.program or region.others or reducing.row.rereads:
        return False
    # For each row of a few elements it is called anew.
    inner = len(region.shape) - 1
    if reducing.mask is not None or (inner in reducing.axes and region.shape[inner] < _SHORT):
        return False
    # What is accumulated in another dtype NumPy casts by the piece first.
    dtype, state = region.inputs[reducing.register].dtype, reducing.state_dtype
    # Not by ``in``: to NumPy, None is the dtype float64.
    return dtype.char != "e" and (state is None or state == dtype)


class Host:
    """One way of running kernels on the host: a crew and an engine.

    Parameters
    ----------
    engine : {"blocks", "compiled"}
        What runs the kernel's body.
    """

    name: str
    place = "host"

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.block_bytes = 1 << 19
        self.stream_bytes = 1 << 25

    def supports(self, region: Region) -> str | None:
        """Return None, or why the engine cannot run ``region``."""
        if self.engine == "blocks":
            return None
        if _is_as_fast(region):
            return "nothing is computed before the reduction, and NumPy's loop for it is as fast"
        return compiled.refusal(region)

    def rates(self, profile: Profile) -> Rates:
        """Return the speeds of this crew with this engine."""
        self.block_bytes = profile.block_bytes
        self.stream_bytes = profile.cache_bytes.get("L3", self.stream_bytes)
        return host_rates(profile, self.name, self.engine)

    def ready(self, region: Region) -> bool:
        """Return whether the kernel is built."""
        return self.engine == "blocks" or compiled.ready(region)

    def kernel(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
    ) -> Hashable | None:
        """Return what names the kernel; all crews run the same one."""
        return None if self.engine == "blocks" else compiled.kernel(region, inputs, outputs)

    def order(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        stored: bool = False,
        wait: bool = False,
    ) -> str | None:
        """Have the kernel built in the background; return None, or why it never can be."""
        if self.engine == "blocks":
            return None
        return compiled.order(region, inputs, outputs, stored, wait)

    def again(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        threads: int | None = None,
    ) -> Again | None:
        """Return how to run ``region`` again on other buffers; None where :meth:`run` has to."""
        if self.engine != "compiled":
            return None
        width = self.width(threads)
        return again(self.prepare(region, inputs, outputs, self.tasks(region, width)), width)

    def width(self, threads: int | None) -> int:
        """Return on how many threads a kernel runs when at most ``threads`` are wished for."""
        return 1

    def tasks(self, region: Region, width: int) -> int:
        """Return into how many tasks a kernel is to be cut."""
        return 1

    def prepare(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        pieces: int,
    ) -> Job:
        """Bind ``region`` to its buffers and cut it into tasks."""
        if self.engine == "compiled":
            # What the last cache does not hold is streamed, also where it is read again soon: it
            # would have left the cache by then. (46 MB with a reader: 0.9 and 0.4 of the time.)
            stream = sum([one.nbytes for one in (*inputs, *outputs)]) > self.stream_bytes
            job = compiled.prepare(region, inputs, outputs, pieces, region.watch, stream, buy=False)
            if isinstance(job, compiled.Job):
                return job
        return blocks.prepare(region, inputs, outputs, self.block_bytes, pieces)
