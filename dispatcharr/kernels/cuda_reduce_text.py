"""The text of map-reduce kernels on CUDA, for one form of layout.

A kernel walks items: some neighbouring results, and a part of what is reduced into them. In a block
``lanes`` threads share a result, and vectors lie along the innermost axis, which either is reduced,
so that a vector belongs to one result (``along``), or kept, so that each of its elements belongs to
a result of its own. Each thread reads ``unroll`` vectors before it uses them.

Where items are parts of results, states go to memory, and a second kernel joins them. What any item
is follows from the shape alone, and so do the bits of a result.

Extents, strides, addresses and numbers are words of the launch; the text depends on none.
"""

from __future__ import annotations

from dispatcharr.kernels.cuda_fold import Folding
from dispatcharr.kernels.cuda_reduce_form import Access, Form, Operand
from dispatcharr.kernels.cuda_reduce_parts import (
    BLOCK,
    Slots,
    begun,
    finish,
    flagged,
    from_lanes,
    from_words,
    joined,
    shared,
    threads,
)
from dispatcharr.kernels.cuda_text import Piece, ctype

__all__ = ["reducing_text"]

#: Steps of a thread before its run is flushed into its state.
STEPS = 16


def reducing_text(
    name: str, form: Form, piece: Piece, folding: Folding, wanted: tuple[int, int | None],
    result: str,
) -> tuple[str, Slots]:  # fmt: skip
    """Return the text of the kernel that reads the operands, and its words.

    Parameters
    ----------
    name : str
        The kernel's.
    form : Form
        How its operands lie.
    piece : Piece
        What an element goes through; its first values wanted are those of the stored outputs.
    folding : Folding
        What is done with them.
    wanted : tuple of (int, int or None)
        Which values wanted are reduced and, if any, the mask.
    result : str
        Type of the results in memory.
    """
    return _Writer(form, piece, folding, wanted, result).write(name)


