"""The rows. To add an operation, add a row; to change one, change its row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy

from dispatcharr.ops.masks import BRANCHES, is_patchy
from dispatcharr.ops.row import Elementwise, Generator

__all__ = ["BY_NAME", "BY_UFUNC", "COPY", "ELEMENTWISE", "GENERATORS"]


def _row(name: str, cost: str, nin: int, operator: str | None = None, **more: Any) -> Elementwise:
    """Make the row of NumPy's ufunc ``name``."""
    ufunc = getattr(numpy, name)
    aliases = tuple(
        other
        for other in ("abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh",
                      "bitwise_invert", "bitwise_left_shift", "bitwise_not",
                      "bitwise_right_shift", "conj", "divide", "mod", "pow", "true_divide")
        if other != name and getattr(numpy, other, None) is ufunc
    )  # fmt: skip
    return Elementwise(name, ufunc, cost, nin, operator=operator, aliases=aliases, **more)


#: Unsigned integers by their size in bytes.
_WORDS = {1: numpy.uint8, 2: numpy.uint16, 4: numpy.uint32, 8: numpy.uint64}
#: Elements whose passes stay in the cache.
_STRIP = 1 << 15


def _where_dtype(_: Any, x: Any, y: Any) -> numpy.dtype[Any]:
    return numpy.result_type(x, y)


def _where_fill(operands: tuple[Any, ...], out: numpy.ndarray) -> None:
    condition, x, y = operands
    if condition.dtype != bool:
        condition = condition != 0
    choose = _way(condition, x, y, out)
    if out.ndim != 1:
        choose(condition, x, y, out)
        return
    for start in range(0, len(out), _STRIP):
        part = slice(start, start + _STRIP)
        c, a, b = [o[part] if o.ndim and len(o) > 1 else o for o in (condition, x, y)]
        choose(c, a, b, out[part])


def _way(condition: Any, x: Any, y: Any, out: numpy.ndarray) -> Callable[..., None]:
    """Return how to write ``out``, which may be one of the operands."""
    if numpy.may_share_memory(out, condition):
        return _choose_first
    same = x.dtype == y.dtype == out.dtype
    if same and out.itemsize in _WORDS and is_patchy(condition, BRANCHES * out.itemsize):
        return _choose_bits
    return _choose_first if numpy.may_share_memory(out, x) else _choose_runs


def _choose_first(condition: Any, x: Any, y: Any, out: numpy.ndarray) -> None:
    numpy.copyto(out, numpy.where(condition, x, y), casting="unsafe")


def _choose_runs(condition: Any, x: Any, y: Any, out: numpy.ndarray) -> None:
    numpy.copyto(out, y, casting="unsafe")
    numpy.copyto(out, x, where=condition, casting="unsafe")


def _choose_bits(condition: Any, x: Any, y: Any, out: numpy.ndarray) -> None:
    """Write ``y ^ ((x ^ y) * condition)``, on the bits: no branches and no temporary."""
    word = _WORDS[out.itemsize]
    bits, ours, other = out.view(word), x.view(word), y.view(word)
    if numpy.may_share_memory(out, y):
        condition, ours, other = numpy.logical_not(condition), other, ours
    numpy.bitwise_xor(ours, other, out=bits)
    numpy.multiply(bits, condition, out=bits)
    numpy.bitwise_xor(bits, other, out=bits)


def _clip_fill(operands: tuple[Any, ...], out: numpy.ndarray) -> None:
    x, low, high = operands
    numpy.clip(x, low, high, out=out)


def _cast_fill(operands: tuple[Any, ...], out: numpy.ndarray) -> None:
    numpy.copyto(out, operands[0], casting="unsafe")


def _may_be_negative_power(operands: tuple[Any, ...]) -> bool:
    base, exponent = operands
    if base.dtype.kind not in "biu" or exponent.dtype.kind != "i":
        return False
    return not (type(exponent) is numpy.ndarray and exponent >= 0)


def _clip_dtype(x: Any, low: Any, high: Any) -> numpy.dtype[Any]:
    return numpy.result_type(x, low, high)


