"""How much a kernel does, counted once and without any machine in mind.

``Work`` is counted from a region; ``route.price`` multiplies it by the rates of one backend.
Counts are of elements and bytes, never of seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from dispatcharr.plan.region import Instruction, Layout, Region
from dispatcharr.storage import places
from dispatcharr.storage.exports import is_visible, root_of
from dispatcharr.storage.pool import recycled

__all__ = ["Whereabouts", "Work", "count_work", "located", "register_dtypes", "whereabouts"]


@dataclass(frozen=True, slots=True)
class Work:
    """What one kernel reads, writes and computes.

    Attributes
    ----------
    elements : int
        Points of the iteration space.
    bytes_read, bytes_written : int
        Memory traffic with each distinct operand counted once. Broadcast operands count with
        the memory they own, not with the space they are spread over.
    bytes_fresh : int
        Part of ``bytes_written`` that goes to memory allocated for this run, whose pages the
        system must first supply: not that which the pool or the allocator has kept.
    ops : tuple of (str, str)
        One ``(cost class, dtype character)`` for each instruction over the whole space.
    reduction : tuple of (str, str) or None
        Cost class and dtype character of the terminal reduction.
    contiguous : bool
        Whether every operand is contiguous over the collapsed space.
    key : str
        Kernel class for learned corrections: cost classes and size class, e.g. ``"arith+trig/22"``.
    scalar : bool
        Whether the terminal reduction leaves one element, which is read at once.
    states : tuple of str
        Where each input is, ``"host"``, ``"both"`` or ``"device"``, or ``""`` where that does not
        matter; nothing at all where no device is in use.
    to_host, to_device : int
        Bytes to be moved for a run on the host, and for one on the device.
    """

    elements: int
    bytes_read: int
    bytes_written: int
    bytes_fresh: int
    ops: tuple[tuple[str, str], ...]
    reduction: tuple[str, str] | None
    contiguous: bool
    key: str
    scalar: bool = False
    states: tuple[str, ...] = ()
    to_host: int = 0
    to_device: int = 0

    @property
    def bytes_touched(self) -> int:
        """Working set in bytes: what is read and what is written."""
        return self.bytes_read + self.bytes_written


def count_work(region: Region, fresh: Sequence[bool]) -> Work:
    """Count what ``region`` does.

    Parameters
    ----------
    region : Region
        The kernel.
    fresh : sequence of bool
        For each output, whether its memory is allocated for this run; outputs that are not
        spoken of are not.
    """
    elements = region.elements
    read = sum(_owned(layout) for layout in region.inputs)
    stored = [_owned(layout) for layout in region.output_layouts]
    ops = tuple(
        (instruction.row.cost, _loop_char(region, instruction)) for instruction in region.program
    )
    reduction = None
    scalar = False
    if region.reducing is not None:
        scalar = math.prod(region.reducing.shape) == 1
        registers = register_dtypes(region)
        char = registers[region.reducing.register].char
        reduction = (region.reducing.row.cost, char)
        ops += tuple([(other.row.cost, char) for other in region.others])
    contiguous = all(layout.contiguous or not layout.shape for layout in region.inputs) and all(
        layout.contiguous for layout in region.output_layouts
    )
    classes = sorted({cost for cost, _ in ops} | ({reduction[0]} if reduction else set()))
    size_class = max(elements, 1).bit_length()
    key = f"{'+'.join(classes)}/{size_class}{'' if contiguous else 's'}"
    bytes_fresh = sum(
        size
        for size, is_fresh in zip(stored, fresh, strict=False)
        if is_fresh and not recycled(size)
    )
    return Work(elements, read, sum(stored), bytes_fresh, ops, reduction, contiguous, key, scalar)


#: A view of less than this part of its memory is moved to a device alone.
_PART = 4


#: Where each input is, and the bytes to be moved to the host and to the device.
Whereabouts = tuple[tuple[str, ...], int, int]


def located(work: Work, where: Whereabouts) -> Work:
    """Return ``work`` with where its operands are."""
    states, to_host, to_device = where
    return replace(work, states=states, to_host=to_host, to_device=to_device)


def whereabouts(
    inputs: Sequence[numpy.ndarray | None], outputs: Sequence[numpy.ndarray] = ()
) -> Whereabouts:
    """Return where operands are now. Memory is moved as a whole, once for all views of it.

    Parameters
    ----------
    inputs : sequence of array or None
        What is read; None for what is not made yet, of which nothing is counted.
    outputs : sequence of array
        What is written. Nothing has to be moved of memory that is overwritten as a whole.
    """
    states: list[str] = []
    moved = {"host": 0, "both": 0, "device": 0}
    seen: set[int] = set()
    for host in inputs:
        state = "" if host is None else places.state(host)
        if host is not None and host.ndim == 0 and state == "host":
            state = ""  # it goes with the launch
        if host is not None and state:
            moved[state] += _moved(host, state, seen)
        states.append(state)
    for host in outputs:
        root = root_of(host)
        # What others see comes home at once.
        if host.nbytes < root.nbytes or is_visible(root):
            state = places.state(host)
            moved[state] += _moved(host, state, seen)
    return tuple(states), moved["device"], moved["host"]


def _moved(host: numpy.ndarray, state: str, seen: set[int]) -> int:
    """Return the bytes that are moved for ``host``, besides those of what was seen before."""
    root = root_of(host)
    if id(root) in seen:
        return 0
    part, whole = min(host.nbytes, root.nbytes), root.nbytes
    if state == "device" or part * _PART > whole:  # all of it comes home for any part
        seen.add(id(root))
        return int(whole)
    return int(part)


def register_dtypes(region: Region) -> list[numpy.dtype[Any]]:
    """Return the dtype of every register of ``region``."""
    registers = [layout.dtype for layout in region.inputs]
    for instruction in region.program:
        registers.extend(instruction.dtypes)
    return registers


def _owned(layout: Layout) -> int:
    n = layout.dtype.itemsize
    for extent in layout.shape:
        n *= extent
    return n


def _loop_char(region: Region, instruction: Instruction) -> str:
    registers = register_dtypes(region)
    dtypes = [registers[i] for i in instruction.operands] or list(instruction.dtypes)
    return max(dtypes, key=lambda dtype: dtype.itemsize).char
