"""Whether an operation may wait, and the road of those that may and of those that may not.

:func:`apply` is where every planned elementwise operation comes through, from operators, functions
and protocols alike. In this order: what is small and concrete runs as plain NumPy; what cannot be
planned is left to NumPy with its reason; what may wait becomes a pending array; the rest runs at
once, by the same plan and route. The conditions for waiting are those of the design page, section
4.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr._config import Options, options
from dispatcharr.expr.build import Declined, build, may_warn_later
from dispatcharr.expr.nodes import Node, observe_alone
from dispatcharr.face import _fastpath, limits
from dispatcharr.face.array import operand, unwrap
from dispatcharr.face.fallback import left_to_numpy, run
from dispatcharr.face.pinned import note_large, settle_pinned
from dispatcharr.face.road import engine
from dispatcharr.ops.row import Elementwise
from dispatcharr.storage import places
from dispatcharr.storage.exports import is_visible, root_of
from dispatcharr.storage.pool import machine_memory
from dispatcharr.storage.readers import Reader

observe_alone(_fastpath.mistaken)

__all__ = [
    "apply", "is_far", "is_large", "is_small", "machine_share", "may_wait", "pend",
    "plans_everything", "run_now",
]  # fmt: skip

#: A pending graph is run when it has grown to this many nodes.
MOST_NODES = 60
#: Bytes up to which what is on a device alone had better come home than be operated on there.
FEW = 512


def plans_everything(chosen: Options) -> bool:
    """Return whether options ask for small operations to be planned too."""
    return chosen.backend != "auto" or chosen.defer == "always" or bool(chosen.verify)


def is_far(value: Any) -> bool:
    """Return whether an array is on a device alone, and more than a few numbers."""
    return type(value) is numpy.ndarray and value.nbytes > FEW and places.is_away(value)


def is_large(name: str, host: numpy.ndarray) -> bool:
    """Return whether an operation on ``host`` alone is to be planned."""
    if host.nbytes >= limits.firm_limit_of(name, host.dtype) or plans_everything(options()):
        return True
    return is_far(host)


def is_small(name: str, values: tuple[Any, ...], chosen: Options) -> bool:
    """Return whether an operation on ``values`` is not worth planning."""
    if plans_everything(chosen):
        return False
    arrays = [value for value in values if type(value) is numpy.ndarray]
    if len(arrays) < len(values) and any(type(value) is Node for value in values):
        return False
    if not arrays:
        return True
    largest = max(arrays, key=_nbytes) if len(arrays) > 1 else arrays[0]
    item = max([array.itemsize for array in arrays])
    nbytes = _joint_size(arrays) * item
    if nbytes >= limits.limit_of(name, largest.dtype):
        # What has to be run at once costs more to plan.
        seen = nbytes < limits.firm_limit_of(name, largest.dtype)
        if not seen or not any([is_visible(root_of(array)) for array in arrays]):
            return False
    return not places.away or not any([is_far(array) for array in arrays])


def _nbytes(host: numpy.ndarray) -> int:
    return host.nbytes


def _joint_size(arrays: list[numpy.ndarray]) -> int:
    """Return an upper bound of the elements that ``arrays`` broadcast to."""
    shapes = {array.shape for array in arrays if array.size > 1}
    if len(shapes) <= 1:
        return max([array.size for array in arrays])
    return math.prod([math.prod(shape) for shape in shapes])


def may_wait(node: Node, chosen: Options) -> bool:
    """Return whether ``node`` may stay pending: section 4 of the design page."""
    if chosen.defer == "never" or node.shape == () or node.size == 0:
        return False
    if chosen.defer == "auto" and not _is_placed(node):
        dtype = max([o.dtype for o in node.operands], key=_itemsize, default=node.dtype)
        nbytes = node.size * dtype.itemsize
        if chosen.backend != "auto":
            # Plain NumPy is not among what may run it, so there is nothing to break even with.
            if nbytes < limits.UNREAD:
                return False
        elif nbytes < limits.limit_of(node.row.name, dtype) and node.count == 1 and not node.site:
            return False
    if not may_warn_later(node.errors):
        return False
    if node.count >= MOST_NODES or node.nbytes > _largest():
        return False
    for leaf in node.leaves:
        if is_visible(leaf.root):
            return False
    return not _in_dask_task()


def _is_placed(node: Node) -> bool:
    """Return whether a device holds what ``node`` reads: a launch costs more than waiting."""
    if not places.enabled():
        return False
    return any([leaf.host.nbytes > FEW and places.is_placed(leaf.host) for leaf in node.leaves])


def _itemsize(dtype: numpy.dtype) -> int:
    return dtype.itemsize


def _largest() -> int:
    limit = options().memory_limit
    return machine_share() if limit is None else limit


@cache
def machine_share() -> int:
    """Return an eighth of the machine's memory: a larger result is allocated at once."""
    return machine_memory() // 8


def _in_dask_task() -> bool:
    worker = sys.modules.get("distributed.worker")
    return worker is not None and getattr(worker.thread_state, "key", None) is not None


def pend(node: Node) -> Any:
    """Return a new pending array that shows ``node``."""
    settle_pinned()
    array = _fastpath.cell(node)
    node.show(array)
    note_large(node)
    return array


def apply(
    row: Elementwise, operands: tuple[Any, ...], direct: Callable[..., Any] | None = None
) -> Any:
    """Run or record ``row`` on ``operands``; return what NumPy's function would, as ours.

    Parameters
    ----------
    row : Elementwise
        The operation.
    operands : tuple
        Arrays of ours, NumPy arrays, scalars, or anything that NumPy converts.
    direct : callable, optional
        What plain NumPy does instead of calling ``row.ufunc`` (an operator).
    """
    values = tuple([operand(value) for value in operands])
    chosen = options()
    call = direct or row.ufunc
    site = _fastpath.foreseen()
    if call is not None and not site and is_small(row.name, values, chosen):
        if _events.listened():
            _events.emit(_events.DirectRecord(row.name))
        if places.away:
            values = tuple([places.look(v) if type(v) is numpy.ndarray else v for v in values])
        result = run(call, values, {})
        return tuple(map(_fastpath.wrap, result)) if row.nout > 1 else _fastpath.wrap(result)
    try:
        if row.nout != 1:
            raise Declined("it has several results")
        node = build(row, values)
    except Declined as reason:
        return left_to_numpy(row.name, str(reason), call, unwrap(operands), {})
    if node.shape == () or node.size == 0:
        return left_to_numpy(row.name, "it has one element or none", call, unwrap(operands), {})
    node.site = site
    return finish(node, chosen, call, operands)


def finish(
    node: Node, chosen: Options, call: Callable[..., Any] | None, operands: tuple[Any, ...]
) -> Any:
    """Let ``node`` wait, or run it at once."""
    if may_wait(node, chosen):
        return pend(node)
    if node.site and call is not None:
        _fastpath.mistaken(node.site)
        if _events.listened():
            _events.emit(_events.DirectRecord(node.row.name))
        return _fastpath.wrap(run(call, unwrap(operands), {}))
    if node.errors is not None and any(mode not in ("warn", "ignore") for mode in node.errors):
        reason = "errstate asks for an action at once"
        return left_to_numpy(node.row.name, reason, call, unwrap(operands), {})
    return run_now(node)


def run_now(node: Node) -> Any:
    """Evaluate ``node`` at once and return its array."""
    array = _fastpath.cell(node)
    node.owner = Reader(array, ())
    engine.evaluate([node])
    return array
