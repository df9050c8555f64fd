"""Memory order of a result: NumPy's ``order="K"``, decided before anything runs.

NumPy's iterator sorts the axes of an operation by the strides of its operands and allocates the
result in that order; C order wins where operands disagree. The rule is restated here because a
pending result has no memory yet to look at. Tests compare it with NumPy's strides over random
layouts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from dispatcharr.expr.nodes import Leaf, Node, Operand
from dispatcharr.storage import pool

__all__ = ["empty_in_order", "memory_order", "order_of", "strides_in_order"]


def strides_in_order(
    shape: tuple[int, ...], itemsize: int, order: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return the strides of a fresh array of ``shape`` laid out in ``order``."""
    axes = range(len(shape)) if order is None else order
    strides = [0] * len(shape)
    step = itemsize
    for axis in reversed(tuple(axes)):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def empty_in_order(
    shape: tuple[int, ...], dtype: numpy.dtype, order: tuple[int, ...] | None
) -> numpy.ndarray:
    """Return an uninitialised array of ``shape`` laid out in ``order``."""
    if order is None:
        return pool.empty(shape, dtype)
    # Not a transposed view: results own their memory, and programs ask `flags.owndata` and `base`.
    return pool.empty(shape, dtype, strides_in_order(shape, dtype.itemsize, order))


def _strides(operand: Operand, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the operand's strides over ``shape`` (0 where broadcast), None if it has no axes."""
    if type(operand) is Node:
        own_shape = operand.shape
        own = strides_in_order(own_shape, operand.dtype.itemsize, operand.order)
    elif type(operand) is Leaf:
        own_shape, own = operand.host.shape, operand.host.strides
    else:
        return None
    lead = len(shape) - len(own_shape)
    spread = tuple(
        0 if extent == 1 else stride for extent, stride in zip(own_shape, own, strict=True)
    )
    return (0,) * lead + spread


def _is_c(operand: Operand) -> bool:
    if type(operand) is Node:
        return operand.order is None
    return type(operand) is not Leaf or operand.host.flags.c_contiguous


def memory_order(operands: Sequence[Operand], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axes of the result from slowest to fastest, None for C order."""
    if len(shape) < 2 or all(_is_c(operand) for operand in operands):
        return None
    found = [_strides(operand, shape) for operand in operands]
    strides = [s for s in found if s is not None]
    # Insertion sort from the fastest axis outwards, as NumPy's iterator does it.
    fastest_first = list(range(len(shape) - 1, -1, -1))
    for place in range(1, len(shape)):
        axis = fastest_first[place]
        target = place
        for before in range(place - 1, -1, -1):
            verdict = _slower(strides, fastest_first[before], axis)
            if verdict is None:
                continue
            if not verdict:
                break
            target = before
        if target != place:
            fastest_first.insert(target, fastest_first.pop(place))
    order = tuple(reversed(fastest_first))
    return None if order == tuple(range(len(shape))) else order


def order_of(value: Node | numpy.ndarray) -> tuple[int, ...] | None:
    """Return the axes of one array from slowest to fastest, None for C order."""
    if type(value) is Node:
        return value.order
    return memory_order((Leaf(value, value),), value.shape)


def _slower(strides: list[tuple[int, ...]], held: int, axis: int) -> bool | None:
    """Return whether ``held`` moves slower than ``axis``; None if no operand says."""
    verdict: bool | None = None
    for s in strides:
        if s[held] != 0 and s[axis] != 0:
            if abs(s[held]) <= abs(s[axis]):
                verdict = False
            elif verdict is None:
                verdict = True
    return verdict
