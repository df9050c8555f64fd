"""What operations are tried on: special values of every dtype, and every layout in memory.

A layout is a function of an array that both NumPy's arrays and ours understand, so that views of
ours are made by our own indexing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

import dispatcharr as np

DTYPES = "?bBhHiIlLqQefdFD"
#: One dtype of each kind, in the order in which rows are asked which they understand.
KINDS = "dfFlB?"
_FLOATS = (
    numpy.nan, numpy.inf, -numpy.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.7, 1e-3, 88.5, 1e4
)  # fmt: skip


def specials(char: str) -> numpy.ndarray:
    """Return the values of dtype ``char`` that are most often treated wrongly."""
    dtype = numpy.dtype(char)
    if dtype.kind == "b":
        return numpy.array([False, True])
    if dtype.kind in "iu":
        info = numpy.iinfo(dtype)
        found = [0, 1, 2, 3, 7, 63, info.max, info.max - 1, info.min, info.min + 1]
        return numpy.array([*found, *([-1, -2, -7] if dtype.kind == "i" else [])], dtype)
    info = numpy.finfo(dtype)
    real = numpy.array(
        [*_FLOATS, info.smallest_subnormal, -info.smallest_subnormal, info.tiny, info.max,
         -info.max, info.eps],
        info.dtype,
    )  # fmt: skip
    if dtype.kind == "f":
        return real
    few = real[[0, 1, 2, 3, 4, 5, 9, 13, 16]]
    made = numpy.empty((len(few), len(few)), dtype)
    made.real, made.imag = few[:, None], few
    return made.reshape(-1)


def pairs(*chars: str) -> tuple[numpy.ndarray, ...]:
    """Return operands of these dtypes in which every special value meets every other."""
    values = [specials(char) for char in chars]
    if len(chars) > 2:
        values = [v[:: len(v) // 20 + 1] for v in values]
    grid = numpy.indices([len(v) for v in values]).reshape(len(values), -1)
    return tuple(v[index] for v, index in zip(values, grid, strict=True))


def filled(char: str, shape: Any, seed: int = 0) -> numpy.ndarray:
    """Return an array of ordinary values with some special ones strewn in."""
    random = numpy.random.default_rng([seed, ord(char)])
    dtype = numpy.dtype(char)
    size = int(numpy.prod(shape, dtype=int))
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        made = random.integers(1, 100, size).astype(dtype)
    else:
        made = (random.normal(size=size) * 3).astype(dtype)
        if dtype.kind == "c":
            made.imag = random.normal(size=size)
    strewn = specials(char)
    if size > 2 * len(strewn):
        made[random.permutation(size)[: len(strewn)]] = strewn
    return made.reshape(shape)


def tame(char: str, shape: Any, seed: int = 0) -> numpy.ndarray:
    """Return values near one, none of them special."""
    random = numpy.random.default_rng([seed, ord(char)])
    dtype = numpy.dtype(char)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return random.integers(1, 6, shape).astype(dtype)
    made = random.uniform(0.1, 2, shape).astype(dtype)
    if dtype.kind == "c":
        made.imag = random.normal(size=shape)
    return made


def _misaligned(a: Any) -> Any:
    """Return ``a`` one byte off: a field of packed records."""
    record = numpy.dtype([("pad", "u1"), ("x", a.dtype)])
    raw = type(a)(a.shape, record)
    field = raw["x"]
    field[...] = a
    return field


def _broadcast_to(a: Any, shape: tuple[int, ...]) -> Any:
    return (np if type(a) is np.ndarray else numpy).broadcast_to(a, shape)


def _read_only(a: Any) -> Any:
    view = a[...]
    view.flags.writeable = False
    return view


def _big_endian(a: Any) -> Any:
    return a.astype(a.dtype.newbyteorder(">"))


#: name -> (shape of the base array, what is made of it)
LAYOUTS: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "contiguous": ((24,), lambda a: a),
    "strided": ((48,), lambda a: a[::2]),
    "backwards": ((24,), lambda a: a[::-1]),
    "backwards strided": ((71,), lambda a: a[::-3]),
    "rows of a grid": ((9, 7), lambda a: a[1:-1, 2:-1]),
    "every other column": ((6, 9), lambda a: a[:, ::2]),
    "Fortran": ((5, 6), lambda a: a.T),
    "transposed 3-d": ((3, 4, 5), lambda a: a.transpose(2, 0, 1)),
    "3-d, axes reversed": ((3, 4, 5), lambda a: a[::-1, :, ::-1].transpose(1, 2, 0)),
    "column": ((1, 6), lambda a: a.T),
    "one column": ((6, 1), lambda a: a),
    "spread": ((6,), lambda a: _broadcast_to(a, (4, 6))),
    "spread over columns": ((6, 1), lambda a: _broadcast_to(a, (6, 4))),
    "axes of length one": ((1, 6, 1, 3), lambda a: a.transpose(0, 3, 2, 1)),
    "empty": ((0,), lambda a: a),
    "empty 2-d": ((3, 0), lambda a: a.T),
    "0-d": ((), lambda a: a),
    "big-endian": ((24,), _big_endian),
    "misaligned": ((24,), _misaligned),
    "misaligned 2-d": ((4, 6), lambda a: _misaligned(a).T),
    "read-only": ((24,), _read_only),
}
#: name -> what two operands are made of one array: the same memory seen twice.
OVERLAPS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "the same": lambda a: (a, a),
    "shifted": lambda a: (a[1:], a[:-1]),
    "backwards": lambda a: (a, a[::-1]),
    "row and column": lambda a: (a[:36].reshape(6, 6), a[:36].reshape(6, 6).T),
    "row spread": lambda a: (a[:36].reshape(6, 6), a[:6]),
    "column spread": lambda a: (a[:36].reshape(6, 6), a[:36].reshape(6, 6)[:, :1]),
}
