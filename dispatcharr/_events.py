"""The event stream: what happened, told to whoever listens.

Producers call :func:`emit` with an immutable record; listeners are scoped like options (per thread
and per async task) or belong to the process. When nobody listens, an event costs one test. Records
are data; text, JSON and HTML are made of them in ``explain``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

__all__ = [
    "DECIDED_BY",
    "ContractionRecord",
    "DirectRecord",
    "FallbackRecord",
    "KernelRecord",
    "ScanRecord",
    "add_process_listener",
    "emit",
    "listened",
    "listening",
    "remove_process_listener",
]

Listener = Callable[[Any], None]

_scoped: ContextVar[tuple[Listener, ...]] = ContextVar("dispatcharr_listeners", default=())
_process: tuple[Listener, ...] = ()
#: What :func:`listened` answers from: a name of this module, and a context variable.
DECIDED_BY: tuple[Any, ...] = ((globals(), "_process"), _scoped)


def listened() -> bool:
    """Return whether anybody would hear an event emitted here."""
    return bool(_process) or bool(_scoped.get())


def emit(record: Any) -> None:
    """Tell every listener in force here."""
    for listener in _process:
        listener(record)
    for listener in _scoped.get():
        listener(record)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear the events of this thread or async task inside the ``with`` block."""
    token = _scoped.set((*_scoped.get(), listener))
    try:
        yield
    finally:
        _scoped.reset(token)


def add_process_listener(listener: Listener) -> None:
    """Hear the events of every thread from now on."""
    global _process
    _process = (*_process, listener)


def remove_process_listener(listener: Listener) -> None:
    """Stop what :func:`add_process_listener` began."""
    global _process
    left = list(_process)
    left.remove(listener)
    _process = tuple(left)


@dataclass(frozen=True, slots=True)
class KernelRecord:
    """One kernel that ran: the region, its decision, and the seconds it took, if it was timed.

    ``fp_errors`` are the floating-point errors it met; ``verified`` is None when it was not checked
    against NumPy.
    """

    region: Any
    work: Any
    decision: Any
    seconds: float | None
    fp_errors: frozenset[tuple[str, str]] = frozenset()
    verified: bool | None = None


@dataclass(frozen=True, slots=True)
class FallbackRecord:
    """One operation left to NumPy, with the reason and the seconds it took."""

    name: str
    reason: str
    seconds: float
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class ContractionRecord:
    """One contraction that ran in a compiled kernel: what it was, the seconds it took, and where.

    ``verified`` is None when it was not checked against NumPy.
    """

    name: str
    reason: str
    seconds: float
    backend: str
    verified: bool | None = None


@dataclass(frozen=True, slots=True)
class ScanRecord(ContractionRecord):
    """One scan, mask, count or look-up that ran in compiled kernels, told as contractions are."""


@dataclass(frozen=True, slots=True)
class DirectRecord:
    """One operation too small to be planned, which ran as plain NumPy."""

    name: str
