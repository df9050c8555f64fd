"""Reductions, as functions and as methods, made from the reduction rows.

A reduction runs at once, fused with what is pending below it: its result is usually a scalar.
Arguments are checked by NumPy itself, on a stand-in with one element, so that its errors and dtypes
are NumPy's. ``out`` is written last, when nothing pending reads its memory any more.
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
from dispatcharr.face.array import behind, is_array, operand
from dispatcharr.face.chosen import chooses_enough, chosen, masked_row
from dispatcharr.face.road import engine, fuse
from dispatcharr.face.temporary import is_temporary_argument, is_temporary_self
from dispatcharr.face.waiting import is_far, plans_everything
from dispatcharr.ops.kinds import INEXACT, is_planned
from dispatcharr.ops.masks import has_short_runs
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Reduction
from dispatcharr.storage import places

__all__ = ["FUNCTIONS", "method", "reduce"]

#: What every row may be asked; the row says of the rest.
_KEYWORDS = {"axis", "dtype", "keepdims", "out"}
#: A row of each cost class: rows that cost as much break even at the same size.
_OF_COST = {row.cost: row.name for row in REDUCTIONS}
_EMPTY: dict[str, Any] = {}
_stand_ins: dict[tuple[Any, ...], tuple[numpy.dtype[Any], tuple[int, ...], bool]] = {}


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
    if type(value) is not Node and not everything and _stays_direct(row, value, args, kwargs):
        if _events.listened():
            _events.emit(_events.DirectRecord(row.name))
        if not args and not kwargs:
            return _fastpath.wrap(function(places.look(value)))
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
            return _plan_and_run(row, function, value, temporary, asked)
        except Declined as declined:
            reason = str(declined)
    return fallback.call(row.name, function, (array, *args), kwargs, reason)


def _stays_direct(
    row: Reduction, host: numpy.ndarray, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    if places.away and (is_far(host) or is_far(operand(kwargs.get("where")))):
        return False
    if "where" not in kwargs or row.masked is None:
        if host.nbytes < limits.limit_of(row.name, host.dtype):
            return True
        return host.dtype.kind in row.unshared and not args and not kwargs and host.flags.forc
    if host.nbytes < limits.limit_of(_masked_as(row), host.dtype):
        return True
    # Along the runs of a mask NumPy's own loops are as fast as ours.
    mask = operand(kwargs["where"])
    return type(mask) is numpy.ndarray and not has_short_runs(places.look(mask), host.shape)


def _masked_as(row: Reduction) -> str:
    """Return the name of a row that breaks even where ``row`` with a mask does."""
    return row.name if row.masked is None else _OF_COST[row.masked.cost]


def _planned_arguments(
    row: Reduction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the arguments by name; None if others are given than are planned."""
    if not args and not kwargs:
        return _EMPTY
    if len(args) > 1 or (args and "axis" in kwargs):
        return None
    asked = {"axis": args[0], **kwargs} if args else dict(kwargs)
    # NumPy's own default, where it asks nothing.
    if asked.get("where") is True and row.masked is not None:
        del asked["where"]
    for name in asked.keys() - _KEYWORDS:
        if name not in row.params and not (name == "where" and row.masked is not None):
            return None
    return asked


def _plan_and_run(
    row: Reduction,
    function: Callable[..., Any],
    value: Any,
    temporary: bool,
    asked: dict[str, Any],
) -> Any:
    dtype, axes, plain = _checked(row, function, value, asked)
    params = _params(row, value, axes, asked)
    errors = _error_modes(value.dtype, dtype)
    keep = not temporary
    masked = "where" in asked
    if masked:
        row = masked_row(row, dtype, asked)
        value, keep = chosen(value, asked["where"], temporary), False
    elif type(value) is numpy.ndarray and not value.flags.aligned:
        raise Declined("an operand is misaligned in memory")
    request = fuse.ReduceRequest(
        row, axes, _state_dtype(row, value.dtype, dtype, asked), dtype, params, masked
    )
    keepdims, out = bool(asked.get("keepdims")), asked.get("out")
    if out is not None:
        target = _target(out, _result_shape(value, axes, keepdims), dtype)
        if not row.unsure and _fits(target, value):
            engine.reduce(value, request, errors, target.ravel(), keep)
            return out
    result = _result(value, axes, keepdims, dtype)
    told = None if row.unsure else errors
    record = engine.reduce(value, request, told, result.ravel(order="K"), keep)
    result = _seen(row, value, result, out)
    if row.unsure and _would_warn(record, errors):
        raise Declined("what the mask lets through may err, which is NumPy's to warn of")
    if row.unsure and numpy.isnan(result).any() and not chooses_enough(asked, value.shape, axes):
        raise Declined("a slice of which too little is chosen is NumPy's to warn of")
    if out is not None:
        engine.before_write(target)
        with places.writing((target,)):
            numpy.copyto(target, result)
        return out
    if result.ndim == 0:
        return int(result) if plain else result[()]
    made = _fastpath.wrap(result)
    made._origin = record
    return made


