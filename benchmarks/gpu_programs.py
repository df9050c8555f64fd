"""Parts of the check of a device: programs in plain NumPy, and what the router makes of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any

import numpy
from gpu_kernels import cupy_here, device_here
from gpu_rows import Teller

import dispatcharr as np

__all__ = ["PARTS"]

_RATE = 0.2
#: A step of the heat equation from one array to another, as one would write it by hand.
_STENCIL = """
extern "C" __global__ void step(const double* u, double* v, int n, double k) {
    int j = blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y;
    if (i >= n || j >= n) return;
    long long at = (long long)i * n + j;
    double c = u[at];
    if (i > 0 && j > 0 && i < n - 1 && j < n - 1)
        c += k * (u[at - n] + u[at + n] + u[at - 1] + u[at + 1] - 4.0 * c);
    v[at] = c;
}
"""


def in_place(u: Any, steps: int) -> Any:
    """Let heat flow by steps that add to the plate's inner part."""
    for _ in range(steps):
        u[1:-1, 1:-1] += _RATE * (
            u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4.0 * u[1:-1, 1:-1]
        )
    return u


def by_copy(u: Any, steps: int) -> Any:
    """Let heat flow by steps that read a copy."""
    for _ in range(steps):
        un = u.copy()
        u[1:-1, 1:-1] = un[1:-1, 1:-1] + _RATE * (
            un[:-2, 1:-1] + un[2:, 1:-1] + un[1:-1, :-2] + un[1:-1, 2:] - 4.0 * un[1:-1, 1:-1]
        )
    return u


