"""What numba makes of a function for given dtypes: its results, its body, and a loop to run it.

Only this module imports numba. A function is typed with numba's ``numpy`` model of errors, in which
divisions by zero give infinities and NaN, and with indices checked. Float16 is computed in float32,
since numba has no arithmetic for it.
"""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy

from dispatcharr.kernels.custom.capture import Captured
from dispatcharr.kernels.custom.text import Scalar, tidied
from dispatcharr.ops.kinds import is_planned

__all__ = ["Typed", "loop_of", "type_function", "versions"]

Dtype = numpy.dtype[Any]
Loop = Callable[..., Any]
#: Numba compiles one function at a time; a forked child must not wait for another's thread.
_lock = threading.RLock()
#: Lines with which the part of numba's message ends that says what is wrong.
_END = re.compile(r"There (is|are) \d+ candidate|During:|File \"|- Of which|This error may have")


@dataclass(frozen=True, slots=True)
class Typed:
    """A function for given dtypes.

    Attributes
    ----------
    results : tuple of numpy.dtype
        What it returns.
    is_tuple : bool
        Whether it returns a tuple, of one or more.
    scalar : Scalar
        What computes them, for kernels.
    """

    results: tuple[Dtype, ...]
    is_tuple: bool
    scalar: Scalar


def versions() -> str | None:
    """Return what a typed function depends on besides itself; None if there is no numba."""
    import importlib.metadata
    import sys

    try:
        numbas, llvmlites = map(importlib.metadata.version, ("numba", "llvmlite"))
    except importlib.metadata.PackageNotFoundError:
        return None
    python = ".".join(map(str, sys.version_info[:3]))
    return f"numba {numbas}, llvmlite {llvmlites}, numpy {numpy.__version__}, python {python}"


def type_function(captured: Captured, dtypes: tuple[Dtype, ...]) -> Typed:
    """Have numba type a function.

    Raises
    ------
    TypeError
        Numba cannot; its reason is in the message.
    ImportError
        There is no numba.
    """
    numba = _numba()
    with _lock:
        function = captured.rebuilt(_compiled)
        compiled = _compiled(function)
        try:
            compiled.compile(_types(dtypes))
        except Exception as error:
            raise _untyped(captured, dtypes, error) from None
        (found,) = compiled.overloads.values()
        returned = found.signature.return_type
        is_tuple = isinstance(returned, numba.types.BaseTuple)
        kinds = tuple(returned) if is_tuple else (returned,)
        results = tuple([_dtype(captured, dtypes, kind, returned) for kind in kinds])
        if not results:
            raise _refused(captured, dtypes, "returns an empty tuple")
        scalar = tidied(
            found.library.get_llvm_str(), found.fndesc.llvm_func_name, dtypes, results, is_tuple
        )
    return Typed(results, is_tuple, scalar)


def loop_of(captured: Captured, dtypes: tuple[Dtype, ...], typed: Typed, place: int) -> Loop:
    """Return a ufunc of numba's that computes one of the results."""
    numba = _numba()
    with _lock:
        inner = _compiled(captured.rebuilt(_compiled))
        listed = ", ".join(f"x{i}" for i in range(len(dtypes)))
        picked = f"inner({listed})[{place}]" if typed.is_tuple else f"inner({listed})"
        space: dict[str, Any] = {"inner": inner}
        exec(f"def outer({listed}): return {picked}", space)  # numba reads code, with plain names
        result = numba.from_dtype(typed.results[place])
        made: Loop = numba.vectorize([result(*_types(dtypes))])(space["outer"])
        return made


@cache
def _numba() -> Any:
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError as error:
        raise ImportError(
            f"np.elementwise needs numba, which cannot be imported ({error}); install it: "
            "pip install numba"
        ) from error
    if numba.config.DISABLE_JIT:
        raise RuntimeError(
            "np.elementwise needs numba, which NUMBA_DISABLE_JIT turns off; unset that variable"
        )
    return numba


def _compiled(function: Any) -> Any:
    return _numba().njit(error_model="numpy", boundscheck=True)(function)


def _types(dtypes: tuple[Dtype, ...]) -> tuple[Any, ...]:
    numba = _numba()
    wide = numpy.dtype(numpy.float32)
    return tuple([numba.from_dtype(wide if dtype.char == "e" else dtype) for dtype in dtypes])


def _dtype(captured: Captured, dtypes: tuple[Dtype, ...], kind: Any, returned: Any) -> Dtype:
    """Return the dtype of one result."""
    from numba.np.numpy_support import as_dtype

    numba = _numba()
    kind = numba.types.unliteral(kind)
    if isinstance(kind, (numba.types.Number, numba.types.Boolean)):
        dtype: Dtype = as_dtype(kind)
        if is_planned(dtype):
            return dtype
    if returned is numba.types.none:
        raise _refused(captured, dtypes, "returns nothing")
    if isinstance(kind, numba.types.Optional):
        raise _refused(captured, dtypes, "returns a number only sometimes, else None")
    raise _refused(captured, dtypes, f"returns {returned}, which is no number or tuple of numbers")


def _refused(captured: Captured, dtypes: tuple[Dtype, ...], what: str) -> TypeError:
    return TypeError(
        f"elementwise: {captured.function.__name__}({_listed(dtypes)}) {what}; it must return a "
        "number, or a tuple of them, for each element"
    )


def _untyped(captured: Captured, dtypes: tuple[Dtype, ...], error: Exception) -> TypeError:
    return TypeError(
        f"elementwise: numba cannot type {captured.function.__name__}({_listed(dtypes)}): "
        f"{_reason(error)}; keep to numbers, math and NumPy's functions of numbers, or take "
        "np.vectorize, which calls it as it is"
    )


def _listed(dtypes: tuple[Dtype, ...]) -> str:
    return ", ".join(map(str, dtypes))


def _reason(error: Exception) -> str:
    """Return what numba says is wrong, in one line."""
    kept: list[str] = []
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    for line in filter(None, map(str.strip, text.split("\n"))):
        if line.startswith("Failed in "):
            continue
        if _END.match(line):
            break
        kept.append(line.removeprefix(">>> "))
    found = " ".join(" ".join(kept).split())[:400]
    return found.rstrip(".:") or type(error).__name__


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
