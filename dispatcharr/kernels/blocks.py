"""The ``blocks`` engine: NumPy ufuncs over cache-sized blocks, with reused temporaries.

A region is run block by block: each instruction is one NumPy call with ``out=`` into a temporary
that stays in the cache, or straight into the output. Nothing is compiled; every row and dtype
works; it is the reference that other engines are tested against. A single instruction needs no
blocks and runs as NumPy would, once per chunk.

A :class:`Job` is a prepared region: ``count`` tasks that may run in any order and on any thread,
and a ``finish`` that joins partial reductions. How a reduction is cut depends on its shape alone,
so its bits do not depend on the threads.

Floating-point errors are collected, not raised: tasks run under NumPy's ``log`` mode, and
:attr:`Job.errors` says afterwards what NumPy would have warned of, in its own words.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from dispatcharr._errors import user_level
from dispatcharr.kernels.grid import Block, block_grid
from dispatcharr.kernels.several import Several
from dispatcharr.ops.row import Elementwise
from dispatcharr.plan.region import ERROR_KINDS, Instruction, Reducing, Region, parts_of
from dispatcharr.plan.work import register_dtypes

__all__ = ["REDUCE_BLOCK_BYTES", "Job", "prepare"]

#: Bytes of a block in reductions. A constant, not a measured one: it decides their last bits.
REDUCE_BLOCK_BYTES = 1 << 19
#: Elements under which a chunk is not cut further: below, threads wait for the interpreter.
SMALLEST_CHUNK = 1 << 14
#: Elements of a block when nothing is computed before the reduction.
PLAIN_REDUCE_ELEMENTS = 1 << 19
#: Pieces that a reduction to few values is cut into, whatever the number of threads.
SEGMENTS = 64

_scratch = threading.local()


def scratch(slot: int, nbytes: int) -> numpy.ndarray:
    """Return this thread's reused memory number ``slot``, at least ``nbytes`` long."""
    held: list[numpy.ndarray] = getattr(_scratch, "held", [])
    if not held:
        _scratch.held = held
    while len(held) <= slot:
        held.append(numpy.empty(0, numpy.uint8))
    if held[slot].nbytes < nbytes:
        held[slot] = numpy.empty(nbytes, numpy.uint8)
    return held[slot]


