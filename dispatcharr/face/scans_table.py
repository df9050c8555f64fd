"""The roads of scans: for each function who says whether kernels can answer a call.

A road takes the arguments of its function, NumPy arrays in the place of ours, and returns a
:class:`~dispatcharr.route.scans.Scan`, or None for what is left to NumPy: other dtypes and layouts,
arguments that are no arrays, keywords that change more than is said here, and whatever NumPy would
refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dispatcharr.face import scans_counts, scans_lookups, scans_masks, scans_running
from dispatcharr.face.contract import LEFT
from dispatcharr.face.scans_diff import diff
from dispatcharr.face.scans_masks import indexed
from dispatcharr.route.scans import Scan

__all__ = ["ROADS", "indexed", "planned"]

ROADS: Mapping[str, Callable[..., Scan | None]] = {
    **scans_running.ROADS,
    **scans_masks.ROADS,
    **scans_counts.ROADS,
    **scans_lookups.ROADS,
}


def planned(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of an elementwise operation in another guise, or ``LEFT``."""
    try:
        return _PLANNED[name](*args, **kwargs)
    except TypeError:  # arguments that NumPy's function does not have
        return LEFT


_PLANNED: Mapping[str, Callable[..., Any]] = {"diff": diff}
