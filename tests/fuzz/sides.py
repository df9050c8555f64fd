"""The two sides of a program: their names, their contexts, and what they are warned of."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import functools
import importlib.util
import pickle
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy

import dispatcharr
from closeness import magnitudes, steady
from dispatcharr.face import _fastpath, limits, together
from dispatcharr.ops.table import ELEMENTWISE
from given import given

#: What was warned of since it was last emptied: the category, and of an error the kind.
heard: list[tuple[str, str]] = []


class Mismatch(Exception):
    """Where dispatcharr differs: ``kind`` is what differs, ``name`` of what."""

    def __init__(self, kind: str, name: str, text: str) -> None:
        super().__init__(f"{kind} of {name}: {text}")
        self.kind = kind


def listen() -> None:
    """Hear every warning, wherever it comes from."""
    warnings.simplefilter("always")
    warnings.showwarning = _hear


def _hear(message: Any, category: type[Warning], *_: Any) -> None:
    # Of a floating-point warning the kind counts, not the function that is named.
    told = str(message).partition(" encountered")[0] if category is RuntimeWarning else ""
    heard.append((category.__name__, told))


def note(kind: str, flag: int) -> None:
    """Take a floating-point error that ``errstate(call=note)`` reports."""
    heard.append(("called", kind))


class Log:
    """Takes what ``errstate(call=log)`` logs."""

    def write(self, message: str) -> None:
        """Take a floating-point error."""
        heard.append(("logged", message.partition(" encountered")[0]))


def in_turn(*calls: Callable[[], Any]) -> tuple[Any, ...]:
    """Call one after the other, each of them, and raise the first error."""
    results: list[Any] = []
    errors: list[Exception] = []
    for call in calls:
        try:
            results.append(call())
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return tuple(results)


def at_once(*calls: Callable[[], Any]) -> tuple[Any, ...]:
    """Call each in a thread of its own, in the same context, all at the same time."""
    results: list[Any] = [None] * len(calls)
    errors: dict[int, Exception] = {}
    gate = threading.Barrier(len(calls))

    def run(place: int, call: Callable[[], Any]) -> None:
        gate.wait()
        try:
            results[place] = call()
        except Exception as error:
            errors[place] = error

    contexts = [contextvars.copy_context() for _ in calls]
    threads = [
        threading.Thread(target=context.run, args=(run, i, call))
        for i, (context, call) in enumerate(zip(contexts, calls, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return tuple(results)


@contextlib.contextmanager
def low_limits() -> Iterator[None]:
    """Let arrays of 16 KiB count as large, so that little memory does for what waits by itself."""
    known, worth = limits.limit_of, together.WORTH
    limits.limit_of = lambda name, dtype: limits.UNREAD
    together.WORTH = limits.UNREAD
    limits.forget()
    # As if the prices said so: what they were not asked of is not noted on the tape.
    for slot in range(_fastpath.SLOT_NAMES.index("getitem")):
        _low(slot)
    for row in ELEMENTWISE:
        _low(limits.slot_of(row.name))
    try:
        yield
    finally:
        limits.limit_of, together.WORTH = known, worth
        limits.forget()


def _low(slot: int) -> None:
    for number in range(numpy.dtype("f2").num + 1):
        _fastpath.set_limit(slot, limits.UNREAD, number)


def told(value: Any) -> tuple[str, tuple[int, ...], int] | str:
    """Return what an array or a number is in a few words, without handing its memory out."""
    if not hasattr(value, "tobytes"):
        return repr(value)
    held = numpy.frombuffer(value.tobytes() or bytes(value.dtype.itemsize), value.dtype)
    with numpy.errstate(all="ignore"):
        one = numpy.where(held != held, numpy.array(numpy.nan, held.dtype), held) \
            if held.dtype.kind in "fc" else held  # fmt: skip
    return value.dtype.str, value.shape, zlib.crc32(one.tobytes())


def packed(array: Any) -> Any:
    """Return the memory of an array as a pickle's buffer out of band."""
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(array, 5, buffer_callback=buffers.append)
    return numpy.asarray(buffers[0])


class _Interface:
    def __init__(self, array: Any) -> None:
        self.array, self.__array_interface__ = array, array.__array_interface__


def addressed(array: Any) -> Any:
    """Return an array on the address that ``__array_interface__`` names."""
    return numpy.asarray(_Interface(array))


#: Functions of numbers that a program may apply to each element; none without a compiler.
USERS: dict[str, Callable[..., Any]] = {} if importlib.util.find_spec("numba") is None else {
    "bent": lambda x, y: x * y - 1.5 if x > 0.5 else y + x,
    "whole": lambda x, y: abs(x) + y * y,
    "chosen": lambda x, y: x if x == x and not y < 0.0 else -0.5,
}  # fmt: skip


@functools.cache
def user(name: str, module: Any) -> Callable[..., Any]:
    """Return a function of the program's own for arrays."""
    if module is dispatcharr:
        return dispatcharr.elementwise(USERS[name])  # type: ignore[no-any-return]
    each = numpy.vectorize(USERS[name], otypes="d")

    def call(*arrays: Any) -> Any:
        with numpy.errstate(all="ignore"):
            found = each(*arrays)
        return found if found.ndim else found[()]  # as ufuncs have it

    return call


class Side:
    """The names of one of the two programs, in a context of its own."""

    def __init__(self, module: Any, together: Any, choose: Any) -> None:
        self.context = contextvars.copy_context()
        self.space: dict[str, Any] = {
            "m": module, "numpy": numpy, "given": given, "together": together, "choose": choose,
            "note": note, "log": Log(), "pickle": pickle, "copy": copy, "magnitudes": magnitudes,
            "steady": steady,
            "told": told, "packed": packed, "addressed": addressed,
            "user": functools.partial(user, module=module),
        }  # fmt: skip

    def perform(self, code: Any) -> Exception | None:
        """Execute a statement, and return its error."""
        try:
            self.context.run(exec, code, self.space)
        except Exception as error:
            return error.with_traceback(None)
        return None

    def leave(self) -> None:
        """Let go of everything: while a context with options lives, the fast path heeds them."""
        self.space.clear()
        self.context = contextvars.Context()

    def value(self, text: str) -> Any:
        """Return the value of an expression, or None."""
        try:
            with numpy.errstate(all="ignore"):
                return eval(text, self.space)
        except Exception:
            return None

    def array(self, name: str) -> Any:
        """Return what ``name`` stands for as a NumPy array, None where it is no array."""
        value = self.space.get(name)
        if type(value) is dispatcharr.ndarray:
            try:
                return self.context.run(value.to_numpy)
            except Exception as error:
                raise Mismatch("evaluation", name, repr(error)) from error
        if isinstance(value, memoryview):
            return numpy.asarray(value)
        return value if isinstance(value, numpy.ndarray) else None
