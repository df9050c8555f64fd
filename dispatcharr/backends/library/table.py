"""The rows: which of NumPy's functions CuPy may stand in for, and what is checked of each.

A row's ``run`` takes CuPy and then the arguments by NumPy's names. What it does not name is not
served: a keyword that is missing from its signature, like anything else that makes it fail, leaves
the call to NumPy, which also words every error of the program's. So a row may be narrower than
NumPy's function, but it may not differ:

- ``dtypes`` are those that its operands may have;
- ``results`` says what NumPy makes of them; what CuPy returns is compared before anybody sees it;
- ``finite`` says where infinities and NaN are looked for. Among results they are what NumPy warns
  of. What iterates may fail without a word, or worse, on them and on huge numbers: then operands
  and results are looked at, whatever is to be reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

__all__ = [
    "ANY", "FLOATS", "INTEGERS", "LINEAR", "NUMBERS", "ORDERED", "TABLE", "Declined", "Row",
    "expected", "named", "need", "serves",
]  # fmt: skip

INTEGERS = "bhilqBHILQ"
FLOATS = "fd"
ORDERED = "?efd" + INTEGERS
NUMBERS = INTEGERS + "efdFD"
ANY = "?" + NUMBERS
#: Linear algebra computes in these, and takes integers for float64.
LINEAR = INTEGERS + "fdFD"


class Declined(Exception):
    """CuPy does not serve a call; the message is the reason, told to whoever asks for it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One function; see the module's docstring.

    Attributes
    ----------
    name : str
        As NumPy calls it.
    run : callable
        ``run(cupy, *args, **kwargs)``.
    dtypes : str
        Characters of the dtypes that arrays among the arguments may have.
    results : str
        The dtype of each array among the results, by a letter; see :func:`expected`.
    finite : {"", "results", "both"}
        Where values that are not finite make NumPy's answer another one than CuPy's.
    scalar : bool
        Whether NumPy gives a scalar for what has no axes.
    """

    name: str
    run: Callable[..., Any]
    dtypes: str
    results: str
    finite: str
    scalar: bool


#: By NumPy's function, its implementation behind ``__array_function__``, or a method.
TABLE: dict[Any, Row] = {}


def named(path: str) -> Any:
    """Return NumPy's function of this name; None where this NumPy has none."""
    found: Any = numpy
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def serves(
    *paths: str | Callable[..., Any],
    dtypes: str,
    results: str,
    finite: str = "",
    scalar: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that makes a row of a function for each of these names of NumPy's."""

    def add(run: Callable[..., Any]) -> Callable[..., Any]:
        for path in paths:
            function = named(path) if isinstance(path, str) else path
            name = path if isinstance(path, str) else getattr(path, "__name__", run.__name__)
            if function is None:
                continue
            row = Row(name, run, dtypes, results, finite, scalar)
            TABLE[function] = row
            implementation = getattr(function, "_implementation", None)
            if implementation is not None:
                TABLE[implementation] = row
        return run

    return add


def need(holds: Any, reason: str) -> None:
    """Decline with ``reason`` unless ``holds``."""
    if not holds:
        raise Declined(reason)


def _linear(dtype: numpy.dtype[Any]) -> numpy.dtype[Any]:
    return dtype if dtype.kind in "fc" else numpy.dtype("d")


def _added(dtype: numpy.dtype[Any]) -> numpy.dtype[Any]:
    if dtype.kind not in "biu" or dtype.itemsize >= numpy.dtype("l").itemsize:
        return dtype
    return numpy.dtype("L" if dtype.kind == "u" else "l")


def _real(dtype: numpy.dtype[Any]) -> numpy.dtype[Any]:
    return numpy.dtype(dtype.char.lower()) if dtype.kind == "c" else dtype


def _complex(dtype: numpy.dtype[Any]) -> numpy.dtype[Any]:
    return numpy.dtype("F" if dtype.char in "efF" else "D")


def expected(letter: str, dtypes: Sequence[numpy.dtype[Any]]) -> numpy.dtype[Any]:
    """Return the dtype of a result by its letter.

    ``=`` is that of the first operand, ``*`` the common one of all; ``l`` and ``r`` what linear
    algebra computes in and its real part; ``c`` and ``f`` what Fourier transforms give; ``s`` what
    sums are added up in; ``i`` is that of indices, ``n`` that of ranks.
    """
    first = dtypes[0]
    match letter:
        case "=":
            return first
        case "*":
            return numpy.result_type(*dtypes)
        case "l":
            return _linear(numpy.result_type(*dtypes))
        case "r":
            return _real(_linear(numpy.result_type(*dtypes)))
        case "c":
            return _complex(first)
        case "f":
            return _real(_complex(first))
        case "s":
            return _added(first)
        case "n":
            return numpy.dtype(numpy.int32)
        case _:
            return numpy.dtype(numpy.intp)
