"""The only constructor of nodes: shape, dtype, memory order, and the user's mistakes.

NumPy is asked, never imitated: dtypes come from ``ufunc.resolve_dtypes``, and an operation that
NumPy would refuse is given to NumPy on memory-less stand-ins, so that the error is NumPy's own.
What cannot wait is refused with :class:`Declined`, whose text is the reason that records show.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy

from dispatcharr.expr.nodes import Leaf, Node, Operand
from dispatcharr.expr.order import memory_order
from dispatcharr.ops.kinds import INEXACT, is_planned
from dispatcharr.ops.row import Elementwise, Generator
from dispatcharr.storage import places
from dispatcharr.storage.exports import root_of

__all__ = [
    "Declined", "build", "error_modes", "generate", "leaf", "may_warn_later", "modes_in_force",
    "modes_variable", "own_filters", "recast",
]  # fmt: skip

#: Operands up to this many bytes are copied when recorded, so that nobody can change them.
SNAPSHOT_BYTES = places.SMALL

_resolved: dict[tuple[Any, ...], tuple[numpy.dtype[Any], ...]] = {}
#: The program's own: any other list is that of a block that listens for warnings.
_own_filters: Any = warnings.filters
_PYTHON_SCALARS = {bool: numpy.dtype(bool), int: int, float: float, complex: complex}


class Declined(Exception):
    """An operation that is not planned; the message says why."""


def leaf(host: numpy.ndarray) -> Leaf:
    """Make the operand of a concrete array: small ones are copied, larger ones are shared."""
    if not is_planned(host.dtype):
        raise Declined(f"dtype {host.dtype} is not planned")
    if not host.flags.aligned:
        raise Declined("an operand is misaligned in memory")
    # What has a mirror on a device is read there; nobody writes to it unseen.
    if host.nbytes <= SNAPSHOT_BYTES and not places.is_placed(host):
        return _snapshot(host)
    return Leaf(host, root_of(host))


def _snapshot(host: numpy.ndarray) -> Leaf:
    """Copy a small array; axes that run backwards or stand still do so in the copy.

    They decide the memory order of results, and NumPy's loops for them may round apart.
    """
    if min(host.strides, default=1) > 0:
        held = host.copy(order="K")
        return Leaf(held, held, private=True)
    ends = [1 if stride == 0 else None for stride in host.strides]
    steps = [-1 if stride < 0 else 1 for stride in host.strides]
    none = [None] * host.ndim
    held = host[tuple(map(slice, none, ends, steps))].copy(order="K")
    view = held[tuple(map(slice, none, none, steps))]
    return Leaf(numpy.broadcast_to(view, host.shape), held, private=True)


def error_modes(row: Elementwise, dtypes: tuple[numpy.dtype[Any], ...]) -> tuple[str, ...] | None:
    """Return the modes (divide, over, under, invalid) in force, None if ``row`` cannot err."""
    if row.errors == "none":
        return None
    if row.errors == "float":
        for dtype in dtypes:
            if dtype.char in INEXACT:
                break
        else:
            return None
    return modes_in_force()


#: NumPy's own variable, asked because ``geterr`` takes ten times as long. What it holds is made
#: anew by every change of a mode.
modes_variable = getattr(import_module("numpy._core.umath"), "_extobj_contextvar", None)
#: Modes that promise no action at once.
_PATIENT = frozenset({"warn", "ignore"})
#: Each of the few there are as one object: then they may be told apart as such.
_modes: dict[tuple[str, ...], tuple[str, ...]] = {}
_seen_modes: tuple[Any, tuple[str, ...]] = (modes_variable, ())


def modes_in_force() -> tuple[str, ...]:
    """Return what is to happen on errors now: divide, over, under, invalid."""
    global _seen_modes
    held = None if modes_variable is None else modes_variable.get()
    seen, found = _seen_modes
    if held is None or held is not seen:
        modes = numpy.geterr()
        found = modes["divide"], modes["over"], modes["under"], modes["invalid"]
        found = _modes.setdefault(found, found)
        _seen_modes = held, found
    return found


def may_warn_later(modes: tuple[str, ...] | None) -> bool:
    """Return whether a warning may come at another line than the operation's, unnoticed.

    A program that is inside ``warnings.catch_warnings`` (its filter list is a copy) waits for
    warnings at that place; modes other than warn and ignore promise an action at once.
    """
    if modes is None:
        return True
    if not _PATIENT.issuperset(modes):
        return False
    if "warn" not in modes:
        return True
    return warnings.filters is _own_filters and not _warnings_are_errors()


#: First filter and number of filters last looked at, and whether they make errors of warnings.
_seen_filters: tuple[Any, int, bool] = (None, 0, False)


@contextmanager
def own_filters() -> Iterator[None]:
    """Count the warning filters in force as the program's own, and those that raise as silent.

    For test runners: they run a program that would warn at no place, inside
    ``warnings.catch_warnings`` and with every warning an error. Blocks that the program itself
    enters, and filters that it adds, count as ever.
    """
    global _own_filters, _seen_filters
    before = _own_filters
    _own_filters = filters = warnings.filters
    _seen_filters = filters[0] if filters else None, len(filters), False
    try:
        yield
    finally:
        _own_filters, _seen_filters = before, (None, 0, False)


def _warnings_are_errors() -> bool:
    """Return whether a filter may raise the warning, which would leave its result unbound."""
    global _seen_filters
    filters = warnings.filters
    first = filters[0] if filters else None
    held, count, answer = _seen_filters
    if held is not first or count != len(filters):
        answer = _is_error(filters)
        _seen_filters = first, len(filters), answer
    return answer


def _is_error(filters: Sequence[tuple[Any, ...]]) -> bool:
    for action, message, category, module, line in filters:
        if issubclass(RuntimeWarning, category):
            if action == "error":
                return True
            if message is None and module is None and not line:
                return False
    return False


def _resolve(row: Elementwise, types: tuple[Any, ...]) -> tuple[numpy.dtype[Any], ...]:
    # Dtypes of different names for one size are equal, yet results keep the name.
    key = (row, *[t if isinstance(t, type) else t.char for t in types])
    found = _resolved.get(key)
    if found is None:
        if row.ufunc is not None:
            found = row.ufunc.resolve_dtypes((*types, *(None,) * row.nout))
        else:
            found = _resolve_without_ufunc(row, types)
        if len(_resolved) > 4096:
            _resolved.clear()
        _resolved[key] = found
    return found


def _resolve_without_ufunc(
    row: Elementwise, types: tuple[Any, ...]
) -> tuple[numpy.dtype[Any], ...]:
    stand_ins = [t(0) if isinstance(t, type) else t for t in types]
    if row.result is None:
        raise Declined(f"{row.name} has no rule for its dtype")
    result = row.result(*stand_ins)
    return (*(result if isinstance(t, type) else t for t in types), result)


def _constant(value: Any, dtype: numpy.dtype[Any]) -> numpy.ndarray:
    if dtype.kind == "b" and type(value) is int and not -(1 << 31) <= value < 1 << 31:
        raise Declined("Python scalar: NumPy makes it a C long first, which may overflow")
    try:
        return numpy.array(value, dtype=dtype)
    except (OverflowError, TypeError, ValueError) as error:
        raise Declined(f"Python scalar: {error}") from None


def _prepare(value: Any) -> tuple[Operand | None, Any, tuple[int, ...]]:
    """Return (operand or None for a Python scalar, dtype or Python type, shape)."""
    kind = type(value)
    if kind is Node:
        if value.value is not None:
            return _prepare(value.value)
        return value, value.dtype, value.shape
    if kind is numpy.ndarray:
        if value.ndim == 0:
            if not is_planned(value.dtype):
                raise Declined(f"dtype {value.dtype} is not planned")
            return places.read(value), value.dtype, ()
        made = leaf(value)
        return made, value.dtype, value.shape
    if kind in _PYTHON_SCALARS:
        return None, _PYTHON_SCALARS[kind], ()
    if isinstance(value, numpy.generic):
        return _prepare(numpy.asarray(value))
    raise Declined(f"operand of type {kind.__name__} is not planned")


def build(
    row: Elementwise,
    values: tuple[Any, ...],
    dtype: numpy.dtype[Any] | None = None,
) -> Node:
    """Make the node of ``row`` on ``values`` (nodes, host arrays, scalars).

    Parameters
    ----------
    row : Elementwise
        The operation; rows with several results give a node whose dtype is the first one's.
    values : tuple
        Operands, already free of dispatcharr arrays.
    dtype : numpy.dtype, optional
        Result dtype of a row without dtype rule (``astype``).

    Raises
    ------
    Declined
        The operation is not planned, for the reason given.
    """
    prepared = [_prepare(value) for value in values]
    types = tuple([kind for _, kind, _ in prepared])
    if dtype is not None:
        resolved = (*types, dtype)
    else:
        try:
            resolved = _resolve(row, types)
        except TypeError:
            raise Declined(f"NumPy has no loop of {row.name} for these dtypes") from None
    for found in resolved:
        if not is_planned(found):
            raise Declined("a dtype of the operation is not planned")
    operands = tuple(
        [
            _constant(value, wanted) if operand is None else operand
            for value, (operand, _, _), wanted in zip(values, prepared, resolved, strict=False)
        ]
    )
    if row.refuses is not None and row.refuses(operands):
        raise Declined("NumPy may refuse its values")
    shape = _broadcast([s for _, _, s in prepared])
    order = memory_order(operands, shape)
    return Node(row, operands, shape, resolved[row.nin], order, error_modes(row, resolved))


def recast(node: Node, dtype: numpy.dtype[Any]) -> Node:
    """Return a new node as ``node``, its result cast within the operation as ``out=`` does it."""
    modes = node.errors
    if modes is None and dtype.char in INEXACT:
        modes = modes_in_force()
    return Node(node.row, node.operands, node.shape, dtype, node.order, modes)


def _broadcast(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    shape = shapes[0]
    for other in shapes[1:]:
        if other and other != shape:
            break
    else:
        return shape
    try:
        return numpy.broadcast_shapes(*shapes)
    except ValueError:
        # NumPy words the error for its own operands: let it.
        raise Declined("shapes do not broadcast") from None


def generate(
    row: Generator, params: tuple[Any, ...], shape: tuple[int, ...], dtype: numpy.dtype[Any]
) -> Node:
    """Make the node of a generator row."""
    return Node(row, (), shape, dtype, None, None, params)
