"""One result, to the last bit, whatever the number of threads and however blocks are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import is_compiled, ours
from dispatcharr.backends import registry, threads
from dispatcharr.kernels.pool import Pool
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Reduction
from rows import SINGLE, accepts, few_dtypes
from samples import filled, tame

WIDTHS = (1, 2, 3, 7)
SHAPES = ((1000,), (600_007,), (7, 20_000), (20_000, 7), (40, 30, 60))


@contextmanager
def pool_of(width: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the ``threads`` backend use ``width`` threads, on a machine of any size."""
    pool = Pool(width)
    with monkeypatch.context() as patch:
        patch.setattr(threads, "shared_pool", lambda: pool)
        patch.setattr(threads.Threads, "available", lambda self: None)
        patch.setattr(registry, "_candidates", None)
        with np.use_backend("threads"):
            yield
    registry._candidates = None


def answers(
    programs: dict[str, Callable[[], Any]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, bytes]]:
    """Return the bytes of each program's answer, by who ran it."""
    found: dict[str, dict[str, bytes]] = {}
    engine = "compiled" if is_compiled() else "blocks"  # bits differ between them

    def run(who: str) -> None:
        with np.dispatch_options(defer="always", engine=engine), numpy.errstate(all="ignore"):
            found[who] = {name: numpy.asarray(call()).tobytes() for name, call in programs.items()}

    with np.use_backend("serial"):
        run("serial")
    for width in WIDTHS:
        with pool_of(width, monkeypatch):
            run(f"{width} threads")
    return found


def check(programs: dict[str, Callable[[], Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    found = answers(programs, monkeypatch)
    first = found.pop("serial")
    for who, mine in found.items():
        assert [name for name in first if mine[name] != first[name]] == [], who


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", REDUCTIONS, ids=[row.name for row in REDUCTIONS])
def test_reductions(row: Reduction, monkeypatch: pytest.MonkeyPatch) -> None:
    programs: dict[str, Callable[[], Any]] = {}
    reduce = getattr(np, row.name)
    for shape in SHAPES:
        x = ours(tame("d", shape) - 1)
        for axis in (None, *range(len(shape))):
            name = f"{shape}, axis={axis}"
            programs[name] = lambda x=x, axis=axis: reduce(x, axis=axis)
            programs[f"{name}, fused"] = lambda x=x, axis=axis: reduce(x * x + 1, axis=axis)
            if row.masked is not None:
                given = {"axis": axis, "where": x > 0.1, **dict.fromkeys(row.masked.needs, 1)}
                programs[f"{name}, where"] = lambda x=x, given=given: reduce(x, **given)
    check(programs, monkeypatch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SINGLE)
def test_elementwise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = SINGLE[name]
    function = getattr(np, name)
    programs: dict[str, Callable[[], Any]] = {}
    # NumPy's vector and scalar code may order 0.0 and -0.0 apart: where runs end must not depend on
    # who runs them.
    zeros = numpy.zeros(300_007), -numpy.zeros(300_007)
    if row.nin == 2 and accepts(name, "dd"):
        signed = [ours(z) for z in zeros]
        programs["zeros"] = lambda o=signed: function(*o)
    for chars in few_dtypes(row, 1):
        for shape in ((50_007,), (200, 257)):
            operands = [ours(filled(char, shape, i)) for i, char in enumerate(chars)]
            programs[f"{chars}, {shape}"] = lambda o=operands: function(*o)
            turned = [operand.T for operand in operands]
            programs[f"{chars}, {shape}, turned"] = lambda o=turned: function(*o)
            programs[f"{chars}, {shape}, fused"] = lambda o=operands: np.where(
                np.logical_not(function(*o)), function(*o), 1
            )
            strided = [operand[..., ::2] for operand in operands]
            programs[f"{chars}, {shape}, strided"] = lambda o=strided: function(*o)
    check(programs, monkeypatch)
