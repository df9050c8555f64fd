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
    "array_class", "bare", "behind", "concrete", "is_array", "is_writeable", "looked_at", "operand",
    "outermost", "unwrap", "view_of", "wants_objects",
]  # fmt: skip


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
    value = _fastpath.settled(array)
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


#: NumPy's flags of an array: to be written to, and to be warned of when it is.
_WRITEABLE, _WARNS = 0x400, 1 << 31


def is_writeable(host: numpy.ndarray) -> bool:
    """Return whether an array may be written to in NumPy's stead; asking has no consequences.

    ``flags.writeable`` warns for what ``broadcast_arrays`` returns.
    """
    flags: Any = host.flags
    return bool(flags.num & _WRITEABLE) and not flags.num & _WARNS


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


def view_of(result: numpy.ndarray, ours: dict[int, Any]) -> Any:
    """Wrap a view, and note which of the arrays in ``ours`` it is one of."""
    for given in ours.values():
        made = _fastpath.view(result, given)
        if made._parent is not None:
            return made
    return _fastpath.wrap(result)


def unwrap(value: Any) -> Any:
    """Return ``value`` with arrays of ours, also inside lists, tuples and dicts, as NumPy's."""
    return _replaced(value, concrete)


def bare(value: Any) -> Any:
    """Do as :func:`unwrap`, for whoever reads no values: they may be on a device alone."""
    return _replaced(value, behind)


def outermost(value: Any) -> Any:
    """Do as :func:`unwrap` for arguments themselves, and leave what is inside their lists."""
    if type(value) is dict:
        return {key: _outermost(item) for key, item in value.items()}
    return tuple([_outermost(item) for item in value])


def _outermost(value: Any) -> Any:
    return value if type(value) in (list, tuple) else unwrap(value)


def wants_objects(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a call names the dtype of objects, so that arrays in lists are objects."""
    return any(map(_is_object, args[1:])) or any(map(_is_object, kwargs.values()))


def _is_object(value: Any) -> bool:
    if isinstance(value, numpy.dtype):
        return value.kind == "O"
    return value is object or (type(value) is str and value in ("O", "object"))


def _replaced(value: Any, of: Callable[[Any], numpy.ndarray]) -> Any:
    kind = type(value)
    if kind is _class[0]:
        return of(value)
    if kind is tuple or kind is list:
        return kind([_replaced(v, of) for v in value]) if _fastpath.holds_cell(value) else value
    if kind is dict:
        return {key: _replaced(item, of) for key, item in value.items()}
    # NumPy would take a class that it does not know for a dtype.
    return numpy.ndarray if value is _class[0] else value
