"""Pending work must not keep more memory alive than the eager program would.

An operand whose last outside reference is gone lives only because pending nodes read it; the eager
program would have freed it after the operation. Whenever a node is recorded, such operands are
looked for, and where they outweigh the results that they wait for, those are computed.
"""

from __future__ import annotations

import sys

import numpy

from dispatcharr.expr.nodes import Leaf, Node
from dispatcharr.face.road import engine
from dispatcharr.storage.readers import readers_of, roots_read

__all__ = ["note_large", "settle_pinned"]

#: Operands of fewer bytes are not worth the look.
WORTH = 1 << 22


#: Whether any pending work may read an operand of :data:`WORTH` bytes.
_large = False


def note_large(node: Node) -> None:
    """Have operands looked at from now on if ``node`` reads one that is worth it."""
    global _large
    for leaf in node.leaves:
        if leaf.root.nbytes >= WORTH:
            _large = True


def settle_pinned() -> None:
    """Run pending work that keeps more memory alive than its results would take."""
    global _large
    if not _large:
        return
    _large = False
    pinned = 0
    waiting: dict[int, Node] = {}
    for key, array in roots_read():
        if _root_bytes(array._value, key) < WORTH:
            continue
        _large = True
        nodes = [a._value for a in readers_of(key) if type(a._value) is Node]
        leaves = {id(one): one for node in nodes for one in node.leaves if id(one.root) == key}
        if leaves and _only_pending(list(leaves.values())):
            pinned += next(iter(leaves.values())).root.nbytes
            waiting.update({id(node): node for node in nodes})
    if pinned > sum(node.nbytes for node in waiting.values()):
        engine.evaluate(list(waiting.values()))


def _root_bytes(value: Node | numpy.ndarray, key: int) -> int:
    """Return the size of the root with id ``key``, which ``value`` reads if it still waits."""
    if type(value) is Node:
        for leaf in value.leaves:
            if id(leaf.root) == key:
                return leaf.root.nbytes
    return 0


def _only_pending(leaves: list[Leaf]) -> bool:
    """Return whether nothing but ``leaves`` refers to the root that they share."""
    root = leaves[0].root
    views: dict[int, tuple[numpy.ndarray, int]] = {}
    expected = 2  # the name `root` and getrefcount's argument
    for leaf in leaves:
        expected += 1
        if leaf.host is root:
            expected += 1
        else:
            views[id(leaf.host)] = leaf.host, views.get(id(leaf.host), (None, 0))[1] + 1
    del leaf
    for key in list(views):
        view, count = views.pop(key)
        # The name `view` and getrefcount's argument hold it beside its leaves.
        if sys.getrefcount(view) > count + 2:
            return False
        expected += 1
    return sys.getrefcount(root) <= expected
