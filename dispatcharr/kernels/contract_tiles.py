"""IR text that multiplies matrices of words: packed panels and tiles of registers.

``void kernel(ptr table, ptr)``. The table holds, as 64-bit integers, :data:`FIELDS`: one block of
rows and columns of the result, of one matrix or of several in a row. Whoever calls gives memory for
what is packed.

Both operands are packed into panels of as many rows (columns) as a tile has, one slice of
:data:`SLICE` bytes of words at a time, with zeros for what is missing; a tile of the result stays
in registers over a slice. So the inner loop knows neither strides nor ends. Rows that are
contiguous along the summed axis, and those that are across it, are packed a word or a vector at a
time; all others, and what is left over, element by element.
"""

from __future__ import annotations

from dataclasses import dataclass

from dispatcharr.kernels.contract_kind import Kind, support
from dispatcharr.kernels.llvm_text import Text, metadata

__all__ = ["FIELDS", "PADDING", "ROOM", "SLICE", "tiles_text"]

FIELDS = (
    "a", "a_row", "a_k", "b", "b_column", "b_k", "c", "c_row", "rows", "columns", "summed",
    "count", "a_next", "b_next", "c_next",
)  # fmt: skip
#: What the second table holds: memory of the thread's own, to work in.
ROOM = ("packed_a", "packed_b", "sums")
#: Bytes of words along the summed axis that are packed at once.
SLICE = 1024
#: Rows, and bytes of a row, by which whoever calls makes the memory larger than the block.
PADDING = 16, 128
#: Rows, and vectors of columns, of a tile: with 32 vector registers and with 16.
_TILES = {64: (12, 2), 32: (4, 2), 16: (4, 2)}
_POINTERS = {"a", "b", "c", "packed_a", "packed_b", "sums"}


@dataclass(frozen=True, slots=True)
class _Shape:
    """A kind with the tile of a machine."""

    kind: Kind
    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def word(self) -> str:
        return f"i{8 * self.kind.word}"

    @property
    def vector(self) -> str:
        return f"<{self.lanes} x {self.word}>"


