"""Between ``dispatcharr.ndarray`` and NumPy's: what subclasses derive from, what they may call.

Subclasses live by NumPy's own protocol, so they are derived from :class:`numpy.ndarray`, by way of
:class:`Derived`. In their code ``np.ndarray`` is this package's class all the same: they view
themselves as it, and call its methods on themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr.face import _fastpath
from dispatcharr.face.array import array_class, is_array, unwrap

__all__ = ["ArrayMeta", "Derived", "unbound"]


class Derived(numpy.ndarray):
    """:class:`numpy.ndarray` for subclasses, to which both array classes mean the same."""

    __slots__ = ()

    def view(self, *args: Any, **kwargs: Any) -> Any:
        """Return a view of the same memory; see :meth:`numpy.ndarray.view`.

        What it views as an array is NumPy's: NumPy's protocols, which come next in such code, take
        no other.
        """
        return super().view(*unwrap(args), **unwrap(kwargs))

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: Any = False, /) -> Any:
        return super().__array_wrap__(unwrap(array), context, return_scalar)


#: What makes a class what it is, as against what its instances can do.
_OF_CLASSES = {
    "__class__", "__class_getitem__", "__delattr__", "__dir__", "__doc__", "__getattribute__",
    "__hash__", "__init__", "__init_subclass__", "__new__", "__setattr__", "__subclasshook__",
}  # fmt: skip
#: Protocols, which NumPy and others ask classes for themselves.
_PROTOCOLS = ("__array", "__buffer", "__dlpack")
_OPERATIONS = {
    name for name, member in vars(numpy.ndarray).items()
    if name[:2] == "__" and callable(member) and name not in _OF_CLASSES
    and not name.startswith(_PROTOCOLS)
}  # fmt: skip


class ArrayMeta(_fastpath.Meta):  # type: ignore[misc]
    """Makes genuine NumPy arrays instances too, and subclasses genuine NumPy subclasses.

    Programs that test ``isinstance(x, np.ndarray)`` keep working for arrays of either kind. A class
    derived from ``dispatcharr.ndarray`` is derived from ``numpy.ndarray`` instead: subclasses live
    by NumPy's own protocol (``__array_finalize__``), which only NumPy can honour.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any], **more: Any) -> Any:
        if any(isinstance(base, ArrayMeta) for base in bases):
            real = tuple(Derived if isinstance(base, ArrayMeta) else base for base in bases)
            return type(real[0])(name, real, space, **more)
        return super().__new__(mcs, name, bases, space, **more)

    def __instancecheck__(cls, instance: object) -> bool:
        return type(instance) is cls or isinstance(instance, numpy.ndarray)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return subclass is cls or (
            isinstance(subclass, type) and numpy.ndarray in type.mro(subclass)
        )


def unbound(made: type) -> dict[str, Any]:
    """Return operations that take subclasses too, for those who ask the class for them."""
    return {name: _either(name, getattr(made, name)) for name in _OPERATIONS if hasattr(made, name)}


def _either(name: str, ours: Callable[..., Any]) -> Callable[..., Any]:
    numpys = getattr(numpy.ndarray, name)

    @functools.wraps(numpys)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if is_array(self) or not isinstance(self, numpy.ndarray):
            return ours(self, *args, **kwargs)
        made = numpys(self, *unwrap(args), **unwrap(kwargs))
        return _fastpath.wrap(made) if array_class() in args else made

    return call
