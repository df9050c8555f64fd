"""Reductions, as functions and as methods, made from the reduction rows.

A reduction runs at once, fused with what is pending below it: its result is usually a scalar.
Arguments are checked by NumPy itself, on a stand-in with one element, so that its errors and dtypes
are NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr._config import options
from dispatcharr.expr.build import Declined
from dispatcharr.expr.nodes import Node
from dispatcharr.expr.order import empty_in_order, order_of
from dispatcharr.face import _fastpath, fallback, limits
from dispatcharr.face.array import is_array, operand
from dispatcharr.face.road import engine, fuse
from dispatcharr.face.temporary import is_temporary_argument, is_temporary_self
from dispatcharr.face.waiting import plans_everything
from dispatcharr.ops.kinds import INEXACT, is_planned
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Reduction

__all__ = ["FUNCTIONS", "method", "reduce"]

_PLANNED_KEYWORDS = {"axis", "dtype", "keepdims", "ddof", "out"}
_EMPTY: dict[str, Any] = {}
_stand_ins: dict[tuple[Any, ...], tuple[numpy.dtype[Any], tuple[int, ...]]] = {}


def reduce(
    row: Reduction,
    function: Callable[..., Any],
    array: Any,
    temporary: bool,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Reduce one of our arrays as ``function`` does.

    Parameters
    ----------
    row : Reduction
        The operation.
    function : callable
        NumPy's own, called with the evaluated array where the call is not planned.
    array : ndarray
        One of ours.
    temporary : bool
        Whether no name holds ``array``, so that its values need not be stored.
    args, kwargs
        The other arguments, as given.
    """
    value = operand(array)
    chosen = options()
    everything = plans_everything(chosen)
    if type(value) is not Node and not everything and _stays_direct(row, value):
        if _events.listened():
            _events.emit(_events.DirectRecord(row.name))
        if not args and not kwargs:
            return _fastpath.wrap(function(value))
        return fallback.call(row.name, function, (array, *args), kwargs, "it is small")
    asked = _planned_arguments(row, args, kwargs)
    if asked is None:
        reason = "its arguments are not planned"
    elif (
        value.dtype.kind not in row.kinds
        or value.dtype.char in row.without
        or not is_planned(value.dtype)
    ):
        reason = f"dtype {value.dtype} is not planned"
    elif value.size == 0 or value.shape == ():
        reason = "it has one element or none"
    else:
        try:
            return _plan_and_run(row, function, value, not temporary, asked)
        except Declined as declined:
            reason = str(declined)
    return fallback.call(row.name, function, (array, *args), kwargs, reason)


def _stays_direct(row: Reduction, host: numpy.ndarray) -> bool:
    if host.nbytes < limits.limit_of(row.name):
        return True
    # NumPy stops at the first element that decides.
    return row.cost == "reduce_logical"


def _planned_arguments(
    row: Reduction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any] | None:
    """Return axis, dtype, keepdims and the row's own parameters; None if others are given."""
    if not args and not kwargs:
        return _EMPTY
    if len(args) > 1 or not kwargs.keys() <= _PLANNED_KEYWORDS:
        return None
    asked = dict(kwargs)
    if asked.pop("out", None) is not None:
        return None
    if args:
        if "axis" in asked:
            return None
        asked["axis"] = args[0]
    if "ddof" in asked and "ddof" not in row.params:
        return None
    return asked


def _plan_and_run(
    row: Reduction,
    function: Callable[..., Any],
    value: Any,
    keep: bool,
    asked: dict[str, Any],
) -> Any:
    dtype, axes = _checked(row, function, value, asked)
    count = 1
    for axis in axes:
        count *= value.shape[axis]
    ddof = asked.get("ddof", 0)
    if not isinstance(ddof, (int, float)) or (ddof and count <= ddof):
        raise Declined("no degrees of freedom are left")
    if row.ordered and len(axes) != len(value.shape):
        raise Declined("an arg-reduction along one axis is NumPy's")
    errors: tuple[str, ...] | None = None
    if value.dtype.char in INEXACT or dtype.char in INEXACT:
        modes = numpy.geterr()
        errors = (modes["divide"], modes["over"], modes["under"], modes["invalid"])
        if any(mode not in ("warn", "ignore") for mode in errors):
            raise Declined("errstate asks for an action at once")
    request = fuse.ReduceRequest(
        row, axes, _state_dtype(row, value.dtype, dtype, asked), dtype,
        tuple((name, asked[name]) for name in row.params if name in asked),
    )  # fmt: skip
    if type(value) is numpy.ndarray:
        value = _whole(value)
    out = _result(value, axes, bool(asked.get("keepdims")), dtype)
    record = engine.reduce(value, request, errors, out.ravel(order="K"), keep)
    if out.ndim == 0:
        return out[()]
    result = _fastpath.wrap(out)
    result._origin = record
    return result


