"""Sums, means and products on CUDA.

Runs are kept in the precision of the elements. Sums of float32 go on from there in float64, which
then costs one addition in many elements even where float64 is slow; sums of float64 carry their
rounding error along. So the error of a sum does not grow with its length. Sums and products of
halves are kept in float32, integers wrap as unsigned numbers.
"""

from __future__ import annotations

from dispatcharr.kernels.cuda_complex import complex_product_of, complex_sum_of
from dispatcharr.kernels.cuda_fold import (
    Flag,
    Folding,
    Given,
    chosen,
    functions,
    loaded,
    number,
    picked,
    plain_head,
    state_of,
    stored,
)
from dispatcharr.plan.region import AGAIN, REMARK

__all__ = ["product_of", "sum_of"]


def sum_of(given: Given) -> Folding | str:
    """Make a sum or a mean."""
    if given.state.kind == "c":
        return complex_sum_of(given)
    if given.state.kind in "iu" and given.value.kind in "biu":
        return _integers(given, "+", 0)
    if given.state.kind != "f" or given.state.char == "e":
        return f"accumulating {given.value} in {given.state} is left to the host"
    kind = number(given.state)
    exact, counts = kind == "double", given.name == "nanmean"
    lift = _lifted_sum(given, kind, counts)
    # The state: the sum, its rounding error, how many count, what was seen of infinities and NaN.
    fields = ["double"] * (1 + exact) + ["long long"] * counts + ["int"] * given.watched
    n, seen = f"f{1 + exact}", f"f{1 + exact + counts}"
    flags: tuple[Flag, ...] = ()
    if given.watched:
        flags = (("overflow", "reduce"), ("invalid value", "reduce"))
    if counts:
        flags += ((REMARK, "Mean of empty slice"),)
    join = _TWO_SUM if exact else "state.f0 = a.f0 + b.f0;"
    flush = "state.f0 = run.sum;" + " state.f1 = 0.0;" * exact
    begin, add = f"run.sum = {kind}(0);", "run.sum += t" + ".x" * counts + ";"
    if counts:
        begin, add = begin + " run.n = 0;", add + " run.n += t.n;"
        join, flush = f"{join} state.{n} = a.{n} + b.{n};", f"{flush} state.{n} = run.n;"
    if given.watched:
        begin, add = begin + " run.seen = 0;", add + _watching("run.sum", "x[i]" + ".x" * counts)
        join = f"{join} state.{seen} = a.{seen} | b.{seen};"
        flush = f"{flush} state.{seen} = run.seen;"
    extra = " long long n;" * counts + " int seen;" * given.watched
    bodies = {
        "begin": begin, "add": f"const RLift t = RTree<N>::of(x); {add}", "join": join,
        "flush": flush, "finish": _finished_sum(given, flags, n, seen),
    }  # fmt: skip
    head = _COUNTED.format(kind=kind) if counts else plain_head(kind, "a + b")
    head += f"struct RRun {{ {kind} sum;{extra} }};\n{state_of(fields)}"
    zeros = tuple("0" for _ in fields)
    return Folding(head, functions(given, lift, zeros, bodies), tuple(fields), flags, given.initial)


_COUNTED = """\
struct RLift {{ {kind} x; int n; }};
R_INLINE RLift r_pair(const RLift a, const RLift b) {{
    RLift c; c.x = a.x + b.x; c.n = a.n + b.n; return c;
}}
"""
#: Knuth's sum of two numbers with what is lost of it.
_TWO_SUM = (
    "const double s = a.f0 + b.f0, t = s - a.f0; state.f0 = s; "
    "state.f1 = a.f1 + b.f1 + ((a.f0 - (s - t)) + (b.f0 - t));"
)


def _watching(total: str, element: str) -> str:
    """Return what looks at elements where a total is not finite: seldom."""
    return f"""
    if (r_odd({total})) {{
        #pragma unroll
        for (int i = 0; i < N; ++i) run.seen |= r_seen({element});
    }}"""


def _lifted_sum(given: Given, kind: str, counts: bool) -> str:
    value = f"({kind}){loaded(given.value)}"
    if not counts:
        return f"return {picked(given, value, f'{kind}(0)')};"
    return (
        f"const bool is = {chosen(given)}; RLift lift; lift.n = is; "
        f"lift.x = is ? {value} : {kind}(0); return lift;"
    )


