"""Fourier transforms: cuFFT.

cuFFT wants pointers that are multiples of its elements, which those of views need not be. Of
transforms of many axes back to reals it computes the last axis in a way of its own, which agrees
with NumPy's only where the input has the symmetry that it should have: so those are done here as
NumPy does them, the last axis after all others. And where the first and the middle frequency have
an imaginary part, which they should not have either, it does not always leave it out: it is left
out here.
"""

from __future__ import annotations

from typing import Any

from dispatcharr.backends.library.table import INTEGERS, need, serves

__all__: list[str] = []

_REAL = INTEGERS + "fd"
_ALL = _REAL + "FD"
_ALIGNMENT = 16


def _ready(cp: Any, a: Any, norm: Any) -> Any:
    need(isinstance(a, cp.ndarray) and a.ndim > 0, "the operand is no array with axes")
    need(norm in (None, "backward", "ortho", "forward"), "no norm of that name")
    return a.copy() if a.data.ptr % _ALIGNMENT else a


def _one(name: str, dtypes: str, results: str) -> None:
    @serves(f"fft.{name}", dtypes=dtypes, results=results, finite="results")
    def run(cp: Any, a: Any, n: Any = None, axis: Any = -1, norm: Any = None) -> Any:
        """Serve a transform of one axis."""
        need(n is None or type(n) is int, "n is no int")
        need(type(axis) is int, "axis is no int")
        return getattr(cp.fft, name)(_ready(cp, a, norm), n, axis, norm)


for _name in ("fft", "ifft"):
    _one(_name, _ALL, "c")
for _name in ("rfft", "ihfft"):
    _one(_name, _REAL, "c")


def _symmetric(cp: Any, a: Any, n: Any, axis: int) -> Any:
    """Return ``a`` with real first and middle frequencies along an axis."""
    if a.dtype.kind != "c":
        return a
    n = 2 * (a.shape[axis] - 1) if n is None else n
    a = cp.array(a, order="C", copy=True)
    index: list[Any] = [slice(None)] * a.ndim
    for place in {0} if n % 2 else {0, n // 2}:
        if place < a.shape[axis]:
            index[axis] = place
            a[tuple(index)] = a[tuple(index)].real
    return a


def _to_reals(name: str) -> None:
    @serves(f"fft.{name}", dtypes=_ALL, results="f", finite="results")
    def run(cp: Any, a: Any, n: Any = None, axis: Any = -1, norm: Any = None) -> Any:
        """Serve a transform of one axis to reals."""
        need(n is None or (type(n) is int and n > 0), "n is no positive int")
        a = _ready(cp, a, norm)
        need(type(axis) is int and -a.ndim <= axis < a.ndim, "no such axis")
        return getattr(cp.fft, name)(_symmetric(cp, a, n, axis), n, axis, norm)


_to_reals("irfft")
_to_reals("hfft")


def _axes(a: Any, s: Any, axes: Any) -> tuple[Any, tuple[int, ...]]:
    """Return the lengths and the axes of a transform, as NumPy reads them."""
    if axes is None:
        need(s is None, "s is given without axes")
        axes = tuple(range(a.ndim))
    need(type(axes) in (tuple, list) and axes, "axes are no tuple")
    need(all(type(axis) is int for axis in axes), "axes are no ints")
    axes = tuple(axis % a.ndim if -a.ndim <= axis < a.ndim else axis for axis in axes)
    need(len({*axes}) == len(axes), "an axis is named twice")
    if s is not None:
        need(len(s) == len(axes) and all(type(n) is int and n > 0 for n in s), "s is no shape")
        s = tuple(s)
    return s, axes


def _many(name: str, short: str, default: Any, dtypes: str) -> None:
    @serves(f"fft.{name}", dtypes=dtypes, results="c", finite="results")
    def run(cp: Any, a: Any, s: Any = None, axes: Any = default, norm: Any = None) -> Any:
        """Serve a transform of many axes."""
        a = _ready(cp, a, norm)
        s, axes = _axes(a, s, axes)
        return getattr(cp.fft, short)(a, s, axes, norm)


def _back(name: str, default: Any) -> None:
    @serves(f"fft.{name}", dtypes=_ALL, results="f", finite="results")
    def run(cp: Any, a: Any, s: Any = None, axes: Any = default, norm: Any = None) -> Any:
        """Serve a transform of many axes back to reals."""
        a = _ready(cp, a, norm)
        s, axes = _axes(a, s, axes)
        if len(axes) > 1:
            a = cp.fft.ifftn(a, None if s is None else s[:-1], axes[:-1], norm)
        n, last = None if s is None else s[-1], axes[-1]
        need(0 <= last < a.ndim, "no such axis")
        return cp.fft.irfft(_symmetric(cp, a, n, last), n, last, norm)


_LAST_TWO = (-2, -1)
_many("fftn", "fftn", None, _ALL)
_many("ifftn", "ifftn", None, _ALL)
_many("fft2", "fftn", _LAST_TWO, _ALL)
_many("ifft2", "ifftn", _LAST_TWO, _ALL)
_many("rfftn", "rfftn", None, _REAL)
_many("rfft2", "rfftn", _LAST_TWO, _REAL)
_back("irfftn", None)
_back("irfft2", _LAST_TWO)


def _shift(name: str) -> None:
    @serves(f"fft.{name}", dtypes=_ALL + "?e", results="=")
    def run(cp: Any, x: Any, axes: Any = None) -> Any:
        """Serve a shift of the frequencies."""
        need(axes is None or type(axes) in (int, tuple), "axes are of another type")
        return getattr(cp.fft, name)(x, axes)


_shift("fftshift")
_shift("ifftshift")
