"""The tape's other half: sketches are made nodes, or run by the plan that their like had before.

The compiled fast path notes most operations that wait as *sketches* (``_tape.h``), because making a
node in Python costs as much as computing some hundred thousand elements. Whoever wants to know
anything of what waits has nodes made of all sketches first (:func:`flush`), so that nobody below
the face ever meets one. Whoever wants the values of an array has its sketches run (:func:`run`):
where sketches of the same structure were nodes before, their plan is taken and nothing else is
done.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr.expr.build import Declined, build, may_warn_later, modes_in_force, modes_variable
from dispatcharr.expr.nodes import Node, graph_lock
from dispatcharr.face import _fastpath, limits
from dispatcharr.face.pinned import WORTH, note_large
from dispatcharr.face.repeats import Key, Made, Noted, Reduction, Replayed
from dispatcharr.face.road import engine
from dispatcharr.face.waiting import machine_share
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME, ELEMENTWISE
from dispatcharr.storage import exports, places, readers

__all__ = [
    "flush", "install", "learn_reduction", "note_reduction", "notice", "reduced", "run",
]  # fmt: skip

#: Structures whose plans are kept.
_MOST_KNOWN = 1024
#: Dtypes of operands that are noted; others are as rare as they are many.
_TYPES = tuple(numpy.dtype(char) for char in "?ilqfd")

_rows: dict[int, Elementwise] = {}
_known: dict[Key, Replayed] = {}
#: What the compiled fast path runs by itself, by the same keys.
_repeats: dict[Key, Any] = {}
_reductions: dict[tuple[Any, ...], Reduction] = {}


def run(sketch: Any) -> None:
    """Compute the value of a sketch, and of what is shown below it, if its like was run before."""
    if _fastpath.close_tape(0) or _events.listened():
        return
    noted: Noted | None = _fastpath.structure(sketch)
    if noted is None:
        return
    known = _known.get(noted[0], _ONCE)
    if known is _ONCE:
        if _is_seen_again(_known, noted, noted[0]) and _planned(noted):
            _known[noted[0]] = Replayed(noted)
    elif known is not _SEEN:
        known.run(noted)
        if known.repeat is None:
            _repeats.pop(noted[0], None)
        else:
            _repeats[noted[0]] = known.repeat
        if len(noted[1]) == 1 and sketch.site:
            _fastpath.mistaken(sketch.site)


def note_reduction(name: str, array: Any, keep: bool, args: Any, kwargs: Any) -> Any:
    """Return what tells a reduction of sketches from others, None where there is nothing to tell.

    It is to be asked for before the array is asked for its value, and is what :func:`reduced` and
    :func:`learn_reduction` take.
    """
    if len(args) > 1 or not _asked.issuperset(kwargs):
        return None
    asked = (*args, *kwargs.values())
    if not all([type(one) in _PLAIN for one in asked]) or _events.listened():
        return None
    sketch = _fastpath.sketch_of(array)
    if sketch is None:
        noted = _alone(array)
    elif _fastpath.close_tape(0) or modes_in_force() != sketch.modes:
        return None
    else:
        noted = _fastpath.structure(sketch)
    # Equal numbers of two types are not asked for alike.
    return noted and (noted, (noted[0], name, keep, asked, *kwargs, *map(type, asked)))


def _alone(array: Any) -> Noted | None:
    """Return the structure of an array that has its values: no sketches, and one leaf."""
    host = array._value
    if type(host) is not numpy.ndarray or not host.flags.aligned or places.in_use():
        return None
    if not host.dtype.isnative:  # the number of its dtype is that of the native one
        return None
    return (modes_in_force(), host.dtype.num, host.shape, host.strides), (), (host,), ()


def reduced(noted: Any) -> Any:
    """Return the result of a reduction whose like was run before, else None."""
    known = _reductions.get(noted[1])
    if known is not None and known is not _SEEN and known is not _ONCE:
        return known.run(noted[0])
    return None


def learn_reduction(noted: Any, request: Any, keep: bool, made: Made) -> None:
    """Keep how a reduction is computed that is about to be run on what are nodes by now.

    Parameters
    ----------
    noted
        From :func:`note_reduction`.
    request : ReduceRequest
        What is asked for.
    keep : bool
        Whether what is reduced is stored too.
    made : tuple
        Shape, dtype and memory order of the result, and whether a single one is an int.
    """
    noticed, key = noted
    if _reductions.get(key, _ONCE) is not _ONCE or not _is_seen_again(_reductions, noticed, key):
        return
    if all(sketch.node is not None for sketch in noticed[1]):
        _reductions[key] = Reduction(noticed, request, keep, made)


_asked = frozenset({"axis", "keepdims", "ddof"})
_PLAIN = frozenset({int, bool, float, type(None)})


#: In the place of a plan: seen once; being learned, or not to be learned.
_ONCE: Any = object()
_SEEN: Any = object()


def _is_seen_again(known: dict[Any, Any], noted: Noted, key: Any) -> bool:
    """Return whether a structure is to be learned now: when it comes for the second time."""
    for sketch in noted[1]:
        if sketch.site:
            _fastpath.missed(sketch.site)
    if key in known:
        known[key] = _SEEN
        return True
    if len(known) >= _MOST_KNOWN:
        known.clear()
        _repeats.clear()
    known[key] = _ONCE
    return False


def _planned(noted: Noted) -> bool:
    """Make nodes of all sketches; return whether those noted have become some, and still wait."""
    flush()
    sketches = noted[1]
    node = sketches[-1].node
    return node is not None and node.value is None and all(s.node is not None for s in sketches)


def flush() -> None:
    """Make nodes of all sketches that an array shows."""
    failed = None
    for sketch in _fastpath.sketches():
        try:
            node = _node_of(sketch)
        except Exception as error:  # told below; that of one array is not the others'
            failed = error
            continue
        if node is not None and _show(sketch, node):
            note_large(node)
    if failed is not None:
        raise failed


def _show(sketch: Any, node: Node) -> bool:
    """Have who shows a sketch show its node; return whether that is so."""
    with graph_lock:  # of two threads one files the array, and the other finds that done
        array = sketch.cell
        if array is None:
            return False
        # Filed first: a writer has to find it if an interrupt comes in between.
        node.show(array)
        if _fastpath.show_node(sketch, node):
            return True
        if node.owner is not None:  # another thread has it show something else by now
            node.owner.close()
            node.owner = None
        return False


def _node_of(sketch: Any) -> Node | None:
    """Return the node of a sketch; None of one that was computed at once."""
    given = sketch.operands  # first: it has none any more once another thread has computed it
    if sketch.node is not None or sketch.value is not None:
        return sketch.node  # type: ignore[no-any-return]
    values = []
    for one in given:
        if type(one) is _Sketch:
            node = _node_of(one)
            values.append(one.value if node is None else node)
        else:
            values.append(one)
    row, operands = _row_of(sketch.slot, tuple(values))
    try:
        node = build(row, operands)
    except Declined:
        hosts = [engine.value_of(one) if type(one) is Node else one for one in operands]
        sketch.value = (row.ufunc or numpy.where)(*hosts)
        return None
    if node.errors is not None:
        node.errors = sketch.modes
    node.site = sketch.site
    if sketch.node is None:  # else another thread was first: all have to show one node
        sketch.node = node
    return sketch.node  # type: ignore[no-any-return]


def _row_of(slot: int, values: tuple[Any, ...]) -> tuple[Elementwise, tuple[Any, ...]]:
    """Return the row of a slot, and its operands: some powers are other functions."""
    if slot == _POWER and hasattr(values[0], "dtype"):
        from dispatcharr.face.operators import power_row

        return power_row(values[0].dtype.kind, *values)
    return _rows[slot], values


def notice() -> None:
    """Have operations noted from now on, as long as their warnings may wait as they may now."""
    modes = modes_in_force()
    if modes_variable is not None and may_warn_later(modes) and type(warnings.filters) is list:
        _fastpath.patient(modes_variable.get(), modes, warnings.filters)


def install() -> None:
    """Begin to note operations, where the fast path is compiled."""
    if modes_variable is None:
        return
    _fastpath.set_tape(
        flush, run, notice, exports.foreign_roots, exports.lent_roots, modes_variable,
        vars(warnings), WORTH, machine_share(),
    )  # fmt: skip
    operators = {row.operator: row for row in ELEMENTWISE if row.operator is not None}
    for slot, name in enumerate(_fastpath.SLOT_NAMES):
        if name in operators:
            _rows[slot] = operators[name]
    for row in ELEMENTWISE:
        _rows[limits.slot_of(row.name)] = row
    for slot, row in _rows.items():
        for dtype in _TYPES:
            result = _result(row, dtype)
            if result is not None:
                _fastpath.set_sketched(slot, dtype.num, result.num)
    readers.settle_with(_fastpath.settle)
    if _fastpath.Repeat is not None:
        readers.ask_of_others(_fastpath.running)
        _fastpath.set_repeats(_repeats)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_fastpath.forget_running)
    _fastpath.taping(True)


def _result(row: Elementwise, dtype: numpy.dtype[Any]) -> numpy.dtype[Any] | None:
    """Return the dtype of an operation on operands of one dtype; None where it is not noted."""
    if row is BY_NAME["where"]:
        return dtype
    if row.ufunc is None or row.nout != 1 or row.nin > 2:
        return None
    # What may be refused are integers; of bools NumPy has powers of its own.
    if dtype.kind != "f" and (row.refuses is not None or row is BY_NAME["power"]):
        return None
    try:
        found = row.ufunc.resolve_dtypes((*(dtype,) * row.nin, None))
    except TypeError:
        return None
    result = found[-1]
    return result if is_planned(result) and result.char in "?ilqfd" else None


_Sketch: Any = _fastpath.Sketch
_POWER = _fastpath.SLOT_NAMES.index("pow")
