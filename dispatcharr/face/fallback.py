"""What is not planned: evaluate the inputs, call NumPy, wrap the results, say so.

An opaque function may write to what it is given and may keep it. So pending work that reads its
arguments runs first, and afterwards the reference counts of their memory are compared: memory that
somebody kept is foreign from then on. Views of an argument come back as views; a result that NumPy
itself also holds on to is foreign too.
"""

from __future__ import annotations

import operator
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, WrapperDescriptorType
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr._config import options
from dispatcharr._errors import FallbackError, FallbackWarning, user_level
from dispatcharr.expr.build import SNAPSHOT_BYTES
from dispatcharr.face import _fastpath, adapted, contract, kept, scans
from dispatcharr.face.array import (
    array_class,
    bare,
    behind,
    outermost,
    unwrap,
    view_of,
    wants_objects,
)
from dispatcharr.face.effects import (
    OF_SEVERAL,
    VIEWS,
    are_views,
    is_metadata,
    may_be_written,
    with_views,
)
from dispatcharr.face.limits import slot_of
from dispatcharr.face.road import cuda_library, engine
from dispatcharr.storage import places, pool
from dispatcharr.storage.exports import mark_foreign, root_of
from dispatcharr.storage.readers import any_pending

__all__ = ["call", "finish", "forward", "left_to_numpy", "measure", "run", "viewed"]


def _report(name: str, reason: str) -> None:
    level = options().on_fallback
    if level == "silent":
        return
    message = f"{name} was left to NumPy: {reason}"
    if level == "log":
        import logging

        logging.getLogger("dispatcharr").info(message)
    elif level == "warn":
        warnings.warn(message, FallbackWarning, stacklevel=user_level())
    else:
        raise FallbackError(
            f"{message}; on_fallback='raise' is in force, use another level to let it run"
        )


class _Log(list[str]):
    """Takes NumPy's messages in the place of a log."""

    def write(self, message: str) -> None:
        """Take ``"Warning: overflow encountered in exp"``."""
        self.append(message.removeprefix("Warning: ").rstrip())


def run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function of NumPy's; what it warns of points at the user's line, not at this one.

    NumPy warns at the Python code that called its C code, which for functions in Python is theirs.
    """
    before = pool.enter()
    try:
        return adapted.call(_run, function, args, kwargs)
    finally:
        pool.leave(before)


def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    modes: Any = numpy.geterr()
    if type(function) not in _IN_C or "warn" not in modes.values() or _speaks(modes):
        return function(*args, **kwargs)
    heard = _Log()
    warned: Any = {kind: "log" for kind, mode in modes.items() if mode == "warn"}
    try:
        with numpy.errstate(call=heard, **warned):
            return function(*args, **kwargs)
    finally:  # also where a further error was raised
        for message in heard:
            warnings.warn(message, RuntimeWarning, stacklevel=user_level())


_IN_C = (numpy.ufunc, BuiltinFunctionType, WrapperDescriptorType)


def _speaks(modes: Mapping[str, str]) -> bool:
    """Return whether the program itself listens to errors, and so has the place of the log."""
    return "log" in modes.values() or "call" in modes.values()


def left_to_numpy(
    name: str,
    reason: str,
    function: Callable[..., Any] | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a function that keeps nothing on NumPy arguments, wrap, and record the reason."""
    _report(name, reason)
    start = time.perf_counter()
    if function is None:
        function = getattr(numpy, name)
    result = _fastpath.wrap(run(function, args, kwargs))
    if type(result) is tuple:
        result = tuple([_fastpath.wrap(item) for item in result])
    if _events.listened():
        _events.emit(_events.FallbackRecord(name, reason, time.perf_counter() - start))
    return result


def _arrays_in(value: Any, found: dict[int, Any], seen: dict[int, numpy.ndarray]) -> None:
    """Collect arrays of ours (by id of the NumPy array behind) and NumPy arrays in arguments."""
    kind = type(value)
    if kind is array_class():
        host = behind(value)
        found[id(host)] = value
        seen[id(host)] = host
    elif kind is numpy.ndarray:
        seen[id(value)] = value
    elif kind is list or kind is tuple:
        if _fastpath.holds_cell(value):
            for item in value:
                _arrays_in(item, found, seen)
    elif kind is dict:
        for item in value.values():
            _arrays_in(item, found, seen)


