"""Scans, masks, counts and look-ups, which NumPy runs on one thread: who catches them, when.

Calls of NumPy's functions come by here before they are left to NumPy. A road
(:mod:`scans_table`) says whether kernels can answer a call with the bits of NumPy's result; they
do where that is foreseen to be clearly faster. Everything else, and everything about errors, is
NumPy's.

A kernel is built once the time that it would have saved has paid for it. ``engine="compiled"`` has
it built at once, ``"blocks"`` does without.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from dispatcharr import _events
from dispatcharr._config import Options, options
from dispatcharr.face import _fastpath
from dispatcharr.face.array import behind, is_array, unwrap
from dispatcharr.face.contract import LEFT
from dispatcharr.face.road import engine, scan_roads, scans, verification
from dispatcharr.ops.scans import FUNCTIONS, METHODS, RUNNING, least_of
from dispatcharr.storage import places, pool
from dispatcharr.storage.readers import any_pending

if TYPE_CHECKING:
    from dispatcharr.route.scans import Choice, Scan

__all__ = ["NAMES", "asked", "attempt", "indexed"]

#: Elements under which nothing is worth a closer look.
UNREAD = 1 << 13
#: Slots of the fast path whose limits say which calls come by here.
_SLOT = _fastpath.SLOTS - 64


def _known() -> dict[Callable[..., Any], str]:
    """Return the functions that have a road, each with the road's name."""
    known: dict[Callable[..., Any], str] = {}
    for name in FUNCTIONS:
        function = getattr(numpy, name, None)
        if function is not None:
            known[function] = name
            # Behind __array_function__.
            known[getattr(function, "_implementation", function)] = name
    for name in METHODS:
        known[getattr(numpy.ndarray, name)] = f"ndarray.{name}"
    for name in RUNNING:
        known[getattr(numpy, name).accumulate] = f"{name}.accumulate"
    return known


_KNOWN = _known()
_ROADS = sorted(set(_KNOWN.values()))
#: Names under which calls come by.
NAMES = frozenset([*FUNCTIONS, *METHODS, *[f"{name}.accumulate" for name in RUNNING]])
#: Calls that were left to NumPy, by what they depend on beside values, each with whom to ask
#: whether they still are to be, and how many to leave before the values are looked at again.
_left: dict[tuple[Any, ...], list[Any]] = {}
_MOST_LEFT, _PATIENCE = 256, 32
#: Functions that are elementwise operations in another guise.
_PLANNED = frozenset(["diff"])


