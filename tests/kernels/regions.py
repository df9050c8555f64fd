"""Regions made by hand, buffers of every layout, and runs by either engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy

from dispatcharr.kernels import blocks, compiled
from dispatcharr.kernels.build import Builder
from dispatcharr.ops.reductions import REDUCTION_BY_NAME
from dispatcharr.ops.row import Generator
from dispatcharr.ops.table import BY_NAME, GENERATORS
from dispatcharr.plan.region import ERROR_KINDS, Instruction, Layout, Reducing, Region

WATCHED = frozenset(ERROR_KINDS) - {"underflow"}
#: One for all tests: what one has built serves the others.
BUILDER = Builder(None)
ROWS = {**BY_NAME, **{row.name: row for row in GENERATORS}}
LAYOUTS = ("plain", "stepped", "backwards", "transposed", "part", "row", "column", "constant")

Step = tuple[Any, ...]


def buffer(shape: Sequence[int], dtype: Any, layout: str, seed: int = 0) -> numpy.ndarray:
    """Return an array that broadcasts to ``shape`` and lies in memory as ``layout`` says."""
    rng = numpy.random.default_rng(seed)

    def make(extents: Sequence[int]) -> numpy.ndarray:
        values = numpy.asarray(rng.standard_normal(extents) * 50)
        if numpy.dtype(dtype).kind == "c":
            values = values + 1j * rng.standard_normal(extents)
        return numpy.asarray(values.astype(dtype))

    every = tuple([slice(None)] * len(shape))
    if layout == "stepped":
        return make([2 * n for n in shape])[tuple(slice(None, None, 2) for _ in shape)]
    if layout == "backwards":
        return make(shape)[tuple(slice(None, None, -1) for _ in shape)]
    if layout == "transposed":
        return make(shape[::-1]).T
    if layout == "part":
        return make([n + 3 for n in shape])[tuple(slice(1, n + 1) for n in shape)]
    if layout == "row":
        return make([1] * (len(shape) - 1) + [shape[-1]])
    if layout == "column":
        return make([*shape[:-1], 1])
    return make(()) if layout == "constant" else make(shape)[every]


def region(
    shape: tuple[int, ...],
    inputs: Sequence[numpy.ndarray],
    program: Sequence[Step],
    outputs: Sequence[int] | None = None,
) -> Region:
    """Return the region of steps ``(name, operands[, dtype[, params]])``."""
    dtypes = [array.dtype for array in inputs]
    made = []
    for name, operands, *more in program:
        row = ROWS[name]
        given = [dtypes[i] for i in operands]
        if more:
            dtype = numpy.dtype(more[0])
        elif isinstance(row, Generator) or row.ufunc is None:
            dtype = row.result(*given)  # type: ignore[union-attr,misc]
        else:
            dtype = row.ufunc.resolve_dtypes((*given, None))[-1]
        dtypes.append(dtype)
        made.append(
            Instruction(row, tuple(operands), (len(dtypes) - 1,), (dtype,), *map(tuple, more[1:]))
        )
    stored = tuple([len(dtypes) - 1] if outputs is None else outputs)
    return Region(
        shape,
        tuple(Layout(array.dtype, None, array.shape, False) for array in inputs),
        tuple(made),
        stored,
        tuple(Layout(dtypes[i], None, shape, True) for i in stored),
        None,
        "asked",
        WATCHED,
    )


def reducing(
    source: Region,
    name: str,
    axes: tuple[int, ...],
    register: int = -1,
    mask: int | None = None,
    params: tuple[tuple[str, Any], ...] = (),
    keep: bool = False,
) -> Region:
    """Return ``source`` with a reduction of one of its registers."""
    dtypes = [layout.dtype for layout in source.inputs]
    dtypes += [instruction.dtypes[0] for instruction in source.program]
    register %= len(dtypes)
    dtype = dtypes[register]
    row = REDUCTION_BY_NAME[name]
    with numpy.errstate(all="ignore"):
        result = numpy.asarray(getattr(numpy, name)(numpy.ones(2, dtype))).dtype
    state = None
    if row.cost == "reduce_moments" and dtype.kind == "c":
        state = dtype
    elif row.cost in ("reduce_sum", "reduce_prod", "reduce_moments"):
        state = numpy.dtype(numpy.float32) if result.char == "e" else result
    if mask is not None:
        assert row.masked is not None
        row = row.masked
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(source.shape))
    count = math.prod(source.shape[axis] for axis in axes)
    made = Reducing(row, register, axes, count, state, result, kept, params, mask)
    if keep:
        return replace(source, reducing=made)
    return replace(source, reducing=made, outputs=(), output_layouts=())


def job_of(
    source: Region, inputs: Sequence[Any], outputs: Sequence[Any], **options: Any
) -> compiled.Job | str:
    """Return the compiled job, waiting for its kernel. Underflow is not watched, as usual."""
    options.setdefault("watch", WATCHED)
    found = compiled.prepare(source, inputs, outputs, builder=BUILDER, **options)
    if found is None:
        assert BUILDER.wait(60)
        found = compiled.prepare(source, inputs, outputs, builder=BUILDER, **options)
    assert found is not None
    return found


def run(source: Region, inputs: Sequence[Any], outputs: Sequence[Any], **options: Any) -> set[Any]:
    """Run a region compiled, its tasks backwards; return the floating-point errors."""
    job = job_of(source, inputs, outputs, **options)
    assert not isinstance(job, str), job
    for task in reversed(range(job.count)):
        job.run(task)
    job.finish()
    return job.errors


def run_blocks(source: Region, inputs: Sequence[Any], outputs: Sequence[Any]) -> set[Any]:
    """Run a region by blocks; return the floating-point errors."""
    job = blocks.prepare(source, inputs, outputs, 1 << 17)
    for task in range(job.count):
        job.run(task)
    job.finish()
    return job.errors


def results(source: Region) -> list[numpy.ndarray]:
    """Return fresh memory for what a region gives."""
    found = [numpy.zeros(source.shape, layout.dtype) for layout in source.output_layouts]
    if source.reducing is not None:
        found.append(numpy.zeros(source.reducing.shape, source.reducing.dtype))
    return found
