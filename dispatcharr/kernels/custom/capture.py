"""A Python function as a value: its code and all that it refers to, as they are now.

Numba takes the global names and the enclosing variables of a function for constants. They are
captured once, so that what is computed does not depend on when a dtype is first seen, and written
into a digest, by which two functions are known to be the same, in this process and in later ones.
"""

from __future__ import annotations

import builtins
import dis
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy

__all__ = ["Captured", "capture"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
#: Modules whose content is known by the versions of Python and NumPy.
_KNOWN_MODULES = ("builtins", "math", "cmath", "operator", "numpy")


class _Unknown(Exception):
    """A captured value that no digest can be made of."""


class Captured:
    """A function with what it refers to.

    Attributes
    ----------
    function : function
        The function itself.
    signature : inspect.Signature
        Its parameters, all of which can be given by position.
    names : mapping
        Global names that it uses, with their values; functions of the user's are captured too.
    cells : tuple
        Values of the enclosing variables, in order.
    digest : str or None
        Equal for functions that compute the same; None if it refers to what cannot be told apart.
    """

    def __init__(
        self, function: types.FunctionType, replace: Callable[[Any], Any],
        above: tuple[types.FunctionType, ...] = (),
    ) -> None:  # fmt: skip
        if any(function is other for other in above):
            raise TypeError(
                f"elementwise: {function.__name__} calls itself, which a loop over elements "
                "cannot; write it with a loop"
            )
        above = (*above, function)
        self.function = function
        self.signature = inspect.signature(function)

        def held(value: Any) -> Any:
            value = replace(value)
            if type(value) is numpy.ndarray:
                return value.copy()
            return Captured(value, replace, above) if _is_users(value) else value

        space = function.__globals__
        used = dict.fromkeys(_globals(function.__code__))
        self.names = {name: held(space[name]) for name in used if name in space}
        self.cells = tuple([held(_content(function, cell)) for cell in function.__closure__ or ()])
        try:
            text = "\0".join([function.__name__, *_parts(function.__code__), *self._values()])
            self.digest: str | None = hashlib.sha256(text.encode()).hexdigest()
        except _Unknown:
            self.digest = None

    def _values(self) -> Iterator[str]:
        for name, value in self.names.items():
            yield f"{name}={_told(value)}"
        for value in self.cells:
            yield _told(value)

    def rebuilt(self, convert: Callable[[types.FunctionType], Any]) -> types.FunctionType:
        """Return a function that refers to what was captured.

        ``convert`` makes of each function that it calls what stands for it.
        """

        def held(value: Any) -> Any:
            return convert(value.rebuilt(convert)) if type(value) is Captured else value

        space = {name: held(value) for name, value in self.names.items()}
        space["__builtins__"] = builtins
        space["__name__"] = self.function.__module__
        cells = tuple([types.CellType(held(value)) for value in self.cells])
        made = types.FunctionType(
            self.function.__code__, space, self.function.__name__, None, cells
        )
        made.__module__ = self.function.__module__
        made.__qualname__ = self.function.__qualname__
        return made


def capture(function: Any, replace: Callable[[Any], Any]) -> Captured:
    """Return ``function`` with what it refers to now.

    Parameters
    ----------
    function : function
        Written in Python, or by numba of one that is.
    replace : callable
        Called with everything that the function refers to; returns what to take in its place.
    """
    return Captured(getattr(function, "py_func", function), replace)


def _is_users(value: Any) -> bool:
    """Return whether a function is one to be captured with what it refers to."""
    return type(value) is types.FunctionType and not _is_known(value)


def _is_known(value: Any) -> bool:
    home = getattr(value, "__module__", None)
    if home is None and isinstance(value, numpy.ufunc):
        home = "numpy"
    return isinstance(home, str) and home.partition(".")[0].lstrip("_") in _KNOWN_MODULES


def _content(function: types.FunctionType, cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        raise TypeError(
            f"elementwise: {function.__name__} refers to a variable that has no value yet"
        ) from None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Return ``code`` and the code of functions defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _globals(code: types.CodeType) -> Iterator[str]:
    """Return the names that are looked up among globals; attributes have names too."""
    for each in _codes(code):
        for instruction in dis.get_instructions(each):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                yield instruction.argval


def _parts(code: types.CodeType) -> Iterator[str]:
    """Return what a piece of code does, line numbers and names of files aside."""
    for each in _codes(code):
        yield each.co_code.hex()
        yield getattr(each, "co_exceptiontable", b"").hex()
        yield f"{each.co_argcount} {each.co_flags} {each.co_nlocals}"
        for names in (each.co_names, each.co_varnames, each.co_freevars, each.co_cellvars):
            yield ",".join(names)
        for constant in each.co_consts:
            yield "code" if isinstance(constant, types.CodeType) else _told(constant)


def _told(value: Any) -> str:
    """Return a text that no other value has."""
    kind = type(value)
    if kind in _PLAIN:
        return f"{kind.__name__}:{value!r}"
    if kind is tuple or kind is frozenset:
        items = [_told(item) for item in value]
        return f"{kind.__name__}({','.join(items if kind is tuple else sorted(items))})"
    if kind is Captured:
        if value.digest is None:
            raise _Unknown
        return f"function:{value.digest}"
    if isinstance(value, numpy.generic) and value.dtype.kind in "biufc":
        return f"scalar:{value.dtype.str}:{value.tobytes().hex()}"
    if kind is numpy.ndarray and value.dtype.kind in "biufc":
        content = hashlib.sha256(value.tobytes()).hexdigest()
        return f"array:{value.dtype.str}:{value.shape}:{_order(value.strides)}:{content}"
    if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] in _KNOWN_MODULES:
        return f"module:{value.__name__}"
    name = getattr(value, "__qualname__", getattr(value, "__name__", None))
    if callable(value) and _is_known(value) and name is not None:
        return f"{value.__class__.__name__}:{getattr(value, '__module__', None)}.{name}"
    raise _Unknown


def _order(strides: Sequence[int]) -> str:
    return ",".join(map(str, strides))
