"""Finding backends: modules of this folder, and entry points of the group ``dispatcharr.backends``.

A module offers ``BACKEND``; an entry point names such an object, or a callable that makes one. A
broken third-party backend is listed as unavailable with its error; it never breaks the program.
"""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from dispatcharr import backends
from dispatcharr._errors import BackendUnavailableError
from dispatcharr._forks import imported, shared
from dispatcharr.backends.base import Backend

__all__ = [
    "DECIDED_BY", "ENTRY_POINT_GROUP", "available", "backend", "candidates", "engines_of",
    "register",
]  # fmt: skip

ENTRY_POINT_GROUP = "dispatcharr.backends"
_NOT_BACKENDS = {"base", "cuda_library", "host", "late", "library", "placed", "registry"}

_lock = shared(threading.RLock())
_found: dict[str, Backend] | None = None
_broken: dict[str, str] = {}
_candidates: list[Backend] | None = None
#: What :func:`candidates` answers from: a name of this module.
DECIDED_BY: tuple[Any, ...] = ((globals(), "_candidates"),)


def _check(made: object, where: str) -> None:
    if not isinstance(made, Backend):
        members = ("name", "place", "available", "supports", "rates", "run")
        missing = ", ".join(member for member in members if not hasattr(made, member))
        raise TypeError(f"{where}: wanted a backend, got {type(made).__name__} without {missing}")


def register(made: Backend) -> None:
    """Add a backend for this process, as an entry point would.

    Parameters
    ----------
    made : Backend
        An object with the members of :class:`dispatcharr.backends.base.Backend`.
    """
    global _candidates
    _check(made, "register")
    with _lock:
        _backends()[made.name] = made
        _candidates = None


def _backends() -> dict[str, Backend]:
    global _found
    if _found is None:
        with _lock:
            if _found is None:
                _found = {**_own(), **_third_party()}
    return _found


def _own() -> dict[str, Backend]:
    found = {}
    for module in pkgutil.iter_modules(backends.__path__):
        if not module.name.startswith("_") and module.name not in _NOT_BACKENDS:
            made = imported(f"{backends.__name__}.{module.name}").BACKEND
            found[made.name] = made
    return found


def _third_party() -> dict[str, Backend]:
    from importlib.metadata import entry_points

    found = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            made = point.load()
            # A class has the protocol's members too.
            made = made() if isinstance(made, type) or not isinstance(made, Backend) else made
            _check(made, f"entry point {point.name!r}")
            found[made.name] = made
        except Exception as error:
            _broken[point.name] = f"its package failed to load: {type(error).__name__}: {error}"
    return found


def available() -> Mapping[str, str | None]:
    """Return every known backend's name with None, or the reason why it cannot run here."""
    found = {name: one.available() for name, one in sorted(_backends().items())}
    return {**found, **_broken}


def candidates() -> list[Backend]:
    """Return the backends that take part in automatic routing here, each engine for itself."""
    global _candidates
    if _candidates is None:
        _candidates = [
            engine
            for one in _backends().values()
            if not getattr(one, "only_when_asked", False) and one.available() is None
            for engine in engines_of(one)
        ]
    return _candidates


def engines_of(one: Backend) -> Sequence[Backend]:
    """Return a backend's ways of running kernels: its engines, or itself where it has one way."""
    return getattr(one, "engines", (one,))


def backend(name: str) -> Backend:
    """Return the backend called ``name``.

    Raises
    ------
    BackendUnavailableError
        It is unknown or cannot run here; the message lists those that can, and why others not.
    """
    found = _backends().get(name)
    if found is not None and found in candidates():
        return found  # found available before: looking again costs more than a small kernel
    reason = _broken.get(name, "it is unknown") if found is None else found.available()
    if found is not None and reason is None:
        return found
    usable = [n for n, why in available().items() if why is None]
    others = "; ".join(f"{n!r} is not: {why}" for n, why in available().items() if why)
    raise BackendUnavailableError(
        f"backend {name!r} cannot be used: {reason}. "
        f"Available: {', '.join(repr(n) for n in ['auto', *usable])}"
        + (f"; {others}" if others else "")
    )
