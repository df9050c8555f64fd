"""Floating-point errors of scans: those that somebody wants to hear of are NumPy's to tell.

Where a kernel has met one, or what is computed beside it, the call is left to NumPy after all.
"""

from __future__ import annotations

from typing import Any

import numpy

__all__ = ["heard", "strict"]

#: Names of errors in messages, by those of their modes.
_KINDS = {
    "invalid": "invalid value", "divide": "divide by zero", "over": "overflow",
    "under": "underflow",
}  # fmt: skip


def heard() -> frozenset[str]:
    """Return the kinds of errors that are not ignored now."""
    modes = numpy.geterr()
    return frozenset(kind for mode, kind in _KINDS.items() if modes[mode] != "ignore")  # type: ignore[literal-required]


def strict() -> numpy.errstate:
    """Return a context in which errors that are not ignored now raise ``FloatingPointError``."""
    modes = numpy.geterr()
    raised: Any = {mode: "raise" for mode, way in modes.items() if way != "ignore"}
    return numpy.errstate(**raised)
