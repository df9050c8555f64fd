"""What is asked of a reduction, before its region is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr.ops.row import Reduction
from dispatcharr.plan.graph import frozen

__all__ = ["ReduceRequest"]


@dataclass(frozen=True, slots=True)
class ReduceRequest:
    """A reduction of the first wanted value, as the face understood it.

    Attributes
    ----------
    row : Reduction
        What is computed.
    axes : tuple of int
        Reduced axes of that value.
    state_dtype : numpy.dtype or None
        What is accumulated in, where the row can be told.
    dtype : numpy.dtype
        The result's.
    params : tuple of (str, object)
        What the row's ``finish`` is told.
    masked : bool
        Whether that value is a pair (``CHOSEN``) of what is reduced and a mask of what counts.
    errors : tuple of str or None
        Error modes of the reduction itself, where nothing that it reads has its own.
    others : tuple of ReduceRequest
        Further reductions of that value along the same axes, made in the same pass.
    """

    row: Reduction
    axes: tuple[int, ...]
    state_dtype: numpy.dtype[Any] | None
    dtype: numpy.dtype[Any]
    params: tuple[tuple[str, Any], ...]
    masked: bool = False
    errors: tuple[str, ...] | None = None
    others: tuple[ReduceRequest, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """What plans are cached under: a NaN among the parameters equals itself."""
        params = [(name, *frozen((value,))) for name, value in self.params]
        how = self.state_dtype, self.dtype, self.masked, self.errors, tuple(params)
        return self.row, self.axes, *how, *[one.key for one in self.others]
