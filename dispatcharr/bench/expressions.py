"""The expressions: written once, with ``np`` standing for whoever evaluates them.

``compute`` is NumPy code; :func:`under` returns the same code with another module in the place of
``np``. ``formula`` is the same as text, for the libraries that take text. Counts of arithmetic are
nominal: one for each of ``+ - * /``, comparison, selection, absolute value and root, and
:data:`FUNCTION` for a function such as ``exp``. Bytes are those that must move at the least: every
operand read once, the result written once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy
import numpy as np

from dispatcharr._errors import OptionError

__all__ = ["EXPRESSIONS", "FUNCTION", "Expression", "chosen_expressions", "under"]

#: Operations that a function such as ``exp`` counts for.
FUNCTION = 16
RATE = 0.03

Array = numpy.ndarray
Maker = Callable[[int, numpy.dtype[Any]], tuple[Array, ...]]


def under(compute: Callable[..., Any], module: Any) -> Callable[..., Any]:
    """Return ``compute`` with ``module`` in the place of ``np``.

    Examples
    --------
    >>> import math
    >>> under(_sine, math)(0.0)
    0.0
    """
    assert isinstance(compute, FunctionType)
    names = {**compute.__globals__, "np": module}
    made = FunctionType(compute.__code__, names, compute.__name__, compute.__defaults__)
    made.__module__ = compute.__module__
    return made


def _values(seed: int, shape: Sequence[int], dtype: numpy.dtype[Any]) -> Array:
    """Return numbers of magnitude 0.25 to 2: no function here meets an error on them."""
    draw = numpy.random.default_rng(seed)
    size = math.prod(shape)
    return (0.25 + 1.75 * draw.random(size, numpy.float64)).astype(dtype).reshape(shape)


def _line(count: int) -> Maker:
    def make(size: int, dtype: numpy.dtype[Any]) -> tuple[Array, ...]:
        return tuple(_values(seed, (size,), dtype) for seed in range(count))

    return make


def _square(count: int) -> Maker:
    def make(size: int, dtype: numpy.dtype[Any]) -> tuple[Array, ...]:
        side = max(round(size ** (1 / 2)), 3)
        return tuple(_values(seed, (side, side), dtype) for seed in range(count))

    return make


def _cube(count: int) -> Maker:
    def make(size: int, dtype: numpy.dtype[Any]) -> tuple[Array, ...]:
        side = max(round(size ** (1 / 3)), 2)
        return tuple(_values(seed, (side,) * 3, dtype) for seed in range(count))

    return make


def _market(size: int, dtype: numpy.dtype[Any]) -> tuple[Array, ...]:
    """Return spot prices, strikes, years and volatilities."""
    draw = numpy.random.default_rng(2024)
    spot = draw.uniform(20.0, 180.0, size)
    columns = (
        spot,
        spot * draw.uniform(0.7, 1.3, size),
        draw.uniform(0.05, 3.0, size),
        draw.uniform(0.1, 0.6, size),
    )
    return tuple(column.astype(dtype) for column in columns)


@dataclass(frozen=True)
class Expression:
    """A computation on arrays.

    Attributes
    ----------
    name : str
        As it is asked for.
    title : str
        As it is shown.
    names : str
        Names of the arrays in ``formula``, one letter each.
    compute : callable
        ``compute(*arrays)``, NumPy code.
    formula : str
        The same as text, with functions only: no ``np.``, no methods.
    operations : int
        Nominal arithmetic per element.
    make : callable
        ``make(size, dtype)`` returns the arrays, of about that many elements each.
    views : callable or None
        What ``names`` stand for, where they are views of the arrays.
    reduces : bool
        Whether it sums, so that the order of summation shows in its last digits.
    extra : tuple of int
        Sizes that belong to it beside those asked for.
    """

    name: str
    title: str
    names: str
    compute: Callable[..., Any]
    formula: str
    operations: int
    make: Maker
    views: Callable[..., tuple[Any, ...]] | None = None
    reduces: bool = False
    extra: tuple[int, ...] = ()

    def operands(self, arrays: Sequence[Any]) -> dict[str, Any]:
        """Return what the names in ``formula`` stand for."""
        found = arrays if self.views is None else self.views(*arrays)
        return dict(zip(self.names, found, strict=True))


# Functions of ours, not NumPy's: what `np` stands for changes.
def _sine(a: Any) -> Any:
    return np.sin(a)


def _exponential(a: Any) -> Any:
    return np.exp(a)


def _tangent(a: Any) -> Any:
    return np.tanh(a)


def _black_scholes(s: Any, k: Any, y: Any, v: Any) -> Any:
    """Price calls; the error function is Abramowitz and Stegun's formula 7.1.26."""
    spread = v * np.sqrt(y)
    d1 = (np.log(s / k) + (RATE + 0.5 * v * v) * y) / spread
    d2 = d1 - spread
    t1 = 1.0 / (1.0 + 0.23164189 * np.abs(d1))
    t2 = 1.0 / (1.0 + 0.23164189 * np.abs(d2))
    p1 = 0.254829592 + t1 * (
        -0.284496736 + t1 * (1.421413741 + t1 * (-1.453152027 + t1 * 1.061405429))
    )
    p2 = 0.254829592 + t2 * (
        -0.284496736 + t2 * (1.421413741 + t2 * (-1.453152027 + t2 * 1.061405429))
    )
    c1 = 0.5 + 0.5 * np.copysign(1.0 - t1 * p1 * np.exp(-0.5 * d1 * d1), d1)
    c2 = 0.5 + 0.5 * np.copysign(1.0 - t2 * p2 * np.exp(-0.5 * d2 * d2), d2)
    return s * c1 - k * np.exp(-RATE * y) * c2


