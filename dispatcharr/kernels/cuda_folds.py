"""What reduces on CUDA, by the name of its row, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy

from dispatcharr.kernels.cuda_extremes import count_of, extreme_of, place_of, truth_of
from dispatcharr.kernels.cuda_fold import Dtype, Folding, Given
from dispatcharr.kernels.cuda_moments import variance_of
from dispatcharr.kernels.cuda_sums import product_of, sum_of
from dispatcharr.plan.region import Reducing

__all__ = ["folding_of"]

_KNOWN = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8",
          "c8", "c16"}  # fmt: skip
_ROUNDED = {"reduce_sum", "reduce_prod", "reduce_moments"}


def folding_of(
    reducing: Reducing, value: Dtype, watch: frozenset[str], first_flag: int
) -> Folding | str:
    """Return how ``reducing`` folds elements of dtype ``value``, or why it is not done here.

    Parameters
    ----------
    reducing : Reducing
        The reduction.
    value : numpy.dtype
        What its elements are.
    watch : frozenset of str
        Which floating-point errors somebody asks for.
    first_flag : int
        How many bits of the flag word are taken.
    """
    row = reducing.row
    make = _MAKERS.get(row.name)
    if make is None or value.str[1:] not in _KNOWN or reducing.dtype.str[1:] not in _KNOWN:
        return f"{row.name} of {value} is reduced on the host"
    if value.kind == "c" and row.name.startswith("nan"):
        return f"{row.name} of {value} is reduced on the host"
    if row.unsure:
        return f"what a mask leaves for {row.name} may be too little, which NumPy says at once"
    if "underflow" in watch and row.cost in _ROUNDED and reducing.dtype.kind in "fc":
        return f"which steps of {row.name} underflow is told on the host alone"
    params = dict(reducing.params)
    if not params.keys() <= {"initial", "ddof"}:
        return f"{row.name} with {', '.join(sorted(params))} is reduced on the host"
    state = reducing.state_dtype or value
    initial = params.get("initial")
    if initial is not None:
        initial = numpy.asarray(initial).astype(state, casting="unsafe")
    return make(
        Given(
            row.name, value, state, reducing.dtype, reducing.mask is not None, watch, first_flag,
            initial, float(params.get("ddof", 0)),
        )
    )  # fmt: skip


_MAKERS: dict[str, Callable[[Given], Folding | str]] = {
    "sum": sum_of, "nansum": sum_of, "mean": sum_of, "nanmean": sum_of,
    "prod": product_of, "nanprod": product_of,
    "min": extreme_of(False), "nanmin": extreme_of(False),
    "max": extreme_of(True), "nanmax": extreme_of(True),
    "argmin": place_of(False), "argmax": place_of(True),
    "any": truth_of("|", 0), "all": truth_of("&", 1), "count_nonzero": count_of,
    "var": variance_of, "std": variance_of, "nanvar": variance_of, "nanstd": variance_of,
}  # fmt: skip
