"""A timeline in Chrome's trace format: a row for each thread and place, a bar for each record."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dispatcharr._events import ContractionRecord, FallbackRecord, KernelRecord, ScanRecord
from dispatcharr.explain.account import as_data, operations_of, reason_class, result_dtype
from dispatcharr.explain.text import shorten

if TYPE_CHECKING:
    from dispatcharr.explain.recorder import Timed

__all__ = ["chrome_trace"]

_LONGEST_NAME = 60
_CATEGORIES = {
    KernelRecord: "kernel", ContractionRecord: "contraction", ScanRecord: "scan",
    FallbackRecord: "fallback",
}  # fmt: skip


def chrome_trace(timed: Iterable[Timed]) -> dict[str, Any]:
    """Return the trace of ``timed`` records.

    Times are in microseconds since the recording began, as the format wants them.
    """
    process = os.getpid()
    rows: dict[tuple[int, str, str], int] = {}
    bars = []
    for one in timed:
        name, place, details = _described(one.record)
        row = rows.setdefault((one.thread, one.thread_name, place), len(rows) + 1)
        bars.append(
            {
                "name": name,
                "cat": _CATEGORIES[type(one.record)],
                "ph": "X",
                "ts": one.start * 1e6,
                "dur": (one.record.seconds or 0.0) * 1e6,
                "pid": process,
                "tid": row,
                "args": details,
            }
        )
    titles = [_title("process_name", process, 0, "dispatcharr")]
    for (_, thread, place), row in rows.items():
        titles.append(_title("thread_name", process, row, f"{thread}: {place}"))
    data: dict[str, Any] = as_data({"traceEvents": titles + bars, "displayTimeUnit": "ms"})
    return data


def _described(record: Any) -> tuple[str, str, dict[str, Any]]:
    if isinstance(record, ContractionRecord):
        return record.name, record.backend, {"reason": record.reason}
    if not isinstance(record, KernelRecord):
        return record.name, "NumPy", {"reason": record.reason}
    names = operations_of(record.region)
    decision, work = record.decision, record.work
    details = {
        "operations": " ".join(names),
        "dtype": result_dtype(record.region),
        "elements": work.elements,
        "bytes read": work.bytes_read,
        "bytes written": work.bytes_written,
        "bytes moved": work.to_device if decision.estimate.device else work.to_host,
        "why": reason_class(decision),
        "predicted ms": decision.predicted * 1e3,
        "measured ms": None if record.seconds is None else record.seconds * 1e3,
        "prices ms": {one.backend: one.seconds * 1e3 for one in decision.estimates},
        "refused": dict(decision.refused),
        "engine": decision.estimate.engine,
    }
    return shorten(names, _LONGEST_NAME), decision.backend, details


def _title(kind: str, process: int, row: int, text: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": row, "args": {"name": text}}
