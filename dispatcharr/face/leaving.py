"""The ways out of waiting: everything that needs the values, or hands the memory to others.

All of them go through :func:`dispatcharr.face.array.concrete`. What hands memory out also says how
it can be counted: as a lent view where the taker keeps one, as foreign for ever where addresses are
taken.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy

from dispatcharr.expr.nodes import Node
from dispatcharr.face import _fastpath, devices, functions, protocols
from dispatcharr.face.array import behind, concrete, looked_at
from dispatcharr.face.road import engine
from dispatcharr.storage import places
from dispatcharr.storage.exports import mark_foreign
from dispatcharr.storage.readers import any_pending

__all__ = ["Leaving"]

#: ``PyBUF_FORMAT``: whoever asks for a buffer wants to know its dtype.
_FORMAT = 4


class _LikeNumpys(_fastpath.Cell):  # type: ignore[misc]
    """A base for the sake of its name: polars looks for NumPy's arrays where it reads ``numpy.``"""

    __slots__ = ()
    __module__ = "dispatcharr.like_numpy"


class Leaving(_LikeNumpys):
    """The part of ``ndarray`` through which values and memory leave."""

    __slots__ = ()

    def _writable(self) -> numpy.ndarray:
        """Return the NumPy array behind, for somebody who may write to it."""
        host = concrete(self)
        if any_pending():
            engine.before_write(host)
        places.host_write(host)
        return host

    @property
    def data(self) -> memoryview:
        """The memory, as a buffer."""
        return protocols.shown(self._writable()).data

    @property
    def ctypes(self) -> Any:
        """The memory, for ctypes."""
        host = self._writable()
        # Addresses are taken out of it, and nobody can count those.
        mark_foreign(host)
        made = host.ctypes
        # Its pointers hold the array that it was made of.
        return type(made)(self, made.data)

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> numpy.ndarray:
        return protocols.as_numpy(self, dtype, copy)

    def to_numpy(self, *, copy: bool = False) -> numpy.ndarray:
        """Return the values as a genuine :class:`numpy.ndarray`.

        Parameters
        ----------
        copy : bool, default False
            Whether the memory is the result's own.

        Returns
        -------
        numpy.ndarray
            Of the same shape and dtype; it shares memory unless ``copy`` is true.

        Examples
        --------
        >>> import dispatcharr as np
        >>> type(np.arange(3).to_numpy()).__module__
        'numpy'
        """
        return protocols.as_numpy(self, None, copy or None)

    # The compiled one answers what is concrete and small, and hands on the rest.
    __array_ufunc__ = getattr(_fastpath.Cell, "__array_ufunc__", protocols.array_ufunc)
    __array_function__ = protocols.array_function
    __array_namespace__ = protocols.array_namespace

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return protocols.array_interface(self)

    def _lent(self, flags: int) -> Any:
        if flags & _FORMAT and self.dtype.kind == "V" and not _has_format(self.dtype):
            memoryview(numpy.empty(1, self.dtype).data)  # what NumPy refuses too is its error
            raise BufferError(f"__buffer__: no format names the dtype {self.dtype}; use to_numpy()")
        return protocols.shown(self._writable())

    def __buffer__(self, flags: int, /) -> memoryview:
        return memoryview(self._lent(flags))

    def __release_buffer__(self, buffer: memoryview, /) -> None:
        # What is lent releases itself; but only where this is defined does numpy.frombuffer hold
        # the buffer and not the array alone.
        buffer.release()

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None,
        copy: bool | None = None,
    ) -> Any:  # fmt: skip
        here = devices.dlpack_device(self)
        if here[0] != devices.HOST and dl_device in (None, here):
            return devices.capsule(self, max_version, copy)
        asked = {"max_version": max_version, "dl_device": dl_device, "copy": copy}
        # Only what was asked for: NumPy 2.0 knows the stream alone.
        keys = {name: value for name, value in asked.items() if value is not None}
        return protocols.shown(self._writable()).__dlpack__(stream=stream, **keys)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return devices.interface(self)

    def __dlpack_device__(self) -> Any:
        return devices.dlpack_device(self)

    def to_device(self, device: str, /, *, stream: Any = None) -> Any:
        """Return the array on a device.

        Parameters
        ----------
        device : str
            ``"cpu"``, or the name of a GPU such as ``"cuda:0"``.
        stream : None
            There for the array API's sake.

        Returns
        -------
        ndarray
            The array itself where it is there, else a copy.

        Examples
        --------
        >>> import dispatcharr as np
        >>> np.arange(3).to_device("cpu").device
        'cpu'
        """
        return devices.moved(self, device, stream)

    def __bool__(self) -> bool:
        return bool(looked_at(self))

    def __int__(self) -> int:
        return int(looked_at(self))

    def __float__(self) -> float:
        return float(looked_at(self))

    def __complex__(self) -> complex:
        return complex(looked_at(self))

    def __index__(self) -> int:
        return operator.index(looked_at(self))

    def __bytes__(self) -> bytes:
        return bytes(looked_at(self))  # of an integer without axes: as many zeros

    def __contains__(self, item: object) -> bool:
        equal: Any = self == item
        return bool(equal.any())

    def __iter__(self) -> Iterator[Any]:
        host = behind(self)
        if host.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        if host.dtype.kind == "V":
            mark_foreign(self._writable())  # records are views
        if host.ndim > 1:
            return map(_fastpath.wrap, host)
        # The iterator reads when it is asked: as long as it lives, no device has the only copy.
        return iter(protocols.shown(self._writable()) if places.enabled() else concrete(self))

    def __repr__(self) -> str:
        return repr(looked_at(self))

    def __str__(self) -> str:
        return str(looked_at(self))

    def __format__(self, spec: str) -> str:
        return format(looked_at(self), spec)

    def __sizeof__(self) -> int:
        value = self._value
        size = value.nbytes if type(value) is Node else value.__sizeof__()
        return int(object.__sizeof__(self) + size)

    def __copy__(self) -> Any:
        made = functions.copied(self)
        return _fastpath.wrap(concrete(self).__copy__()) if made is None else made

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        made = functions.copied(self)
        if made is None:
            made = _fastpath.wrap(concrete(self).__deepcopy__(memo))
        memo[id(self)] = made
        return made

    def __setstate__(self, state: Any) -> None:
        self._writable().__setstate__(state)

    @classmethod
    def __class_getitem__(cls, item: Any) -> Any:
        return numpy.ndarray[item]


@cache
def _has_format(dtype: numpy.dtype[Any]) -> bool:
    """Return whether the buffer protocol's format says all of a structured or void dtype.

    It cannot name every such dtype, and NumPy believes it.
    """
    try:
        seen = numpy.asarray(numpy.empty(1, dtype).data).dtype
    except (ValueError, TypeError, BufferError, RuntimeError):
        return False
    return seen == dtype and seen.type is dtype.type and repr(seen) == repr(dtype)
