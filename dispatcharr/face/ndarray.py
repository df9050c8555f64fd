"""``dispatcharr.ndarray``: NumPy's array to the program, a value or a promise to us.

Operators, indexing and length come from the fast path; elementwise methods and reductions from the
op rows; the rest of NumPy's attributes and methods are taken from ``numpy.ndarray`` by name and run
on the evaluated array. The ways out of waiting are in
``leaving``.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable
from sys import getrefcount
from types import FunctionType
from typing import Any

import numpy

from dispatcharr.face import (
    _fastpath,
    contract,
    fallback,
    functions,
    operators,
    reductions,
    scans,
    tape,
    temporary,
    trials,
)
from dispatcharr.face.array import (
    concrete,
    is_array,
    looked_at,
    set_array_class,
    unwrap,
)  # fmt: skip
from dispatcharr.face.attributes import Attributes
from dispatcharr.face.effects import VIEWS
from dispatcharr.face.subclass import ArrayMeta, unbound
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.storage import places
from dispatcharr.storage.exports import is_visible
from dispatcharr.storage.readers import observe

__all__ = ["ndarray"]


class ndarray(Attributes, metaclass=ArrayMeta):
    """An array that is computed where it is fastest.

    Parameters and behaviour are those of :class:`numpy.ndarray`. Values of large results may be
    computed later, when somebody looks; nobody can tell but by the clock.

    Examples
    --------
    >>> import dispatcharr as np
    >>> x = np.arange(4.0)
    >>> x * 2 + 1
    array([1., 3., 5., 7.])
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    __module__ = "dispatcharr"

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is not ndarray:  # subclasses are NumPy's, and ask by this name
            return numpy.ndarray.__new__(cls, *unwrap(args), **unwrap(kwargs))
        return fallback.call("ndarray", numpy.ndarray, args, kwargs, None)

    # --- operators that have no slot ------------------------------------------------------------

    def __rmatmul__(self, other: Any) -> Any:
        return _MATMUL(other, self)

    def __imatmul__(self, other: Any) -> Any:
        return fallback.call("matmul", _imatmul, (self, other), {})

    def __rdivmod__(self, other: Any) -> Any:
        return _DIVMOD(other, self)

    # --- methods that are planned, or that hand out self ----------------------------------------

    def conj(self) -> Any:
        """Return the complex conjugate."""
        if self.dtype.kind in "iuf":
            return self
        if self.dtype.kind == "c":
            return functions.FUNCTIONS["conjugate"](self)
        host = concrete(self)
        made = host.conj()
        return self if made is host else _fastpath.wrap(made)

    def conjugate(self, *args: Any, **kwargs: Any) -> Any:
        """Return the complex conjugate; see :func:`numpy.conjugate`."""
        if args or kwargs:
            return functions.FUNCTIONS["conjugate"](self, *args, **kwargs)
        return self.conj()


def _astype(
    self: Any,
    dtype: Any,
    order: str = "K",
    casting: str = "unsafe",
    subok: bool = True,
    copy: bool = True,
) -> Any:
    return functions.astype(self, dtype, order, casting, subok, copy)


_astype.__qualname__ = "astype"  # what errors about its arguments say


def _resize(self: Any, *args: Any, **kwargs: Any) -> None:
    if not is_array(self):
        numpy.ndarray.resize(self, *args, **kwargs)
        return
    if kwargs:
        numpy.empty(1).resize(1, **kwargs)  # NumPy's own error for what it does not know
    host = self._writable()
    if kwargs.pop("refcheck", True):
        named = temporary.is_named_twice(getrefcount(self)) or weakref.getweakrefcount(self)
        if temporary.is_shared(getrefcount(host)):
            # Somebody views the memory: NumPy words the error.
            host.resize(*args, refcheck=True)
        elif host.base is None and (named or is_visible(host)):
            raise ValueError(
                "cannot resize an array that references or is referenced\n"
                "by another array in this way.\n"
                "Use the np.resize function or refcheck=False"
            )
    if host.base is None and weakref.getweakrefcount(host):
        # NumPy refuses, but these references are those of our own tables.
        host = host.copy(order="K")
    host.resize(*args, refcheck=False, **kwargs)
    self._value = host


def _clip(self: Any, *args: Any, **kwargs: Any) -> Any:
    if len(args) == 2 and not kwargs.keys() - {"out"}:
        return functions.clip(self, *args, **kwargs)
    return fallback.call("clip", numpy.ndarray.clip, (self, *args), kwargs)


def _opaque(name: str, operate: Callable[..., Any]) -> Any:
    """Return the method of an operator that is never planned."""

    def slow(left: Any, right: Any) -> Any:
        for other in (left, right):
            if not is_array(other) and getattr(type(other), "__array_ufunc__", 0) is None:
                return NotImplemented
        return fallback.call(name, operate, (left, right), {})

    first = contract.asked(name, operate)
    return fallback.forward(name, operate, slow, opaque=True, first=first, kind=_fastpath.Method)