def tiles_text(kind: Kind, vector_bytes: int, features: str) -> str:
    """Return the text of the kernel for ``kind``, for vectors of this width."""
    rows, vectors = _TILES[vector_bytes]
    shape = _Shape(kind, rows, vectors, vector_bytes // kind.word)
    return "\n".join(
        [
            support(kind, shape.lanes, features),
            _pack(shape, "pack_a", rows, kind.flips, False),
            _pack(shape, "pack_b", shape.columns, False, kind.flips),
            _micro(shape),
            _write(shape),
            _block(shape),
            _entry(),
            metadata(0),
        ]
    )


def _entry() -> str:
    text = Text("define void @kernel(ptr %table, ptr %room) nounwind")
    values = {}
    for table, names in (("%table", FIELDS), ("%room", ROOM)):
        for place, name in enumerate(names):
            address = text.ahead(table, str(8 * place))
            values[name] = text.let(f"load {_type(name)}, ptr {address}, align 8")
    with text.loop("0", values["count"]) as one:
        for name in ("a", "b", "c"):
            values[f"{name} here"] = text.ahead(values[name], one, values[f"{name}_next"])
        arguments = [
            (_type(name), values[f"{name} here" if name in ("a", "b", "c") else name])
            for name in _BLOCK
        ]
        text.call("block", arguments)
    return text.end()


_BLOCK = FIELDS[: FIELDS.index("count")] + ROOM


def _type(name: str) -> str:
    return "ptr" if name in _POINTERS else "i64"


def _block(shape: _Shape) -> str:
    """Return the function that computes one block of the result."""
    arguments = ", ".join(f"{_type(name)} %{name}" for name in _BLOCK)
    text = Text(f"define internal void @block({arguments}) nounwind")
    kind = shape.kind
    deep = SLICE // kind.word * kind.group
    width = text.let(f"add i64 %columns, {shape.columns - 1}")
    panels = text.let(f"udiv i64 {width}, {shape.columns}")
    pitch = text.let(f"mul nsw i64 {panels}, {shape.columns * kind.word}")
    with text.loop("0", "%summed", str(deep)) as start:
        left = text.let(f"sub nsw i64 %summed, {start}")
        depth = text.least(left, str(deep))
        rounded = text.let(f"add nsw i64 {depth}, {kind.group - 1}")
        words = text.let(f"udiv i64 {rounded}, {kind.group}")
        first = text.let(f"icmp eq i64 {start}, 0")
        for side, lines in (("a", "row"), ("b", "column")):
            here = text.ahead(f"%{side}", start, f"%{side}_k")
            text.call(
                f"pack_{side}",
                [
                    ("ptr", here), ("i64", f"%{side}_{lines}"), ("i64", f"%{side}_k"),
                    ("i64", f"%{lines}s"), ("i64", depth), ("i64", words),
                    ("ptr", f"%packed_{side}"),
                ],
            )  # fmt: skip
        held = text.let(f"add i64 {words}, {int(kind.flips)}")
        with text.loop("0", "%columns", str(shape.columns)) as column:
            b = text.ahead("%packed_b", text.let(f"mul i64 {column}, {held}"), kind.word)
            sums = text.ahead("%sums", column, kind.word)
            with text.loop("0", "%rows", str(shape.rows)) as row:
                a = text.ahead("%packed_a", text.let(f"mul i64 {row}, {words}"), kind.word)
                tile = text.ahead(sums, row, pitch)
                text.call(
                    "micro",
                    [("ptr", a), ("ptr", b), ("ptr", tile), ("i64", pitch), ("i64", words),
                     ("i1", first)],
                )  # fmt: skip
    text.call(
        "write",
        [("ptr", "%c"), ("i64", "%c_row"), ("ptr", "%sums"), ("i64", pitch), ("i64", "%rows"),
         ("i64", "%columns")],
    )  # fmt: skip
    return text.end()


def _micro(shape: _Shape) -> str:
    """Return the function that adds one slice to one tile."""
    text = Text(
        "define internal void @micro(ptr noalias %a, ptr noalias %b, ptr noalias %c, i64 %pitch, "
        "i64 %words, i1 %first) nounwind"
    )
    kind, vector = shape.kind, shape.vector
    size = shape.lanes * kind.word
    places, starts = [], []
    for number in range(shape.rows):
        line = text.ahead("%c", str(number), "%pitch")
        for part in range(shape.vectors):
            place = text.ahead(line, str(part * size))
            held = text.let(f"load {vector}, ptr {place}, align {kind.word}")
            start = text.let(f"select i1 %first, {vector} zeroinitializer, {vector} {held}")
            if kind.flips:
                head = text.ahead("%b", str(part * size))
                less = text.let(f"load {vector}, ptr {head}, align {kind.word}")
                start = text.let(f"add {vector} {start}, {less}")
            places.append(place)
            starts.append(start)
    data = text.ahead("%b", str(size * shape.vectors)) if kind.flips else "%b"
    totals = [f"%t{number}" for number in range(len(starts))]
    text.do("br label %more")
    text.label("more")
    text.do("%k = phi i64 [0, %entry], [%next, %more]")
    for number, start in enumerate(starts):
        text.do(f"%t{number} = phi {vector} [{start}, %entry], [%n{number}, %more]")
    _tile_step(shape, text, data, totals)
    text.do("%next = add nsw i64 %k, 1")
    text.do("%again = icmp slt i64 %next, %words")
    text.do("br i1 %again, label %more, label %done, !llvm.loop !7")
    text.label("done")
    for number, place in enumerate(places):
        text.do(f"store {vector} %n{number}, ptr {place}, align {kind.word}")
    return text.end()


def _tile_step(shape: _Shape, text: Text, data: str, totals: list[str]) -> None:
    """Add the products of one word of each row and each column."""
    kind, vector, word = shape.kind, shape.vector, shape.word
    size = shape.lanes * kind.word
    here = text.ahead(data, "%k", size * shape.vectors)
    columns = [
        text.let(f"load {vector}, ptr {text.ahead(here, str(part * size))}, align {kind.word}")
        for part in range(shape.vectors)
    ]
    line = text.ahead("%a", "%k", shape.rows * kind.word)
    for row in range(shape.rows):
        place = text.ahead(line, str(row * kind.word))
        value = text.let(f"load {word}, ptr {place}, align {kind.word}")
        one = text.let(f"insertelement {vector} poison, {word} {value}, i32 0")
        spread = f"<{shape.lanes} x i32> zeroinitializer"
        left = text.let(f"shufflevector {vector} {one}, {vector} poison, {spread}")
        for part, right in enumerate(columns):
            place_of = row * shape.vectors + part
            made = kind.step(text, shape.lanes, totals[place_of], left, right)
            text.do(f"%n{place_of} = bitcast {vector} {made} to {vector}")


def _write(shape: _Shape) -> str:
    """Return the function that writes a block, its words narrowed to what the result holds."""
    text = Text(
        "define internal void @write(ptr noalias %c, i64 %row, ptr noalias %sums, i64 %pitch, "
        "i64 %rows, i64 %columns) nounwind"
    )
    kind, word = shape.kind, shape.word
    with text.loop("0", "%rows") as row:
        target = text.ahead("%c", row, "%row")
        source = text.ahead("%sums", row, "%pitch")
        with text.loop("0", "%columns", note="") as column:
            place = text.ahead(source, column, kind.word)
            value = text.let(f"load {word}, ptr {place}, align {kind.word}")
            if kind.name == "bits":
                value = text.let(f"zext i1 {text.let(f'icmp ne {word} {value}, 0')} to i8")
            elif kind.out < kind.word:
                value = text.let(f"trunc {word} {value} to i{8 * kind.out}")
            place = text.ahead(target, column, kind.out)
            text.do(f"store i{8 * kind.out} {value}, ptr {place}, align {kind.out}")
    return text.end()


def _pack(shape: _Shape, name: str, lanes: int, flip: bool, totals: bool) -> str:
    """Return the function that packs one slice of an operand.

    ``flip`` adds 128 to each byte. ``totals`` puts 128 times the sum of each line before its panel,
    negated.
    """
    text = Text(
        f"define internal void @{name}(ptr noalias %s, i64 %line, i64 %step, i64 %lines, "
        "i64 %depth, i64 %words, ptr noalias %d) nounwind"
    )
    kind, size = shape.kind, lanes * shape.kind.word
    along = text.let(f"icmp eq i64 %step, {kind.item}")
    across = text.let(f"icmp eq i64 %line, {kind.item}")
    whole = text.let(f"udiv i64 %depth, {kind.group}")
    held = text.let(f"add i64 %words, {int(totals)}")
    with text.loop("0", "%lines", str(lanes)) as first:
        source = text.ahead("%s", first, "%line")
        panel = text.ahead("%d", text.let(f"mul i64 {first}, {held}"), kind.word)
        data = text.ahead(panel, str(size)) if totals else panel
        left = text.let(f"sub nsw i64 %lines, {first}")
        full = text.let(f"icmp sge i64 {left}, {lanes}")
        by_word = text.let(f"and i1 {full}, {along}")
        by_vector = text.let(f"and i1 {full}, {across}")
        # Of a matrix that is both, its words lie together.
        by_vector = text.let(f"select i1 {by_word}, i1 false, i1 {by_vector}")
        quick = text.let(f"or i1 {by_word}, {by_vector}")
        done = text.let(f"select i1 {quick}, i64 {whole}, i64 0")
        with text.when(by_word), text.loop("0", whole) as k:
            _words(shape, text, lanes, flip, source, k, text.ahead(data, k, size))
        with text.when(by_vector), text.loop("0", whole) as k:
            _vector(shape, text, lanes, flip, source, k, text.ahead(data, k, size))
        with text.loop(done, "%words") as k:
            _elements(shape, text, lanes, flip, source, left, k, text.ahead(data, k, size))
        if totals:
            _line_totals(shape, text, panel, data)
    return text.end()


def _words(
    shape: _Shape, text: Text, lanes: int, flip: bool, source: str, k: str, target: str
) -> None:
    """Pack a word of each line, whose elements lie together."""
    kind, word = shape.kind, shape.word
    here = text.ahead(source, k, kind.group * kind.item)
    for lane in range(lanes):
        place = text.ahead(here, str(lane), "%line")
        if kind.name == "bits":
            raw = text.let(f"load <32 x i8>, ptr {place}, align 1")
            value = text.let(f"bitcast <32 x i1> {_truths(text, raw, 32)} to i32")
        else:
            value = text.let(f"load {word}, ptr {place}, align 1")
        if flip:
            value = text.let(f"xor {word} {value}, {_FLIP}")
        place = text.ahead(target, str(lane * kind.word))
        text.do(f"store {word} {value}, ptr {place}, align {kind.word}")


_FLIP = 0x80808080 - (1 << 32)


def _truths(text: Text, raw: str, lanes: int) -> str:
    return text.let(f"icmp ne <{lanes} x i8> {raw}, zeroinitializer")


def _vector(
    shape: _Shape, text: Text, lanes: int, flip: bool, source: str, k: str, target: str
) -> None:
    """Pack a word of each line, where elements of neighbouring lines lie together."""
    kind = shape.kind
    item, vector = f"<{lanes} x i{8 * kind.item}>", f"<{lanes} x {shape.word}>"
    here = text.ahead(source, text.let(f"mul i64 {k}, {kind.group}"), "%step")
    value = ""
    for place in range(kind.group):
        raw = text.let(f"load {item}, ptr {text.ahead(here, str(place), '%step')}, align 1")
        wide = raw
        if kind.name == "bits":
            wide = text.let(f"zext <{lanes} x i1> {_truths(text, raw, lanes)} to {vector}")
        elif kind.group > 1:
            wide = text.let(f"zext {item} {raw} to {vector}")
        if place:
            shift = place * (1 if kind.name == "bits" else 8 * kind.item)
            wide = text.let(f"shl {vector} {wide}, {_spread(lanes, shape.word, shift)}")
            value = text.let(f"or {vector} {value}, {wide}")
        else:
            value = wide
    if flip:
        value = text.let(f"xor {vector} {value}, {_spread(lanes, shape.word, _FLIP)}")
    text.do(f"store {vector} {value}, ptr {target}, align {kind.word}")


def _spread(lanes: int, word: str, value: int) -> str:
    return "<" + ", ".join([f"{word} {value}"] * lanes) + ">"


def _elements(
    shape: _Shape, text: Text, lanes: int, flip: bool, source: str, left: str, k: str, target: str
) -> None:
    """Pack a word of each line element by element; those that are not there are zeros."""
    kind, word, item = shape.kind, shape.word, f"i{8 * shape.kind.item}"
    from_here = text.let(f"mul i64 {k}, {kind.group}")
    held = text.reserve(word)
    with text.loop("0", str(lanes)) as lane:
        text.do(f"store {word} 0, ptr {held}")
        there = text.let(f"icmp slt i64 {lane}, {left}")
        rest = text.let(f"sub i64 %depth, {from_here}")
        most = text.let(f"select i1 {there}, i64 {text.least(rest, str(kind.group))}, i64 0")
        line = text.ahead(source, lane, "%line")
        with text.loop("0", most) as place:
            position = text.let(f"add i64 {from_here}, {place}")
            raw = text.let(f"load {item}, ptr {text.ahead(line, position, '%step')}, align 1")
            if kind.name == "bits":
                raw = text.let(f"zext i1 {text.let(f'icmp ne i8 {raw}, 0')} to {word}")
            elif kind.group > 1:
                raw = text.let(f"zext {item} {raw} to {word}")
            bits = 1 if kind.name == "bits" else 8 * kind.item
            shift = text.let(f"mul i64 {place}, {bits}")
            if word != "i64":
                shift = text.let(f"trunc i64 {shift} to {word}")
            moved = text.let(f"shl {word} {raw}, {shift}")
            before = text.let(f"load {word}, ptr {held}")
            text.do(f"store {word} {text.let(f'or {word} {before}, {moved}')}, ptr {held}")
        value = text.let(f"load {word}, ptr {held}")
        if flip:
            value = text.let(f"xor {word} {value}, {_FLIP}")
        text.do(
            f"store {word} {value}, ptr {text.ahead(target, lane, kind.word)}, align {kind.word}"
        )


def _line_totals(shape: _Shape, text: Text, panel: str, data: str) -> None:
    kind, vector = shape.kind, shape.vector
    size = shape.lanes * kind.word
    for part in range(shape.vectors):
        held = text.reserve(vector)
        text.do(f"store {vector} zeroinitializer, ptr {held}")
        with text.loop("0", "%words") as k:
            place = text.ahead(text.ahead(data, k, size * shape.vectors), str(part * size))
            words = text.let(f"load {vector}, ptr {place}, align {kind.word}")
            before = text.let(f"load {vector}, ptr {held}")
            ones = _spread(shape.lanes, shape.word, 0x01010101)
            total = kind.step(text, shape.lanes, before, ones, words)
            text.do(f"store {vector} {total}, ptr {held}")
        total = text.let(f"load {vector}, ptr {held}")
        less = text.let(f"mul {vector} {total}, {_spread(shape.lanes, shape.word, -128)}")
        text.do(f"store {vector} {less}, ptr {text.ahead(panel, str(part * size))}, align 4")