def _seen(row: Reduction, value: Any, result: numpy.ndarray, out: Any) -> numpy.ndarray:
    """Return the result, at home where it is looked at, in NumPy's memory order."""
    if result.ndim == 0 or row.unsure or row.ordered or out is not None:
        places.home(result)
    if row.ordered and order_of(value) is not None:
        return result.copy()  # NumPy's places are in C order
    return result


def _params(
    row: Reduction, value: Any, axes: tuple[int, ...], asked: dict[str, Any]
) -> tuple[tuple[str, Any], ...]:
    """Return what the row's ``finish`` is to be told."""
    count = 1
    for axis in axes:
        count *= value.shape[axis]
    ddof = asked.get("ddof", 0)
    if not isinstance(ddof, (int, float)) or (ddof and count <= ddof):
        raise Declined("no degrees of freedom are left")
    told = {name: asked[name] for name in row.params if name in asked}
    if "initial" in told:
        told["initial"] = _initial(row, value.dtype, asked)
    return tuple(told.items())


def _initial(row: Reduction, source: numpy.dtype[Any], asked: dict[str, Any]) -> Any:
    """Return ``initial`` as NumPy has it: what the reduction of nothing gives."""
    given = asked["initial"]
    is_number = isinstance(given, (bool, int, float, complex, numpy.number, numpy.bool))
    if row.ufunc is None or not is_number or numpy.iscomplexobj(given) > (source.kind == "c"):
        raise Declined("its initial is converted by NumPy")
    nothing = numpy.empty(0, source)
    try:
        with numpy.errstate(all="raise"):
            found = row.ufunc.reduce(nothing, dtype=asked.get("dtype"), initial=given)
    except (ArithmeticError, TypeError, ValueError):
        raise Declined("NumPy may refuse its initial") from None
    if row.ufunc is numpy.multiply and found.dtype.kind in "fc":
        if found == 0 or not numpy.isfinite(found):
            raise Declined("an initial that swallows what it is multiplied with is NumPy's")
    if found == 0 and found.dtype.kind in "fc":
        # Sums of blocks lose the sign of zero, which NumPy's sum keeps if it starts with it.
        if numpy.signbit([found.real, found.imag]).any():
            raise Declined("an initial of negative zero is NumPy's")
    return found


def _error_modes(*dtypes: numpy.dtype[Any]) -> tuple[str, ...] | None:
    """Return the modes in force if a reduction of these dtypes may err."""
    if not any(dtype.char in INEXACT for dtype in dtypes):
        return None
    modes = numpy.geterr()
    errors = (modes["divide"], modes["over"], modes["under"], modes["invalid"])
    if any(mode not in ("warn", "ignore") for mode in errors):
        raise Declined("errstate asks for an action at once")
    return errors


_KINDS = ("divide by zero", "overflow", "underflow", "invalid value")


def _would_warn(record: Any, errors: tuple[str, ...] | None) -> bool:
    """Return whether a kernel met what the modes in force warn of."""
    modes = dict(zip(_KINDS, errors or (), strict=False))
    return any(modes.get(kind) == "warn" for kind, _ in record.fp_errors)


