"""``dispatcharr explain``: an expression over arrays made up for it, its plan and its prices."""

from __future__ import annotations

import ast
import builtins
import math
import re
from types import CodeType
from typing import Any

import click
import numpy

from dispatcharr.cli.console import print_json
from dispatcharr.explain.text import in_bytes

__all__ = ["explain"]

Shape = tuple[int, ...]


def explain(expression: str, size: str, dtype: str, as_json: bool) -> None:
    """Print how dispatcharr evaluates ``expression`` on random arrays."""
    import dispatcharr
    from dispatcharr.face.context import explain

    code, names, functions = _parsed(expression)
    shape, kind = _shape(size), _dtype(dtype)
    _check_memory(names, shape, kind)
    draw = numpy.random.default_rng(0)
    # Arrays of its own: what NumPy could still see would not be deferred.
    values: dict[str, Any] = {name: dispatcharr.array(_random(draw, shape, kind)) for name in names}
    values |= {name: getattr(dispatcharr, name) for name in functions}
    values |= {"np": dispatcharr, "numpy": dispatcharr}
    try:
        explain(lambda: eval(code, values))  # the first time of anything is no measure of it
        report = explain(lambda: eval(code, values))
    except Exception as error:
        raise click.ClickException(f"{expression}: {type(error).__name__}: {error}") from error
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(str(report))


def _parsed(expression: str) -> tuple[CodeType, list[str], list[str]]:
    """Return the code, the names of its arrays, and of NumPy's functions called without `np.`."""
    import dispatcharr

    try:
        tree = ast.parse(expression.strip(), "<expression>", "eval")
    except SyntaxError as error:
        column = max((error.offset or 1) - 1, 0)
        message = f"not an expression: {error.msg}\n  {error.text or expression}\n  {' ' * column}^"
        raise click.BadParameter(message, param_hint="'EXPRESSION'") from None
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    # A comprehension's and a lambda's own names are bound inside the expression.
    bound = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    free = {name.id for name in names} - bound - {"np", "numpy", *dir(builtins)}
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    functions = {name.id for name in names if name in called} & free
    for name in sorted(functions):
        if not hasattr(dispatcharr, name):
            message = f"{name!r} is called, but NumPy has no function of that name"
            raise click.BadParameter(message, param_hint="'EXPRESSION'")
    return compile(tree, "<expression>", "eval"), sorted(free - functions), sorted(functions)


def _shape(size: str) -> Shape:
    """Return the shape that ``1e7``, ``2000x2000`` or ``100,200,3`` means."""
    shape = []
    for part in re.split(r"[x,*]", size.strip("() ").lower()):
        try:
            length = float(part)
        except ValueError:
            length = math.nan
        if not (length >= 1 and length.is_integer()):
            raise click.BadParameter(
                f"{size!r}: wanted a number of elements such as 1e7, or a shape such as 2000x2000",
                param_hint="'--size'",
            )
        shape.append(int(length))
    return tuple(shape)


def _dtype(name: str) -> numpy.dtype[Any]:
    try:
        dtype = numpy.dtype(name)
    except TypeError:
        dtype = numpy.dtype(object)
    if dtype.kind not in "biufc":
        message = f"{name!r}: wanted the name of a number's dtype, such as float32"
        raise click.BadParameter(message, param_hint="'--dtype'")
    return dtype


def _check_memory(names: list[str], shape: Shape, dtype: numpy.dtype[Any]) -> None:
    """Raise if the arrays, a copy while they are made and a result cannot fit."""
    from dispatcharr.cli.info import free_memory

    wanted = (len(names) + 2) * math.prod(shape) * dtype.itemsize
    free = free_memory()
    if free is not None and wanted > free:
        raise click.BadParameter(
            f"{len(names)} arrays of {'x'.join(map(str, shape))} {dtype} and a result need about "
            f"{in_bytes(wanted)}, but {in_bytes(free)} of memory are free; ask for a smaller size",
            param_hint="'--size'",
        )


def _random(draw: numpy.random.Generator, shape: Shape, dtype: numpy.dtype[Any]) -> Any:
    """Return numbers between 0 and 1; from 1 to 99 for integers."""
    if dtype.kind in "iu":
        return draw.integers(1, 100, shape, dtype)
    if dtype.kind == "b":
        return draw.integers(0, 2, shape, numpy.uint8).astype(bool)
    values = draw.random(shape, numpy.float32 if dtype.itemsize <= 4 else numpy.float64)
    # Zero itself is left out: a logarithm of it would warn.
    numpy.maximum(values, numpy.finfo(values.dtype).tiny, out=values)
    return values.astype(dtype, copy=False)