def call(
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    reason: str | None = "it is not planned",
) -> Any:
    """Call NumPy's ``function`` on evaluated arguments and return its result as ours.

    ``reason`` is why it is NumPy's to do; None where there is nothing that could be planned.
    """
    computed = _elsewhere(name, function, args, kwargs)
    if computed is not contract.LEFT:
        return computed
    if places.enabled():
        reason = cuda_library.explained(reason)
    if reason is not None:
        _report(name, reason)
    ours: dict[int, Any] = {}
    hosts: dict[int, numpy.ndarray] = {}
    _arrays_in(args, ours, hosts)
    if kwargs:
        _arrays_in(kwargs, ours, hosts)
    given = _readable(name, args, kwargs)
    plain_args, plain_kwargs = given(args), given(kwargs) if kwargs else kwargs
    if any_pending():
        for host in hosts.values():
            engine.before_write(host)
    # By the size of the root: what is written to a small view is read elsewhere.
    found = [(hosts[key], root_of(hosts[key])) for key in ours]
    watched = [pair for pair in found if pair[1].nbytes > SNAPSHOT_BYTES]
    if "out" in kwargs:
        _note_outs(kwargs["out"], ours)
    before = [(sys.getrefcount(host), sys.getrefcount(root)) for host, root in watched]
    start = time.perf_counter()
    result = _run_at_home(name, function, plain_args, plain_kwargs)
    seconds = time.perf_counter() - start
    if watched:
        kept.note(watched, before, result)
    if reason is not None and _events.listened():
        _events.emit(_events.FallbackRecord(name, reason, seconds))
    return wrap_result(result, ours, {id(root) for _, root in watched}, "call")


def _readable(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Any], Any]:
    """Return what makes arguments NumPy's to read."""
    if wants_objects(args, kwargs):
        return outermost  # what is in lists is to be kept as it is
    return bare if is_metadata(name, args) else unwrap


