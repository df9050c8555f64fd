"""``import numpy`` answered by dispatcharr, for the code that asks for it and for no other.

The import statement calls ``builtins.__import__``, whatever loaded the code around it, so that is
what is replaced: a test runner's rewritten modules are reached like a script. The answer depends on
who asks. Code from a file of the caller's own gets this package for ``numpy``, and its modules for
``numpy.linalg`` and the like; a module of NumPy that has no counterpart here stays NumPy's, as do
its private ones. Everybody else, installed packages and NumPy itself first of all, gets NumPy.
``importlib.import_module("numpy")`` is not redirected: it names no asker.

Redirected imports leave no trace of this file: not in tracebacks, and not in the place that a
warning at import is blamed on.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy

__all__ = ["is_redirecting", "not_installed", "numpy_redirected"]

ROOT = __name__.partition(".")[0]


@contextmanager
def numpy_redirected(own: Callable[[str], bool]) -> Iterator[None]:
    """Answer ``import numpy`` with dispatcharr in the files that ``own`` accepts.

    Parameters
    ----------
    own : callable
        Takes the ``__file__`` of an importing module, or its name in angle brackets
        (``"<__main__>"``) where it has no file, and says whether its imports are redirected.
        It is asked once for each file.

    Examples
    --------
    >>> with numpy_redirected(lambda file: file.startswith("/home/me/project/")):  # doctest: +SKIP
    ...     import project.simulation
    """
    redirection = _Redirection(builtins.__import__, own)
    replacement = _import_function(redirection)
    builtins.__import__ = replacement
    try:
        yield
    finally:
        redirection.active = False
        # Somebody may have wrapped the replacement meanwhile; then it stays, as a mere passage.
        if builtins.__import__ is replacement:
            builtins.__import__ = redirection.original


def is_redirecting() -> bool:
    """Return whether ``import numpy`` is answered by this package now."""
    return getattr(builtins.__import__, "__globals__", None) is globals()


def not_installed(file: str) -> bool:
    """Return whether a module's file is the user's own: no installed package, no part of Python.

    What lies in a ``site-packages`` or ``dist-packages`` folder is installed, even where the folder
    or the file is a link to somewhere else. A package installed in editable mode is the user's.

    Examples
    --------
    >>> not_installed("/home/me/project/simulation.py")
    True
    >>> not_installed("/home/me/.venv/lib/python3.13/site-packages/scipy/special/_basic.py")
    False
    """
    if file.startswith("<"):
        return False
    for path in {os.path.abspath(file), os.path.realpath(file)}:
        if not _INSTALLED_PARTS.isdisjoint(path.split(os.sep)):
            return False
        if os.path.normcase(path).startswith(_foreign_folders()):
            return False
    return True


_INSTALLED_PARTS = {"site-packages", "dist-packages"}


@cache
def _foreign_folders() -> tuple[str, ...]:
    """Return the folders of Python's library, of this package and of NumPy, if built in place."""
    files = (os.__file__, os.path.dirname(__file__), numpy.__file__)
    return tuple(
        os.path.normcase(os.path.join(form(os.path.dirname(file)), ""))
        for file in files
        for form in (os.path.abspath, os.path.realpath)
    )


class _Redirection:
    """Whose imports are redirected, and to what."""

    def __init__(self, original: Callable[..., Any], own: Callable[[str], bool]) -> None:
        self.original = original
        self.active = True
        self._own = own
        self._verdicts: dict[str, bool] = {}
        self._mirrors: dict[str, str | None] = {"numpy": ROOT}

    def wanted(
        self, name: str, asker: Mapping[str, Any] | None, fromlist: object, level: int
    ) -> bool:
        """Return whether this import names NumPy and comes from the caller's own code."""
        if not (name == "numpy" or name.startswith("numpy.")) or level or asker is None:
            return False
        # An empty list comes from C code, most often NumPy's: it asks in the name of the Python
        # code that is running, then looks the module up under the name that it asked for.
        if not self.active or (isinstance(fromlist, list) and not fromlist):
            return False
        file = asker.get("__file__")
        if not isinstance(file, str):
            file = f"<{asker.get('__name__')}>"
        verdict = self._verdicts.get(file)
        if verdict is None:
            verdict = self._verdicts[file] = self._own(file)
        return verdict

    def answer(
        self, name: str, asker: Any, local: Any, fromlist: Sequence[str] | None, level: int
    ) -> Any:
        """Import the counterpart of ``name``, NumPy's module where there is none."""
        mirror = self._mirror(name)
        if mirror is None:
            module = self.original(name, asker, local, fromlist, level)
            # `import numpy.testing` binds the root alone: it may be ours if it leads there too.
            if fromlist or not _leads(sys.modules[ROOT], name):
                return module
            return sys.modules[ROOT]
        module = self.original(mirror, asker, local, fromlist, level)
        if fromlist and "*" in fromlist:
            return _public(module, self.original(name, asker, local, fromlist, level))
        return module

    def _mirror(self, name: str) -> str | None:
        """Return this package's module that stands for NumPy's ``name``, if there is one."""
        if name not in self._mirrors:
            mirror = ROOT + name.removeprefix("numpy")
            parent = name.rpartition(".")[0]
            private = any(part.startswith("_") for part in name.split("."))
            found = not private and self._mirror(parent) is not None
            # What only this package has is not NumPy's, whatever its name.
            self._mirrors[name] = mirror if found and _exists(mirror) and _exists(name) else None
        return self._mirrors[name]


def _exists(name: str) -> bool:
    """Return whether a module of this name is there to import."""
    if name in sys.modules:
        return True
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module without modules of its own
        return False


def _leads(root: object, name: str) -> bool:
    """Return whether the attributes after the first dot of ``name`` exist on ``root``."""
    reached = root
    for part in name.split(".")[1:]:
        try:
            reached = getattr(reached, part)
        except AttributeError:
            return False
    return True


def _public(module: object, numpys: object) -> SimpleNamespace:
    """Return what ``from numpy import *`` binds: NumPy's public names, with our values.

    The names that this package adds are left out: the program may use them for things of its own.
    """
    names = getattr(numpys, "__all__", None)
    if names is None:
        names = [name for name in vars(numpys) if not name.startswith("_")]
    values = {name: getattr(module, name, getattr(numpys, name)) for name in names}
    return SimpleNamespace(__all__=list(names), **values)


def _import_function(redirection: _Redirection) -> Callable[..., Any]:
    """Return the function that takes the place of ``builtins.__import__``."""
    original, wanted, answer = redirection.original, redirection.wanted, redirection.answer
    here = globals()

    def __import__(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        try:
            if name[:5] == "numpy" and wanted(name, globals, fromlist, level):
                return answer(name, globals, locals, fromlist, level)
            return original(name, globals, locals, fromlist, level)
        except BaseException as error:
            # A bare raise adds no entry for this frame, so what is dropped here is gone.
            trace = error.__traceback__
            while trace is not None and trace.tb_frame.f_globals is here:
                trace = trace.tb_next
            error.__traceback__ = trace
            raise

    # warnings.warn(..., stacklevel=2) at the top of a module means the import statement; to find
    # it, Python skips the frames of this file name.
    __import__.__code__ = __import__.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    return __import__
