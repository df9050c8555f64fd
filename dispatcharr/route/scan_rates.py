"""Shipped rates of scans: what NumPy takes for an element, and what a kernel takes.

Nanoseconds of one thread, by function and dtype, measured at 100,000 elements, where memory is not
what it waits for (NumPy 2.4, AMD Zen 4). Where NumPy's time depends on the values, it is short of
the middle. A calibrated profile has them at its machine's pace. A step of a search is one rate.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["NUMPY", "OURS", "shipped_scans"]

_NANO = 1e-9

#: ``{function: {dtype character: nanoseconds}}``; ``*`` is every other dtype.
NUMPY: Mapping[str, Mapping[str, float]] = {
    "running": {"*": 3.3, "q": 0.42, "Q": 0.42, "l": 0.42, "L": 0.42},
    "running cast": {"*": 0.7},
    "running extreme": {"*": 3.3},
    "running across": {"*": 3.4},
    "running nan": {"*": 4.6},
    "mask": {"*": 0.3},
    "places": {"*": 0.3},
    "places of numbers": {"*": 1.5},
    "places of axes": {"*": 6.0},
    "bincount": {"*": 1.0},
    "bins": {"*": 6.0},
    "weighted bins": {"*": 6.5},
    "search": {"*": 5.0, "d": 6.0, "f": 6.0},
    "member": {"*": 2.2},
    "unique": {"*": 20.0},
    "gather": {"*": 1.0},
    "gather far": {"*": 6.5},
}

#: The same of kernels.
OURS: Mapping[str, Mapping[str, float]] = {
    "running": {"*": 0.9, "q": 0.4, "Q": 0.4, "l": 0.4, "L": 0.4},
    "running cast": {"*": 0.45},
    "running extreme": {"*": 2.3},
    "running across": {"*": 0.35},
    "running nan": {"*": 0.9},
    "mask": {"*": 0.2},
    "places": {"*": 0.15},
    "places of numbers": {"*": 0.35},
    "places of axes": {"*": 1.3},
    "bincount": {"*": 0.55},
    "bins": {"*": 2.0},
    "weighted bins": {"*": 2.5},
    "search": {"*": 2.0, "d": 0.8, "f": 0.8},
    "member": {"*": 0.6},
    "unique": {"*": 1.5},
    "gather": {"*": 1.1},
    "gather far": {"*": 4.5},
}


def shipped_scans() -> dict[str, dict[str, float]]:
    """Return all rates in seconds, as a profile has them: those of NumPy by ``"numpy NAME"``."""
    both = {f"numpy {name}": row for name, row in NUMPY.items()} | dict(OURS)
    return {
        name: {char: value * _NANO for char, value in row.items()} for name, row in both.items()
    }
