"""Reductions as IR: blocks of elements folded in lanes, and their states joined pairwise.

A block of :data:`BLOCK` elements is folded in a fixed number of lanes, whatever the CPU, then the
lanes are joined by halves. States of blocks wait on a stack on which two of one rank become one of
the next: the error of a sum grows with the logarithm of its length, and its bits depend on where
blocks begin, which the shape of the array alone says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy

from dispatcharr.kernels.llvm_program import Program
from dispatcharr.kernels.llvm_state import (
    Folding,
    Lanes,
    Merge,
    State,
    Variable,
    across,
    added,
    gap_squared,
    lanes_of,
    mean_of,
    put_all,
)
from dispatcharr.kernels.llvm_text import Text, memory_type

__all__ = ["BLOCK", "SLOTS", "TILE_COLUMNS", "TILE_ROWS", "Reducer", "reducers_of"]

#: Elements that are folded in lanes before states are joined pairwise.
BLOCK = 1024
#: Words of the stack of waiting states: two counters, then states of up to 64 ranks.
SLOTS = 2 + 64 * 4
#: Rows by columns that are folded at a time where states lie side by side.
TILE_ROWS, TILE_COLUMNS = 16, 256
_TILE_LANES = 16
#: As many as NumPy has accumulators.
_FEW_LANES = 8
#: Elements that are counted at a time, a bit for each.
_TALLY = 64
_WORD = 8


class Reducer:
    """Makes the functions of one reduction; see the module's docstring."""

    def __init__(
        self, folding: Folding, value: numpy.dtype[numpy.generic], masked: bool, number: int = 0
    ) -> None:  # fmt: skip
        #: What the names of its functions end in.
        self.mark = str(number) if number else ""
        self.folding = folding
        self.value = value
        self.masked = masked
        #: Rows of a tile that are joined before they are added to a row of states.
        self.several = 1
        #: Whether blocks have few elements, and are folded in few lanes.
        self.few = False

    def definitions(self, alone: bool = False) -> str:
        """Return the text of ``block`` and, unless it is ``alone``, of ``push`` and ``drain``."""
        return self._block() if alone else self._block() + self._push() + self._drain()

    # -- states in memory -----------------------------------------------------------------------

    def load_state(self, text: Text, base: str) -> State:
        """Load a state of the kernel's own, whose fields lie one word apart."""
        one = Lanes(text)
        return [
            _loaded(one, kind, text.ahead(base, str(f), _WORD), 8)
            for f, kind in enumerate(self.folding.kinds)
        ]

    def store_state(self, text: Text, state: State, base: str) -> None:
        """Store a state of the kernel's own, with its fields one word apart."""
        one = Lanes(text)
        for f, kind in enumerate(self.folding.kinds):
            _store(one, kind, state[f], text.ahead(base, str(f), _WORD), 8)

    def read(self, lanes: Lanes, spots: Sequence[str], group: str = "") -> State:
        """Read states, one or neighbours, from where they are handed to NumPy."""
        folding = self.folding
        fields = [
            _loaded(lanes, kind, spot, dtype.alignment, group)
            for kind, spot, dtype in zip(folding.kinds, spots, folding.dtypes, strict=False)
        ]
        return fields if folding.code is None else folding.code.read(lanes, fields)

    def write(self, lanes: Lanes, state: State, spots: Sequence[str], group: str = "") -> None:
        """Write states, one or neighbours, to where they are handed to NumPy."""
        folding = self.folding
        fields = state if folding.code is None else folding.code.write(lanes, state)
        for kind, field, spot, dtype in zip(
            folding.kinds, fields, spots, folding.dtypes, strict=False
        ):
            _store(lanes, kind, field, spot, dtype.alignment, group)

    # -- elements -------------------------------------------------------------------------------

    def element(self, lanes: Lanes, values: str, mask: str, i: str) -> tuple[str, str | None]:
        """Load elements from ``i`` on, and which of them are chosen."""
        text, dtype = lanes.text, self.value
        pointer = text.ahead(values, i, dtype.itemsize)
        kind = memory_type(dtype) or ""
        if dtype.kind == "c":
            part = "float" if dtype.itemsize == 8 else "double"
            value = lanes.load_pairs(part, pointer, dtype.alignment)
        else:
            value = lanes.load(kind, pointer, dtype.alignment)
        if dtype.kind == "b":
            value = lanes.convert("zext", "i1", self._set(lanes, value), "i8")
        if not self.masked:
            return value, None
        return value, self._set(lanes, lanes.load("i8", text.ahead(mask, i), 1))

    def _set(self, lanes: Lanes, byte: str) -> str:
        return lanes.text.let(f"icmp ne {lanes.type('i8')} {byte}, {lanes.all('i8', '0')}")

    def _places(self, lanes: Lanes, first: str) -> str:
        if not self.folding.placed or lanes.count == 1:
            return first
        steps = ", ".join(f"i64 {i}" for i in range(lanes.count))
        return lanes.plus("i64", lanes.spread("i64", first), f"<{steps}>")

    # -- one block ------------------------------------------------------------------------------

    def _block(self) -> str:
        """Return ``block(values, mask, n, at, result)``."""
        text = Text(
            f"define internal void @block{self.mark}(ptr %x, ptr %m, i64 %n, i64 %at, ptr %result) "
            "noinline nounwind"
        )
        folding = self.folding
        if folding.extreme is not None:
            self._seek(text, folding.extreme)
            return text.end()
        if folding.moments:
            state = self._two_passes(text)
        else:
            neutral = list(folding.neutral)
            state = self._folded(text, folding.kinds, neutral, self._lifted, folding.merge)
        self.store_state(text, state, "%result")
        return text.end()

    def store_neutral(self, text: Text, base: str) -> None:
        """Store the state that changes nothing, with its fields one word apart."""
        self.store_state(text, list(self.folding.neutral), base)

    def _seek(self, text: Text, extreme: Folding) -> None:
        """Better the state at ``result`` if this block, which is later, has something better."""
        one = Lanes(text)

        def lifted(lanes: Lanes, i: str) -> State:
            value, chosen = self.element(lanes, "%x", "%m", i)
            return extreme.lift(lanes, value, chosen, i)

        found = self._folded(text, extreme.kinds, list(extreme.neutral), lifted, extreme.merge)
        before = self.load_state(text, "%result")
        start = text.let("add i64 %at, %n")
        # Its elements come after all of the state's, so that a place here loses where they tie.
        joined = self.folding.merge(one, before, [found[0], start, *found[1:]])
        self.store_state(text, joined, "%result")
        with text.when(text.let(f"icmp eq i64 {joined[1]}, {start}")):

            def here(lanes: Lanes, i: str) -> State:
                value, _ = self.element(lanes, "%x", "%m", i)
                place = self._places(lanes, text.let(f"add i64 %at, {i}"))
                if self.folding.skips:
                    value = extreme.lift(lanes, value, None, i)[0]
                is_it = self._is_found(lanes, value, found)
                return [lanes.choose("i64", is_it, place, lanes.all("i64", _NOWHERE))]

            (place,) = self._folded(text, ("i64",), [_NOWHERE], here, _earlier)
            _store(one, "i64", place, text.ahead("%result", "1", _WORD), 8)

    def _is_found(self, lanes: Lanes, value: str, found: State) -> str:
        kind = self.folding.kinds[0]
        type_, wanted = lanes.type(kind), lanes.spread(kind, found[0])
        if self.value.kind != "f":
            return lanes.text.let(f"icmp eq {type_} {value}, {wanted}")
        same = lanes.text.let(f"fcmp oeq {type_} {value}, {wanted}")
        if self.folding.skips:
            return same
        missing = lanes.text.let(f"fcmp uno {type_} {value}, {value}")
        return lanes.choose("i1", lanes.spread("i1", found[1]), missing, same)

    def _lifted(self, lanes: Lanes, i: str) -> State:
        value, chosen = self.element(lanes, "%x", "%m", i)
        place = i
        if self.folding.placed:
            place = self._places(lanes, lanes.text.let(f"add i64 %at, {i}"))
        return self.folding.lift(lanes, value, chosen, place)

    def _two_passes(self, text: Text) -> State:
        kind, wide = self.folding.kinds[0], len(self.folding.kinds) - 1
        weighed = self._folded(text, (kind,) * wide, ["0.0"] * wide, self._lifted, added(kind))
        mean = mean_of(Lanes(text), kind, weighed)

        def squared(lanes: Lanes, i: str) -> State:
            middle = [lanes.spread(kind, part) for part in mean]
            return [gap_squared(lanes, kind, self._lifted(lanes, i), middle)]

        spread = self._folded(text, (kind,), ["0.0"], squared, added(kind))
        return [*mean, weighed[-1], spread[0]]

    def _folded(
        self, text: Text, kinds: tuple[str, ...], neutral: list[str],
        lifted: Callable[[Lanes, str], State], merge: Merge,
    ) -> State:  # fmt: skip
        """Fold the block's elements: whole rows of lanes first, then what is left one by one."""
        tallied = self.folding.tallied
        width = _FEW_LANES if self.few else lanes_of(kinds)
        lanes, one = Lanes(text, _TALLY if tallied else width), Lanes(text)
        side_by_side = one if tallied else lanes
        wide = [Variable(side_by_side, k, n) for k, n in zip(kinds, neutral, strict=True)]
        narrow = [Variable(one, k, n) for k, n in zip(kinds, neutral, strict=True)]
        whole = text.let(f"and i64 %n, {-lanes.count}")
        with text.loop("0", whole, str(lanes.count)) as i:
            put_all(wide, merge(side_by_side, [v.get() for v in wide], lifted(lanes, i)))
        with text.loop(whole, "%n") as i:
            put_all(narrow, merge(one, [v.get() for v in narrow], lifted(one, i)))
        with text.when(text.let(f"icmp ne i64 {whole}, 0")):
            total = [v.get() for v in wide]
            if not tallied:
                total = across(text, kinds, total, merge, width)
            put_all(narrow, merge(one, total, [v.get() for v in narrow]))
        return [v.get() for v in narrow]

    def folded_columns(self, one: Lanes, states: list[State]) -> State:
        """Join the lifted states of a few elements, in order."""
        folding = self.folding
        if not folding.moments:
            state = states[0]
            for other in states[1:]:
                state = folding.merge(one, state, other)
            return state
        kind = folding.kinds[0]
        add = added(kind)
        weighed = states[0]
        for other in states[1:]:
            weighed = add(one, weighed, other)
        mean = mean_of(one, kind, weighed)
        spread = None
        for state in states:
            squared = gap_squared(one, kind, state, mean)
            spread = squared if spread is None else one.plus(kind, spread, squared)
        return [*mean, weighed[-1], spread or "0.0"]

    def tile(self) -> str:
        """Return ``tile(values, mask, rows, columns, fields ...)``: columns of a few rows."""
        listed = ", ".join(f"ptr %f{f}" for f in range(len(self.folding.dtypes)))
        text = Text(
            f"define internal void @tile{self.mark}(ptr %x, ptr %m, i64 %at, i64 %rows, "
            f"i64 %columns, {listed}) "
            "noinline nounwind"
        )
        whole = text.let(f"and i64 %columns, {-_TILE_LANES}")
        columns = self._tile_columns if self.folding.moments else self._folded_tile
        with text.loop("0", whole, str(_TILE_LANES)) as j:
            columns(Lanes(text, _TILE_LANES), j)
        with text.loop(whole, "%columns") as j:
            columns(Lanes(text), j)
        return text.end()

    def _folded_tile(self, lanes: Lanes, j: str) -> None:
        """Add the rows of a tile as they are added to a row of states: several at a time."""
        text = lanes.text
        spots = [
            text.ahead(f"%f{f}", j, dtype.itemsize) for f, dtype in enumerate(self.folding.dtypes)
        ]
        kinds = self.folding.kinds
        found = self.read(lanes, spots)
        state = [Variable(lanes, kind, one) for kind, one in zip(kinds, found, strict=True)]
        whole = text.let(f"and i64 %rows, {-self.several}")

        def lifted(i: str) -> State:
            spot = text.let(f"add i64 {text.let(f'mul i64 {i}, {TILE_COLUMNS}')}, {j}")
            value, chosen = self.element(lanes, "%x", "%m", spot)
            place = lanes.spread("i64", text.let(f"add i64 %at, {i}"))
            return self.folding.lift(lanes, value, chosen, place)

        with text.loop("0", whole, str(self.several)) as i:
            rows = [lifted(text.let(f"add i64 {i}, {r}")) for r in range(self.several)]
            joined = self.folded_columns(lanes, rows)
            put_all(state, self.folding.merge(lanes, [v.get() for v in state], joined))
        with text.loop(whole, "%rows") as i:
            put_all(state, self.folding.merge(lanes, [v.get() for v in state], lifted(i)))
        self.write(lanes, [v.get() for v in state], spots)

    def _tile_columns(self, lanes: Lanes, j: str) -> None:
        text, kind = lanes.text, self.folding.kinds[0]

        def summed(count: int, term: Callable[[State], State]) -> State:
            found = [Variable(lanes, kind, "0.0") for _ in range(count)]
            with text.loop("0", "%rows") as i:
                spot = text.let(f"add i64 {text.let(f'mul i64 {i}, {TILE_COLUMNS}')}, {j}")
                value, chosen = self.element(lanes, "%x", "%m", spot)
                terms = term(self.folding.lift(lanes, value, chosen, "0"))
                for variable, each in zip(found, terms, strict=True):
                    variable.put(lanes.plus(kind, variable.get(), each))
            return [variable.get() for variable in found]

        weighed = summed(len(self.folding.kinds) - 1, lambda state: state)
        mean = mean_of(lanes, kind, weighed)
        spread = summed(1, lambda state: [gap_squared(lanes, kind, state, mean)])
        spots = [
            text.ahead(f"%f{f}", j, dtype.itemsize) for f, dtype in enumerate(self.folding.dtypes)
        ]
        joined = self.folding.merge(lanes, self.read(lanes, spots), [*mean, weighed[-1], spread[0]])
        self.write(lanes, joined, spots)

    # -- pairwise -------------------------------------------------------------------------------

    def _push(self) -> str:
        """Return ``push(stack, state)``: add a state, joining those of equal rank."""
        head = f"define internal void @push{self.mark}(ptr %stack, ptr %state)"
        text = Text(f"{head} noinline nounwind")
        one = Lanes(text)
        number = text.let("load i64, ptr %stack, align 8")
        depth_at = text.ahead("%stack", "1", _WORD)
        text.do(f"store i64 {text.let(f'add i64 {number}, 1')}, ptr %stack, align 8")
        depth = text.let(f"load i64, ptr {depth_at}, align 8")
        state = [
            Variable(one, k, value)
            for k, value in zip(self.folding.kinds, self.load_state(text, "%state"), strict=True)
        ]
        # As many states wait to be joined as the counter has ones at its end.
        flipped = text.let(f"xor i64 {number}, -1")
        ones = text.let(f"call i64 @llvm.cttz.i64(i64 {flipped}, i1 false)")
        with text.loop("0", ones) as j:
            back = text.let(f"add i64 {j}, 1")
            waiting = self._slot(text, text.let(f"sub i64 {depth}, {back}"))
            left = self.load_state(text, waiting)
            joined = self.folding.merge(one, left, [v.get() for v in state])
            put_all(state, joined)
        top = text.let(f"sub i64 {depth}, {ones}")
        self.store_state(text, [v.get() for v in state], self._slot(text, top))
        text.do(f"store i64 {text.let(f'add i64 {top}, 1')}, ptr {depth_at}, align 8")
        return text.end()

    def _drain(self) -> str:
        """Return ``drain(stack, result)``: join all states that wait, the last first."""
        head = f"define internal void @drain{self.mark}(ptr %stack, ptr %result)"
        text = Text(f"{head} noinline nounwind")
        one = Lanes(text)
        depth = text.let(f"load i64, ptr {text.ahead('%stack', '1', _WORD)}, align 8")
        last = text.let(f"sub i64 {depth}, 1")
        state = [
            Variable(one, k, value)
            for k, value in zip(
                self.folding.kinds, self.load_state(text, self._slot(text, last)), strict=True
            )
        ]
        with text.loop("0", last) as j:
            below = text.let(f"sub i64 {last}, {text.let(f'add i64 {j}, 1')}")
            left = self.load_state(text, self._slot(text, below))
            joined = self.folding.merge(one, left, [v.get() for v in state])
            put_all(state, joined)
        self.store_state(text, [v.get() for v in state], "%result")
        return text.end()

    def _slot(self, text: Text, number: str) -> str:
        words = text.let(f"mul i64 {number}, {len(self.folding.kinds)}")
        return text.ahead("%stack", text.let(f"add i64 {words}, 2"), _WORD)


