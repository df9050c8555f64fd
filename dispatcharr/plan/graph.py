"""The pending part of a graph: what has to be computed, in order, and its structure as a key.

Graphs grow with the user's program, so they are walked with an explicit stack and never by
recursion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from dispatcharr.expr.nodes import Leaf, Node

__all__ = ["Graph", "frozen", "survey"]


class Graph:
    """The pending part of a graph, in topological order, with its distinct leaves."""

    __slots__ = ("hosts", "index", "key", "nodes", "refs")

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.hosts: list[numpy.ndarray] = []
        self.refs: list[tuple[tuple[str, int], ...]] = []
        self.index: dict[int, int] = {}
        self.key: tuple[Any, ...] = ()


def _ordered(wanted: Sequence[Node]) -> list[Node]:
    """Return the pending nodes below ``wanted``, operands before their users."""
    done: set[int] = set()
    order: list[Node] = []
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(wanted)]
    while stack:
        node, expanded = stack.pop()
        if id(node) in done:
            continue
        if expanded:
            done.add(id(node))
            order.append(node)
            continue
        stack.append((node, True))
        for operand in node.operands:
            if type(operand) is Node and operand.value is None and id(operand) not in done:
                stack.append((operand, False))
    return order


def survey(
    wanted: Sequence[Node],
    kept: frozenset[int],
    dropped: frozenset[int] = frozenset(),
    reduced: numpy.ndarray | None = None,
) -> Graph:
    """Walk the pending graph below ``wanted`` and describe its structure.

    Parameters
    ----------
    wanted : sequence of Node
        Nodes whose values are asked for.
    kept : frozenset of int
        Ids of the nodes to store whether or not a live array shows them.
    dropped : frozenset of int
        Ids of nodes not to store although an array shows them: a temporary that is being consumed.
    reduced : numpy.ndarray, optional
        What is reduced, where that has its values already.
    """
    graph = Graph()
    graph.nodes = _ordered(wanted)
    graph.index = {id(node): i for i, node in enumerate(graph.nodes)}
    slots: dict[int, int] = {}
    parts: list[Any] = []
    for node in graph.nodes:
        refs = tuple(_ref(graph, slots, operand) for operand in node.operands)
        graph.refs.append(refs)
        keep = id(node) in kept or (
            node.owner is not None and id(node) not in dropped and node.owner() is not None
        )
        parts.append((node.row, refs, node.shape, node.dtype, node.order, node.errors, keep,
                      None if not node.params else frozen(node.params)))  # fmt: skip
    if reduced is not None:
        graph.hosts.append(reduced)
    parts.extend((host.dtype, host.shape, host.strides) for host in graph.hosts)
    graph.key = tuple(parts)
    return graph


def frozen(params: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return parameters as part of a key: scalars of NumPy's by their bits."""
    return tuple((type(p), p.tobytes()) if hasattr(p, "tobytes") else p for p in params)


def _ref(graph: Graph, slots: dict[int, int], operand: Any) -> tuple[str, int]:
    if type(operand) is Node:
        if operand.value is None:
            return "node", graph.index[id(operand)]
        host = operand.value
    else:
        host = operand.host if type(operand) is Leaf else operand
    slot = slots.get(id(host))
    if slot is None:
        slot = slots[id(host)] = len(graph.hosts)
        graph.hosts.append(host)
    return "leaf", slot
