"""The type of our arrays in compiled functions: NumPy's, by another way in.

Loaded when numba first meets an array of ours. Functions see the array's own memory, as they do of
NumPy's arrays, and what waits is computed before they run. What they return is NumPy's.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dispatcharr.face.array import array_class, concrete

__all__ = ["Array", "register"]

cgutils: Any = import_module("numba.core.cgutils")
extending: Any = import_module("numba.extending")
types: Any = import_module("numba.core.types")


class Array(types.Array):  # type: ignore[misc]
    """An array of ours; whatever is derived from it has numba's type of NumPy's arrays."""

    def __init__(self, dtype: Any, ndim: int, layout: str, readonly: bool, aligned: bool) -> None:
        flags = "".join(["readonly " if readonly else "", "" if aligned else "unaligned "])
        name = f"dispatcharr.ndarray({flags}{dtype}, {ndim}d, {layout})"
        super().__init__(dtype, ndim, layout, readonly=readonly, name=name, aligned=aligned)


def register() -> None:
    """Teach numba our arrays."""
    extending.register_model(Array)(extending.models.ArrayModel)
    extending.typeof_impl.register(array_class())(_typed)
    extending.unbox(Array)(_unboxed)


def _typed(array: Any, context: Any) -> Any:
    found = extending.typeof_impl(concrete(array), context)
    if type(found) is not types.Array:
        return found
    return Array(found.dtype, found.ndim, found.layout, not found.mutable, found.aligned)


def _unboxed(kind: Any, array: Any, c: Any) -> Any:
    """Emit what makes a native array: of the lent view that ``to_numpy`` gives."""
    host = c.pyapi.call_method(array, "to_numpy", ())
    value = cgutils.alloca_once_value(c.builder, c.context.get_constant_null(kind))
    failed = cgutils.alloca_once_value(c.builder, cgutils.true_bit)
    with c.builder.if_then(cgutils.is_not_null(c.builder, host)):
        native = import_module("numba.core.boxing").unbox_array(kind, host, c)
        c.builder.store(native.value, value)
        c.builder.store(native.is_error, failed)
        c.pyapi.decref(host)
    return extending.NativeValue(c.builder.load(value), is_error=c.builder.load(failed))
