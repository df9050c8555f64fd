"""What a pending expression is made of.

A node is an operation on leaves, constants and other nodes, with shape, dtype and memory order
already known. It hashes by identity, and its ``repr`` does not walk: graphs may be thousands deep.
``value`` is filled once, when the node has been evaluated; from then on it stands for that array.
That array may then be written to, so whatever still waits on the node reads it as a leaf from then
on, and is found by writers like every reader of that memory. Nothing else about a node changes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy

from dispatcharr.ops.row import Row
from dispatcharr.storage import places, readers
from dispatcharr.storage.exports import root_of
from dispatcharr.storage.readers import Reader

__all__ = [
    "Leaf", "Node", "Operand", "computed_alone", "fill", "graph_lock", "observe_alone",
]  # fmt: skip

#: Held while a graph is built on, walked, or its values are filled in, so that all see whole nodes.
graph_lock = readers.lock


@final
class Leaf:
    """A concrete array as an operand.

    ``root`` is the array that owns its memory; where it is ``private``, a copy, nobody else can
    write to it.
    """

    __slots__ = ("host", "private", "root")

    def __init__(self, host: numpy.ndarray, root: numpy.ndarray, private: bool = False) -> None:
        self.host = host
        self.root = root
        self.private = private

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
    users : list of weakref.ref
        Pending nodes that have this one as an operand; some may be dead.
    value : numpy.ndarray or None
        The result, once evaluated.
    site : int
        The place in the program where it waits only because followers are foreseen; 0 elsewhere.
    watcher : object or None
        Whose ``wanted`` is set once the values are wanted: it was reduced without being stored.
    """

    __slots__ = (
        "__weakref__", "count", "dtype", "errors", "leaves", "operands", "order", "owner",
        "params", "row", "shape", "site", "size", "users", "value", "watcher",
    )  # fmt: skip

    count: int
    leaves: tuple[Leaf, ...]
    owner: Reader | None
    site: int
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
        self.site = 0
        self.watcher: Any = None
        size = 1
        for extent in shape:
            size *= extent
        self.size = size
        self.count = 1
        self.users: list[weakref.ref[Node]] = []
        for operand in operands:
            if type(operand) is Node:
                with graph_lock:
                    self._use()
                return
        self.leaves = _leaves_of(operands)

    def _use(self) -> None:
        """Tell operands that wait to be evaluated who waits on them."""
        # One may have been evaluated by another thread since it was looked at.
        self.operands = tuple(
            [
                _leaf(o.value) if type(o) is Node and o.value is not None else o
                for o in self.operands
            ]
        )
        for operand in self.operands:
            if type(operand) is Node:
                if operand.watcher is not None:
                    operand.watcher.wanted = True
                self.count += operand.count
                users = operand.users
                users.append(weakref.ref(self))
                if len(users) >= 16 and len(users) & (len(users) - 1) == 0:
                    operand.users = [user for user in users if user() is not None]
        self.leaves = _leaves_of(self.operands)

    def show(self, array: Any) -> None:
        """Have ``array`` show this node from now on."""
        with graph_lock:
            self.owner = Reader(array, self._roots())

    def _roots(self) -> tuple[int, ...]:
        return tuple({id(leaf.root) for leaf in self.leaves if not leaf.private})

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


def _leaf(value: numpy.ndarray) -> Leaf:
    """Return the operand that a computed value is; small ones are copied, as `build` does it.

    Who writes to small memory of its own does not ask who reads it.
    """
    if value.nbytes <= places.SMALL and not places.is_placed(value):
        held = value.copy(order="K")
        return Leaf(held, held, private=True)
    return Leaf(value, root_of(value))


def _leaves_of(operands: tuple[Operand, ...]) -> tuple[Leaf, ...]:
    leaves: dict[int, Leaf] = {}
    for operand in operands:
        if type(operand) is Leaf:
            leaves[id(operand)] = operand
        elif type(operand) is Node:
            for leaf in operand.leaves:
                leaves[id(leaf)] = leaf
    return tuple(leaves.values())


_observers: list[Callable[[int], None]] = []


def observe_alone(observer: Callable[[int], None]) -> None:
    """Have ``observer`` told the sites of nodes that waited for followers in vain."""
    _observers.append(observer)


def computed_alone(node: Node) -> None:
    """Note that nothing was fused with ``node``."""
    if node.site:
        for observer in _observers:
            observer(node.site)


def fill(found: Sequence[tuple[Node, numpy.ndarray]]) -> None:
    """Fill in the values of nodes; what still waits on them reads that memory from now on."""
    try:
        _fill(found)
    except BaseException:
        # An interrupt must not leave readers behind whom no writer finds.
        _fill(found)
        raise


def _fill(found: Sequence[tuple[Node, numpy.ndarray]]) -> None:
    filled = {id(node) for node, _ in found}
    above: dict[int, Node] = {}
    for node, value in found:
        users = [user for user in _pending(node.users) if id(user) not in filled]
        if users:
            leaf = _leaf(value)
            for user in users:
                user.operands = tuple([leaf if o is node else o for o in user.operands])
            _collect(users, above, filled)
    # A node counts more than any below it: operands come before their users.
    for node in sorted(above.values(), key=lambda node: node.count):
        node.leaves = _leaves_of(node.operands)
        if node.owner is not None:
            node.owner.file(node._roots())
    # Not before: whoever sees a value may write to it, and asks who still waits to read it.
    for node, value in found:
        node.value = value
        if node.watcher is not None:
            node.watcher.wanted = True
        node.operands = ()
        node.leaves = ()
        node.users = []


def _pending(users: list[weakref.ref[Node]]) -> list[Node]:
    alive = [user() for user in users]
    return [user for user in alive if user is not None and user.value is None]


def _collect(users: list[Node], above: dict[int, Node], filled: set[int]) -> None:
    """Add ``users``, and all that wait on them in turn, to ``above``, but for what is filled in."""
    stack = users
    while stack:
        node = stack.pop()
        if id(node) not in above and id(node) not in filled:
            above[id(node)] = node
            stack.extend(_pending(node.users))
