"""The array class, bare: what it is, how values go in and out. Its surface is in ``ndarray``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr.expr.build import SNAPSHOT_BYTES
from dispatcharr.expr.nodes import Node
from dispatcharr.face import _fastpath
from dispatcharr.face.road import engine
from dispatcharr.storage.exports import mark_foreign
from dispatcharr.storage.places import away, home, look

__all__ = [
    "ArrayMeta", "array_class", "bare", "behind", "concrete", "is_array", "looked_at", "operand",
    "unwrap",
]  # fmt: skip


class ArrayMeta(type):
    """Makes genuine NumPy arrays instances too, and subclasses genuine NumPy subclasses.

    Programs that test ``isinstance(x, np.ndarray)`` keep working for arrays of either kind. A class
    derived from ``dispatcharr.ndarray`` is derived from ``numpy.ndarray`` instead: subclasses live
    by NumPy's own protocol (``__array_finalize__``), which only NumPy can honour.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any], **more: Any) -> Any:
        if any(isinstance(base, ArrayMeta) for base in bases):
            real = tuple(numpy.ndarray if isinstance(base, ArrayMeta) else base for base in bases)
            return type(real[0])(name, real, space, **more)
        return super().__new__(mcs, name, bases, space, **more)

    def __instancecheck__(cls, instance: object) -> bool:
        return type(instance) is cls or isinstance(instance, numpy.ndarray)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return subclass is cls or (
            isinstance(subclass, type) and numpy.ndarray in type.mro(subclass)
        )


_class: list[Any] = []


def array_class() -> Any:
    """Return ``dispatcharr.ndarray``."""
    return _class[0]


def set_array_class(made: Any) -> None:
    """Name the class of every wrapped result; called once, by the module that defines it."""
    _class[:] = [made]
    _fastpath.register(made)


def is_array(value: object) -> bool:
    """Return whether ``value`` is one of ours."""
    return type(value) is _class[0]


def behind(array: Any) -> numpy.ndarray:
    """Return the NumPy array behind one of ours, evaluating it first when it is pending.

    Its bytes may be on a device alone: it is for those who want its shape, or a view of it.
    """
    value = array._value
    if type(value) is numpy.ndarray:
        return value
    if value.value is None:
        engine.evaluate([value])
    held = array._value
    if type(held) is numpy.ndarray:
        return held
    # Another thread evaluated the node and has not yet told the array.
    array._value = value.value
    return value.value  # type: ignore[no-any-return]


def concrete(array: Any) -> numpy.ndarray:
    """Return the NumPy array behind one of ours, with its values, for whoever reads them."""
    host = behind(array)
    if away:
        home(host)
    return host


def looked_at(array: Any) -> numpy.ndarray:
    """Return the values of one of ours, perhaps in a copy, for whoever reads them at once."""
    host = behind(array)
    return look(host) if away else host


def operand(value: Any) -> Any:
    """Return what the planner understands of an operand: a node, a NumPy array, or as it is.

    Whoever reads such an array himself has it brought home first.
    """
    if type(value) is _class[0]:
        held = value._value
        if type(held) is Node and held.value is not None:
            return behind(value)
        return held
    if type(value) is numpy.ndarray and value.nbytes > SNAPSHOT_BYTES:
        mark_foreign(value)  # whoever passes NumPy's own array can write to it at any time
    return value


def unwrap(value: Any) -> Any:
    """Return ``value`` with arrays of ours, also inside lists, tuples and dicts, as NumPy's."""
    return _replaced(value, concrete)


def bare(value: Any) -> Any:
    """Do as :func:`unwrap`, for whoever reads no values: they may be on a device alone."""
    return _replaced(value, behind)


def _replaced(value: Any, of: Callable[[Any], numpy.ndarray]) -> Any:
    kind = type(value)
    if kind is _class[0]:
        return of(value)
    if kind is tuple or kind is list:
        return kind([_replaced(v, of) for v in value]) if _fastpath.holds_cell(value) else value
    if kind is dict:
        return {key: _replaced(item, of) for key, item in value.items()}
    return value
