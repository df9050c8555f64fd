"""How other libraries reach our arrays: NumPy's protocols, buffers, DLPack, the array API."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr.expr.build import SNAPSHOT_BYTES
from dispatcharr.face import _fastpath, fallback, functions, reductions
from dispatcharr.face.array import array_class, concrete, is_array, unwrap
from dispatcharr.face.road import engine
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.table import BY_UFUNC
from dispatcharr.storage import places
from dispatcharr.storage.exports import lend, mark_foreign, root_of
from dispatcharr.storage.readers import any_pending

__all__ = [
    "array_function", "array_interface", "array_namespace", "array_ufunc", "as_numpy", "names",
    "shown",
]  # fmt: skip


def as_numpy(array: Any, dtype: Any, copy: bool | None) -> numpy.ndarray:
    """Return what ``numpy.asarray(array)`` gives: a view whose life we can watch, or a copy."""
    host = concrete(array)
    if dtype is not None and numpy.dtype(dtype) != host.dtype:
        if copy is False:
            raise ValueError(
                f"__array__: a copy is needed to convert {host.dtype} to {numpy.dtype(dtype)}, "
                "and copy=False forbids it"
            )
        return host.astype(dtype)
    if copy:
        return host.copy()
    if any_pending():
        engine.before_write(host)
    return shown(host)


def shown(host: numpy.ndarray) -> numpy.ndarray:
    """Return a view of ``host`` for the outside; see :func:`dispatcharr.storage.exports.lend`."""
    places.host_write(host)
    # Small memory need not be counted: operands are copied when they are recorded. A small view of
    # large memory must be: what is written through it is read elsewhere.
    return lend(host) if root_of(host).nbytes > SNAPSHOT_BYTES else host.view()


def array_interface(array: Any) -> dict[str, Any]:
    """Return the interface dictionary.

    Its ``data`` is an address, as programs expect, and addresses cannot be counted: the memory is
    foreign from then on. NumPy itself asks for a buffer first.
    """
    host = concrete(array)
    if any_pending():
        engine.before_write(host)
    interface = dict(host.__array_interface__)
    written = interface["typestr" if host.dtype.names is None else "descr"]
    if not names(written, host.dtype):
        raise AttributeError(
            f"__array_interface__: it cannot name the dtype {host.dtype}; use to_numpy()"
        )
    mark_foreign(host)
    return interface


def names(written: Any, dtype: numpy.dtype[Any]) -> bool:
    """Return whether NumPy reads ``dtype`` in what an interface has ``written`` for it.

    Dtypes that others add to NumPy (bfloat16, say) are written as bytes or as numbers of NumPy's.
    """
    try:
        return bool(numpy.dtype(written) == dtype)
    except (TypeError, ValueError):
        return False


def array_ufunc(self: Any, ufunc: numpy.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """NumPy's ``__array_ufunc__``: plan what has a row, run the rest on evaluated operands."""
    for value in (*inputs, *kwargs.get("out", ())):
        override = getattr(type(value), "__array_ufunc__", None)
        if (
            override is not None
            and override is not numpy.ndarray.__array_ufunc__
            and not is_array(value)
            and not isinstance(value, numpy.ndarray)
        ):
            return NotImplemented
    row = BY_UFUNC.get(ufunc)
    if method == "__call__" and row is not None:
        return functions.call_ufunc(row, inputs, kwargs)
    called = ufunc if method == "__call__" else getattr(ufunc, method)
    name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    return fallback.call(name, called, inputs, kwargs)


_fastpath.set_ufuncs(
    {f._ufunc: f for f in functions.FUNCTIONS.values() if isinstance(f, _fastpath.Function)},
    array_ufunc,
)


def array_function(self: Any, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
    """NumPy's ``__array_function__``: the planned function of that name, or NumPy's on values.

    NumPy's own code, of a masked array for instance, goes on with what it gets back as with an
    array of NumPy's, and so gets one.
    """
    if not isinstance(args, tuple) or not isinstance(kwargs, dict):
        return numpy.ndarray.__array_function__(concrete(self), func, types, args, kwargs)  # raises
    for kind in types:
        if kind is not array_class() and not issubclass(kind, numpy.ndarray):
            return NotImplemented
    planned = _planned().get(func)
    if planned is not None:
        made = planned(*args, **kwargs)
    else:
        implementation = getattr(func, "_implementation", func)
        made = fallback.call(func.__name__, implementation, args, kwargs)
    asker = sys._getframe().f_back  # none in a thread that runs nothing but compiled code
    name = "" if asker is None else asker.f_globals.get("__name__") or ""
    return unwrap(made) if name.startswith("numpy.") else made


_functions: dict[Any, Any] = {}


def _planned() -> dict[Any, Any]:
    if not _functions:
        for row in REDUCTIONS:
            _functions[getattr(numpy, row.name)] = reductions.FUNCTIONS[row.name]
        _functions[numpy.where] = functions.where
        _functions[numpy.clip] = functions.clip
    return _functions


def array_namespace(self: Any, *, api_version: str | None = None) -> Any:
    """The array API's namespace of this array: :mod:`dispatcharr.array_api`."""
    # By name: it is made of all that dispatcharr has, and so stands above this module.
    namespace = importlib.import_module("dispatcharr.array_api")
    namespace.info.checked_version(api_version)
    return namespace
