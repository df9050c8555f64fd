"""Which floating-point errors a compiled kernel met, in NumPy's words.

The machine keeps one flag per kind of error for all that a kernel did. If one instruction alone can
have raised it, and never does without reason, it is that one. Otherwise ``blocks`` runs the region
once more, storing nothing, and says what NumPy would have said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy

from dispatcharr.kernels import blocks
from dispatcharr.kernels.llvm import Program
from dispatcharr.ops.row import Elementwise
from dispatcharr.plan.region import Instruction, Reducing, Region, parts_of

__all__ = ["Heard", "Suspects", "recomputed"]

#: Bytes of an operand's block when a region is run once more.
_BLOCK_BYTES = 1 << 17


_KINDS = ("divide by zero", "overflow", "underflow", "invalid value")


class Heard:
    """Keeps what NumPy would warn of as (kind, operation), in the place of its log."""

    def __init__(self) -> None:
        self.errors: set[tuple[str, str]] = set()
        self.place: str | None = None

    def write(self, message: str) -> None:
        """Take down ``"Warning: overflow encountered in exp"``."""
        kind, _, name = message.removeprefix("Warning: ").rstrip().partition(" encountered in ")
        self.errors.add((kind, self.place or name))


class Suspects:
    """Who can have raised which kind of error in a program."""

    def __init__(self, program: Program) -> None:
        self._by_kind: dict[str, list[str]] = {}
        unsure: set[str] = set()
        hinted: set[str] = set()
        self._reduces = program.region.reducing is not None
        for instruction, body in zip(program.region.program, program.bodies, strict=True):
            if body is None:
                continue
            unsure |= body.spurious
            if body.function:
                hinted |= body.spurious
            for kind in body.flags | body.spurious:
                self._by_kind.setdefault(kind, []).append(_name(instruction))
        #: Kinds of errors whose flag may be up although none was met.
        self.spurious = frozenset(unsure)
        #: Those that functions may have met if any other flag is up but underflow: NumPy's own
        #: functions and these report the same arguments as different kinds of errors.
        self.hinted = frozenset(hinted)
        if self._reduces and any(dtype.kind in "fc" for dtype in program.dtypes):
            for kind in _KINDS:
                self._by_kind.setdefault(kind, []).append("reduce")

    def kinds(self) -> frozenset[str]:
        """Kinds of errors that the program may meet at all."""
        return frozenset(self._by_kind)

    def sure(self, kind: str) -> str | None:
        """Return the one operation that can have met an error of this kind, if there is one."""
        names = self._by_kind.get(kind, [])
        alone = len(names) == 1 and kind not in self.spurious and not self._reduces
        return names[0] if alone else None

    def first(self, kind: str) -> str:
        """Return the first operation that may have met an error of this kind."""
        return self._by_kind[kind][0]


def _name(instruction: Instruction) -> str:
    """Return what NumPy's warnings call an instruction."""
    row = instruction.row
    if isinstance(row, Elementwise) and row.ufunc is not None:
        return row.ufunc.__name__
    return "cast" if row.cost == "cast" else row.name


def recomputed(
    region: Region,
    inputs: Sequence[numpy.ndarray],
    kinds: frozenset[str],
    target: numpy.ndarray | None = None,
) -> set[tuple[str, str]]:
    """Run ``region`` by blocks; return the errors of ``kinds``.

    Nothing is stored but, where there is a ``target`` for it, the result of a reduction.
    """
    if region.others:
        return set().union(*[recomputed(one, inputs, kinds) for one in parts_of(region)])
    reducing = region.reducing
    results = [numpy.empty(0)]
    if reducing is not None:
        results = [numpy.empty(reducing.shape, reducing.dtype) if target is None else target]
        reducing = _unremarked(reducing)
    quiet = replace(region, outputs=(), output_layouts=(), reducing=reducing, watch=kinds)
    widest = max((d.itemsize for i in region.program for d in i.dtypes), default=8)
    pieces = max(region.elements * widest // _BLOCK_BYTES, 1)
    work = blocks.prepare(quiet, inputs, results, _BLOCK_BYTES, pieces)
    if not isinstance(work, blocks.Job):
        raise TypeError("a region of one reduction is one job")
    work.cut.plain = False  # a block at a time and into scratch, single instructions too
    for task in range(work.count):
        work.run(task)
    work.finish()
    return work.errors


def _unremarked(reducing: Reducing) -> Reducing:
    """Return the reduction without its own warnings, which are not given twice."""
    return replace(reducing, row=replace(reducing.row, remark=None))
