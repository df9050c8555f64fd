"""The part of ``ndarray`` that says what an array is, without its values, and views of it.

Setting an attribute changes the array itself, as NumPy does it, so pending work that reads it runs
first.
"""

from __future__ import annotations

import types
from typing import Any

import numpy

from dispatcharr.expr.nodes import Node
from dispatcharr.expr.order import strides_in_order
from dispatcharr.face import _fastpath, devices, protocols
from dispatcharr.face.array import behind, concrete, unwrap
from dispatcharr.face.iterators import Flat
from dispatcharr.face.leaving import Leaving
from dispatcharr.face.road import engine
from dispatcharr.storage import places
from dispatcharr.storage.exports import mark_foreign, root_of
from dispatcharr.storage.readers import any_pending

__all__ = ["Attributes"]


class Attributes(Leaving):
    """The part of ``ndarray`` that is known without the values, and its views."""

    __slots__ = ()
    __array_priority__ = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self._form.shape  # type: ignore[no-any-return]

    @shape.setter
    def shape(self, shape: Any) -> None:
        host = behind(self)
        if any_pending():
            engine.before_write(host)  # it has the shape that it was given
        host.shape = shape

    @property
    def dtype(self) -> numpy.dtype[Any]:
        """Data type of the elements."""
        return self._form.dtype  # type: ignore[no-any-return]

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        host: Any = self._writable()
        host.dtype = dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._form.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._form.size  # type: ignore[no-any-return]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._form.dtype.itemsize  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        form = self._form
        return form.size * form.dtype.itemsize  # type: ignore[no-any-return]

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis."""
        value = self._value
        if type(value) is Node:
            return strides_in_order(value.shape, value.dtype.itemsize, value.order)
        return value.strides  # type: ignore[no-any-return]

    @strides.setter
    def strides(self, strides: Any) -> None:
        host: Any = self._writable()
        host.strides = strides

    @property
    def device(self) -> str:
        """Where the program wants the value, in the array API's words: ``"cpu"`` at first."""
        return devices.device_of(self)

    @device.setter
    def device(self, value: Any) -> None:
        raise AttributeError("attribute 'device' of 'ndarray' objects is not writable")

    @property
    def T(self) -> Any:
        """The transposed view."""
        return _fastpath.view(behind(self).T, self)

    @property
    def mT(self) -> Any:
        """The view with the last two axes exchanged."""
        return _fastpath.view(behind(self).mT, self)

    @property
    def real(self) -> Any:
        """The real part, a view."""
        host = behind(self)
        real = host.real
        return self if real is host else _fastpath.view(real, self)

    @real.setter
    def real(self, value: Any) -> None:
        self._assign("real", value)

    @property
    def imag(self) -> Any:
        """The imaginary part, a view where there is one."""
        return _fastpath.view(behind(self).imag, self)

    @imag.setter
    def imag(self, value: Any) -> None:
        self._assign("imag", value)

    @property
    def flat(self) -> Any:
        """A flat iterator over the elements."""
        return Flat(self)

    @flat.setter
    def flat(self, value: Any) -> None:
        self._assign("flat", value)

    @property
    def flags(self) -> Any:
        """Memory layout flags."""
        return behind(self).flags

    @property
    def base(self) -> Any:
        """The array whose memory this one views, None if it owns its memory."""
        host = behind(self)
        base, root = host.base, root_of(host)
        cell: Any = self  # the attribute is the base class's
        parent = cell._parent
        if parent is not None and parent._value is base:
            return parent
        # A lease and its like are no arrays; the root is what they stand for.
        shown = base if root is host or isinstance(base, numpy.ndarray) else root
        made = _fastpath.wrap(shown)
        if type(shown) is numpy.ndarray and shown is base:
            cell._parent = made
        return made

    def _assign(self, name: str, value: Any) -> None:
        given, host = unwrap(value), self._writable()
        with places.writing((host,)):
            setattr(host, name, given)

    @property
    def __array_struct__(self) -> Any:
        host = self._writable()
        if host.dtype.kind not in "biufcSUO" or not protocols.names(host.dtype.str, host.dtype):
            raise AttributeError(
                f"__array_struct__: it cannot name the dtype {host.dtype}; use to_numpy()"
            )
        mark_foreign(host)  # its address cannot be counted
        return host.__array_struct__

    def __array_finalize__(self, obj: Any, /) -> None:
        """Do nothing: NumPy asks subclasses, which are NumPy's."""

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: Any = False, /) -> Any:
        given = unwrap(array)
        made = numpy.ndarray.__array_wrap__(concrete(self), given, context, return_scalar)
        return array if made is given else _fastpath.wrap(made)

    @classmethod
    def __class_getitem__(cls, item: Any) -> Any:
        alias: Any = numpy.ndarray[item]  # NumPy's own error for what it does not take
        return types.GenericAlias(cls, alias.__args__)
