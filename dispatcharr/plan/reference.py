"""A region on plain NumPy, whole arrays at a time: what every backend's answer is compared with.

Where the bits are not NumPy's, each element is compared with the error that is promised for it.
Rounding errors of an instruction are as large as its row promises; what becomes of the errors of
its operands is found by computing it again with operands that are off by as much. So a comparison
of values that are off may come out either way, and a sum of many may be off by more than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from dispatcharr.ops.reductions import REDUCTION_BY_NAME
from dispatcharr.ops.row import Elementwise
from dispatcharr.plan.region import Instruction, Reducing, Region

__all__ = ["Disagreement", "disagreement", "run_reference", "same"]

#: Distance of what is no exact operation, in units in the last place: NumPy's and ours are each
#: promised to be within 4 of the exact result.
ULPS = 8
#: Cost classes whose results are promised to be NumPy's to the last bit.
_EXACT = frozenset({
    "arith", "divide", "compare", "sqrt", "copy", "predicate", "select", "step", "round",
    "int_divide", "cast",
})  # fmt: skip
#: Rows that may give either of two equal zeros.
_CHOOSING = frozenset({"maximum", "minimum", "fmax", "fmin", "clip"})
#: Most wrong elements that are kept.
_SHOWN = 1000
Array = numpy.ndarray


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Where a kernel was wrong.

    Attributes
    ----------
    output : int
        Place among the outputs; the result of a reduction comes last.
    index : tuple of int
        The first wrong element, over the region's space.
    text : str
        What differs, for people.
    got, wanted : numpy.ndarray
        Some of what differs, and NumPy's.
    """

    output: int
    index: tuple[int, ...]
    text: str
    got: Array
    wanted: Array


def run_reference(region: Region, inputs: Sequence[Array]) -> list[Array]:
    """Return the outputs of ``region`` computed by NumPy over its collapsed space."""
    with numpy.errstate(all="ignore"):
        return _outputs(region, _registers(region, inputs))


def _registers(region: Region, inputs: Sequence[Array]) -> list[Any]:
    found: list[Any] = [
        layout.view(buffer) for layout, buffer in zip(region.inputs, inputs, strict=True)
    ]
    for instruction in region.program:
        operands = tuple(found[i] for i in instruction.operands)
        found.append(_result(instruction, operands, region.shape))
    return found


