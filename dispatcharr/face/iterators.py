"""NumPy's iterators over the memory of our arrays: ``x.flat``, ``nditer``, ``broadcast``.

They read and write when they are asked, so the memory is lent to them: operations on it do not wait
as long as they live.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy

from dispatcharr.face import _fastpath, protocols
from dispatcharr.face.array import is_array, unwrap

__all__ = ["Flat", "broadcast", "nditer"]


def _lent(value: Any) -> Any:
    """Return ``value`` with views of our arrays, which NumPy may write to, also in a list."""
    if is_array(value):
        return protocols.shown(value._writable())
    if type(value) in (list, tuple):
        return type(value)([_lent(item) for item in value])
    return value


class _Iterator(type):
    """Makes NumPy's own iterators, which are no classes to derive from, instances."""

    def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> Any:
        shown = {key: one for key, one in vars(getattr(numpy, name)).items() if key[0] != "_"}
        return super().__new__(cls, name, bases, {**shown, **members})

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, getattr(numpy, cls.__name__))

    def __dir__(cls) -> list[str]:
        return dir(getattr(numpy, cls.__name__))

    def __getattr__(cls, name: str) -> Any:
        return getattr(getattr(numpy, cls.__name__), name)


class nditer(metaclass=_Iterator):
    """:class:`numpy.nditer` over arrays of ours."""

    __wrapped__ = numpy.nditer  # whose signature it is

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        given = {name: _lent(value) for name, value in kwargs.items()}
        return numpy.nditer(*_lent(args), **given)


class broadcast(metaclass=_Iterator):
    """:class:`numpy.broadcast` of arrays of ours."""

    __wrapped__ = numpy.broadcast

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return numpy.broadcast(*_lent(args), **kwargs)


class Flat:
    """``x.flat``: NumPy's own iterator over the memory of one of our arrays.

    Parameters
    ----------
    array : ndarray
        One of ours.
    """

    __slots__ = ("_array", "_numpys")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: Any) -> None:
        self._array = array
        # What goes over the memory sees it: the view is counted as long as that lives.
        self._numpys = protocols.shown(array._writable()).flat

    @property
    def __class__(self) -> type:
        return numpy.flatiter

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a flat iterator cannot be changed")

    def __getitem__(self, key: Any) -> Any:
        return _fastpath.wrap(self._numpys[unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array._writable()  # what waits for the values as they are runs first
        self._numpys[unwrap(key)] = unwrap(value)

    def __delitem__(self, key: Any) -> None:
        refuse: Any = self._numpys  # NumPy words it
        del refuse[key]

    def __iter__(self) -> Any:
        return self._numpys

    def __next__(self) -> Any:
        return next(self._numpys)

    def __len__(self) -> int:
        return len(self._numpys)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self._numpys.__array__(*args, **kwargs)

    def copy(self) -> Any:
        """Return a copy of the elements as an array of one axis."""
        return _fastpath.wrap(self._numpys.copy())

    @property
    def base(self) -> Any:
        """The array that is iterated over."""
        return self._array

    @property
    def coords(self) -> tuple[int, ...]:
        """The place of the next element, along each axis."""
        return self._numpys.coords

    @property
    def index(self) -> int:
        """The place of the next element, counted in C order."""
        return self._numpys.index

    def _compared(self, other: Any, compare: Any) -> Any:
        return _fastpath.wrap(compare(self._numpys, unwrap(other)))

    def __eq__(self, other: object) -> Any:
        return self._compared(other, operator.eq)

    def __ne__(self, other: object) -> Any:
        return self._compared(other, operator.ne)

    def __lt__(self, other: Any) -> Any:
        return self._compared(other, operator.lt)

    def __le__(self, other: Any) -> Any:
        return self._compared(other, operator.le)

    def __gt__(self, other: Any) -> Any:
        return self._compared(other, operator.gt)

    def __ge__(self, other: Any) -> Any:
        return self._compared(other, operator.ge)
