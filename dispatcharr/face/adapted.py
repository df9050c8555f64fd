"""Objects of the program's whose ``__array__`` returns an array of ours, made NumPy's to read.

NumPy takes nothing but its own arrays from ``__array__``. Such objects are called through a
stand-in that hands over what is behind the array. Where NumPy stored a stand-in, in an array of
objects, the object itself is put in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr.face.array import concrete, is_array

__all__ = ["call"]


class _Adapted:
    """Stands for an object with ``__array__``."""

    __slots__ = ("given", "made")

    def __init__(self, given: Any, made: list[Any]) -> None:
        self.given = given
        self.made = made

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        made = self.given.__array__(*args, **kwargs)
        if not is_array(made):
            return made
        self.made.append(made)
        return concrete(made)

    def __getattr__(self, name: str) -> Any:
        if name in ("__array_wrap__", "__array_priority__"):
            return getattr(self.given, name)
        raise AttributeError(name)


#: What NumPy says of an object whose ``__array__`` returns no array of its own.
_REFUSAL = "object __array__ method not producing an array"


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Return ``function(*args)``, if need be with stand-ins for such objects in ``args``."""
    try:
        return function(*args)
    except ValueError as error:
        if str(error) != _REFUSAL:
            raise
    # Nothing was done yet: NumPy converts before it computes.
    made: list[Any] = []
    result = function(*[_adapted(value, made) for value in args])
    _restore((result, args))
    for array in made:
        if array._value is result:
            return array
    return result


def _adapted(value: Any, made: list[Any]) -> Any:
    kind = type(value)
    if kind is list or kind is tuple:
        return kind([_adapted(item, made) for item in value])
    if kind is dict:
        return {key: _adapted(item, made) for key, item in value.items()}
    if isinstance(value, (numpy.ndarray, numpy.generic, type)) or is_array(value):
        return value
    return _Adapted(value, made) if hasattr(kind, "__array__") else value


#: NumPy's flat iterators go over no more.
_MOST_AXES = 32


def _restore(value: Any) -> None:
    if type(value) is numpy.ndarray and value.dtype.kind == "O" and value.ndim <= _MOST_AXES:
        for place, item in enumerate(value.flat):
            if type(item) is _Adapted:
                value.flat[place] = item.given
    elif isinstance(value, (list, tuple)):
        for item in value:
            _restore(item)
