"""Part of the check of a device: the expressions of the laboratory, next to other libraries.

All contenders work on arrays that are on the device, and leave their results there; a single number
is fetched by all alike. What is compiled is compiled before. They take turns, and each sample ends
when the device has done everything.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
from gpu_kernels import cupy_here, device_here
from gpu_rows import Teller, geometric_mean, timed

import dispatcharr as np
from dispatcharr.bench.expressions import EXPRESSIONS, Expression, under

__all__ = ["PARTS"]

Run = Callable[[], Any]


def operands(expression: Expression, size: int) -> list[numpy.ndarray]:
    """Return arrays of the expression's own values, repeated: drawing them all takes minutes."""
    few = expression.make(min(size, 1 << 16), numpy.dtype("f8"))
    dimensions = few[0].ndim
    side = round(size ** (1 / dimensions))
    shape = (size,) if dimensions == 1 else (side,) * dimensions
    return [numpy.resize(one.reshape(-1), shape) for one in few]


def settled(run: Run) -> Run:
    """Have a single number fetched, as a program would that prints it."""

    def fetch() -> Any:
        result = run()
        return result.item() if getattr(result, "shape", ()) == () else result

    return fetch


def ours(expression: Expression, arrays: Sequence[numpy.ndarray]) -> Run:
    """Return what computes the expression with our kernels."""
    compute = under(expression.compute, np)
    given = [np.array(array) for array in arrays]

    return lambda: np.evaluate(compute(*given))


def others(
    expression: Expression, arrays: Sequence[numpy.ndarray], compiling: bool
) -> Iterator[tuple[str, Run | str]]:
    """Give the other libraries' runs, each of which has run, or why there is none."""
    cupy = cupy_here()
    if cupy is None:
        yield "CuPy", "not here"
        return
    given = [cupy.asarray(array) for array in arrays]
    compute = under(expression.compute, cupy)
    if not compiling:
        yield "CuPy", tried(lambda: compute(*given))
        fused = cupy.fuse(kernel_name=expression.name)(under(expression.compute, cupy))
        yield "cupy.fuse", tried(lambda: fused(*given))
        return
    try:
        import torch
    except Exception as error:  # a library that is missing or broken costs its own figures alone
        yield "torch.compile", str(error)
        return
    tensors = [torch.as_tensor(array, device="cuda") for array in given]
    compute = under(expression.compute, torch)
    if expression.name == "deviation":  # its own default divides by n - 1
        compute = _population_deviation
    torch._dynamo.reset()
    compiled = torch.compile(compute, dynamic=False)

    def run() -> Any:
        with torch.no_grad():
            return compiled(*tensors)

    yield "torch.compile", tried(run)


def _population_deviation(a: Any) -> Any:
    return a.std(correction=0)


def tried(run: Run) -> Run | str:
    """Return the run, or why it cannot be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settled(run)()
        return settled(run)
    except Exception as error:  # whatever a library cannot do
        return f"{type(error).__name__}: {error}".splitlines()[0][:80]


def agrees(mine: Any, theirs: Any) -> bool:
    """Return whether two results are the same but for rounding."""
    if hasattr(theirs, "get"):
        theirs = theirs.get()
    elif hasattr(theirs, "cpu"):
        theirs = theirs.cpu().numpy()
    mine = numpy.asarray(mine)
    scale = float(numpy.max(numpy.abs(mine)))
    return bool(numpy.max(numpy.abs(mine - numpy.asarray(theirs))) <= 1e-9 * scale)


def compare(tell: Teller, size: int, compiling: bool, check: bool) -> None:
    """Measure every expression on arrays of that many elements."""
    with np.use_backend("cuda"):
        _compare(tell, size, compiling, check)


def _compare(tell: Teller, size: int, compiling: bool, check: bool) -> None:
    device = device_here()
    gains: dict[str, list[float]] = {}
    for expression in EXPRESSIONS.values():
        title = f"{expression.title}, {size:.0e}"
        if tell.left() < 6:
            tell.tell(title, None, note="no time left")
            continue
        arrays = operands(expression, size)
        mine = settled(ours(expression, arrays))
        rivals = list(others(expression, arrays, compiling))
        runs = [run for _, run in rivals if not isinstance(run, str)]
        wrong = check and not all(agrees(mine(), run()) for run in runs)
        mine()
        seconds, *theirs = timed([mine, *runs], device.synchronize, 0.1)
        moving = sum(array.nbytes for array in arrays) / seconds / 1e9
        told = [f"{moving:.0f} GB/s read"]
        for name, run in rivals:
            if isinstance(run, str):
                told.append(f"{name}: {run}")
                continue
            gains.setdefault(name, []).append(theirs[0] / seconds)
            told.append(f"{name} {theirs.pop(0) * 1e6:.0f} us")
        told += ["DISAGREES"] if wrong else []
        tell.tell(title, seconds * 1e6, "us", note="; ".join(told))
        _release()
    for name, found in gains.items():
        goal = 2.0 if name == "CuPy" else 1.0
        mean = geometric_mean(found)
        note = f"geometric mean of {len(found)}; worst {min(found):.2f}"
        tell.tell(f"faster than {name}, {size:.0e}", mean, "x", goal=goal, note=note)


def _release() -> None:
    """Give back what the other libraries keep for later."""
    cupy = cupy_here()
    if cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()


def lab(tell: Teller) -> None:
    """Compare with CuPy, eager and fused."""
    for size in (10_000,) if tell.small else (10_000_000, 50_000_000):
        compare(tell, size, compiling=False, check=size <= 10_000_000)


def compiled(tell: Teller) -> None:
    """Compare with torch.compile."""
    compare(tell, 10_000 if tell.small else 50_000_000, compiling=True, check=False)


PARTS = {"expressions": lab, "expressions, torch.compile": compiled}
