"""Reductions, as functions and as methods, made from the reduction rows.

A reduction runs at once, fused with what is pending below it: its result is usually a scalar.
Arguments are checked by NumPy itself, on a stand-in with one element, so that its errors and dtypes
are NumPy's. ``out`` is written last, when nothing pending reads its memory any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from sys import getrefcount
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr._config import options
from dispatcharr.expr.build import Declined
from dispatcharr.expr.nodes import Node
from dispatcharr.expr.order import order_of
from dispatcharr.face import _fastpath, fallback, limits, tape, together
from dispatcharr.face.array import behind, is_array, operand
from dispatcharr.face.chosen import chooses_enough, chosen, masked_row
from dispatcharr.face.requests import (
    One,
    checked,
    error_modes,
    params_of,
    result_of,
    result_order,
    result_shape,
    state_dtype,
)
from dispatcharr.face.road import engine, fuse
from dispatcharr.face.temporary import is_temporary_argument, is_temporary_self
from dispatcharr.face.waiting import is_far, plans_everything
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.masks import has_short_runs
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Reduction
from dispatcharr.storage import places

__all__ = ["FUNCTIONS", "method", "reduce"]

#: What every row may be asked; the row says of the rest.
_KEYWORDS = {"axis", "dtype", "keepdims", "out"}
#: Bytes of a read-only array of which a copy costs far more than what saves it: ``LENT`` of the
#: compiled fast path.
_LENT = 1 << 24
#: What makes a reduction return an array.
_OF_SHAPE = {"axis", "keepdims", "out"}
#: A row of each cost class: rows that cost as much break even at the same size.
_OF_COST = {row.cost: row.name for row in REDUCTIONS}
#: Bytes read for each that storing an expression and reading it again moves at least.
_CHEAP = 3
_EMPTY: dict[str, Any] = {}


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
    noted = _noted(row, array, temporary, args, kwargs)
    if noted is not None:
        found = tape.reduced(noted)
        if found is not None:
            return found
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
            return _plan_and_run(row, function, array, value, temporary, asked, noted)
        except Declined as declined:
            reason = str(declined)
    return fallback.call(row.name, function, (array, *args), kwargs, reason)


def _noted(
    row: Reduction, array: Any, temporary: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return what the tape knows the reduction by, None where it is planned in any case."""
    noted = tape.note_reduction(row.name, array, not temporary, args, kwargs)
    # Others may follow of what has a name.
    if noted is not None and not temporary and together.may_follow(noted[0][2]):
        return None
    return noted


def _stays_direct(
    row: Reduction, host: numpy.ndarray, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    if places.away and (is_far(host) or is_far(operand(kwargs.get("where")))):
        return False
    if row.spends and host.nbytes >= _LENT and not host.flags.writeable:
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
    array: Any,
    value: Any,
    temporary: bool,
    asked: dict[str, Any],
    noted: Any,
) -> Any:
    if not (temporary or "where" in asked or places.enabled()):
        ask = together.asks(row, asked)
        if ask is not None:
            found = _among_others(ask, row, function, array, value, asked)
            if found is not None:
                return found
    if noted is None and type(value) is numpy.ndarray:
        noted = tape.note_reduction(row.name, array, not temporary, (), asked)
        found = noted and tape.reduced(noted)
        if found is not None:
            return found
    return _alone(row, function, value, temporary, asked, noted)


def _alone(
    row: Reduction,
    function: Callable[..., Any],
    value: Any,
    temporary: bool,
    asked: dict[str, Any],
    noted: Any,
) -> Any:
    dtype, axes, plain = checked(row, function, value, asked)
    params = params_of(row, value, axes, asked)
    errors = error_modes(value.dtype, dtype)
    keep = not temporary
    masked = "where" in asked
    if masked:
        row = masked_row(row, dtype, asked)
        value, keep = chosen(value, asked["where"], temporary), False
    elif type(value) is numpy.ndarray and not value.flags.aligned:
        raise Declined("an operand is misaligned in memory")
    request = fuse.ReduceRequest(
        row, axes, state_dtype(row, value.dtype, dtype, asked), dtype, params, masked
    )
    keepdims, out = bool(asked.get("keepdims")), asked.get("out")
    if out is not None:
        target = _target(out, result_shape(value, axes, keepdims), dtype)
        if not row.unsure and _fits(target, value):
            engine.reduce(value, request, errors, target.ravel(), keep)
            return out
    result = result_of(value, axes, keepdims, dtype)
    told = None if row.unsure else errors
    if noted is not None and out is None and not masked:
        if not row.ordered or order_of(value) is None:
            made = result.shape, dtype, result_order(value, axes, keepdims), plain
            tape.learn_reduction(noted, replace(request, errors=errors), keep, made)
    record = engine.reduce(value, request, told, result.ravel(order="K"), keep)
    result = _seen(row, value, result, out)
    if row.unsure:
        _decline_unsure(record, errors, result, asked, value.shape, axes)
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


