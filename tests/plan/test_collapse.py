"""Collapsing axes, and memory order of results, against NumPy's own choices."""

from __future__ import annotations

import numpy
from hypothesis import given
from hypothesis import strategies as st

import dispatcharr as np
from dispatcharr.plan.collapse import collapse, standing_still


def test_contiguous_axes_become_one() -> None:
    assert collapse((4, 5, 6), [(240, 48, 8), (240, 48, 8)], [False] * 3) == [[0, 1, 2]]


def test_a_slice_keeps_its_rows_apart() -> None:
    assert collapse((4, 5), [(80, 8)], [False] * 2) == [[0], [1]]


def test_a_broadcast_operand_parts_axes_that_it_does_not_walk() -> None:
    assert collapse((4, 5), [(40, 8), (0, 8)], [False] * 2) == [[0], [1]]
    assert collapse((4, 5), [(40, 8), (0, 0)], [False] * 2) == [[0, 1]]


def test_reduced_and_kept_axes_never_merge() -> None:
    assert collapse((4, 5, 6), [(240, 48, 8)], [True, False, False]) == [[0], [1, 2]]


def test_axes_of_length_one_join_any_neighbour() -> None:
    assert collapse((1, 5, 1, 6), [(999, 48, 7, 8)], [False] * 4) == [[0, 1, 2, 3]]


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...]) -> numpy.ndarray:
    """An array of ``shape`` in a random memory order, some axes reversed, strided or broadcast."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 2, -1])) for _ in shape]
    base = numpy.arange(
        numpy.prod([n * abs(s) for n, s in zip(shape, steps, strict=True)]), dtype=float
    ).reshape([shape[axis] * abs(steps[axis]) for axis in order])
    back = numpy.argsort(order)
    made = base.transpose(back)[tuple(slice(None, None, s) for s in steps)]
    if draw(st.booleans()) and shape:
        made = made[:1]
    return made


@given(data=st.data(), shape=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_values_strides_and_flags_are_numpys_for_any_layout(
    data: st.DataObject, shape: list[int]
) -> None:
    x, y = (data.draw(layouts(tuple(shape))) for _ in range(2))
    with np.dispatch_options(defer="always"):
        got = (np.array(x, order="K") + np.array(y, order="K")) * np.array(x, order="K")
    x, y = numpy.array(x, order="K"), numpy.array(y, order="K")
    expected = (x + y) * x
    assert walked(got.strides, expected.shape) == walked(expected.strides, expected.shape)
    numpy.testing.assert_array_equal(got, expected)
    assert walked(got.to_numpy().strides, got.shape) == walked(expected.strides, expected.shape)


def walked(strides: tuple[int, ...], shape: tuple[int, ...]) -> list[int]:
    """Strides of the axes that are walked at all: NumPy gives the others any number."""
    return [stride for stride, n in zip(strides, shape, strict=True) if n > 1]


def test_an_operand_that_stands_still_is_not_merged_with_axes_it_lacks() -> None:
    """The stride of 0 is the same, but the operand has three elements there or one, not both."""
    marks = standing_still((0, 1), [((3,), (0,)), ((5, 3), (24, 8))])
    assert marks == [(False,), (True,)]
    assert collapse((5, 3), [(0, 0), (24, 8)], marks) == [[0], [1]]
    assert standing_still((0, 1), [((5, 3), (24, 8)), ((3,), (8,)), ((), ())]) == [(), ()]