_MATMUL = _opaque("matmul", operator.matmul)
_imatmul: Callable[..., Any] = operator.imatmul
_DIVMOD = _opaque("divmod", divmod)
# Without a frame of Python's between, NumPy's warnings name the user's line.
ndarray.__matmul__ = _MATMUL
ndarray.__divmod__ = _DIVMOD

#: Methods that write to their array.
_WRITES = {"sort", "partition", "fill", "put", "byteswap", "setflags", "setfield"}
#: Methods with nothing to plan, which without arguments give a view, a copy or what is no array.
_ALONE = {
    "copy", "diagonal", "dump", "dumps", "flatten", "getfield", "item", "ravel", "reshape",
    "squeeze", "swapaxes", "tobytes", "tofile", "tolist", "transpose", "view",
}  # fmt: skip


#: Methods whose results have nothing to do with the array any more.
_READS = {"dumps", "flatten", "item", "tobytes", "tolist"}


def _on_device(name: str, array: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what a method does to an array that is on a device, or return ``LEFT``."""
    if name in VIEWS:
        return fallback.viewed(name, getattr(numpy.ndarray, name), (array, *args), kwargs)
    if (name == "copy" or (name == "flatten" and array.ndim == 1)) and not args and not kwargs:
        made = functions.copied(array)
        return contract.LEFT if made is None else made
    if name == "fill" and len(args) == 1 and not kwargs and type(args[0]) in (bool, int, float):
        array[...] = args[0]
        return None
    return contract.LEFT


def _method(name: str) -> Callable[..., Any]:
    numpys = getattr(numpy.ndarray, name)
    writes = name in _WRITES
    reason = None if name in _WRITES or name in _ALONE else "it is not planned"

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_array(self):
            return fallback.call(name, numpys, (self, *args), kwargs)
        if places.in_use():
            made = _on_device(name, self, args, kwargs)
            if made is not contract.LEFT:
                return made
        if args or kwargs or name not in _ALONE:
            if writes:
                self._writable()
            return fallback.call(name, numpys, (self, *args), kwargs, reason)
        host = self._writable() if writes else looked_at(self) if name in _READS else concrete(self)
        result = numpys(host)
        return self if result is host else _fastpath.view(result, self)

    # They read their arguments, and a view is one like those of indexing.
    reads = 8 if name in _ALONE else 0
    first = contract.asked(name, numpys) or scans.asked(name, numpys)
    return fallback.forward(name, numpys, method, "ndarray", reads, opaque=True, first=first)


#: Methods in Python whose signatures are asked of NumPy's.
_SIGNED = (
    "__array__", "__array_function__", "__array_ufunc__", "__dlpack__", "__dlpack_device__", "conj",
    "conjugate", "to_device",
)  # fmt: skip


def _complete() -> None:
    """Add what ``numpy.ndarray`` has and the class above does not: reductions, then the rest."""
    for name, ours, reads in (("astype", _astype, 6), ("clip", _clip, 3)):
        numpys = getattr(numpy.ndarray, name)
        setattr(ndarray, name, fallback.forward(name, numpys, ours, "ndarray", reads))
    # It counts references to its array, and so must always be called alike.
    made = fallback.forward("resize", numpy.ndarray.resize, _resize, "ndarray", -1)
    ndarray.resize = made
    for row in REDUCTIONS:
        if row.method:
            setattr(ndarray, row.name, reductions.method(row))
    for name in _SIGNED:
        member: Any = getattr(ndarray, name)
        if isinstance(member, FunctionType) and hasattr(numpy.ndarray, name):
            vars(member)["__wrapped__"] = getattr(numpy.ndarray, name)
    for name in dir(numpy.ndarray):
        if not name.startswith("_") and not hasattr(ndarray, name):
            member = getattr(numpy.ndarray, name)
            if callable(member):
                setattr(ndarray, name, _method(name))
            else:
                setattr(ndarray, name, property(_attribute(name), doc=member.__doc__))


def _attribute(name: str) -> Callable[[Any], Any]:
    def get(self: Any) -> Any:
        return _fastpath.wrap(getattr(concrete(self), name))

    return get


def _measure_temporaries() -> None:
    def attach(name: str, function: Callable[..., Any]) -> Any:
        made = fallback.forward(name, function, function)
        if name:
            setattr(ndarray, name, made)
        return made

    temporary.measure(lambda: _fastpath.cell(None), attach)
    del ndarray._probe
    fallback.measure()


_complete()
set_array_class(ndarray)
operators.install()
tape.install()
trials.install()
_measure_temporaries()
_fastpath.set_unbound(unbound(ndarray))
observe(_fastpath.set_pending)
places.observe(_fastpath.placed)
places.watch(_fastpath.writes)
