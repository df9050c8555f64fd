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

__all__ = ["Again", "Spare", "again"]

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
        the ufunc that does, the dtype of state and result, and what the result is divided by.
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


def _join(job: Job) -> tuple[numpy.ufunc, numpy.dtype[Any], int] | None:
    if len(job.states) != 1:
        return None
    (states,) = job.states
    reducing, row = states.reducing, states.reducing.row
    ufunc = numpy.add if row.averages else row.ufunc
    if ufunc is None or row.remark is not None or reducing.params or reducing.mask is not None:
        return None
    if len(states.fields) != 1 or not states.is_plain():
        return None
    dtype = states.fields[0].dtype
    if dtype.char not in "fd" or dtype != reducing.dtype:
        return None
    return ufunc, dtype, reducing.count if row.averages else 0


def _start(memory: numpy.ndarray) -> int:
    found: int = memory.__array_interface__["data"][0]
    return found


def again(job: object, threads: int) -> Again | None:
    """Return how to run a job's kernel again, None where it has to be prepared each time."""
    return Again(job, threads) if crew.COMPILED and isinstance(job, Job) else None
