"""The standard's transforms: NumPy's, and the frequencies in any real dtype."""

from __future__ import annotations

from typing import Any

import dispatcharr as _np
from dispatcharr.array_api.results import names_of as _names_of
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
__getattr__, __dir__ = _names_of(globals(), _np.fft)
