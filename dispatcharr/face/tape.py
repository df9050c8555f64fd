"""The tape's other half: sketches are made nodes, or run by the plan that their like had before.

The compiled fast path notes most operations that wait as *sketches* (``_tape.h``), because making a
node in Python costs as much as computing some hundred thousand elements. Whoever wants to know
anything of what waits has nodes made of all sketches first (:func:`flush`), so that nobody below
the face ever meets one. Whoever wants the values of an array has its sketches run (:func:`run`):
where sketches of the same structure were nodes before, their plan is taken and nothing else is
done.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr.expr.build import Declined, build, may_warn_later, modes_in_force, modes_variable
from dispatcharr.expr.nodes import Node
from dispatcharr.expr.order import empty_in_order
from dispatcharr.face import _fastpath, limits
from dispatcharr.face.pinned import WORTH, note_large
from dispatcharr.face.road import engine, replay
from dispatcharr.face.waiting import machine_share
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME, ELEMENTWISE
from dispatcharr.storage import exports, readers

__all__ = [
    "flush", "install", "learn_reduction", "note_reduction", "notice", "reduced", "run",
]  # fmt: skip

#: Structures whose plans are kept.
_MOST_KNOWN = 1024
#: Dtypes of operands that are noted; others are as rare as they are many.
_TYPES = tuple(numpy.dtype(char) for char in "?ilqfd")

_rows: dict[int, Elementwise] = {}
#: A key, the sketches, operands first, their leaves, and the numbers among their operands.
Noted = tuple[bytes, tuple[Any, ...], tuple[numpy.ndarray, ...], tuple[Any, ...]]
#: Shape, dtype and memory order of a result, and whether a single one is an int of Python's.
Made = tuple[tuple[int, ...], "numpy.dtype[Any]", tuple[int, ...] | None, bool]
_known: dict[bytes, _Replay] = {}
_reductions: dict[tuple[Any, ...], _Reduction] = {}


class _Replay:
    """A plan, and where its inputs are found in a structure."""

    __slots__ = ("constants", "leaves", "modes", "plan", "shown")

    def __init__(self, noted: Noted, request: Any = None, keep: bool = True) -> None:
        _, sketches, given, _ = noted
        self.plan, graph = replay.replay_of(sketches[-1].node, request, keep)
        #: Its address is in the key.
        self.modes = sketches[0].modes
        places = {id(sketch.node): i for i, sketch in enumerate(sketches)}
        #: For each node of the plan the sketch that it was.
        self.shown = [places[id(one)] for one in graph.nodes]
        leaves = {id(host): i for i, host in enumerate(given)}
        numbers: dict[int, int] = {}
        count = 0
        for sketch in sketches:
            for position, one in enumerate(sketch.operands):
                if type(one) is not numpy.ndarray and type(one) is not _Sketch:
                    if position < len(sketch.node.operands):  # a power may be another function
                        numbers[id(sketch.node.operands[position])] = count
                    count += 1
        #: For each input of the plan its leaf, or -1 and its number among those noted, and a dtype.
        self.leaves: list[int] = []
        self.constants: list[tuple[int, int, numpy.dtype[Any]]] = []
        for slot, host in enumerate(graph.hosts):
            if host.ndim:
                self.leaves.append(leaves[id(host)])
            else:
                self.leaves.append(-1)
                self.constants.append((slot, numbers[id(host)], host.dtype))

    def run(self, noted: Noted, out: numpy.ndarray | None = None) -> Any:
        """Run the plan on what was noted, and give the arrays that show it their values.

        None where others came first: another thread, or a writer, had it evaluated.
        """
        _, sketches, leaves, numbers = noted
        hosts: list[Any] = [leaves[i] if i >= 0 else None for i in self.leaves]
        for slot, i, dtype in self.constants:
            hosts[slot] = numpy.array(numbers[i], dtype)

        def is_still_noted() -> bool:
            return all([one.node is None and one.value is None for one in sketches])

        done = self.plan.run(hosts, out, is_still_noted)
        if done is None:
            return None
        for i, value in done.values.items():
            one = sketches[self.shown[i]]
            array = one.cell
            one.value = value
            if array is not None:
                array._origin = done.origins[i]
        engine.tell(done)
        return done


class _Reduction:
    """How a reduction of sketches was computed, for the next of its kind."""

    __slots__ = ("made", "plan")

    def __init__(self, noted: Noted, request: Any, keep: bool, made: Made) -> None:
        self.plan = _Replay(noted, request, keep)
        self.made = made

    def run(self, noted: Noted) -> Any:
        """Reduce what was noted; return what the user gets."""
        shape, dtype, order, is_int = self.made
        result = empty_in_order(shape, dtype, order)
        done = self.plan.run(noted, result.ravel(order="K"))
        if done is None:
            return None
        if not shape:
            return int(result) if is_int else result[()]
        made = _fastpath.wrap(result)
        made._origin = done.origins[-1]
        return made


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
            _known[noted[0]] = _Replay(noted)
    elif known is not _SEEN:
        known.run(noted)
        if len(noted[1]) == 1 and sketch.site:
            _fastpath.mistaken(sketch.site)


def note_reduction(name: str, array: Any, keep: bool, args: Any, kwargs: Any) -> Any:
    """Return what tells a reduction of sketches from others, None where there is nothing to tell.

    It is to be asked for before the array is asked for its value, and is what :func:`reduced` and
    :func:`learn_reduction` take.
    """
    sketch = _fastpath.sketch_of(array)
    if sketch is None or _fastpath.close_tape(0) or _events.listened():
        return None
    if len(args) > 1 or not _asked.issuperset(kwargs) or modes_in_force() != sketch.modes:
        return None
    asked = (*args, *kwargs.values())
    if not all(type(one) in _PLAIN for one in asked):
        return None
    noted = _fastpath.structure(sketch)
    # Equal numbers of two types are not asked for alike.
    return noted and (noted, (noted[0], name, keep, asked, *kwargs, *map(type, asked)))


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
        _reductions[key] = _Reduction(noticed, request, keep, made)


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
        array = sketch.cell
        if array is not None and node is not None:
            # Filed first: a writer has to find it if an interrupt comes in between.
            node.show(array)
            if _fastpath.show_node(sketch, node):
                note_large(node)
            elif node.owner is not None:  # another thread has it show something else by now
                node.owner.close()
                node.owner = None
    if failed is not None:
        raise failed


def _node_of(sketch: Any) -> Node | None:
    """Return the node of a sketch; None of one that was computed at once."""
    if sketch.node is not None or sketch.value is not None:
        return sketch.node  # type: ignore[no-any-return]
    values = []
    for one in sketch.operands:
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
    sketch.node = node
    return node


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
