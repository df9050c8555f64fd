"""The walk of a kernel over its box: outer loops, tiles, packing, streaming, error flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dispatcharr.kernels.llvm_form import PACKED, TILE, Form
from dispatcharr.kernels.llvm_program import Program
from dispatcharr.kernels.llvm_rows import Rows
from dispatcharr.kernels.llvm_text import Text, memory_type

__all__ = ["FIRST_OPERAND", "Walk"]

#: Words of the table of arguments before the operands: errors met, whether to stream.
FIRST_OPERAND = 2
#: Bytes of a result that are computed into the nearest cache before they are streamed out. While
#: they go, nothing is read, so there are few of them: against streaming stores within the loop,
#: 16 KiB reach 0.78 of the bandwidth, 4 KiB 0.91, 1 KiB all of it.
_STAGED_BYTES = 1 << 10
#: Elements of rows that are packed at a time.
_PACKED_ELEMENTS = 1 << 10


class Walk:
    """Makes ``walk(args, box)``."""

    def __init__(self, program: Program, form: Form, lanes: int) -> None:
        self.program = program
        self.form = form
        self.lanes = lanes
        self.rows = Rows(program, form, lanes)
        self.operands = range(len(program.operands))
        self.sizes = [operand.dtype.itemsize for operand in program.operands]

    @property
    def streams(self) -> bool:
        """Whether the kernel can stream its results."""
        form, outputs = self.form, self.rows.outputs
        plain = not (form.tiled or form.packed or form.short)
        return plain and bool(outputs) and all(form.kinds[k] == "c" for k in outputs)

    def definition(self) -> str:
        """Return the text of the function."""
        form = self.form
        text = Text("define internal void @walk(ptr %args, ptr %box) noinline nounwind")
        self.low = [self._word(text, "%box", d) for d in range(form.rank)]
        self.high = [self._word(text, "%box", form.rank + d) for d in range(form.rank)]
        pointers: list[str] = []
        self.strides: list[list[str]] = []
        for k in self.operands:
            word = FIRST_OPERAND + k * (1 + form.rank)
            address = self._word(text, "%args", word)
            pointers.append(text.let(f"inttoptr i64 {address} to ptr"))
            self.strides.append(
                [self._word(text, "%args", word + 1 + d) for d in range(form.rank)]
                if form.kinds[k] != "0"
                else []
            )
        self._begin(text, pointers)
        return text.end()

    def _begin(self, text: Text, pointers: list[str]) -> None:
        """Add the loops."""
        form = self.form
        if self.streams:
            self._stages(text)
        inner: Callable[[Text, list[str]], None] = self._row
        depth = form.rank - 1
        if form.short:
            inner, depth = self._short, form.rank - 2
        elif form.tiled or form.packed:
            inner, depth = (self._tiles if form.tiled else self._packs), form.rank - 2
        self._descend(text, 0, depth, pointers, inner)

    def _word(self, text: Text, table: str, place: int) -> str:
        spot = text.let(f"getelementptr inbounds i64, ptr {table}, i64 {place}")
        return text.let(f"load i64, ptr {spot}, align 8")

    def _moved(self, text: Text, pointers: Sequence[str], axis: int, by: str) -> list[str]:
        """Return the pointers, moved along an axis."""
        return [
            text.ahead(pointers[k], by, self.strides[k][axis]) if self.strides[k] else pointers[k]
            for k in self.operands
        ]

    def _descend(
        self, text: Text, axis: int, depth: int, pointers: list[str],
        inner: Callable[[Text, list[str]], None],
    ) -> None:  # fmt: skip
        if axis == depth:
            inner(text, pointers)
            return
        with text.loop(self.low[axis], self.high[axis]) as i:
            self._descend(text, axis + 1, depth, self._moved(text, pointers, axis, i), inner)

    def _inner_strides(self) -> list[str]:
        return [own[-1] if own else "0" for own in self.strides]

    # -- one row at a time ----------------------------------------------------------------------

    def _stages(self, text: Text) -> None:
        """Make room for staged results."""
        self.chunk = _STAGED_BYTES // max(self.sizes[k] for k in self.rows.outputs)
        self.staged = {
            k: text.reserve(f"[{self.chunk} x {memory_type(self.program.operands[k].dtype)}]")
            for k in self.rows.outputs
        }
        self.stream = text.let(f"icmp ne i64 {self._word(text, '%args', 1)}, 0")

    def _row(self, text: Text, pointers: list[str]) -> None:
        low, high = self.low[-1], self.high[-1]
        strides = self._inner_strides()
        if not self.streams:
            moved = self._moved(text, pointers, -1, low)
            self.rows.call(text, "row", text.let(f"sub i64 {high}, {low}"), low, moved, strides)
            return
        length = text.let(f"sub i64 {high}, {low}")
        step = text.let(f"select i1 {self.stream}, i64 {self.chunk}, i64 {length}")
        first = self._moved(text, pointers, -1, low)
        head = self._head(text, first[self.rows.outputs[0]], length)
        with text.when(text.let(f"icmp sgt i64 {head}, 0")):
            self.rows.call(text, "row", head, low, first, strides)
        with text.loop(text.let(f"add i64 {low}, {head}"), high, step) as at:
            count = text.least(text.let(f"sub i64 {high}, {at}"), step)
            moved = self._moved(text, pointers, -1, at)
            targets = list(moved)
            for k, stage in self.staged.items():
                targets[k] = text.let(f"select i1 {self.stream}, ptr {stage}, ptr {moved[k]}")
            self.rows.call(text, "row", count, at, targets, strides)
            with text.when(self.stream):
                for k, stage in self.staged.items():
                    size = text.let(f"mul i64 {count}, {self.sizes[k]}")
                    text.call("stream", [("ptr", moved[k]), ("ptr", stage), ("i64", size)])

    def _head(self, text: Text, start: str, length: str) -> str:
        """Return how many elements come before the first whole cache line of a streamed result."""
        size = self.sizes[self.rows.outputs[0]]
        address = text.let(f"ptrtoint ptr {start} to i64")
        gap = text.let(f"and i64 {text.let(f'sub i64 0, {address}')}, 63")
        count = text.least(text.let(f"udiv i64 {gap}, {size}"), length)
        return text.let(f"select i1 {self.stream}, i64 {count}, i64 0")

    # -- many rows at a time --------------------------------------------------------------------

    def _short(self, text: Text, pointers: list[str]) -> None:
        # The box holds whole rows: that is how spaces are cut.
        low, high = self.low[-2], self.high[-2]
        moved = self._moved(text, pointers, -2, low)
        outer = [own[-2] if own else "0" for own in self.strides]
        count = text.let(f"sub i64 {high}, {low}")
        self.rows.call_rows(text, count, moved, self._inner_strides(), outer)

    def _tiles(self, text: Text, pointers: list[str]) -> None:
        strides = self._inner_strides()
        rows, columns = TILE
        with (
            text.loop(self.low[-2], self.high[-2], str(rows)) as top,
            text.loop(self.low[-1], self.high[-1], str(columns)) as left,
        ):
            bottom = text.least(text.let(f"add i64 {top}, {rows}"), self.high[-2])
            right = text.least(text.let(f"add i64 {left}, {columns}"), self.high[-1])
            count = text.let(f"sub i64 {right}, {left}")
            corner = self._moved(text, pointers, -1, left)
            with text.loop(top, bottom) as i:
                self.rows.call(text, "row", count, left, self._moved(text, corner, -2, i), strides)

    def _packs(self, text: Text, pointers: list[str]) -> None:
        """Copy rows to where they follow each other, compute whole vectors, copy the results."""
        lanes, moving = self.lanes, [k for k in self.operands if self.strides[k]]
        room = _PACKED_ELEMENTS + PACKED
        operands = self.program.operands
        stages = {k: text.reserve(f"[{room} x {memory_type(operands[k].dtype)}]") for k in moving}
        width = text.let(f"sub i64 {self.high[-1]}, {self.low[-1]}")
        step = text.let(f"udiv i64 {_PACKED_ELEMENTS}, {width}")
        with text.loop(self.low[-2], self.high[-2], step) as top:
            count = text.least(text.let(f"sub i64 {self.high[-2]}, {top}"), step)
            total = text.let(f"mul i64 {count}, {width}")
            corner = self._moved(text, self._moved(text, pointers, -1, self.low[-1]), -2, top)
            for k in self.rows.inputs:
                if k in stages:
                    self._pack(text, "pack", k, corner[k], stages[k], count, width)
                    self._pad(text, k, stages[k], total)
            padded = text.let(f"add i64 {total}, {lanes - 1}")
            vectors = text.let(f"lshr i64 {padded}, {lanes.bit_length() - 1}")
            staged = [stages.get(k, pointers[k]) for k in self.operands]
            self.rows.call(text, "vectors", vectors, "0", staged, ["0"] * len(staged))
            for k in self.rows.outputs:
                self._pack(text, "unpack", k, corner[k], stages[k], count, width)

    def _pack(
        self, text: Text, name: str, k: int, memory: str, stage: str, count: str, width: str
    ) -> None:
        outer, inner = self.strides[k][-2], self.strides[k][-1]
        text.call(
            f"{name}{self.sizes[k]}",
            [("ptr", memory), ("ptr", stage), ("i64", count), ("i64", width),
             ("i64", outer), ("i64", inner)],
        )  # fmt: skip

    def _pad(self, text: Text, k: int, stage: str, total: str) -> None:
        """Repeat the last element until the vector is full."""
        size = self.sizes[k]
        last = text.ahead(stage, text.let(f"sub i64 {total}, 1"), size)
        end = text.let(f"add i64 {total}, {self.lanes - 1}")
        with text.loop(total, end) as j:
            text.copy(size, last, text.ahead(stage, j, size))

    def support(self) -> str:
        """Return the text of the functions that the walk calls beside those of the rows."""
        found = self.rows.definitions()
        if self.streams:
            found += _STREAM
        if self.form.packed:
            for size in sorted({self.sizes[k] for k in self.operands if self.form.kinds[k] != "0"}):
                found += _packing("pack", size) + _packing("unpack", size)
        return found


def _packing(name: str, size: int) -> str:
    """Return ``pack`` (rows to a stage) or ``unpack`` (a stage to rows) for elements of a size."""
    text = Text(
        f"define internal void @{name}{size}(ptr %memory, ptr %stage, i64 %count, i64 %width, "
        "i64 %outer, i64 %inner) noinline nounwind"
    )
    with text.loop("0", "%count") as i:
        row = text.ahead("%memory", i, "%outer")
        base = text.ahead("%stage", text.let(f"mul nsw i64 {i}, %width"), size)
        with text.loop("0", "%width", note="") as j:
            there, here = text.ahead(row, j, "%inner"), text.ahead(base, j, size)
            if name == "pack":
                text.copy(size, there, here)
            else:
                text.copy(size, here, there)
    return text.end()


# Whole cache lines go past the caches; what is before the first and after the last is copied.
_STREAM = """
define internal void @stream(ptr %to, ptr %from, i64 %size) noinline nounwind {
entry:
  %address = ptrtoint ptr %to to i64
  %negative = sub i64 0, %address
  %gap = and i64 %negative, 63
  %head = call i64 @llvm.umin.i64(i64 %gap, i64 %size)
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %head, i1 false)
  %rest = sub i64 %size, %head
  %whole = and i64 %rest, -64
  %end = add i64 %head, %whole
  %any = icmp ult i64 %head, %end
  br i1 %any, label %lines, label %tail
lines:
  %i = phi i64 [%head, %entry], [%next, %lines]
  %source = getelementptr inbounds i8, ptr %from, i64 %i
  %target = getelementptr inbounds i8, ptr %to, i64 %i
  %line = load <8 x i64>, ptr %source, align 1
  store <8 x i64> %line, ptr %target, align 64, !nontemporal !6
  %next = add nuw i64 %i, 64
  %more = icmp ult i64 %next, %end
  br i1 %more, label %lines, label %tail
tail:
  %left = sub i64 %size, %end
  %last = getelementptr inbounds i8, ptr %from, i64 %end
  %there = getelementptr inbounds i8, ptr %to, i64 %end
  call void @llvm.memcpy.p0.p0.i64(ptr %there, ptr %last, i64 %left, i1 false)
  ret void
}
"""
