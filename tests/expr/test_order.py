"""The memory order of a result that has no memory yet is NumPy's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcharr.expr.build import build, leaf
from dispatcharr.expr.nodes import Leaf
from dispatcharr.expr.order import empty_in_order, memory_order, order_of, strides_in_order
from dispatcharr.ops.table import BY_NAME

SIDES = (2, 3, 5, 4)


@st.composite
def layouts(draw: Any, shape: tuple[int, ...]) -> numpy.ndarray:
    """Draw an array that broadcasts to ``shape``, with axes in any order, step and direction."""
    ndim = draw(st.integers(0, len(shape)))
    own = [
        1 if draw(st.booleans()) and draw(st.booleans()) else n for n in shape[len(shape) - ndim :]
    ]
    steps = [draw(st.sampled_from([1, 1, 2, -1])) for _ in own]
    order = draw(st.permutations(range(ndim)))
    memory = numpy.zeros([own[axis] * abs(steps[axis]) for axis in order])
    inverse = [order.index(axis) for axis in range(ndim)]
    view = memory.transpose(inverse)[tuple(slice(None, None, step) for step in steps)]
    if ndim and draw(st.integers(0, 5)) == 0:
        view = numpy.broadcast_to(view[..., :1], own)
    return view


def steps(array: Any) -> list[int]:
    """Return the strides that matter: those of axes of length one depend on NumPy's shortcuts."""
    return [s for s, n in zip(array.strides, array.shape, strict=True) if n != 1]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(data=st.data())
def test_binary_operations(data: Any) -> None:
    shape = SIDES[: data.draw(st.integers(1, 4))]
    a, b = data.draw(layouts(shape)), data.draw(layouts(shape))
    wanted = numpy.add(a, b)
    node = build(BY_NAME["add"], (a, b))
    if wanted.ndim:
        made = empty_in_order(node.shape, node.dtype, node.order)
        assert made.shape == wanted.shape
        assert steps(made) == steps(wanted)
        assert made.strides == strides_in_order(node.shape, 8, node.order)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_unary_and_ternary_operations(data: Any) -> None:
    shape = SIDES[: data.draw(st.integers(1, 4))]
    a, b, c = (data.draw(layouts(shape)) for _ in range(3))
    for name, operands in (("negative", (a,)), ("where", (a > 0, b, c)), ("clip", (a, b, c))):
        wanted = getattr(numpy, name)(*operands)
        if numpy.ndim(wanted):
            node = build(BY_NAME[name], operands)
            assert steps(empty_in_order(node.shape, node.dtype, node.order)) == steps(wanted)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_chains(data: Any) -> None:
    shape = SIDES[: data.draw(st.integers(2, 4))]
    a, b, c = (data.draw(layouts(shape)) for _ in range(3))
    wanted = (a + b) * c - a
    inner = build(BY_NAME["multiply"], (build(BY_NAME["add"], (a, b)), c))
    node = build(BY_NAME["subtract"], (inner, a))
    if wanted.ndim:
        assert steps(empty_in_order(node.shape, node.dtype, node.order)) == steps(wanted)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_strides_and_memory_agree(order: tuple[int, ...]) -> None:
    made = empty_in_order((2, 3, 4), numpy.dtype("f4"), order)
    assert made.shape == (2, 3, 4)
    assert made.strides == strides_in_order((2, 3, 4), 4, order)
    assert made.base is None or made.base.flags.c_contiguous
    assert sorted(range(3), key=lambda axis: -made.strides[axis]) == list(order)


def test_c_order_is_none() -> None:
    assert memory_order([leaf(numpy.zeros((3, 4)))], (3, 4)) is None
    assert memory_order([], ()) is None
    assert memory_order([leaf(numpy.zeros((3, 4)).T)], (4, 3)) == (1, 0)
    assert order_of(numpy.zeros((3, 4))) is None
    assert order_of(numpy.zeros((3, 4)).T) == (1, 0)
    large = numpy.zeros((60, 70))
    assert memory_order([Leaf(large.T, large), Leaf(large.T, large)], (70, 60)) == (1, 0)
