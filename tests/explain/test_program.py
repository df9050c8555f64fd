"""Programs are written as Python that computes what the kernel computes."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcharr import engine
from dispatcharr.explain.account import letters, operations_of
from dispatcharr.explain.program import literal, reading_order, write_program
from dispatcharr.expr.build import build, generate
from dispatcharr.expr.nodes import Node
from dispatcharr.ops.reductions import REDUCTION_BY_NAME
from dispatcharr.ops.table import BY_NAME, GENERATORS
from dispatcharr.plan.fuse import ReduceRequest, plan
from dispatcharr.plan.graph import survey

BINARY = ("add", "subtract", "multiply", "power", "maximum", "bitwise_xor", "bitwise_and",
          "left_shift", "less", "equal", "floor_divide", "remainder")  # fmt: skip
UNARY = ("negative", "invert", "absolute", "square", "positive")


def written(node: Node) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the program of a node and the values of the names in it."""
    ids = frozenset([id(node)])
    graph = survey([node], ids)
    (step,) = plan(graph, True, None, {}).steps
    names: dict[int, str] = {}
    values: dict[str, Any] = {}
    for register in reading_order(step.region):
        host = graph.hosts[step.inputs[register][1]]
        names[register] = literal(host) if host.ndim == 0 else letters(len(values))
        if host.ndim:
            values[names[register]] = host
    lines = write_program(
        step.region, names, [f"r{i + 1}" for i in range(len(step.region.outputs))]
    )
    return lines, values


def computed(lines: tuple[str, ...], values: dict[str, Any]) -> Any:
    scope = {name: getattr(numpy, name) for name in (*BINARY, *UNARY, "where", "sin", "cos")}
    scope["astype"] = lambda x, dtype: x.astype(dtype)
    scope |= {"float32": numpy.float32, "int64": numpy.int64, **values}
    for line in lines:
        exec(line, scope)
    return scope["r1"]


def test_values_used_once_stand_where_they_are_used(op):
    a = numpy.linspace(0.0, 1.0, 5000)
    lines, _ = written(op("add", op("square", op("sin", a)), op("square", op("cos", a))))
    assert lines == ("r1 = square(sin(a)) + square(cos(a))",)


def test_values_used_twice_have_a_name(op):
    a = numpy.linspace(0.0, 1.0, 5000)
    root = op("sqrt", a)
    lines, _ = written(op("divide", op("subtract", root, 1.0), op("add", root, 1.0)))
    assert lines == ("t1 = sqrt(a)", "r1 = (t1 - 1.0) / (t1 + 1.0)")


def test_arrays_are_named_in_the_order_of_reading(op):
    a, b = numpy.zeros(5000), numpy.ones(5000)
    lines, values = written(op("subtract", op("sin", a), op("cos", b)))
    assert lines == ("r1 = sin(a) - cos(b)",)
    assert values["a"][0] == 0.0
    assert values["b"][0] == 1.0


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        ("subtract", "subtract", "r1 = a - 1.0 - (a - 1.0)"),
        ("power", "power", "r1 = (a**1.0)**a**1.0"),
        ("multiply", "add", "r1 = a * 1.0 + (a + 1.0)"),
        ("less", "less", "r1 = (a < 1.0) == (a < 1.0)"),
    ],
)
def test_brackets_follow_pythons_precedence(left, right, text, op):
    outer = {"multiply": "add", "less": "equal"}.get(left, left)
    a = numpy.arange(5000.0)
    lines, _ = written(op(outer, op(left, a, 1.0), op(right, a, 1.0)))
    assert lines == (text,)


def test_negative_constants_and_signs_bind_as_in_python(op):
    a = numpy.arange(1.0, 5000.0)
    assert written(op("power", -2.0, a))[0] == ("r1 = (-2.0)**a",)
    assert written(op("negative", op("power", a, 2.0)))[0] == ("r1 = -a**2.0",)
    assert written(op("power", op("negative", a), 2.0))[0] == ("r1 = (-a)**2.0",)


def test_casts_name_their_dtype(op):
    a = numpy.zeros(5000)
    assert written(op("astype", a, dtype="float32"))[0] == ("r1 = astype(a, float32)",)


def test_reductions_say_which_axes_they_take(op):
    a = numpy.zeros((60, 70))[:, :65]
    node = op("add", a, 1.0)
    ids = frozenset([id(node)])
    variance = REDUCTION_BY_NAME["var"]
    for axes, text in (((0, 1), "var(a + c1, ddof=1)"), ((1,), "var(a + c1, axis=1, ddof=1)")):
        request = ReduceRequest(variance, axes, None, numpy.dtype(float), (("ddof", 1),))
        (step,) = plan(survey([node], frozenset(), ids), True, request, {}).steps
        lines = write_program(step.region, {0: "a", 1: "c1"}, ["r1"])
        assert lines == (f"r1 = {text}",)
        assert operations_of(step.region) == ("add", "var")


def test_generators_show_their_parameters():
    (arange,) = [row for row in GENERATORS if row.name == "arange"]
    node = generate(arange, (0.0, 0.25), (5000,), numpy.dtype(float))
    (step,) = engine.plan_of([node]).steps
    assert write_program(step.region, {}, ["r1"]) == ("r1 = arange[0.0, 0.25]",)


def test_long_programs_have_short_lines(chain):
    lines, _ = written(chain(60))
    assert 5 < len(lines) < 60
    assert max(map(len, lines)) <= 76
    assert lines[-1].startswith("r1 = ")


def test_constants_are_short():
    assert literal(numpy.float32(0.1)) == "0.1"
    assert literal(numpy.array(True)) == "True"
    assert literal(2.0) == "2.0"
    assert literal(1 / 3) == "0.333333"
    assert literal(numpy.zeros(3)) == "..."
    assert len(literal("x" * 100)) <= 24


_leaves = st.sampled_from(["a", "b", 1, 3, -2])


@given(
    st.recursive(
        _leaves,
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(UNARY), inner),
            st.tuples(st.sampled_from(BINARY), inner, inner),
            st.tuples(st.just("where"), inner, inner, inner),
        ),
        max_leaves=24,
    )
)
@settings(max_examples=150)
def test_what_is_written_computes_the_same(tree):
    arrays = {"a": numpy.arange(2000) % 7 + 1, "b": numpy.arange(2000) % 5 + 1}
    with numpy.errstate(all="ignore"):
        node, wanted = _both(tree, arrays)
        if not isinstance(node, Node):
            return
        lines, values = written(node)
        assert max(map(len, lines)) <= 76
        numpy.testing.assert_array_equal(computed(lines, values), wanted)


def _both(tree: Any, arrays: dict[str, Any]) -> tuple[Any, Any]:
    """Return a tree as a node and as NumPy's value; what NumPy refuses falls back to ``a``."""
    if not isinstance(tree, tuple):
        value = arrays.get(tree, tree)
        return value, value
    name, *parts = tree
    nodes, values = zip(*(_both(part, arrays) for part in parts), strict=True)
    if not any(isinstance(value, numpy.ndarray) for value in values):
        nodes, values = (arrays["a"], *nodes[1:]), (arrays["a"], *values[1:])
    try:
        result = getattr(numpy, name)(*values)
        return build(BY_NAME[name], nodes), result
    except Exception:
        return arrays["a"], arrays["a"]
