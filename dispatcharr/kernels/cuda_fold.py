"""The C++ of a reduction on CUDA: elements, runs, states, and how one becomes the other.

An element becomes a ``RLift``; lifts are joined as a tree within one step of a thread and added to
a ``RRun``; a run is flushed into the thread's ``RState`` after a bounded number of steps; states
are joined across threads, blocks and segments; ``r_finish`` makes the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr.plan.region import AGAIN, REMARK

__all__ = ["PRELUDE", "TREE", "Dtype", "Flag", "Folding", "Given", "chosen", "functions", "loaded",
           "memory", "number", "picked", "plain_head", "state_of", "stored"]  # fmt: skip

Dtype = numpy.dtype[Any]
#: A kind of floating-point error and the operation, in NumPy's words. Of the kind ``REMARK`` it
#: is the text of a warning instead; of the kind ``AGAIN``, the name of a reduction whose result
#: depends on the order of its elements and has to be made by the host.
Flag = tuple[str, str]

#: Device functions that all foldings use.
PRELUDE = """\
#define R_INLINE static __device__ __forceinline__
#define R_INFINITY __longlong_as_double(0x7ff0000000000000ll)
#define R_NAN __longlong_as_double(0x7ff8000000000000ll)
#define R_NOWHERE 0x7fffffffffffffffll
struct REnd { double count, ddof; long long initial, more; };
template <class T> R_INLINE bool r_odd(T x) { return !(x - x == 0); }
template <class T> R_INLINE int r_seen(T x) { return x != x ? 2 : r_odd(x) ? 1 : 0; }
#ifdef DISPATCHARR_SHIM
R_INLINE float r_half(unsigned short h) {
    float x = __uint_as_float((unsigned)(h & 0x7fff) << 13) * 5.192296858534828e33f;
    unsigned bits = __float_as_uint(x);
    if ((h & 0x7c00) == 0x7c00) bits |= 0x7f800000u;
    return __uint_as_float(bits | (unsigned)(h & 0x8000) << 16);
}
R_INLINE unsigned short r_to_half(float x) {
    unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000u) return (unsigned short)(sign | 0x7e00);
    if (rest >= 0x477ff000u) return (unsigned short)(sign | 0x7c00);
    if (rest < 0x38800000u) {  // what 0.5 is added to has its last bit where such a half has it
        float shifted = __uint_as_float(rest) + 0.5f;
        return (unsigned short)(sign | (__float_as_uint(shifted) - 0x3f000000u));
    }
    return (unsigned short)(sign | (rest - 0x38000000u + 0xfff + (rest >> 13 & 1)) >> 13);
}
#else
R_INLINE float r_half(unsigned short h) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}
R_INLINE unsigned short r_to_half(float x) {
    unsigned short h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}
