"""Functions whose answers NumPy gives in another form, or differently, than the standard asks.

They take NumPy's other keywords too. Operators are not among them: ``x // y`` is NumPy's.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy

import dispatcharr as np
from dispatcharr.array_api.results import table
from dispatcharr.face.devices import CPU, taken

__all__ = ["FUNCTIONS", "FloatInfo"]


def _typed(x: Any) -> Any:
    """Return the dtype of an array or a scalar of NumPy's, anything else as it is."""
    return x if isinstance(x, type) else getattr(x, "dtype", x)


def _is_float(*operands: Any) -> bool:
    return numpy.result_type(*[_typed(x) for x in operands]).kind == "f"


# --- creation -------------------------------------------------------------------------------------


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """Return an array of what DLPack hands over; see :func:`numpy.from_dlpack`."""
    came = None if type(x) is np.ndarray else taken(x)
    if came is not None:
        if copy is False:
            raise BufferError("from_dlpack: copy=False, and what is on a device comes as a copy")
        return came if device is None else came.to_device(device)
    here = x.device if type(x) is np.ndarray else CPU
    wanted = here if device is None else device
    if copy is False and wanted != here:
        raise BufferError(f"from_dlpack: copy=False, and the array is on {here}, not on {wanted}")
    if here != CPU:
        return (x.to_device(CPU) if copy else x).to_device(wanted)
    # What is not given is not said: NumPy 2.0 knows neither.
    given = {"device": device and CPU, "copy": copy}
    keys: Any = {name: value for name, value in given.items() if value is not None}
    made: Any = np.from_dlpack(x, **keys)
    return made.to_device(wanted)


# --- order ----------------------------------------------------------------------------------------


def sort(
    x: Any, /, axis: Any = -1, kind: Any = None, order: Any = None, *,
    descending: bool = False, stable: bool = True,
) -> Any:  # fmt: skip
    """Return a sorted copy; see :func:`numpy.sort`."""
    if kind is None and order is None and not descending:
        return np.sort(x, axis=axis, stable=stable)
    if kind is not None or order is not None:
        found = np.sort(x, axis=axis, kind=kind, order=order)
    else:
        found = np.sort(x, axis=axis, stable=stable)
    return np.flip(found, axis=axis) if descending else found


def argsort(
    x: Any, /, axis: Any = -1, kind: Any = None, order: Any = None, *,
    descending: bool = False, stable: bool = True,
) -> Any:  # fmt: skip
    """Return the indices that sort; see :func:`numpy.argsort`."""
    keys: dict[str, Any] = {"stable": stable}
    if kind is not None or order is not None:
        keys = {"kind": kind, "order": order}
    if not descending:
        return np.argsort(x, axis=axis, **keys)
    # Equal elements keep their order: they are turned round twice.
    found = np.flip(np.argsort(np.flip(x, axis=axis), axis=axis, **keys), axis=axis)
    return x.shape[axis] - 1 - found


def take_along_axis(x: Any, indices: Any, /, axis: Any = -1, **more: Any) -> Any:
    """Take values by indices along an axis; see :func:`numpy.take_along_axis`."""
    return np.take_along_axis(x, indices, axis=axis, **more)


def count_nonzero(x: Any, /, axis: Any = None, *, keepdims: bool = False) -> Any:
    """Count what is not zero; see :func:`numpy.count_nonzero`."""
    return np.asarray(np.count_nonzero(x, axis=axis, keepdims=keepdims))


# --- values ---------------------------------------------------------------------------------------


def clip(x: Any, /, min: Any = None, max: Any = None, **more: Any) -> Any:
    """Limit elements, in the dtype of ``x``; see :func:`numpy.clip`."""
    kind = x.dtype
    if min is None and max is None and not more:
        return x.copy()
    if kind.kind in "iu":
        min, max = _within(min, kind), _within(max, kind)
    found = np.clip(x, min, max, **more)
    if more or found.dtype == kind:
        return found
    if kind.kind in "iu":
        limits = numpy.iinfo(kind)
        found = np.clip(found, limits.min, limits.max)
    return np.asarray(found).astype(kind)


def _within(bound: Any, kind: numpy.dtype[Any]) -> Any:
    """Return the nearest number to one of Python's that ``kind`` has."""
    if type(bound) is not int:
        return bound
    limits = numpy.iinfo(kind)
    return builtins.min(builtins.max(bound, int(limits.min)), int(limits.max))


def floor_divide(x1: Any, x2: Any, /, *args: Any, **more: Any) -> Any:
    """Divide and round down, with quotients of infinity as division has them.

    NumPy's answer to ``inf // 1`` is nan, and to ``-1 // inf`` it is -1.
    """
    found = np.floor_divide(x1, x2, *args, **more)
    if args or more or not _is_float(x1, x2):
        return found
    return np.where(np.isinf(x1) | np.isinf(x2), np.divide(x1, x2), found)


def expm1(x: Any, /, *args: Any, **more: Any) -> Any:
    """Return ``exp(x) - 1``; see :func:`numpy.expm1`, which does not know complex infinities."""
    found = np.expm1(x, *args, **more)
    if args or more or x.dtype.kind != "c":
        return found
    found = np.asarray(np.where(np.isfinite(x.real), found, np.exp(x) - 1))
    found.real += 0  # the real part of what is near zero is no negative zero
    return found


def tanh(x: Any, /, *args: Any, **more: Any) -> Any:
    """Return the hyperbolic tangent; the sign of a zero at complex infinities is the operand's."""
    found = np.tanh(x, *args, **more)
    if args or more or x.dtype.kind != "c":
        return found
    found = np.asarray(found)
    edge = np.isinf(x.real) & np.isfinite(x.imag)
    found.imag = np.where(edge, np.copysign(0, x.imag), found.imag)
    return found


# --- dtypes ---------------------------------------------------------------------------------------


class FloatInfo:
    """Limits of a floating-point dtype, as Python's numbers; else :class:`numpy.finfo`."""

    __slots__ = ("_info", "bits", "dtype", "eps", "max", "min", "smallest_normal")

    def __init__(self, info: numpy.finfo[Any]) -> None:
        self._info = info
        self.bits = int(info.bits)
        self.dtype = info.dtype
        self.eps = float(info.eps)
        self.max = float(info.max)
        self.min = float(info.min)
        self.smallest_normal = float(info.smallest_normal)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._info, name)

    def __repr__(self) -> str:
        return repr(self._info)


def finfo(type: Any, /) -> FloatInfo:
    """Return the limits of a floating-point dtype, or of an array's."""
    return FloatInfo(numpy.finfo(_typed(type)))


def iinfo(type: Any, /) -> numpy.iinfo[Any]:
    """Return the limits of an integer dtype, or of an array's."""
    return numpy.iinfo(_typed(type))


FUNCTIONS = table(
    "dispatcharr.array_api", sort, argsort, take_along_axis, count_nonzero, clip, floor_divide,
    expm1, tanh, finfo, iinfo,
)  # fmt: skip
FUNCTIONS[from_dlpack.__name__] = from_dlpack  # it sees to devices itself
