"""What is true of a mask: where it is, and what another array holds there.

Masks are contiguous; elements that are taken are copied as they are, whatever they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy

from dispatcharr.face.scans_lookups import gathered
from dispatcharr.kernels.scan import Crew
from dispatcharr.kernels.scan_parts import mask_keys, set_places, taken
from dispatcharr.ops.masks import changes
from dispatcharr.route.scans import Scan

__all__ = ["ROADS", "indexed"]

#: Bytes of elements that are copied.
SIZES = (1, 2, 4, 8, 16)
#: What a change of the mask costs NumPy, in elements that are alike; an element, where it makes
#: places of the mask first.
_PER_CHANGE, _PER_ELEMENT = 28.0, 2.7


def indexed(host: numpy.ndarray, key: numpy.ndarray) -> Scan | None:
    """Return the road of ``host[key]``."""
    if key.dtype.kind != "b":
        return gathered(host, key) if host.ndim == 1 else None
    if key.shape != host.shape or not _is_mask(key):
        return None
    if host.ndim == 1:
        return _taken(key, host)
    return _taken(key.reshape(-1), host.reshape(-1)) if host.flags.c_contiguous else None


def _is_mask(mask: Any) -> bool:
    return (
        type(mask) is numpy.ndarray
        and (mask.dtype.kind in "biu" or mask.dtype.char in "fd")
        and mask.dtype.isnative
        and mask.size > 0
        and mask.ndim > 0
        and bool(mask.flags.c_contiguous)
        and bool(mask.flags.aligned)
    )


def _taken(mask: numpy.ndarray, source: numpy.ndarray, by_places: bool = False) -> Scan | None:
    """Return the road of elements by a mask, which NumPy takes by runs or by their places."""
    if source.itemsize not in SIZES or source.dtype.hasobject or source.dtype.kind == "V":
        return None

    def compute(crew: Crew) -> numpy.ndarray:
        return taken(crew, mask, source)

    steps = _PER_ELEMENT if by_places else 1.0 + _PER_CHANGE * changes(mask)
    return Scan(
        "mask", source.dtype, mask.size, mask.nbytes + source.nbytes,
        mask_keys(mask.dtype, source), compute,
        ("elements of", source.dtype, "by a mask of", mask.dtype), numpy_steps=steps,
    )  # fmt: skip


def _places(mask: numpy.ndarray, show: Callable[[Crew, numpy.ndarray], Any]) -> Scan:
    name = "places" if mask.dtype.kind == "b" else "places of numbers"
    if mask.ndim > 1:
        name = "places of axes"
    flat = mask.reshape(-1)

    def compute(crew: Crew) -> Any:
        return show(crew, taken(crew, flat, None))

    return Scan(
        name, mask.dtype, mask.size, mask.nbytes + 4 * mask.size, mask_keys(mask.dtype, None),
        compute, ("places of", mask.dtype, "that are not zero"),
    )  # fmt: skip


def _nonzero(a: Any) -> Scan | None:
    if not _is_mask(a):
        return None

    def show(crew: Crew, flat: numpy.ndarray) -> tuple[numpy.ndarray, ...]:
        if a.ndim == 1:
            return (flat,)
        made = set_places(crew, flat, numpy.empty((flat.size, a.ndim), numpy.intp), a.shape)
        return tuple([made[:, axis] for axis in range(a.ndim)])

    return _places(a, show)


def _where(condition: Any, /, *args: Any) -> Scan | None:
    return None if args else _nonzero(condition)


def _flatnonzero(a: Any) -> Scan | None:
    if not _is_mask(a):
        return None
    return _places(a.reshape(-1), lambda crew, flat: flat)


def _argwhere(a: Any) -> Scan | None:
    if not _is_mask(a):
        return None

    def show(crew: Crew, flat: numpy.ndarray) -> numpy.ndarray:
        if a.ndim == 1:
            return flat.reshape(1, -1).T
        made = numpy.empty((a.ndim, flat.size), numpy.intp)
        return set_places(crew, flat, made.T, a.shape)

    return _places(a, show)


def _compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Scan | None:
    if not _is_mask(condition) or condition.ndim != 1 or out is not None:
        return None
    return _flat(condition, a, axis)


def _method_compress(a: Any, condition: Any, axis: Any = None, out: Any = None) -> Scan | None:
    return _compress(condition, a, axis, out)


def _flat(mask: numpy.ndarray, a: Any, axis: Any = None) -> Scan | None:
    """Return the road of elements of ``a`` as one row, as many of them as the mask has."""
    if type(a) is not numpy.ndarray or not a.ndim or mask.size > a.size:
        return None
    if axis is not None and (a.ndim != 1 or type(axis) is not int or axis not in (0, -1)):
        return None
    if a.ndim > 1 and not a.flags.c_contiguous:
        return None
    row = a if a.ndim == 1 else a.reshape(-1)
    return _taken(mask, row[: mask.size], by_places=True)


def _extract(condition: Any, arr: Any) -> Scan | None:
    if not _is_mask(condition) or type(arr) is not numpy.ndarray or arr.size != condition.size:
        return None
    return _flat(condition.reshape(-1), arr)


ROADS: Mapping[str, Callable[..., Scan | None]] = {
    "nonzero": _nonzero, "ndarray.nonzero": _nonzero, "where": _where,
    "flatnonzero": _flatnonzero, "argwhere": _argwhere, "compress": _compress,
    "ndarray.compress": _method_compress, "extract": _extract,
}  # fmt: skip
