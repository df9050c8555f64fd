"""A compiled kernel run again: the same region and layouts, other buffers.

A :class:`~dispatcharr.kernels.compiled.Job` works out what its kernel is to be told; where only the
addresses of buffers change, that is kept here, and nothing else is done.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from dispatcharr.kernels import crew
from dispatcharr.kernels.compiled import Job
from dispatcharr.storage import pool

__all__ = ["Again", "again"]


class Again:
    """Jobs for one kernel, each in use by one run at a time."""

    __slots__ = ("_model", "_places", "_spare", "_threads")

    def __init__(self, job: Job, threads: int) -> None:
        self._places = job.places()
        self._model = job.fresh()
        self._spare: list[Job] = []
        self._threads = threads

    def run(
        self, inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]
    ) -> frozenset[tuple[str, str]]:
        """Run the kernel and return the floating-point errors met."""
        try:
            job = self._spare.pop()
        except IndexError:
            job = self._model.fresh()
        job.rebind(inputs, outputs, self._places)
        job.run_all(self._threads)
        job.finish()
        errors = frozenset(job.errors)
        job.let_go()
        self._spare.append(job)
        return errors


def again(job: object, threads: int) -> Again | None:
    """Return how to run a job's kernel again, None where it has to be prepared each time."""
    if crew.COMPILED and pool.POINTS and isinstance(job, Job):
        return Again(job, threads)
    return None
