"""The standard's transforms: NumPy's, and the frequencies in any real dtype."""

from __future__ import annotations

from typing import Any

import dispatcharr as _np
from dispatcharr.array_api.results import standard as _standard
from dispatcharr.array_api.results import table as _table


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Any:
    """Return the frequencies of a discrete Fourier transform; see :func:`numpy.fft.fftfreq`."""
    found = _np.fft.fftfreq(n, d, device=device)
    return found if dtype is None else found.astype(dtype)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Any:
    """Return the frequencies of a real one; see :func:`numpy.fft.rfftfreq`."""
    found = _np.fft.rfftfreq(n, d, device=device)
    return found if dtype is None else found.astype(dtype)


globals().update(_table(__name__, fftfreq, rfftfreq))
__all__ = sorted(_np.fft.__all__)


def __getattr__(name: str) -> Any:
    try:
        found = getattr(_np.fft, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    made = globals()[name] = _standard(found, name, __name__)
    return made


def __dir__() -> list[str]:
    return sorted({*dir(_np.fft), *globals()})
