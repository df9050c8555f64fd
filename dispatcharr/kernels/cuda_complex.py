"""Sums and products of complex numbers on CUDA, and whether they are zero.

Sums are kept as those of real numbers are, part by part. Comparisons of complex numbers are left to
the host: which of several NaN is the result depends on their order.
"""

from __future__ import annotations

from dispatcharr.kernels.cuda_fold import Flag, Folding, Given, functions, memory, picked, state_of
from dispatcharr.plan.region import AGAIN

__all__ = ["complex_product_of", "complex_sum_of"]

_HEAD = """\
typedef {type} RLift;
R_INLINE RLift r_pair(const RLift a, const RLift b) {{ return RLift{{{pair}}}; }}
struct RRun {{ RLift r; int seen; }};
"""
_ADD = """\
run.r = r_pair(run.r, RTree<N>::of(x));
    if (r_odd(run.r.re) || r_odd(run.r.im)) {
        #pragma unroll
        for (int i = 0; i < N; ++i) run.seen |= r_seen(x[i].re) | r_seen(x[i].im);
    }"""
_TIMES = "a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re"


def complex_sum_of(given: Given) -> Folding | str:
    """Make a sum."""
    if given.value != given.state or given.value != given.result:
        return f"accumulating {given.value} in {given.state} is left to the host"
    exact = given.value.itemsize == 16
    flags: tuple[Flag, ...] = ()
    if given.watched:
        flags = (("overflow", "reduce"), ("invalid value", "reduce"))
    # Each part: the sum and, of float64, its rounding error.
    join, flush, finish = [], [], []
    for part, i in (("re", 0), ("im", 1 + exact)):
        join.append(f"state.f{i} = a.f{i} + b.f{i};")
        flush.append(f"state.f{i} = run.r.{part};")
        finish.append(f"double {part} = state.f{i};")
        if exact:
            low, flush[-1] = f"f{i + 1}", flush[-1] + f" state.f{i + 1} = 0.0;"
            join[-1] = (
                f"{{ const double s = a.f{i} + b.f{i}, t = s - a.f{i}; state.f{i} = s; "
                f"state.{low} = a.{low} + b.{low} + ((a.f{i} - (s - t)) + (b.f{i} - t)); }}"
            )
            finish.append(f"if (!r_odd({part}) && !r_odd({part} + state.{low})) "
                          f"{part} += state.{low};")  # fmt: skip
    fields = ("double",) * (2 + 2 * exact) + ("int",)
    seen = f"f{len(fields) - 1}"
    if given.initial is not None:
        finish.append(
            "re = __longlong_as_double(end.initial) + re; im = __longlong_as_double(end.more) + im;"
        )
    if given.name == "mean":
        finish.append("re /= end.count; im /= end.count;")
    return _made(given, "a.re + b.re, a.im + b.im", fields, flags, {
        "begin": "run.r.re = run.r.im = 0; run.seen = 0;",
        "join": " ".join([*join, f"state.{seen} = a.{seen} | b.{seen};"]),
        "flush": " ".join([*flush, f"state.{seen} = run.seen;"]),
        "finish": "\n    ".join([*finish, *_ended(given, flags, seen)]),
    })  # fmt: skip


def complex_product_of(given: Given) -> Folding | str:
    """Make a product."""
    if given.value != given.state or given.value != given.result:
        return f"accumulating {given.value} in {given.state} is left to the host"
    # What is not finite depends on the order.
    flags: tuple[Flag, ...] = ((AGAIN, given.name),)
    kind = "double" if given.value.itemsize == 16 else "float"
    finish = ["RLift r = RLift{state.f0, state.f1};"]
    if given.initial is not None:
        finish.append(
            f"r = r_pair(RLift{{({kind})__longlong_as_double(end.initial), "
            f"({kind})__longlong_as_double(end.more)}}, r);"
        )
    again = given.raise_flags(flags, AGAIN)
    finish += [f"if (r_odd(r.re) || r_odd(r.im)) {again}", "return r;"]
    return _made(given, _TIMES, (kind, kind, "int"), flags, {
        "begin": "run.r.re = 1; run.r.im = 0; run.seen = 0;",
        "join": "const RLift r = r_pair(RLift{a.f0, a.f1}, RLift{b.f0, b.f1}); "
                "state.f0 = r.re; state.f1 = r.im; state.f2 = a.f2 | b.f2;",
        "flush": "state.f0 = run.r.re; state.f1 = run.r.im; state.f2 = run.seen;",
        "finish": "\n    ".join(finish),
    })  # fmt: skip


def _made(
    given: Given, pair: str, fields: tuple[str, ...], flags: tuple[Flag, ...],
    bodies: dict[str, str],
) -> Folding:  # fmt: skip
    product = given.name == "prod"
    neutral = f"{memory(given.value)}{{{int(product)}, 0}}"
    head = _HEAD.format(type=memory(given.value), pair=pair) + state_of(fields)
    start = tuple("1" if product and i == 0 else "0" for i in range(len(fields)))
    lift = f"return {picked(given, 'x', neutral)};"
    text = functions(given, lift, start, bodies | {"add": _ADD})
    return Folding(head, text, fields, flags, given.initial)


def _ended(given: Given, flags: tuple[Flag, ...], seen: str) -> list[str]:
    over, invalid = (given.raise_flags(flags, kind) for kind in ("overflow", "invalid value"))
    lines = [f"const RLift r = RLift{{({_part(given)})re, ({_part(given)})im}};"]
    if given.watched:
        lines += [
            f"const int seen = state.{seen};",
            f"if ((r.re != r.re || r.im != r.im) && !(seen & 2)) {invalid}",
            f"if ((r_odd(r.re) || r_odd(r.im)) && !seen) {over}",
        ]
    return [*lines, "return r;"]


def _part(given: Given) -> str:
    return "double" if given.result.itemsize == 16 else "float"
