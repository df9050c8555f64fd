"""Compiled kernels on threads that never touch the interpreter (`_crew.c`, where it was built).

Waking a Python thread takes some hundred microseconds, since it has to be given the interpreter's
lock too; what is shorter than a millisecond gains nothing by it. These threads are woken in a tenth
of that. Where there are none (no compiler, Windows) tasks of kernels are shared out by
:mod:`dispatcharr.kernels.pool`, as everything else is; results are the same.
"""

from __future__ import annotations

from typing import Any

from dispatcharr._config import variable

_compiled: Any = None
if not variable("DISPATCHARR_PURE_PYTHON"):
    try:
        from dispatcharr.kernels import _crew_c as _compiled
    except ImportError:  # not built here: the pool of Python threads does its work
        _compiled = None

__all__ = ["COMPILED", "PROBE", "entry", "is_awake", "run", "run_table"]

#: Share of the latest runs that has to follow the one before closely.
_CLOSE = 0.75
#: :func:`run` as it was compiled, with its numbers one by one and a stride after the table.
entry: Any = _compiled.run if _compiled is not None else None
#: Whether there are such threads.
COMPILED = _compiled is not None
#: The address of a kernel that multiplies as often as its table of arguments says.
PROBE: int = _compiled.PROBE if COMPILED else 0


def is_awake() -> bool:
    """Return whether kernels have followed each other lately as closely as helpers look out for."""
    return COMPILED and _compiled.closeness() >= _CLOSE


def run(kernel: int, args: int, boxes: tuple[int, int, int, int], threads: int) -> int:
    """Run a kernel on all boxes of a space; return how many threads were called to it.

    Parameters
    ----------
    kernel, args : int
        Addresses of the kernel and of its table of arguments.
    boxes : tuple of int
        Where the boxes are and how far apart, where the numbers of the tasks' first boxes are, and
        how many tasks there are.
    threads : int
        Most threads at work, those included that the program itself has here.
    """
    first, apart, starts, count = boxes
    found: int = _compiled.run(kernel, args, 0, first, apart, starts, count, threads)
    return found


def run_table(
    kernel: int, args: int, stride: int, count: int, threads: int, room: int = 0, apart: int = 0
) -> int:
    """Run a kernel ``count`` times; return how many threads were called to it.

    Parameters
    ----------
    kernel, args : int
        Addresses of the kernel and of its first table of arguments.
    stride : int
        Bytes from one table to the next.
    count, threads : int
        How many tables there are, and most threads at work.
    room, apart : int
        Where what the first thread works in is, and bytes from there to the next thread's: given
        to the kernel as its box.
    """
    found: int = _compiled.run(kernel, args, stride, room, apart, 0, count, threads)
    return found