def _black_scholes_text() -> str:
    d1 = f"((log(s / k) + ({RATE} + 0.5 * v * v) * y) / (v * sqrt(y)))"
    d2 = f"({d1} - (v * sqrt(y)))"

    def cdf(d: str) -> str:
        t = f"(1.0 / (1.0 + 0.23164189 * abs({d})))"
        p = "1.061405429"
        for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            p = f"({factor} + {t} * {p})"
        near = f"(1.0 - {t} * {p} * exp(-0.5 * {d} * {d}))"
        return f"(0.5 + 0.5 * where({d} < 0, -{near}, {near}))"

    return f"s * {cdf(d1)} - k * exp(-{RATE} * y) * {cdf(d2)}"


def _five_points(u: Any) -> tuple[Any, ...]:
    return u[1:-1, 1:-1], u[:-2, 1:-1], u[2:, 1:-1], u[1:-1, 2:], u[1:-1, :-2]


def _stencil(u: Any) -> Any:
    around = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
    return u[1:-1, 1:-1] + 0.1 * (around - 4.0 * u[1:-1, 1:-1])


_ALL = (
    Expression("addition", "a+b", "ab", lambda a, b: a + b, "a + b", 1, _line(2)),
    Expression(
        "polynomial", "2*a+3*b-a*b", "ab",
        lambda a, b: 2 * a + 3 * b - a * b, "2*a + 3*b - a*b", 5, _line(2),
    ),
    Expression("sine", "sin(a)", "a", _sine, "sin(a)", FUNCTION, _line(1)),
    Expression("exponential", "exp(a)", "a", _exponential, "exp(a)", FUNCTION, _line(1)),
    Expression("tangent", "tanh(a)", "a", _tangent, "tanh(a)", FUNCTION, _line(1)),
    Expression(
        "trigonometry", "sin(a)**2+cos(b)**2", "ab",
        lambda a, b: np.sin(a) ** 2 + np.cos(b) ** 2, "sin(a)**2 + cos(b)**2",
        2 * FUNCTION + 3, _line(2),
    ),
    Expression(
        "logistic", "1/(1+exp(-a))", "a",
        lambda a: 1 / (1 + np.exp(-a)), "1/(1 + exp(-a))", FUNCTION + 3, _line(1),
    ),
    Expression(
        "distance", "sqrt(a*a+b*b)", "ab",
        lambda a, b: np.sqrt(a * a + b * b), "sqrt(a*a + b*b)", 4, _line(2),
    ),
    Expression(
        "square_sum", "((a-b)**2).sum()", "ab",
        lambda a, b: ((a - b) ** 2).sum(), "sum((a - b)**2)", 3, _line(2), reduces=True,
    ),
    Expression(
        "deviation", "a.std()", "a", lambda a: a.std(), "std(a)", 4, _line(1), reduces=True
    ),
    Expression(
        "selection", "where(a>b,a,b)*2", "ab",
        lambda a, b: np.where(a > b, a, b) * 2, "where(a > b, a, b)*2", 3, _line(2),
    ),
    Expression(
        "black_scholes", "Black-Scholes", "skyv",
        _black_scholes, _black_scholes_text(), 4 * FUNCTION + 48, _market,
    ),
    Expression(
        "stencil", "five-point stencil", "cnsew", _stencil,
        "c + 0.1*(n + s + e + w - 4.0*c)", 7, _square(1), _five_points, extra=(4_000_000,),
    ),
    Expression(
        "column_sums", "(a*b+a).sum(axis=0)", "ab",
        lambda a, b: (a * b + a).sum(axis=0), "sum(a*b + a, axis=0)", 3, _square(2), reduces=True,
    ),
    Expression(
        "row_sums", "(a*b+a).sum(axis=1)", "ab",
        lambda a, b: (a * b + a).sum(axis=1), "sum(a*b + a, axis=1)", 3, _square(2), reduces=True,
    ),
    Expression(
        "last_axis_sums", "(a*b+a).sum(axis=2)", "ab",
        lambda a, b: (a * b + a).sum(axis=2), "sum(a*b + a, axis=2)", 3, _cube(2), reduces=True,
    ),
)  # fmt: skip

#: By name, in the order of the tables.
EXPRESSIONS = {one.name: one for one in _ALL}


def chosen_expressions(names: Sequence[str] | None) -> list[Expression]:
    """Return the expressions of these names or titles; all of them for None.

    Examples
    --------
    >>> [one.title for one in chosen_expressions(["sine", "a + b"])]
    ['sin(a)', 'a+b']
    """
    if names is None:
        return list(_ALL)
    titles = {one.title.replace(" ", ""): one for one in _ALL}
    found = [EXPRESSIONS.get(name) or titles.get(name.replace(" ", "")) for name in names]
    unknown = [repr(name) for name, one in zip(names, found, strict=True) if one is None]
    if unknown:
        raise OptionError(
            f"bench: no expression {', '.join(unknown)}; there are {', '.join(EXPRESSIONS)}"
        )
    return [one for one in dict.fromkeys(found) if one is not None]
