"""An error that ends a program because a library refused one of our arrays says what to do.

Libraries that take nothing but what is exactly a ``numpy.ndarray`` raise errors of their own, which
cannot know of us. Where one is printed because nobody caught it, by Python, in a thread or in
IPython, a note with the one-line remedy is added to it (:pep:`678`). Whoever printed errors before
us prints them still. An error that is caught is left as it is.

What an error is about is read by :mod:`refusals`, loaded when there is one.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import types
from typing import Any

__all__ = ["add_remedy", "install"]


def add_remedy(error: BaseException | None) -> None:
    """Add a note to an error by which a library refused an array of ours; leave all others."""
    if not isinstance(error, Exception):
        return
    try:
        refusals = importlib.import_module("dispatcharr.face.refusals")
        note = refusals.remedy(error)
        if note is not None and note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    except Exception as mistake:  # ours; the error itself is to be printed all the same
        logging.getLogger("dispatcharr").info(f"no remedy was looked for: {mistake!r}")


_installed: list[bool] = []


def install() -> None:
    """Stand before whoever prints errors that nobody caught."""
    if _installed:
        return
    _installed.append(True)
    _precede_interpreter()
    _precede_threads()
    _precede_ipython()


def _precede_interpreter() -> None:
    former = sys.excepthook

    def excepthook(
        kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
    ) -> None:
        add_remedy(error)
        former(kind, error, trace)

    if former is sys.__excepthook__:  # whoever asks whether the hook is the usual one hears yes
        sys.__excepthook__ = excepthook
    sys.excepthook = excepthook


def _precede_threads() -> None:
    former = threading.excepthook

    def excepthook(args: threading.ExceptHookArgs) -> None:
        add_remedy(args.exc_value)
        former(args)

    threading.excepthook = excepthook


def _precede_ipython() -> None:
    """Do so in the shell that we are imported in; it never asks Python's hook."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell: Any = None if get is None else get()
    former = getattr(shell, "showtraceback", None)
    if former is None:
        return

    def showtraceback(*args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get("exc_tuple")
        add_remedy((given or sys.exc_info())[1])
        return former(*args, **kwargs)

    shell.showtraceback = showtraceback