def _target(out: Any, shape: tuple[int, ...], dtype: numpy.dtype[Any]) -> numpy.ndarray:
    """Return the memory behind ``out``, where the result can be written there as it is."""
    host = behind(out) if is_array(out) else out
    if type(host) is not numpy.ndarray or host.shape != shape or host.dtype != dtype:
        raise Declined("its out is not of the result's shape and dtype")
    if not host.flags.writeable or not host.flags.aligned or 0 in host.strides:
        raise Declined("its out is not plain memory")
    if dtype.char == "e":
        raise Declined("NumPy rounds halves on their way into out")
    return host


def _fits(target: numpy.ndarray, value: Any) -> bool:
    """Return whether the reduction of ``value`` may write ``target`` itself, and make it ready."""
    if not target.flags.c_contiguous or order_of(value) is not None:
        return False
    leaves = [leaf.host for leaf in value.leaves] if type(value) is Node else [value]
    if any(numpy.may_share_memory(leaf, target) for leaf in leaves):
        return False
    engine.before_write(target)
    return True


def _result_shape(value: Any, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    if keepdims:
        return tuple([1 if i in axes else extent for i, extent in enumerate(value.shape)])
    return tuple([extent for i, extent in enumerate(value.shape) if i not in axes])


def _result(
    value: Any, axes: tuple[int, ...], keepdims: bool, dtype: numpy.dtype[Any]
) -> numpy.ndarray:
    """Return memory for the result whose axes are in the order of those of ``value``."""
    axis_order = order_of(value)
    if axis_order is not None and not keepdims:
        kept = [axis for axis in range(len(value.shape)) if axis not in axes]
        axis_order = tuple([kept.index(axis) for axis in axis_order if axis not in axes])
    return empty_in_order(_result_shape(value, axes, keepdims), dtype, axis_order)


def _checked(
    row: Reduction, function: Callable[..., Any], value: Any, asked: dict[str, Any]
) -> tuple[numpy.dtype[Any], tuple[int, ...], bool]:
    """Have NumPy check the arguments on a stand-in.

    Return the result's dtype, the axes, and whether the result is an int of Python's, as the count
    of everything was before NumPy 2.3.
    """
    axis = asked.get("axis")
    ndim = len(value.shape)
    # What is equal may differ for NumPy: 1 and 1.0 as axes, dtypes of two names for one size.
    kinds = tuple(map(type, axis)) if isinstance(axis, tuple) else type(axis)
    wanted = asked.get("dtype")
    key = (row.name, value.dtype.char, ndim, axis, kinds, "dtype" in asked, wanted,
           getattr(wanted, "char", None), bool(asked.get("keepdims")), "out" in asked)  # fmt: skip
    try:
        found = _stand_ins.get(key)
        keeps = wanted is None or numpy.can_cast(value.dtype, wanted, "same_kind")
    except TypeError:
        raise Declined("its arguments are not planned") from None
    if not keeps or (wanted is not None and numpy.dtype(wanted).kind not in row.kinds):
        raise Declined("a reduction in the dtype asked for is not planned")
    if found is None:
        stand_in = numpy.ones((1,) * ndim, value.dtype)
        checked = {name: asked[name] for name in asked if name in ("axis", "dtype", "keepdims")}
        if "out" in asked:
            checked["out"] = None
        with numpy.errstate(all="ignore"):
            answer = function(stand_in, **checked)
        axes = (
            tuple(range(ndim))
            if axis is None
            else numpy.lib.array_utils.normalize_axis_tuple(axis, ndim)
        )
        if len(_stand_ins) > 4096:
            _stand_ins.clear()
        found = _stand_ins[key] = numpy.asarray(answer).dtype, axes, type(answer) is int
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

    return fallback.forward(row.name, numpys, function, reads=2, masked=_masked_as(row))


def method(row: Reduction) -> Callable[..., Any]:
    """Return the method of ``ndarray`` that runs ``row``."""
    numpys = getattr(numpy.ndarray, row.name)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        count = getrefcount(self)
        if not is_array(self):
            return fallback.call(row.name, numpys, (self, *args), kwargs)
        return reduce(row, numpys, self, is_temporary_self(count), args, kwargs)

    return fallback.forward(row.name, numpys, run, "ndarray", reads=2, masked=_masked_as(row))


FUNCTIONS: dict[str, Any] = {row.name: _function(row) for row in REDUCTIONS}
FUNCTIONS["amin"] = FUNCTIONS["min"]
FUNCTIONS["amax"] = FUNCTIONS["max"]
