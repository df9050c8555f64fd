"""Scans, masks, counts and look-ups: seconds, and how many times faster than NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy

import dispatcharr

Call = Callable[[Any, dict[str, Any]], Any]
CALLS: dict[str, Call] = {
    "cumsum": lambda m, d: m.cumsum(d["a"]),
    "cumsum of float32": lambda m, d: m.cumsum(d["f"]),
    "cumsum of int32": lambda m, d: m.cumsum(d["i"]),
    "cumsum across rows": lambda m, d: m.cumsum(d["grid"], axis=0),
    "cumsum along rows": lambda m, d: m.cumsum(d["grid"], axis=1),
    "nancumsum": lambda m, d: m.nancumsum(d["a"]),
    "maximum.accumulate": lambda m, d: m.maximum.accumulate(d["a"]),
    "x[mask] of half": lambda m, d: d["a"][d["half"]],
    "x[mask] of few": lambda m, d: d["a"][d["few"]],
    "nonzero": lambda m, d: m.nonzero(d["half"]),
    "nonzero of a grid": lambda m, d: m.nonzero(d["marks"]),
    "flatnonzero of numbers": lambda m, d: m.flatnonzero(d["a"]),
    "compress": lambda m, d: m.compress(d["half"], d["a"]),
    "take": lambda m, d: m.take(d["a"], d["places"]),
    "bincount": lambda m, d: m.bincount(d["i"]),
    "histogram": lambda m, d: m.histogram(d["a"], 100),
    "histogram with weights": lambda m, d: m.histogram(d["a"], 100, weights=d["a"]),
    "searchsorted": lambda m, d: m.searchsorted(d["known"], d["a"]),
    "isin of integers": lambda m, d: m.isin(d["i"], d["i"][:100]),
    "isin of numbers": lambda m, d: m.isin(d["a"], d["known"]),
    "unique of few": lambda m, d: m.unique(d["i"]),
    "unique of many": lambda m, d: m.unique(d["places"] * 1009),
}
SIZES = (1_000_000,)  # each call is timed in a process of its own, which takes seconds


@lru_cache(maxsize=2)
def _data(size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    made = numpy.random.default_rng(size)
    a = made.random(size)
    plain = {
        "a": a, "f": a.astype("f4"), "i": made.integers(0, 1000, size).astype("i4"),
        "grid": a.reshape(-1, 1000), "half": a < 0.5, "few": a < 0.01,
        "marks": (a < 0.5).reshape(-1, 1000), "places": made.integers(0, size, size),
        "known": numpy.sort(made.random(10_000)),
    }  # fmt: skip
    return plain, {name: dispatcharr.array(value) for name, value in plain.items()}


@lru_cache(maxsize=4)
def _ready(name: str, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    plain, ours = _data(size)
    with dispatcharr.dispatch_options(engine="compiled"):
        CALLS[name](dispatcharr, ours)  # its kernels are there from now on
    return plain, ours


class Scans:
    """One call, with kernels that are there, as the prices choose."""

    params = (list(CALLS), list(SIZES))
    param_names = ("call", "size")
    timeout = 300

    def setup(self, name: str, size: int) -> None:
        self.plain, self.ours = _ready(name, size)
        self.call = CALLS[name]

    def time_dispatcharr(self, name: str, size: int) -> None:
        self.call(dispatcharr, self.ours)

    def track_speedup(self, name: str, size: int) -> float:
        return _least(lambda: self.call(numpy, self.plain)) / _least(
            lambda: self.call(dispatcharr, self.ours)
        )

    track_speedup.unit = "times NumPy"  # type: ignore[attr-defined]


def _least(call: Callable[[], Any], seconds: float = 0.3) -> float:
    """Return the least time of calls that take about so many seconds in all."""
    found, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        found = min(found, now - start)
        if now > end:
            return found
