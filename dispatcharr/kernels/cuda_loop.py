"""The text of a CUDA kernel without reduction: which elements a thread loads, computes and stores.

A thread does several chunks, each of as many elements as 16 bytes hold where memory allows, and
loads all of them before it computes, so that enough is under way. The chunks of a block lie next
to each other, those of a thread a block apart. Neither extents nor strides nor numbers are in the
text: they come in words, so that one kernel serves all sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr.kernels.cuda_source import Source
from dispatcharr.kernels.cuda_text import Piece, ctype

__all__ = ["THREADS", "Form", "magic", "source_of", "word_names"]

Dtype = numpy.dtype[Any]
THREADS = 256


@dataclass(frozen=True, slots=True)
class Form:
    """How a kernel walks its operands.

    Attributes
    ----------
    rank : int
        Axes of the space that it takes apart; 1 where every operand is walked in one stride.
    kinds : str
        One letter per operand, inputs first: ``k`` the same element for the whole space, ``f`` one
        run of memory, ``v`` runs along the last axis, ``r`` one element along it, ``s`` others.
    lanes : int
        Elements of a chunk; more than one only where every operand is ``k``, ``f``, ``v`` or ``r``.
    chunks : int
        Chunks of a thread.
    wide : bool
        Whether extents or offsets take 64 bits.
    paired : bool
        Whether both parts of a complex number are loaded at once: memory is aligned for it.
    """

    rank: int
    kinds: str
    lanes: int
    chunks: int
    wide: bool
    paired: bool = True

    def packed(self, operand: int, dtype: Dtype) -> int:
        """Return how many elements of an operand are loaded at once, 0 for one as it is."""
        if self.kinds[operand] in "fv" and self.lanes > 1:
            return self.lanes
        return int(self.paired and dtype.kind == "c" and self.kinds[operand] != "k")


def magic(divisor: int) -> tuple[int, int]:
    """Return the multiplier and the shift that divide numbers below 2**31.

    Examples
    --------
    >>> multiplier, shift = magic(7)
    >>> [((n * multiplier >> 32) + n) >> shift for n in (6, 7, 2**31 - 1)]
    [0, 1, 306783378]
    """
    shift = (divisor - 1).bit_length()
    return ((1 << 32) * ((1 << shift) - divisor)) // divisor + 1, shift


def word_names(
    form: Form, dtypes: Sequence[Dtype], inputs: int, params: Sequence[Dtype]
) -> tuple[str, ...]:
    """Return what the words of a kernel hold, in order."""
    names = ["flags", "chunks", "rest"]
    for axis in range(1, form.rank):
        names += (
            [f"extent_{axis}"]
            if form.wide
            else [f"extent_{axis}", f"magic_{axis}", f"shift_{axis}"]
        )
    for k, (kind, dtype) in enumerate(zip(form.kinds, dtypes, strict=True)):
        names.append(f"address{k}")
        if kind == "k" and k < inputs:
            names += [f"value{k}.0", f"value{k}.1"][: 1 + (dtype.itemsize > 8)]
        names += [f"stride_{k}.{axis}" for axis in _strided(form, kind)]
    for k, dtype in enumerate(params):
        names += [f"param_{k}.0", f"param_{k}.1"][: 1 + (dtype.itemsize > 8)]
    return tuple(names)


def _strided(form: Form, kind: str) -> range:
    """Return the axes whose strides an operand is told."""
    if kind in "kf":
        return range(0)
    return range(form.rank if kind == "s" else form.rank - 1)


def source_of(
    piece: Piece, form: Form, inputs: Sequence[Dtype], outputs: Sequence[Dtype], name: str
) -> Source:
    """Return the kernel of a program over operands of a form."""
    return Source(_Kernel(piece, form, inputs, outputs).text(name), name)


class _Kernel:
    """Writes one kernel."""

    def __init__(
        self, piece: Piece, form: Form, inputs: Sequence[Dtype], outputs: Sequence[Dtype]
    ) -> None:
        self._piece = piece
        self._form = form
        self._inputs = inputs
        self._outputs = outputs
        self._params = [param.dtype for param in piece.params]
        names = word_names(form, [*inputs, *outputs], len(inputs), self._params)
        self._words = {name: f"p.w[{i}]" for i, name in enumerate(names)}
        self._flat = set(form.kinds) <= {"k", "f"}
        self._index = "long long" if form.wide or self._flat else "unsigned"
        self._offset = "long long" if form.wide or self._flat else "int"

    def text(self, name: str) -> str:
        """Return the whole text."""
        form, piece = self._form, self._piece
        lines = [
            piece.prelude,
            f"struct Words {{ long long w[{len(self._words)}]; }};",
            "template <class T, int V> struct alignas(sizeof(T) * V) Pack { T v[V]; };",
            "DP unsigned dp_over(unsigned n, unsigned magic, unsigned shift) {",
            "  return ((unsigned)(((unsigned long long)n * magic) >> 32) + n) >> shift;",
            "}",
            self._step(),
            f'extern "C" __global__ void __launch_bounds__({THREADS}) {name}(const Words p) {{',
            *self._addresses(),
            *self._constants(),
            f"  const {self._index} first = ({self._index})blockIdx.x * {form.chunks * THREADS}"
            " + threadIdx.x;",
            f"  const {self._index} chunks = ({self._index}){self._words['chunks']};",
        ]
        if piece.flags:
            lines.append("  unsigned long long flags = 0ull;")
        lines += [*self._loads(), *self._work(), *self._rest()]
        if piece.flags:
            word = f"__cvta_global_to_generic((size_t){self._words['flags']})"
            lines.append(f"  if (flags) atomicOr((unsigned long long*){word}, flags);")
        return "\n".join([*lines, "}", ""])

    def _step(self) -> str:
        """Return the function that computes one element."""
        piece = self._piece
        given = [f"const {ctype(dtype)} in{k}" for k, dtype in enumerate(self._inputs)]
        given += [f"const {ctype(dtype)} param{k}" for k, dtype in enumerate(self._params)]
        given += ["const long long at"] * piece.places
        given += [f"{ctype(dtype)}& to{j}" for j, dtype in enumerate(self._outputs)]
        given += ["unsigned long long& flags"] * bool(piece.flags)
        stores = "".join(f"  to{j} = out{j};\n" for j in range(len(self._outputs)))
        return f"DP void step({', '.join(given)}) {{\n{piece.lines}{stores}}}"

    def _call(self, inputs: Sequence[str], at: str, outputs: Sequence[str]) -> str:
        given = [*inputs, *[f"param{k}" for k in range(len(self._params))]]
        given += [at] * self._piece.places
        given += [*outputs, *["flags"] * bool(self._piece.flags)]
        return f"step({', '.join(given)});"

    def _addresses(self) -> list[str]:
        lines = []
        for k, dtype in enumerate([*self._inputs, *self._outputs]):
            if self._form.kinds[k] == "k":
                continue
            const = "const " if k < len(self._inputs) else ""
            lines.append(
                f"  {const}{ctype(dtype)}* q{k} = ({const}{ctype(dtype)}*)"
                f"__cvta_global_to_generic((size_t){self._words[f'address{k}']});"
            )
        return lines

    def _constants(self) -> list[str]:
        """Return the lines that read what is the same for all elements."""
        lines = []
        for k, dtype in enumerate(self._inputs):
            if self._form.kinds[k] != "k":
                continue
            word, type_ = self._words[f"address{k}"], ctype(dtype)
            there = f"*(const {type_}*)__cvta_global_to_generic((size_t){word})"
            lines += [
                f"  {type_} x{k};",
                f"  if ({word}) x{k} = {there};",
                f"  else x{k} = {self._number(f'value{k}', dtype)};",
            ]
        for k, dtype in enumerate(self._params):
            lines.append(f"  const {ctype(dtype)} param{k} = {self._number(f'param_{k}', dtype)};")
        return lines

    def _number(self, name: str, dtype: Dtype) -> str:
        """Return the number whose bits are in one word, or two."""
        low = self._words[f"{name}.0"]
        if dtype.kind == "c" and dtype.itemsize == 8:
            return f"Complex64{{dp_f32((unsigned){low}), dp_f32((unsigned)({low} >> 32))}}"
        if dtype.kind == "c":
            parts = (low, self._words[f"{name}.1"])
            listed = ", ".join(f"dp_f64((unsigned long long){part})" for part in parts)
            return f"Complex128{{{listed}}}"
        if dtype.char == "d":
            return f"dp_f64((unsigned long long){low})"
        if dtype.char == "f":
            return f"dp_f32((unsigned){low})"
        return f"({ctype(dtype)}){low}"

    def _loads(self) -> list[str]:
        form = self._form
        lines, body = [], []
        for k, dtype in enumerate(self._inputs):
            kind = form.kinds[k]
            if kind == "k":
                continue
            type_, _ = self._held(k, dtype)
            lines.append(f"  {type_} a{k}[{form.chunks}];")
            body.append(f"      a{k}[u] = *(const {type_}*)(q{k} + {self._at(k, kind)});")
        if not body:
            return []
        return [*lines, *self._loop([*self._apart(range(len(self._inputs))), *body])]

    def _held(self, k: int, dtype: Dtype) -> tuple[str, str]:
        """Return the type of what is loaded for a chunk at once, and what selects an element."""
        lanes = self._form.packed(k, dtype)
        if not lanes:
            return ctype(dtype), ""
        return f"Pack<{ctype(dtype)}, {lanes}>", ".v[j]" if lanes > 1 else ".v[0]"

    def _loop(self, body: Sequence[str]) -> list[str]:
        return [
            "  #pragma unroll",
            f"  for (int u = 0; u < {self._form.chunks}; u++) {{",
            f"    const {self._index} c = first + u * {THREADS};",
            "    if (c < chunks) {",
            *body,
            "    }",
            "  }",
        ]

    def _apart(self, operands: range) -> list[str]:
        """Return the lines that take a chunk's number apart, where an operand asks for it."""
        form, lines = self._form, []
        if all(form.kinds[k] in "kf" for k in operands) or form.rank == 1:
            return []
        left = "c"
        for axis in range(form.rank - 1, 0, -1):
            extent = f"({self._index}){self._words[f'extent_{axis}']}"
            if form.wide:
                whole = f"{left} / {extent}"
            else:
                how = [f"(unsigned){self._words[f'{name}_{axis}']}" for name in ("magic", "shift")]
                whole = f"dp_over({left}, {how[0]}, {how[1]})"
            lines += [
                f"      const {self._index} l{axis} = {whole};",
                f"      const {self._offset} i{axis} = "
                f"({self._offset})({left} - l{axis} * {extent});",
            ]
            left = f"l{axis}"
        lines.append(f"      const {self._offset} i0 = ({self._offset}){left};")
        return lines

    def _at(self, k: int, kind: str) -> str:
        """Return the offset of a chunk in elements."""
        form = self._form
        lanes = f" * {form.lanes}" if form.lanes > 1 else ""
        if kind == "f":
            return f"({self._offset})c{lanes}" if self._flat else f"(long long)c{lanes}"
        last = form.rank - 1
        inner = "c" if form.rank == 1 else f"i{last}"
        parts = [f"i{axis} * ({self._offset}){self._words[f'stride_{k}.{axis}']}"
                 for axis in range(last)]  # fmt: skip
        if kind == "v":
            parts.append(f"({self._offset}){inner}{lanes}")
        if kind == "s":
            stride = self._words[f"stride_{k}.{last}"]
            parts.append(f"({self._offset}){inner} * ({self._offset}){stride}")
        return f"({' + '.join(parts)})" if parts else "0"

    def _work(self) -> list[str]:
        form, count = self._form, len(self._inputs)
        inputs = [
            f"x{k}" if form.kinds[k] == "k" else f"a{k}[u]{self._held(k, dtype)[1]}"
            for k, dtype in enumerate(self._inputs)
        ]
        body, outputs, stores = [], [], []
        for j, dtype in enumerate(self._outputs):
            k = count + j
            type_, element = self._held(k, dtype)
            body.append(f"      {type_} r{j};")
            outputs.append(f"r{j}{element}")
            stores.append(f"      *({type_}*)(q{k} + {self._at(k, form.kinds[k])}) = r{j};")
        place = f"(long long)c * {form.lanes} + j"
        return self._loop([
            *self._apart(range(count, count + len(self._outputs))),
            *body,
            "      #pragma unroll",
            f"      for (int j = 0; j < {form.lanes}; j++) "
            f"{{ {self._call(inputs, place, outputs)} }}",
            *stores,
        ])  # fmt: skip

    def _rest(self) -> list[str]:
        """Return the lines for the elements that fill no chunk."""
        if not self._flat or self._form.lanes == 1:
            return []
        count = len(self._inputs)
        inputs = [f"x{k}" if kind == "k" else f"q{k}[e]"
                  for k, kind in enumerate(self._form.kinds[:count])]  # fmt: skip
        outputs = [f"r{j}" for j in range(len(self._outputs))]
        return [
            f"  if (blockIdx.x == 0 && threadIdx.x < (unsigned){self._words['rest']}) {{",
            f"    const long long e = chunks * {self._form.lanes} + threadIdx.x;",
            *[f"    {ctype(dtype)} r{j};" for j, dtype in enumerate(self._outputs)],
            f"    {self._call(inputs, 'e', outputs)}",
            *[f"    q{count + j}[e] = r{j};" for j in range(len(self._outputs))],
            "  }",
        ]
