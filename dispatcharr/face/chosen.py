"""What ``where=`` of a reduction asks for: a row of its own, on pairs of values and mask."""

from __future__ import annotations

from typing import Any

import numpy

from dispatcharr.expr.build import Declined, build
from dispatcharr.expr.nodes import Node
from dispatcharr.face.array import concrete, is_array, operand
from dispatcharr.ops.reductions import CHOSEN
from dispatcharr.ops.row import Reduction

__all__ = ["chooses_enough", "chosen", "masked_row"]


def masked_row(row: Reduction, dtype: numpy.dtype[Any], asked: dict[str, Any]) -> Reduction:
    """Return what ``where=`` runs."""
    if row.masked is None or not asked.keys() >= set(row.masked.needs):
        raise Declined("NumPy demands more arguments with where")
    if row.masked.unsure and dtype.kind not in "fc":
        raise Declined("a result that cannot be NaN does not say what NumPy would warn of")
    return row.masked


def chosen(value: Any, where: Any, temporary: bool) -> Node:
    """Return the pair of ``value`` and its mask."""
    mask = operand(where)
    if type(mask) not in (Node, numpy.ndarray) or mask.dtype != bool or mask.shape == ():
        raise Declined("its mask is not an array of bool")
    if temporary and type(value) is Node and value.value is None:
        # No array shows the copy, so that its values are not stored.
        value = Node(
            value.row, value.operands, value.shape, value.dtype, value.order, value.errors,
            value.params,
        )  # fmt: skip
    pair = build(CHOSEN, (value, mask))
    if pair.shape != value.shape:
        raise Declined("its mask does not broadcast to the array")
    return pair


def chooses_enough(asked: dict[str, Any], shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Return whether the mask leaves every slice enough elements for a result that is a number."""
    where = asked["where"]
    mask = numpy.broadcast_to(concrete(where) if is_array(where) else where, shape)
    # Without axes NumPy counts many times as fast.
    chosen = numpy.count_nonzero(mask, axis=axes if len(axes) < len(shape) else None)
    return bool(numpy.all(chosen > max(asked.get("ddof", 0), 0)))
