"""NumPy's opaque functions on data that are on the device: CuPy computes them there.

:func:`serve` is asked before an opaque function is left to NumPy. It answers where every operand is
on the device, or is small beside those that are, and where the table in
:mod:`dispatcharr.backends.library` has a row for the function that holds for the call. In every
other case, also whenever CuPy fails in whatever way, it declines: then the operands come home and
NumPy computes, warns or raises as ever. :func:`declined` tells the reason.

How CuPy gets at the operands is in :mod:`dispatcharr.backends.library.binding`.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr._config import options
from dispatcharr._errors import DeviceLostError
from dispatcharr.backends.library.binding import Library, closed, libraries
from dispatcharr.backends.library.table import TABLE, Declined, Row, expected
from dispatcharr.storage import mirrors, places
from dispatcharr.storage.exports import root_of

__all__ = ["declined", "explained", "refusal", "serve"]

#: Bytes under which operands are better brought home than given to CuPy, whose calls take longer
#: than such a copy; and bytes from which CuPy is worth it although they are on the host too.
_SMALL, _LARGE = 1 << 15, 1 << 22
#: Elements from which kernels of CuPy's count past the end of 32 bits. Some pad what they count.
_HUGE = 1 << 30
#: Numbers, in single and in double precision, up to which what iterates can be trusted.
_MODERATE = {4: 1e18, 8: 1e150}
#: Operands on the host may be this part of those on the device.
_PART = 8
#: Items of lists and tuples that are looked at unless the first one is an array.
_MOST_ITEMS = 64
#: Errors that the arguments may be to blame for. Any other is CuPy's, and closes the row.
_BLAMELESS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)

#: Modules with rows.
_PARTS = ("products", "linear", "fourier", "ordering", "indexing", "shaping")

_here = threading.local()


def refusal() -> str | None:
    """Return why CuPy serves nothing in this process; None where it does."""
    device = places.device_in_use()
    if device is None:
        return "no device is in use"
    try:
        libraries.find(device)
    except Declined as why:
        return str(why)
    return None


def declined() -> str | None:
    """Return why the last call of :func:`serve` in this thread declined what it looked into."""
    reason: str | None = getattr(_here, "reason", None) if places.enabled() else None
    return reason


def explained(reason: str | None) -> str | None:
    """Return why a call is left to NumPy, with why the device did not serve it."""
    why = declined()
    return reason if reason is None or why is None else f"{reason}; nor by the device: {why}"


def serve(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return what NumPy's ``function`` would, computed on the device, or ``NotImplemented``.

    Parameters
    ----------
    name : str
        What the program called.
    function : callable
        NumPy's function, or a method.
    args, kwargs : tuple, dict
        Its arguments, with NumPy's arrays for ours.

    Returns
    -------
    object
        NumPy's arrays, which are away, scalars, or what NumPy holds them in.
    """
    _here.reason = None
    if not places.enabled():
        return NotImplemented
    hosts: list[numpy.ndarray] = []
    _arrays_in((args, kwargs), hosts)
    placed = [places.state(host) for host in hosts]
    if not any(state != "host" for state in placed):
        return NotImplemented
    start = time.perf_counter()
    try:
        made = _serve(name, function, args, kwargs, hosts, placed)
    except Declined as why:
        _here.reason = str(why)
        return NotImplemented
    mirrors.tell_home()
    if _events.listened():
        account = f"CuPy on the device, {', '.join(sorted({str(host.dtype) for host in hosts}))}"
        seconds = time.perf_counter() - start
        _events.emit(_events.ContractionRecord(name, account, seconds, "cuda"))
    return made


def _arrays_in(value: Any, found: list[numpy.ndarray]) -> None:
    kind = type(value)
    if kind is numpy.ndarray:
        found.append(value)
    elif kind is tuple or kind is list:
        # Long ones of numbers are what arrays are made of.
        if len(value) <= _MOST_ITEMS or type(value[0]) is numpy.ndarray:
            for item in value:
                _arrays_in(item, found)
    elif kind is dict:
        for item in value.values():
            _arrays_in(item, found)


def _serve(
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    hosts: Sequence[numpy.ndarray],
    placed: Sequence[str],
) -> Any:
    row = _row(name, function)
    _check_worth(hosts, placed)
    _check_operands(row, hosts)
    library = libraries.find(places.device_in_use())
    try:
        return _compute(library, row, args, kwargs)
    except MemoryError:
        library.clear()
    try:
        return _compute(library, row, args, kwargs)
    except MemoryError as error:
        raise Declined("the device has no memory for it") from error


@cache
def _table() -> dict[Any, Row]:
    for part in _PARTS:
        importlib.import_module(f"dispatcharr.backends.library.{part}")
    return TABLE


def _row(name: str, function: Callable[..., Any]) -> Row:
    try:
        row = _table().get(function)
    except TypeError:
        row = None  # a callable that cannot be hashed
    if row is None:
        raise Declined(f"nothing on the device computes {name}")
    if row.name in closed:
        raise Declined(closed[row.name])
    return row


