"""What a pending expression is made of.

A node is an operation on leaves, constants and other nodes, with shape, dtype and memory order already
known. It hashes by identity, is never edited, and its ``repr`` does not walk: graphs may be thousands deep.
``value`` is filled once, when the node has been evaluated; from then on it stands for that array.
"""

from __future__ import annotations

from typing import Any, final

import numpy

from dispatcharr.ops.row import Row
from dispatcharr.storage.readers import Reader

__all__ = ["Leaf", "Node", "Operand"]


@final
class Leaf:
    """A concrete array as an operand. ``root`` is the array that owns its memory."""

    __slots__ = ("host", "root")

    def __init__(self, host: numpy.ndarray, root: numpy.ndarray) -> None:
        self.host = host
        self.root = root

    @property
    def dtype(self) -> numpy.dtype[Any]:
        """Data type of the elements."""
        return self.host.dtype


@final
class Node:
    """One deferred operation.

    Attributes
    ----------
    row : Row
        The operation.
    operands : tuple of Leaf, Node or numpy.ndarray
        What it reads; a bare 0-d ``numpy.ndarray`` is a constant, passed to the kernel by value.
    shape, dtype : the result's, as NumPy would have them.
    order : tuple of int or None
        Axes from the slowest to the fastest in memory; None for C order.
    params : tuple
        Parameters of a generator.
    errors : tuple or None
        Floating-point error modes in force when it was recorded; None when it cannot err.
    leaves : tuple of Leaf
        Distinct leaves below, for memory accounting and for writers.
    count : int
        Upper bound of pending nodes below, itself included.
    owner : Reader or None
        Weak reference to the array that shows this node.
    value : numpy.ndarray or None
        The result, once evaluated.
    """

    __slots__ = (
        "count", "dtype", "errors", "leaves", "operands", "order", "owner", "params", "row",
        "shape", "size", "value",
    )  # fmt: skip

    count: int
    leaves: tuple[Leaf, ...]
    owner: Reader | None
    value: numpy.ndarray | None

    def __init__(
        self,
        row: Row,
        operands: tuple[Operand, ...],
        shape: tuple[int, ...],
        dtype: numpy.dtype[Any],
        order: tuple[int, ...] | None,
        errors: tuple[str, ...] | None,
        params: tuple[Any, ...] = (),
    ) -> None:
        self.row = row
        self.operands = operands
        self.shape = shape
        self.dtype = dtype
        self.order = order
        self.errors = errors
        self.params = params
        self.value = None
        self.owner = None
        size = 1
        for extent in shape:
            size *= extent
        self.size = size
        count = 1
        leaves: dict[int, Leaf] = {}
        for operand in operands:
            if type(operand) is Node:
                if operand.value is None:
                    count += operand.count
                for leaf in operand.leaves:
                    leaves[id(leaf)] = leaf
            elif type(operand) is Leaf:
                leaves[id(operand)] = operand
        self.count = count
        self.leaves = tuple(leaves.values())

    @property
    def nbytes(self) -> int:
        """Bytes of the result."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        state = "pending" if self.value is None else "evaluated"
        return f"<{state} {self.row.name} {self.dtype} {self.shape}>"

    def __reduce__(self) -> Any:
        raise TypeError("a pending node cannot be pickled; evaluate its array first")


Operand = Leaf | Node | numpy.ndarray
