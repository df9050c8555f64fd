"""From which size on an operation is planned: the profile's break-even point, per cost class.

Until the first larger operation, a floor that no machine's break-even point lies under keeps the
profile from being read by programs that never need it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from dispatcharr.expr.build import SNAPSHOT_BYTES
from dispatcharr.face import _fastpath
from dispatcharr.face.road import profiles, router
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Elementwise, Reduction, Row
from dispatcharr.ops.table import BY_NAME, ELEMENTWISE, GENERATORS

__all__ = ["function_slot", "limit_of", "load", "prepare"]

#: No operation under this many bytes takes long enough to be worth a look at the profile.
UNREAD = 1 << 14

_operators = {row.operator: row for row in ELEMENTWISE if row.operator is not None}
_slots: dict[str, int] = {
    row.name: _fastpath.FIRST_FUNCTION + i for i, row in enumerate(ELEMENTWISE)
}
_limits: dict[str, int] = {}
_loaded = False


def function_slot(row: Elementwise) -> int:
    """Return the fast-path slot of a row's function."""
    return _slots[row.name]


def _operator_rows() -> Iterable[tuple[int, Elementwise]]:
    for slot, name in enumerate(_fastpath.SLOT_NAMES):
        plain = name[1:] if name.startswith("i") and name[1:] in _fastpath.BINARY else name
        if plain in _operators:
            yield slot, _operators[plain]


def prepare() -> None:
    """Set the floor under every limit."""
    for slot in [*_slots.values(), *(slot for slot, _ in _operator_rows())]:
        _fastpath.set_limit(slot, UNREAD)
    _fastpath.set_limit(_fastpath.SLOT_NAMES.index("setitem"), UNREAD)
    _fastpath.set_limit(_fastpath.SLOT_NAMES.index("forward"), SNAPSHOT_BYTES)


def load() -> None:
    """Read the profile and set the limits that it gives; done by the first larger operation."""
    global _loaded
    profile = profiles.current()
    floors: dict[str, int] = {}
    rows: tuple[Row | Reduction, ...] = (*ELEMENTWISE, *REDUCTIONS, *GENERATORS)
    for row in rows:
        if row.cost not in floors:
            floors[row.cost] = max(router.defer_floor(row.cost, profile), UNREAD)
        _limits[row.name] = floors[row.cost]
    for row in ELEMENTWISE:
        _fastpath.set_limit(_slots[row.name], _limits[row.name])
    for slot, row in _operator_rows():
        _fastpath.set_limit(slot, _limits[row.name])
    _fastpath.set_limit(_fastpath.SLOT_NAMES.index("setitem"), _limits[BY_NAME["positive"].name])
    _loaded = True


def limit_of(name: str) -> int:
    """Return the bytes from which the row called ``name`` is planned."""
    if not _loaded:
        load()
    return _limits.get(name, sys.maxsize)
