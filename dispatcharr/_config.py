"""Options: what a user may set, from where, and for how long.

One register, three sources, the later winning: environment variables (read once, at import),
``set_backend`` and ``dispatch_options(...)`` called as a function (the process), and the context
managers ``use_backend`` and ``dispatch_options`` (the current thread or async task). Nothing else
in the package reads the environment: settings that are no options are asked for by
:func:`variable`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, fields, replace
from typing import Any

from dispatcharr._errors import OptionError

__all__ = [
    "DECIDED_BY", "ENVIRONMENT", "Options", "cache_folder", "leave", "options", "override",
    "scoped", "set_process", "variable",
]  # fmt: skip

ENGINES = ("auto", "blocks", "compiled")
FALLBACK_LEVELS = ("silent", "log", "warn", "raise")
DEFER_MODES = ("auto", "always", "never")


@dataclass(frozen=True, slots=True)
class Options:
    """Every option, with its shipped value.

    Attributes
    ----------
    backend : str
        Name of the forced backend, or ``"auto"``.
    threads : int or None
        Most threads that a kernel may use; None for all that the machine grants.
    fusion : bool
        Whether neighbouring operations may share a kernel.
    defer : {"auto", "always", "never"}
        Whether operations may wait for their neighbours: where it pays, wherever it is sound
        however small, or never.
    engine : {"auto", "blocks", "compiled"}
        What runs the body of a kernel on the host: NumPy's functions block by block, or one loop
        compiled for it, which is then waited for.
    on_fallback : {"silent", "log", "warn", "raise"}
        What happens when an operation is left to NumPy.
    verify : float
        Share of kernels that are run again on plain NumPy and compared, 0 to 1.
    memory_limit : int or None
        Bytes that pending work may keep alive beyond what the eager program would hold;
        None for a share of the machine's memory.
    compile_vectorize : bool
        Whether ``numpy.vectorize`` compiles functions that numba can type, instead of calling them
        element by element.
    """

    backend: str = "auto"
    threads: int | None = None
    fusion: bool = True
    defer: str = "auto"
    engine: str = "auto"
    on_fallback: str = "silent"
    verify: float = 0.0
    memory_limit: int | None = None
    compile_vectorize: bool = False


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "backend": (lambda v: isinstance(v, str), "a backend's name or 'auto'"),
    "threads": (lambda v: v is None or _is_count(v), "None or a whole number of at least 1"),
    "fusion": (lambda v: isinstance(v, bool), "True or False"),
    "defer": (lambda v: v in DEFER_MODES, "one of 'auto', 'always', 'never'"),
    "engine": (lambda v: v in ENGINES, "one of 'auto', 'blocks', 'compiled'"),
    "on_fallback": (
        lambda v: v in FALLBACK_LEVELS,
        "one of 'silent', 'log', 'warn', 'raise'",
    ),
    "verify": (
        lambda v: isinstance(v, (int, float)) and 0 <= v <= 1,
        "a share between 0 and 1 (True for all)",
    ),
    "memory_limit": (
        lambda v: v is None or (isinstance(v, int) and v >= 0),
        "None or a number of bytes",
    ),
    "compile_vectorize": (lambda v: isinstance(v, bool), "True or False"),
}

ENVIRONMENT: Mapping[str, str] = {
    "DISPATCHARR_BACKEND": "backend forced for the process",
    "DISPATCHARR_NUM_THREADS": "threads of the pool",
    "DISPATCHARR_CACHE_DIR": "folder of the profile and of compiled kernels",
    "DISPATCHARR_CACHE_SIZE": "most bytes of compiled kernels on disk",
    "DISPATCHARR_ON_FALLBACK": "silent, log, warn or raise",
    "DISPATCHARR_DEFER": "auto, always or never",
    "DISPATCHARR_ENGINE": "auto, blocks or compiled",
    "DISPATCHARR_VERIFY": "share of kernels checked against NumPy",
    "DISPATCHARR_CUDA": "0: use no GPU",
    "DISPATCHARR_CUDA_DEVICE": "number of the GPU that is used",
    "DISPATCHARR_SIM_GPU": "1: a virtual GPU in the place of a real one, for tests",
    "DISPATCHARR_SIM_SEED": "number that the virtual GPU's schedules follow from",
    "DISPATCHARR_SIM_SANITIZE": "1: the virtual GPU's kernels watch their memory accesses",
    "DISPATCHARR_POOL_LIMIT": "most bytes of memory kept for the results to come",
    "DISPATCHARR_PURE_PYTHON": "1: do not load the compiled modules",
}


def variable(name: str) -> str:
    """Return an environment variable without blanks around it; empty where it is not set.

    It is read when it is called, for settings that a program may still make after the import, or
    whose bad values must not break it.
    """
    return os.environ.get(name, "").strip()


def cache_folder() -> str:
    """Return the folder for files that may be lost: the user's cache, unless the option names one.

    The option is the environment variable ``DISPATCHARR_CACHE_DIR``.
    """
    folder = variable("DISPATCHARR_CACHE_DIR")  # now: a test or a program may still set it
    if folder:
        return os.path.expanduser(folder)
    if sys.platform.startswith("linux"):
        # The rule of platformdirs, whose import takes ten times as long as reading a profile.
        base = variable("XDG_CACHE_HOME")
        return os.path.join(base or os.path.expanduser("~/.cache"), "dispatcharr")
    import platformdirs

    return platformdirs.user_cache_dir("dispatcharr", appauthor=False)


def check(values: Mapping[str, Any], where: str) -> None:
    """Raise an error that names ``where`` for the first unknown or impossible option."""
    for name, value in values.items():
        if name not in _CHECKS:
            known = ", ".join(_CHECKS)
            raise TypeError(f"{where}: unknown option {name!r}; the options are {known}")
        accepts, wanted = _CHECKS[name]
        if not accepts(value):
            raise OptionError(f"{where}: {name} must be {wanted}, got {value!r}")


def _from_environment() -> Options:
    values: dict[str, Any] = {}
    if "DISPATCHARR_BACKEND" in os.environ:
        values["backend"] = os.environ["DISPATCHARR_BACKEND"]
    if "DISPATCHARR_ON_FALLBACK" in os.environ:
        values["on_fallback"] = os.environ["DISPATCHARR_ON_FALLBACK"]
    if "DISPATCHARR_DEFER" in os.environ:
        values["defer"] = os.environ["DISPATCHARR_DEFER"]
    if "DISPATCHARR_ENGINE" in os.environ:
        values["engine"] = os.environ["DISPATCHARR_ENGINE"]
    if "DISPATCHARR_VERIFY" in os.environ:
        text = os.environ["DISPATCHARR_VERIFY"]
        try:
            values["verify"] = float(text)
        except ValueError:
            raise OptionError(
                f"DISPATCHARR_VERIFY must be a share between 0 and 1, got {text!r}; "
                "set it to e.g. 0.01 or unset it"
            ) from None
    check(values, "environment")
    return Options(**values)


class _Scope:
    """Overrides of one context, with the options they amount to, cached per process setting."""

    __slots__ = ("base", "effective", "overrides")

    def __init__(self, overrides: dict[str, Any]) -> None:
        self.overrides = overrides
        self.base: Options | None = None
        self.effective: Options | None = None

    def options(self) -> Options:
        if self.base is not _process or self.effective is None:
            base = _process
            self.effective = replace(base, **self.overrides)
            self.base = base
        return self.effective


_process = _from_environment()
_scope: ContextVar[_Scope | None] = ContextVar("dispatcharr_options", default=None)
NAMES = tuple(field.name for field in fields(Options))
#: What :func:`options` answers from: a name of this module, and a context variable.
DECIDED_BY: tuple[Any, ...] = ((globals(), "_process"), _scope)


def options() -> Options:
    """Return the options in force here: in this thread, in this async task."""
    scope = _scope.get()
    return _process if scope is None else scope.options()


def override(values: Mapping[str, Any], where: str) -> Token[_Scope | None]:
    """Put ``values`` in force in this context; undo with :func:`leave`."""
    check(values, where)
    outer = _scope.get()
    return _scope.set(_Scope({**(outer.overrides if outer else {}), **values}))


def leave(token: Token[_Scope | None]) -> None:
    """Undo the :func:`override` that returned ``token``."""
    _scope.reset(token)


def scoped() -> Mapping[str, Any]:
    """Return what the contexts entered here override."""
    scope = _scope.get()
    return {} if scope is None else scope.overrides


def set_process(values: Mapping[str, Any], where: str) -> None:
    """Put ``values`` in force for the whole process, below any context."""
    global _process
    check(values, where)
    _process = replace(_process, **values)
