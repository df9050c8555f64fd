"""The standard's linear algebra: NumPy's, and eigenvalues that are complex whatever they are."""

from __future__ import annotations

from typing import Any

import numpy as _numpy

import dispatcharr as _np
from dispatcharr.array_api.results import names_of as _names_of
from dispatcharr.array_api.results import table as _table


def eig(x: Any, /) -> Any:
    """Return eigenvalues and eigenvectors; see :func:`numpy.linalg.eig`."""
    found = _np.linalg.eig(x)
    return type(found)(*[_complex(part) for part in found])


def eigvals(x: Any, /) -> Any:
    """Return eigenvalues; see :func:`numpy.linalg.eigvals`."""
    return _complex(_np.linalg.eigvals(x))


def _complex(values: Any) -> Any:
    return values.astype(_numpy.result_type(values.dtype, _numpy.complex64), copy=False)


globals().update(_table(__name__, eig, eigvals))
__all__ = sorted(_np.linalg.__all__)
__getattr__, __dir__ = _names_of(globals(), _np.linalg)
