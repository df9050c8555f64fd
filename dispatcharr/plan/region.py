"""A region: one kernel as a value, free of data.

A region is a short straight-line program over one iteration space. Registers are numbered: first
the inputs, then one per result of each instruction. Inputs and outputs are described, not held, so
that one region serves every repetition of a statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from dispatcharr.ops.row import Reduction, Row

__all__ = ["AGAIN", "ERROR_KINDS", "REMARK", "Instruction", "Layout", "Reducing", "Region",
           "parts_of"]  # fmt: skip

#: Floating-point errors in NumPy's words, in the order in which nodes keep their modes.
ERROR_KINDS = ("divide by zero", "overflow", "underflow", "invalid value")
#: What else a run may tell in their place: a warning in words of its own, and a reduction whose
#: result depends on the order of operations, so that NumPy's has to be taken.
REMARK, AGAIN = "remark", "again"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a buffer is seen over the iteration space.

    Attributes
    ----------
    dtype : numpy.dtype
        Element type.
    axes : tuple of int or None
        Transposition that brings the buffer into the order of the space; None for none.
    shape : tuple of int
        Shape after transposition over the collapsed space; 1 where it is broadcast. Empty
        for a constant.
    contiguous : bool
        Whether it is one run of memory over the space.
    """

    dtype: numpy.dtype[Any]
    axes: tuple[int, ...] | None
    shape: tuple[int, ...]
    contiguous: bool

    def view(self, buffer: numpy.ndarray) -> numpy.ndarray:
        """Return ``buffer`` as the region sees it, without a copy."""
        if self.axes is not None:
            buffer = buffer.transpose(self.axes)
        return buffer if buffer.shape == self.shape else buffer.reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Instruction:
    """``registers[results] = row(registers[operands])``."""

    row: Row
    operands: tuple[int, ...]
    results: tuple[int, ...]
    dtypes: tuple[numpy.dtype[Any], ...]
    params: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Reducing:
    """The terminal reduction of a region.

    Attributes
    ----------
    row : Reduction
        What is computed.
    register : int
        What is reduced.
    axes : tuple of int
        Reduced axes of the collapsed space.
    count : int
        Elements that go into each result.
    state_dtype : numpy.dtype or None
        The ``dtype`` handed to the row's ``partial``.
    dtype : numpy.dtype
        The result's.
    shape : tuple of int
        The result's over the collapsed space, reduced axes kept with length one.
    params : tuple of (str, object)
        Extra arguments, such as ``("ddof", 1)``.
    mask : int or None
        Register of the mask that the row's ``partial`` takes; it broadcasts to the space.
    """

    row: Reduction
    register: int
    axes: tuple[int, ...]
    count: int
    state_dtype: numpy.dtype[Any] | None
    dtype: numpy.dtype[Any]
    shape: tuple[int, ...]
    params: tuple[tuple[str, Any], ...]
    mask: int | None = None

    @property
    def reads(self) -> tuple[int, ...]:
        """Registers that are read."""
        return (self.register,) if self.mask is None else (self.register, self.mask)

    def partial(self, registers: Sequence[Any], shape: tuple[int, ...]) -> tuple[Any, ...]:
        """Return the row's state of a block of ``shape``, given the registers over it."""
        source = registers[self.register]
        if source.shape != shape:
            source = numpy.broadcast_to(source, shape)
        mask = () if self.mask is None else (registers[self.mask],)
        return self.row.partial(source, self.axes, self.state_dtype, *mask)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Region:
    """One kernel. Regions compare by identity: they live in cached plans and are not made twice.

    Attributes
    ----------
    shape : tuple of int
        The iteration space, collapsed, slowest axis first.
    inputs : tuple of Layout
        Registers 0 to ``len(inputs) - 1``.
    program : tuple of Instruction
        In order; may be empty when an input is reduced as it is.
    outputs : tuple of int
        Registers stored, in the order of the output buffers.
    output_layouts : tuple of Layout
        How each output buffer is seen over the space.
    reducing : Reducing or None
        Terminal reduction; its result is the last output buffer.
    border : str
        Why the region ends where it ends.
    others : tuple of Reducing
        Further reductions of the same register along the same axes, whose results come after that
        of ``reducing``.
    watch : frozenset of str
        Which of :data:`ERROR_KINDS` somebody asks for; others may go unnoticed.
    """

    shape: tuple[int, ...]
    inputs: tuple[Layout, ...]
    program: tuple[Instruction, ...]
    outputs: tuple[int, ...]
    output_layouts: tuple[Layout, ...]
    reducing: Reducing | None
    border: str
    watch: frozenset[str] = frozenset(ERROR_KINDS)
    others: tuple[Reducing, ...] = ()

    @property
    def reductions(self) -> tuple[Reducing, ...]:
        """All reductions, in the order of their results."""
        return () if self.reducing is None else (self.reducing, *self.others)

    @property
    def elements(self) -> int:
        """Points of the iteration space."""
        n = 1
        for extent in self.shape:
            n *= extent
        return n

    def describe(self) -> str:
        """Return the program as one line of text."""
        names = [row.row.name for row in self.program]
        names += [reducing.row.name for reducing in self.reductions]
        return " ".join(names)


def parts_of(region: Region) -> list[Region]:
    """Return a region for each reduction of ``region``; what it stores goes with the first."""
    found = []
    for place, reducing in enumerate(region.reductions):
        stored = () if place else region.outputs
        layouts = () if place else region.output_layouts
        found.append(
            replace(region, reducing=reducing, others=(), outputs=stored, output_layouts=layouts)
        )
    return found
