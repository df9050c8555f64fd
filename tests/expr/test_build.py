"""What a node says of itself is what NumPy would say of the result."""

from __future__ import annotations

import itertools
import pickle
import warnings
from typing import Any

import numpy
import pytest

from dispatcharr.expr import build as module
from dispatcharr.expr.build import (
    SNAPSHOT_BYTES,
    Declined,
    build,
    error_modes,
    generate,
    leaf,
    may_warn_later,
    own_filters,
)
from dispatcharr.expr.nodes import Leaf, Node, fill
from dispatcharr.ops.table import BY_NAME, ELEMENTWISE, GENERATORS
from dispatcharr.storage.readers import readers_of

DTYPES = "?bBhHiIqQefdFD"
SCALARS: tuple[Any, ...] = (
    True,
    2,
    -1,
    2.5,
    1j,
    numpy.float32(2),
    numpy.int8(3),
    numpy.bool_(True),
)


def answered(row: Any, *operands: Any) -> numpy.ndarray | None:
    """Return NumPy's result, None where it has none."""
    try:
        with numpy.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = row.ufunc(*operands)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if isinstance(result, numpy.ndarray) else None


def same(node: Node | None, result: numpy.ndarray | None) -> None:
    if node is not None and result is not None:
        assert node.dtype == result.dtype
        assert node.dtype.char == result.dtype.char
        assert node.shape == result.shape
        assert node.nbytes == result.nbytes
    assert (node is None) or (result is not None)


def built(row: Any, *operands: Any) -> Node | None:
    try:
        return build(row, operands)
    except Declined:
        return None


ROWS = [row for row in ELEMENTWISE if row.ufunc is not None and row.nout == 1]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_dtypes(row: Any) -> None:
    for chars in itertools.product(DTYPES, repeat=row.nin):
        operands = [numpy.ones((2, 3), char) for char in chars]
        same(built(row, *operands), answered(row, *operands))


@pytest.mark.parametrize("row", [row for row in ROWS if row.nin == 2], ids=lambda row: row.name)
def test_scalars_are_weak_or_strong_as_in_numpy(row: Any) -> None:
    for char, scalar in itertools.product(DTYPES, SCALARS):
        array = numpy.ones(4, char)
        same(built(row, array, scalar), answered(row, array, scalar))
        same(built(row, scalar, array), answered(row, scalar, array))


def test_shapes() -> None:
    add = BY_NAME["add"]
    for a, b in (((3, 1), (4,)), ((2, 3), (2, 3)), ((1,), (5, 1)), ((), (2,)), ((0, 3), (1, 3)),
                 ((2, 1, 3), (4, 1))):  # fmt: skip
        same(built(add, numpy.ones(a), numpy.ones(b)), answered(add, numpy.ones(a), numpy.ones(b)))
    with pytest.raises(Declined, match="do not broadcast"):
        build(add, (numpy.ones(3), numpy.ones(4)))


@pytest.mark.parametrize(
    "operand",
    [
        numpy.array(["a"]),
        numpy.array([None]),
        numpy.array(["2020"], "M8[Y]"),
        numpy.zeros(2, numpy.longdouble),
        numpy.zeros(2, ">f8"),
        numpy.zeros(2, [("x", "f8")]),
        numpy.frombuffer(bytes(17), numpy.uint8)[1:].view("f8"),
        "text",
        None,
        [1, 2],
        10**400,
    ],
    ids=repr,
)
def test_what_is_not_planned_is_declined_with_a_reason(operand: Any) -> None:
    with pytest.raises(Declined, match=r"planned|misaligned|Python scalar|no loop"):
        build(BY_NAME["add"], (numpy.ones(2), operand))


def test_scalars_that_do_not_fit_are_declined() -> None:
    small = numpy.ones(2, "u1")
    for value in (300, -1):
        with pytest.raises(Declined, match="Python scalar"):
            build(BY_NAME["add"], (small, value))
    assert build(BY_NAME["add"], (small, 255)).dtype == numpy.uint8


def test_integer_powers_that_may_be_negative_are_declined() -> None:
    power, ints = BY_NAME["power"], numpy.ones(3, int)
    for exponent in (-1, ints, numpy.int64(-2)):
        with pytest.raises(Declined, match="refuse"):
            build(power, (ints, exponent))
    for base, exponent in ((ints, 2), (ints * 1.0, -1), (ints.astype("u1"), ints.astype("u1"))):
        assert build(power, (base, exponent)).shape == (3,)


