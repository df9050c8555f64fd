"""The ``blocks`` engine: cutting, temporaries, folding, errors collected."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcharr.kernels.grid import block_grid


@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    elements=st.integers(1, 500),
    pieces=st.integers(1, 9),
)
def test_blocks_cover_every_point_once(shape: list[int], elements: int, pieces: int) -> None:
    grid = block_grid(tuple(shape), elements, None, pieces)
    seen = numpy.zeros(shape, int)
    for task in range(grid.tasks):
        for block in grid.blocks(task):
            assert seen[block].size <= max(elements, 1)
            seen[block] += 1
    assert (seen == 1).all()


@given(
    shape=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    elements=st.integers(1, 300),
    data=st.data(),
)
def test_stripes_hold_every_point_of_their_results_once(
    shape: list[int], elements: int, data: st.DataObject
) -> None:
    reduced = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    grid = block_grid(tuple(shape), elements, sorted(reduced), 64)
    seen = numpy.zeros(shape, int)
    for stripe, tasks in grid.stripes():
        for task in tasks:
            for block in grid.blocks(task):
                seen[block] += 1
                for axis, cut in enumerate(stripe):
                    if axis not in reduced:
                        assert block[axis] == cut
    assert (seen == 1).all()


@given(shape=st.lists(st.integers(1, 30), min_size=1, max_size=3), pieces=st.integers(1, 9))
def test_how_a_reduction_is_cut_depends_on_its_shape_alone(shape: list[int], pieces: int) -> None:
    one = block_grid(tuple(shape), 64, [0], 64)
    other = block_grid(tuple(shape), 64, [0], 64)
    assert (one.extents, one.split) == (other.extents, other.split)


@pytest.mark.parametrize("dtype", [numpy.float32, numpy.float64])
def test_a_long_float_sum_is_at_least_as_exact_as_numpys(dtype: type) -> None:
    import dispatcharr as np

    rng = numpy.random.default_rng(3)
    values = (rng.random(1_500_000) * 10.0 ** rng.integers(-6, 6, 1_500_000)).astype(dtype)
    exact = math.fsum(values.tolist())
    with np.use_backend("threads"):
        ours = float(np.array(values).sum())
    unit = float(numpy.spacing(dtype(exact)))
    assert abs(ours - exact) <= max(abs(float(values.sum()) - exact), 2 * unit)
