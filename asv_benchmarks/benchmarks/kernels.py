"""Compiled kernels: layouts, integer contractions, functions of the user's; and their compilation.

Each call is timed in turn with NumPy's, once its kernel is built.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy

import dispatcharr
from dispatcharr.kernels.build import shared_builder

from .pairs import Contender, Pace, take_turns

Call = Callable[[Any, dict[str, Any]], Any]
_SIDE = 1000
#: Runs until the automatic path knows what to do.
_SETTLING = 40
CALLS: dict[str, Call] = {
    "contiguous": lambda np, d: d["a"] * d["b"] + d["a"],
    "every other": lambda np, d: d["a"][:, ::2] * d["b"][:, ::2] + 1.5,
    "backwards": lambda np, d: d["a"][::-1, ::-1] * d["b"] + 1.5,
    "a column to all": lambda np, d: d["a"] * d["b"][:, :1] + d["a"],
    "a row to all": lambda np, d: d["a"] * d["b"][0] + d["a"],
    "transposed": lambda np, d: d["a"] * d["b"].T + d["a"],
    "rows of 3": lambda np, d: (d["points"] * d["points"] + 1.5).sum(axis=1),
    "an outer product": lambda np, d: d["a"][0][:, None] * d["b"][0] + 1.5,
    "columns summed": lambda np, d: (d["a"] * d["b"]).sum(axis=0),
    "rows summed": lambda np, d: (d["a"] * d["b"]).sum(axis=1),
    "mean and deviation": lambda np, d: ((d["a"] * d["b"]).mean(), (d["a"] * d["b"]).std()),
    "matmul of int32": lambda np, d: d["i4"] @ d["i4"],
    "matmul of int8 to int32": lambda np, d: np.matmul(d["i1"], d["i1"], dtype=np.int32),
    "einsum of int64": lambda np, d: np.einsum("ij,kj->ik", d["i8"], d["i8"]),
    "dot of bool": lambda np, d: np.dot(d["truth"], d["truth"]),
}


def _data() -> dict[str, Any]:
    draw = numpy.random.default_rng(5)
    a, b = draw.random((2, _SIDE, _SIDE)) + 0.5
    small = draw.integers(-100, 100, (256, 256))
    return {
        "a": a, "b": b, "points": draw.random((200_000, 3)), "truth": small > 0,
        "i1": small.astype("i1"), "i4": small.astype("i4"), "i8": small.astype("i8"),
    }  # fmt: skip


def _evaluated(call: Call, ours: dict[str, Any]) -> Any:
    found = call(dispatcharr, ours)
    return found if isinstance(found, tuple) else dispatcharr.evaluate(found)


class Kernels:
    """Seconds of ours, and how many times faster than NumPy that is."""

    params = (list(CALLS),)
    param_names = ("call",)
    timeout = 300

    def setup_cache(self) -> dict[str, tuple[float, float]]:
        plain = _data()
        ours = {name: dispatcharr.array(array) for name, array in plain.items()}
        found = {}
        for name, call in CALLS.items():
            with dispatcharr.dispatch_options(engine="compiled", defer="always"):
                _evaluated(call, ours)
            shared_builder().wait()
            for _ in range(_SETTLING):
                _evaluated(call, ours)
            names = {"call": call, "evaluated": _evaluated, "np": numpy}
            turns = take_turns(
                [
                    Contender("call(np, data)", {**names, "data": plain}),
                    Contender("evaluated(call, data)", {**names, "data": ours}),
                ],
                Pace(budget=0.3, least=5),
            )
            found[name] = turns.typical(1), turns.ratio(0, 1)
        return found

    def track_dispatcharr(self, cells: dict[str, tuple[float, float]], name: str) -> float:
        return cells[name][0]

    track_dispatcharr.unit = "seconds"  # type: ignore[attr-defined]

    def track_speedup(self, cells: dict[str, tuple[float, float]], name: str) -> float:
        return cells[name][1]

    track_speedup.unit = "times NumPy"  # type: ignore[attr-defined]


class Compiling:
    """Seconds from the first call of an expression until its kernel is there."""

    def setup(self) -> None:
        self.a = dispatcharr.linspace(1.0, 2.0, 1_000_000)
        self._seconds(lambda a: (a - 1.5) * (a + 1.5) / dispatcharr.sqrt(a))

    def _seconds(self, compute: Callable[[Any], Any]) -> float:
        start = time.perf_counter()
        with dispatcharr.dispatch_options(engine="compiled", defer="always"):
            dispatcharr.evaluate(compute(self.a))
        shared_builder().wait()
        return time.perf_counter() - start

    def track_five_operations(self) -> float:
        # Another constant is no other kernel, another order of operations is.
        return self._seconds(lambda a: (dispatcharr.sqrt(a * a + a) / a - a) * 2.0)

    track_five_operations.unit = "seconds"  # type: ignore[attr-defined]
