"""Expressions that fuse, written once for NumPy and dispatcharr, and their times on both.

A function takes the module that stands for ``np``; its arrays are made by a maker of the shape that
it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy

import dispatcharr

from .operands import copied, values

__all__ = ["EXPRESSIONS", "Expression"]

Arrays = tuple[Any, ...]


def _line(size: int, dtype: str) -> Arrays:
    return values(dtype, size), values(dtype, size, 1)


def _table(size: int, dtype: str) -> Arrays:
    columns = min(1000, size)
    return (values(dtype, size // columns * columns).reshape(-1, columns),)


def _grid(size: int, dtype: str) -> Arrays:
    side = round(size**0.5)
    u = values(dtype, side * side).reshape(side, side)
    return u, numpy.zeros_like(u)


@dataclass(frozen=True)
class Expression:
    """A computation on arrays.

    Attributes
    ----------
    compute : callable
        ``compute(np, *arrays)``.
    make : callable
        ``make(size, dtype)`` returns NumPy's arrays.
    """

    compute: Callable[..., Any]
    make: Callable[[int, str], Arrays] = _line


def polynomial(np: Any, a: Any, b: Any) -> Any:
    return 2 * a + 3 * b - a * b


def trigonometry(np: Any, a: Any, b: Any) -> Any:
    return np.sin(a) ** 2 + np.cos(b) ** 2


def square_sum(np: Any, a: Any, b: Any) -> Any:
    return ((a - b) ** 2).sum()


def stencil(np: Any, u: Any, v: Any) -> Any:
    around = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
    v[1:-1, 1:-1] = u[1:-1, 1:-1] + 0.1 * (around - 4 * u[1:-1, 1:-1])
    return v


def softmax(np: Any, x: Any) -> Any:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def black_scholes(np: Any, spot: Any, strike: Any) -> Any:
    rate, volatility, years = 0.02, 0.3, 1.5
    spread = volatility * years**0.5
    d1 = (np.log(spot / strike) + (rate + volatility**2 / 2) * years) / spread
    d2 = d1 - spread
    # A logistic stands in for the normal distribution, of which NumPy has none.
    return spot / (1 + np.exp(-1.702 * d1)) - strike * np.exp(-rate * years) / (
        1 + np.exp(-1.702 * d2)
    )


def selection(np: Any, a: Any, b: Any) -> Any:
    return np.where(a > b, np.sqrt(a), b * b + 1)


def deviation(np: Any, a: Any, b: Any) -> Any:
    return (a - b).std()


def standardised(np: Any, a: Any, b: Any) -> Any:
    return (a - a.mean()) / a.std()


def centred_columns(np: Any, x: Any) -> Any:
    return x - x.mean(axis=0)


def logistic(np: Any, a: Any, b: Any) -> Any:
    return 1 / (1 + np.exp(-(a - b)))


def quantised(np: Any, a: Any, b: Any) -> Any:
    return np.clip(np.rint(a * 255), 0, 255).astype(np.uint8)


def mean_error(np: Any, a: Any, b: Any) -> Any:
    return np.abs(a - b).mean()


EXPRESSIONS: dict[str, Expression] = {
    "polynomial": Expression(polynomial),
    "trigonometry": Expression(trigonometry),
    "square_sum": Expression(square_sum),
    "stencil": Expression(stencil, _grid),
    "softmax": Expression(softmax, _table),
    "black_scholes": Expression(black_scholes),
    "selection": Expression(selection),
    "deviation": Expression(deviation),
    "standardised": Expression(standardised),
    "centred_columns": Expression(centred_columns, _table),
    "logistic": Expression(logistic),
    "quantised": Expression(quantised),
    "mean_error": Expression(mean_error),
}


# The runner calls ``setup`` before every single execution.
@lru_cache(maxsize=2)
def _arrays(name: str, size: int, dtype: str) -> tuple[Arrays, Arrays]:
    expression = EXPRESSIONS[name]
    arrays = expression.make(size, dtype)
    ours = copied(arrays)
    # Threads, profile and plan are there from now on.
    dispatcharr.evaluate(expression.compute(dispatcharr, *ours))
    return arrays, ours


class Expressions:
    """Seconds of each expression, evaluated, on both sides."""

    params = (list(EXPRESSIONS), [100_000, 2_000_000])
    param_names = ("expression", "size")

    def setup(self, name: str, size: int) -> None:
        self.compute = EXPRESSIONS[name].compute
        self.numpys, self.ours = _arrays(name, size, "float64")

    def time_numpy(self, name: str, size: int) -> None:
        self.compute(numpy, *self.numpys)

    def time_dispatcharr(self, name: str, size: int) -> None:
        dispatcharr.evaluate(self.compute(dispatcharr, *self.ours))
