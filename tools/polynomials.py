"""The coefficients of the polynomials in ``series.py`` and ``powers.py`` of ``ops/bodies``.

Each is the interpolation of a function in the Chebyshev nodes of an interval, computed in 60
decimal digits; its error there is printed with it, and is at most a few times the least possible.
With the constant coefficient comes what it lacks.

    python tools/polynomials.py
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from decimal import Decimal, getcontext

getcontext().prec = 60
_LN2 = Decimal(2).ln()


def _exponential(r: Decimal) -> Decimal:
    """Return ``(exp(r) - 1 - r) / r**2``."""
    return (r.exp() - 1 - r) / (r * r)


def _logarithm(z: Decimal) -> Decimal:
    """Return ``(log(1 + f) / s - 2) / z`` for ``s = f / (2 + f)`` and ``z = s**2``."""
    s = z.sqrt()
    return (((1 + s) / (1 - s)).ln() / s - 2) / z


def _binary_logarithm(z: Decimal) -> Decimal:
    """Return the same for ``log2(1 + f)``."""
    return _logarithm(z) / _LN2


#: What for, the function, its interval, and the degrees for float64 and float32.
WANTED: dict[str, tuple[Callable[[Decimal], Decimal], Decimal, Decimal, tuple[int, int]]] = {
    "exponential": (_exponential, -_LN2 * Decimal("0.51"), _LN2 * Decimal("0.51"), (9, 4)),
    "logarithm": (_logarithm, Decimal("1e-9"), Decimal("0.02944"), (6, 2)),
    "power": (_binary_logarithm, Decimal("1e-20"), Decimal("0.02944"), (8, 3)),
}


def interpolation(
    function: Callable[[Decimal], Decimal], low: Decimal, high: Decimal, degree: int
) -> list[Decimal]:
    """Return the coefficients, the constant one first, of the polynomial in the Chebyshev nodes."""
    count = degree + 1
    nodes = [
        (low + high) / 2 + (high - low) / 2 * Decimal(math.cos(math.pi * (i + 0.5) / count))
        for i in range(count)
    ]
    divided = [function(node) for node in nodes]
    for level in range(1, count):
        for i in range(count - 1, level - 1, -1):
            divided[i] = (divided[i] - divided[i - 1]) / (nodes[i] - nodes[i - level])
    coefficients = [Decimal(0)] * count
    for node, difference in zip(reversed(nodes), reversed(divided), strict=True):
        shifted = [Decimal(0), *coefficients[:-1]]
        coefficients = [b - node * a for a, b in zip(coefficients, shifted, strict=True)]
        coefficients[0] += difference
    return coefficients


def greatest_error(
    function: Callable[[Decimal], Decimal], coefficients: list[Decimal], low: Decimal, high: Decimal
) -> float:
    """Return the greatest distance from the function at 1,000 points of the interval."""
    worst = Decimal(0)
    for i in range(1000):
        x = low + (high - low) * (i + Decimal("0.37")) / 1000
        value = Decimal(0)
        for coefficient in reversed(coefficients):
            value = value * x + coefficient
        worst = max(worst, abs(value - function(x)))
    return float(worst)


def main() -> None:
    """Print the coefficients as floats, the constant one first."""
    for name, (function, low, high, degrees) in WANTED.items():
        for bits, degree in zip((64, 32), degrees, strict=True):
            found = interpolation(function, low, high, degree)
            error = greatest_error(function, found, low, high)
            print(f"{name}, float{bits}, off by {error:.1e}:")
            for coefficient in found:
                print(f"    {_rounded(coefficient, bits)!r},")
            print(f"    ({_rounded(found[0] - Decimal(_rounded(found[0], bits)), bits)!r})")
    for bits in (64, 32):
        first = _rounded(2 / _LN2, bits)
        lacking = _rounded(2 / _LN2 - Decimal(first), bits)
        print(f"2 / log(2), float{bits}: {first!r}, {lacking!r}")


def _rounded(number: Decimal, bits: int) -> float:
    """Return the nearest float of so many bits."""
    code = "<d" if bits == 64 else "<f"
    return float(struct.unpack(code, struct.pack(code, float(number)))[0])


if __name__ == "__main__":
    main()
