"""Powers of floats: ``x**y = 2**(y * log2(x))``.

The logarithm is multiplied by up to 1,075, and so is its error. So it is made in two parts, with
the digits of 66 bits for float64, for which fused multiply-add gives what products lose.

Special values are chosen from masks. The one division is by zero where there is an error to report.
"""

from __future__ import annotations

import math

from dispatcharr.ops.bodies.float_bits import (
    bits_of,
    float_of,
    polynomial,
    size_of,
    unsigned_of,
)
from dispatcharr.ops.bodies.series import parts_of, power_of_two
from dispatcharr.ops.bodies.writing import Value

__all__ = ["power"]

#: By the bits of a float: two over the logarithm of two, in two parts.
_FIRST = {
    64: (2.8853900817779268, 4.0710547481862066e-17),
    32: (2.885390043258667, 3.851925982253235e-08),
}
#: Of ``(log2(1 + f) / s - 2 / log(2)) / s**2`` in ``s**2``, for ``s = f / (2 + f)``, and what the
#: first of the coefficients lacks.
_SERIES = {
    64: (
        0.9617966939259756, 0.5770780163555852, 0.41219858311123037, 0.32059889794120777,
        0.26230819519695353, 0.22195250227285432, 0.1923926074121414, 0.16862376389055464,
        0.1714229444281375,
    ),
    32: (0.9617967009544373, 0.5770797729492188, 0.41190120577812195, 0.3365890383720398),
}  # fmt: skip
_LACKING = {64: 5.059729617360201e-17, 32: -8.64733869198715e-09}
#: Beyond, all powers overflow or underflow.
_LAST = {64: 1100.0, 32: 200.0}


def _exact(a: Value, b: Value | float, c: Value | float) -> Value:
    """Return ``a * b + c``, rounded once on any machine."""
    return a.text.intrinsic("fma", a, a.like(b), a.like(c))


def _log2(k: Value, f: Value, inverse: Value) -> tuple[Value, Value]:
    """Return ``k + log2(1 + f)`` in two parts; ``inverse`` is nearly ``1 / (2 + f)``."""
    bits, below = f.kind.bits, f + 2.0
    first, first_low = _FIRST[bits]
    start, *others = _SERIES[bits]
    s = f * inverse
    s_low = _exact(-s, f - (below - 2.0), _exact(-s, below, f)) * inverse
    z = s * s
    z_low = _exact(s + s, s_low, _exact(s, s, -z))
    series = polynomial(z, tuple(others), z * z)
    t = _exact(z, series, start)
    t_low = _exact(z, series, t.like(start) - t) + _LACKING[bits]
    w = z * t
    w_low = _exact(z_low, t, _exact(z, t_low, _exact(z, t, -w)))
    factor = w + first
    factor_low = (w - (factor - first)) + (w_low + first_low)
    fraction = s * factor
    low = _exact(s_low, factor, _exact(s, factor_low, _exact(s, factor, -fraction)))
    high = k + fraction
    return high, (fraction - (high - k)) + low


def _raised(high: Value, low: Value, y: Value, usual: Value) -> Value:
    """Return ``2**((high + low) * y)`` where that is ``usual``, else one."""
    last = _LAST[y.kind.bits]
    usual = usual & high.ne(0.0)  # zero by infinity would be NaN
    exponent = usual.choose(high * y, 0.0)
    rest = _exact(low, y, _exact(high, y, -exponent))
    clamped = (exponent < last).choose(exponent, last)
    clamped = (clamped > -last).choose(clamped, -last)
    return power_of_two(clamped, (usual & clamped.eq(exponent)).choose(rest, 0.0))


def power(x: Value, y: Value) -> Value:
    """Return the rule's ``x**y``."""
    infinity = bits_of(x.kind, math.inf)
    size = float_of(size_of(x))
    ordinary = (unsigned_of(size) - 1) < infinity - 1
    number, below_zero = y.ordered(y), y.bits() < 0
    whole = y.text.intrinsic("floor", y).eq(y)
    half = y * 0.5
    odd = whole & y.text.intrinsic("floor", half).ne(half)
    negative = x.bits() < 0
    usual = ordinary & number
    invalid = usual & negative & ~whole

    k, f = parts_of(size)
    below = ordinary.choose(f + 2.0, below_zero.choose(size, 1.0))
    inverse = invalid.choose(0.0, x.like(1.0)) / invalid.choose(0.0, below)
    made = _raised(*_log2(k, f, inverse), y, usual)

    other = (below_zero | invalid).choose(inverse, size)
    made = ((ordinary & ~invalid) | y.eq(0.0)).choose(made, other)
    made = (odd & negative).choose(-made, made)
    return (number | x.eq(1.0)).choose(made, y)
