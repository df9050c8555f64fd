"""The inner loops of a kernel: one row of elements, or many rows of a few elements each."""

from __future__ import annotations

from collections.abc import Sequence

from dispatcharr.kernels.llvm_form import Form
from dispatcharr.kernels.llvm_program import Operand, Program
from dispatcharr.kernels.llvm_reduce import Reducer, reducers_of
from dispatcharr.kernels.llvm_state import Lanes, State
from dispatcharr.kernels.llvm_text import GROUP, ROW_LOOP, Text, memory_type

__all__ = ["SEVERAL", "Rows", "mode_of"]

#: Rows that are added to a row of states at a time.
SEVERAL = 4
#: Kinds whose elements move along the inner axis.
_MOVING = "cr234s"
#: Loops without functions wait for memory, which 512-bit accesses serve no faster, on some CPUs
#: slower: 80 MB + 80 MB took 9.7 ms with them and 8.1 ms with these.
_HALF_WIDTH = ' "prefer-vector-width"="256"'


def mode_of(program: Program, form: Form) -> str:
    """Return how a kernel reduces.

    ``"none"``: it does not. ``"columns"``: few elements per row, in registers. ``"inner"``: rows
    are computed into stages and folded there. ``"lean"``: the same, where each row gives a result
    of its own, without states in between. ``"outer"``: rows are added to a row of states.
    ``"moments"``: several rows are computed into stages and their columns folded.
    """
    if program.folding is None:
        return "none"
    if program.inner:
        return "columns" if form.short else "lean" if form.lean else "inner"
    return "moments" if any(one.moments for one in program.foldings) else "outer"


