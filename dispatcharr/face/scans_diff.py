"""``diff``: a subtraction of two views, planned as any other, so that it fuses with others."""

from __future__ import annotations

from typing import Any

from dispatcharr.face.array import is_array, operand
from dispatcharr.face.contract import LEFT
from dispatcharr.face.functions import FUNCTIONS
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.scans import DIFFERENCE, DIFFERENCE_OF_BOOLS

__all__ = ["diff"]

#: Elements under which it is NumPy's.
_UNREAD = 1 << 13


def diff(a: Any, n: Any = 1, axis: Any = -1, *more: Any, **others: Any) -> Any:
    """Return what :func:`numpy.diff` does, or ``LEFT`` for what it is to do itself."""
    if more or others or not is_array(a) or type(n) is not int or type(axis) is not int:
        return LEFT
    value = operand(a)
    dims = len(value.shape)
    if n < 1 or not -dims <= axis < dims or value.size < _UNREAD or not is_planned(value.dtype):
        return LEFT
    operate = FUNCTIONS[DIFFERENCE_OF_BOOLS if value.dtype.kind == "b" else DIFFERENCE]
    index = [slice(None)] * dims
    later, earlier = list(index), list(index)
    later[axis], earlier[axis] = slice(1, None), slice(None, -1)
    for _ in range(n):
        a = operate(a[tuple(later)], a[tuple(earlier)])
    return a
