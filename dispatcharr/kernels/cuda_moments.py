"""Variances on CUDA.

A run is kept about a mean of its own, and all means as distances from the row's first element, so
that large means cancel nothing.
"""

from __future__ import annotations

from dispatcharr.kernels.cuda_fold import (
    Flag,
    Folding,
    Given,
    chosen,
    functions,
    memory,
    number,
    state_of,
    stored,
)
from dispatcharr.plan.region import REMARK

__all__ = ["variance_of"]

_MOMENTS = """\
struct RLift {{ {kind} x; {kind} n; }};
R_INLINE RLift r_pair(const RLift a, const RLift b) {{
    RLift c; c.x = a.x + b.x; c.n = a.n + b.n; return c;
}}
struct RRun {{ {kind} at, gap, spread, n; int seen; }};
"""
_MOMENTS_ADD = """\
RLift y[N];
    {scaled}
    const RLift t = RTree<N>::of(y);
    if (run.n == 0 && t.n > 0) run.at = t.x{whole};
    #pragma unroll
    for (int i = 0; i < N; ++i) {{
        const {kind} gap = {gap};
        y[i].x = gap; y[i].n = gap * gap;
    }}
    const RLift u = RTree<N>::of(y);
    run.gap += u.x; run.spread += u.n; run.n += t.n;
    if (r_odd(run.spread)) {{
        #pragma unroll
        for (int i = 0; i < N; ++i) if ({is_there}) run.seen |= r_seen(x[i].x);
    }}"""
# Chan, Golub and LeVeque's update. A spread that is not finite stays what it is.
_MOMENTS_JOIN = """\
const double n = a.f0 + b.f0, share = n == 0 ? 0.0 : b.f0 / n, weight = a.f0 * share;
    const double gap = b.f1 - a.f1;
    state.f0 = n;
    state.f1 = weight == 0 ? (b.f0 == 0 ? a.f1 : b.f1) : a.f1 + gap * share;
    state.f2 = a.f2 + b.f2;
    if (weight != 0 && !r_odd(state.f2)) state.f2 += gap * gap * weight;
    state.f3 = a.f3 | b.f3;
    state.f4 = a.f4 + b.f4;"""
_MOMENTS_FLUSH = """\
const double n = run.n, gap = run.gap, spread = run.spread;
    state.f0 = n;
    state.f1 = n == 0 ? 0.0 : ((double)run.at - origin) + gap / n;
    const double rest = n == 0 || r_odd(spread) ? spread : spread - gap * (gap / n);
    state.f2 = rest < 0 ? 0.0 : rest;
    state.f3 = run.seen;
    state.f4 = n == 0 ? 0.0 : (double)run.at * n + gap;"""


def variance_of(given: Given) -> Folding | str:
    """Make a variance or a standard deviation."""
    if given.value.char not in "fd" or given.state.char not in "fd":
        return f"the variance of {given.value} in {given.state} is left to the host"
    if given.value.itemsize > given.state.itemsize:
        return f"the variance of {given.value} in {given.state} is left to the host"
    kind, some = number(given.state), bool(chosen(given))
    flags: tuple[Flag, ...] = ()
    if given.watched:
        squared = "multiply" if given.skips else "square"
        flags = (("overflow", squared), ("invalid value", "subtract"), ("overflow", "reduce"))
    if given.skips:
        flags += ((REMARK, "Degrees of freedom <= 0 for slice."),)
    one = f"{kind}(1)"
    lift = f"RLift lift; lift.x = ({kind})x; lift.n = {one};"
    scaled = "y[i].x = x[i].x * (1 / {kind}(N)); y[i].n = x[i].n;"
    if some:
        lift = (
            f"const bool is = {chosen(given)}; RLift lift; lift.n = is ? {one} : {kind}(0); "
            f"lift.x = is ? ({kind})x : {kind}(0);"
        )
    scaled = f"#pragma unroll\n    for (int i = 0; i < N; ++i) {{ {scaled.format(kind=kind)} }}"
    gap = "x[i].x - run.at"
    add = _MOMENTS_ADD.format(
        kind=kind, scaled=scaled, gap=f"x[i].n == 0 ? {kind}(0) : {gap}" if some else gap,
        whole=f" * ({kind}(N) / t.n)" if some else "",
        is_there="x[i].n != 0" if some else "true",
    )  # fmt: skip
    zero = f"{kind}(0)"
    begin = f"run.at = run.gap = run.spread = run.n = {zero}; run.seen = 0;"
    bodies = {
        "begin": begin, "add": add, "join": _MOMENTS_JOIN, "flush": _MOMENTS_FLUSH,
        "finish": _finished_variance(given, flags),
    }  # fmt: skip
    fields = ("double", "double", "double", "int", "double")
    text = functions(given, f"{lift} return lift;", ("0", "0", "0", "0", "0"), bodies)
    return Folding(
        _MOMENTS.format(kind=kind) + state_of(fields), text, fields, flags, ddof=given.ddof,
        shifted=True,
    )  # fmt: skip


def _finished_variance(given: Given, flags: tuple[Flag, ...]) -> str:
    root = "sqrt" if given.name.endswith("std") else ""
    over, invalid = (given.raise_flags(flags, k) for k in ("overflow", "invalid value"))
    summed = given.raise_flags(flags, "overflow", "reduce")
    lines = [
        "const double free = state.f0 - end.ddof;",
        f"double r = {root}(state.f2 / (free > 0 ? free : 0.0));",
    ]
    if given.skips:
        lines.append(f"if (free <= 0) {{ r = R_NAN; {given.raise_flags(flags, REMARK)} }}")
    summed_up = f"r_odd({memory(given.state)}(state.f4))"
    lines += [
        # What is infinite is infinitely far from a mean that is none.
        f"if (state.f3) {{ r = R_NAN; if (!(state.f3 & 2)) {invalid} }}",
        # So is everything from a mean that NumPy's sum overflows for.
        f"else if (free > 0 && {summed_up}) {{ r = R_INFINITY; {summed} }}",
        f"else if (r_odd({memory(given.state)}(r)) && !(r != r)) {over}",
        f"return {stored(given.result, 'r')};",
    ]
    return "\n    ".join(lines)
