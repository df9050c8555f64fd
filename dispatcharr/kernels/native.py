"""Machine code of this process: IR text in, object code out, and the address of what was loaded.

Policy, once:

- llvmlite does the work. It is imported by the first call that needs it and by no import of this
  package; where it is missing or this machine is of a kind that was never tried, :func:`host`
  says so in a sentence, and nothing raises.
- Code is made for this CPU as it is, at the third level of optimisation. Operations are never
  contracted, reordered or approximated: no flag of the kind is set, here or by default, so the
  bits are those of the IR text.
- SIMD variants of scalar functions are used where the C library's vector library really has them;
  a function without any is declared as it is.
- Object code holds no address of the process that made it: whatever it calls is named, and is
  looked up when it is loaded. A name that nobody knows refuses that one kernel: asked to resolve
  it, LLVM would end the process.
- Loaded code stays for as long as the process, since nobody can know who still runs it.

LLVM serves one thread at a time, so one lock holds for all of this module. Kernels themselves are
called without it: see :func:`function`.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from dispatcharr.kernels import hints
from dispatcharr.kernels.elf import symbols
from dispatcharr.kernels.simd_math import declarations
from dispatcharr.kernels.target import Host, address_of, architecture, describe

__all__ = [
    "BuildError", "Host", "function", "host", "load", "loaded", "missing", "optimise_and_emit",
    "simd_attributes",
]  # fmt: skip

#: Oldest llvmlite: the first whose LLVM has both opaque pointers and today's pass builder.
_OLDEST = (0, 45)

#: The number of what this module makes of a text. A change to flags or passes needs a new one, else
#: kernels on disk would be taken for what they are no more.
_RULES = 2
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BuildError(RuntimeError):
    """A kernel cannot be compiled or loaded; the text says why, in one line."""


@dataclass(slots=True)
class _Session:
    """LLVM as this process uses it, and what it has loaded."""

    llvm: Any
    host: Host
    target: Any
    engine: Any
    known: set[str] = field(default_factory=set)
    loaded: dict[str, int] = field(default_factory=dict)


_lock = threading.RLock()
_session: _Session | str | None = None
#: Seconds that a fork or the end waits for LLVM to come to rest.
_PATIENCE = 5.0


@cache
def missing() -> str | None:
    """Return why nothing can be compiled here, as far as is known without importing llvmlite.

    Examples
    --------
    >>> reason = missing()
    >>> reason is None or isinstance(reason, str)
    True
    """
    machine = architecture()
    if not sys.platform.startswith("linux") or machine not in {"x86_64", "aarch64"}:
        return (
            "kernels are compiled on Linux with x86-64 or 64-bit Arm only, "
            f"this is {sys.platform} on {machine}"
        )
    if sys.maxsize < 1 << 32:
        return "kernels are compiled for 64-bit interpreters only, this one has 32 bits"
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed; install it to have kernels compiled"
    return None


def host() -> Host | str:
    """Return what kernels are compiled for, or a sentence that says why none can be.

    The first call imports llvmlite, which takes some 0.1 s.

    Examples
    --------
    >>> isinstance(host(), (Host, str))
    True
    """
    session = _open()
    return session if isinstance(session, str) else session.host


def optimise_and_emit(text: str, name: str) -> bytes:
    """Compile IR text and return its object code.

    Parameters
    ----------
    text : str
        A module: the function ``name`` and all it needs, save functions of the C library.
    name : str
        The function that :func:`load` will ask for. The others should be internal.

    Raises
    ------
    BuildError
        The text is wrong, or there is no compiler; it says which.
    """
    session = _require("optimise_and_emit")
    with _lock, _reported(f"optimise_and_emit: {name}"):
        if hints.are_risky(text):
            code = _emitted(session, hints.without(text), name, unless=hints.are_taken)
            if code is not None:
                return code
        return cast(bytes, _emitted(session, text, name))


def _emitted(
    session: _Session, text: str, name: str, unless: Callable[[str], bool] | None = None
) -> bytes | None:
    """Return object code, or None if what LLVM has made of the text is as ``unless`` says."""
    llvm = session.llvm
    # A context of its own: what LLVM interns in the global one it keeps for ever.
    with llvm.create_context() as context, llvm.parse_assembly(text, context) as module:
        module.verify()
        _check_defined(module, name)
        _optimise(session, module)
        if unless is not None and unless(str(module)):
            return None
        return bytes(session.target.emit_object(module))


def _optimise(session: _Session, module: Any) -> None:
    llvm = session.llvm
    # Each of these is closed here: left to be collected, it would take LLVM's own lock at a time
    # when a fork does not wait for it.
    with llvm.create_pipeline_tuning_options(speed_level=3) as tuning:
        tuning.loop_vectorization = True
        tuning.slp_vectorization = True
        with llvm.create_pass_builder(session.target, tuning) as builder:
            passes = builder.getModulePassManager()
            try:
                passes.run(module, builder)
            finally:
                _free(llvm, passes)


def _free(llvm: Any, passes: Any) -> None:
    """Free a pass manager, 0.1 MB, also where llvmlite forgets to: 0.50 is the latest known to.

    There an empty method of a base class hides the one that frees.
    """
    if type(passes)._dispose is llvm.ffi.ObjectRef._dispose:
        llvm.newpassmanagers.NewPassManager._dispose(passes)
    passes.close()


def load(name: str, object_code: bytes) -> int:
    """Return the address of function ``name``, loading the object code that defines it.

    A name is loaded once in a process: a later call returns the same address and looks at nothing
    else, so names have to tell kernels apart. Other functions of the object come with it.

    Raises
    ------
    BuildError
        The object code does not define the function, or needs one that is not here.
    """
    session = _require("load")
    with _lock:
        address = session.loaded.get(name)
        if address is not None:
            return address
        with _reported(f"load: {name}"):
            defined = _resolve(session, name, object_code)
            session.engine.add_object_file(session.llvm.ObjectFileRef.from_data(object_code))
            session.engine.finalize_object()
            for each in defined:
                session.loaded[each] = int(session.engine.get_function_address(each))
        return session.loaded[name]


def loaded(name: str) -> int | None:
    """Return the address of a function that :func:`load` has loaded before, None if it has not."""
    session = _session
    return session.loaded.get(name) if isinstance(session, _Session) else None


@cache
def function(address: int) -> Callable[[int, int], None]:
    """Return the kernel at ``address`` as a function of two addresses: arguments and box.

    It releases the interpreter lock while it runs.
    """
    return _KERNEL(address)


# Converting two plain integers is what costs least of all that ctypes offers.
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


def simd_attributes(calls: Iterable[str]) -> str:
    """Return IR text that declares scalar functions with the SIMD variants they have here.

    A plain call of such a function in a loop then becomes a SIMD call when the loop is vectorised.
    The text may stand once in a module, for all the functions that the module calls.

    Parameters
    ----------
    calls : iterable of str
        Names of functions of the C mathematical library: ``sin``, ``powf`` ...

    Raises
    ------
    BuildError
        A name is not one of those that may have variants, or there is no compiler.
    """
    session = _require("simd_attributes")
    with _reported("simd_attributes"):
        return declarations(calls, session.host.simd_math)


def _require(who: str) -> _Session:
    session = _open()
    if isinstance(session, str):
        raise BuildError(f"{who}: {session}")
    return session


def _open() -> _Session | str:
    global _session
    if _session is None:
        with _lock:
            if _session is None:
                _session = missing() or _start()
    return _session


def _start() -> _Session | str:
    try:
        import llvmlite
        import llvmlite.binding as llvm
    except (ImportError, OSError) as error:  # OSError: its shared library does not load
        return f"llvmlite cannot be imported: {_one_line(error)}"
    version = tuple(int(part) for part in re.findall(r"\d+", llvmlite.__version__)[:2])
    if version < _OLDEST:
        wanted = ".".join(map(str, _OLDEST))
        return f"llvmlite is version {llvmlite.__version__}, kernels need {wanted} or newer"
    try:
        llvm.check_jit_execution()
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm_version = ".".join(map(str, llvm.llvm_version_info))
        described = describe(
            llvm, f"llvmlite {llvmlite.__version__}, LLVM {llvm_version}, rules {_RULES}"
        )
        # The engine owns one target machine, so the compiler has its own.
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target(llvm, described))
        target = _target(llvm, described)
    except (OSError, RuntimeError) as error:
        return f"LLVM cannot be used here: {_one_line(error)}"
    return _Session(llvm, described, target, engine)


def _target(llvm: Any, host: Host) -> Any:
    # The large code model: code, constants and what is called may be anywhere in the address space,
    # where the small one would silently jump astray if they came to lie 2 GB apart.
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=host.cpu, features=host.features, opt=3, codemodel="jitdefault"
    )


def _check_defined(module: Any, name: str) -> None:
    defined = [each.name for each in module.functions if not each.is_declaration]
    if name not in defined:
        raise BuildError(f"the text does not define @{name}; it defines {', '.join(defined)}")


def _resolve(session: _Session, name: str, object_code: bytes) -> tuple[str, ...]:
    """Tell LLVM where everything is that the object code calls; raise if something is nowhere.

    Returns what it defines.
    """
    defined, needed = symbols(object_code)
    if name not in defined:
        raise BuildError(f"the object code does not define it; it defines {', '.join(defined)}")
    for each in defined:
        if each in session.loaded or each in session.known:
            raise BuildError(f"{each} was loaded before; make it internal or name it otherwise")
        if not _NAME.fullmatch(each):
            raise BuildError(f"{each!r} is not a plain name")
    for symbol in needed:
        if symbol in session.known:
            continue
        address = address_of(symbol)
        if address is None:
            raise BuildError(f"it calls {symbol}, which no library of this system has")
        session.llvm.add_symbol(symbol, address)
        session.known.add(symbol)
    return defined


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Say what was being done when something was refused, in one line and one class of error."""
    try:
        yield
    except BuildError as error:
        raise BuildError(f"{what}: {error}") from None
    except (RuntimeError, ValueError) as error:
        raise BuildError(f"{what}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _at_exit() -> None:
    """Leave LLVM as it is; the system takes it all.

    llvmlite does so too, but only where it was imported before the end began.
    """
    global _session
    at_rest = _lock.acquire(timeout=_PATIENCE)
    session, _session = _session, "the interpreter is about to end"
    if at_rest:
        if isinstance(session, _Session):
            session.engine.detach()
            session.target.detach()
        _lock.release()


_held: list[bool] = []


def _before_fork() -> None:
    # The child has no thread that would end what LLVM is about, or give back its locks.
    _held.append(_lock.acquire(timeout=_PATIENCE))


def _after_fork_in_parent() -> None:
    if _held and _held.pop():  # this module may have come to be while the fork was under way
        _lock.release()


def _after_fork_in_child() -> None:
    global _lock, _session
    if _held.pop() if _held else _lock.acquire(blocking=False):
        _lock.release()
        return
    _lock = threading.RLock()
    _session = "the process was forked while another thread was compiling, which broke LLVM here"


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