def attempt(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return what NumPy's ``function`` would, computed by kernels, or ``LEFT``."""
    known, chosen = _road_of(function), options()
    if known is not None and name in _PLANNED:
        return scan_roads.planned(name, args, kwargs)
    if known is None or chosen.engine == "blocks":
        return LEFT
    plain, given = unwrap(args), unwrap(kwargs)
    values = (*plain, *given.values())
    form = _form(known, values, chosen)
    if form is None or not scans.is_served(chosen):
        return LEFT
    try:
        scan = scan_roads.ROADS[known](*plain, **given)
    except TypeError:  # arguments that NumPy's function does not have: it will say so
        return LEFT
    if scan is None:
        return LEFT
    made = _run(name, scan, form, chosen, _Call(known, function, plain, _without(given)))
    if made is LEFT:
        return made
    pairs = [*zip((*args, *kwargs.values()), values, strict=True)]
    if type(made) is tuple:
        return tuple([_shown(one, pairs) for one in made])
    return _shown(made, pairs)


def indexed(host: numpy.ndarray, key: Any) -> Any:
    """Return ``host[key]`` for a key that is an array, computed by kernels, or ``LEFT``."""
    if type(key) is not numpy.ndarray and not is_array(key):
        return LEFT
    chosen = options()
    if chosen.engine == "blocks":
        return LEFT
    plain = unwrap(key)
    form = _form("getitem", (host, plain), chosen)
    if form is None or not scans.is_served(chosen):
        return LEFT
    scan = scan_roads.indexed(host, plain)
    if scan is None:
        return LEFT
    call = _Call("getitem", operator.getitem, (host, plain), {})
    made = _run("getitem", scan, form, chosen, call)
    return made if made is LEFT else _fastpath.wrap(made)


def asked(name: str, function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return whom the fast path is to ask about large calls of ``function``; None for nobody."""
    road = _road_of(function)
    if road is None:
        return None

    def first(*args: Any, **kwargs: Any) -> Any:
        if places.in_use() and any([is_array(a) and places.is_placed(behind(a)) for a in args]):
            return NotImplemented
        found = attempt(name, function, args, kwargs)
        return NotImplemented if found is LEFT else found

    first.slot = _slot_of(road)  # type: ignore[attr-defined]
    return first


def _slot_of(road: str) -> int:
    """Return the slot of a road, its limits set: what NumPy does quickly is not looked at."""
    slot = _SLOT + _ROADS.index(road)
    for code in "?bBhHiIlLqQfd":
        dtype = numpy.dtype(code)
        _fastpath.set_limit(slot, least_of(road, dtype.kind) * dtype.itemsize, dtype.num)
    return slot


def _road_of(function: Callable[..., Any]) -> str | None:
    try:
        return _KNOWN.get(function)
    except TypeError:  # not all that can be called can be looked up
        return None


def _form(name: str, values: tuple[Any, ...], chosen: Options) -> tuple[Any, ...] | None:
    """Return what a choice depends on; None where it is known that NumPy has the call."""
    if chosen.engine != "auto":
        return ()
    sizes = [value.size for value in values if type(value) is numpy.ndarray]
    if not sizes or max(sizes) < UNREAD:
        return None
    form = (name, chosen.backend, chosen.threads, *map(_trait, values))
    left = _left.get(form)
    if left is not None:
        left[1] -= 1
        if left[1] > 0 and left[0]():
            return None
    return form


def _trait(value: Any) -> Any:
    """Return what a choice depends on of an argument."""
    if type(value) is numpy.ndarray:
        return value.dtype.char, value.shape, value.strides
    return value if type(value) in (str, int, bool) else None


def _leave(form: tuple[Any, ...], choice: Choice) -> None:
    if form:
        if len(_left) >= _MOST_LEFT:
            _left.clear()
        _left[form] = [choice.waits, _PATIENCE]
        choice.waits()


class _Call(NamedTuple):
    """A call as NumPy's."""

    road: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def _without(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != "out"}


def _shown(made: numpy.ndarray, pairs: list[tuple[Any, Any]]) -> Any:
    """Return a result as the program gets it: what it gave comes back as it was given."""
    for original, plain in pairs:
        if plain is made:
            return original
        if type(plain) is tuple and len(plain) == 1 and plain[0] is made:
            return original[0]
    return _fastpath.wrap(made)


def _run(name: str, scan: Scan, form: tuple[Any, ...], chosen: Options, call: _Call) -> Any:
    """Compute ``scan`` if that pays, else return ``LEFT``."""
    start = time.perf_counter()
    choice = scans.choose(scan, chosen)
    if choice.crew is None:
        _leave(form, choice)
        return LEFT
    host = scan.out
    if host is not None and any_pending():
        engine.before_write(host)
    before = pool.enter()
    try:
        with places.writing(() if host is None else (host,)):
            made = scan.run(choice.crew)
    finally:
        pool.leave(before)
    if made is None:  # NumPy has something to say
        return LEFT
    seconds = time.perf_counter() - start
    verified = None
    if chosen.verify and verification.is_due(chosen.verify):
        made, verified = _verified(name, scan, made, call)
    if _events.listened():
        _events.emit(_events.ScanRecord(name, scan.account, seconds, choice.backend, verified))
    return made


def _verified(name: str, scan: Scan, made: Any, call: _Call) -> tuple[Any, bool]:
    """Return the answer, and whether NumPy agrees. If not, its answer stands, and kernels rest."""
    wanted = call.function(*call.args, **call.kwargs)
    both = ((made,), (wanted,)) if type(made) is not tuple else (made, wanted)
    wrong = [pair for pair in zip(*both, strict=True) if not _is_same(*pair)]
    if not wrong:
        return made, True
    told = f"{name}, {scan.account},", call.road, call.args, call.kwargs, wrong
    verification.tell_of_road(*told, type(made) is tuple)
    if scan.out is not None:
        with places.writing((scan.out,)):
            scan.out[...] = wanted
        wanted = scan.out
    scans.bar(scan.keys)
    return wanted, False


def _is_same(made: numpy.ndarray, wanted: numpy.ndarray) -> bool:
    return verification.agree(made, wanted)
