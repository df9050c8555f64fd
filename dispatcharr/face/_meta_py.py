"""The class of the array class, where the fast path could not be compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy

__all__ = ["Meta", "set_believed", "set_unbound", "stay"]


class Meta(type):
    """The class of the array class, which is asked for attributes that take subclasses too."""

    unbound: ClassVar[dict[str, Any]] = {}
    believed: ClassVar[Callable[..., type] | None] = None

    def __getattribute__(cls, name: str) -> Any:
        found = Meta.unbound.get(name)
        return super().__getattribute__(name) if found is None else found


def set_unbound(table: dict[str, Any]) -> None:
    """Set what attributes are where the class is asked for them."""
    Meta.unbound = table


def set_believed(modules: frozenset[str], answer: Callable[..., type]) -> None:
    """Set what those who ask for the class of an array are told."""
    Meta.believed = answer


def stay(result: Any, wrap: Callable[[Any], Any], *operands: Any) -> Any:
    """Return an array for a scalar, where an operand is an array of the array API's namespace."""
    if not isinstance(result, numpy.generic):
        return result
    if not any([getattr(o, "_standard", False) for o in operands]):
        return result
    made = wrap(numpy.asarray(result))
    made._standard = True
    return made
