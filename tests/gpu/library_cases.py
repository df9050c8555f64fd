"""Calls of NumPy's opaque functions that the device serves, with how near the answers must be."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy

__all__ = ["CASES", "Case", "agree", "wide"]

FLOATS = "fd"
COMPLEX = "fdFD"
INTEGERS = "bhilqBHILQ"
ANY = "?efdFD" + INTEGERS
LINEAR = "ilfdFD"


def _itself(*args: Any) -> tuple[Any, ...]:
    return args


@dataclass(frozen=True)
class Case:
    """One call: ``function(*make(dtype), **kwargs)``.

    Attributes
    ----------
    name : str
        Shown where it fails.
    function : callable
        NumPy's.
    make : callable
        Makes the arguments, arrays of a dtype among them.
    dtypes : str
        Those to try.
    tolerance : float
        How many units in the last place, of the largest element, answers of floats may be off.
    view : callable
        Makes arguments of arguments, after those were brought to the device.
    proof : callable, optional
        For answers of which there are many right ones: takes results and arguments, and returns
        pairs of what must agree.
    """

    name: str
    function: Callable[..., Any]
    make: Callable[[str], tuple[Any, ...]]
    dtypes: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0
    proof: Callable[..., Any] | None = None
    view: Callable[..., Any] = _itself

    def __str__(self) -> str:
        return self.name


def values(char: str, *shape: int, seed: int = 0) -> numpy.ndarray:
    """Return small integers, or normal deviates, of a dtype."""
    rng = numpy.random.default_rng([seed, len(shape), *shape])
    dtype = numpy.dtype(char)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind == "i":
        return rng.integers(-9, 10, shape).astype(dtype)
    if dtype.kind == "u":
        return rng.integers(0, 20, shape).astype(dtype)
    made = rng.standard_normal(shape)
    if dtype.kind == "c":
        made = made + 1j * rng.standard_normal(shape)
    return made.astype(dtype)


def wide(char: str, *shape: int) -> numpy.ndarray:
    """Return values that wrap when they are multiplied, for integers."""
    dtype = numpy.dtype(char)
    if dtype.kind not in "iu":
        return values(char, *shape)
    info = numpy.iinfo(dtype)
    rng = numpy.random.default_rng(shape)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def distinct(char: str, *shape: int) -> numpy.ndarray:
    """Return values no two of which are equal, if the dtype has as many."""
    rng = numpy.random.default_rng(shape)
    size = int(numpy.prod(shape))
    return rng.permutation(size).reshape(shape).astype(char)


def regular(char: str, n: int, *stack: int) -> numpy.ndarray:
    """Return matrices far from singular ones."""
    return (values(char, *stack, n, n) + 4 * n * numpy.eye(n)).astype(char)


def positive(char: str, n: int, *stack: int) -> numpy.ndarray:
    """Return Hermitian matrices with positive eigenvalues, some units apart."""
    spread = numpy.diag(numpy.arange(8 * n, 16 * n, 8))
    a = values(char, *stack, n, n)
    return ((a + a.conj().swapaxes(-1, -2)) / 8 + spread).astype(char)


def with_nan(char: str, *shape: int) -> numpy.ndarray:
    made = values(char, *shape)
    if made.dtype.kind == "f":
        made.reshape(-1)[::7] = numpy.nan
    return made


def picks(extent: int, *shape: int) -> numpy.ndarray:
    rng = numpy.random.default_rng(extent)
    return rng.integers(-extent, extent, shape)


def two(*shapes: tuple[int, ...]) -> Callable[[str], tuple[Any, ...]]:
    """Return what makes arrays of these shapes."""
    return lambda c: tuple([wide(c, *shape) for shape in shapes])


def _products() -> Iterator[Case]:
    for name, function, shapes in (
        ("matmul", numpy.matmul, ((130, 70), (70, 90))),
        ("matmul of vectors", numpy.matmul, ((300,), (300,))),
        ("matrix and vector", numpy.matmul, ((64, 300), (300,))),
        ("vector and matrix", numpy.matmul, ((300,), (300, 64))),
        ("stacks", numpy.matmul, ((5, 33, 40), (5, 40, 20))),
        ("broadcast stacks", numpy.matmul, ((33, 40), (5, 40, 20))),
        ("@", operator.matmul, ((65, 33), (33, 129))),
        ("dot", numpy.dot, ((50, 60), (60, 30))),
        ("dot of vectors", numpy.dot, ((500,), (500,))),
        ("dot of more axes", numpy.dot, ((4, 5, 60), (7, 60, 3))),
        ("inner", numpy.inner, ((40, 60), (30, 60))),
    ):
        yield Case(name, function, two(*shapes), ANY, tolerance=40)
    yield Case("transposed", numpy.matmul, two((40, 30), (80, 20)), ANY, tolerance=40,
               view=lambda a, b: (a.T, b[::2, ::-1]))  # fmt: skip


def _more_products() -> Iterator[Case]:
    more = "efdFD" + INTEGERS
    for name, function, shapes in (
        ("vdot", numpy.vdot, ((20, 30), (20, 30))),
        ("outer", numpy.outer, ((70,), (90,))),
        ("kron", numpy.kron, ((7, 8), (9, 10))),
    ):
        yield Case(name, function, two(*shapes), more, tolerance=40)
    for name in ("vecdot", "matvec", "vecmat"):
        function = getattr(numpy, name, None)
        if function is not None:
            shapes = {"vecdot": ((9, 40), (9, 40)), "matvec": ((30, 40), (9, 40))}
            made = two(*shapes.get(name, ((9, 30), (30, 40))))
            yield Case(name, function, made, more, tolerance=40)
    for axes, shapes in (
        (1, ((5, 6, 7), (7, 8))), (2, ((5, 6, 7), (6, 7, 8))), (([0], [1]), ((6, 5), (7, 6))),
    ):  # fmt: skip
        yield Case(f"tensordot, {axes}", numpy.tensordot, two(*shapes), more, {"axes": axes}, 40)
    yield Case("tensordot to a number", numpy.tensordot, two((9, 8), (9, 8)), more, tolerance=40)
    for text, shapes in (
        ("ij,jk->ik", ((30, 40), (40, 20))),
        ("bij,bjk->bik", ((3, 10, 12), (3, 12, 11))),
        ("i,i", ((300,), (300,))),
        ("ij,kj,kl->il", ((8, 9), (7, 9), (7, 6))),
        ("...i,...i->...", ((5, 6, 20), (5, 6, 20))),
        ("ij,jk->ki", ((13, 14), (14, 15))),
    ):
        yield Case(f"einsum {text}", numpy.einsum, two(*shapes), more, tolerance=60,
                   view=lambda *o, text=text: (text, *o))  # fmt: skip
    yield Case("matrix_power", numpy.linalg.matrix_power,
               lambda c: (wide(c, 20, 20) if c in INTEGERS else values(c, 20, 20) / 5, 5),
               "fdFD" + INTEGERS, tolerance=200)  # fmt: skip


def _linear() -> Iterator[Case]:
    la = numpy.linalg
    n = 60
    for name, function, make in (
        ("solve", la.solve, lambda c: (regular(c, n), values(c, n, 5))),
        ("solve of a vector", la.solve, lambda c: (regular(c, n), values(c, n))),
        ("solve of stacks", la.solve, lambda c: (regular(c, 12, 3), values(c, 3, 12, 4))),
        ("inv", la.inv, lambda c: (regular(c, n),)),
        ("inv of stacks", la.inv, lambda c: (regular(c, 9, 4),)),
        ("det", la.det, lambda c: (regular(c, 9),)),
        ("det of stacks", la.det, lambda c: (regular(c, 5, 4),)),
        ("slogdet", la.slogdet, lambda c: (regular(c, n),)),
        ("cholesky", la.cholesky, lambda c: (positive(c, n),)),
        ("cholesky of stacks", la.cholesky, lambda c: (positive(c, 9, 4),)),
        ("eigvalsh", la.eigvalsh, lambda c: (positive(c, n),)),
        ("svdvals", la.svdvals, lambda c: (values(c, n, 40),)),
        ("pinv", la.pinv, lambda c: (regular(c, n)[:, :40],)),
        ("lstsq", la.lstsq, lambda c: (regular(c, n)[:, :30], values(c, n, 3))),
        ("lstsq of a vector", la.lstsq, lambda c: (regular(c, n)[:, :30], values(c, n))),
    ):
        yield Case(name, function, make, LINEAR, tolerance=400)
    for name, kwargs in (
        ("norm", {}), ("norm, 1", {"ord": 1}), ("norm, inf", {"ord": numpy.inf}),
        ("norm, fro", {"ord": "fro"}), ("norm of rows", {"axis": 1}),
        ("norm of columns, kept", {"axis": 0, "keepdims": True}),
        ("norm of rows, inf", {"axis": 1, "ord": numpy.inf}),
        ("norm of rows, 1", {"axis": -1, "ord": 1}),
    ):  # fmt: skip
        yield Case(name, la.norm, lambda c: (values(c, 50, 70),), LINEAR, kwargs, 60)
    yield Case("norm of a vector", la.norm, lambda c: (values(c, 999),), LINEAR, tolerance=60)
    yield Case("trace", numpy.trace, lambda c: (values(c, 50, 70),), "fdFD" + INTEGERS,
               {"offset": 3}, 60)  # fmt: skip
    yield Case("qr", la.qr, lambda c: (values(c, n, 40),), LINEAR, {}, 400, _qr)
    yield Case("qr, complete", la.qr, lambda c: (values(c, n, 40),), LINEAR,
               {"mode": "complete"}, 400, _qr)  # fmt: skip
    yield Case("svd", la.svd, lambda c: (values(c, n, 40),), LINEAR, {}, 400, _svd)
    yield Case("svd, thin", la.svd, lambda c: (values(c, 40, n),), LINEAR,
               {"full_matrices": False}, 400, _svd)  # fmt: skip
    yield Case("eigh", la.eigh, lambda c: (positive(c, n),), LINEAR, {}, 400, _eigh)
    yield Case("eigh, U", la.eigh, lambda c: (positive(c, n),), LINEAR, {"UPLO": "U"}, 400, _eigh)


def _qr(made: Any, wanted: Any, a: numpy.ndarray) -> Iterator[tuple[Any, Any]]:
    yield made[0] @ made[1], a
    yield made[0].conj().T @ made[0], numpy.eye(made[0].shape[1])
    yield numpy.abs(made[1]), numpy.abs(wanted[1])


def _svd(made: Any, wanted: Any, a: numpy.ndarray) -> Iterator[tuple[Any, Any]]:
    k = len(made[1])
    yield (made[0][:, :k] * made[1]) @ made[2][:k], a
    yield made[1], wanted[1]
    yield made[0].conj().T @ made[0], numpy.eye(made[0].shape[1])


def _eigh(made: Any, wanted: Any, a: numpy.ndarray) -> Iterator[tuple[Any, Any]]:
    yield made[0], wanted[0]
    yield a @ made[1], made[1] * made[0]


def _fourier() -> Iterator[Case]:
    all_, real = "ilfdFD", "ilfd"
    for name in ("fft", "ifft", "irfft", "hfft", "rfft", "ihfft"):
        function = getattr(numpy.fft, name)
        dtypes = real if name in ("rfft", "ihfft") else all_
        for kwargs in ({}, {"n": 50}, {"n": 77, "axis": 0}, {"norm": "ortho"},
                       {"norm": "forward", "axis": 1}):  # fmt: skip
            yield Case(f"{name} {kwargs}", function, lambda c: (values(c, 60, 64),), dtypes,
                       kwargs, 60)  # fmt: skip
        yield Case(f"{name} of a view", function, lambda c: (values(c, 1009),), dtypes,
                   tolerance=100, view=lambda a: (a[1:],))  # fmt: skip
    for name in ("fftn", "ifftn", "fft2", "ifft2", "rfftn", "rfft2", "irfftn", "irfft2"):
        function = getattr(numpy.fft, name)
        dtypes = real if name.startswith("rfft") else all_
        for kwargs in ({}, {"axes": (0, 1)}, {"s": (9, 30), "axes": (0, 2)}, {"norm": "ortho"},
                       {"axes": (1,)}):  # fmt: skip
            yield Case(f"{name} {kwargs}", function, lambda c: (values(c, 10, 12, 14),), dtypes,
                       kwargs, 100)  # fmt: skip
    for name in ("fftshift", "ifftshift"):
        function = getattr(numpy.fft, name)
        yield Case(name, function, lambda c: (values(c, 9, 10),), all_)


def _ordering() -> Iterator[Case]:
    ordered = "?efd" + INTEGERS
    for kwargs in ({}, {"axis": 0}, {"axis": None}, {"kind": "stable"}):
        yield Case(f"sort {kwargs}", numpy.sort, lambda c: (wide(c, 40, 300),), ordered, kwargs)
        yield Case(f"sort {kwargs}, nan", numpy.sort, lambda c: (with_nan(c, 40, 30),), "efd",
                   kwargs)  # fmt: skip
    for kwargs in ({}, {"axis": 0}, {"axis": None}):
        yield Case(f"argsort {kwargs}", numpy.argsort, lambda c: (distinct(c, 30, 30),), "hilfd",
                   kwargs)  # fmt: skip
        yield Case(f"argsort {kwargs}, stable", numpy.argsort, lambda c: (with_nan(c, 40, 50),),
                   ordered, kwargs | {"kind": "stable"})  # fmt: skip
    for kwargs in ({}, {"return_index": True}, {"return_inverse": True, "return_counts": True},
                   {"equal_nan": False}):  # fmt: skip
        yield Case(f"unique {kwargs}", numpy.unique, lambda c: (with_nan(c, 40, 50),), ordered,
                   kwargs)  # fmt: skip
    for name in ("unique_counts", "unique_inverse", "unique_all"):
        yield Case(name, getattr(numpy, name), lambda c: (values(c, 40, 50),), ordered)
    for side in ("left", "right"):
        yield Case(f"searchsorted, {side}", numpy.searchsorted,
                   lambda c: (numpy.sort(with_nan(c, 700)), with_nan(c, 30, 20)), ordered,
                   {"side": side})  # fmt: skip
    yield Case("bincount", numpy.bincount, lambda c: (abs(values(c, 5000)),), "bhilBHI",
               {"minlength": 25})  # fmt: skip
    for kwargs in ({}, {"bins": 37}, {"range": (-1.0, 1.5), "bins": 9}, {"density": True}):
        yield Case(f"histogram {kwargs}", numpy.histogram, lambda c: (values(c, 90, 100),),
                   "fdbhiBHI", kwargs)  # fmt: skip


def _indexing() -> Iterator[Case]:
    def at(key: Any) -> Callable[[str], tuple[Any, ...]]:
        return lambda c: (values(c, 30, 40, 5), key)

    mask = numpy.random.default_rng(3).random((30, 40)) < 0.3
    for name, key in (
        ("one", picks(30, 17)), ("two", (picks(30, 17), picks(40, 17))),
        ("in the middle", (slice(None), picks(40, 9, 3))),
        ("apart", (picks(30, 17), slice(1, 30, 2), picks(5, 17))),
        ("with a number", (3, picks(40, 8))), ("a mask", mask),
        ("a mask of one axis", (slice(None), mask[0])), ("after dots", (..., picks(5, 4))),
        ("broadcast", (picks(30, 6, 1), picks(40, 1, 7))), ("a list", [3, -1, 2]),
        ("with a new axis", (None, picks(30, 4), slice(None, None, -1))),
        ("small indices", picks(30, 17).astype("b")),
    ):  # fmt: skip
        yield Case(f"index by {name}", operator.getitem, at(key), ANY)
    yield Case("take", numpy.take, lambda c: (values(c, 30, 40), picks(1200, 99)), ANY)
    yield Case("take of columns", numpy.take, lambda c: (values(c, 30, 40), picks(40, 9, 3)), ANY,
               {"axis": 1})  # fmt: skip
    yield Case("take_along_axis", numpy.take_along_axis,
               lambda c: (values(c, 30, 40), picks(40, 30, 7)), ANY, {"axis": 1})  # fmt: skip
    for function in (numpy.nonzero, numpy.where, numpy.flatnonzero, numpy.argwhere):
        yield Case(function.__name__, function, lambda c: (values(c, 30, 40),), ANY)


def _shaping() -> Iterator[Case]:
    def three(c: str) -> tuple[Any, ...]:
        return ([values(c, 20, 30, seed=seed) for seed in range(3)],)

    for function in (numpy.concatenate, numpy.stack, numpy.vstack, numpy.hstack):
        yield Case(function.__name__, function, three, ANY)
    yield Case("column_stack", numpy.column_stack, three, ANY)
    yield Case("concatenate, 1", numpy.concatenate, three, ANY, {"axis": 1})
    yield Case("concatenate, None", numpy.concatenate, three, ANY, {"axis": None})
    yield Case("stack, -1", numpy.stack, three, ANY, {"axis": -1})
    yield Case("concatenate of two dtypes", numpy.concatenate,
               lambda c: ([values(c, 9), values("f", 8)],), ANY)  # fmt: skip
    for name, args, kwargs in (
        ("tile", (3,), {}), ("tile", ((2, 1, 3),), {}), ("repeat", (3,), {}),
        ("repeat", (2,), {"axis": 0}), ("roll", (7,), {}), ("roll", (-3,), {"axis": 1}),
        ("roll", ((2, 3),), {"axis": (0, 1)}), ("pad", (2,), {}), ("pad", (((1, 2), (0, 3)),), {}),
        ("pad", (4,), {"mode": "edge"}), ("pad", (4,), {"mode": "reflect"}),
        ("pad", (4,), {"mode": "symmetric"}), ("tril", (), {}), ("triu", (2,), {}),
        ("copy", (), {}),
    ):  # fmt: skip
        yield Case(f"{name} {args} {kwargs}", getattr(numpy, name),
                   lambda c, args=args: (values(c, 20, 30), *args), ANY, kwargs)  # fmt: skip
    sums = "?" + INTEGERS + "fdFD"
    for kwargs in ({}, {"axis": 0}, {"axis": 1}):
        yield Case(f"cumsum {kwargs}", numpy.cumsum, lambda c: (wide(c, 90, 700),), sums, kwargs,
                   3000)  # fmt: skip
        yield Case(f"cumprod {kwargs}", numpy.cumprod,
                   lambda c: (values(c, 9, 90) ** 0 if c in "FDfd" else wide(c, 9, 90),), sums,
                   kwargs, 60)  # fmt: skip
    for kwargs in ({}, {"axis": 0}, {"n": 3}):
        yield Case(f"diff {kwargs}", numpy.diff, lambda c: (wide(c, 40, 50),), ANY, kwargs)


CASES = [
    *_products(),
    *_more_products(),
    *_linear(),
    *_fourier(),
    *_ordering(),
    *_indexing(),
    *_shaping(),
]


def agree(case: Case, made: Any, wanted: Any, args: tuple[Any, ...]) -> str | None:
    """Return how an answer differs from NumPy's by more than it may; None where it does not."""
    if type(made) is not type(wanted):
        return f"type {type(made).__name__}, not {type(wanted).__name__}"
    if isinstance(wanted, (tuple, list)):
        if len(made) != len(wanted):
            return f"{len(made)} results, not {len(wanted)}"
        if case.proof is None:
            found = [agree(case, m, w, args) for m, w in zip(made, wanted, strict=True)]
            return next((reason for reason in found if reason), None)
        for m, w in zip(made, wanted, strict=True):
            if m.dtype != w.dtype or m.shape != w.shape:
                return f"{m.dtype} {m.shape}, not {w.dtype} {w.shape}"
        floats = made[1].dtype
        for m, w in case.proof(made, wanted, *args):
            off = _off(m, w, floats, case.tolerance)
            if off:
                return off
        return None
    made, wanted = numpy.asarray(made), numpy.asarray(wanted)
    if made.dtype != wanted.dtype or made.shape != wanted.shape:
        return f"{made.dtype} {made.shape}, not {wanted.dtype} {wanted.shape}"
    return _off(made, wanted, wanted.dtype, case.tolerance)


def _off(made: Any, wanted: Any, dtype: Any, tolerance: float) -> str | None:
    if dtype.kind not in "fc" or not tolerance:
        same = numpy.array_equal(made, wanted, equal_nan=dtype.kind in "fc")
        return None if same else f"{made!r} is not {wanted!r}"
    size = float(numpy.max(numpy.abs(wanted), initial=0)) or 1.0
    off = float(numpy.max(numpy.abs(made - wanted), initial=0)) / size
    units = off / float(numpy.finfo(dtype).eps)
    return None if units <= tolerance else f"off by {units:.0f} units of the largest element"
