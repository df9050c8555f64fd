"""Warnings of floating-point errors, also of those that a device tells once it was waited for.

What is queued is told when something has come to the host, when a pass of the engine is over, and
at the end of the program. Never within a pass: a warning may be an error, which must not look like
a backend's.
"""

from __future__ import annotations

import atexit
import threading
import warnings
from collections import deque

from dispatcharr._errors import user_level
from dispatcharr.backends.base import LateErrors
from dispatcharr.plan.fuse import Step
from dispatcharr.plan.region import REMARK
from dispatcharr.storage import places

__all__ = ["hear", "hear_later", "warn", "working"]

#: Each with its step, which knows what the user is to be warned of.
_unheard: deque[tuple[Step, LateErrors]] = deque()
#: So many kernels may run without their errors being looked at.
_MOST_UNHEARD = 256


class _Passes(threading.local):
    """How many passes this thread is in."""

    depth = 0


_passes = _Passes()


class working:
    """Tell nothing in this thread until the block ends; a context manager."""

    def __enter__(self) -> None:
        _passes.depth += 1

    def __exit__(self, *exc: object) -> None:
        _passes.depth -= 1


def hear_later(step: Step, errors: LateErrors, at_once: bool = False) -> None:
    """Have the errors of a kernel told as soon as they are known; ``at_once`` waits for them."""
    _unheard.append((step, errors))
    if at_once or len(_unheard) >= _MOST_UNHEARD:
        errors(True)


def hear() -> None:
    """Warn of what devices have run by now."""
    if not _unheard or _passes.depth:
        return
    later = []
    try:
        for _ in range(len(_unheard)):
            try:
                step, late = _unheard.popleft()
            except IndexError:  # another thread tells the rest
                break
            found = late(False)
            if found is None:
                later.append((step, late))
            elif found:
                warn(step.warns, frozenset([e for e in found if step.may_tell(e[1])]))
    finally:
        _unheard.extend(later)


def warn(kinds: frozenset[str], errors: frozenset[tuple[str, str]]) -> None:
    """Warn of floating-point errors as NumPy does, at the user's line."""
    for kind, name in sorted(errors):
        if kind in kinds:
            message = f"{kind} encountered in {'cast' if name == 'astype' else name}"
            warnings.warn(message, RuntimeWarning, stacklevel=user_level())
        elif kind == REMARK:
            warnings.warn(name, RuntimeWarning, stacklevel=user_level())


def _tell_at_exit() -> None:
    device = places.device_in_use()
    if _unheard and device is not None and device.dead is None:
        device.synchronize()
        hear()


places.on_home(hear)
atexit.register(_tell_at_exit)
