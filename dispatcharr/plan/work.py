"""How much a kernel does, counted once and without any machine in mind.

``Work`` is counted from a region; ``route.price`` multiplies it by the rates of one backend.
Counts are of elements and bytes, never of seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr.plan.region import Instruction, Layout, Region
from dispatcharr.storage.pool import recycled

__all__ = ["Work", "count_work", "register_dtypes"]


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
    moves : int
        Bytes of inputs that are not yet at the backend's place.
    key : str
        Kernel class for learned corrections: cost classes and size class, e.g. ``"arith+trig/22"``.
    """

    elements: int
    bytes_read: int
    bytes_written: int
    bytes_fresh: int
    ops: tuple[tuple[str, str], ...]
    reduction: tuple[str, str] | None
    contiguous: bool
    key: str
    moves: int = 0

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
    if region.reducing is not None:
        registers = register_dtypes(region)
        reduction = (region.reducing.row.cost, registers[region.reducing.register].char)
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
    return Work(elements, read, sum(stored), bytes_fresh, ops, reduction, contiguous, key)


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
