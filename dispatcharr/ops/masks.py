"""What a mask looks like: whether its values change often from one element to the next."""

from __future__ import annotations

import numpy

__all__ = ["BRANCHES", "changes", "has_short_runs", "is_patchy"]

#: Changes of a condition per element, and byte of an element, from which on branches take longer
#: than passes without any: what is hard to foresee costs by the element, passes by the byte.
BRANCHES = 1 / 32
#: Changes of a mask per element from which on NumPy's loops over its runs take longer than one over
#: all elements in which those that are not chosen change nothing.
_RUNS = 1 / 16
#: How many places are looked at along each axis, and how many elements in a row there.
_WINDOWS, _WINDOW = 4, 1024


def changes(mask: numpy.ndarray) -> float:
    """Return how often a mask changes along its last axis, per element, from a sample."""
    if mask.ndim == 0 or mask.size < 2:
        return 0.0
    if mask.ndim == 1 and len(mask) >= _WINDOWS * _WINDOW:
        mask = mask[: len(mask) // _WINDOWS * _WINDOWS].reshape(_WINDOWS, -1)
    index = [slice(None, None, max(extent // _WINDOWS, 1)) for extent in mask.shape[:-1]]
    part = mask[(*index, slice(_WINDOW))]
    return int(numpy.count_nonzero(part[..., 1:] != part[..., :-1])) / max(part.size, 1)


def is_patchy(mask: numpy.ndarray, often: float) -> bool:
    """Return whether a mask changes more often than that, per element."""
    return changes(mask) > often


def has_short_runs(mask: numpy.ndarray, shape: tuple[int, ...]) -> bool:
    """Return whether NumPy would call its loops often for this mask of elements of ``shape``."""
    return mask.shape == shape and mask.dtype == bool and is_patchy(mask, _RUNS)
