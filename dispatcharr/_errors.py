"""Every exception and warning class of dispatcharr.

Each class also derives from the builtin that a NumPy program would catch for the same mistake,
so that code written for NumPy keeps its ``except`` clauses.
"""

__all__ = [
    "BackendUnavailableError",
    "DispatcharrError",
    "FallbackError",
    "FallbackWarning",
    "OptionError",
    "ProfileWarning",
    "VerificationWarning",
]


class DispatcharrError(Exception):
    """Base of the errors that only dispatcharr raises."""


class OptionError(DispatcharrError, ValueError):
    """An option or environment variable has a value that it cannot have."""


class BackendUnavailableError(DispatcharrError, ValueError):
    """A backend was asked for that is unknown, or that cannot run here."""


class FallbackError(DispatcharrError, RuntimeError):
    """An operation left the planned path while ``on_fallback="raise"`` was in force."""


class FallbackWarning(UserWarning):
    """An operation left the planned path while ``on_fallback="warn"`` was in force."""


class ProfileWarning(UserWarning):
    """A stored profile could not be used or saved; shipped defaults are in force."""


class VerificationWarning(RuntimeWarning):
    """A verified kernel disagreed with NumPy; NumPy's answer was returned."""