#: Elementwise operations. One line each: name, cost class, operands, operator, error class.
ELEMENTWISE: tuple[Elementwise, ...] = (
    _row("add", "arith", 2, "add"),
    _row("subtract", "arith", 2, "sub"),
    _row("multiply", "arith", 2, "mul"),
    _row("divide", "divide", 2, "truediv", errors="any"),
    _row("floor_divide", "int_divide", 2, "floordiv", errors="any"),
    _row("remainder", "int_divide", 2, "mod", errors="any"),
    _row("power", "power", 2, "pow", errors="any", refuses=_may_be_negative_power),
    _row("float_power", "float_power", 2, errors="any"),
    _row("fmod", "int_divide", 2, errors="any"),
    _row("maximum", "arith", 2),
    _row("minimum", "arith", 2),
    _row("fmax", "arith", 2),
    _row("fmin", "arith", 2),
    _row("arctan2", "atan2", 2),
    _row("hypot", "hypot", 2),
    _row("logaddexp", "special", 2),
    _row("logaddexp2", "special", 2),
    _row("copysign", "exp", 2, errors="none"),
    _row("nextafter", "hypot", 2),
    _row("ldexp", "divide", 2),
    _row("heaviside", "step", 2),
    _row("gcd", "special", 2, errors="none"),
    _row("lcm", "special", 2, errors="none"),
    _row("bitwise_and", "arith", 2, "and", errors="none"),
    _row("bitwise_or", "arith", 2, "or", errors="none"),
    _row("bitwise_xor", "arith", 2, "xor", errors="none"),
    _row("left_shift", "arith", 2, "lshift", errors="none"),
    _row("right_shift", "arith", 2, "rshift", errors="none"),
    _row("logical_and", "arith", 2, errors="none"),
    _row("logical_or", "arith", 2, errors="none"),
    _row("logical_xor", "arith", 2, errors="none"),
    _row("less", "compare", 2, "lt"),
    _row("less_equal", "compare", 2, "le"),
    _row("equal", "compare", 2, "eq"),
    _row("not_equal", "compare", 2, "ne"),
    _row("greater", "compare", 2, "gt"),
    _row("greater_equal", "compare", 2, "ge"),
    _row("negative", "arith", 1, "neg", errors="none"),
    _row("positive", "copy", 1, "pos", errors="none"),
    _row("absolute", "arith", 1, "abs"),
    _row("fabs", "exp", 1, errors="none"),
    _row("invert", "arith", 1, "invert", errors="none"),
    _row("logical_not", "arith", 1, errors="none"),
    _row("bitwise_count", "arith", 1, errors="none"),
    _row("conjugate", "arith", 1, errors="none"),
    _row("square", "arith", 1),
    _row("reciprocal", "divide", 1, errors="any"),
    _row("sqrt", "sqrt", 1),
    _row("cbrt", "exp", 1),
    _row("rint", "round", 1),
    _row("floor", "round", 1),
    _row("ceil", "round", 1),
    _row("trunc", "round", 1),
    _row("sign", "round", 1),
    _row("exp", "exp", 1),
    _row("exp2", "exp", 1),
    _row("expm1", "exp", 1),
    _row("log", "log", 1),
    _row("log2", "log", 1),
    _row("log10", "log", 1),
    _row("log1p", "log", 1),
    _row("sin", "trig", 1),
    _row("cos", "trig", 1),
    _row("tan", "tan", 1),
    _row("arcsin", "inverse_trig", 1),
    _row("arccos", "inverse_trig", 1),
    _row("arctan", "inverse_trig", 1),
    _row("sinh", "hyperbolic", 1),
    _row("cosh", "hyperbolic", 1),
    _row("tanh", "tanh", 1),
    _row("arcsinh", "hyperbolic", 1),
    _row("arccosh", "hyperbolic", 1),
    _row("arctanh", "hyperbolic", 1),
    _row("degrees", "exp", 1),
    _row("radians", "exp", 1),
    _row("deg2rad", "exp", 1),
    _row("rad2deg", "exp", 1),
    _row("isfinite", "predicate", 1, errors="none"),
    _row("isinf", "predicate", 1, errors="none"),
    _row("isnan", "predicate", 1, errors="none"),
    _row("signbit", "predicate", 1, errors="none"),
    _row("spacing", "power", 1),
    _row("modf", "round", 1, nout=2),
    _row("frexp", "special", 1, nout=2),
    _row("divmod", "int_divide", 2, "divmod", nout=2, errors="any"),
    Elementwise("where", None, "select", 3, errors="none", result=_where_dtype, fill=_where_fill),
    Elementwise("clip", None, "arith", 3, errors="none", result=_clip_dtype, fill=_clip_fill),
    Elementwise("astype", None, "cast", 1, errors="any", fill=_cast_fill),
)  # fmt: skip


def _full_fill(params: tuple[Any, ...], start: int, out: numpy.ndarray) -> None:
    out[...] = params[0]


def _arange_fill(params: tuple[Any, ...], start: int, out: numpy.ndarray) -> None:
    # NumPy writes the first two elements, then first + i * (second - first) in the dtype itself.
    first, step = params
    index = numpy.arange(start, start + len(out), dtype=out.dtype)
    numpy.multiply(index, step, out=out)
    numpy.add(out, first, out=out)


def _linspace_fill(params: tuple[Any, ...], start: int, out: numpy.ndarray) -> None:
    # NumPy computes arange(num) * step + start in float64, then sets the last element to stop.
    first, step, last, size = params
    index = numpy.arange(start, start + len(out), dtype=numpy.float64)
    numpy.multiply(index, step, out=index)
    numpy.add(index, first, out=out, casting="unsafe")
    if last is not None and start + len(out) == size:
        out[-1] = last


GENERATORS: tuple[Generator, ...] = (
    Generator("full", "generate", _full_fill),
    Generator("arange", "generate", _arange_fill),
    Generator("linspace", "generate", _linspace_fill),
)


def _names() -> Iterator[tuple[str, Elementwise]]:
    for row in ELEMENTWISE:
        for name in (row.name, *row.aliases):
            yield name, row


BY_NAME: dict[str, Elementwise] = dict(_names())
#: The row that copies its operand.
COPY = BY_NAME["positive"]
BY_UFUNC: dict[numpy.ufunc, Elementwise] = {
    row.ufunc: row for row in ELEMENTWISE if row.ufunc is not None
}