def _decline_unsure(
    record: Any,
    errors: Any,
    result: numpy.ndarray,
    asked: dict[str, Any],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
) -> None:
    """Leave to NumPy what it may have something to warn of."""
    if _would_warn(record, errors):
        raise Declined("what the mask lets through may err, which is NumPy's to warn of")
    if numpy.isnan(result).any() and not chooses_enough(asked, shape, axes):
        raise Declined("a slice of which too little is chosen is NumPy's to warn of")


def _among_others(
    ask: together.Ask,
    row: Reduction,
    function: Callable[..., Any],
    array: Any,
    value: Any,
    asked: dict[str, Any],
) -> Any:
    """Return what is asked for if it is there, or made with what follows; None to make it alone."""
    ready = together.kept(array, value, ask)
    if ready is not None:
        return ready()
    dtype, axes, _ = checked(row, function, value, asked)
    habit = together.note(array, ask, axes)
    if habit is None or not habit.believed():
        return None
    return _with_others(ask, array, value, habit, error_modes(value.dtype, dtype))


def _with_others(
    ask: together.Ask, array: Any, value: Any, habit: together.Habit, errors: Any
) -> Any:
    """Return what is asked for, made in one pass with what follows it; None to make it alone."""
    if type(value) is numpy.ndarray and not value.flags.aligned:
        return None
    kept = together.begin(array, value, habit)
    if kept is None:
        return None
    first = One.of(ask, value, errors)
    found = [One.of(one, value, errors) for one in habit.believed()]
    if first is None:
        return None
    others = [one for one in found if one and one.request.axes == first.request.axes]
    if not others:
        return None
    request = replace(first.request, others=tuple([one.request for one in others]))
    more = [one.result.ravel(order="K") for one in others]
    record = engine.reduce(value, request, errors, first.result.ravel(order="K"), False, more)
    if record.fp_errors:
        return None  # who is to be warned of what is told when each is made alone
    for one in others:
        kept.results[one.ask] = partial(one.given, record)
    cheap = record.decision.estimate.bound == "memory"
    together.keep(kept, cheap and record.work.bytes_read <= _CHEAP * value.nbytes)
    return first.given(record)


def _seen(row: Reduction, value: Any, result: numpy.ndarray, out: Any) -> numpy.ndarray:
    """Return the result, at home where it is looked at, in NumPy's memory order."""
    if result.ndim == 0 or row.unsure or row.ordered or out is not None:
        places.home(result)
    if row.ordered and order_of(value) is not None:
        return result.copy()  # NumPy's places are in C order
    return result


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


def _function(row: Reduction) -> Callable[..., Any]:
    numpys = getattr(numpy, row.name)

    def function(a: Any, *args: Any, **kwargs: Any) -> Any:
        count = getrefcount(a)
        if is_array(a):
            return reduce(row, numpys, a, is_temporary_argument(count), args, kwargs)
        if type(a) is numpy.ndarray:
            return reduce(row, numpys, _fastpath.wrap(a), True, args, kwargs)
        if type(a) is numpy.memmap and not args and not kwargs.keys() & _OF_SHAPE:
            # Of all of a map NumPy makes what it makes of an array: a scalar.
            whole = _fastpath.wrap(a.view(numpy.ndarray))
            return reduce(row, numpys, whole, True, args, kwargs)
        return fallback.call(row.name, numpys, (a, *args), kwargs)

    function.__qualname__ = row.name  # the error for a missing argument begins with it
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
