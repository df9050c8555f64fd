"""Functions of the user's as operations: ``np.elementwise``."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy

from dispatcharr._config import options
from dispatcharr.expr.build import build
from dispatcharr.face import _fastpath
from dispatcharr.face.array import is_array, operand, unwrap
from dispatcharr.face.road import engine
from dispatcharr.face.waiting import may_wait, pend, run_now
from dispatcharr.ops.kinds import is_planned
from dispatcharr.storage import places

if TYPE_CHECKING:
    from dispatcharr.expr.nodes import Node
    from dispatcharr.kernels.custom import Function

__all__ = ["elementwise"]


class elementwise:
    """Make an operation on arrays of a Python function of numbers.

    The function is compiled, with numba's help, when it is first called with operands of new
    dtypes. Calls broadcast, wait and fuse as NumPy's own functions do here.

    Parameters
    ----------
    function : function
        Takes one number of each operand, by position, and returns a number, or a tuple of numbers
        for several results. Numba has to understand it: arithmetic, comparisons, branches, loops,
        ``math``, ``cmath``, NumPy's functions of numbers, other functions of that kind.

    Raises
    ------
    TypeError
        When it is made: it is not a function written in Python that takes a fixed number of
        arguments. When it is called: numba cannot type it for these operands, for a reason that the
        message quotes, or operands are not numbers.

    Notes
    -----
    Dtypes of results are what numba infers, which differs from NumPy's rules: Python's numbers,
    those in the function too, are int64 and float64, and integers are computed in 64 bits. Float16
    operands enter as float32.

    What the function refers to, global names and variables around it, is taken as it is at the
    first call, for good. A number that changes should be an argument: each value of a variable
    makes another function, which is compiled anew.

    Divisions by zero, overflows and the like give infinities and NaN and are not warned of. A
    function that may raise an exception is run at once, by a loop of numba's.

    Examples
    --------
    >>> import dispatcharr as np
    >>> @np.elementwise
    ... def smoothstep(x, low, high):
    ...     t = min(max((x - low) / (high - low), 0.0), 1.0)
    ...     return t * t * (3.0 - 2.0 * t)
    >>> smoothstep(np.linspace(0.0, 1.0, 5), 0.0, 1.0)
    array([0.     , 0.15625, 0.5    , 0.84375, 1.     ])
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if isinstance(function, elementwise):
            function = function.function
        _check(function)
        self.function: Callable[..., Any] = function
        functools.update_wrapper(self, function)

    @functools.cached_property
    def _function(self) -> Function:
        from dispatcharr.kernels.custom import function_of

        return function_of(self.function, known_to_numba)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result for each element, or a tuple of such results."""
        return self._applied(self._bound(args, kwargs))

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        signature = self._function.captured.signature
        if kwargs or len(args) != len(signature.parameters):
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self._function.name}{signature}: {error}") from None
            given.apply_defaults()
            args = tuple(given.arguments.values())
        return args

    def _applied(self, args: tuple[Any, ...]) -> Any:
        function = self._function
        values = tuple([_operand(function.name, value) for value in args])
        typed = function.typed(tuple([value.dtype for value in values]))
        shape = numpy.broadcast_shapes(*[value.shape for value in values])
        if 0 in shape:
            found = [_fastpath.wrap(numpy.empty(shape, dtype)) for dtype in typed.results]
        else:
            if shape == ():
                values = tuple([value.reshape(1) for value in values])
            nodes = [build(function.row(i), values) for i in range(len(typed.results))]
            found = _evaluated(nodes, shape == (), typed.scalar.at_once)
        return tuple(found) if typed.is_tuple else found[0]

    def __repr__(self) -> str:
        return f"<elementwise {self.function!r}>"

    def __reduce__(self) -> Any:
        # A decorated function is found by its name, as functions are; others are made anew.
        name = getattr(self, "__qualname__", "")
        found: Any = sys.modules.get(getattr(self, "__module__", None) or "")
        for part in name.split("."):
            found = getattr(found, part, None)
        return name if found is self else (elementwise, (self.function,))


def _check(function: Any) -> None:
    """Raise unless this is a function of Python's with a fixed number of arguments."""
    inner = getattr(function, "py_func", function)  # numba's own functions have one inside
    if type(inner) is not types.FunctionType:
        raise TypeError(
            f"elementwise: it takes a function written in Python, got {function!r}; put what is "
            "called into one: elementwise(lambda x: ...)"
        )
    parameters = inspect.signature(inner).parameters.values()
    odd = [str(each) for each in parameters if each.kind not in _POSITIONAL]
    if odd or not parameters:
        got = f"has {', '.join(odd)}" if odd else "takes nothing"
        raise TypeError(
            f"elementwise: {inner.__name__} {got}; it must take a fixed number of arguments by "
            "position, at least one"
        )


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _evaluated(nodes: list[Node], is_number: bool, at_once: bool) -> list[Any]:
    """Return an array for each node, or a number."""
    if is_number or at_once:
        engine.evaluate(nodes)
        if is_number:
            return [places.read(node.value)[0] for node in nodes if node.value is not None]
        return [_fastpath.wrap(node.value) for node in nodes]
    chosen = options()
    return [pend(node) if may_wait(node, chosen) else run_now(node) for node in nodes]


def _operand(name: str, value: Any) -> Any:
    """Return a node, or an array of NumPy's that kernels can read."""
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError(f"{name}: masked arrays are not understood; give it x.filled(...)")
    found = operand(value if is_array(value) else numpy.asarray(unwrap(value)))
    if not is_planned(found.dtype.newbyteorder("=")):
        raise TypeError(
            f"{name}: wanted numbers, got {found.dtype} in an operand of type "
            f"{type(value).__name__}; convert it to a dtype of numbers"
        )
    if type(found) is numpy.ndarray and not (found.dtype.isnative and found.flags.aligned):
        found = places.look(found).astype(found.dtype.newbyteorder("="))
    return found


def known_to_numba(value: Any) -> Any:
    """Return what numba knows in the place of ours: NumPy's modules, functions and arrays."""
    if isinstance(value, elementwise):
        return value.function
    if is_array(value):
        return unwrap(value)
    if isinstance(value, types.ModuleType):
        top, dot, rest = value.__name__.partition(".")
        if top == "dispatcharr":
            with contextlib.suppress(ModuleNotFoundError):  # what NumPy has none of stays ours
                return importlib.import_module("numpy" + dot + rest)
        return value
    if isinstance(value, _fastpath.Function):
        return value._ufunc
    return value._function if isinstance(value, _fastpath.Forward) else value
