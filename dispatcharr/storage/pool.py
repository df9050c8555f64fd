"""Where the memory of large results comes from: what earlier results have left.

Clearing fresh pages takes as long as adding two arrays does, so memory of results that died is kept
for the next ones (`_pool.c`, compiled, on POSIX systems; elsewhere NumPy allocates). Arrays of the
pool own their data as any others do.
"""

from __future__ import annotations

import os
from typing import Any

import numpy

from dispatcharr._config import variable
from dispatcharr._errors import OptionError

_compiled: Any = None
if not variable("DISPATCHARR_PURE_PYTHON"):
    try:
        from dispatcharr.storage import _pool_c as _compiled
    except ImportError:  # not built here: NumPy allocates
        _compiled = None

__all__ = [
    "FLOOR",
    "HANDLER",
    "SYSTEM_RECYCLES",
    "MemoryPool",
    "empty",
    "enter",
    "get_default_memory_pool",
    "leave",
    "machine_memory",
    "recycled",
]  # fmt: skip

#: Bytes from which NumPy's own results are mapped anew each time, and their pages cleared. glibc
#: raises its threshold for that as arrays are freed, up to 32 MiB on 64-bit systems (mallopt(3)).
SYSTEM_RECYCLES = 1 << 25
#: NumPy's handle of the pool, and the bytes from which results come from it.
HANDLER: Any = None if _compiled is None else _compiled.HANDLER
FLOOR: int = 0 if _compiled is None else _compiled.FLOOR
#: Share of the machine's memory that may be kept.
_SHARE = 8


def machine_memory() -> int:
    """Return the machine's memory in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30  # no sysconf on Windows; half of what any recent machine has


def _shipped_limit() -> int:
    text = variable("DISPATCHARR_POOL_LIMIT")
    if not text:
        return machine_memory() // _SHARE
    try:
        return _checked(int(text))
    except ValueError:
        raise OptionError(
            f"DISPATCHARR_POOL_LIMIT must be a number of bytes, got {text!r}; set it to e.g. "
            f"{1 << 30}, to 0 for no pool, or unset it"
        ) from None


def _checked(size: int) -> int:
    if size < 0:
        raise ValueError(f"set_limit: wanted a number of bytes, got {size}")
    return min(size, 1 << 62)


def empty(
    shape: tuple[int, ...], dtype: numpy.dtype[Any], strides: tuple[int, ...] | None = None
) -> numpy.ndarray:
    """Return an uninitialised array, in memory of the pool where it is large.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dtype : numpy.dtype
        Its type; objects are not for the pool.
    strides : tuple of int, optional
        Its strides in bytes; C order where left out.
    """
    if _compiled is not None and _limit:
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if size >= FLOOR and not dtype.hasobject:
            made: numpy.ndarray = _compiled.empty(shape, dtype, strides)
            return made
    if strides is None:
        return numpy.empty(shape, dtype)
    return numpy.ndarray(shape, dtype, strides=strides)


def enter() -> Any:
    """Have the arrays that NumPy makes in this context allocated by the pool, until `leave`."""
    return _compiled.enter() if _compiled is not None and _limit else None


def leave(before: Any) -> None:
    """Have them allocated by what did so before: what :func:`enter` returned."""
    if before is not None:
        _compiled.leave(before)


def recycled(size: int) -> bool:
    """Return whether a result of ``size`` bytes is likely to get memory that was used before."""
    return size < SYSTEM_RECYCLES or (_compiled is not None and size <= _limit)


class MemoryPool:
    """The memory that is kept for the results to come. There is one, for the process.

    It returns what nobody wanted for two seconds to the system, and with what is in use it never
    exceeds what the program itself has used at once by more than 32 MiB.

    Examples
    --------
    >>> import dispatcharr as np
    >>> pool = np.get_default_memory_pool()
    >>> pool.free_all_blocks()
    >>> pool.free_bytes()
    0
    """

    def used_bytes(self) -> int:
        """Return how many bytes of the pool arrays hold now."""
        return _state("used")

    def free_bytes(self) -> int:
        """Return how many bytes are kept for the results to come."""
        return _state("kept")

    def total_bytes(self) -> int:
        """Return how many bytes the pool has of the system."""
        return _state("used") + _state("kept")

    def get_limit(self) -> int:
        """Return how many bytes may be kept; 0 where there is no pool on this machine."""
        return 0 if _compiled is None else _limit

    def set_limit(self, size: int) -> None:
        """Keep at most ``size`` bytes from now on; 0 for none, which also turns the pool off.

        The environment variable ``DISPATCHARR_POOL_LIMIT`` sets it at the start. Unset, it is an
        eighth of the machine's memory.

        Parameters
        ----------
        size : int
            Bytes.

        Raises
        ------
        ValueError
            It is negative.

        Examples
        --------
        >>> import dispatcharr as np
        >>> pool = np.get_default_memory_pool()
        >>> before = pool.get_limit()
        >>> pool.set_limit(100_000_000)
        >>> pool.set_limit(before)
        """
        global _limit
        _limit = _checked(size)
        if _compiled is not None:
            _compiled.set_limit(_limit)

    def free_all_blocks(self) -> None:
        """Return all that is kept to the system."""
        if _compiled is not None:
            _compiled.release()

    def __repr__(self) -> str:
        if _compiled is None:
            return "<MemoryPool: not on this machine>"
        return (
            f"<MemoryPool: {self.used_bytes()} bytes used, {self.free_bytes()} kept, "
            f"at most {self.get_limit()} kept>"
        )


def _state(name: str) -> int:
    return 0 if _compiled is None else int(_compiled.state()[name])


_limit = 0
_pool = MemoryPool()
_pool.set_limit(_shipped_limit())


def get_default_memory_pool() -> MemoryPool:
    """Return the pool that the memory of large results comes from.

    Returns
    -------
    MemoryPool
        Its names are those of CuPy's memory pools.

    Examples
    --------
    >>> import dispatcharr as np
    >>> np.get_default_memory_pool().free_bytes() >= 0
    True
    """
    return _pool
