"""Who listens: a recorder adds up everything and keeps the last of it in full.

A program of any length stays bounded: classes are added up (:mod:`dispatcharr.explain.tally`),
and of single records the last :data:`KEPT` are kept. Records carry no time of day; a kernel is
taken to have begun its seconds before its record came.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from dispatcharr._events import (
    ContractionRecord,
    DirectRecord,
    FallbackRecord,
    KernelRecord,
    ScanRecord,
)
from dispatcharr._version import __version__
from dispatcharr.explain.account import as_data, operations_of, result_dtype
from dispatcharr.explain.report import Summary, Table, summarize
from dispatcharr.explain.tally import Tally
from dispatcharr.explain.trace import chrome_trace
from dispatcharr.route import profile as profiles

__all__ = ["KEPT", "SCHEMA", "Recorder", "Timed"]

#: Single records that are kept, the last ones.
KEPT = 10_000
SCHEMA = "dispatcharr.record/1"

_alive: WeakSet[Recorder] = WeakSet()


@dataclass(frozen=True, slots=True)
class Timed:
    """One record with its start, in seconds since the recorder was made, and its thread."""

    start: float
    thread: int
    thread_name: str
    record: KernelRecord | FallbackRecord | ContractionRecord


class Recorder:
    """Hears events and reports on them.

    Attributes
    ----------
    small : int
        Operations that the fast path served without an event. Whoever opened the recording
        adds them.

    Examples
    --------
    >>> from dispatcharr import _events
    >>> recorder = Recorder()
    >>> with _events.listening(recorder):
    ...     _events.emit(_events.FallbackRecord("sort", "it is not planned", 0.002))
    >>> recorder.table().rows[0]["kernel"]
    'sort'
    """

    def __init__(self) -> None:
        self.small = 0
        self._direct = 0
        self._kernels = 0
        self._tally = Tally()
        self._last: deque[Timed] = deque(maxlen=KEPT)
        self._began = time.perf_counter()
        # Reentrant: a signal handler may compute while a record is being taken.
        self._lock = threading.RLock()
        _alive.add(self)

    def __call__(self, record: Any) -> None:
        """Take one event; of kinds that are not known, none."""
        if isinstance(record, DirectRecord):
            with self._lock:
                self._direct += 1
            return
        if not isinstance(record, KernelRecord | FallbackRecord | ContractionRecord):
            return
        start = time.perf_counter() - (record.seconds or 0.0) - self._began
        thread = threading.current_thread()
        timed = Timed(start, thread.ident or 0, thread.name, record)
        with self._lock:
            self._last.append(timed)
            if isinstance(record, KernelRecord):
                self._kernels += 1
                self._tally.add_kernel(record)
            elif isinstance(record, ContractionRecord):
                self._tally.add_contraction(record)
            else:
                self._tally.add_fallback(record)

    def __len__(self) -> int:
        """Return how many kernels ran, kept in full or not."""
        return self._kernels

    def __bool__(self) -> bool:
        """Return True: a recorder that heard nothing is still one."""
        return True

    @property
    def records(self) -> list[KernelRecord]:
        """The last kernels, in the order in which they ended."""
        return [one.record for one in self.timed if isinstance(one.record, KernelRecord)]

    @property
    def events(self) -> list[KernelRecord | FallbackRecord | ContractionRecord]:
        """The last kernels, contractions and fallbacks, in the order in which they ended."""
        return [one.record for one in self.timed]

    @property
    def timed(self) -> list[Timed]:
        """The same with start and thread."""
        with self._lock:
            return list(self._last)

    @property
    def direct(self) -> int:
        """Operations too small to be planned, which ran as plain NumPy."""
        return self._direct + self.small

    def table(self) -> Table:
        """Return what ran, a row for each class of kernel, each contraction and each fallback.

        Returns
        -------
        Table
            ``rows`` is a list of dicts; it prints as text.
        """
        with self._lock:
            return Table(self._tally.rows())

    def summary(self) -> Summary:
        """Return what there is to know at a glance.

        Returns
        -------
        Summary
            ``to_dict()`` gives the data; it prints as text.
        """
        with self._lock:
            source = profiles.current().source if self._kernels else None
            return summarize(self._tally, self.direct, source)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, as what JSON can hold.

        ``records`` are the last :data:`KEPT` kernels and fallbacks; all else counts every one.
        """
        with self._lock:
            timed = list(self._last)
            rows = self.table().rows
            summary = self.summary().to_dict()
            dropped = sum(row["runs"] for row in rows) - len(timed)
        data: dict[str, Any] = as_data(
            {
                "schema": SCHEMA,
                "dispatcharr": __version__,
                "summary": summary,
                "rows": rows,
                "records": [_record_data(one) for one in timed],
                "records_dropped": dropped,
            }
        )
        return data

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a JSON file.

        Parameters
        ----------
        path : str or path-like
            The file; one that exists is replaced.
        """
        _write(path, self.to_dict())

    def to_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a timeline that ``chrome://tracing`` and Perfetto open.

        Parameters
        ----------
        path : str or path-like
            The file; one that exists is replaced.
        """
        _write(path, chrome_trace(self.timed))

    def __repr__(self) -> str:
        fallbacks = sum(found.calls for found in self._tally.fallbacks.values())
        return f"<Recorder: {self._kernels} kernels, {fallbacks} fallbacks, {self.direct} small>"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _write(path: str | os.PathLike[str], data: dict[str, Any]) -> None:
    # Made before the file is opened, so that a failure leaves an old file as it was.
    text = json.dumps(data, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def _record_data(one: Timed) -> dict[str, Any]:
    record = one.record
    data: dict[str, Any] = {
        "start": one.start,
        "seconds": record.seconds,
        "thread": one.thread_name,
    }
    if isinstance(record, FallbackRecord):
        return {"kind": "fallback", "name": record.name, "reason": record.reason, **data}
    if isinstance(record, ContractionRecord):
        told = {"name": record.name, "reason": record.reason, "backend": record.backend}
        kind = "scan" if isinstance(record, ScanRecord) else "contraction"
        return {"kind": kind, **told, **data, "verified": record.verified}
    decision, work = record.decision, record.work
    return {
        "kind": "kernel",
        "kernel": " ".join(operations_of(record.region)),
        "dtype": result_dtype(record.region),
        "shape": record.region.shape,
        "border": record.region.border,
        "backend": decision.backend,
        "engine": decision.estimate.engine,
        "reason": decision.reason,
        **data,
        "predicted": decision.predicted,
        "estimates": {
            estimate.backend: {
                "seconds": estimate.seconds,
                "run": estimate.run,
                "bound": estimate.bound,
                "terms": dict(estimate.terms),
            }
            for estimate in decision.estimates
        },
        "refused": dict(decision.refused),
        "elements": work.elements,
        "bytes_read": work.bytes_read,
        "bytes_written": work.bytes_written,
        "bytes_moved": work.to_device if decision.estimate.device else work.to_host,
        "inputs_were_on": work.states,
        "fp_errors": sorted(record.fp_errors),
        "verified": record.verified,
    }


def _unlock_after_fork() -> None:
    """Give recorders new locks in a child: a thread that it lacks may have held the old ones."""
    for recorder in list(_alive):
        recorder._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_after_fork)
