"""Several reductions of one expression in one pass give the bits that each has alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dispatcharr.kernels import cuda_reduce
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.plan.reference import disagreement, run_reference
from dispatcharr.plan.region import Region, parts_of
from regions import buffer, reducing, region, run, run_blocks

PROGRAMS: dict[str, list[Any]] = {
    "itself": [],
    "sum": [("add", (0, 1)), ("multiply", (2, 0))],
    "sine": [("sin", (0,)), ("multiply", (2, 1))],
}
SHAPES = [
    (1000,),
    (70_001,),
    (3, 5),
    (50, 60),
    (60, 700),
    (700, 9),
    (9, 2100),
    (20, 5, 30),
    (300, 4),
]
NAMES = [row.name for row in REDUCTIONS]


def joint(source: Region, names: list[str], axes: tuple[int, ...], keep: bool) -> Region:
    """Return ``source`` with all of these reductions of its last register."""
    made = [reducing(source, name, axes, keep=keep) for name in names]
    others = tuple([one.reducing for one in made[1:] if one.reducing is not None])
    return replace(made[0], others=others)


def results(source: Region) -> list[numpy.ndarray]:
    """Return fresh memory for what a region gives."""
    found = [numpy.zeros(source.shape, layout.dtype) for layout in source.output_layouts]
    return found + [numpy.zeros(one.shape, one.dtype) for one in source.reductions]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=40)
@given(
    names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=4, unique=True),
    program=st.sampled_from(sorted(PROGRAMS)),
    dtype=st.sampled_from(["f8", "f4", "f2", "i4", "c16"]),
    shape=st.sampled_from(SHAPES),
    transposed=st.booleans(),
    keep=st.booleans(),
    data=st.data(),
)
def test_each_has_the_bits_that_it_has_alone(
    names: list[str], program: str, dtype: str, shape: tuple[int, ...], transposed: bool,
    keep: bool, data: st.DataObject,
) -> None:  # fmt: skip
    assume(program != "sine" or dtype in ("f8", "f4"))
    assume(program != "sum" or dtype != "f2")
    rows = {row.name: row for row in REDUCTIONS}
    value = numpy.dtype(dtype)
    names = [n for n in names if value.kind in rows[n].kinds and value.char not in rows[n].without]
    assume(len(names) > 1)
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    if any(rows[name].ordered for name in names) and len(axes) > 1:
        axes = tuple(range(len(shape)))
    layouts = ("transposed" if transposed else "plain", "plain")
    inputs = [buffer(shape, dtype, layout, i) for i, layout in enumerate(layouts)]
    steps = PROGRAMS[program]
    if not steps:
        del inputs[1]
    source = joint(region(shape, inputs, steps), names, axes, keep and bool(steps))
    for engine in (run, run_blocks):
        found = results(source)
        told = engine(source, inputs, found)
        alone, met = [], set()
        for part in parts_of(source):
            one = results(part)
            met |= engine(part, inputs, one)
            alone += one
        assert [a.tobytes() for a in found] == [a.tobytes() for a in alone]
        assert told == met


def test_a_reference_gives_all_of_them_and_finds_the_one_that_is_wrong() -> None:
    inputs = [buffer((40, 30), "f8", "plain")]
    source = joint(region((40, 30), inputs, []), ["min", "max"], (0,), False)
    found = run_reference(source, inputs)
    assert (found[1] == inputs[0].max(axis=0)).all()
    found[1][0, 3] += 1
    told = disagreement(source, inputs, found)
    assert told is not None
    assert told.text.startswith("output 1:")
    assert (found[1] == inputs[0].max(axis=0)).all()


def test_a_product_that_overflows_is_that_of_blocks_beside_others() -> None:
    values = numpy.full(3000, 10.0)
    values[1500:] = 0.1
    source = joint(region(values.shape, [values], []), ["sum", "prod"], (0,), False)
    found, wanted = results(source), results(source)
    run(source, [values], found)
    run_blocks(source, [values], wanted)
    assert numpy.isinf(found[1][0])
    assert found[1] == wanted[1]


def test_a_device_leaves_them_to_the_host() -> None:
    values = buffer((50,), "f8", "plain")
    source = joint(region((50,), [values], []), ["min", "max"], (0,), False)
    assert "host" in str(cuda_reduce.refusal(source))
