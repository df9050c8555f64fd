"""Which arguments a function kept: their references are counted before and after the call."""

from __future__ import annotations

import sys
from typing import Any

import numpy

from dispatcharr.storage.exports import mark_foreign

__all__ = ["note"]


def note(
    watched: list[tuple[numpy.ndarray, numpy.ndarray]],
    before: list[tuple[int, int]],
    result: Any,
) -> None:
    """Mark as foreign the arguments that the function kept a reference to."""
    explained: dict[int, int] = {}
    # The caller's name and this frame's both hold the result itself.
    _count_references(result, explained, 2)
    for (host, root), (old_host, old_root) in zip(watched, before, strict=True):
        kept_root = sys.getrefcount(root) - old_root - explained.get(id(root), 0)
        kept_host = sys.getrefcount(host) - old_host - explained.get(id(host), 0)
        if kept_root > 0 or kept_host > 0:
            mark_foreign(host)


def _count_references(result: Any, explained: dict[int, int], holders: int) -> None:
    if type(result) is numpy.ndarray:
        explained[id(result)] = explained.get(id(result), 0) + holders
        if result.base is not None:
            explained[id(result.base)] = explained.get(id(result.base), 0) + 1
    elif isinstance(result, (list, tuple)):
        for item in result:
            _count_references(item, explained, 1)
