"""Runs of kernels where memory may be in more places than the host: who brings what, and timing.

A backend of the host finds everything at home. One of a device brings by itself what it reads, so
that nothing else moves; it is timed only where somebody asks, since that takes a wait.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy

from dispatcharr.backends.base import Backend, LateErrors
from dispatcharr.plan.region import Region
from dispatcharr.storage import places

__all__ = ["run_placed", "wait_for"]

_Arrays = Sequence[numpy.ndarray]
_Told = frozenset[tuple[str, str]] | LateErrors


def run_placed(
    backend: Backend,
    region: Region,
    inputs: _Arrays,
    outputs: _Arrays,
    fresh: _Arrays,
    threads: int | None,
    timing: bool,
) -> tuple[_Told, float | None]:
    """Run ``region`` on ``backend``; return what it told, and the seconds without any moves.

    Parameters
    ----------
    backend : Backend
        Any.
    region, inputs, outputs, threads
        As for :meth:`Backend.run`.
    fresh : sequence of numpy.ndarray
        Those of the outputs that were allocated for this result.
    timing : bool
        Whether to wait for the end of a run that does not do so itself. Where it moved something,
        its seconds are None all the same.
    """
    if backend.place == "host":
        for host in inputs:
            places.home(host)
        with places.writing(outputs, whole=True):
            start = time.perf_counter()
            told = backend.run(region, inputs, outputs, threads)
            return told, time.perf_counter() - start
    for host in inputs:
        if host.ndim == 0:
            places.home(host)
    for host in fresh:
        places.expect(host)
    if not timing:
        return backend.run(region, inputs, outputs, threads), None
    wait_for(backend)
    moved = places.counters["to_device"]
    start = time.perf_counter()
    told = backend.run(region, inputs, outputs, threads)
    wait_for(backend)
    seconds = time.perf_counter() - start
    return told, seconds if moved == places.counters["to_device"] else None


def wait_for(backend: Backend) -> None:
    """Return once all that ``backend`` was given has run."""
    wait = getattr(backend, "wait", None)
    if wait is not None:
        wait()
