"""From which size on an operation is planned: the profile's break-even point, per row and dtype.

A break-even point is worked out when the first operation of its row and dtype comes along that is
large enough to be worth a look at the profile; the fast path is told, and serves what is smaller.
"""

from __future__ import annotations

import sys

import numpy

from dispatcharr.expr.build import SNAPSHOT_BYTES
from dispatcharr.face import _fastpath
from dispatcharr.face.road import profiles, router
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Elementwise, Reduction, Row
from dispatcharr.ops.table import COPY, ELEMENTWISE, GENERATORS

__all__ = ["forget", "limit_of", "slot_of"]

#: No operation under this many bytes takes long enough to be worth a look at the profile.
UNREAD = 1 << 14
#: Places that NumPy takes long enough for to be worth a look at whether it is to do it.
_PLACES = 1 << 17

_rows: tuple[Row | Reduction, ...] = (*ELEMENTWISE, *REDUCTIONS, *GENERATORS)
_ROWS = {row.name: row for row in _rows}
_OBJECT = numpy.dtype(object).num
_slots: dict[str, int] = {name: _fastpath.FIRST_FUNCTION + i for i, name in enumerate(_ROWS)}
_limits: dict[tuple[str, str], int] = {}


def slot_of(name: str) -> int:
    """Return the fast-path slot of the function called ``name``; without a row it has no limit."""
    return _slots.get(name, _fastpath.SLOTS - 1)


def _operator_slots() -> dict[str, list[int]]:
    rows = {row.operator: row.name for row in ELEMENTWISE if row.operator is not None}
    # Assignment to items is as dear as a copy.
    found: dict[str, list[int]] = {COPY.name: [_fastpath.SLOT_NAMES.index("setitem")]}
    for slot, name in enumerate(_fastpath.SLOT_NAMES):
        plain = name[1:] if name.startswith("i") and name[1:] in _fastpath.BINARY else name
        if plain in rows:
            found.setdefault(rows[plain], []).append(slot)
    return found


_operators = _operator_slots()


def forget() -> None:
    """Set the floor under every limit; what the profile says is asked for anew."""
    _limits.clear()
    for name, slot in _slots.items():
        for each in (slot, *_operators.get(name, ())):
            _fastpath.set_limit(each, UNREAD)
    _fastpath.set_limit(_fastpath.SLOT_NAMES.index("forward"), SNAPSHOT_BYTES)
    for code in "?bBhHiIlLqQ":  # what arrays are indexed with
        dtype, slot = numpy.dtype(code), _fastpath.SLOT_NAMES.index("getitem")
        least = UNREAD if code == "?" else _PLACES
        _fastpath.set_limit(slot, least * dtype.itemsize, dtype.num)


def limit_of(name: str, dtype: numpy.dtype) -> int:
    """Return the bytes of an operand from which the row called ``name`` is planned."""
    found = _limits.get((name, dtype.char))
    if found is None and name not in _ROWS:
        return UNREAD  # a function of the user's: there is no plain NumPy to compare it with
    if found is None:
        found = _limits[name, dtype.char] = _break_even(_ROWS[name], dtype)
        # The fast path counts dtypes that are not built in as objects.
        number = dtype.num if dtype.isbuiltin == 1 else _OBJECT
        chained = _chain(_ROWS[name], dtype)
        for slot in (_slots[name], *_operators.get(name, ())):
            _fastpath.set_limit(slot, found, number)
            _fastpath.set_chain_limit(slot, chained, number)
    return found


def _chain(row: Row | Reduction, dtype: numpy.dtype) -> int:
    """Return the bytes of an operand from which an operation pays if another takes its result."""
    if not is_planned(dtype) or type(row) is not Elementwise or row.nout > 1:
        return sys.maxsize
    return max(router.chain_floor(row.cost, dtype, profiles.current()), UNREAD)


def _break_even(row: Row | Reduction, dtype: numpy.dtype) -> int:
    # NumPy's any and all stop at the first element that decides; two results are not planned.
    if not is_planned(dtype) or row.cost == "reduce_logical" or getattr(row, "nout", 1) > 1:
        return sys.maxsize
    return max(router.defer_floor(row.cost, dtype, profiles.current()), UNREAD)
