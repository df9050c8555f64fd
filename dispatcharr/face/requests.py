"""What a reduction asks for: its arguments, checked by NumPy itself on a stand-in.

The stand-in has one element, so that errors and dtypes are NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr.expr.build import Declined
from dispatcharr.expr.order import empty_in_order, order_of
from dispatcharr.face import _fastpath
from dispatcharr.face.road import fuse
from dispatcharr.face.together import Ask
from dispatcharr.ops.kinds import INEXACT, is_planned
from dispatcharr.ops.reductions import REDUCTION_BY_NAME
from dispatcharr.ops.row import Reduction

__all__ = [
    "One", "checked", "error_modes", "params_of", "result_of", "result_order",
    "result_shape", "state_dtype",
]  # fmt: skip

_stand_ins: dict[tuple[Any, ...], tuple[numpy.dtype[Any], tuple[int, ...], bool]] = {}


class One:
    """One of several reductions that are made in one pass."""

    __slots__ = ("ask", "plain", "request", "result")

    def __init__(
        self, ask: Ask, request: fuse.ReduceRequest, result: numpy.ndarray, plain: bool
    ) -> None:  # fmt: skip
        self.ask = ask
        self.request = request
        self.result = result
        self.plain = plain

    @classmethod
    def of(cls, ask: Ask, value: Any, errors: Any) -> One | None:
        """Return the reduction that ``ask`` names, None where it is not made with others."""
        row = REDUCTION_BY_NAME[ask[0]]
        asked = dict(ask[1])
        if value.dtype.kind not in row.kinds or value.dtype.char in row.without:
            return None
        try:
            if row.ordered and order_of(value) is not None:
                raise Declined("places are counted in C order")
            function = getattr(numpy, row.name)
            dtype, axes, plain = checked(row, function, value, asked)
            if error_modes(value.dtype, dtype) != errors:
                raise Declined("its errors are not those of the others")
            params = params_of(row, value, axes, asked)
            state = state_dtype(row, value.dtype, dtype, asked)
        except Declined:
            return None
        request = fuse.ReduceRequest(row, axes, state, dtype, params)
        made = result_of(value, axes, bool(asked.get("keepdims")), dtype)
        return cls(ask, request, made, plain)

    def given(self, record: Any) -> Any:
        """Return the result as the user gets it."""
        if self.result.ndim == 0:
            return int(self.result) if self.plain else self.result[()]
        made = _fastpath.wrap(self.result)
        made._origin = record
        return made


def params_of(
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


def error_modes(*dtypes: numpy.dtype[Any]) -> tuple[str, ...] | None:
    """Return the modes in force if a reduction of these dtypes may err."""
    if not any(dtype.char in INEXACT for dtype in dtypes):
        return None
    modes = numpy.geterr()
    errors = (modes["divide"], modes["over"], modes["under"], modes["invalid"])
    if any(mode not in ("warn", "ignore") for mode in errors):
        raise Declined("errstate asks for an action at once")
    return errors


def result_shape(value: Any, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    if keepdims:
        return tuple([1 if i in axes else extent for i, extent in enumerate(value.shape)])
    return tuple([extent for i, extent in enumerate(value.shape) if i not in axes])


def result_of(
    value: Any, axes: tuple[int, ...], keepdims: bool, dtype: numpy.dtype[Any]
) -> numpy.ndarray:
    """Return memory for the result whose axes are in the order of those of ``value``."""
    shape = result_shape(value, axes, keepdims)
    return empty_in_order(shape, dtype, result_order(value, axes, keepdims))


def result_order(value: Any, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...] | None:
    """Return the memory order of the result."""
    axis_order = order_of(value)
    if axis_order is not None and not keepdims:
        kept = [axis for axis in range(len(value.shape)) if axis not in axes]
        axis_order = tuple([kept.index(axis) for axis in axis_order if axis not in axes])
    return axis_order


def checked(
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
        try:
            with numpy.errstate(all="ignore"):
                answer = function(stand_in, **checked)
        except ValueError:
            if "where" in asked:  # of two mistakes NumPy may word the other
                raise Declined("its arguments are refused by NumPy") from None
            raise
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
    if value.dtype.kind in row.copied:
        _check_order(value, found[1], asked)
    return found


def _check_order(value: Any, axes: tuple[int, ...], asked: dict[str, Any]) -> None:
    """Leave a broadcast array to NumPy where the result has the order of NumPy's copy of it."""
    if type(value) is numpy.ndarray and 0 in value.strides:
        if value.ndim - len(axes) > 1 or asked.get("keepdims"):
            raise Declined("NumPy reduces a copy, whose axes are in another order")


def state_dtype(
    row: Reduction,
    source: numpy.dtype[Any],
    result: numpy.dtype[Any],
    asked: dict[str, Any],
) -> numpy.dtype[Any] | None:
    """Return the dtype that NumPy accumulates in."""
    if row.cost not in ("reduce_sum", "reduce_prod", "reduce_moments"):
        return None
    if row.cost == "reduce_moments" and source.kind == "c":
        if asked.get("dtype") is not None:
            raise Declined("a variance of complex numbers in another dtype is not planned")
        return source  # the mean is complex, the variance is not
    if row.name == "mean" and source.kind in "biu" and asked.get("dtype") is None:
        return numpy.dtype(numpy.float64)
    if result.char != "e":
        return result
    if source.char not in "?bBe":
        raise Declined("NumPy casts each element to float16, which may be infinite there")
    # NumPy sums halves in float32 within a call; blocks must keep that between them.
    return numpy.dtype(numpy.float32)
