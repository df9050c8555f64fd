"""The profile in force: the stored one where it can be trusted, else the shipped one.

A stored profile that cannot be used costs one warning per process, which names the file, what is
wrong with it and the remedy. A missing file is the normal state of a new user and says nothing.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from dispatcharr._config import cache_folder
from dispatcharr._errors import ProfileWarning, user_level
from dispatcharr._forks import shared
from dispatcharr.backends.base import Profile
from dispatcharr.kernels.cpus import thread_count
from dispatcharr.route.defaults import shipped
from dispatcharr.route.machine import machine
from dispatcharr.route.stored import UnusableProfile, as_stored, read, write

__all__ = [
    "DECIDED_BY",
    "current",
    "default_profile",
    "load",
    "machine",
    "profile_path",
    "save",
    "use",
    "with_threads",
]


def profile_path() -> str:
    """Return the path of the stored profile, whether or not there is one."""
    return os.path.join(cache_folder(), "profile.json")


def default_profile() -> Profile:
    """Return the shipped profile that suits this machine."""
    profile = shipped(thread_count())
    return replace(profile, machine={**machine(), **profile.machine})


def load(path: str | None = None, *, warn_missing: bool = False) -> Profile:
    """Read the stored profile, or return the shipped one where none can be used.

    Parameters
    ----------
    path : str, optional
        Another file than the user's.
    warn_missing : bool
        Warn of a missing file as of an unusable one. Commands that are about the profile ask
        for it; programs that just run do not.

    Examples
    --------
    >>> load("no/such/file").source
    'defaults'
    """
    path = profile_path() if path is None else path
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        reason = "there is no such file"
        if not warn_missing:
            return default_profile()
    except (OSError, UnusableProfile) as error:
        reason = str(error)
    _warn_once(
        f"profile {path} cannot be used: {reason}. Shipped defaults are in force; "
        "run `dispatcharr calibrate` to measure this machine"
    )
    return default_profile()


_current: Profile | None = None
_override: ContextVar[Profile | None] = ContextVar("dispatcharr_profile", default=None)
_warned = False
_lock = shared(threading.Lock())
#: What :func:`current` answers from: a name of this module, and a context variable.
DECIDED_BY: tuple[Any, ...] = ((globals(), "_current"), _override)


def _warn_once(message: str) -> None:
    global _warned
    with _lock:
        if _warned:
            return
        _warned = True
    warnings.warn(message, ProfileWarning, stacklevel=user_level())


def current(threads: int | None = None) -> Profile:
    """Return the profile in force here; it is read from its file once per process.

    Parameters
    ----------
    threads : int, optional
        Most threads that may be used, where that is fewer than the profile has.
    """
    profile = _override.get() or _current or _first()
    if threads is None or threads >= profile.threads:
        return profile
    for whole, fewer in _fewer:
        if whole is profile and fewer.threads == threads:
            return fewer
    fewer = with_threads(profile, threads)
    _fewer.insert(0, (profile, fewer))
    del _fewer[_FEWER:]
    return fewer


#: Profiles, and what became of them for fewer threads: the same one each time, so that what is
#: remembered with it holds.
_fewer: list[tuple[Profile, Profile]] = []
_FEWER = 8


def _first() -> Profile:
    global _current
    profile = with_threads(load(), thread_count())
    with _lock:
        if _current is None:  # else another thread was first, and its profile is in use
            _current = profile
        return _current


@contextmanager
def use(profile: Profile) -> Iterator[Profile]:
    """Put ``profile`` in force in this thread or async task inside the ``with`` block."""
    token = _override.set(profile)
    try:
        yield profile
    finally:
        _override.reset(token)


def save(profile: Profile, path: str | None = None) -> Profile:
    """Put ``profile`` in force for the process, store it for the next ones, and return it.

    A folder that cannot be written to costs a ProfileWarning and nothing else.
    """
    global _current
    path = profile_path() if path is None else path
    # As a reader of the file will see it, so that this process and the next ones decide alike.
    profile = as_stored(profile, path)
    try:
        write(profile, path)
    except OSError as error:
        warnings.warn(
            f"profile {path} cannot be saved: {error}. It holds until this process ends; "
            "set DISPATCHARR_CACHE_DIR to a folder that can be written to",
            ProfileWarning,
            stacklevel=user_level(),
        )
        profile = replace(profile, path=None)
    _current = profile
    return profile


def with_threads(profile: Profile, threads: int) -> Profile:
    """Return ``profile`` for another number of threads than it was measured with.

    What belongs to the cores grows with the threads; what they share is reached sooner, so a few
    threads get as much of it as they can draw. More threads than were measured gain nothing.
    """
    threads = max(threads, 1)
    if threads == profile.threads:
        return profile
    grown = min(threads, profile.threads)
    alone, everyone = profile.bandwidth["serial"], profile.bandwidth["threads"]
    share = (grown - 1) / max(profile.threads - 1, 1)
    some = {}
    for level, top in everyone.items():
        if level in {"L1", "L2"}:
            some[level] = alone[level] + (top - alone[level]) * share
        else:
            some[level] = min(top, alone[level] * grown) if grown > 1 else alone[level]
    fault = max(profile.fault["threads"], profile.fault["serial"] / grown)
    return replace(
        profile,
        threads=threads,
        bandwidth={"serial": alone, "threads": some},
        fault={**profile.fault, "threads": fault},
    )
