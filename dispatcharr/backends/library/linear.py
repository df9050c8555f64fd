"""Linear algebra: cuSOLVER through ``cupy.linalg``.

CuPy looks at cuSOLVER's flags only when it is told to, which whoever calls these functions does;
what they then raise is raised again by NumPy on the host, in its own words. Not all of its failures
are told: operands of any size and results are looked at too, and matrices stay below what singular
values were seen to go wrong at. NumPy's named tuples are taken from its answer to one element.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy

from dispatcharr.backends.library.table import LINEAR, need, serves

__all__: list[str] = []

#: Elements of a matrix from which singular values have come out wrong.
_LARGEST = 1 << 28


@cache
def _tuple(name: str, **options: Any) -> Any:
    """Return the class of the results of a function of ``numpy.linalg``."""
    return type(getattr(numpy.linalg, name)(numpy.ones((1, 1)), **options))


def _matrix(cp: Any, a: Any, square: bool = False) -> None:
    need(isinstance(a, cp.ndarray) and a.ndim == 2, "no single matrix")
    need(not square or a.shape[0] == a.shape[1], "its matrix is not square")
    need(a.size < _LARGEST, "a matrix this large")


def _squares(cp: Any, a: Any) -> None:
    need(isinstance(a, cp.ndarray) and a.ndim >= 2 and a.shape[-1] == a.shape[-2], "no square")


@serves("linalg.solve", dtypes=LINEAR, results="l", finite="both")
def solve(cp: Any, a: Any, b: Any) -> Any:
    """Serve :func:`numpy.linalg.solve` where no operand is broadcast."""
    _squares(cp, a)
    need(isinstance(b, cp.ndarray), "an operand is no array")
    plain = b.ndim == 1 == a.ndim - 1
    need(plain or (b.ndim == a.ndim and a.shape[:-1] == b.shape[:-1]), "an operand is broadcast")
    return cp.linalg.solve(a, b)


@serves("linalg.inv", dtypes=LINEAR, results="l", finite="both")
def inv(cp: Any, a: Any) -> Any:
    """Serve :func:`numpy.linalg.inv`."""
    _squares(cp, a)
    return cp.linalg.inv(a)


@serves("linalg.det", dtypes=LINEAR, results="l", finite="both")
def det(cp: Any, a: Any) -> Any:
    """Serve :func:`numpy.linalg.det`."""
    _squares(cp, a)
    return cp.linalg.det(a)


@serves("linalg.slogdet", dtypes=LINEAR, results="lr", finite="both")
def slogdet(cp: Any, a: Any) -> Any:
    """Serve :func:`numpy.linalg.slogdet` of matrices that are not singular."""
    _squares(cp, a)
    return _tuple("slogdet")(*cp.linalg.slogdet(a))


@serves("linalg.cholesky", dtypes=LINEAR, results="l", finite="both")
def cholesky(cp: Any, a: Any, /, *, upper: Any = False) -> Any:
    """Serve :func:`numpy.linalg.cholesky`, the lower triangle."""
    _squares(cp, a)
    need(upper is False, "the upper triangle")
    return cp.linalg.cholesky(a)


@serves("linalg.qr", dtypes=LINEAR, results="ll", finite="both")
def qr(cp: Any, a: Any, mode: Any = "reduced") -> Any:
    """Serve :func:`numpy.linalg.qr` of one matrix."""
    _matrix(cp, a)
    need(mode in ("reduced", "complete", "r"), "a mode for experts")
    made = cp.linalg.qr(a, mode)
    return made if mode == "r" else _tuple("qr")(*made)


@serves("linalg.svd", dtypes=LINEAR, results="lrl", finite="both")
def svd(
    cp: Any, a: Any, full_matrices: Any = True, compute_uv: Any = True, hermitian: Any = False
) -> Any:
    """Serve :func:`numpy.linalg.svd` of one matrix, with its vectors."""
    _matrix(cp, a)
    need(hermitian is False and compute_uv is True, "keywords that are not served")
    return _tuple("svd")(*cp.linalg.svd(a, bool(full_matrices)))


@serves("linalg.svdvals", dtypes=LINEAR, results="r", finite="both")
def svdvals(cp: Any, x: Any, /) -> Any:
    """Serve :func:`numpy.linalg.svdvals` of one matrix."""
    _matrix(cp, x)
    return cp.linalg.svd(x, compute_uv=False)


@serves("linalg.eigh", dtypes=LINEAR, results="rl", finite="both")
def eigh(cp: Any, a: Any, UPLO: Any = "L") -> Any:
    """Serve :func:`numpy.linalg.eigh` of one matrix."""
    _matrix(cp, a, square=True)
    need(UPLO in ("L", "U"), "no triangle of that name")
    return _tuple("eigh")(*cp.linalg.eigh(a, UPLO))


@serves("linalg.eigvalsh", dtypes=LINEAR, results="r", finite="both")
def eigvalsh(cp: Any, a: Any, UPLO: Any = "L") -> Any:
    """Serve :func:`numpy.linalg.eigvalsh` of one matrix."""
    _matrix(cp, a, square=True)
    need(UPLO in ("L", "U"), "no triangle of that name")
    return cp.linalg.eigvalsh(a, UPLO)


@serves("linalg.pinv", dtypes=LINEAR, results="l", finite="both")
def pinv(cp: Any, a: Any, rcond: Any = None) -> Any:
    """Serve :func:`numpy.linalg.pinv` of one matrix."""
    _matrix(cp, a)
    need(rcond is None or type(rcond) is float, "rcond is no float")
    return cp.linalg.pinv(a, 1e-15 if rcond is None else rcond)


@serves("linalg.lstsq", dtypes=LINEAR, results="lrnr", finite="both")
def lstsq(cp: Any, a: Any, b: Any, rcond: Any = None) -> Any:
    """Serve :func:`numpy.linalg.lstsq`."""
    _matrix(cp, a)
    need(isinstance(b, cp.ndarray) and b.ndim in (1, 2), "an operand is no vector or matrix")
    need(rcond is None or (type(rcond) is float and 0 < rcond < 1), "rcond is not within 0 and 1")
    x, residuals, rank, values = cp.linalg.lstsq(a, b, rcond)
    return x, residuals, cp.asarray(rank), values


@serves("linalg.norm", dtypes=LINEAR, results="r", finite="results")
def norm(cp: Any, x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    """Serve the norms of :func:`numpy.linalg.norm` that are sums or extremes."""
    need(isinstance(x, cp.ndarray), "the operand is no array")
    axes = x.ndim if axis is None else 1 if type(axis) is int else 2
    need(axis is None or type(axis) is int or type(axis) is tuple, "axis is of another type")
    vector = (None, 2, 1, math.inf, -math.inf)
    matrix = (None, "fro", 1, math.inf, -math.inf)
    plain = ord is None and axis is None
    need(plain or ord in (vector if axes == 1 else matrix if axes == 2 else ()), "that norm")
    return cp.linalg.norm(x, ord, axis, bool(keepdims))


@serves("trace", "ndarray.trace", dtypes=LINEAR, results="s", finite="results")
def trace(cp: Any, a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Serve :func:`numpy.trace`."""
    return cp.trace(a, offset, axis1, axis2)