def test_small_operands_are_copied_and_large_ones_shared() -> None:
    small = numpy.arange(SNAPSHOT_BYTES / 8)
    made = leaf(small)
    assert made.private
    assert not numpy.shares_memory(made.host, small)
    small[0] = 9
    assert made.host[0] == 0
    large = numpy.zeros(SNAPSHOT_BYTES // 8 + 1)
    made = leaf(large[: -0 or None][::-1])
    assert not made.private
    assert made.root is large
    for view in (
        small[::-1],
        small.reshape(2, -1).T,
        numpy.broadcast_to(small[:3], (4, 3)),
        small[::3],
    ):
        copied = leaf(view)
        numpy.testing.assert_array_equal(copied.host, view)
        assert [s > 0 for s in copied.host.strides] == [s > 0 for s in view.strides]
        assert [s == 0 for s in copied.host.strides] == [s == 0 for s in view.strides]
        assert not numpy.shares_memory(copied.host, small)


def test_error_modes_are_those_of_the_recording() -> None:
    row = BY_NAME["divide"]
    with numpy.errstate(divide="ignore", over="warn", under="raise", invalid="call"):
        node = build(row, (numpy.ones(3), numpy.ones(3)))
    assert node.errors == ("ignore", "warn", "raise", "call")
    assert error_modes(BY_NAME["negative"], (numpy.dtype("f8"),)) is None
    assert error_modes(BY_NAME["add"], (numpy.dtype("i8"),)) is None
    assert error_modes(BY_NAME["floor_divide"], (numpy.dtype("i8"),)) is not None


def test_who_may_warn_later(monkeypatch: pytest.MonkeyPatch) -> None:
    warn, ignore = ("warn",) * 4, ("ignore",) * 4
    assert may_warn_later(None)
    assert may_warn_later(ignore)
    for mode in ("raise", "call", "log", "print"):
        assert not may_warn_later((mode, *ignore[1:]))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert not may_warn_later(warn)
        monkeypatch.setattr(module, "_own_filters", warnings.filters)
        assert may_warn_later(warn)
        warnings.filterwarnings("error", "something else", DeprecationWarning)
        assert may_warn_later(warn)
        warnings.filterwarnings("error", category=RuntimeWarning)
        assert not may_warn_later(warn)
        warnings.simplefilter("ignore", RuntimeWarning)
        assert may_warn_later(warn)


def test_a_runners_filters_count_as_the_programs_own_and_a_block_of_its_own_does_not() -> None:
    warn = ("warn",) * 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not may_warn_later(warn)
        with own_filters():
            assert may_warn_later(warn)
            for action in ("ignore", "always", "error"):
                with warnings.catch_warnings():
                    warnings.simplefilter(action)
                    assert not may_warn_later(warn)
                assert may_warn_later(warn)
            warnings.filterwarnings("error", "added by the program", RuntimeWarning)
            assert not may_warn_later(warn)
        assert not may_warn_later(warn)


def test_nodes_describe_themselves_without_walking() -> None:
    node = build(BY_NAME["add"], (numpy.ones(3), 1))
    for _ in range(5000):
        node = build(BY_NAME["add"], (node, 1))
    assert repr(node) == "<pending add float64 (3,)>"
    assert node.count == 5001
    with pytest.raises(TypeError, match="evaluate its array first"):
        pickle.dumps(node)
    assert node == node
    assert len({node, node}) == 1
    del node


def test_generators() -> None:
    for row in GENERATORS:
        node = generate(row, (1, 2), (5, 2), numpy.dtype("f4"))
        assert (node.shape, node.dtype, node.leaves, node.errors) == (
            (5, 2),
            numpy.float32,
            (),
            None,
        )


class Shown:
    """Stands for an array that shows a node."""


def test_leaves_are_collected_once() -> None:
    x, y = numpy.ones(3000), numpy.ones(3000)
    one = build(BY_NAME["add"], (x, y))
    two = build(BY_NAME["multiply"], (one, one))
    three = build(BY_NAME["add"], (two, y))
    assert {id(leaf.root) for leaf in two.leaves} == {id(x), id(y)}
    assert len(two.leaves) == 2
    assert len(three.leaves) == 3
    assert three.count >= 3


def test_evaluated_operands_become_leaves_that_writers_find() -> None:
    x = numpy.ones(3000)
    below = build(BY_NAME["add"], (x, 1))
    above = build(BY_NAME["multiply"], (below, 2))
    top = build(BY_NAME["add"], (above, below))
    shown = Shown()
    top.show(shown)
    assert readers_of(id(x)) == [shown]
    value = x + 1
    fill([(below, value)])
    assert below.value is value
    assert below.leaves == below.operands == ()
    assert readers_of(id(x)) == []
    assert readers_of(id(value)) == [shown]
    assert [type(operand) for operand in top.operands] == [Node, Leaf]
    assert {id(leaf.root) for leaf in top.leaves} == {id(value)}
    fill([(above, value * 2), (top, value * 3)])
    assert repr(top).startswith("<evaluated")
    top.owner.close()


def test_building_on_an_evaluated_node_reads_its_value() -> None:
    below = build(BY_NAME["add"], (numpy.ones(3000), 1))
    value = numpy.full(3000, 2.0)
    fill([(below, value)])
    node = build(BY_NAME["negative"], (below,))
    assert isinstance(node.operands[0], Leaf)
    assert node.operands[0].root is value
