"""``dispatcharr run``: a program as Python would run it, with its ``import numpy`` redirected.

Whatever the program can see is what it would see under ``python``: its own ``__main__`` module,
``sys.argv``, ``sys.path[0]``, exit status, tracebacks and the order of things at exit. Its standard
output is its own; what is reported goes to standard error, after everything else, its ``atexit``
functions included. The processes that it starts by ``fork`` are redirected but not reported on;
those that it starts afresh (``spawn``, ``forkserver``, ``subprocess``) run on plain NumPy.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from pkgutil import get_importer
from types import CodeType, ModuleType, TracebackType

__all__ = ["Request", "run"]


@dataclass(frozen=True)
class Request:
    """What to run, and what to say about it.

    Attributes
    ----------
    target : str
        Path of a script, of a folder or zip file with a ``__main__.py``, or a module's name.
    arguments : tuple of str
        What follows the target on the command line.
    is_module : bool
        Whether the target is a module's name.
    json : str or None
        File to write what was dispatched to, instead of the summary on standard error.
    quiet : bool
        Whether to keep the summary to oneself.
    """

    target: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False
    json: str | None = None
    quiet: bool = False


class _CannotRun(Exception):
    """There is no such program; carries Python's words for it and its exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def run(request: Request) -> int:
    """Run the program to its end; leave by its exception if it ends with one.

    Returns
    -------
    int
        The exit status of a program that ended by itself, or that could not be begun.
    """
    from dispatcharr.face.redirect import not_installed, numpy_redirected

    script = None if request.is_module else _absolute(request.target)
    own = {"<__main__>", script}
    scope = ExitStack()
    scope.enter_context(numpy_redirected(lambda file: file in own or not_installed(file)))
    # Registered before the program can register anything, so it runs after all of that.
    report = atexit.register(_recording(request, scope))
    module = _fresh_main()
    try:
        exec(_load(request, script, module), vars(module))
    except _CannotRun as error:
        atexit.unregister(report)
        print(f"dispatcharr: {error}", file=sys.stderr)
        return error.status
    except SystemExit:
        raise
    except BaseException as error:
        _hide_this_file(error)
        raise
    return 0


def _absolute(path: str) -> str:
    # As Python does it: nothing but a leading "./" is tidied, and only on some systems.
    return os.path.join(os.getcwd(), path) if os.name == "posix" else os.path.abspath(path)


def _fresh_main() -> ModuleType:
    module = sys.modules["__main__"] = ModuleType("__main__")
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    vars(module)["__builtins__"] = sys.modules["builtins"]
    return module


def _load(request: Request, script: str | None, module: ModuleType) -> CodeType:
    """Set ``module`` and ``sys`` up for the program and return its code."""
    sys.argv = [request.target, *request.arguments]
    if script is None:
        sys.argv[0] = "-m"
        _put_first_on_path(os.getcwd())
        spec = _find_module(request.target)
        sys.argv[0] = str(spec.origin)
        return _load_spec(spec, module)
    finder = get_importer(script)
    if finder is None:
        _put_first_on_path(os.path.dirname(os.path.realpath(script)))
        return _load_script(script, module)
    # A folder or a zip file; Python names it as the first entry even where asked for a safe path.
    if sys.flags.safe_path:
        sys.path.insert(0, "")
    sys.path[0] = script
    found = finder.find_spec("__main__")
    if found is None:
        raise _CannotRun(f"can't find '__main__' module in {script!r}", 1)
    return _load_spec(found, module)


def _put_first_on_path(folder: str) -> None:
    # Where Python was asked for a safe path, no first entry was made that could be replaced.
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _load_script(path: str, module: ModuleType) -> CodeType:
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        raise _CannotRun(f"can't open file {path!r}: {reason}", 2) from None
    module.__file__ = path
    module.__loader__ = SourceFileLoader("__main__", path)
    vars(module)["__cached__"] = None
    return compile(source, path, "exec", dont_inherit=True)


def _find_module(name: str) -> ModuleSpec:
    """Find a module to run by ``-m``, a package's ``__main__`` for a package."""
    parent = name.rpartition(".")[0]
    if parent:
        try:
            importlib.import_module(parent)
        except ImportError as error:
            # That the parent itself is missing is told below; what it lacks is the user's to see.
            missing = error.name
            if missing is None or not f"{parent}.".startswith(f"{missing}."):
                raise
    try:
        spec = find_spec(name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        kind = type(error).__name__
        message = f"Error while finding module specification for {name!r} ({kind}: {error})"
        raise _CannotRun(message, 1) from None
    if spec is None:
        raise _CannotRun(f"No module named {name}", 1)
    if spec.submodule_search_locations is None:
        return spec
    try:
        return _find_module(f"{name}.__main__")
    except _CannotRun as error:
        message = f"{error}; {name!r} is a package and cannot be directly executed"
        raise _CannotRun(message, 1) from None


def _load_spec(spec: ModuleSpec, module: ModuleType) -> CodeType:
    get_code = getattr(spec.loader, "get_code", None)
    code: CodeType | None = None if get_code is None else get_code(spec.name)
    if code is None:
        raise _CannotRun(f"No code object available for {spec.name}", 1)
    module.__file__ = spec.origin
    module.__loader__ = spec.loader
    module.__package__ = spec.parent
    module.__spec__ = spec
    vars(module)["__cached__"] = spec.cached
    return code


def _hide_this_file(error: BaseException) -> None:
    """Let Python print ``error`` without the frames between the interpreter and the program.

    That is done when it is printed: until then, each frame that the exception leaves adds itself.
    """
    trace = error.__traceback__
    while trace is not None and _is_way_in(trace):
        trace = trace.tb_next
    print_exception = sys.excepthook

    def excepthook(
        kind: type[BaseException], value: BaseException, _: TracebackType | None
    ) -> None:
        sys.excepthook = print_exception
        print_exception(kind, value.with_traceback(trace), trace)

    sys.excepthook = excepthook


def _is_way_in(trace: TracebackType) -> bool:
    name = str(trace.tb_frame.f_globals.get("__name__"))
    return name == __name__ or name.partition(".")[0] == "importlib"


def _recording(request: Request, scope: ExitStack) -> Callable[[], None]:
    """Record what is dispatched from now on; return what ends ``scope`` and reports."""
    if request.quiet and request.json is None:
        return scope.close
    from dispatcharr import _events
    from dispatcharr.explain.recorder import Recorder
    from dispatcharr.face import _fastpath

    # As record_dispatch does, but for every thread of the program.
    recorder = Recorder()
    served = _fastpath.served()
    _events.add_process_listener(recorder)
    scope.callback(_events.remove_process_listener, recorder)
    path = None if request.json is None else os.path.abspath(request.json)
    process = os.getpid()

    def report() -> None:
        if os.getpid() != process:  # a child made by fork came to its end
            return
        scope.close()
        recorder.small += _fastpath.served() - served
        if path is None:
            _print_last(str(recorder.summary()))
            return
        try:
            recorder.to_json(path)
        except OSError as error:
            _print_last(f"dispatcharr: cannot write {path}: {error.strerror}")

    return report


def _print_last(text: str) -> None:
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr)
    except (OSError, ValueError):
        return  # the program closed it, or its reader went away: there is nobody left to tell
