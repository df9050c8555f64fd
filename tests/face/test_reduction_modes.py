"""Error modes of masked reductions whose values and masks were recorded under others."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Reduction

MASKED = [row for row in REDUCTIONS if row.masked is not None]
NUMBERS = numpy.random.default_rng(1).normal(1, 2, (60, 40))


def run(
    m: Any, row: Reduction, named: bool, modes: tuple[str, str, str]
) -> tuple[numpy.ndarray, set[str]]:
    """Return a masked reduction and what was warned of."""
    initial = {"initial": 3} if row.masked and "initial" in row.masked.needs else {}
    with warnings.catch_warnings(record=True) as caught, numpy.errstate(all="ignore"):
        warnings.simplefilter("always")
        a, b = m.array(NUMBERS), m.array(NUMBERS[::-1].copy())
        of_value, of_mask, of_reduction = modes
        with numpy.errstate(all=of_value):  # type: ignore[arg-type]
            value = a / (b - b)
        with numpy.errstate(all=of_mask):  # type: ignore[arg-type]
            mask = a / (a - a) > b
        shown = (value, mask) if named else None
        with numpy.errstate(all=of_reduction):  # type: ignore[arg-type]
            given = {"axis": 0, "where": mask if named else m.abs(mask), **initial}
            result = getattr(m, row.name)(value if named else value * 2, **given)
            result = numpy.array(result.tolist(), result.dtype)
        del shown
    return result, {str(one.message) for one in caught}


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("row", MASKED, ids=lambda row: row.name)
def test_values_and_masks_may_have_other_error_modes_than_what_reduces_them(
    row: Reduction, named: bool, fusion: bool
) -> None:
    for modes in itertools.product(("warn", "ignore"), repeat=3):
        wanted, told = run(numpy, row, named, modes)
        with np.dispatch_options(fusion=fusion, defer="always"):
            got, heard = run(np, row, named, modes)
        numpy.testing.assert_allclose(got, wanted, rtol=1e-13)
        assert heard == told, modes
