"""Generators have the very bits of NumPy's, waiting or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import MODES, ask, differ, genuine, mode, ours, report
from dispatcharr.ops.table import GENERATORS
from samples import DTYPES

Call = tuple[str, tuple[Any, ...], dict[str, Any]]
SIZES = (0, 1, 2, 3, 50, 16384, 16385, 40_001)


def aranges() -> Iterator[Call]:
    for n in (*SIZES, -3):
        yield "arange", (n,), {}
        yield "arange", (5, n), {}
        yield "arange", (n, -5, -3), {}
        yield "arange", (float(n),), {}
    for bounds in ((0, 1, 0.1), (0.5, 700, 0.7), (10, 0, -0.25), (1, 2, 0), (3, 3), (True, 9),
                   (0, 2**62, 2**57), (-(2**63), 2**63 - 1, 2**60), (2**63 - 5, 2**63 + 5),
                   (2**64,), (1j, 5),
                   (0, 10, numpy.int8(3)), (numpy.float32(0), 9), (0.0, float("nan")),
                   (0.0, float("inf")), ("a",), (), (1, 2, 3, 4, 5), (None,)):  # fmt: skip
        yield "arange", bounds, {}
    for char in DTYPES:
        yield "arange", (100,), {"dtype": char}
        yield "arange", (2, 90, 7), {"dtype": char}
    yield "arange", (), {"start": 3, "stop": 9}
    yield "arange", (), {"stop": 9}
    yield "arange", (3,), {"nonsense": 1}
    yield "arange", (3,), {"step": 2, "stop": 10}


def linspaces() -> Iterator[Call]:
    for num in (*SIZES, 5.0, -1, True, numpy.int64(4)):
        yield "linspace", (0, 1, num), {}
        yield "linspace", (0, 1, num), {"endpoint": False}
        yield "linspace", (-3.7, 1e3, num), {}
    for start, stop in ((1, 1), (5, -5), (0, float("inf")), (float("nan"), 1), (1e308, -1e308),
                        (0, 5e-324), (-0.0, 0.0), (2**60, 2**60 + 1000), (10**400, 1), (0, 1j),
                        (numpy.float32(1), 2), (True, False), ([0, 1], [5, 9]),
                        ("a", 1)):  # fmt: skip
        yield "linspace", (start, stop), {}
        yield "linspace", (start, stop, 1000), {"endpoint": False}
    for char in DTYPES:
        yield "linspace", (0, 100, 301), {"dtype": char}
    yield "linspace", (0, 1, 5), {"retstep": True}
    yield "linspace", (0, 1, 5), {"axis": 1}
    yield "linspace", (0, 1, 5), {"axis": -1}
    yield "linspace", (0, 1, 5), {"device": "cpu"}
    yield "linspace", (0,), {}


def fills() -> Iterator[Call]:
    values = (0, 1, -1, 300, 2**40, 2**63, 2**70, 0.5, -0.0, 1e300, float("nan"), 1j, True, "a",
              numpy.float32(2.5), numpy.int8(-1), [1, 2, 3], None)  # fmt: skip
    for value in values:
        yield "full", ((2, 3), value), {}
        for char in DTYPES:
            yield "full", ((7,), value, char), {}
    for shape in (*SIZES, (), (3,), (0, 4), (300, 60), (2, 1, 3), -1, (2, -1), 2.0, "a", [2, 3],
                  numpy.int64(5), (numpy.int32(2), 3), True):  # fmt: skip
        for name in ("ones", "zeros"):
            yield name, (shape,), {}
        yield "full", (shape, 7.5), {}
    for given in ({"order": "F"}, {"dtype": "S3"}, {"dtype": object}, {"dtype": ">f8"},
                  {"dtype": "i4,f8"}, {"dtype": "nonsense"}, {"device": "cpu"}, {"like": None},
                  {"nonsense": 1}, {"dtype": "M8[s]"}):  # fmt: skip
        for name in ("ones", "zeros"):
            yield name, ((3, 4),), given
        yield "full", ((3, 4), 3), given


CALLS = {"arange": aranges, "linspace": linspaces, "full": fills}


@pytest.mark.parametrize("name", [row.name for row in GENERATORS])
@pytest.mark.parametrize(("backend", "way"), MODES)
def test_generators(name: str, backend: str, way: str) -> None:
    wrong = []
    for called, args, kwargs in CALLS[name]():
        wanted = ask(lambda: getattr(numpy, called)(*args, **kwargs))
        with mode(backend, way):
            got = ask(genuine(lambda: getattr(np, called)(*args, **kwargs)))
        # NumPy's linspace gives a view of the array that it made.
        reason = differ(got, wanted, owning=called != "linspace")
        if reason:
            wrong.append(f"{called}{args} {kwargs}: {reason}")
    report(wrong)


@pytest.mark.parametrize("name", ["full_like", "ones_like", "zeros_like", "empty_like"])
def test_filled_like_another(name: str) -> None:
    prototypes = [
        numpy.zeros((4, 5)), numpy.zeros((4, 5), "b").T, numpy.zeros((3, 4, 5)).transpose(2, 0, 1),
        numpy.zeros(6)[::2], numpy.zeros((2, 0)), numpy.zeros(()), numpy.zeros(5, ">i4"),
        numpy.array(["a"]), 3.5, [1, 2], numpy.float32(2),
    ]  # fmt: skip
    given: list[dict[str, Any]] = [
        {}, {"dtype": "f"}, {"shape": (2, 2)}, {"order": "C"}, {"order": "F"}, {"subok": False},
        {"shape": 7, "dtype": "?"}, {"nonsense": 1},
    ]  # fmt: skip
    wrong = []
    for prototype in prototypes:
        for kwargs in given:
            args = (300,) if name == "full_like" else ()
            wanted = ask(lambda: getattr(numpy, name)(prototype, *args, **kwargs))
            for backend, way in MODES:
                mine = ours(prototype)
                with mode(backend, way):
                    got = ask(genuine(lambda: getattr(np, name)(mine, *args, **kwargs)))
                    pending = ask(
                        lambda: getattr(np, name)(np.where(True, mine, mine), *args, **kwargs)
                    )
                close = (lambda a, b: None) if name == "empty_like" else None
                same = type(prototype) is numpy.ndarray and prototype.dtype.isnative
                reason = differ(got, wanted, close=close) or (
                    same and prototype.dtype.kind != "U" and differ(pending, wanted, close=close)
                )
                if reason:
                    wrong.append(f"{name} of {prototype!r}, {kwargs}: {reason}")
    report(wrong)


def test_a_waiting_generator_fuses_with_what_follows() -> None:
    for size in (5, 16385, 100_000):
        wanted = numpy.sqrt(numpy.arange(size)) * numpy.linspace(0, 1, size) + numpy.full(size, 2.5)
        for backend, way in MODES:
            with mode(backend, way):
                got = np.sqrt(np.arange(size)) * np.linspace(0, 1, size) + np.full(size, 2.5)
                assert got.to_numpy().tobytes() == wanted.tobytes()