def _finished_sum(given: Given, flags: tuple[Flag, ...], n: str, seen: str) -> str:
    kind = number(given.state)
    lines = ["double sum = state.f0;"]
    if kind == "double":  # where the sum is not finite, neither is what was lost
        lines.append("if (!r_odd(sum) && !r_odd(sum + state.f1)) sum += state.f1;")
    if given.watched:
        lines.append(f"int seen = state.{seen};")
    if given.initial is not None:
        lines.append("const double first = __longlong_as_double(end.initial);")
        lines.append("sum = first + sum;")
        if given.watched:
            lines.append("seen |= r_seen(first);")
    lines.append(f"{kind} r = ({kind})sum;")
    shown = "(float)r" if kind == "double" and given.result.itemsize == 4 else "r"
    if given.result.char == "e" and given.name in ("sum", "nansum"):
        shown = "r_half(r_to_half(r))"
    if given.watched:
        over, invalid = (given.raise_flags(flags, k) for k in ("overflow", "invalid value"))
        lines += [
            f"const {kind} shown = {shown};",
            f"if (shown != shown) {{ if (!(seen & 2)) {invalid} if (!seen) {over} }}",
            f"else if (r_odd(shown) && !(seen & 1)) {over}",
        ]
    if given.name == "nanmean":
        remark = given.raise_flags(flags, REMARK)
        lines.append(f"if (state.{n} == 0) {remark}")
        lines.append(f"r = state.{n} == 0 ? ({kind})R_NAN : r / ({kind})state.{n};")
    elif given.name == "mean":
        lines.append(f"r = r / ({kind})end.count;")
    lines.append(f"return {stored(given.result, 'r')};")
    return "\n    ".join(lines)


def _integers(given: Given, sign: str, start: int) -> Folding | str:
    kind = "unsigned long long"
    if given.result.kind not in "iu":
        return f"accumulating {given.value} in {given.state} is left to the host"
    wide = "(long long)" if given.value.kind == "i" else ""
    value = f"({kind}){wide}{loaded(given.value)}"
    lifted, widened = kind, "run.r"
    if sign == "+" and given.value.itemsize <= 2:  # a run of them fits 32 bits
        lifted = number(given.value)
        value, widened = f"({lifted}){loaded(given.value)}", f"({kind}){wide}run.r"
    lift = f"return {picked(given, value, f'({lifted}){start}')};"
    first = f"({kind})end.initial {sign} " if given.initial is not None else ""
    bodies = {
        "begin": f"run.r = {start};",
        "add": f"run.r {sign}= RTree<N>::of(x);",
        "join": f"state.f0 = a.f0 {sign} b.f0;",
        "flush": f"state.f0 = {widened};",
        "finish": f"return {stored(given.result, f'{first}state.f0')};",
    }
    head = plain_head(lifted, f"a {sign} b") + "struct RRun { RLift r; };\n" + state_of([kind])
    return Folding(
        head, functions(given, lift, (f"{start}ull",), bodies), (kind,), initial=given.initial
    )


def product_of(given: Given) -> Folding | str:
    """Make a product."""
    if given.state.kind == "c":
        return complex_product_of(given)
    if given.state.kind in "iu" and given.value.kind in "biu":
        return _integers(given, "*", 1)
    if given.state.kind != "f" or given.state.char == "e":
        return f"accumulating {given.value} in {given.state} is left to the host"
    kind = number(given.state)
    # Where something overflows, what is left depends on the order: 0 * inf.
    flags: tuple[Flag, ...] = ((AGAIN, given.name),)
    if given.watched:
        flags += (("overflow", "reduce"), ("invalid value", "reduce"))
    lift = f"return {picked(given, f'({kind}){loaded(given.value)}', f'{kind}(1)')};"
    first = (
        f"r = ({kind})__longlong_as_double(end.initial) * r; " if given.initial is not None else ""
    )
    half = " || r_odd(r_half(r_to_half(r)))" if given.result.char == "e" else ""
    finish = (
        f"{kind} r = state.f0; const int seen = state.f1; {first}\n    "
        f"if ((r_odd(r){half}) && !(seen & 2)) {{ {given.raise_flags(flags, 'again')} "
        f"if (!seen) {given.raise_flags(flags, 'overflow')} }}\n    "
        f"if (r != r && !(seen & 2)) {given.raise_flags(flags, 'invalid value')}\n    "
        f"return {stored(given.result, 'r')};"
    )
    bodies = {
        "begin": f"run.r = {kind}(1); run.seen = 0;",
        "add": "run.r *= RTree<N>::of(x);" + _watching("run.r", "x[i]"),
        "join": "state.f0 = a.f0 * b.f0; state.f1 = a.f1 | b.f1;",
        "flush": "state.f0 = run.r; state.f1 = run.seen;",
        "finish": finish,
    }
    head = plain_head(kind, "a * b") + f"struct RRun {{ {kind} r; int seen; }};\n"
    fields = (kind, "int")
    text = functions(given, lift, (f"{kind}(1)", "0"), bodies)
    return Folding(head + state_of(fields), text, fields, flags, given.initial)