def by_hand(cupy: Any, start: numpy.ndarray, steps: int) -> numpy.ndarray:
    """Let heat flow by a kernel written for it."""
    step = cupy.RawKernel(_STENCIL, "step", options=("--fmad=false",))
    u = cupy.asarray(start)
    v, n = cupy.empty_like(u), numpy.int32(len(start))
    for _ in range(steps):
        step((-(-int(n) // 256), int(n)), (256,), (u, v, n, numpy.float64(_RATE)))
        u, v = v, u
    found: numpy.ndarray = cupy.asnumpy(u)
    return found


def heat(tell: Teller) -> None:
    """Measure a program from NumPy's array to NumPy's array, transfers included."""
    device_here()
    sizes, steps = ((64,), 20) if tell.small else ((1024, 4096), 1000)
    for size in sizes:
        start = numpy.random.default_rng(5).random((size, size))
        few = max(steps // (200 if size > 2000 else 20), 2)
        began = time.perf_counter()
        numpys = in_place(start.copy(), few)
        numpy_s = (time.perf_counter() - began) / few * steps
        tell.tell(f"heat {size}, NumPy", numpy_s, "s", note=f"by {few} steps of {steps}")
        for name, style in (("in place", in_place), ("by copy", by_copy)):
            _one_heat(tell, start, steps, numpys, few, f"heat {size} {name}", style)


def _one_heat(
    tell: Teller, start: numpy.ndarray, steps: int, numpys: numpy.ndarray, few: int, title: str,
    style: Callable[[Any, int], Any],
) -> None:  # fmt: skip
    def ours(count: int = steps) -> numpy.ndarray:
        found: numpy.ndarray = style(np.array(start), count).to_numpy()
        return found

    with np.use_backend("cuda"):
        right = bool(numpy.array_equal(ours(few), numpys))
        forced = _seconds(ours)
        part = _seconds(lambda: ours(steps // 10), 1)
    tell.tell(f"{title}, cuda", forced, "s", note="" if right else "NOT NUMPY'S BITS")
    # If it stays on the host, this is fifty times slower.
    auto = _seconds(lambda: ours(steps // 10), 1)
    tell.tell(f"{title}, automatic over cuda", auto / part, "x", goal=1.15, at_least=False)
    cupy = cupy_here()
    if cupy is None:
        tell.tell(f"{title}, over CuPy", None, goal=1.15, at_least=False, note="no CuPy")
        return
    eager = _seconds(lambda: cupy.asnumpy(style(cupy.asarray(start), steps)))
    tell.tell(
        f"{title}, over CuPy", forced / eager, "x", goal=1.15, at_least=False,
        note=f"the same program in CuPy: {eager:.3f} s",
    )  # fmt: skip
    raw = _seconds(lambda: by_hand(cupy, start, steps))
    note = f"one kernel a step between two arrays: {raw:.3f} s"
    tell.tell(f"{title}, over a kernel by hand", forced / raw, "x", note=note)


def _seconds(run: Callable[[], Any], repeats: int = 2) -> float:
    """Return the least seconds of a run, after a first one."""
    run()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


class Trace:
    """A program of some thirty statements on arrays of all sizes, one pass after the other.

    Parameters
    ----------
    sizes : tuple of int
        Elements of tiny, small, middling and large arrays.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        draw = numpy.random.default_rng(1)
        names = "tsml"
        self.host = {
            f"{name}{i}": draw.random(size) + 0.5
            for name, size in zip(names, sizes, strict=True)
            for i in range(2)
        }
        self.kept = {name: np.array(host) for name, host in self.host.items()}

    def fresh(self, name: str) -> Any:
        """Return an array that has just come from the host."""
        return np.array(self.host[name])

    def small_ones(self) -> list[Any]:
        """Compute on what fits a cache."""
        k = self.kept
        return [
            k["t0"] + k["t1"],
            np.exp(k["t0"]) * 2,
            (k["t0"] * k["t1"]).sum(),
            np.sqrt(k["t1"]),
            k["s0"] * k["s1"] - k["s0"],
            np.where(k["s0"] > k["s1"], k["s0"], k["s1"]),
            k["s0"].sum(),
            np.sin(k["s1"]) ** 2,
            k["s0"].mean(),
        ]

    def from_the_host(self) -> list[Any]:
        """Compute on arrays that are used once."""
        m, large = self.fresh("m0"), self.fresh("l0")
        return [
            self.fresh("t0") * 3,
            self.fresh("s0") + 1,
            np.sqrt(self.fresh("s1")).sum(),
            m * 2 + 1,
            np.exp(self.fresh("m1")).sum(),
            (large * 2 + 1).max(),
            (self.fresh("l1") - 0.5).sum(),
        ]

    def on_and_on(self) -> list[Any]:
        """Compute on what stays, and on results of before."""
        k = self.kept
        k["m0"] = np.evaluate(k["m0"] * 0.5 + k["m1"] * 0.5)
        k["l0"] = np.evaluate(np.sqrt(k["l0"] * k["l1"]))
        found = [
            np.sin(k["m0"]) * np.cos(k["m1"]),
            k["m0"].mean(),
            (k["m0"] - k["m1"]).std(),
            np.exp(-k["l0"]) * k["l1"],
            (k["l0"] * k["l1"] + k["l0"]).sum(),
            ((k["l0"] - k["l1"]) ** 2).sum(),
            np.where(k["l0"] > 1, k["l0"], k["l1"]) * 2,
            np.log(k["l0"]).max(),
            k["l1"].min(),
        ]
        k["l0"] *= 0.999
        k["l0"] += 0.001
        k["m1"][1:-1] = 0.5 * (k["m1"][2:] + k["m1"][:-2])
        return found

    def mixed(self) -> list[Any]:
        """Compute everything."""
        return [*self.small_ones(), *self.from_the_host(), *self.on_and_on()]


def regret(tell: Teller) -> None:
    """Measure programs with the automatic path, and with each backend by force."""
    device = device_here()
    sizes = (1000, 3000, 10_000, 30_000) if tell.small else (1000, 30_000, 1_000_000, 30_000_000)
    for kind, goal in (
        ("mixed", 1.3),
        ("on_and_on", 1.3),
        ("from_the_host", 1.3),
        ("small_ones", None),
    ):
        if tell.left() < 10:
            tell.tell(f"regret, {kind}", None, note="no time left")
            continue
        found = {name: _passes(device, kind, sizes, name) for name in ("auto", *_FORCED)}
        taken = {name: seconds for name, (seconds, _) in found.items()}
        best = min(_FORCED, key=taken.__getitem__)
        note = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in taken.items())
        first = found["auto"][1] / found[best][1]
        tell.tell(
            f"regret, {kind}", taken["auto"] / taken[best], "x best", goal=goal, at_least=False,
            note=f"ms a pass: {note}", data={"first_pass": {n: f for n, (_, f) in found.items()}},
        )  # fmt: skip
        tell.tell(f"the first pass of a process, {kind}", first, "x best")


_FORCED = ("serial", "threads", "cuda")


def _passes(device: Any, kind: str, sizes: tuple[int, ...], name: str) -> tuple[float, float]:
    """Return the seconds of a pass once all is learned, and of the first one."""
    trace = Trace(sizes)
    took = []
    for _ in range(8 if name == "auto" else 4):
        with np.use_backend(name) if name != "auto" else nullcontext():
            start = time.perf_counter()
            for result in getattr(trace, kind)():
                np.evaluate(result)
            device.synchronize()
            took.append(time.perf_counter() - start)
    return median(took[-3:]), took[0]


PARTS = {"heat equation": heat, "router": regret}