def _elsewhere(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return what is computed in NumPy's stead, or ``LEFT``."""
    if name in VIEWS and places.in_use():
        views = viewed(name, function, args, kwargs)
        if views is not contract.LEFT:
            return views
    if places.enabled():
        made = cuda_library.serve(name, function, bare(args), bare(kwargs))
        if made is not NotImplemented:
            return wrap_result(made, {}, set(), "call")
    asked = scans if name in scans.NAMES else contract
    return asked.attempt(name, function, args, kwargs) if name in asked.NAMES else contract.LEFT


def _run_at_home(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a function on arrays whose bytes are at home, and nowhere else if it may write them."""
    if not places.in_use() or is_metadata(name, args):
        return run(function, args, kwargs)
    with places.writing(may_be_written(name, function, args, kwargs)):
        return run(function, args, kwargs)


def viewed(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return views that NumPy makes of arrays whose bytes stay where they are, or ``LEFT``."""
    ours: dict[int, Any] = {}
    hosts: dict[int, numpy.ndarray] = {}
    _arrays_in((args, kwargs), ours, hosts)
    if not any([places.is_placed(host) for host in hosts.values()]):
        return contract.LEFT
    count = len(args) if name in OF_SEVERAL else 1
    # Beyond what is viewed, values are read: where to split, for instance.
    asked = with_views(name, bare(args[:count]) + unwrap(args[count:]), unwrap(kwargs))
    if asked is None:
        return contract.LEFT
    try:
        result = function(*asked[0], **asked[1])
    except Exception:  # NumPy says it again, and warns, when it has the values
        return contract.LEFT
    roots = {id(root_of(host)) for host in hosts.values()}
    return wrap_result(result, ours, roots) if are_views(result, roots) else contract.LEFT


def _note_outs(out: Any, ours: dict[int, Any]) -> None:
    """Have NumPy arrays that the program gave as ``out`` returned as they are."""
    for given in out if type(out) is tuple else (out,):
        if type(given) is numpy.ndarray:
            ours[id(given)] = given


def wrap_result(result: Any, ours: dict[int, Any], known: set[int], way: str = "item") -> Any:
    """Return ``result`` with its NumPy arrays as ours.

    Parameters
    ----------
    result : object
        What NumPy returned; containers are looked into, subclasses of ``numpy.ndarray`` and
        scalars stay as they are.
    ours : dict
        The program's own objects among the arguments, by id of the NumPy array behind them: a
        function that returns its argument returns the user's own object.
    known : set of int
        Ids of roots among the arguments, whose visibility is known already.
    way : {"call", "finish", "item"}
        How ``result`` got here: it decides how many references its way holds.
    """
    kind = type(result)
    if kind is numpy.ndarray:
        mine = ours.get(id(result))
        if mine is not None:
            return mine
        if result.nbytes > SNAPSHOT_BYTES:
            _adopt(result, known, way)
        return _fastpath.wrap(result) if result.base is None else view_of(result, ours)
    if kind is tuple or kind is list:
        made = [wrap_result(item, ours, known) for item in result]
        return result if all(map(operator.is_, made, result)) else kind(made)
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*[wrap_result(item, ours, known) for item in result])
    return _wrap_special(result)


def _adopt(result: numpy.ndarray, known: set[int], way: str) -> None:
    root = root_of(result)
    if id(root) in known:
        return
    count = sys.getrefcount(root)
    if count > _fresh.setdefault((way, root is result), count):
        mark_foreign(root)


#: References to a fresh result, and to the root of a fresh view, on each way to :func:`_adopt`.
_fresh: dict[tuple[str, bool], int] = {}


def measure() -> None:
    """Count the references to results that nobody else holds; they depend on the interpreter."""

    def fresh() -> numpy.ndarray:
        return numpy.empty(2 * SNAPSHOT_BYTES, numpy.uint8)

    def view() -> numpy.ndarray:
        return fresh()[1:]

    _fresh.clear()
    for make in (fresh, view):
        call("", make, (), {}, None)
        call("", lambda make=make: [make()], (), {}, None)
        forward("", make, make)()
    for way in ("call", "item", "finish"):
        # A way that is not taken here would have to be counted by what comes first.
        _fresh.setdefault((way, True), 0)
        _fresh.setdefault((way, False), 0)


def finish(result: Any, ours: dict[int, Any], known: set[int]) -> Any:
    """Wrap what the fast path had NumPy make and does not understand; see :func:`wrap_result`."""
    return wrap_result(result, ours, known, "finish")


_fastpath.set_hooks(_events.listened, mark_foreign, finish)
_fastpath.set_memory(pool.HANDLER, pool.FLOOR)


def forward(
    name: str,
    function: Callable[..., Any],
    slow: Callable[..., Any],
    home: str = "dispatcharr",
    reads: int = 0,
    masked: str | None = None,
    opaque: bool = False,
    first: Callable[..., Any] | None = None,
    kind: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Return a callable that is ``function`` on small arrays and ``slow`` on the rest.

    Parameters
    ----------
    name : str
        Its public name.
    function : callable
        NumPy's own.
    slow : callable
        Takes the arguments as they come.
    home : str
        Module, or class of the package, that it is an attribute of; pickles name it.
    reads : int
        Arguments by position that the function only reads: then arrays are small up to the limit of
        the row called ``name``, or always where there is no such row.
    masked : str, optional
        The row whose limit holds for calls with ``where``.
    opaque : bool
        Whether ``slow`` does no more than :func:`call`: then the fast path may call ``function`` on
        large arrays too, while nobody has to be asked and nobody listens.
    first : callable, optional
        Whom the fast path asks about large arrays, of integers and bools if it does not say by
        the limits of its ``slot`` which; it answers ``NotImplemented`` to have it go on.
    kind : type, optional
        Class of the callable, if it is to be one of its own.
    """
    slot = slot_of(name) if reads else -1
    where = -1 if masked is None else slot_of(masked)
    is_method = home == "ndarray"
    if kind is None:
        binds = is_method or hasattr(type(function), "__get__")
        kind = _fastpath.Method if binds else _fastpath.Forward
    made: Callable[..., Any] = kind(function, slow, slot, reads, where, opaque, first)
    made._asks = getattr(first, "slot", 0)  # type: ignore[attr-defined]
    made.__name__ = name
    made.__doc__ = getattr(function, "__doc__", None)
    made.__qualname__ = f"{home}.{name}" if is_method else name
    made.__module__ = "dispatcharr" if is_method else home
    # Signatures are asked of what is wrapped; not all of NumPy's own dispatchers have one.
    made.__wrapped__ = getattr(function, "__wrapped__", function)  # type: ignore[attr-defined]
    for told in ("__text_signature__", "__signature__"):
        if (value := getattr(function, told, None)) is not None:
            setattr(made, told, value)
    return made


def _wrap_special(result: Any) -> Any:
    if isinstance(result, numpy.ndarray):
        # A subclass may be a view of memory of ours, and goes its own ways.
        mark_foreign(result)
        return result
    if type(result).__name__ == "Generator" and type(result).__module__.startswith("numpy.random"):
        from dispatcharr.face.random import Generator

        return Generator(result.bit_generator)
    if type(result).__name__ == "NpzFile":
        from dispatcharr.face.special import open_archive

        return open_archive(result)
    return result
