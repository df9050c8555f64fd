"""Whether planning an operation beats NumPy, found out by trying.

Where an operation alone would pay by a compiled loop and by nothing else, the fast path leaves it
to NumPy, and hands one over when a trial is due (``_trials.h``). It is planned then, on the
operands at hand, and stands for those that went by: what a kernel would have saved them is credited
to its account, so that it is loaded or built in time. Once it is there, the clock decides between
NumPy and planning, which prices of whole classes of operations cannot; the limit is lowered to what
has paid.

A trial makes results that nobody sees: the operation itself is served afterwards. Nothing is
tried where that could be noticed: where it errs, where somebody listens.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr.face import _fastpath, limits
from dispatcharr.face.array import is_array, unwrap
from dispatcharr.face.context import evaluate
from dispatcharr.route.rents import standing_for
from dispatcharr.storage import places, pool

__all__ = ["forget", "install"]

#: Share of NumPy's time that planning may take at most.
_PAYS = 0.9
#: How many times as long nothing is tried after each trial that planning has lost.
_SLOWER = 4.0
#: Runs of a way until it has settled, which takes a plan that is to be repeated longest, and those
#: that are timed.
_SETTLING, _TIMED = 6, 4
_Way = Callable[[], Any]

#: What goes by before the next trial of a row and dtype, as such a share.
_patience: dict[tuple[str, str], float] = {}


def _try_out(
    slot: int,
    number: int,
    nbytes: int,
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Try an operation that is about to be left to NumPy; the fast path asks for it."""
    name, dtype = limits.row_of(slot), _DTYPES[number]
    limit = limits.limit_of(name, dtype)
    patience = _patience.get((name, dtype.char), limits.SOON)
    ways = _ways(slot, function, args, kwargs)
    if not places.in_use() and not _events.listened() and _is_harmless(ways[0]):
        limits.lower(name, dtype, nbytes)  # so that it is planned
        try:
            tried = _tried(*ways, max(limits.between_trials(name, dtype, patience) / nbytes, 1.0))
        except MemoryError:
            tried = "lost"  # there is no room for two of them
        finally:
            limits.lower(name, dtype, limit)
        if tried is None:
            return  # there will be no kernel: it is tried no more
        if tried == "won":
            limits.lower(name, dtype, min(nbytes, limit))
            patience = limits.SOON  # smaller ones may win too
        elif tried == "lost":
            patience = _SLOWER * max(patience, 1.0)
        else:
            patience = min(2.0 * patience, max(patience, 1.0))
        _patience[name, dtype.char] = patience
    limits.try_later(name, dtype, patience)


def _ways(
    slot: int, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[_Way, _Way]:
    """Return how NumPy computes it, and how we do where it is planned."""
    hosts: tuple[Any, ...] = unwrap(args)
    named = unwrap(kwargs)
    if function is None:
        plain = function = _OPERATORS[slot]
    else:
        plain = getattr(function, "_ufunc", None) or function._function

    def planned() -> Any:
        # Arrays of their own, of which nothing was asked before.
        given = [_fastpath.wrap(host) for host in hosts]
        found = function(*given, **named)
        return evaluate(found) if is_array(found) else found

    def left() -> Any:
        before = pool.enter()  # as where the fast path leaves it to NumPy
        try:
            return plain(*hosts, **named)
        finally:
            pool.leave(before)

    return left, planned


def _is_harmless(plain: _Way) -> bool:
    """Return whether an operation meets nothing that it would have to be told of twice."""
    heard: list[Any] = []
    try:
        with numpy.errstate(all="call", call=lambda *told: heard.append(told)):
            plain()
    except Exception:  # whatever it is, the operation itself will raise it
        return False
    return not heard


def _tried(plain: _Way, planned: _Way, runs: float) -> str | None:
    """Return how planning did against NumPy; None where there will be no kernel to do it with."""
    records: list[Any] = []
    with _events.listening(records.append), standing_for(runs):
        planned()
    kernels = [one.decision for one in records if isinstance(one, _events.KernelRecord)]
    if not kernels:
        return "lost"  # others see its memory, perhaps
    decision = kernels[-1]
    if decision.estimate.engine != "compiled":
        return None if decision.better is None else "unbuilt"
    return "won" if _seconds(planned) < _PAYS * _seconds(plain) else "lost"


def _seconds(way: _Way) -> float:
    found = []
    for _ in range(_SETTLING + _TIMED):
        start = time.perf_counter()
        way()
        found.append(time.perf_counter() - start)
    return min(found[_SETTLING:])


_DTYPES: dict[int, numpy.dtype[Any]] = {
    numpy.dtype(char).num: numpy.dtype(char) for char in numpy.typecodes["All"]
}
_OPERATORS: dict[int, Callable[..., Any]] = {
    slot: getattr(operator, f"{name}_" if name in ("and", "or") else name)
    for slot, name in enumerate(_fastpath.SLOT_NAMES)
    if name in (*_fastpath.BINARY, *_fastpath.COMPARE, *_fastpath.UNARY)
}


def install() -> None:
    """Have the fast path ask for trials."""
    _fastpath.set_trials(_try_out)


def forget() -> None:
    """Try everything as if for the first time."""
    _patience.clear()