def _result(instruction: Instruction, operands: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    row = instruction.row
    result = numpy.empty(shape, instruction.dtypes[0])
    if not isinstance(row, Elementwise):
        row.fill(instruction.params, 0, result)
    elif row.fill is not None:
        row.fill(operands, result)
    else:
        row.ufunc(*operands, out=result)  # type: ignore[misc]
    return result


def _outputs(region: Region, registers: list[Any]) -> list[Array]:
    found = [numpy.broadcast_to(registers[i], region.shape) for i in region.outputs]
    found += [_reduced(one, registers, region.shape) for one in region.reductions]
    return found


def _reduced(reducing: Reducing, registers: list[Any], shape: tuple[int, ...]) -> Array:
    state = reducing.partial(registers, shape)
    result = reducing.row.finish(state, reducing.count, dict(reducing.params))
    return numpy.asarray(result).astype(reducing.dtype)


def disagreement(
    region: Region, inputs: Sequence[Array], outputs: Sequence[Array]
) -> Disagreement | None:
    """Compare ``outputs`` with NumPy's; where they are wrong put NumPy's in their place.

    Parameters
    ----------
    region : Region
        The kernel.
    inputs : sequence of numpy.ndarray
        What it read, as it was before the kernel ran.
    outputs : sequence of numpy.ndarray
        What it wrote.

    Returns
    -------
    Disagreement or None
        The first difference that the promises do not cover.
    """
    with numpy.errstate(all="ignore"):
        registers = _registers(region, inputs)
        expected = _outputs(region, registers)
        layouts = [layout.view for layout in region.output_layouts]
        found: Disagreement | None = None
        bounds: list[Any] | None = None
        for place, (wanted, buffer) in enumerate(zip(expected, outputs, strict=True)):
            got = layouts[place](buffer) if place < len(layouts) else buffer.reshape(wanted.shape)
            bad = ~same(got, wanted)
            if not bad.any():
                continue
            if bounds is None:
                bounds = _bounds(region, registers, expected)
            bad &= ~_is_near(got, wanted, bounds[place])
            if bad.any():
                found = found or _told(place, got, wanted, bad)
                numpy.copyto(got, wanted, casting="unsafe")
    return found


def _told(place: int, got: Array, wanted: Array, bad: Array) -> Disagreement:
    index = tuple([int(i) for i in numpy.argwhere(bad)[0]]) if bad.ndim else ()
    text = (
        f"output {place}: {int(bad.sum())} of {bad.size} elements, the first {got[index]} "
        f"instead of {wanted[index]}"
    )
    return Disagreement(place, index, text, got[bad][:_SHOWN], wanted[bad][:_SHOWN])


def same(got: Array, wanted: Array) -> Any:
    """Return where values are the same, to the sign of a zero; any NaN is as good as another."""
    if wanted.dtype.kind == "c":
        return same(got.real, wanted.real) & same(got.imag, wanted.imag)
    if wanted.dtype.kind != "f":
        return numpy.asarray(got == wanted)
    equal = (got == wanted) & (numpy.signbit(got) == numpy.signbit(wanted))
    return numpy.asarray(equal | (numpy.isnan(got) & numpy.isnan(wanted)))


def _is_near(got: Array, wanted: Array, bound: Any) -> Any:
    """Return where values are within their bounds; None is a bound of nothing."""
    if bound is None:
        return numpy.zeros(wanted.shape, bool)
    if wanted.dtype.kind in "biu":
        return bound > 0
    near = (numpy.abs(got - wanted) <= bound) | numpy.isinf(bound) | numpy.isnan(bound)
    if wanted.dtype.kind == "c":
        # The parts of what is not finite depend on the formula, and NumPy itself has two.
        near |= ~numpy.isfinite(got) & ~numpy.isfinite(wanted)
    return near | (got == wanted)


def _bounds(region: Region, registers: list[Any], expected: list[Array]) -> list[Any]:
    """Return for each output how far its elements may be off."""
    bounds: list[Any] = [None] * len(region.inputs)
    for instruction in region.program:
        value = registers[len(bounds)]
        bound = _own(instruction, value, [registers[i] for i in instruction.operands])
        for place, i in enumerate(instruction.operands):
            if bounds[i] is not None:
                operands = tuple(registers[j] for j in instruction.operands)
                more = _passed_on(instruction, operands, place, bounds[i], value)
                bound = more if bound is None else bound + more
        bounds.append(bound)
    found = [bounds[i] for i in region.outputs]
    results = expected[len(region.outputs) :]
    for reducing, result in zip(region.reductions, results, strict=True):
        one = replace(region, reducing=reducing, others=())
        found.append(_reduced_bound(one, registers, bounds, result))
    return found


def _own(instruction: Instruction, value: Array, operands: Sequence[Any]) -> Any:
    """Return the error that an instruction itself may make, None for none."""
    row = instruction.row
    if value.dtype.kind not in "fc" or not isinstance(row, Elementwise):
        return None
    # The size of a complex number is real, and rounded as complex products are.
    is_complex = any([numpy.asarray(one).dtype.kind == "c" for one in (value, *operands)])
    if row.cost not in _EXACT or is_complex:
        return ULPS * _unit(value)
    if row.name in _CHOOSING:
        return numpy.where(value == 0, numpy.finfo(value.dtype).smallest_subnormal, 0.0)
    return None


def _unit(value: Array) -> Any:
    """Return the unit in the last place; of complex numbers by their size, of inf and nan none."""
    size = numpy.abs(value)
    info = numpy.finfo(size.dtype)
    unit = numpy.maximum(size * info.eps, info.smallest_subnormal)
    return numpy.where(numpy.isfinite(size), unit.astype(numpy.float64), 0.0)


def _passed_on(
    instruction: Instruction, operands: tuple[Any, ...], place: int, bound: Any, value: Array
) -> Any:
    """Return how far ``value`` may be off because one operand is off by ``bound``."""
    operand = numpy.asarray(operands[place])
    if operand.dtype.kind not in "fc":
        return numpy.where(numpy.broadcast_to(bound, value.shape) > 0, numpy.inf, 0.0)
    steps = (1, -1, 1j, -1j) if operand.dtype.kind == "c" else (1, -1)
    found: Any = 0.0
    for step in steps:
        moved = (operand + step * numpy.asarray(bound)).astype(operand.dtype)
        shifted = (*operands[:place], moved, *operands[place + 1 :])
        other = _result(instruction, shifted, value.shape)
        if value.dtype.kind in "fc":
            apart = numpy.abs(other.astype(numpy.clongdouble) - value).astype(numpy.float64)
        else:
            apart = numpy.full(value.shape, numpy.inf)
        apart = numpy.where(numpy.isnan(apart), numpy.inf, apart)
        found = numpy.maximum(found, numpy.where(same(other, value), 0.0, apart))
    return found


def _reduced_bound(region: Region, registers: list[Any], bounds: list[Any], result: Array) -> Any:
    """Return how far the result of the reduction may be off, None for not at all."""
    reducing = region.reducing
    if reducing is None:
        return None
    given = [bounds[i] for i in reducing.reads]
    unknown = numpy.full(result.shape, numpy.inf)
    if any(bound is not None for bound in given[1:]):
        return unknown
    off, cost = given[0], REDUCTION_BY_NAME[reducing.row.name].cost
    if result.dtype.kind not in "fc":
        return None if off is None else unknown
    if cost == "reduce_minmax":
        tiny = numpy.finfo(result.dtype).smallest_subnormal
        own = numpy.where(result == 0, tiny, 0.0)
        return own if off is None else own + numpy.max(off)
    if off is not None and cost != "reduce_sum":
        return unknown
    size = numpy.abs(registers[reducing.register])
    share = numpy.finfo(result.dtype).eps * (8 + 2 * float(reducing.count) ** 0.5)
    if cost == "reduce_prod":
        whole = numpy.isfinite(result) & ~_is_extreme(size, reducing)
        return numpy.where(whole, share * reducing.count * numpy.abs(result), numpy.inf)
    if cost == "reduce_moments":
        most = numpy.max(numpy.where(numpy.isfinite(size), size, 0), initial=0)
        return share * (numpy.abs(result).astype(numpy.float64) + float(most))
    if cost != "reduce_sum":
        return unknown
    total = _total(size, region, registers)
    bound = share * total if off is None else share * total + _total(off, region, registers)
    # One order of adding up may overflow where another does not.
    return numpy.where(total > float(numpy.finfo(result.dtype).max) / 64, numpy.inf, bound)


def _total(sizes: Any, region: Region, registers: list[Any]) -> Any:
    """Return what the reduction, a sum or a mean, makes of ``sizes``."""
    reducing = region.reducing
    if reducing is None:
        return 0.0
    held, values = list(registers), registers[reducing.register]
    sizes = numpy.where(numpy.isinf(values), 0, sizes)
    held[reducing.register] = numpy.where(numpy.isnan(values), numpy.nan, sizes)
    state = reducing.partial(held, region.shape)
    total = numpy.abs(reducing.row.finish(state, reducing.count, {})).astype(numpy.float64)
    total += sum([abs(complex(value)) for name, value in reducing.params if name == "initial"])
    return numpy.where(numpy.isnan(total), 0, total)


def _is_extreme(size: Any, reducing: Reducing) -> Any:
    """Return whether a product may overflow or vanish in one order and not in another."""
    logs = numpy.log2(numpy.where((size > 0) & numpy.isfinite(size), size, 1.0))
    reach = float(numpy.max(numpy.abs(logs), initial=0)) * reducing.count
    return reach > -numpy.finfo(size.dtype).minexp / 2
