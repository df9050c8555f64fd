"""Where the buffers of a region lie over its iteration space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from dispatcharr.expr.nodes import Node
from dispatcharr.expr.order import strides_in_order
from dispatcharr.plan.collapse import collapse, standing_still
from dispatcharr.plan.graph import Graph
from dispatcharr.plan.region import Layout, Reducing
from dispatcharr.plan.request import ReduceRequest

__all__ = ["Geometry"]


class Geometry:
    """The iteration space of a step: axes in memory order, collapsed."""

    def __init__(
        self,
        graph: Graph,
        outs: dict[int, Any],
        shape: tuple[int, ...],
        order: tuple[int, ...] | None,
        sources: list[tuple[str, int]],
        outputs: tuple[int, ...],
        request: ReduceRequest | None,
    ) -> None:
        if request is not None and request.row.ordered and len(request.axes) == len(shape):
            order = None  # places are counted over all axes, as if in C order
        self.order = tuple(range(len(shape))) if order is None else order
        described: list[tuple[numpy.dtype[Any], tuple[int, ...], tuple[int, ...]]] = []
        for source, i in sources:
            if source == "leaf":
                host = graph.hosts[i]
                described.append((host.dtype, host.shape, host.strides))
            else:
                described.append(_fresh(graph.nodes[i]))
        for i in outputs:
            given = outs.get(i)
            made = _fresh(graph.nodes[i])
            described.append(made if given is None else (made[0], *given))
        space = tuple(shape[axis] for axis in self.order)
        spread = [self._spread(own, strides, shape) for _, own, strides in described]
        reduced = [request is not None and axis in request.axes for axis in self.order]
        live = [s for s, (_, own, _) in zip(spread, described, strict=True) if own != ()]
        still = standing_still(self.order, [(own, strides) for _, own, strides in described])
        self.groups = collapse(space, live, list(zip(reduced, still, strict=True)))
        self.reduced = [any(reduced[axis] for axis in group) for group in self.groups]
        self.shape = tuple(_product(space, group) for group in self.groups)
        layouts = [
            self._layout(dtype, own, s, space, shape)
            for (dtype, own, _), s in zip(described, spread, strict=True)
        ]
        self.inputs = tuple(layouts[: len(sources)])
        self.outputs = tuple(layouts[len(sources) :])

    def _spread(
        self, own: tuple[int, ...], strides: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        lead = len(shape) - len(own)
        full = (0,) * lead + tuple(
            0 if extent == 1 else stride for extent, stride in zip(own, strides, strict=True)
        )
        return tuple(full[axis] for axis in self.order)

    def _layout(
        self,
        dtype: numpy.dtype[Any],
        own: tuple[int, ...],
        strides: tuple[int, ...],
        space: tuple[int, ...],
        shape: tuple[int, ...],
    ) -> Layout:
        if own == ():
            return Layout(dtype, None, (), True)
        lead = len(shape) - len(own)
        axes = tuple(axis - lead for axis in self.order if axis >= lead)
        seen = tuple(1 if axis < lead else own[axis - lead] for axis in self.order)
        collapsed = tuple(_product(seen, group) for group in self.groups)
        contiguous = collapsed == self.shape and all(
            stride == dtype.itemsize * _product(space, range(i + 1, len(space)))
            for i, stride in enumerate(strides)
            if space[i] != 1
        )
        plain = axes == tuple(range(len(own)))
        return Layout(dtype, None if plain else axes, collapsed, contiguous)

    def reducings(
        self, request: ReduceRequest | None, registers: tuple[int, ...]
    ) -> tuple[Reducing, ...]:
        axes = tuple(i for i, is_reduced in enumerate(self.reduced) if is_reduced)
        count = _product(self.shape, axes)
        kept = tuple(1 if i in axes else extent for i, extent in enumerate(self.shape))
        return tuple(
            Reducing(one.row, registers[0], axes, count, one.state_dtype, one.dtype, kept,
                     one.params, registers[1] if one.masked else None)
            for one in ((request, *request.others) if request else ())
        )  # fmt: skip


def _fresh(node: Node) -> tuple[numpy.dtype[Any], tuple[int, ...], tuple[int, ...]]:
    strides = strides_in_order(node.shape, node.dtype.itemsize, node.order)
    return node.dtype, node.shape, strides


def _product(extents: Sequence[int], which: Any) -> int:
    n = 1
    for i in which:
        n *= extents[i]
    return n
