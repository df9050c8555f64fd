"""Functions that go through an array from end to end, and the operations that add it up on the way.

All that there are kernels for beside elementwise operations, reductions and contractions: their
names, and for each running operation how it is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "CUMULATIVE", "DIFFERENCE", "DIFFERENCE_OF_BOOLS", "FUNCTIONS", "METHODS", "RUNNING", "Running",
    "least_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Running:
    """An operation of two elements that NumPy can accumulate.

    Attributes
    ----------
    name : str
        The ufunc's.
    signed, unsigned, real : str
        LLVM's instructions; of floats also ``"upper"`` and ``"lower"``, which are several, and
        nothing where there is none.
    called : bool
        Whether those of integers are functions.
    joins : bool
        Whether integers may be taken in any order.
    silent : bool
        Whether it never errs, though its kernel may report NaN.
    """

    name: str
    signed: str
    unsigned: str
    real: str = ""
    called: bool = False
    joins: bool = True
    silent: bool = False


RUNNING: Mapping[str, Running] = {
    row.name: row
    for row in (
        Running("add", "add", "add", "fadd"),
        Running("multiply", "mul", "mul", "fmul"),
        Running("subtract", "sub", "sub", "fsub", joins=False),
        Running("maximum", "smax", "umax", "upper", called=True, silent=True),
        Running("minimum", "smin", "umin", "lower", called=True, silent=True),
        Running("bitwise_and", "and", "and"),
        Running("bitwise_or", "or", "or"),
        Running("bitwise_xor", "xor", "xor"),
    )
}

#: What ends the names of functions that accumulate: the operation, and what stands for NaN in those
#: that leave it out.
CUMULATIVE: Mapping[str, tuple[str, float]] = {"sum": ("add", 0.0), "prod": ("multiply", 1.0)}

FUNCTIONS = (
    "argwhere", "bincount", "compress", "cumprod", "cumsum", "cumulative_prod", "cumulative_sum",
    "diff", "digitize", "extract", "flatnonzero", "histogram", "isin", "nancumprod", "nancumsum",
    "nonzero", "searchsorted", "take", "unique", "where",
)  # fmt: skip
#: What ``diff`` does with neighbours.
DIFFERENCE, DIFFERENCE_OF_BOOLS = "subtract", "not_equal"
METHODS = ("compress", "cumprod", "cumsum", "nonzero", "searchsorted", "take")

#: Elements for which NumPy takes 100 us or so, of floats, integers and bools: a look whether it is
#: to do so takes 5 us. By the end of a function's name; what is slower is looked at from 8,192 on.
_LEAST: Mapping[str, tuple[int, int, int]] = {
    "accumulate": (1 << 14, 1 << 17, 1 << 17), "cumsum": (1 << 14, 1 << 17, 1 << 17),
    "cumprod": (1 << 14, 1 << 17, 1 << 17), "cumulative_sum": (1 << 14, 1 << 17, 1 << 17),
    "cumulative_prod": (1 << 14, 1 << 17, 1 << 17), "nonzero": (1 << 15, 1 << 16, 1 << 19),
    "argwhere": (1 << 15, 1 << 15, 1 << 17), "compress": (1 << 16, 1 << 17, 1 << 17),
    "extract": (1 << 16, 1 << 17, 1 << 17), "take": (1 << 17, 1 << 17, 1 << 17),
    "bincount": (1 << 17, 1 << 17, 1 << 17), "isin": (1 << 15, 1 << 15, 1 << 15),
    "diff": (1 << 18, 1 << 18, 1 << 18),
}  # fmt: skip
_SLOW = 1 << 13


def least_of(road: str, kind: str) -> int:
    """Return from how many elements on a call is worth a look, by the kind of their dtype.

    Examples
    --------
    >>> least_of("histogram", "f")
    8192
    """
    name = road.rpartition(".")[2]
    found = _LEAST.get(name.removeprefix("nan").removeprefix("flat"), (_SLOW, _SLOW, _SLOW))
    return found["fib".index(kind if kind != "u" else "i")]