class Rows:
    """Makes the functions of one kernel that go over rows, and the calls of them."""

    def __init__(self, program: Program, form: Form, lanes: int) -> None:
        self.program = program
        self.form = form
        self.lanes = lanes
        self.mode = mode_of(program, form)
        staged = program.stages if self.mode in ("inner", "lean", "moments") else ()
        self.all: list[Operand] = [*program.operands, *staged]
        kinds = "".join("c" if form.packed and k != "0" else k for k in form.kinds)
        self.kinds = kinds + "c" * len(staged)
        roles = [operand.role for operand in self.all]
        self.operands = [k for k, role in enumerate(roles) if role != "field" or not staged]
        self.inputs = [k for k, role in enumerate(roles) if role in ("input", "parameter")]
        self.outputs = [k for k, role in enumerate(roles) if role == "output"]
        self.stages = [k for k, role in enumerate(roles) if role == "stage"]
        self.fields = [k for k, role in enumerate(roles) if role == "field" and not staged]
        self.reducers = reducers_of(program)
        for reducer in self.reducers:
            reducer.several = SEVERAL if form.several else 1
            reducer.few = form.few

    def definitions(self) -> str:
        """Return the text of all that :meth:`call` needs."""
        if self.form.short:
            return self._short_rows()
        if self.form.whole and not self.form.packed:
            return self._row() + self._whole_vectors()
        if self.form.several and self.mode == "outer":
            return self._row() + self._several_rows()
        return self._row()

    # -- one row --------------------------------------------------------------------------------

    def call(
        self, text: Text, name: str, count: str, at: str,
        pointers: Sequence[str], strides: Sequence[str],
    ) -> None:  # fmt: skip
        """Call ``row`` for ``count`` elements, or ``vectors`` for as many whole vectors."""
        given = self._given(text, pointers, strides)
        text.call(name, [("i64", count), ("i64", at), *given])

    def _given(
        self, text: Text, pointers: Sequence[str], strides: Sequence[str],
        outer: Sequence[str] = (),
    ) -> list[tuple[str, str]]:  # fmt: skip
        """Return the arguments that say where operands lie, as :meth:`_begun` names them."""
        found = []
        for k in self.operands:
            found.append(("ptr", pointers[k]))
            if self.kinds[k] == "s":
                found += _halves(text, strides[k])
            if outer and self._stepped(k):
                found += _halves(text, outer[k])
        return found

    def _stepped(self, k: int) -> bool:
        """Return whether a function over several rows is told how far they are apart."""
        if self.form.short:
            return self.form.outer[k] is None
        return k not in self.fields and self.kinds[k] != "0"

    def _begun(self, name: str, over_rows: bool = False) -> Text:
        """Begin a function of ``n``, ``at``, then ``p``, stride ``s`` and outer ``t`` of each."""
        listed, sums = ["i64 %n", "i64 %at"], []
        for k in self.operands:
            listed.append(f"ptr %p{k}")
            for letter in "s" * (self.kinds[k] == "s") + "t" * (over_rows and self._stepped(k)):
                listed += [f"i64 %{letter}{k}a", f"i64 %{letter}{k}b"]
                sums.append(f"%{letter}{k} = add nsw i64 %{letter}{k}a, %{letter}{k}b")
        head = f"define internal void @{name}({', '.join(listed)}) noinline nounwind"
        if not self.form.whole:
            head += _HALF_WIDTH
        text = Text(head, GROUP)
        for line in sums:
            text.do(line)
        return text

    def _row(self) -> str:
        """Return ``row(n, at, ...)`` for n elements, or ``vectors`` for n whole vectors."""
        whole, shift = self.form.whole, self.lanes.bit_length() - 1
        text = self._begun("vectors" if whole else "row")
        count = text.let(f"shl nuw nsw i64 %n, {shift}") if whole else "%n"
        values = self._still(text, "0b")
        with text.loop("0", count, note=ROW_LOOP) as i:
            spots = {k: self._spot(text, k, i) for k in self.operands if k not in values}
            place = text.let(f"add nsw i64 %at, {i}") if self.program.places else None
            # All loads come before all stores: outputs may be inputs.
            self._stored(text, self._loaded(text, values, spots), spots, place)
        return text.end()

    def _several_rows(self) -> str:
        """Return ``several(n, at, ..., outer strides)``: :data:`SEVERAL` rows added to a row.

        States are read and written once for all of them.
        """
        text = self._begun("several", over_rows=True)
        moving = [k for k in (*self.inputs, *self.outputs) if self.kinds[k] != "0"]
        bases = [
            {k: text.ahead(f"%p{k}", str(r), f"%t{k}") for k in moving} for r in range(SEVERAL)
        ]
        still = self._still(text, "0")
        per_row = [
            {
                k: text.load(self.all[k].dtype, base[k], grouped=False)
                for k in self.inputs
                if self.kinds[k] == "b"
            }
            for base in bases
        ]
        places = [text.let(f"add i64 %at, {r}") for r in range(SEVERAL)]
        with text.loop("0", "%n", note=ROW_LOOP) as i:
            spots = [{k: self._spot(text, k, i, base[k]) for k in moving} for base in bases]
            values = [
                self._loaded(text, {**still, **fixed}, spot)
                for fixed, spot in zip(per_row, spots, strict=True)
            ]
            computed = [
                (self._computed(text, value, spot, None), place)
                for value, spot, place in zip(values, spots, places, strict=True)
            ]
            self._added(text, computed, {k: self._spot(text, k, i) for k in self.fields})
        return text.end()

    def call_several(
        self, text: Text, count: str, at: str, pointers: Sequence[str],
        strides: Sequence[str], outer: Sequence[str],
    ) -> None:  # fmt: skip
        """Call ``several`` for rows of ``count`` elements."""
        given = self._given(text, pointers, strides, outer)
        text.call("several", [("i64", count), ("i64", at), *given])

    def _still(self, text: Text, kinds: str) -> dict[int, str]:
        """Load what is one value for all of a row."""
        return {
            k: text.load(self.all[k].dtype, f"%p{k}", grouped=False)
            for k in self.inputs
            if self.kinds[k] in kinds
        }

    def _spot(self, text: Text, k: int, i: str, base: str | None = None) -> str:
        """Return where element ``i`` of operand ``k`` lies."""
        size = self.all[k].dtype.itemsize
        kind = self.kinds[k]
        if kind == "b":
            return base or f"%p{k}"
        stride: str | int = f"%s{k}"
        if kind != "s":
            stride = size * {"c": 1, "r": -1}.get(kind, 0) or size * int(kind)
        return text.ahead(base or f"%p{k}", i, stride)

    def _loaded(self, text: Text, still: dict[int, str], spots: dict[int, str]) -> dict[int, str]:
        """Return the values of all inputs of one element."""
        operands = self.all
        return {
            k: still[k] if k in still else text.load(operands[k].dtype, spots[k])
            for k in self.inputs
        }

    def _stored(
        self, text: Text, values: dict[int, str], spots: dict[int, str], place: str | None
    ) -> None:
        """Compute one element and store its results."""
        registers = self._computed(text, values, spots, place)
        if self.fields:
            self._added(text, [(registers, "%at")], spots)

    def _computed(
        self, text: Text, values: dict[int, str], spots: dict[int, str], place: str | None
    ) -> list[str]:
        """Compute one element, store its results and return all registers."""
        registers = self.program.emit(text, values, place)
        for k in (*self.outputs, *self.stages):
            operand = self.all[k]
            text.store(operand.dtype, registers[operand.register], spots[k])
        return registers

    def _lifted(self, text: Text, reducer: Reducer, registers: list[str], place: str) -> State:
        """Return the state of one element."""
        reducing = self.program.region.reductions[0]
        chosen = None
        if reducing.mask is not None:
            chosen = text.let(f"icmp ne i8 {registers[reducing.mask]}, 0")
        return reducer.folding.lift(Lanes(text), registers[reducing.register], chosen, place)

    def _added(
        self, text: Text, elements: list[tuple[list[str], str]], spots: dict[int, str]
    ) -> None:  # fmt: skip
        """Join elements, given by their registers and places, with the states of each reduction."""
        fields = iter(self.fields)
        for reducer in self.reducers:
            states = [self._lifted(text, reducer, *element) for element in elements]
            places = [spots[next(fields)] for _ in reducer.folding.dtypes]
            self._joined(text, reducer, states, places)

    def _joined(
        self, text: Text, reducer: Reducer, states: list[State], places: list[str]
    ) -> None:  # fmt: skip
        """Join states, then with what is in memory unless nothing else is joined with them."""
        one = Lanes(text)
        joined = reducer.folded_columns(one, states)
        alone = self.mode == "columns" and len(self.program.region.reductions[0].axes) == 1
        if alone and not reducer.folding.moments:
            joined = reducer.folding.merge(one, list(reducer.folding.neutral), joined)
        if not alone:
            there = reducer.read(one, places, text.group)
            joined = reducer.folding.merge(one, there, joined)
        reducer.write(one, joined, places, text.group)

    # -- rows of few elements -------------------------------------------------------------------

    def _short_rows(self) -> str:
        """Return ``rows(n, at, ..., outer strides)``: n rows, unrolled."""
        form = self.form
        text = self._begun("rows", over_rows=True)
        still = self._still(text, "0")
        fixed = [k for k in self.inputs if self.kinds[k] != "0" and form.outer[k] == 0]
        columns = [
            {
                k: text.load(self.all[k].dtype, spot, grouped=False)
                for k in fixed
                for spot in [self._spot(text, k, str(column))]
            }
            for column in range(form.short)
        ]
        with text.loop("0", "%n", note=ROW_LOOP) as i:
            moving = [k for k in self.operands if k not in still and k not in fixed]
            bases = {
                k: text.ahead(f"%p{k}", i, f"%t{k}" if (few := form.outer[k]) is None else few)
                for k in moving
            }
            per_row = {
                k: text.load(self.all[k].dtype, bases[k]) for k in moving if self.kinds[k] == "b"
            }
            spots = [
                {k: self._spot(text, k, str(column), bases[k]) for k in moving}
                for column in range(form.short)
            ]
            values = [
                self._loaded(text, {**still, **per_row, **columns[column]}, spots[column])
                for column in range(form.short)
            ]
            computed = [
                (self._computed(text, values[column], spots[column], None), str(column))
                for column in range(form.short)
            ]
            if self.fields:
                self._added(text, computed, spots[0])
        return text.end()

    def call_rows(
        self, text: Text, count: str, pointers: Sequence[str],
        strides: Sequence[str], outer: Sequence[str],
    ) -> None:  # fmt: skip
        """Call ``rows`` for ``count`` rows."""
        given = self._given(text, pointers, strides, outer)
        text.call("rows", [("i64", count), ("i64", "0"), *given])

    # -- whole vectors --------------------------------------------------------------------------

    def _whole_vectors(self) -> str:
        """Return ``row(n, at, ...)``: n elements, the last of them through padded vectors."""
        lanes = self.lanes
        text = self._begun("row")
        pointers = [f"%p{k}" for k in range(len(self.all))]
        strides = [f"%s{k}" for k in range(len(self.all))]
        stages = {
            k: text.reserve(f"[{lanes} x {memory_type(self.all[k].dtype)}]")
            for k in self.operands
            if self.kinds[k] in _MOVING
        }
        whole = text.let(f"lshr i64 %n, {lanes.bit_length() - 1}")
        self.call(text, "vectors", whole, "%at", pointers, strides)
        done = text.let(f"shl i64 {whole}, {lanes.bit_length() - 1}")
        with text.when(text.let(f"icmp slt i64 {done}, %n")):
            last = text.let("sub i64 %n, 1")
            with text.loop("0", str(lanes)) as j:
                there = text.least(text.let(f"add i64 {done}, {j}"), last)
                self._move(text, stages, (*self.inputs, *self.fields), there, j, inward=True)
            at = text.let(f"add i64 %at, {done}") if self.program.places else "%at"
            staged = [stages.get(k, pointers[k]) for k in range(len(self.all))]
            sizes = [str(operand.dtype.itemsize) for operand in self.all]
            self.call(text, "vectors", "1", at, staged, sizes)
            rest = text.let(f"sub i64 %n, {done}")
            with text.loop("0", rest) as j:
                there = text.let(f"add i64 {done}, {j}")
                results = (*self.outputs, *self.stages, *self.fields)
                self._move(text, stages, results, there, j, inward=False)
        return text.end()

    def _move(
        self, text: Text, stages: dict[int, str], which: Sequence[int], there: str, here: str,
        inward: bool,
    ) -> None:  # fmt: skip
        """Copy one element of some operands into their stages, or out of them."""
        for k in which:
            if k in stages:
                size = self.all[k].dtype.itemsize
                memory, stage = self._spot(text, k, there), text.ahead(stages[k], here, size)
                if inward:
                    text.copy(size, memory, stage)
                else:
                    text.copy(size, stage, memory)


def _halves(text: Text, stride: str) -> list[tuple[str, str]]:
    """Return a stride as two numbers to be added.

    Of a stride that is one number, LLVM would guess that it is one element, make vectors for that
    case alone and fall back to one element at a time.
    """
    half = text.let(f"ashr i64 {stride}, 1")
    return [("i64", half), ("i64", text.let(f"sub i64 {stride}, {half}"))]
