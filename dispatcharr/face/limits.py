"""From which size on an operation is planned: the profile's break-even point, per row and dtype.

A break-even point is worked out when the first operation of its row and dtype comes along that is
large enough to be worth a look at the profile; the fast path is told, and serves what is smaller.

Where an operation would pay by a compiled loop alone, none may be there, and until it is NumPy's
own is the fastest. Such operations are left to it, and are tried now and then (``trials``): a trial
orders the loop, and once it is there measures whether planning pays, and lowers the limit.
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

__all__ = [
    "SOON", "be_worth", "between_trials", "firm_limit_of", "forget", "limit_of", "lower", "row_of",
    "slot_of", "try_later", "try_next", "worth_of",
]  # fmt: skip

#: No operation under this many bytes takes long enough to be worth a look at the profile.
UNREAD = 1 << 14
#: Places that NumPy takes long enough for to be worth a look at whether it is to do it.
_PLACES = 1 << 17

_rows: tuple[Row | Reduction, ...] = (*ELEMENTWISE, *REDUCTIONS, *GENERATORS)
_ROWS = {row.name: row for row in _rows}
_OBJECT = numpy.dtype(object).num
_slots: dict[str, int] = {name: _fastpath.FIRST_FUNCTION + i for i, name in enumerate(_ROWS)}
_limits: dict[tuple[str, str], int] = {}
#: The same before the first trial that was won.
_firm: dict[tuple[str, str], int] = {}
#: From which on a trial is worth it.
_worth: dict[tuple[str, str], int] = {}
#: What NumPy is priced at from one trial to the next, in times of loading a kernel: few of the
#: operations are run twice for a trial.
_APART = 30
#: Share of that before the first trial: the kernel may be there. It doubles while there is none.
SOON = 1 / 32
#: A program that has planned nothing as yet would have to load this first.
_ENGINE = "dispatcharr.engine"


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
_WRITING = frozenset(
    slot for slot, name in enumerate(_fastpath.SLOT_NAMES)
    if name == "setitem" or name[1:] in _fastpath.BINARY
)  # fmt: skip


def forget() -> None:
    """Set the floor under every limit; what the profile says is asked for anew."""
    for name, char in _limits:
        _try_never(name, numpy.dtype(char))
    _limits.clear()
    _firm.clear()
    for name in _slots:
        for each in _slots_of(name):
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
        row = _ROWS[name]
        # Without a compiled fast path nothing is tried.
        found = _break_even(row, dtype, not _fastpath.COMPILED)
        _limits[name, dtype.char] = found
        chained = _chain(row, dtype)
        for slot in _slots_of(name):
            _fastpath.set_limit(slot, found, _number(dtype))
            _fastpath.set_chain_limit(slot, chained, _number(dtype))
        worth = max(router.trial_floor(row.cost, dtype, profiles.current()), UNREAD)
        if worth < found < sys.maxsize:
            _worth[name, dtype.char] = worth
            try_later(name, dtype, SOON if _ENGINE in sys.modules else 1.0)
    return found


def firm_limit_of(name: str, dtype: numpy.dtype) -> int:
    """Return the same without what trials have found: for operations that cannot wait."""
    limit = limit_of(name, dtype)
    return _firm.get((name, dtype.char), limit)


def lower(name: str, dtype: numpy.dtype, limit: int) -> None:
    """Have operations of a row and dtype planned from so many bytes on, where they can wait."""
    key = name, dtype.char
    if limit >= _firm.setdefault(key, _limits[key]):
        del _firm[key]
    _limits[key] = limit
    for slot in _tried(name):
        _fastpath.set_limit(slot, limit, _number(dtype))


def worth_of(name: str, dtype: numpy.dtype) -> int:
    """Return from how many bytes on operations are tried."""
    return _worth[name, dtype.char]


def be_worth(name: str, dtype: numpy.dtype, nbytes: int) -> None:
    """Have operations tried from so many bytes on."""
    _worth[name, dtype.char] = max(nbytes, UNREAD)


def between_trials(name: str, dtype: numpy.dtype, patience: float) -> int:
    """Return how many bytes go by from one trial of an operation to the next."""
    profile, worth = profiles.current(), _worth[name, dtype.char]
    seconds = router.numpy_seconds(_ROWS[name].cost, dtype, profile, worth)
    return int(worth * patience * _APART * profile.overhead["load"] / seconds)


def try_later(name: str, dtype: numpy.dtype, patience: float) -> None:
    """Have an operation tried when so much has gone by."""
    left = between_trials(name, dtype, patience)
    worth, firm = _worth[name, dtype.char], _firm.get((name, dtype.char), 0)
    for slot in _tried(name):
        _fastpath.set_trial(slot, _number(dtype), worth, left, firm)


def try_next(name: str, dtype: numpy.dtype) -> None:
    """Have the next operation tried; of no effect where nothing is tried any more."""
    worth = _worth.get((name, dtype.char))
    if worth is not None and (name, dtype.char) in _limits:
        for slot in _tried(name):
            firm = _firm.get((name, dtype.char), 0)
            _fastpath.set_trial(slot, _number(dtype), worth, 0, firm)


def _try_never(name: str, dtype: numpy.dtype) -> None:
    for slot in _tried(name):
        _fastpath.set_trial(slot, _number(dtype), sys.maxsize, 0, 0)


def row_of(slot: int) -> str:
    """Return the name of the row whose limits hold for a slot of the fast path."""
    return next(name for name in _slots if slot in _slots_of(name))


def _slots_of(name: str) -> tuple[int, ...]:
    return _slots[name], *_operators.get(name, ())


def _tried(name: str) -> list[int]:
    """Return the slots of those operations of a row that make a new array."""
    return [slot for slot in _slots_of(name) if slot not in _WRITING]


def _number(dtype: numpy.dtype) -> int:
    # The fast path counts dtypes that are not built in as objects.
    return dtype.num if dtype.isbuiltin == 1 else _OBJECT


def _chain(row: Row | Reduction, dtype: numpy.dtype) -> int:
    """Return the bytes of an operand from which an operation pays if another takes its result."""
    if not is_planned(dtype) or type(row) is not Elementwise or row.nout > 1:
        return sys.maxsize
    return max(router.chain_floor(row.cost, dtype, profiles.current()), UNREAD)


def _break_even(row: Row | Reduction, dtype: numpy.dtype, built: bool) -> int:
    # NumPy's any and all stop at the first element that decides; two results are not planned.
    if not is_planned(dtype) or row.cost == "reduce_logical" or getattr(row, "nout", 1) > 1:
        return sys.maxsize
    return max(router.defer_floor(row.cost, dtype, profiles.current(), built), UNREAD)