class _Writer:
    def __init__(
        self, form: Form, piece: Piece, folding: Folding, wanted: tuple[int, int | None],
        result: str,
    ) -> None:  # fmt: skip
        self.form, self.piece, self.folding = form, piece, folding
        self.wanted, self.result = wanted, result
        self.slots = Slots()
        self.access = Access(form, self.slots)

    def write(self, name: str) -> tuple[str, Slots]:
        form = self.form
        body = [*self._setup(), *self._items()]
        body = ["    " + line for line in "\n".join(body).split("\n")]
        shuffled = from_lanes(self.folding) if form.along and form.lanes > 1 else ""
        text = "\n".join([
            *begun(self.slots, self.folding, self.piece.prelude, form.wide), shuffled,
            *self.access.vectors(),
            f'extern "C" __global__ void __launch_bounds__({BLOCK}) {name}(const Words p) {{',
            *body, "}", "",
        ])  # fmt: skip
        return text, self.slots

    # -- once per thread --------------------------------------------------------------------------

    def _setup(self) -> list[str]:
        form, slots = self.form, self.slots
        lines = [
            "unsigned long long flags = 0;",
            *threads(form.lanes, form.along),
            f"const long long rows = {slots.at('rows')}, splits = {slots.at('splits')};",
            f"const long long vectors = {slots.at('vectors')}, chunk = {slots.at('chunk')};",
            f"const long long groups = (rows + {BLOCK // form.lanes - 1}) / {BLOCK // form.lanes};",
            *shared(form.lanes, form.along),
        ]
        if form.reduced > 1:
            extents = [slots.at(f"re{i}") for i in range(form.reduced)]
            lines += [f"const RIndex e{i} = (RIndex){e};" for i, e in enumerate(extents)]
            lines.append(f"RIndex far = {form.lanes};")
            for i in reversed(range(form.reduced)):
                lines.append(f"const RIndex d{i} = far % e{i}; far /= e{i};")
        for j, operand in enumerate(form.operands[: form.inputs]):
            if operand.kind in "k0":
                lines.append(self._number(j, operand))
        for i, value in enumerate(self.piece.params):
            kind = ctype(value.dtype)
            lines.append(f"const {kind} param{i} = {from_words(slots, f'param{i}', kind)};")
        return lines

    def _number(self, j: int, operand: Operand) -> str:
        spot = self.slots.pointer(f"a{j}", f"const {operand.type}")
        if operand.kind == "0":
            return f"const {operand.type} k{j} = *{spot};"
        value = from_words(self.slots, f"k{j}", operand.type)
        return f"const {operand.type} k{j} = {self.slots.at(f'a{j}')} ? *{spot} : {value};"

    # -- once per item ----------------------------------------------------------------------------

    def _items(self) -> list[str]:
        form, folding = self.form, self.folding
        across = BLOCK // form.lanes
        # Neighbouring blocks read neighbouring memory.
        cut = (
            ("item / splits", "item % splits") if form.along else ("item % groups", "item / groups")
        )
        if not form.split:
            cut = ("item", "0")
        lines = [
            "for (long long item = blockIdx.x; item < groups * splits; item += gridDim.x) {",
            f"const long long first_row = ({cut[0]}) * {across}, split = {cut[1]};",
            "const bool valid = first_row + own < rows;",
            "const long long row = valid ? first_row + own : 0;",
            *self._bases(),
            "RIndex at = (RIndex)(split * chunk);",
            "const RIndex last = !valid ? at : split * chunk + chunk < vectors "
            "? (RIndex)(split * chunk + chunk) : (RIndex)vectors;",
            f"at += lane;\nRState state[{form.results}];",
            f"double origin[{form.results}];",
            "#pragma unroll",
            f"for (int s = 0; s < {form.results}; ++s) "
            "{ state[s] = r_neutral(); origin[s] = 0; }",
        ]
        if folding.shifted and len(form.operands) == form.inputs:
            lines += self._origin()
        if form.reduced > 1:
            lines.append("RIndex left = at;")
            lines += [
                f"RIndex c{i} = left{f' % e{i}; left /= e{i}' if i else ''};"
                for i in reversed(range(form.reduced))
            ]
        lines += self._loops()
        lines += ["", *joined(form.lanes, form.along, form.results)]
        lines += self._end()
        lines += ["}", *flagged(self.slots, self.piece, folding)]
        return lines

    def _bases(self) -> list[str]:
        """Return where each operand's first element of the item is."""
        form, slots = self.form, self.slots
        lines = ["long long rest = row;"] if form.kept else []
        for i in reversed(range(form.kept)):
            extent = slots.at(f"ke{i}")
            lines.append(
                f"const long long q{i} = rest % {extent}; rest /= {extent};"
                if i
                else "const long long q0 = rest;"
            )
        for j, operand in enumerate(form.operands):
            if operand.kind in "k0":
                continue
            terms = "".join(f" + q{i} * {slots.at(f'ks{j}_{i}')}" for i in range(form.kept))
            const = "const " if j < form.inputs else ""
            lines.append(f"{const}char* const b{j} = {slots.pointer(f'a{j}')}{terms};")
            if operand.fixed and j < form.inputs:
                width = 1 if form.along else form.vector
                lines.append(f"{operand.type} f{j}[{width}];")
                lines += self.access.load(j, operand, f"f{j}", "0", not form.along)
        return lines

    def _origin(self) -> list[str]:
        """Return what finds the first element of each result, about which means are kept."""
        form = self.form
        lines = ["#pragma unroll", f"for (int v = 0; v < {form.results}; ++v) {{"]
        for j, operand in enumerate(form.operands[: form.inputs]):
            value = f"k{j}"
            if operand.fixed and operand.kind not in "k0":
                value = f"f{j}[{0 if form.along else 'v'}]"
            elif operand.kind not in "k0":
                step = self.access.step(j, operand)
                value = f"*(const {operand.type}*)(b{j} + v * {step})"
            lines.append(f"const {operand.type} in{j} = {value};")
        if self.piece.places:
            lines.append("const long long at = 0;")
        lines += [
            self.piece.lines.rstrip(),
            f"const RLift lift = r_lift(out{self.wanted[0]}, true, 0);",
            "if (!r_odd(lift.x)) origin[v] = lift.x;",
            "}",
        ]
        return lines

    def _end(self) -> list[str]:
        form, slots, folding = self.form, self.slots, self.folding
        lines = ["if (lane == 0 && valid) {", "#pragma unroll",
                 f"for (int s = 0; s < {form.results}; ++s) {{"]  # fmt: skip
        lines.append(f"const long long n = row * {form.results} + s;")
        if form.split:
            count = f"rows * {form.results}"
            for i, kind in enumerate(folding.fields):
                spot = slots.pointer(f"part{i}", kind)
                lines.append(f"{spot}[split * {count} + n] = state[s].f{i};")
        else:
            lines += finish(slots, self.result)
        return [*lines, "}", "}"]

    # -- once per step ----------------------------------------------------------------------------

    def _loops(self) -> list[str]:
        form = self.form
        runs = f"RRun run[{form.results}];"
        each = f"#pragma unroll\nfor (int s = 0; s < {form.results}; ++s) "
        begin, flush = each + "r_begin(run[s]);", each + "r_flush(state[s], run[s], origin[s]);"
        reach = (form.unroll - 1) * form.lanes
        more = f"at + {reach} < last"
        lines = [
            f"while ({more}) {{", runs, begin,
            f"for (int step = 0; step < {STEPS} && {more}; ++step) {{",
            *self._step_of(form.unroll), "}", flush, "}",
        ]  # fmt: skip
        if form.unroll > 1:
            lines += [
                "if (at < last) {", runs, begin,
                "while (at < last) {", *self._step_of(1), "}", flush, "}",
            ]  # fmt: skip
        if form.tail:
            lines += self._tail(runs, begin, flush)
        return lines

    def _step_of(self, unroll: int) -> list[str]:
        """Return one step: read, compute, store, fold."""
        form = self.form
        vector = form.vector
        lines = [
            f"{o.type} x{j}[{unroll}][{vector}];"
            for j, o in enumerate(form.operands[: form.inputs])
            if self.access.is_read(o)
        ]
        moving = [
            j for j, o in enumerate(form.operands) if self.access.is_read(o) or j >= form.inputs
        ]
        lines += [f"RIndex o{j}[{unroll}];" for j in moving]
        lines += [
            f"RIndex place[{unroll}];",
            "#pragma unroll",
            f"for (int u = 0; u < {unroll}; ++u) {{",
        ]
        lines += [f"o{j}[u] = {self.access.offset(j)};" for j in moving]
        lines += ["place[u] = at;", *self.access.advance(), "}", "#pragma unroll",
                  f"for (int u = 0; u < {unroll}; ++u) {{"]  # fmt: skip
        for j, operand in enumerate(form.operands[: form.inputs]):
            if self.access.is_read(operand):
                lines += self.access.load(j, operand, f"x{j}[u]", f"o{j}[u]", True)
        size = unroll * vector
        spot = f"u * {vector} + v" if form.along else f"v * {unroll} + u"
        lines += [
            "}", f"RLift lift[{size}];", "#pragma unroll", f"for (int u = 0; u < {unroll}; ++u) {{",
            *[f"{o.type} y{j}[{vector}];" for j, o in enumerate(form.operands) if j >= form.inputs],
            "#pragma unroll", f"for (int v = 0; v < {vector}; ++v) {{",
            *self._element(spot), "}",
        ]  # fmt: skip
        for j, operand in enumerate(form.operands):
            if j >= form.inputs:
                lines += self.access.store(j, operand)
        lines.append("}")
        if form.along:
            return [*lines, f"r_add<{size}>(run[0], lift);"]
        lines.append("#pragma unroll")
        return [
            *lines,
            f"for (int s = 0; s < {vector}; ++s) r_add<{unroll}>(run[s], lift + s * {unroll});",
        ]

    def _element(self, spot: str) -> list[str]:
        """Return what one element goes through; ``spot`` is the place of its lift."""
        form = self.form
        lines = []
        for j, operand in enumerate(form.operands[: form.inputs]):
            value = f"x{j}[u][v]"
            if operand.kind in "k0":
                value = f"k{j}"
            elif operand.fixed:
                value = f"f{j}[{0 if form.along else 'v'}]"
            lines.append(f"const {operand.type} in{j} = {value};")
        place = f"(long long)place[u] * {form.vector} + v" if form.along else "(long long)place[u]"
        return [*lines, *self._lifted(place, f"lift[{spot}]", "y{j}[v]")]

    def _lifted(self, place: str, target: str, stored: str) -> list[str]:
        lines = [f"const long long at = {place};"] if self.piece.places else []
        lines.append(self.piece.lines.rstrip())
        value, mask = self.wanted
        chosen = "true" if mask is None else f"out{mask} != 0"
        spot = place if self.folding.placed else "0"
        lines.append(f"{target} = r_lift(out{value}, {chosen}, {spot});")
        for i, j in enumerate(range(self.form.inputs, len(self.form.operands))):
            lines.append(f"{stored.format(j=j)} = out{i};")
        return lines

    def _tail(self, runs: str, begin: str, flush: str) -> list[str]:
        """Return what takes elements that make no whole vector, one by one."""
        form, slots = self.form, self.slots
        lines = [
            f"if (valid && split == splits - 1) for (long long e = vectors * {form.vector} + lane; "
            f"e < {slots.at('extent')}; e += {form.lanes}) {{",
            runs, begin, "RLift lift[1];",
        ]  # fmt: skip
        for j, operand in enumerate(form.operands[: form.inputs]):
            value = f"k{j}"
            if operand.fixed and operand.kind not in "k0":
                value = f"f{j}[0]"
            elif operand.kind not in "k0":
                value = f"*(const {operand.type}*)(b{j} + e * {self.access.step(j, operand)})"
            lines.append(f"const {operand.type} in{j} = {value};")
        spots = {
            j: f"*({o.type}*)(b{j} + e * {self.access.step(j, o)})"
            for j, o in enumerate(form.operands)
            if j >= form.inputs
        }
        taken = self._lifted("e", "lift[0]", "y{j}")
        for j, spot in spots.items():
            taken = [line.replace(f"y{j} = ", f"{spot} = ") for line in taken]
        return [*lines, *taken, "r_add<1>(run[0], lift);", flush, "}"]
