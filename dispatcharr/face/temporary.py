"""Whether an argument is a temporary: an intermediate that no name of the program holds.

``((a - b) ** 2).sum()`` must not store the square, ``y.sum()`` must keep ``y``. The interpreter's reference
counts tell them apart, by amounts that depend on its version; so they are measured once, with probes that
are called exactly as the real thing is. Where temporaries and names cannot be told apart, everything is
taken for named, and is stored: slower, never wrong.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any

__all__ = ["is_temporary_argument", "is_temporary_item", "is_temporary_self"]


class _Probe:
    """Stands for an array in the three ways in which one can be passed."""

    seen = 0

    def method(self, *args: Any, **kwargs: Any) -> None:
        _Probe.seen = getrefcount(self)

    def __setitem__(self, key: Any, item: Any) -> None:
        _Probe.seen = getrefcount(item)


def _function(a: Any, *args: Any, **kwargs: Any) -> None:
    _Probe.seen = getrefcount(a)


def _measure() -> tuple[int, int]:
    _Probe().method()
    temporary = _Probe.seen
    named = _Probe()
    named.method()
    of_self = temporary if _Probe.seen > temporary else 0
    _function(_Probe())
    temporary = _Probe.seen
    _function(named)
    of_argument = temporary if _Probe.seen > temporary else 0
    return of_self, of_argument


_SELF, _ARGUMENT = _measure()


def is_temporary_self(count: int) -> bool:
    """Return whether ``count``, taken of ``self`` in a method, is that of a temporary."""
    return count <= _SELF


def is_temporary_argument(count: int) -> bool:
    """Return whether ``count``, taken of a function's first argument, is that of a temporary."""
    return count <= _ARGUMENT


_ITEM: list[int] = []


def set_item_count(temporary: int, named: int) -> None:
    """Tell what a handler of item assignment counts for a temporary and for a named value."""
    _ITEM[:] = [temporary if named > temporary else 0]


def is_temporary_item(count: int) -> bool:
    """Return whether ``count``, taken of the value in item assignment, is that of a temporary."""
    return bool(_ITEM) and count <= _ITEM[0]
