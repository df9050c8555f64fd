"""Every exception and warning class of dispatcharr.

Each class also derives from the builtin that a NumPy program would catch for the same mistake,
so that code written for NumPy keeps its ``except`` clauses. Warnings point at the user's line.
"""

import os
import sys

__all__ = [
    "BackendUnavailableError",
    "DeviceLostError",
    "DispatcharrError",
    "FallbackError",
    "FallbackWarning",
    "OptionError",
    "ProfileWarning",
    "VerificationWarning",
    "user_level",
]

_PACKAGE = os.path.join(os.path.dirname(__file__), "")


def user_level() -> int:
    """Return the ``stacklevel`` at which the first frame outside this package stands."""
    level = 1
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
        level += 1
    return level


class DispatcharrError(Exception):
    """Base of the errors that only dispatcharr raises."""


class OptionError(DispatcharrError, ValueError):
    """An option or environment variable has a value that it cannot have."""


class BackendUnavailableError(DispatcharrError, ValueError):
    """A backend was asked for that is unknown, or that cannot run here."""


class DeviceLostError(DispatcharrError, RuntimeError):
    """The values of an array were on a device that failed, and nowhere else."""


class FallbackError(DispatcharrError, RuntimeError):
    """An operation left the planned path while ``on_fallback="raise"`` was in force."""


class FallbackWarning(UserWarning):
    """An operation left the planned path while ``on_fallback="warn"`` was in force."""


class ProfileWarning(UserWarning):
    """A stored profile could not be used or saved; shipped defaults are in force."""


class VerificationWarning(RuntimeWarning):
    """A verified kernel disagreed with NumPy; NumPy's answer was returned."""