def _check_worth(hosts: Sequence[numpy.ndarray], placed: Sequence[str]) -> None:
    """Decline where the operands are better brought home, or where NumPy was asked for."""
    chosen = options().backend
    if chosen == "cuda":
        return
    if chosen != "auto":
        raise Declined(f"the backend {chosen} is forced")
    sizes = {"host": 0, "both": 0, "device": 0}
    for host, state in zip(hosts, placed, strict=True):
        # All of what is away would have to come home, however little of it is an operand.
        sizes[state] += root_of(host).nbytes if state == "device" else host.nbytes
    there = sizes["both"] + sizes["device"]
    if sizes["host"] > max(_SMALL, there // _PART):
        raise Declined("its operands on the host outweigh those on the device")
    if sizes["device"] < _SMALL and there < _LARGE:
        raise Declined("its operands on the device are small")


def _check_operands(row: Row, hosts: Sequence[numpy.ndarray]) -> None:
    for host in hosts:
        if host.dtype.char not in row.dtypes:
            raise Declined(f"{row.name} of {host.dtype} is not served")
        if not host.dtype.isnative or not host.flags.aligned:
            raise Declined("an operand is in another byte order, or not aligned")
        if not 0 < host.size < _HUGE:
            raise Declined("an operand is empty, or has too many elements for CuPy")
    if row.finite and numpy.geterr()["under"] != "ignore":
        raise Declined("underflow is to be reported")


def _compute(library: Library, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        with places.running(), library.entered():
            return _run(library, row, args, kwargs)
    except (Declined, MemoryError, DeviceLostError):
        raise
    except Exception as error:
        reason = f"CuPy: {type(error).__name__}: {error}"
        if not isinstance(error, _BLAMELESS):
            closed[row.name] = reason
        raise Declined(reason) from error


def _run(library: Library, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    operands: list[Any] = []
    dtypes: list[numpy.dtype[Any]] = []

    def given(value: Any) -> Any:
        kind = type(value)
        if kind is numpy.ndarray:
            operands.append(library.operand(value))
            dtypes.append(value.dtype)
            return operands[-1]
        if kind is tuple or kind is list:
            return kind([given(item) for item in value])
        return value

    plain = [given(value) for value in args]
    named = {key: given(value) for key, value in kwargs.items()}
    if row.finite == "both":
        _check_moderate(library, operands)
    made = row.run(library.cp, *plain, **named)
    return _results(library, row, made, dtypes)


def _check_moderate(library: Library, arrays: Sequence[Any]) -> None:
    """Decline where an element is NaN or has a size that others would overflow with; this waits."""
    moderate: Any = True
    for array in arrays:
        if array.dtype.kind in "fc":
            most = library.cp.abs(array).max()
            moderate = (most < _MODERATE[most.dtype.itemsize]) & moderate
    if moderate is not True and not bool(moderate):
        raise Declined("an operand is huge, or not finite")


def _check_finite(library: Library, arrays: Sequence[Any], reason: str) -> None:
    """Decline where an element is infinite or NaN; this waits for the device."""
    finite: Any = True
    for array in arrays:
        if array.dtype.kind in "fc":
            finite = library.cp.isfinite(array).all() & finite
    if finite is not True and not bool(finite):
        raise Declined(reason)


def _results(library: Library, row: Row, made: Any, dtypes: Sequence[Any]) -> Any:
    """Return CuPy's results as NumPy's, after a look at what NumPy would not have given."""
    several = isinstance(made, (tuple, list))
    parts = list(made) if several else [made]
    arrays = [part for part in parts if isinstance(part, library.cp.ndarray)]
    letters = row.results.ljust(len(arrays), row.results[-1])
    # Of two dtypes of one size and kind, such as `long` and `longlong`, these are NumPy's.
    named = [expected(letter, dtypes) for letter in letters[: len(arrays)]]
    for array, wanted in zip(arrays, named, strict=True):
        if array.size > 2 * _HUGE:
            raise Declined("its result has too many elements for CuPy")
        if array.dtype != wanted:
            closed[row.name] = f"CuPy: {row.name} gave {array.dtype} where NumPy has {wanted}"
            raise Declined(closed[row.name])
    modes = numpy.geterr()
    heard = modes["over"] != "ignore" or modes["invalid"] != "ignore"
    if row.finite == "both" or (row.finite and heard):
        _check_finite(library, arrays, "a result is not finite, which NumPy may warn of")
    used: set[int] = set()
    hosts = [
        _host(library, row, part, named.pop(0), used)
        if isinstance(part, library.cp.ndarray)
        else part
        for part in parts
    ]
    if not several:
        return hosts[0]
    return type(made)(*hosts) if hasattr(made, "_fields") else type(made)(hosts)


def _host(library: Library, row: Row, array: Any, dtype: numpy.dtype[Any], used: set[int]) -> Any:
    """Return a result as NumPy has it: an array that is away, or a scalar."""
    if not array.size:
        return numpy.empty(array.shape, dtype)
    memory = library.result(array, used)
    if array.ndim:
        return places.adopt(memory, array.shape, dtype)
    found = numpy.empty((), dtype)
    with mirrors.lock:
        mirrors.take(found.reshape(1).view(numpy.uint8), memory, 0)
    return found[()] if row.scalar else found
