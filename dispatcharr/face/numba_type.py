"""The type of our arrays in compiled functions: NumPy's, by another way in.

Loaded with numba. Functions see the array's own memory, as they do of NumPy's arrays, and what
waits is computed before they run. What they return is NumPy's. Functions that were compiled for
arrays of NumPy's before they are called find out by failing: then they ask whether it is ours.

What such functions call by the name of our module, or from it, is NumPy's to numba, which has code
of its own for that: it is shown NumPy's modules, functions and arrays where it looks up ours.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from dispatcharr.face.array import array_class, concrete
from dispatcharr.face.elementwise import known_to_numba

__all__ = ["Array", "register"]

boxing: Any = import_module("numba.core.boxing")
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
    # Where a release keeps these elsewhere, such functions refuse, as they did.
    with contextlib.suppress(ImportError, AttributeError):
        reader = import_module("numba.core.interpreter").Interpreter
        for look_up in ("get_global_value", "get_closure_value"):
            setattr(reader, look_up, _looking_up(getattr(reader, look_up)))
    with contextlib.suppress(ImportError, AttributeError):
        unboxers = import_module("numba.core.pythonapi")._unboxers.functions
        if unboxers.get(types.Array) is boxing.unbox_array:
            unboxers[types.Array] = _unboxed_if_ours


def _looking_up(numbas: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return numba's look-up of a name, of a function that it compiles, with NumPy's for ours."""

    @functools.wraps(numbas)
    def look_up(reader: Any, name: Any) -> Any:
        return known_to_numba(numbas(reader, name))

    return look_up


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
        native = boxing.unbox_array(kind, host, c)
        c.builder.store(native.value, value)
        c.builder.store(native.is_error, failed)
        c.pyapi.decref(host)
    return extending.NativeValue(c.builder.load(value), is_error=c.builder.load(failed))


def _unboxed_if_ours(kind: Any, given: Any, c: Any) -> Any:
    """Emit what numba emits for an array of NumPy's, and after its failure a look at the class."""
    first = boxing.unbox_array(kind, given, c)
    value = cgutils.alloca_once_value(c.builder, first.value)
    failed = cgutils.alloca_once_value(c.builder, first.is_error)
    with c.builder.if_then(first.is_error, likely=False):
        c.pyapi.err_clear()  # nothing of Python's runs with an error pending
        ours = c.pyapi.unserialize(c.pyapi.serialize_object(array_class()))
        is_ours = c.builder.icmp_unsigned("==", c.pyapi.get_type(given), ours)
        c.pyapi.decref(ours)
        with c.builder.if_else(is_ours) as (then, otherwise):
            with then:
                second = _unboxed(kind, given, c)
                c.builder.store(second.value, value)
                c.builder.store(second.is_error, failed)
            with otherwise:
                c.pyapi.err_set_string("PyExc_TypeError", "wanted an array of NumPy's")
    return extending.NativeValue(c.builder.load(value), is_error=c.builder.load(failed))