#endif
"""

#: Joins the lifts of one step; its types come from the folding.
TREE = """\
template <int N> struct RTree {
    static __device__ __forceinline__ RLift of(const RLift* x) {
        return r_pair(RTree<N / 2>::of(x), RTree<N - N / 2>::of(x + N / 2));
    }
};
template <> struct RTree<1> {
    static __device__ __forceinline__ RLift of(const RLift* x) { return x[0]; }
};
"""


@dataclass(frozen=True, slots=True)
class Folding:
    """One reduction of elements of one dtype.

    Attributes
    ----------
    head : str
        Types and ``r_pair``, which the prelude's tree is made of.
    text : str
        The functions; see the module's docstring.
    fields : tuple of str
        C++ types of the state's fields ``f0``, ``f1`` ...
    flags : tuple of (str, str)
        What ``r_finish`` may find.
    initial : numpy.ndarray or None
        The value of ``initial`` in the type that ``r_finish`` reads.
    ddof : float
        Degrees of freedom to take off.
    placed : bool
        Whether the place of an element matters.
    shifted : bool
        Whether runs and states are told the row's first element.
    """

    head: str
    text: str
    fields: tuple[str, ...]
    flags: tuple[Flag, ...] = ()
    initial: numpy.ndarray | None = None
    ddof: float = 0.0
    placed: bool = False
    shifted: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """What a folding is made from."""

    name: str
    value: Dtype
    state: Dtype
    result: Dtype
    masked: bool
    watch: frozenset[str]
    #: Flags of the region's program, whose bits come first.
    first_flag: int
    initial: numpy.ndarray | None
    ddof: float

    @property
    def skips(self) -> bool:
        """Whether NaN is left out."""
        return self.name.startswith("nan")

    @property
    def watched(self) -> bool:
        """Whether somebody asks for errors of the reduction itself."""
        return not self.watch.isdisjoint(("overflow", "invalid value"))

    def raise_flags(self, flags: tuple[Flag, ...], kind: str, name: str = "") -> str:
        """Return the statement that raises the first flag of this kind, if there is one."""
        for bit, (own, whose) in enumerate(flags):
            if own == kind and name in ("", whose) and (kind in self.watch or kind in _OWN):
                return f"flags |= {1 << (self.first_flag + bit)}ull;"
        return ";"


#: Kinds that are no errors of NumPy's.
_OWN = (REMARK, AGAIN)


def memory(dtype: Dtype) -> str:
    """Return the C++ type of an element in memory."""
    return _MEMORY[dtype.kind, dtype.itemsize]


_MEMORY = {
    ("b", 1): "unsigned char", ("i", 1): "signed char", ("i", 2): "short", ("i", 4): "int",
    ("i", 8): "long long", ("u", 1): "unsigned char", ("u", 2): "unsigned short",
    ("u", 4): "unsigned int", ("u", 8): "unsigned long long", ("f", 2): "unsigned short",
    ("f", 4): "float", ("f", 8): "double", ("c", 8): "Complex64", ("c", 16): "Complex128",
}  # fmt: skip


def number(dtype: Dtype) -> str:
    """Return the C++ type in which elements are compared and added."""
    if dtype.kind == "f":
        return "double" if dtype.itemsize == 8 else "float"
    if dtype.itemsize == 8:
        return memory(dtype)
    return "unsigned int" if dtype.kind == "u" else "int"


def loaded(dtype: Dtype, name: str = "x") -> str:
    """Return the expression that turns an element as it is in memory into a number."""
    if dtype.char == "e":
        return f"r_half({name})"
    return f"({name} != 0)" if dtype.kind == "b" else f"({number(dtype)}){name}"


def stored(dtype: Dtype, name: str) -> str:
    """Return the expression of an element as it is in memory, made from a number."""
    if dtype.char == "e":
        return f"r_to_half((float)({name}))"
    return f"({memory(dtype)})({name})"


def chosen(given: Given) -> str:
    """Return the condition under which the element ``x`` counts, or "" where all do."""
    tests = ["chosen"] if given.masked else []
    if given.skips:
        number_ = loaded(given.value)
        tests.append(f"{number_} == {number_}")
    return " && ".join(tests)


def picked(given: Given, value: str, otherwise: str) -> str:
    """Return ``value`` where the element counts."""
    condition = chosen(given)
    return f"({condition}) ? {value} : {otherwise}" if condition else value


def functions(given: Given, lift: str, state: tuple[str, ...], bodies: dict[str, str]) -> str:
    """Return the functions of a folding, whose bodies are given by name."""
    made = ", ".join(f"state.f{i} = {start}" for i, start in enumerate(state))
    return f"""\
R_INLINE RLift r_lift(const {memory(given.value)} x, const bool chosen, const long long place) {{
    {lift}
}}
R_INLINE void r_begin(RRun& run) {{ {bodies["begin"]} }}
template <int N> R_INLINE void r_add(RRun& run, const RLift* x) {{
    {bodies["add"]}
}}
R_INLINE RState r_neutral() {{ RState state; {made}; return state; }}
R_INLINE RState r_join(const RState& a, const RState& b) {{
    RState state;
    {bodies["join"]}
    return state;
}}
R_INLINE void r_flush(RState& total, const RRun& run, const double origin) {{
    RState state;
    {bodies["flush"]}
    total = r_join(total, state);
}}
R_INLINE {memory(given.result)} r_finish(
    const RState& state, const REnd& end, unsigned long long& flags) {{
    {bodies["finish"]}
}}
"""


def plain_head(kind: str, pair: str) -> str:
    """Return the head of a folding whose lifts are numbers, joined by ``pair``."""
    return (
        f"typedef {kind} RLift;\n"
        f"R_INLINE RLift r_pair(const RLift a, const RLift b) {{ return {pair}; }}\n"
    )


def state_of(fields: list[str] | tuple[str, ...]) -> str:
    """Return the type of states."""
    listed = " ".join(f"{kind} f{i};" for i, kind in enumerate(fields))
    return f"struct RState {{ {listed} }};\n"
