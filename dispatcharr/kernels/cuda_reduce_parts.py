"""What map-reduce kernels on CUDA have in common: their words, threads, joins and ends.

Where items are parts of results, a second kernel joins their states; :func:`joining_text` is it.
"""

from __future__ import annotations

from dispatcharr.kernels.cuda_fold import PRELUDE, TREE, Folding
from dispatcharr.kernels.cuda_text import Piece

__all__ = [
    "BLOCK", "Slots", "begun", "finish", "flagged", "from_lanes", "from_words", "joined",
    "joining_text", "shared", "threads",
]  # fmt: skip

#: Threads of a block, and of a warp.
BLOCK, _WARP = 256, 32


class Slots:
    """Names of the words of a launch, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def at(self, name: str) -> str:
        """Return the expression of a word."""
        if name not in self.names:
            self.names.append(name)
        return f"p.w[{self.names.index(name)}]"

    def pointer(self, name: str, kind: str = "char") -> str:
        """Return the expression of an address."""
        return f"(({kind}*)__cvta_global_to_generic((size_t){self.at(name)}))"


def joining_text(
    name: str, lanes: int, piece: Piece, folding: Folding, result: str
) -> tuple[str, Slots]:
    """Return the text of the kernel that joins the states of segments, and its words."""
    slots = Slots()
    across = BLOCK // lanes
    lines = [
        "unsigned long long flags = 0;",
        *threads(lanes, False),
        *shared(lanes, False),
        f"const long long rows = {slots.at('rows')}, splits = {slots.at('splits')};",
        f"for (long long item = blockIdx.x; item * {across} < rows; item += gridDim.x) {{",
        f"const long long n = item * {across} + own;",
        "const bool valid = n < rows;",
        "RState state[1];",
        "state[0] = r_neutral();",
        f"if (valid) for (long long i = lane; i < splits; i += {lanes}) {{",
        "RState other;",
        *[
            f"other.f{i} = {slots.pointer(f'part{i}', f'const {kind}')}[i * rows + n];"
            for i, kind in enumerate(folding.fields)
        ],
        "state[0] = r_join(state[0], other);",
        "}",
        *joined(lanes, False, 1),
        "if (lane == 0 && valid) {",
        "const int s = 0;",
        *finish(slots, result),
        "}",
        "}",
        *flagged(slots, piece, folding),
    ]
    text = "\n".join([
        *begun(slots, folding, _COMPLEX if "Complex" in folding.text else "", True),
        f'extern "C" __global__ void __launch_bounds__({BLOCK}) {name}(const Words p) {{',
        *lines, "}", "",
    ])  # fmt: skip
    return text, slots


#: As in the prelude of a program, which this kernel has not.
_COMPLEX = "struct Complex64 { float re, im; };\nstruct Complex128 { double re, im; };"


def begun(slots: Slots, folding: Folding, prelude: str, wide: bool) -> list[str]:
    return [
        prelude,
        f"typedef {'long long' if wide else 'int'} RIndex;",
        f"typedef {'long long' if wide else 'int'} RPlace;",
        f"struct Words {{ long long w[{len(slots.names)}]; }};",
        PRELUDE, folding.head, TREE, folding.text,
    ]  # fmt: skip


def threads(lanes: int, along: bool) -> list[str]:
    """Return which result a thread works for, and which share of it."""
    if along:
        return [f"const int lane = threadIdx.x % {lanes}, own = threadIdx.x / {lanes};"]
    across = BLOCK // lanes
    return [f"const int lane = threadIdx.x / {across}, own = threadIdx.x % {across};"]


def shared(lanes: int, along: bool) -> list[str]:
    if lanes == 1 or (along and lanes <= _WARP):
        return []
    return [f"__shared__ RState shared[{BLOCK // _WARP if along else BLOCK}];"]


def joined(lanes: int, along: bool, results: int) -> list[str]:
    """Return what joins the states of the lanes; the first has it in the end."""
    if lanes == 1:
        return []
    if along:
        return _by_shuffles(lanes)
    across = BLOCK // lanes
    return [
        "#pragma unroll",
        f"for (int s = 0; s < {results}; ++s) {{",
        "shared[threadIdx.x] = state[s];",
        "__syncthreads();",
        f"for (int half = {lanes // 2}; half > 0; half /= 2) {{",
        f"if (lane < half) shared[threadIdx.x] = "
        f"r_join(shared[threadIdx.x], shared[threadIdx.x + half * {across}]);",
        "__syncthreads();",
        "}",
        "state[s] = shared[own];",
        "__syncthreads();",
        "}",
    ]


def _by_shuffles(lanes: int) -> list[str]:
    lines = [
        f"for (int by = {min(lanes, _WARP) // 2}; by > 0; by /= 2)",
        "state[0] = r_join(state[0], r_from(state[0], by));",
    ]
    if lanes <= _WARP:
        return lines
    return [
        *lines,
        f"if (threadIdx.x % {_WARP} == 0) shared[threadIdx.x / {_WARP}] = state[0];",
        "__syncthreads();",
        f"if (lane == 0) for (int i = 1; i < {BLOCK // _WARP}; ++i) "
        "state[0] = r_join(state[0], shared[i]);",
        "__syncthreads();",
    ]


def from_lanes(folding: Folding) -> str:
    """Return the function that hands over the state of a later lane."""
    fields = " ".join(
        f"t.f{i} = __shfl_down_sync(0xffffffffu, s.f{i}, by);" for i in range(len(folding.fields))
    )
    return (
        f"R_INLINE RState r_from(const RState& s, const int by) {{ RState t; {fields} return t; }}"
    )


def finish(slots: Slots, result: str) -> list[str]:
    return [
        f"REnd end; end.count = __longlong_as_double({slots.at('count')}); "
        f"end.ddof = __longlong_as_double({slots.at('ddof')}); "
        f"end.initial = {slots.at('initial')}; end.more = {slots.at('more')};",
        f"{slots.pointer('out', result)}[n] = r_finish(state[s], end, flags);",
    ]


def flagged(slots: Slots, piece: Piece, folding: Folding) -> list[str]:
    if not piece.flags and not folding.flags:
        return []
    # Read first: thousands of threads that say the same would wait for each other.
    word = slots.pointer("flags", "volatile unsigned long long")
    return [
        f"if (flags) {{ volatile unsigned long long* const word = {word};",
        "if (flags & ~*word) atomicOr((unsigned long long*)word, flags); }",
    ]


def from_words(slots: Slots, name: str, kind: str) -> str:
    """Return the value of C++ type ``kind`` whose bits are in a word, or for complex in two."""
    word = slots.at(name)
    if kind == "Complex128":
        more = slots.at(f"{name}b")
        return f"Complex128{{__longlong_as_double({word}), __longlong_as_double({more})}}"
    if kind == "Complex64":
        high = f"(int)({word} >> 32)"
        return f"Complex64{{__int_as_float((int){word}), __int_as_float({high})}}"
    if kind == "double":
        return f"__longlong_as_double({word})"
    return f"__int_as_float((int){word})" if kind == "float" else f"({kind}){word}"