def _result(
    value: Any, axes: tuple[int, ...], keepdims: bool, dtype: numpy.dtype[Any]
) -> numpy.ndarray:
    """Return memory for the result whose axes are in the order of those of ``value``."""
    axis_order = order_of(value)
    if keepdims:
        shape = tuple(1 if axis in axes else extent for axis, extent in enumerate(value.shape))
        return empty_in_order(shape, dtype, axis_order)
    kept = [axis for axis in range(len(value.shape)) if axis not in axes]
    if axis_order is not None:
        axis_order = tuple([kept.index(axis) for axis in axis_order if axis not in axes])
    return empty_in_order(tuple([value.shape[axis] for axis in kept]), dtype, axis_order)


def _whole(host: numpy.ndarray) -> numpy.ndarray:
    if not host.flags.aligned:
        raise Declined("an operand is misaligned in memory")
    return host


def _checked(
    row: Reduction, function: Callable[..., Any], value: Any, asked: dict[str, Any]
) -> tuple[numpy.dtype[Any], tuple[int, ...]]:
    """Have NumPy check the arguments on a stand-in; return the result's dtype and the axes."""
    axis = asked.get("axis")
    ndim = len(value.shape)
    # What is equal may differ for NumPy: 1 and 1.0 as axes, dtypes of two names for one size.
    kinds = tuple(map(type, axis)) if isinstance(axis, tuple) else type(axis)
    wanted = asked.get("dtype")
    key = (row.name, value.dtype.char, ndim, axis, kinds, "dtype" in asked, wanted,
           getattr(wanted, "char", None), bool(asked.get("keepdims")))  # fmt: skip
    try:
        found = _stand_ins.get(key)
        keeps = wanted is None or numpy.can_cast(value.dtype, wanted, "same_kind")
    except TypeError:
        raise Declined("its arguments are not planned") from None
    if not keeps or (wanted is not None and numpy.dtype(wanted).kind not in row.kinds):
        raise Declined("a reduction in the dtype asked for is not planned")
    if found is None:
        stand_in = numpy.ones((1,) * ndim, value.dtype)
        checked = {name: asked[name] for name in asked if name != "ddof"}
        with numpy.errstate(all="ignore"):
            answer = function(stand_in, **checked)
        axes = (
            tuple(range(ndim))
            if axis is None
            else numpy.lib.array_utils.normalize_axis_tuple(axis, ndim)
        )
        if len(_stand_ins) > 4096:
            _stand_ins.clear()
        found = _stand_ins[key] = numpy.asarray(answer).dtype, axes
    if not is_planned(found[0]) or not found[1]:
        raise Declined("its result is not planned")
    return found


def _state_dtype(
    row: Reduction,
    source: numpy.dtype[Any],
    result: numpy.dtype[Any],
    asked: dict[str, Any],
) -> numpy.dtype[Any] | None:
    """Return the dtype that NumPy accumulates in."""
    if row.cost not in ("reduce_sum", "reduce_prod", "reduce_moments"):
        return None
    if row.name == "mean" and source.kind in "biu" and asked.get("dtype") is None:
        return numpy.dtype(numpy.float64)
    # NumPy sums halves in float32 within a call; blocks must keep that between them.
    return numpy.dtype(numpy.float32) if result.char == "e" else result


def _function(row: Reduction) -> Callable[..., Any]:
    numpys = getattr(numpy, row.name)

    def function(a: Any, *args: Any, **kwargs: Any) -> Any:
        count = getrefcount(a)
        if is_array(a):
            return reduce(row, numpys, a, is_temporary_argument(count), args, kwargs)
        if type(a) is numpy.ndarray:
            return reduce(row, numpys, _fastpath.wrap(a), False, args, kwargs)
        return fallback.call(row.name, numpys, (a, *args), kwargs)

    return fallback.forward(row.name, numpys, function)


def method(row: Reduction) -> Callable[..., Any]:
    """Return the method of ``ndarray`` that runs ``row``."""
    numpys = getattr(numpy.ndarray, row.name)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        count = getrefcount(self)
        if not is_array(self):
            return fallback.call(row.name, numpys, (self, *args), kwargs)
        return reduce(row, numpys, self, is_temporary_self(count), args, kwargs)

    return fallback.forward(row.name, numpys, run, "ndarray")


FUNCTIONS: dict[str, Any] = {row.name: _function(row) for row in REDUCTIONS}
FUNCTIONS["amin"] = FUNCTIONS["min"]
FUNCTIONS["amax"] = FUNCTIONS["max"]