class _Cut:
    """How a region is cut and where its temporaries live: all that does not depend on the data."""

    __slots__ = ("dtypes", "full", "grid", "out_of", "plain", "slots", "steps")

    def __init__(self, region: Region, block_bytes: int, pieces: int) -> None:
        self.dtypes = register_dtypes(region)
        self.out_of = {register: i for i, register in enumerate(region.outputs)}
        reducing = region.reducing
        self.plain = len(region.program) == 1 and reducing is None
        if reducing is None:
            # One instruction has no temporaries to keep in the cache: a chunk is a task.
            share = max(-(-region.elements // pieces), SMALLEST_CHUNK if pieces > 1 else 1)
            limit = share if self.plain else min(self._elements(block_bytes), share)
            self.grid = block_grid(region.shape, limit, None, pieces)
        else:
            in_cache = region.program or reducing.row.rereads
            limit = self._elements(REDUCE_BLOCK_BYTES) if in_cache else PLAIN_REDUCE_ELEMENTS
            self.grid = block_grid(region.shape, limit, reducing.axes, SEGMENTS)
        self.slots = _allocate(region, self.out_of)
        first = len(region.inputs)
        self.steps = [
            _Step(instruction, self.out_of.get(first + place))
            for place, instruction in enumerate(region.program)
        ]
        self.full = [layout.shape == region.shape for layout in region.inputs]

    def _elements(self, block_bytes: int) -> int:
        itemsize = max((dtype.itemsize for dtype in self.dtypes), default=8)
        return max(block_bytes // itemsize, 64)


_cuts: weakref.WeakKeyDictionary[Region, dict[tuple[int, int], _Cut]] = weakref.WeakKeyDictionary()


def _cut_of(region: Region, block_bytes: int, pieces: int) -> _Cut:
    found = _cuts.get(region)
    if found is None:
        found = _cuts[region] = {}
    cut = found.get((block_bytes, pieces))
    if cut is None:
        cut = found[block_bytes, pieces] = _Cut(region, block_bytes, pieces)
    return cut


class _Heard:
    """Keeps what NumPy would have warned of as (kind, operation), in the place of its log."""

    def __init__(self, errors: set[tuple[str, str]]) -> None:
        self.errors = errors
        self.place: str | None = None

    def write(self, message: str) -> None:
        """Take down ``"Warning: overflow encountered in exp"``."""
        kind, _, name = message.removeprefix("Warning: ").rstrip().partition(" encountered in ")
        self.errors.add((kind, self.place or name))

    def errstate(self, watch: frozenset[str]) -> numpy.errstate:
        """Return the context in which these errors are heard, and others ignored."""
        modes: dict[str, Any] = {
            name: "log" if kind in watch else "ignore"
            for name, kind in zip(_MODES, ERROR_KINDS, strict=True)
        }
        return numpy.errstate(**modes, call=self)


#: The arguments of ``errstate``, in the order of :data:`ERROR_KINDS`.
_MODES = ("divide", "over", "under", "invalid")


class Job:
    """A region bound to its buffers, cut into tasks."""

    __slots__ = (
        "count",
        "cut",
        "errors",
        "out_views",
        "region",
        "states",
        "targets",
        "views",
        "watch",
    )

    def __init__(
        self,
        region: Region,
        inputs: Sequence[numpy.ndarray],
        outputs: Sequence[numpy.ndarray],
        cut: _Cut,
    ) -> None:
        self.region = region
        self.cut = cut
        self.errors: set[tuple[str, str]] = set()
        self.watch = region.watch
        self.views = [
            layout.view(buffer) for layout, buffer in zip(region.inputs, inputs, strict=True)
        ]
        # A reduction's result is the last output and has no layout over the space.
        self.out_views = [
            layout.view(buffer)
            for layout, buffer in zip(region.output_layouts, outputs, strict=False)
        ]
        self.targets = outputs[len(region.outputs) :]
        self.count = cut.grid.tasks
        self.states: list[Any] = [None] * self.count

    def run(self, task: int) -> None:
        """Run one task."""
        heard = _Heard(self.errors)
        with heard.errstate(self.watch):
            self._task(task, heard)

    def _task(self, task: int, heard: _Heard) -> None:
        cut = self.cut
        if cut.plain:
            self._whole(task)
            return
        temporaries = self._temporaries(cut.grid.extents)
        folds = [_Fold(reducing, heard) for reducing in self.region.reductions]
        for block in cut.grid.blocks(task):
            shape = tuple([one.stop - one.start for one in block])
            held = temporaries if shape == cut.grid.extents else self._temporaries(shape)
            registers = self._cut_inputs(block)
            for step in cut.steps:
                if step.output is None:
                    out = held[len(registers)]
                else:
                    out = self.out_views[step.output][block]
                step.run(registers, out, block)
                registers.append(out)
            for fold in folds:
                fold.add(registers, shape)
        self.states[task] = [fold.total() for fold in folds]

    def _whole(self, task: int) -> None:
        (step,) = self.cut.steps
        for block in self.cut.grid.blocks(task):
            step.run(self._cut_inputs(block), self.out_views[0][block], block)

    def _cut_inputs(self, block: Block) -> list[Any]:
        return [
            view[block] if full else _cut(view, block)
            for view, full in zip(self.views, self.cut.full, strict=True)
        ]

    def _temporaries(self, shape: tuple[int, ...]) -> dict[int, numpy.ndarray]:
        """Return the scratch arrays of a block of ``shape``, by register."""
        size = 1
        for extent in shape:
            size *= extent
        made: dict[int, numpy.ndarray] = {}
        for register, slot in self.cut.slots.items():
            dtype = self.cut.dtypes[register]
            memory = scratch(slot, size * dtype.itemsize)[: size * dtype.itemsize].view(dtype)
            made[register] = memory if len(shape) == 1 else memory.reshape(shape)
        return made

    def finish(self) -> None:
        """Join partial reductions and write the results."""
        for number, reducing in enumerate(self.region.reductions):
            self._finish(number, reducing)

    def _finish(self, number: int, reducing: Reducing) -> None:
        heard = _Heard(self.errors)
        params = dict(reducing.params)
        target = self.targets[number].reshape(reducing.shape)
        remarks: set[str | None] = set()
        with heard.errstate(self.watch):
            for stripe, tasks in self.cut.grid.stripes():
                heard.place = "reduce"
                state = _tree([self.states[task][number] for task in tasks], reducing.row.combine)
                heard.place = "reduce" if reducing.row.ufunc is not None else None
                result = reducing.row.finish(state, reducing.count, params)
                if reducing.row.remark is not None:
                    remarks.add(reducing.row.remark(state, result, params))
                where = tuple(
                    slice(0, 1) if axis in reducing.axes else cut for axis, cut in enumerate(stripe)
                )
                spot = target[where]
                numpy.copyto(spot, numpy.reshape(result, spot.shape), casting="unsafe")
        for remark in remarks - {None}:
            warnings.warn(str(remark), RuntimeWarning, stacklevel=user_level())


_parts: weakref.WeakKeyDictionary[Region, list[Region]] = weakref.WeakKeyDictionary()


def _parts_of(region: Region) -> list[Region]:
    found = _parts.get(region)
    if found is None:
        found = _parts[region] = parts_of(region)
    return found


def prepare(
    region: Region,
    inputs: Sequence[numpy.ndarray],
    outputs: Sequence[numpy.ndarray],
    block_bytes: int,
    pieces: int = 1,
) -> Job | Several:
    """Bind ``region`` to its buffers and cut it into tasks.

    Parameters
    ----------
    region : Region
        The kernel.
    inputs, outputs : sequence of numpy.ndarray
        Buffers in the region's order; a reduction's result is the last output.
    block_bytes : int
        Bytes of one operand's block.
    pieces : int
        How many tasks are wished for; reductions are cut by their shape alone.
    """
    if region.others and not region.program:
        parts = zip(_parts_of(region), outputs, strict=True)
        return Several([prepare(one, inputs, [out], block_bytes, pieces) for one, out in parts])
    return Job(region, inputs, outputs, _cut_of(region, block_bytes, pieces))


def _allocate(region: Region, out_of: dict[int, int]) -> dict[int, int]:
    """Give every temporary register a scratch slot; slots are reused once nobody reads them."""
    first = len(region.inputs)
    last_use = _last_uses(region)
    free: list[int] = []
    slots: dict[int, int] = {}
    used = 0
    for place, instruction in enumerate(region.program):
        register = first + place
        if register not in out_of:
            if free:
                slots[register] = free.pop()
            else:
                slots[register] = used
                used += 1
        # Freed after the result is placed: an instruction never writes where it reads, so that
        # rows whose loops make several passes (where, clip, astype) are safe too.
        for operand in set(instruction.operands):
            if operand in slots and last_use[operand] == place:
                free.append(slots[operand])
        if register in slots and register not in last_use:
            free.append(slots[register])
    return slots


def _last_uses(region: Region) -> dict[int, int]:
    """Return, by register, the place of the last instruction that reads it."""
    found: dict[int, int] = {}
    for place, instruction in enumerate(region.program):
        for register in instruction.operands:
            found[register] = place
    for reducing in region.reductions:
        for register in reducing.reads:
            found[register] = len(region.program)
    return found


def _cut(view: numpy.ndarray, block: tuple[slice, ...]) -> numpy.ndarray:
    if view.ndim == 0:
        return view
    if len(block) == 1:
        return view if view.shape[0] == 1 else view[block[0]]
    return view[
        tuple(
            slice(None) if extent == 1 else cut
            for extent, cut in zip(view.shape, block, strict=True)
        )
    ]


class _Step:
    """One instruction, ready to be run on registers."""

    __slots__ = ("function", "operands", "output", "params", "run")

    def __init__(self, instruction: Instruction, output: int | None) -> None:
        row = instruction.row
        self.output = output
        self.operands = instruction.operands
        self.params = instruction.params
        self.function: Any = row.fill
        self.run: Callable[[list[Any], numpy.ndarray, Block], None] = self._fill
        if type(row) is not Elementwise:
            self.run = self._generate
        elif row.fill is None:
            self.function = row.ufunc
            self.run = self._unary if len(self.operands) == 1 else self._binary

    def _unary(self, registers: list[Any], out: numpy.ndarray, block: Block) -> None:
        self.function(registers[self.operands[0]], out=out)

    def _binary(self, registers: list[Any], out: numpy.ndarray, block: Block) -> None:
        left, right = self.operands
        self.function(registers[left], registers[right], out=out)

    def _fill(self, registers: list[Any], out: numpy.ndarray, block: Block) -> None:
        self.function(tuple([registers[i] for i in self.operands]), out)

    def _generate(self, registers: list[Any], out: numpy.ndarray, block: Block) -> None:
        self.function(self.params, block[0].start, out)


class _Fold:
    """Joins the states of consecutive blocks pairwise, holding a logarithm of them at a time."""

    def __init__(self, reducing: Reducing, heard: _Heard) -> None:
        self.reducing = reducing
        self.heard = heard
        self.pending: list[tuple[int, Any]] = []

    def add(self, registers: list[Any], shape: tuple[int, ...]) -> None:
        reducing = self.reducing
        state = reducing.partial(registers, shape)
        rank = 0
        # NumPy has no step of joining: what overflows there overflows in its reduction.
        self.heard.place = "reduce"
        while self.pending and self.pending[-1][0] == rank:
            state = reducing.row.combine(self.pending.pop()[1], state)
            rank += 1
        self.heard.place = None
        self.pending.append((rank, state))

    def total(self) -> Any:
        combine = self.reducing.row.combine
        self.heard.place = "reduce"
        state = self.pending.pop()[1]
        while self.pending:
            state = combine(self.pending.pop()[1], state)
        return state


def _tree(states: list[Any], combine: Callable[[Any, Any], Any]) -> Any:
    while len(states) > 1:
        paired = [combine(states[i], states[i + 1]) for i in range(0, len(states) - 1, 2)]
        states = paired + states[len(states) - len(states) % 2 :]
    return states[0]
