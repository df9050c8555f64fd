"""How far functions are from the exact result, in units in the last place: NumPy's and ours.

Each function is asked over its whole range: every magnitude of its domain, both signs, and densely
where it is used most. The exact result is computed in a wider type (``longdouble`` for float64,
``float64`` for float32), which is good to a thousandth of a unit. Ours is the compiled engine's; a
function that it leaves to NumPy is NumPy's.

    python benchmarks/accuracy.py                      the table as text
    python benchmarks/accuracy.py --write docs/accuracy.md
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from datetime import date

import numpy

import dispatcharr as np
from dispatcharr.kernels import native
from dispatcharr.route.machine import machine

#: Function: the ends of its domain, and of where it is used most.
DOMAINS: dict[str, tuple[float, float, float, float]] = {
    "sin": (-1e8, 1e8, -10, 10),
    "cos": (-1e8, 1e8, -10, 10),
    "tan": (-1e8, 1e8, -10, 10),
    "arcsin": (-1, 1, -1, 1),
    "arccos": (-1, 1, -1, 1),
    "arctan": (-1e300, 1e300, -10, 10),
    "sinh": (-700, 700, -5, 5),
    "cosh": (-700, 700, -5, 5),
    "tanh": (-700, 700, -5, 5),
    "arcsinh": (-1e300, 1e300, -10, 10),
    "arccosh": (1, 1e300, 1, 20),
    "arctanh": (-1, 1, -1, 1),
    "exp": (-700, 700, -5, 5),
    "exp2": (-1000, 1000, -5, 5),
    "expm1": (-700, 700, -2, 2),
    "log": (0, 1e300, 0, 10),
    "log2": (0, 1e300, 0, 10),
    "log10": (0, 1e300, 0, 10),
    "log1p": (-1, 1e300, -1, 5),
    "cbrt": (-1e300, 1e300, -10, 10),
    "sqrt": (0, 1e300, 0, 10),
    "power": (0, 1e300, 0.1, 10),
}
SAMPLES = 2_000_000
#: Functions that kernels do not call.
SERIES = ("exp", "exp2", "expm1", "log", "power", "tanh")


def operands(name: str, dtype: numpy.dtype) -> tuple[numpy.ndarray, ...]:
    """Return the arguments of a function: of a power, bases with exponents that they may have."""
    x = arguments(name, dtype)
    if name != "power":
        return (x,)
    x = x[(x > 0) & (x != 1)]
    largest = numpy.log(numpy.finfo(dtype).max) / numpy.abs(numpy.log(x.astype(float)))
    random = numpy.random.default_rng(11)
    return x, (random.uniform(-1, 1, x.size) * numpy.minimum(largest, 1e30)).astype(dtype)


def arguments(name: str, dtype: numpy.dtype) -> numpy.ndarray:
    """Return arguments of every magnitude in the domain, and dense ones where it is used most."""
    low, high, dense_low, dense_high = DOMAINS[name]
    if dtype == numpy.float32:
        # Beyond, results are infinite or arguments are.
        bound = 80 if name in ("exp", "expm1", "sinh", "cosh", "tanh") else 1e38
        bound = 120 if name == "exp2" else bound
        low, high = max(low, -bound), min(high, bound)
    random = numpy.random.default_rng(7)
    tiny = numpy.log10(numpy.finfo(dtype).tiny)
    tops = [numpy.log10(abs(end)) if end else None for end in (low, high)]
    found = [random.uniform(dense_low, dense_high, SAMPLES // 2)]
    for sign, top in ((-1, tops[0] if low < 0 else None), (1, tops[1] if high > 0 else None)):
        if top is not None:
            found.append(sign * 10.0 ** random.uniform(tiny, top, SAMPLES // 4))
    made = numpy.concatenate(found).astype(dtype)
    return made[(made >= low) & (made <= high)]


def worst(found: numpy.ndarray, exact: numpy.ndarray) -> float:
    """Return the greatest distance in units in the last place of the exact result."""
    with numpy.errstate(all="ignore"):
        rounded = exact.astype(found.dtype)
        unit = numpy.spacing(numpy.abs(rounded)).astype(exact.dtype)
        distance = numpy.abs(found.astype(exact.dtype) - exact) / unit
    normal = numpy.isfinite(rounded) & (numpy.abs(rounded) >= numpy.finfo(found.dtype).tiny)
    return float(distance[normal].max())


def rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each function: NumPy's and our distance for float64, then for float32."""
    for name in DOMAINS:
        cells = []
        for dtype, wider in ((numpy.float64, numpy.longdouble), (numpy.float32, numpy.float64)):
            given = operands(name, numpy.dtype(dtype))
            with numpy.errstate(all="ignore"):
                exact = getattr(numpy, name)(*(x.astype(wider) for x in given))
                theirs = getattr(numpy, name)(*given)
                with np.dispatch_options(defer="always", engine="compiled"):
                    ours = np.evaluate(getattr(np, name)(*map(np.array, given))).to_numpy()
            cells += [f"{worst(theirs, exact):.2f}", f"{worst(ours, exact):.2f}"]
        yield (name, *cells)


PAGE = """# Accuracy

The greatest distance from the exact result that was met, in units in the last place, over the
whole range of each function: {samples:,} arguments of every magnitude and sign. "Compiled" is the
compiled engine, which writes series of its own into its loops for
{series}; its other functions are those of glibc's libmvec.
"NumPy" is what the `blocks` engine calls. Arithmetic, comparisons and `sqrt` are exact in the
sense of IEEE 754 in both, and have the same bits.

A power whose exponent is one number for all elements is libmvec's.

The series are written with fused multiply-add. On a CPU without it they stay within 1.8 units;
powers are left to NumPy there.

| function | NumPy, float64 | compiled, float64 | NumPy, float32 | compiled, float32 |
| --- | --- | --- | --- | --- |
{rows}

Measured by `benchmarks/accuracy.py` on {day}: {cpu}, Python {python}, NumPy {numpy}, {libc},
vectors of {bits} bits.
"""


def main() -> None:
    """Print the table, or write it as a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", metavar="FILE", help="write a page of the documentation")
    chosen = parser.parse_args()
    host = native.host()
    if isinstance(host, str):
        raise SystemExit(f"accuracy: nothing is compiled here: {host}")
    if numpy.finfo(numpy.longdouble).nmant <= numpy.finfo(float).nmant:
        raise SystemExit("accuracy: longdouble is no wider than float64 here; run it on x86-64")
    lines = [f"| {' | '.join((f'`{name}`', *cells))} |" for name, *cells in rows()]
    page = PAGE.format(
        samples=SAMPLES,
        series=", ".join(f"`{name}`" for name in sorted(SERIES)),
        rows="\n".join(lines),
        day=date.today(),
        cpu=machine()["cpu"],
        python=platform.python_version(),
        numpy=numpy.__version__,
        libc=" ".join(platform.libc_ver()),
        bits=8 * host.vector_bytes,
    )
    if chosen.write is None:
        print(page)
        return
    with open(chosen.write, "w", encoding="utf-8") as file:
        file.write(page)


if __name__ == "__main__":
    main()
