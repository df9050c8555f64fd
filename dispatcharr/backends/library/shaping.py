"""Joining, repeating, copying and running sums: what moves elements, and little else.

Results are laid out row by row here. NumPy keeps the order of its operands where it copies; so a
copy of what lies in another order is left to NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dispatcharr.backends.library.table import ANY, INTEGERS, Declined, need, serves

__all__: list[str] = []


def _array(cp: Any, a: Any) -> None:
    need(isinstance(a, cp.ndarray) and a.ndim > 0, "the operand is no array with axes")


def _in_rows(a: Any) -> bool:
    """Return whether strides fall from axis to axis, so that NumPy's copy is laid out in rows."""
    strides = [abs(s) for s, extent in zip(a.strides, a.shape, strict=True) if extent != 1]
    return 0 not in strides and strides == sorted(strides, reverse=True)


def _kept(cp: Any, a: Any) -> None:
    _array(cp, a)
    need(_in_rows(a), "the operand is in another order, which NumPy keeps")


def _plain(value: Any) -> bool:
    """Return whether ``value`` is made of ints of Python's alone."""
    if type(value) in (tuple, list):
        return all(_plain(item) for item in value)
    return type(value) is int


# --- joining --------------------------------------------------------------------------------------


def _join(*paths: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return serves(*paths, dtypes=ANY, results="*")


def _several(cp: Any, arrays: Any, least: int = 0) -> None:
    need(type(arrays) in (list, tuple) and arrays, "no list or tuple of arrays")
    for a in arrays:
        _kept(cp, a)
        need(a.ndim >= least, "an operand of fewer axes")


@_join("concatenate", "concat")
def concatenate(cp: Any, arrays: Any, /, axis: Any = 0) -> Any:
    """Serve :func:`numpy.concatenate`."""
    _several(cp, arrays)
    need(axis is None or type(axis) is int, "axis is no int")
    return cp.concatenate(arrays, axis)


@_join("stack")
def stack(cp: Any, arrays: Any, axis: Any = 0) -> Any:
    """Serve :func:`numpy.stack`."""
    _several(cp, arrays)
    need(type(axis) is int and len({a.shape for a in arrays}) == 1, "shapes that differ")
    return cp.stack(arrays, axis)


@_join("vstack")
def vstack(cp: Any, tup: Any) -> Any:
    """Serve :func:`numpy.vstack`."""
    _several(cp, tup)
    return cp.vstack(tup)


@_join("hstack")
def hstack(cp: Any, tup: Any) -> Any:
    """Serve :func:`numpy.hstack`."""
    _several(cp, tup)
    return cp.hstack(tup)


@_join("dstack")
def dstack(cp: Any, tup: Any) -> Any:
    """Serve :func:`numpy.dstack`."""
    _several(cp, tup, 3)
    return cp.dstack(tup)


@_join("column_stack")
def column_stack(cp: Any, tup: Any) -> Any:
    """Serve :func:`numpy.column_stack`."""
    _several(cp, tup)
    return cp.column_stack(tup)


# --- repeating and moving -------------------------------------------------------------------------


@serves("tile", dtypes=ANY, results="=")
def tile(cp: Any, A: Any, reps: Any) -> Any:
    """Serve :func:`numpy.tile`."""
    _kept(cp, A)
    need(_plain(reps), "reps are no ints")
    return cp.tile(A, reps)


@serves("repeat", "ndarray.repeat", dtypes=ANY, results="=")
def repeat(cp: Any, a: Any, repeats: Any, axis: Any = None) -> Any:
    """Serve :func:`numpy.repeat` by one number."""
    _array(cp, a)
    need(type(repeats) is int and repeats >= 0, "repeats are no whole number")
    need(axis is None or type(axis) is int, "axis is no int")
    return cp.repeat(a, repeats, axis)


@serves("roll", dtypes=ANY, results="=")
def roll(cp: Any, a: Any, shift: Any, axis: Any = None) -> Any:
    """Serve :func:`numpy.roll`."""
    _kept(cp, a)
    need(_plain(shift) and (axis is None or _plain(axis)), "shift or axis are no ints")
    need(axis is not None or type(shift) is int, "many shifts of one axis")
    return cp.roll(a, shift, axis)


@serves("pad", dtypes=ANY, results="=")
def pad(
    cp: Any, array: Any, pad_width: Any, mode: Any = "constant", *, constant_values: Any = 0
) -> Any:
    """Serve four modes of :func:`numpy.pad`."""
    _array(cp, array)
    need(_plain(pad_width), "widths are no ints")
    need(mode in ("constant", "edge", "reflect", "symmetric"), "that mode")
    if mode != "constant":
        return cp.pad(array, pad_width, mode)
    fits = type(constant_values) is int and constant_values == 0
    need(fits or (type(constant_values) is float and array.dtype.kind in "fc"), "that constant")
    return cp.pad(array, pad_width, mode, constant_values=constant_values)


def _triangle(name: str) -> None:
    @serves(name, dtypes=ANY, results="=")
    def run(cp: Any, m: Any, k: Any = 0) -> Any:
        """Serve a triangle of a matrix."""
        _array(cp, m)
        need(m.ndim > 1 and type(k) is int, "no matrix, or k is no int")
        return getattr(cp, name)(m, k)


_triangle("tril")
_triangle("triu")


# --- copies ---------------------------------------------------------------------------------------


def _copied(cp: Any, a: Any, order: Any) -> Any:
    _array(cp, a)
    need(order == "C" or (order in ("K", "A") and _in_rows(a)), "a copy in another order")
    return cp.array(a, order="C", copy=True)


@serves("copy", dtypes=ANY, results="=")
def copy(cp: Any, a: Any, order: Any = "K", subok: Any = False) -> Any:
    """Serve :func:`numpy.copy`."""
    return _copied(cp, a, order)


@serves("ndarray.copy", dtypes=ANY, results="=")
def copy_method(cp: Any, a: Any, order: Any = "C") -> Any:
    """Serve :meth:`numpy.ndarray.copy`."""
    return _copied(cp, a, order)


@serves("ndarray.__copy__", "ndarray.__deepcopy__", dtypes=ANY, results="=")
def copy_protocol(cp: Any, a: Any, memo: Any = None, /) -> Any:
    """Serve the module ``copy``."""
    return _copied(cp, a, "K")


@serves("ndarray.flatten", dtypes=ANY, results="=")
def flatten(cp: Any, a: Any, order: Any = "C") -> Any:
    """Serve :meth:`numpy.ndarray.flatten`."""
    return _copied(cp, a, order).ravel()


@serves("ravel", "ndarray.ravel", dtypes=ANY, results="=")
def ravel(cp: Any, a: Any, order: Any = "C") -> Any:
    """Serve :func:`numpy.ravel` where it is no view."""
    _array(cp, a)
    need(not a.flags.c_contiguous, "it is a view")
    need(order == "C", "another order")
    return _copied(cp, a, "C").ravel()


@serves("ascontiguousarray", dtypes=ANY, results="=")
def ascontiguousarray(cp: Any, a: Any) -> Any:
    """Serve :func:`numpy.ascontiguousarray` where it is a copy."""
    _array(cp, a)
    if a.flags.c_contiguous:
        raise Declined("it is the operand itself")
    return _copied(cp, a, "C")


# --- running sums and differences -----------------------------------------------------------------


def _running(name: str, *paths: str) -> None:
    @serves(*paths, dtypes="?" + INTEGERS + "fdFD", results="s", finite="results")
    def run(cp: Any, a: Any, axis: Any = None, dtype: Any = None) -> Any:
        """Serve a running sum or product."""
        _array(cp, a)
        need(dtype is None, "a dtype is given")
        need(axis is None or type(axis) is int, "axis is no int")
        need(axis is None or _in_rows(a), "the operand is in another order, which NumPy keeps")
        return getattr(cp, name)(a, axis)


_running("cumsum", "cumsum", "ndarray.cumsum")
_running("cumprod", "cumprod", "ndarray.cumprod")


@serves("diff", dtypes=ANY, results="=", finite="results")
def diff(cp: Any, a: Any, n: Any = 1, axis: Any = -1) -> Any:
    """Serve :func:`numpy.diff`."""
    _kept(cp, a)
    need(type(n) is int and n > 0 and type(axis) is int, "n is no positive int")
    return cp.diff(a, n, axis)
