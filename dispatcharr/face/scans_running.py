"""Running sums, products and the like, with the order and so the bits of NumPy's ``accumulate``."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy

from dispatcharr.expr.order import empty_in_order, order_of, strides_in_order
from dispatcharr.face.scans_errors import heard
from dispatcharr.kernels.scan import Crew
from dispatcharr.kernels.scan_lanes import Lanes, key_of, run
from dispatcharr.ops.scans import CUMULATIVE, RUNNING
from dispatcharr.route.scans import Scan

__all__ = ["ROADS"]


def _accumulate(
    name: str, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None
) -> Scan | None:
    if type(out) is tuple:
        out = out[0] if len(out) == 1 else False
    return _scan(name, array, axis, dtype, out)


def _cumulate(
    name: str, filler: float | None, a: Any, axis: Any = None, dtype: Any = None, out: Any = None
) -> Scan | None:
    if type(a) is numpy.ndarray and axis is None and a.ndim > 1:
        a, axis = a.ravel(), 0
    return _scan(name, a, 0 if axis is None else axis, dtype, out, filler)


def _cumulative(
    name: str, x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None,
    include_initial: Any = False,
) -> Scan | None:  # fmt: skip
    if type(x) is not numpy.ndarray or (axis is None and x.ndim != 1):
        return None
    if type(include_initial) is not bool:
        return None
    along = 0 if axis is None else axis
    if include_initial:
        return None if out is not None else _with_initial(name, x, along, dtype)
    return _scan(name, x, along, dtype, out)


def _with_initial(name: str, x: numpy.ndarray, axis: Any, dtype: Any) -> Scan | None:
    if not x.flags.c_contiguous:
        return None
    place, target = _place(x, axis), _dtype(name, x, dtype)
    if place is None or target is None or not _is_numeric(target):
        return None
    shape = (*x.shape[:place], x.shape[place] + 1, *x.shape[place + 1 :])
    begin, rest = [(*[slice(None)] * place, part) for part in (0, slice(1, None))]

    def compute(crew: Crew) -> Any:
        made = numpy.empty(shape, target)
        made[begin] = getattr(numpy, name).identity
        return made if _run(crew, name, None, x, made[rest], place) is not None else None

    # Its lanes may lie further apart than those of the operand. Memory is not touched.
    scan = _scan(name, x, axis, dtype, None, layout=numpy.empty(shape, target)[rest])
    if scan is not None:
        scan.run = compute
    return scan


def _place(x: numpy.ndarray, axis: Any) -> int | None:
    """Return the axis, counted from the first one; None where there is none such."""
    if type(axis) is bool:
        return None
    try:
        place = operator.index(axis)
    except TypeError:
        return None
    return place % x.ndim if -x.ndim <= place < x.ndim else None


def _is_numeric(dtype: numpy.dtype) -> bool:
    return dtype.isnative and (dtype.kind in "biu" or dtype.char in "fd")


def _dtype(name: str, x: numpy.ndarray, dtype: Any) -> numpy.dtype | None:
    """Return the dtype of the result, None where NumPy is to say what is wrong."""
    try:
        wanted = None if dtype is None else numpy.dtype(dtype)
        # Dtypes of different names for one size are equal, yet results keep the name.
        return _asked(name, x.dtype, wanted, x.dtype.char, getattr(wanted, "char", ""))
    except (TypeError, ValueError):
        return None


@cache
def _asked(name: str, source: numpy.dtype, wanted: numpy.dtype | None, *chars: str) -> numpy.dtype:
    ufunc: numpy.ufunc = getattr(numpy, name)
    found: numpy.dtype = ufunc.accumulate(numpy.empty(0, source), dtype=wanted).dtype
    return found


def _scan(
    name: str, x: Any, axis: Any, dtype: Any, out: Any, filler: float | None = None,
    layout: numpy.ndarray | None = None,
) -> Scan | None:  # fmt: skip
    if type(x) is not numpy.ndarray or not x.ndim or not x.size or not x.flags.aligned:
        return None
    place = _place(x, axis)
    if place is None or not _is_numeric(x.dtype):
        return None
    target = _dtype(name, x, dtype)
    if target is None or not _is_numeric(target) or target.kind == "b":
        return None
    if x.dtype.kind == "f" and target.kind != "f":
        return None
    if target.kind == "f" and not RUNNING[name].real:
        return None
    if out is not None and not _can_take(out, x, target):
        return None
    if x.dtype.kind != "f":
        filler = None
    if filler is not None and x.ndim > 1 and 0 in x.strides:
        return None  # of a broadcast array NumPy's own copy has an order of its own
    if layout is None:
        # Of one axis, any array of that type does.
        layout = x if x.ndim == 1 and x.dtype == target else _stand_in(x, target)
    lanes = Lanes(x, layout if out is None else out, place)
    return Scan(
        _rate(lanes, name, filler), x.dtype if x.dtype == target else target, x.size,
        x.nbytes + 2 * x.size * target.itemsize, (key_of(lanes, name, filler),),
        partial(_compute, name=name, filler=filler, x=x, out=out, target=target, axis=place),
        ("running", name, "of", x.dtype, "to", target), out=out,
        alone=lanes.is_one and not lanes.is_long(name),
    )  # fmt: skip


def _rate(lanes: Lanes, name: str, filler: float | None) -> str:
    if RUNNING[name].silent and lanes.target.dtype.kind == "f":
        return "running extreme"
    if filler is not None:
        return "running nan"
    if lanes.way == "across":
        return "running across"
    return "running" if lanes.source.dtype == lanes.target.dtype else "running cast"


def _stand_in(x: numpy.ndarray, target: numpy.dtype) -> numpy.ndarray:
    """Return an array of the layout of the result, with no memory to speak of."""
    strides = strides_in_order(x.shape, target.itemsize, order_of(x))
    return numpy.lib.stride_tricks.as_strided(numpy.empty(1, target), x.shape, strides)


def _can_take(out: Any, x: numpy.ndarray, target: numpy.dtype) -> bool:
    """Return whether the result may be written to ``out`` as it is."""
    return (
        type(out) is numpy.ndarray
        and out.dtype == target
        and out.shape == x.shape
        and out.flags.writeable
        and out.flags.aligned
        and 0 not in out.strides
        and not numpy.may_share_memory(out, x)
    )


def _compute(
    crew: Crew, *, name: str, filler: float | None, x: numpy.ndarray, out: Any,
    target: numpy.dtype, axis: int,
) -> Any:  # fmt: skip
    made = empty_in_order(x.shape, target, order_of(x)) if out is None else out
    return _run(crew, name, filler, x, made, axis)


def _run(
    crew: Crew, name: str, filler: float | None, x: numpy.ndarray, made: numpy.ndarray, axis: int
) -> Any:
    met = run(crew, Lanes(x, made, axis), name, filler)
    if RUNNING[name].silent:  # what compares NaN; a conversion to a smaller type may err
        met -= {"invalid value"}
    return None if met and not met.isdisjoint(heard()) else made


def _roads() -> dict[str, Callable[..., Scan | None]]:
    roads: dict[str, Callable[..., Scan | None]] = {
        f"{name}.accumulate": partial(_accumulate, name) for name in RUNNING
    }
    for short, (name, start) in CUMULATIVE.items():
        roads[f"cum{short}"] = roads[f"ndarray.cum{short}"] = partial(_cumulate, name, None)
        roads[f"nancum{short}"] = partial(_cumulate, name, start)
        roads[f"cumulative_{short}"] = partial(_cumulative, name)
    return roads


ROADS: Mapping[str, Callable[..., Scan | None]] = _roads()
