"""Products of matrices and of tensors: cuBLAS, and a kernel of CuPy's for integers.

Half precision is multiplied in single: cuBLAS may add halves up as halves, and a product of two
would overflow where NumPy's sum, which is one of singles, does not. Integers wrap as NumPy's do.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from dispatcharr.backends.library.table import ANY, NUMBERS, need, serves

__all__: list[str] = []


def _multiplied(cp: Any, function: Callable[..., Any], *operands: Any) -> Any:
    """Call ``function`` on operands of one dtype that is safe to multiply in."""
    for operand in operands:
        need(isinstance(operand, cp.ndarray), "an operand is no array")
    common = cp.result_type(*[o.dtype for o in operands])
    inner = cp.dtype("f") if common == cp.dtype("e") else common
    made = function(*[o.astype(inner, copy=False) for o in operands])
    return made.astype(common, copy=False)


@serves("matmul", "linalg.matmul", operator.matmul, dtypes=ANY, results="*", finite="results")
def matmul(cp: Any, a: Any, b: Any, /) -> Any:
    """Serve :func:`numpy.matmul`."""
    return _multiplied(cp, cp.matmul, a, b)


@serves("dot", "ndarray.dot", dtypes=ANY, results="*", finite="results")
def dot(cp: Any, a: Any, b: Any) -> Any:
    """Serve :func:`numpy.dot` of arrays with axes."""
    need(getattr(a, "ndim", 0) and getattr(b, "ndim", 0), "an operand has no axes")
    return _multiplied(cp, cp.dot, a, b)


@serves("inner", dtypes=ANY, results="*", finite="results")
def inner(cp: Any, a: Any, b: Any, /) -> Any:
    """Serve :func:`numpy.inner` of arrays with axes."""
    need(getattr(a, "ndim", 0) and getattr(b, "ndim", 0), "an operand has no axes")
    return _multiplied(cp, cp.inner, a, b)


@serves("vdot", dtypes=NUMBERS, results="*", finite="results")
def vdot(cp: Any, a: Any, b: Any, /) -> Any:
    """Serve :func:`numpy.vdot`."""
    need(isinstance(a, cp.ndarray) and isinstance(b, cp.ndarray), "an operand is no array")
    return _multiplied(cp, cp.vdot, a.ravel(), b.ravel())


@serves("vecdot", dtypes=NUMBERS, results="*", finite="results")
@serves("linalg.vecdot", dtypes=NUMBERS, results="*", finite="results")
def vecdot(cp: Any, x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Serve :func:`numpy.vecdot` along the last axis."""
    need(axis == -1, "an axis is given")

    def multiply(a: Any, b: Any) -> Any:
        return cp.matmul(a.conj()[..., None, :], b[..., :, None])[..., 0, 0]

    return _multiplied(cp, multiply, x1, x2)


@serves("matvec", dtypes=NUMBERS, results="*", finite="results")
def matvec(cp: Any, x1: Any, x2: Any, /) -> Any:
    """Serve :func:`numpy.matvec`."""

    def multiply(a: Any, b: Any) -> Any:
        return cp.matmul(a, b[..., None])[..., 0]

    return _multiplied(cp, multiply, x1, x2)


@serves("vecmat", dtypes=NUMBERS, results="*", finite="results")
def vecmat(cp: Any, x1: Any, x2: Any, /) -> Any:
    """Serve :func:`numpy.vecmat`."""

    def multiply(a: Any, b: Any) -> Any:
        return cp.matmul(a.conj()[..., None, :], b)[..., 0, :]

    return _multiplied(cp, multiply, x1, x2)


@serves("outer", "linalg.outer", dtypes=NUMBERS, results="*", finite="results")
def outer(cp: Any, a: Any, b: Any) -> Any:
    """Serve :func:`numpy.outer`."""
    need(isinstance(a, cp.ndarray) and isinstance(b, cp.ndarray), "an operand is no array")
    return cp.multiply(a.ravel()[:, None], b.ravel()[None, :])


@serves("kron", dtypes=NUMBERS, results="*", finite="results")
def kron(cp: Any, a: Any, b: Any) -> Any:
    """Serve :func:`numpy.kron` of arrays with as many axes."""
    need(getattr(a, "ndim", 0) == getattr(b, "ndim", 0) > 0, "operands of different axes")
    return cp.kron(a, b)


@serves("tensordot", "linalg.tensordot", dtypes=NUMBERS, results="*", finite="results",
        scalar=False)  # fmt: skip
def tensordot(cp: Any, a: Any, b: Any, axes: Any = 2) -> Any:
    """Serve :func:`numpy.tensordot`."""
    need(not isinstance(axes, cp.ndarray), "axes are an array")
    return _multiplied(cp, lambda p, q: cp.tensordot(p, q, axes=axes), a, b)


@serves("einsum", dtypes=NUMBERS, results="*", finite="results")
def einsum(cp: Any, subscripts: Any, /, *operands: Any, optimize: Any = False) -> Any:
    """Serve :func:`numpy.einsum` of two or more operands; of one it may be a view."""
    need(isinstance(subscripts, str), "its subscripts are no string")
    need(len(operands) > 1, "of one operand it may be a view")
    need(isinstance(optimize, (bool, str)), "a path is given")
    return _multiplied(cp, lambda *o: cp.einsum(subscripts, *o, optimize=optimize), *operands)


@serves("linalg.matrix_power", dtypes=NUMBERS, results="=", finite="results")
def matrix_power(cp: Any, a: Any, n: Any) -> Any:
    """Serve :func:`numpy.linalg.matrix_power` of positive powers."""
    need(type(n) is int and n > 1, "the power is not 2 or more")
    need(a.dtype.char != "e" and a.ndim >= 2 and a.shape[-1] == a.shape[-2], "no square matrix")
    return cp.linalg.matrix_power(a, n)
