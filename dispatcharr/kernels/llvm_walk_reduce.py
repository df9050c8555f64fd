"""The walk of a kernel that reduces over its box.

The states of a box are joined with what its table of arguments names for them, which is neutral at
first. The box's last words are the number of its segment, by which its states are found, and the
extents of the whole space, from which places are counted.
"""

from __future__ import annotations

from dispatcharr.kernels.llvm_reduce import BLOCK, SLOTS, TILE_COLUMNS, TILE_ROWS, Reducer
from dispatcharr.kernels.llvm_rows import SEVERAL
from dispatcharr.kernels.llvm_state import Lanes
from dispatcharr.kernels.llvm_text import Text, memory_type
from dispatcharr.kernels.llvm_walk import Walk

__all__ = ["ReducingWalk"]

#: Elements of a row that are computed before they are folded: what stays in the nearest cache.
_CHUNK = BLOCK
#: Columns whose states are in work at a time.
_COLUMNS = 4096


class ReducingWalk(Walk):
    """Makes ``walk(args, box)`` of a kernel that reduces."""

    @property
    def streams(self) -> bool:
        """Return that it does not: stored results are read again by the reduction."""
        return False

    @property
    def reducers(self) -> list[Reducer]:
        """What reduces."""
        return self.rows.reducers

    @property
    def reduced(self) -> tuple[int, ...]:
        """The reduced axes."""
        reducing = self.program.region.reducing
        return () if reducing is None else reducing.axes

    def support(self) -> str:
        """Return the text of the functions that the walk calls beside those of the rows."""
        found = super().support()
        if self.rows.mode in ("inner", "lean"):
            alone = self.rows.mode == "lean"
            return found + "".join([one.definitions(alone) for one in self.reducers])
        if self.rows.mode == "moments":
            return found + "".join([one.tile() for one in self.reducers])
        return found

    def _begin(self, text: Text, pointers: list[str]) -> None:
        rank = self.form.rank
        segment = self._word(text, "%box", 2 * rank)
        self.extents = [self._word(text, "%box", 2 * rank + 1 + d) for d in range(rank)]
        total = sum(len(one.folding.dtypes) for one in self.reducers)
        first = len(self.program.operands) - total
        self.fields = range(first, len(self.program.operands))
        words = 2 + len(self.program.operands) * (1 + rank)
        for f, k in enumerate(self.fields):
            size = self._word(text, "%args", words + f)
            pointers[k] = text.ahead(pointers[k], segment, size)
        self.stages = {
            k: text.reserve(f"[{self._room()} x {memory_type(self.rows.all[k].dtype)}]")
            for k in self.rows.stages
        }
        {
            "columns": self._columns, "inner": self._inner, "outer": self._outer,
            "moments": self._moments, "lean": self._lean,
        }[self.rows.mode](text, pointers)  # fmt: skip

    def _room(self) -> int:
        return TILE_ROWS * TILE_COLUMNS if self.rows.mode == "moments" else _CHUNK

    def _with_stages(self, pointers: list[str], stages: dict[int, str]) -> list[str]:
        return [*pointers, *(stages[k] for k in self.rows.stages)]

    def _row_strides(self) -> list[str]:
        return [*self._inner_strides(), *("0" for _ in self.rows.stages)]

    # -- few columns ----------------------------------------------------------------------------

    def _columns(self, text: Text, pointers: list[str]) -> None:
        self._descend(text, 0, self.form.rank - 2, pointers, self._short)

    # -- rows added to a row --------------------------------------------------------------------

    def _outer(self, text: Text, pointers: list[str]) -> None:
        with text.loop(self.low[-1], self.high[-1], str(_COLUMNS)) as left:
            right = text.least(text.let(f"add i64 {left}, {_COLUMNS}"), self.high[-1])
            self._count = text.let(f"sub i64 {right}, {left}")
            self._added(text, 0, self._moved(text, pointers, -1, left), "0")

    def _added(self, text: Text, axis: int, pointers: list[str], place: str) -> None:
        if axis == self.form.rank - 1:
            self.rows.call(text, "row", self._count, place, pointers, self._row_strides())
            return
        low = self.low[axis]
        if axis == self.form.rank - 2 and self.form.several:
            low = self._several(text, axis, pointers)
        with text.loop(low, self.high[axis]) as i:
            place = i if axis in self.reduced else place
            self._added(text, axis + 1, self._moved(text, pointers, axis, i), place)

    def _several(self, text: Text, axis: int, pointers: list[str]) -> str:
        """Add several rows at a time; return the first that is left."""
        length = text.let(f"sub i64 {self.high[axis]}, {self.low[axis]}")
        whole = text.let(f"and i64 {length}, {-SEVERAL}")
        end = text.let(f"add i64 {self.low[axis]}, {whole}")
        with text.loop(self.low[axis], end, str(SEVERAL)) as i:
            moved = self._moved(text, pointers, axis, i)
            outer = [own[axis] if own else "0" for own in self.strides]
            self.rows.call_several(text, self._count, i, moved, self._row_strides(), outer)
        return end

    # -- columns of several rows ----------------------------------------------------------------

    def _moments(self, text: Text, pointers: list[str]) -> None:
        self._along = max(self.reduced)
        outside = [axis for axis in range(self.form.rank - 1) if axis != self._along]
        with text.loop(self.low[-1], self.high[-1], str(TILE_COLUMNS)) as left:
            right = text.least(text.let(f"add i64 {left}, {TILE_COLUMNS}"), self.high[-1])
            self._count = text.let(f"sub i64 {right}, {left}")
            self._tiled(text, outside, self._moved(text, pointers, -1, left))

    def _tiled(self, text: Text, axes: list[int], pointers: list[str]) -> None:
        if axes:
            with text.loop(self.low[axes[0]], self.high[axes[0]]) as i:
                self._tiled(text, axes[1:], self._moved(text, pointers, axes[0], i))
            return
        low, high = self.low[self._along], self.high[self._along]
        with text.loop(low, high, str(TILE_ROWS)) as top:
            bottom = text.least(text.let(f"add i64 {top}, {TILE_ROWS}"), high)
            with text.loop(top, bottom) as i:
                number = text.let(f"sub i64 {i}, {top}")
                stages = {
                    k: text.ahead(stage, number, TILE_COLUMNS * self.rows.all[k].dtype.itemsize)
                    for k, stage in self.stages.items()
                }
                moved = self._moved(text, pointers, self._along, i)
                self.rows.call(
                    text, "row", self._count, "0", self._with_stages(moved, stages),
                    self._row_strides(),
                )  # fmt: skip
            values, mask = self._staged()
            rows = text.let(f"sub i64 {bottom}, {top}")
            for one, fields in self._by_reducer():
                text.call(
                    f"tile{one.mark}",
                    [("ptr", values), ("ptr", mask), ("i64", top), ("i64", rows),
                     ("i64", self._count), *(("ptr", pointers[k]) for k in fields)],
                )  # fmt: skip

    def _by_reducer(self) -> list[tuple[Reducer, list[int]]]:
        """Return each with the operands that are the fields of its states."""
        fields = iter(self.fields)
        return [(one, [next(fields) for _ in one.folding.dtypes]) for one in self.reducers]

    def _staged(self) -> tuple[str, str]:
        """Return where values and their mask are staged; without a mask that is not looked at."""
        found = [self.stages[k] for k in self.rows.stages]
        return found[0], found[-1]

    # -- rows of one block ----------------------------------------------------------------------

    def _lean(self, text: Text, pointers: list[str]) -> None:
        self._states = [text.reserve("[4 x i64]") for _ in self.reducers]
        self._descend(text, 0, self.form.rank - 2, pointers, self._lean_rows)

    def _lean_rows(self, text: Text, pointers: list[str]) -> None:
        low, high = self.low[-2], self.high[-2]
        width = text.let(f"sub i64 {self.high[-1]}, {self.low[-1]}")
        corner = self._moved(text, pointers, -1, self.low[-1])
        direct = self._direct()
        if direct is None and self.form.flat:
            self._flat_rows(text, corner, width)
            return
        with text.loop(low, high) as i:
            moved = self._moved(text, corner, -2, i)
            if direct is None:
                staged = self._with_stages(moved, self.stages)
                self.rows.call(text, "row", width, "0", staged, self._row_strides())
                values, mask = self._staged()
            else:
                values, mask = moved[direct[0]], moved[direct[-1]]
            self._lean_row(text, values, mask, width, moved)

    def _flat_rows(self, text: Text, corner: list[str], width: str) -> None:
        """Compute as many rows at a time as have room."""
        high, size = self.high[-2], self.reducers[0].value.itemsize
        step = text.let(f"udiv i64 {_CHUNK}, {width}")
        with text.loop(self.low[-2], high, step) as top:
            count = text.least(text.let(f"sub i64 {high}, {top}"), step)
            total = text.let(f"mul i64 {count}, {width}")
            moved = self._moved(text, corner, -2, top)
            staged = self._with_stages(moved, self.stages)
            self.rows.call(text, "row", total, "0", staged, self._row_strides())
            values, mask = self._staged()
            with text.loop("0", count) as r:
                first = text.let(f"mul i64 {r}, {width}")
                self._lean_row(
                    text, text.ahead(values, first, size), text.ahead(mask, first), width,
                    self._moved(text, moved, -2, r),
                )  # fmt: skip

    def _lean_row(
        self, text: Text, values: str, mask: str, width: str, pointers: list[str]
    ) -> None:  # fmt: skip
        """Fold one row and join the state with that of its result."""
        for (one, fields), state in zip(self._by_reducer(), self._states, strict=True):
            if one.folding.placed:
                one.store_neutral(text, state)
            text.call(
                f"block{one.mark}",
                [("ptr", values), ("ptr", mask), ("i64", width), ("i64", "0"), ("ptr", state)],
            )  # fmt: skip
            self._settle(text, one, state, [pointers[k] for k in fields])

    def _settle(self, text: Text, one: Reducer, state: str, places: list[str]) -> None:
        """Join a state with that of its result."""
        lanes = Lanes(text)
        there = one.read(lanes, places)
        one.write(lanes, one.folding.merge(lanes, there, one.load_state(text, state)), places)

    # -- along rows -----------------------------------------------------------------------------

    def _inner(self, text: Text, pointers: list[str]) -> None:
        self._stacks = [text.reserve(f"[{SLOTS} x i64]") for _ in self.reducers]
        self._states = [text.reserve("[4 x i64]") for _ in self.reducers]
        self._settled = text.reserve("i64")
        self._from = self.form.rank
        while self._from - 1 in self.reduced:
            self._from -= 1
        self._descend(text, 0, self._from, pointers, self._one_result)

    def _one_result(self, text: Text, pointers: list[str]) -> None:
        text.do(f"store i64 0, ptr {self._settled}, align 8")
        for one, stack, state in zip(self.reducers, self._stacks, self._states, strict=True):
            if one.folding.placed:
                one.store_neutral(text, state)
            else:
                text.do(f"store i64 0, ptr {stack}, align 8")
                text.do(f"store i64 0, ptr {text.ahead(stack, '1', 8)}, align 8")
        self._rows(text, self._from, pointers, "0")
        made = zip(self._by_reducer(), self._stacks, self._states, strict=True)
        for (one, fields), stack, state in made:
            if not one.folding.placed:
                text.call(f"drain{one.mark}", [("ptr", stack), ("ptr", state)])
            self._settle(text, one, state, [pointers[k] for k in fields])

    def _rows(self, text: Text, axis: int, pointers: list[str], base: str) -> None:
        if axis < self.form.rank - 1:
            with text.loop(self.low[axis], self.high[axis]) as i:
                inner = text.let(f"add i64 {base}, {i}")
                inner = text.let(f"mul i64 {inner}, {self.extents[axis + 1]}")
                self._rows(text, axis + 1, self._moved(text, pointers, axis, i), inner)
            return
        with text.loop(self.low[-1], self.high[-1], str(_CHUNK)) as at:
            settled = text.let(f"load i64, ptr {self._settled}, align 8")
            with text.when(text.let(f"icmp eq i64 {settled}, 0")):
                self._chunk(text, pointers, base, at)

    def _chunk(self, text: Text, pointers: list[str], base: str, at: str) -> None:
        count = text.let(f"sub i64 {self.high[-1]}, {at}")
        count = text.least(count, str(_CHUNK))
        moved = self._moved(text, pointers, -1, at)
        direct = self._direct()
        if direct is None:
            staged = self._with_stages(moved, self.stages)
            self.rows.call(text, "row", count, at, staged, self._row_strides())
            values, mask = self._staged()
        else:
            values, mask = moved[direct[0]], moved[direct[-1]]
        size = self.reducers[0].value.itemsize
        first = text.let(f"add i64 {base}, {at}")
        with text.loop("0", count, str(BLOCK)) as i:
            n = text.least(text.let(f"sub i64 {count}, {i}"), str(BLOCK))
            place = text.let(f"add i64 {first}, {i}")
            here, chosen = text.ahead(values, i, size), text.ahead(mask, i)
            for one, stack, state in zip(self.reducers, self._stacks, self._states, strict=True):
                text.call(
                    f"block{one.mark}",
                    [("ptr", here), ("ptr", chosen), ("i64", n), ("i64", place), ("ptr", state)],
                )  # fmt: skip
                if not one.folding.placed:
                    text.call(f"push{one.mark}", [("ptr", stack), ("ptr", state)])
            self._note_settled(text)

    def _direct(self) -> list[int] | None:
        """Return the operands that can be folded where they lie, None where they are staged."""
        reducing = self.program.region.reducing
        if reducing is None or self.program.region.program or self.rows.outputs:
            return None
        return (
            list(reducing.reads) if all(self.form.kinds[r] == "c" for r in reducing.reads) else None
        )

    def _note_settled(self, text: Text) -> None:
        """Leave out the rest where it changes nothing, stores nothing and reports no errors."""
        wanted = self.reducers[0].folding.settled
        if (
            wanted is None
            or len(self.reducers) > 1
            or self.rows.outputs
            or any(b is None or b.flags | b.spurious for b in self.program.bodies)
        ):
            return
        state = self.reducers[0].load_state(text, self._states[0])[0]
        same = text.let(f"icmp eq i1 {state}, {wanted}")
        before = text.let(f"load i64, ptr {self._settled}, align 8")
        either = text.let(f"or i64 {before}, {text.let(f'zext i1 {same} to i64')}")
        text.do(f"store i64 {either}, ptr {self._settled}, align 8")
