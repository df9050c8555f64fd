"""The ways in: arrays from nothing, from data, and from memory that others hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr._config import options
from dispatcharr.expr.build import generate
from dispatcharr.expr.nodes import Node
from dispatcharr.face import fallback, functions, limits
from dispatcharr.face.array import is_array
from dispatcharr.face.waiting import may_wait, pend
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.table import COPY, GENERATORS
from dispatcharr.storage import places

__all__ = ["FUNCTIONS", "constant_node"]

_ROWS = {row.name: row for row in GENERATORS}
_FLOAT = numpy.dtype(numpy.float64)
_INT = numpy.dtype(numpy.int64)
#: What NumPy makes; recorded as no fallback, since there is nothing to plan.
_PLAIN = (
    "array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "asmatrix", "copy",
    "empty", "empty_like", "eye", "frombuffer", "from_dlpack", "fromfile", "fromfunction",
    "fromiter", "fromstring", "geomspace", "identity", "logspace", "meshgrid", "require", "tri",
    "vander", "zeros", "zeros_like", "asarray_chkfinite", "loadtxt", "genfromtxt", "load",
    "fromregex",
)  # fmt: skip


def _made(name: str) -> Callable[..., Any]:
    numpys = getattr(numpy, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        if places.enabled() and name in ("array", "copy") and len(args) == 1 and is_array(args[0]):
            made = None if kwargs else functions.copied(args[0])
            if made is not None:
                return made
        return fallback.call(name, numpys, args, kwargs, None)

    return fallback.forward(name, numpys, function, opaque=True)


def _generated(
    name: str, params: tuple[Any, ...], shape: tuple[int, ...], dtype: numpy.dtype[Any]
) -> Any:
    """Return a pending array of a generator row, None where it may not wait or does not pay."""
    size = math.prod(shape)
    if size * dtype.itemsize < limits.UNREAD and options().defer != "always":
        return None
    least = limits.firm_limit_of(COPY.name, dtype)
    if size * dtype.itemsize < least and options().defer != "always":
        return None
    if not is_planned(dtype):
        return None
    node = generate(_ROWS[name], params, shape, dtype)
    return pend(node) if may_wait(node, options()) else None


def constant_node(value: Any, shape: tuple[int, ...]) -> Node:
    """Return the node of an array that is ``value``, a scalar of NumPy's, everywhere."""
    return generate(_ROWS["full"], (value,), shape, value.dtype)


def _shape(shape: Any) -> tuple[int, ...] | None:
    if type(shape) is int:
        return (shape,) if shape >= 0 else None
    if type(shape) in (tuple, list) and all(type(n) is int and n >= 0 for n in shape):
        return tuple(shape)
    return None


def arange(*args: Any, **kwargs: Any) -> Any:
    """Return evenly spaced values; see :func:`numpy.arange`."""
    if len(args) == 1 and type(args[0]) is int and args[0] < limits.UNREAD // 8:
        if options().defer != "always":
            return _numpys_arange(*args, **kwargs)
    if (
        1 <= len(args) <= 3
        and not kwargs
        and all(type(a) is int for a in args)
        and numpy.arange(0).dtype == _INT
    ):
        start, stop, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
        if step != 0 and max(abs(start), abs(stop), abs(step)) < 1 << 62:
            size = max(-(-(stop - start) // step), 0)
            first, delta = _INT.type(start), _INT.type(step)
            made = _generated("arange", (first, delta), (size,), _INT)
            if made is not None:
                return made
    return _numpys_arange(*args, **kwargs)


def _endpoint(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0, *, device: Any = None,
) -> tuple[Any, ...] | None:  # fmt: skip
    """Return the parameters of the ``linspace`` row, None where NumPy is to do it."""
    plain = all(type(v) in (int, float) for v in (start, stop))
    if not plain or type(num) is not int or num < 2 or retstep or axis or device is not None:
        return None
    if dtype is not None and numpy.dtype(dtype) != _FLOAT:
        return None
    start, stop = float(start), float(stop)
    step = (stop - start) / (num - 1 if endpoint else num)
    if step == 0 or not math.isfinite(step):
        return None
    return _FLOAT.type(start), _FLOAT.type(step), _FLOAT.type(stop) if endpoint else None, num


def linspace(*args: Any, **kwargs: Any) -> Any:
    """Return evenly spaced numbers over an interval; see :func:`numpy.linspace`."""
    try:
        params = _endpoint(*args, **kwargs)
    except (TypeError, OverflowError):
        params = None  # NumPy words the error, or understands more
    if params is not None:
        made = _generated("linspace", params, (params[3],), _FLOAT)
        if made is not None:
            return made
    return _numpys_linspace(*args, **kwargs)


def _filled(shape: Any, value: Any, dtype: Any) -> Any:
    extents = _shape(shape)
    if extents is None or type(value) not in (int, float, complex, bool):
        return None
    try:
        wanted = numpy.dtype(dtype) if dtype is not None else numpy.asarray(value).dtype
        with numpy.errstate(all="raise"):
            constant = numpy.asarray(value, dtype=wanted)[()]
    except (TypeError, ValueError, OverflowError, FloatingPointError):
        return None  # NumPy words the error or warning
    if not is_planned(wanted) or (wanted.kind == "b" and value not in (0, 1)):
        return None
    return _generated("full", (constant,), extents, wanted)


def full(shape: Any, fill_value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Return an array filled with one value; see :func:`numpy.full`."""
    if not args and not kwargs:
        made = _filled(shape, fill_value, dtype)
        if made is not None:
            return made
    return _numpys_full(shape, fill_value, dtype, *args, **kwargs)


def ones(shape: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Return an array of ones; see :func:`numpy.ones`."""
    if not args and not kwargs:
        made = _filled(shape, 1, float if dtype is None else dtype)
        if made is not None:
            return made
    return _numpys_ones(shape, dtype, *args, **kwargs)


def full_like(a: Any, fill_value: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a filled array shaped as ``a``; see :func:`numpy.full_like`."""
    if not args and not kwargs and is_array(a) and _is_c_order(a):
        made = _filled(a.shape, fill_value, a.dtype)
        if made is not None:
            return made
    return _numpys_full_like(a, fill_value, *args, **kwargs)


def ones_like(a: Any, *args: Any, **kwargs: Any) -> Any:
    """Return an array of ones shaped as ``a``; see :func:`numpy.ones_like`."""
    if not args and not kwargs and is_array(a) and _is_c_order(a):
        made = _filled(a.shape, 1, a.dtype)
        if made is not None:
            return made
    return _numpys_ones_like(a, *args, **kwargs)


def _is_c_order(a: Any) -> bool:
    value = a._value
    if type(value) is Node:
        return value.order is None
    return bool(value.flags.c_contiguous)


_numpys_arange = _made("arange")
_numpys_linspace = _made("linspace")
_numpys_full = _made("full")
_numpys_full_like = _made("full_like")
_numpys_ones = _made("ones")
_numpys_ones_like = _made("ones_like")

FUNCTIONS: dict[str, Any] = {name: _made(name) for name in _PLAIN}
for _planned in (arange, linspace, full, full_like, ones, ones_like):
    _planned.__doc__ = getattr(numpy, _planned.__name__).__doc__
    _planned.__dict__["__wrapped__"] = getattr(numpy, _planned.__name__)  # whose signature it is
    _planned.__dict__["__text_signature__"] = getattr(
        _planned.__dict__["__wrapped__"], "__text_signature__", None
    )
    FUNCTIONS[_planned.__name__] = _planned
