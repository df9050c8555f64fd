"""Every row of the op tables, on its own: seconds by dtype and size."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import dispatcharr

from .operands import ROWS, Call, accepts, call_of, copied


# The runner calls ``setup`` before every single execution.
@lru_cache(maxsize=2)
def _call(name: str, dtype: str, size: int) -> tuple[Call, tuple[Any, ...]] | None:
    call = call_of(name, dtype, size)
    if call is None:
        return None
    operands = copied(call.operands)
    dispatcharr.evaluate(call.ours(*operands))  # threads, profile and plan are there from now on
    return call, operands


DTYPES = ("float64", "float32", "int32")
SIZES = (10_000, 1_000_000)


class Rows:
    """Seconds of one operation into fresh memory, evaluated."""

    params = (list(ROWS), list(DTYPES), list(SIZES))
    param_names = ("op", "dtype", "size")
    skip_params = tuple(
        (name, dtype, size)
        for name in ROWS
        for dtype in DTYPES
        if not accepts(name, dtype)
        for size in SIZES
    )

    def setup(self, name: str, dtype: str, size: int) -> None:
        found = _call(name, dtype, size)
        if found is None:
            raise NotImplementedError("NumPy has no such operation")
        call, self.operands = found
        self.function = call.ours

    def time_dispatcharr(self, name: str, dtype: str, size: int) -> None:
        dispatcharr.evaluate(self.function(*self.operands))
