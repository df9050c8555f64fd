"""Which dtypes are planned: bool, integers, float16/32/64, complex64/128, in native byte order.

Objects, strings, datetimes, structured and extended-precision data go to NumPy at once.
"""

from __future__ import annotations

from typing import Any

import numpy

__all__ = ["INEXACT", "PLANNED", "is_planned"]

PLANNED = frozenset("?bBhHiIlLqQefdFD")
INEXACT = frozenset("efdFD")


def is_planned(dtype: numpy.dtype[Any]) -> bool:
    """Return whether kernels are planned for ``dtype``."""
    return dtype.char in PLANNED and dtype.isnative
