"""What ran, added up: a program of any length takes a bounded amount of memory.

Kernels count by class: the same operations, result dtype, backend and reason. Fallbacks count by
name and reason, and so do contractions, which no region describes. Past :data:`MOST_CLASSES` of
any, what is new counts together as ``(others)``. Not thread-safe: the recorder that owns a tally
holds a lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dispatcharr._events import ContractionRecord, FallbackRecord, KernelRecord, ScanRecord
from dispatcharr.explain.account import operations_of, reason_class, result_dtype
from dispatcharr.plan.region import Region
from dispatcharr.route.router import Decision

__all__ = ["MOST_CLASSES", "OTHERS", "FallbackClass", "KernelClass", "Tally"]

MOST_CLASSES = 2048
OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class _Known:
    """What a region always counts as. It keeps the region alive, so that its id stays its own."""

    region: Region
    names: tuple[str, ...]
    dtype: str
    unstored: int


@dataclass(slots=True)
class KernelClass:
    """Kernels of one class, added up.

    Attributes
    ----------
    names : tuple of str
        The operations, in order.
    dtype, backend, reason : str
        Of the result; where it ran; why there.
    runs, operations, elements, nbytes, unstored : int
        Kernels; operations in them; points of their spaces; bytes read and written; bytes of
        intermediate results that were never stored.
    measured, predicted : float
        Seconds of the runs.
    prices : dict
        ``{backend: [kernels priced, seconds]}``: what each backend that could run them asked.
    refused : dict
        ``{backend: reason}``.
    """

    names: tuple[str, ...]
    dtype: str
    backend: str
    reason: str
    runs: int = 0
    operations: int = 0
    elements: int = 0
    nbytes: int = 0
    moved: int = 0
    unstored: int = 0
    measured: float = 0.0
    predicted: float = 0.0
    prices: dict[str, list[float]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def add(self, record: KernelRecord, known: _Known) -> None:
        """Count one kernel."""
        self.runs += 1
        self.operations += len(known.names)
        self.elements += record.work.elements
        self.nbytes += record.work.bytes_touched
        device = record.decision.estimate.device
        self.moved += record.work.to_device if device else record.work.to_host
        self.unstored += known.unstored
        if record.seconds is not None:  # else nobody waited for the device to be done
            self.measured += record.seconds
            self.predicted += record.decision.predicted
        for estimate in record.decision.estimates:
            priced = self.prices.setdefault(estimate.backend, [0, 0.0])
            priced[0] += 1
            priced[1] += estimate.seconds
        self.refused.update(record.decision.refused)

    def predicted_on(self) -> dict[str, float]:
        """Return the seconds predicted for each backend that could have run all of them."""
        return {
            name: seconds for name, (priced, seconds) in self.prices.items() if priced == self.runs
        }

    def row(self) -> dict[str, Any]:
        """Return the class as a row of a table."""
        return {
            "kind": "kernel",
            "kernel": " ".join(self.names),
            "dtype": self.dtype,
            "backend": self.backend,
            "reason": self.reason,
            "runs": self.runs,
            "measured": self.measured,
            "predicted": self.predicted,
            "predicted_on": self.predicted_on(),
            "refused": dict(self.refused),
            "operations": self.operations,
            "elements": self.elements,
            "bytes": self.nbytes,
            "bytes_moved": self.moved,
            "bytes_unstored": self.unstored,
        }


@dataclass(slots=True)
class FallbackClass:
    """Calls of one NumPy function for one reason, added up; of contractions, for one description.

    ``backend`` is where they ran, ``"numpy"`` for what was left to it; ``kind`` is
    ``"fallback"``, ``"contraction"`` or ``"scan"``.
    """

    name: str
    reason: str
    backend: str = "numpy"
    kind: str = "fallback"
    calls: int = 0
    measured: float = 0.0

    def row(self) -> dict[str, Any]:
        """Return the class as a row of the same table as kernels."""
        return {
            "kind": self.kind,
            "kernel": self.name,
            "dtype": None,
            "backend": self.backend,
            "reason": self.reason,
            "runs": self.calls,
            "measured": self.measured,
            "predicted": None,
            "predicted_on": {},
            "refused": {},
            "operations": self.calls,
            "elements": None,
            "bytes": None,
            "bytes_unstored": 0,
        }


class Tally:
    """Kernels and fallbacks by class."""

    def __init__(self) -> None:
        self.kernels: dict[tuple[Any, ...], KernelClass] = {}
        self.fallbacks: dict[tuple[str, str], FallbackClass] = {}
        self.contractions: dict[tuple[str, str, str, str], FallbackClass] = {}
        self.fp_errors: dict[tuple[str, str], int] = {}
        self.verified = {True: 0, False: 0}
        # Programs repeat themselves with the same regions and reasons: their texts are made once.
        self._regions: dict[int, _Known] = {}
        self._reasons: dict[tuple[Any, ...], str] = {}

    def add_kernel(self, record: KernelRecord) -> None:
        """Count one kernel that ran."""
        known, backend = self._known(record.region), record.decision.backend
        key: tuple[Any, ...] = (known.names, known.dtype, backend, self._reason(record.decision))
        found = self.kernels.get(key)
        if found is None:
            if len(self.kernels) >= MOST_CLASSES:
                key = ((OTHERS,), "", backend, "")
            found = self.kernels.setdefault(key, KernelClass(*key))
        found.add(record, known)
        for error in record.fp_errors:
            self.fp_errors[error] = self.fp_errors.get(error, 0) + 1
        if record.verified is not None:
            self.verified[record.verified] += 1

    def _known(self, region: Region) -> _Known:
        known = self._regions.get(id(region))
        if known is None:
            if len(self._regions) >= MOST_CLASSES:
                self._regions.clear()
            known = _Known(region, operations_of(region), result_dtype(region), _unstored(region))
            self._regions[id(region)] = known
        return known

    def _reason(self, decision: Decision) -> str:
        # All that a reason without its prices is made of.
        key = (
            decision.backend, decision.forced, len(decision.estimates), decision.refused,
            decision.engines, decision.note, decision.failed,
        )  # fmt: skip
        reason = self._reasons.get(key)
        if reason is None:
            if len(self._reasons) >= MOST_CLASSES:
                self._reasons.clear()
            reason = self._reasons[key] = reason_class(decision)
        return reason

    def add_fallback(self, record: FallbackRecord) -> None:
        """Count one operation that was left to NumPy."""
        key = (record.name, record.reason)
        found = self.fallbacks.get(key)
        if found is None:
            if len(self.fallbacks) >= MOST_CLASSES:
                key = (OTHERS, "")
            found = self.fallbacks.setdefault(key, FallbackClass(*key))
        found.calls += 1
        found.measured += record.seconds

    def add_contraction(self, record: ContractionRecord) -> None:
        """Count one contraction or scan that a compiled kernel ran."""
        kind = "scan" if isinstance(record, ScanRecord) else "contraction"
        key = (record.name, record.reason, record.backend, kind)
        found = self.contractions.get(key)
        if found is None:
            if len(self.contractions) >= MOST_CLASSES:
                key = (OTHERS, "", record.backend, kind)
            found = self.contractions.setdefault(key, FallbackClass(*key))
        found.calls += 1
        found.measured += record.seconds
        if record.verified is not None:
            self.verified[record.verified] += 1

    def kernel_rows(self) -> list[dict[str, Any]]:
        """Return the kernel classes, those that took longest first."""
        return _longest_first([found.row() for found in self.kernels.values()])

    def fallback_rows(self) -> list[dict[str, Any]]:
        """Return the fallback classes, those that took longest first."""
        return _longest_first([found.row() for found in self.fallbacks.values()])

    def rows(self) -> tuple[dict[str, Any], ...]:
        """Return all classes: kernels, contractions, fallbacks."""
        return (*self.kernel_rows(), *self.contraction_rows(), *self.fallback_rows())

    def contraction_rows(self) -> list[dict[str, Any]]:
        """Return the classes of contractions and scans, those that took longest first."""
        return _longest_first([found.row() for found in self.contractions.values()])


def _longest_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -row["measured"])


def _unstored(region: Region) -> int:
    """Return the bytes of intermediate results that plain NumPy would have stored."""
    width = 0
    for instruction in region.program:
        for register, dtype in zip(instruction.results, instruction.dtypes, strict=True):
            if register not in region.outputs:
                width += dtype.itemsize
    return width * region.elements
