"""Whether an argument is a temporary: an intermediate that no name of the program holds.

``((a - b) ** 2).sum()`` must not store the square, ``y.sum()`` must keep ``y``. The interpreter's
reference counts tell them apart, by amounts that depend on its version; so they are measured once,
with probes that are called exactly as the real thing is. Where temporaries and names cannot be told
apart, everything is taken for named, and is stored: slower, never wrong. That is so of calls with
keywords where the fast path is not compiled: the interpreter then holds the arguments twice.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import Any

__all__ = [
    "is_named_twice", "is_shared", "is_temporary_argument", "is_temporary_item",
    "is_temporary_self",
]  # fmt: skip


_counts = {"self": 0, "named": 0, "argument": 0, "item": 0, "held": 0}


def measure(make: Callable[[], Any], attach: Callable[[str, Any], Any]) -> None:
    """Count a temporary and a named array in each of the ways in which one is passed.

    Parameters
    ----------
    make : callable
        Returns a new pending array, which the fast path hands on.
    attach : callable
        ``attach(name, function)`` returns ``function`` as reductions are called; with a name, the
        array class gets it as a method.
    """
    seen: list[int] = []

    def method(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(getrefcount(self))

    def function(a: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(getrefcount(a))

    attach("_probe", method)
    called = attach("", function)
    make()._probe()
    named = make()
    named._probe()
    called(make())
    called(named)
    _counts["self"] = seen[0] if seen[1] > seen[0] else 0
    _counts["named"] = seen[1]
    _counts["argument"] = seen[2] if seen[3] > seen[2] else 0
    named._value = []
    held = named._value
    _counts["held"] = getrefcount(held)


def is_temporary_self(count: int) -> bool:
    """Return whether ``count``, taken of ``self`` in a method, is that of a temporary."""
    return count <= _counts["self"]


def is_named_twice(count: int) -> bool:
    """Return whether ``count``, taken of ``self`` in a method, is more than one name's."""
    return count > _counts["named"] > 0


def is_temporary_argument(count: int) -> bool:
    """Return whether ``count``, taken of a function's first argument, is that of a temporary."""
    return count <= _counts["argument"]


def is_shared(count: int) -> bool:
    """Return whether ``count``, taken of an array's value under one name, is more than its own."""
    return count > _counts["held"]


def set_item_count(temporary: int, named: int) -> None:
    """Tell what a handler of item assignment counts for a temporary and for a named value."""
    _counts["item"] = temporary if named > temporary else 0


def is_temporary_item(count: int) -> bool:
    """Return whether ``count``, taken of the value in item assignment, is that of a temporary."""
    return count <= _counts["item"]
