"""Extremes, their places, and truth on CUDA. NaN counts as extreme; of equals the first is it."""

from __future__ import annotations

from collections.abc import Callable

import numpy

from dispatcharr.kernels.cuda_fold import (
    Dtype,
    Flag,
    Folding,
    Given,
    functions,
    loaded,
    number,
    picked,
    plain_head,
    state_of,
    stored,
)
from dispatcharr.plan.region import REMARK

__all__ = ["count_of", "extreme_of", "place_of", "truth_of"]


def _last(dtype: Dtype, largest: bool) -> str:
    """Return the value of ``dtype`` at one end, as C++ has it."""
    kind = number(dtype)
    if dtype.kind == "f":
        return f"({kind}){'' if largest else '-'}R_INFINITY"
    if dtype.kind == "b":
        return str(int(largest))
    info = numpy.iinfo(dtype)
    if largest:
        return f"({kind}){info.max}ull"
    return f"({kind})(-{info.max}ll - 1)" if dtype.kind == "i" else f"({kind})0"


def extreme_of(greater: bool) -> Callable[[Given], Folding | str]:
    """Return the maker of a maximum or minimum."""
    sign = ">" if greater else "<"

    def make(given: Given) -> Folding | str:
        dtype, kind = given.value, number(given.value)
        if dtype.kind == "c":
            return f"which of several NaN is the {given.name} of {dtype} depends on their order"
        last = _last(dtype, not greater)
        if given.skips:
            pair, neutral = f"(b {sign} a || a != a) ? b : a", f"({kind})R_NAN"
        elif dtype.kind == "f":
            pair, neutral = f"(b {sign} a || b != b) ? b : a", last
        else:
            pair, neutral = f"b {sign} a ? b : a", last
        flags: tuple[Flag, ...] = ()
        finish = ["RLift r = state.f0;"]
        if given.initial is not None:
            read = "end.initial"
            if dtype.kind == "f":
                read = "__longlong_as_double(end.initial)"
            finish.append(f"r = r_pair(({kind}){read}, r);")
        if given.skips:
            flags = ((REMARK, "All-NaN slice encountered"),)
            finish.append(f"if (r != r) {given.raise_flags(flags, REMARK)}")
        finish.append(f"return {stored(given.result, 'r')};")
        bodies = {
            "begin": f"run.r = {neutral};",
            "add": "run.r = r_pair(run.r, RTree<N>::of(x));",
            "join": "state.f0 = r_pair(a.f0, b.f0);",
            "flush": "state.f0 = run.r;",
            "finish": "\n    ".join(finish),
        }
        lift = f"return {picked(given, loaded(dtype), neutral)};"
        head = plain_head(kind, pair) + "struct RRun { RLift r; };\n" + state_of([kind])
        text = functions(given, lift, (neutral,), bodies)
        return Folding(head, text, (kind,), flags, given.initial)

    return make


_PLACES = """\
struct RLift {{ {kind} x; RPlace i; }};
R_INLINE bool r_better(const {kind} b, const {kind} a) {{ return {better}; }}
R_INLINE bool r_same(const {kind} b, const {kind} a) {{ return {same}; }}
R_INLINE RLift r_pair(const RLift a, const RLift b) {{ return r_better(b.x, a.x) ? b : a; }}
struct RRun {{ {kind} x; long long i; }};
"""


def place_of(greater: bool) -> Callable[[Given], Folding | str]:
    """Return the maker of ``argmax`` or ``argmin``."""
    sign = ">" if greater else "<"

    def make(given: Given) -> Folding | str:
        dtype, kind = given.value, number(given.value)
        better, same = f"b {sign} a", "b == a"
        if dtype.kind == "f":
            better += " || (b != b && a == a)"
            same += " || (b != b && a != a)"
        head = _PLACES.format(kind=kind, better=better, same=same)
        fields, last = (kind, "long long"), _last(dtype, not greater)
        # Within a step elements come in order, so that only joins look at places.
        bodies = {
            "begin": f"run.x = {last}; run.i = R_NOWHERE;",
            "add": "const RLift t = RTree<N>::of(x); "
            "if (r_better(t.x, run.x) || (r_same(t.x, run.x) && t.i < run.i)) "
            "{ run.x = t.x; run.i = t.i; }",
            "join": "const bool is = r_better(b.f0, a.f0) || (r_same(b.f0, a.f0) && b.f1 < a.f1); "
            "state.f0 = is ? b.f0 : a.f0; state.f1 = is ? b.f1 : a.f1;",
            "flush": "state.f0 = run.x; state.f1 = run.i;",
            "finish": f"return {stored(given.result, 'state.f1')};",
        }
        lift = f"RLift lift; lift.x = {loaded(dtype)}; lift.i = (RPlace)place; return lift;"
        text = functions(given, lift, (last, "R_NOWHERE"), bodies)
        return Folding(head + state_of(fields), text, fields, placed=True)

    return make


def truth_of(sign: str, neutral: int) -> Callable[[Given], Folding | str]:
    """Return the maker of ``any`` or ``all``."""

    def make(given: Given) -> Folding | str:
        lift = f"return {picked(given, f'(int)({_true(given.value)})', str(neutral))};"
        return _tally(given, sign, neutral, lift, "int")

    return make


def _true(dtype: Dtype) -> str:
    if dtype.kind == "c":
        return "(x.re != 0 || x.im != 0)"
    return "(x & 0x7fff) != 0" if dtype.char == "e" else "x != 0"


def count_of(given: Given) -> Folding | str:
    """Make a count of what is not zero."""
    return _tally(given, "+", 0, f"return (int)({_true(given.value)});", "long long")


def _tally(given: Given, sign: str, neutral: int, lift: str, kind: str) -> Folding:
    bodies = {
        "begin": f"run.r = {neutral};",
        "add": f"run.r = run.r {sign} RTree<N>::of(x);",
        "join": f"state.f0 = a.f0 {sign} b.f0;",
        "flush": "state.f0 = run.r;",
        "finish": f"return {stored(given.result, 'state.f0')};",
    }
    head = plain_head("int", f"a {sign} b") + "struct RRun { int r; };\n" + state_of([kind])
    return Folding(head, functions(given, lift, (str(neutral),), bodies), (kind,))
