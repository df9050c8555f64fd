"""Whether planning an operation beats NumPy, found out by trying.

Where an operation alone would pay by a compiled loop and by nothing else, the fast path leaves it
to NumPy, and hands one over when a trial is due (``_trials.h``). It is planned then, on the
operands at hand, and stands for those that went by: what a kernel would have saved them is credited
to its account, so that it is loaded or built in time. Once it is there, whoever had it built, the
next operation is tried, and the clock decides between NumPy and planning, which prices of whole
classes of operations cannot; the limit is lowered to what has paid. What was won makes smaller ones
worth a trial, and what was lost by far only larger ones.

A trial makes results that nobody sees: the operation itself is served afterwards. Nothing is
tried where that could be noticed: where it errs, where somebody listens.
"""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr._forks import shared
from dispatcharr.face import _fastpath, limits
from dispatcharr.face.array import is_array, unwrap
from dispatcharr.face.context import evaluate
from dispatcharr.face.road import build
from dispatcharr.route.rents import noting_wants, standing_for
from dispatcharr.storage import places, pool

__all__ = ["forget", "install"]

#: Share of NumPy's time that planning may take at most.
_PAYS = 0.9
#: Share from which on a trial is lost by so far that only larger operations are worth one.
_HOPELESS = 1.5
#: How many times as long nothing is tried after each other trial that planning has lost.
_SLOWER = 4.0
#: What is worth the next trial after one that was won, or lost by far, in sizes of that one.
_SMALLER, _LARGER = 0.25, 2.0
#: Runs of a way until it has settled, which takes a plan that is to be repeated longest, and those
#: that are timed.
_SETTLING, _TIMED = 6, 4
#: Most kernels that are awaited: they need not ever come.
_MOST_AWAITED = 1024
_Way = Callable[[], Any]

#: Held by who tries: the limit lowered for a trial is every thread's, and has to be put back
#: to what it was.
_on_trial = shared(threading.Lock())
#: What goes by before the next trial of a row and dtype, as such a share.
_patience: dict[tuple[str, str], float] = {}
#: Kernels that a row and dtype are to be tried with once they are there.
_awaited: set[tuple[Hashable, str, str]] = set()


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
    if not _on_trial.acquire(blocking=False):
        limits.try_later(name, dtype, _patience.get((name, dtype.char), limits.SOON))
        return
    try:
        _try_alone(name, dtype, nbytes, _ways(slot, function, args, kwargs))
    finally:
        _on_trial.release()


def _try_alone(name: str, dtype: numpy.dtype[Any], nbytes: int, ways: tuple[_Way, _Way]) -> None:
    limit = limits.limit_of(name, dtype)
    patience = _patience.get((name, dtype.char), limits.SOON)
    wanting: list[Hashable] = []
    if not places.in_use() and not _events.listened() and _is_harmless(ways[0]):
        runs = max(limits.between_trials(name, dtype, patience) / nbytes, 1.0)
        try:
            limits.lower(name, dtype, nbytes)  # so that it is planned
            with noting_wants() as wanting:
                tried = _tried(*ways, runs)
        except MemoryError:
            tried = "lost"  # there is no room for two of them
        finally:
            limits.lower(name, dtype, limit)
        if tried == "won":
            limits.lower(name, dtype, min(nbytes, limit))
            patience = limits.SOON  # smaller ones may win too
            limits.be_worth(name, dtype, min(limits.worth_of(name, dtype), int(_SMALLER * nbytes)))
        elif tried == "hopeless" and _LARGER * nbytes < limit:
            limits.be_worth(name, dtype, int(_LARGER * nbytes))
        elif tried in ("hopeless", "lost"):
            patience = _SLOWER * max(patience, 1.0)
        else:
            patience = min(2.0 * patience, max(patience, 1.0))
    else:
        patience = min(2.0 * patience, max(patience, 1.0))
    _patience[name, dtype.char] = patience
    limits.try_later(name, dtype, patience)
    for kernel in wanting:
        _await(kernel, name, dtype)


def _await(kernel: Hashable, name: str, dtype: numpy.dtype[Any]) -> None:
    """Have the next operation of a row and dtype tried once a kernel is there."""
    awaited = kernel, name, dtype.char
    if awaited in _awaited or len(_awaited) >= _MOST_AWAITED:
        return
    _awaited.add(awaited)

    def told() -> None:
        _awaited.discard(awaited)
        limits.try_next(name, dtype)

    build.shared_builder().tell(kernel, told)


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


def _tried(plain: _Way, planned: _Way, runs: float) -> str:
    """Return how planning did against NumPy."""
    records: list[Any] = []
    with _events.listening(records.append), standing_for(runs):
        planned()
    kernels = [one.decision for one in records if isinstance(one, _events.KernelRecord)]
    if not kernels:
        return "lost"  # others see its memory, perhaps
    decision = kernels[-1]
    compiled = decision.estimate.engine == "compiled"
    if not compiled and decision.better is not None:
        return "unbuilt"
    share = _seconds(planned) / _seconds(plain)
    if share < _PAYS:
        return "won"
    # Blocks are the same code at every time; what they gain, they gain on larger operations.
    return "lost" if compiled and share < _HOPELESS else "hopeless"


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
    _awaited.clear()
