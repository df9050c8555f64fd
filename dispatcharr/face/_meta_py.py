"""The class of the array class, where the fast path could not be compiled."""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["Meta", "set_unbound"]


class Meta(type):
    """The class of the array class, which is asked for attributes that take subclasses too."""

    unbound: ClassVar[dict[str, Any]] = {}

    def __getattribute__(cls, name: str) -> Any:
        found = Meta.unbound.get(name)
        return super().__getattribute__(name) if found is None else found


def set_unbound(table: dict[str, Any]) -> None:
    """Set what attributes are where the class is asked for them."""
    Meta.unbound = table