def reducers_of(program: Program) -> list[Reducer]:
    """Return what reduces in a kernel of ``program``."""
    return [
        Reducer(folding, program.dtypes[reducing.register], reducing.mask is not None, number)
        for number, (folding, reducing) in enumerate(
            zip(program.foldings, program.region.reductions, strict=True)
        )
    ]


def _loaded(lanes: Lanes, kind: str, pointer: str, align: int, group: str = "") -> str:
    """Load a field; a flag is a byte."""
    if kind != "i1":
        return lanes.load(kind, pointer, align, group)
    byte = lanes.load("i8", pointer, 1, group)
    return lanes.text.let(f"icmp ne {lanes.type('i8')} {byte}, {lanes.all('i8', '0')}")


def _store(lanes: Lanes, kind: str, value: str, pointer: str, align: int, group: str = "") -> None:
    if kind == "i1":
        value, kind, align = lanes.convert("zext", "i1", value, "i8"), "i8", 1
    lanes.text.do(f"store {lanes.type(kind)} {value}, ptr {pointer}, align {align}{group}")


_NOWHERE = str(numpy.iinfo(numpy.int64).max)


def _earlier(lanes: Lanes, a: State, b: State) -> State:
    before = lanes.text.let(f"icmp slt {lanes.type('i64')} {b[0]}, {a[0]}")
    return [lanes.choose("i64", before, b[0], a[0])]
