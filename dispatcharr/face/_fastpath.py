"""The fast path, compiled where it could be built and in Python where not; both mean the same.

Slots are numbered in the order of :data:`SLOT_NAMES`; callables with ufunc manners take the numbers
from ``FIRST_FUNCTION`` on. A slot has a handler (what to call when the fast path declines) and a
limit (bytes of the result from which it declines). :func:`close` makes every slot decline while an
override or a recorder is active.
"""

from __future__ import annotations

from typing import Any

from dispatcharr._config import variable
from dispatcharr.face.slots import BINARY, COMPARE, SLOT_NAMES, UNARY

__all__ = [
    "BINARY", "COMPARE", "COMPILED", "FIRST_FUNCTION", "SLOTS", "SLOT_NAMES", "UNARY", "Cell",
    "Forward", "Function", "Meta", "Method", "Repeat", "Sketch", "cell", "close", "close_tape",
    "foreseen", "get_limit", "holds_cell", "missed", "mistaken", "patient", "placed",
    "register", "served", "set_believed", "set_chain_limit", "set_handler", "set_hooks",
    "set_limit", "set_loops", "set_memory", "set_pending", "set_sketched", "set_tape", "set_trial",
    "set_trials", "set_ufuncs", "set_unbound",
    "settle", "settled", "show_node", "sketch_of", "sketches", "structure", "taping", "view",
    "wrap", "writes",
]  # fmt: skip

COMPILED = False
_chosen: Any = None
_metas: Any = None
if not variable("DISPATCHARR_PURE_PYTHON"):
    try:
        from dispatcharr.face import _fastpath_c

        _chosen = _metas = _fastpath_c
        COMPILED = len(SLOT_NAMES) == _fastpath_c.FIRST_FUNCTION
    except ImportError:
        # No compiler was there when it was installed: the Python path means the same.
        COMPILED = False
if not COMPILED:
    from dispatcharr.face import _fastpath_py, _meta_py

    _chosen, _metas = _fastpath_py, _meta_py

Cell: Any = _chosen.Cell
Function: Any = _chosen.Function
Forward: Any = _chosen.Forward
Method: Any = _chosen.Method
Meta: Any = _metas.Meta
FIRST_FUNCTION: int = _chosen.FIRST_FUNCTION
SLOTS: int = _chosen.SLOTS
holds_cell = _chosen.holds_cell
register = _chosen.register
wrap = _chosen.wrap
view = _chosen.view
set_unbound = _metas.set_unbound
cell = _chosen.cell
set_handler = _chosen.set_handler
set_limit = _chosen.set_limit
#: In Python there is no way around the ufunc.
set_loops: Any = getattr(_chosen, "set_loops", lambda slot, ufunc: None)
#: Nor is there anything that counts.
set_trial: Any = getattr(_chosen, "set_trial", lambda *_: None)
set_trials: Any = getattr(_chosen, "set_trials", lambda hook: None)
get_limit = _chosen.get_limit
close = _chosen.close
close_tape = _chosen.close_tape
set_pending = _chosen.set_pending
served = _chosen.served
set_hooks = _chosen.set_hooks
set_believed = _metas.set_believed
set_memory = _chosen.set_memory
placed = _chosen.placed
writes = _chosen.writes
foreseen = _chosen.foreseen
mistaken = _chosen.mistaken
missed = _chosen.missed
set_chain_limit = _chosen.set_chain_limit
set_ufuncs = _chosen.set_ufuncs
Sketch: Any = _chosen.Sketch
settled = _chosen.settled
settle = _chosen.settle
sketches = _chosen.sketches
#: Without a tape nothing is run again.
Repeat: Any = getattr(_chosen, "Repeat", None)
repeat: Any = getattr(_chosen, "repeat", None)
running: Any = getattr(_chosen, "running", None)
forget_running: Any = getattr(_chosen, "forget_running", None)
set_repeats: Any = getattr(_chosen, "set_repeats", None)
show_node = _chosen.show_node
sketch_of = _chosen.sketch_of
set_tape = _chosen.set_tape
set_sketched = _chosen.set_sketched
patient = _chosen.patient
taping = _chosen.taping
structure = _chosen.structure
