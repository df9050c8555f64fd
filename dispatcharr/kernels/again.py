"""A compiled kernel run again: the same region and layouts, other buffers.

A :class:`~dispatcharr.kernels.compiled.Job` works out what its kernel is to be told. Where only the
addresses of buffers change, whoever runs it fills those in (the compiled fast path does); what is
needed for that is kept here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from dispatcharr.kernels import crew
from dispatcharr.kernels.compiled import Job
from dispatcharr.ops import moments

__all__ = ["Again", "Spare", "again"]

#: Bytes of states, which are kept three times over. Kernels that leave more take so long that
#: preparing them is not felt.
_MOST_KEPT = 1 << 18
#: What the ends of reductions are called whose states are moments.
_OF_MOMENTS: dict[Any, str] = {moments.variance: "variance", moments.deviation: "deviation"}

#: A job, the address of its table, that of memory for numbers, and per field of its states where it
#: is, where what it is of nothing, and its bytes.
Spare = tuple[Job, int, int, tuple[tuple[int, int, int], ...]]


class Again:
    """What a kernel needs to be run on other buffers.

    Attributes
    ----------
    call : tuple of int
        What the crew is told besides the address of a table of arguments.
    places : tuple of tuples of int
        Where the addresses of inputs belong in the table, and those of outputs.
    told : int
        Flags of the machine that :meth:`end` has to look at.
    join : tuple
        How states of segments are joined, where that is so simple that :meth:`end` need not do it:
        the name of the ufunc that does, or "variance" or "deviation" of moments; the dtype of state
        and result, and what the result is divided by, or zero.
    """

    def __init__(self, job: Job, threads: int) -> None:
        self.call = (*job.call(), threads)
        self.places = job.places()
        self.told = job.told()
        self._model = job.fresh()
        self._starts = [field.copy() for one in self._model.states for field in one.fields]
        self.join = _join(self._model)

    def spare(self) -> Spare:
        """Return a job without buffers, and where things are in its memory."""
        room = len(self.places[0])
        job = self._model.fresh(room)
        fields = [field for one in job.states for field in one.fields]
        known = tuple(
            [
                (_start(field), _start(start), field.nbytes)
                for field, start in zip(fields, self._starts, strict=True)
            ]
        )
        return job, job.address, job.address + 8 * self._model.length, known

    def end(
        self, job: Job, inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]
    ) -> frozenset[tuple[str, str]]:
        """Finish what a job of :meth:`spare` has run; return the floating-point errors met."""
        return job.settle(inputs, outputs)


def _join(job: Job) -> tuple[str, numpy.dtype[Any], float] | None:
    if len(job.states) != 1:
        return None
    (states,) = job.states
    reducing, row = states.reducing, states.reducing.row
    dtype, params = states.fields[0].dtype, dict(reducing.params)
    if dtype.char not in "fd" or dtype != reducing.dtype or not states.is_plain():
        return None
    if row.remark is not None or reducing.mask is not None:
        return None
    name, divisor = getattr(row.ufunc, "__name__", ""), 0.0
    if row.averages:
        name, divisor = numpy.add.__name__, float(reducing.count)
    elif row.finish in _OF_MOMENTS:
        name, divisor = _OF_MOMENTS[row.finish], float(reducing.count - params.pop("ddof", 0))
        if divisor <= 0:
            return None
    # Whether squares or quotients vanish is heard by NumPy's functions alone.
    if not name or params or (divisor and "underflow" in job.watch):
        return None
    return name, dtype, divisor


def _start(memory: numpy.ndarray) -> int:
    found: int = memory.__array_interface__["data"][0]
    return found


def again(job: object, threads: int) -> Again | None:
    """Return how to run a job's kernel again, None where it has to be prepared each time."""
    if not crew.COMPILED or not isinstance(job, Job):
        return None
    states = sum([field.nbytes for one in job.states for field in one.fields])
    return Again(job, threads) if states <= _MOST_KEPT else None
