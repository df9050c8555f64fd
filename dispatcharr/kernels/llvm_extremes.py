"""Extremes and their places.

NaN is told by comparisons that raise no flag, and takes no part in those of order, which would: it
is kept as a field of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr.kernels.llvm_state import (
    FLAG,
    INT,
    Arrays,
    Code,
    Dtype,
    Folding,
    Lanes,
    Maker,
    Merge,
    State,
    constant,
    kind_of,
    missing,
    present,
)

__all__ = ["extreme_of", "place_of"]


def _last(dtype: Dtype, largest: bool) -> Any:
    """Return the value of ``dtype`` at one end."""
    if dtype.kind == "f":
        return numpy.inf if largest else -numpy.inf
    if dtype.kind == "b":
        return int(largest)
    info = numpy.iinfo(dtype)
    return info.max if largest else info.min


def _order(dtype: Dtype, greater: bool) -> str:
    word = "gt" if greater else "lt"
    if dtype.kind == "f":
        return f"fcmp o{word}"
    return f"icmp {'s' if dtype.kind == 'i' else 'u'}{word}"


def extreme_of(greater: bool, skip: bool = False) -> Callable[[Dtype, Dtype, bool], Folding]:
    """Return the maker of a maximum or minimum; ``skip`` leaves out NaN."""

    def make(value: Dtype, state: Dtype, masked: bool) -> Folding:
        kind, real = kind_of(value), value.kind == "f"
        neutral = _last(value, not greater)
        text_of = constant(value, neutral)
        test = _order(value, greater)

        def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
            least = lanes.all(kind, text_of)
            if not real:
                return [x if chosen is None else lanes.choose(kind, chosen, x, least)]
            is_present = present(lanes, value, x, chosen)
            number = lanes.choose(kind, is_present, x, least)
            if skip:
                return [number, is_present]
            is_missing = missing(lanes, value, x)
            if chosen is not None:
                is_missing = lanes.do("and", "i1", is_missing, chosen)
            return [number, is_missing]

        def merge(lanes: Lanes, a: State, b: State) -> State:
            better = lanes.text.let(f"{test} {lanes.type(kind)} {b[0]}, {a[0]}")
            joined = [lanes.choose(kind, better, b[0], a[0])]
            return [*joined, lanes.do("or", "i1", a[1], b[1])] if real else joined

        if not real:
            return Folding((kind,), (text_of,), lift, merge, (value,), (neutral,), tuple)
        start = numpy.nan if skip else neutral
        return Folding(
            (kind, "i1"), (text_of, "false"), lift, merge, (value,), (start,), tuple,
            code=_as_nan(value, text_of, skip),
        )  # fmt: skip

    return make


def _as_nan(value: Dtype, least: str, skip: bool, flag: int = 1) -> Code:
    """Return how a flag that says NaN, or with ``skip`` a number, is kept in the value itself."""
    kind, nan = kind_of(value), constant(value, numpy.nan)

    def write(lanes: Lanes, state: State) -> State:
        left, right = (state[0], lanes.all(kind, nan)) if skip else (lanes.all(kind, nan), state[0])
        return [lanes.choose(kind, state[flag], left, right), *state[1:flag]]

    def read(lanes: Lanes, fields: State) -> State:
        is_missing = missing(lanes, value, fields[0])
        number = lanes.choose(kind, is_missing, lanes.all(kind, least), fields[0])
        found = lanes.negate(is_missing) if skip else is_missing
        return [number, *fields[1:], found]

    return Code(write, read)


# -- places ---------------------------------------------------------------------------------------


def place_of(greater: bool, skip: bool = False) -> Maker:
    """Return the maker of ``argmax`` or ``argmin``: NaN comes first, then the earlier of equals.

    With ``skip`` NaN stands for the last in order, as in NumPy, and a flag says whether there was
    anything else.
    """

    def make(value: Dtype, state: Dtype, masked: bool) -> Folding | str:
        kind, real = kind_of(value), value.kind == "f"
        last = _last(value, not greater)
        text_of = constant(value, last)

        def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
            if not real:
                return [x, place]
            if skip:
                is_present = present(lanes, value, x, chosen)
                number = lanes.choose(kind, is_present, x, lanes.all(kind, text_of))
                return [number, place, is_present]
            is_missing = missing(lanes, value, x)
            number = lanes.choose(kind, is_missing, lanes.all(kind, text_of), x)
            return [number, place, is_missing]

        def row_state(fields: Arrays) -> tuple[numpy.ndarray, ...]:
            # Places count from the start of the space, so segments add no length to them.
            nothing = numpy.zeros((len(fields[0]),) + (1,) * (fields[0].ndim - 1), numpy.intp)
            found = fields[1].astype(numpy.intp, copy=False), fields[0], nothing
            return (*found, fields[2] == 0) if skip else found

        nowhere = numpy.iinfo(INT).max
        return Folding(
            (kind, "i64", "i1")[: 2 + real],
            (text_of, str(nowhere), "false")[: 2 + real],
            lift,
            _earlier_and_better(value, greater, skip),
            (value, INT, FLAG)[: 2 + skip],
            (last, nowhere, 0)[: 2 + skip],
            row_state,
            _as_nan(value, text_of, skip=False, flag=2) if real and not skip else None,
            placed=True,
            extreme=extreme_of(greater, skip)(value, state, masked),
            skips=skip,
        )

    return make


def _earlier_and_better(value: Dtype, greater: bool, skip: bool) -> Merge:
    kind, real = kind_of(value), value.kind == "f"
    test, equal = _order(value, greater), "fcmp oeq" if real else "icmp eq"

    def merge(lanes: Lanes, a: State, b: State) -> State:
        text, type_ = lanes.text, lanes.type(kind)
        better = text.let(f"{test} {type_} {b[0]}, {a[0]}")
        same = text.let(f"{equal} {type_} {b[0]}, {a[0]}")
        earlier = text.let(f"icmp slt {lanes.type('i64')} {b[1]}, {a[1]}")
        take = lanes.do("or", "i1", better, lanes.do("and", "i1", same, earlier))
        joined = []
        if skip:
            joined = [lanes.do("or", "i1", a[2], b[2])]
        elif real:
            # NaN beats what is none; of two, the earlier.
            alone = lanes.do("and", "i1", b[2], lanes.negate(a[2]))
            among = lanes.do("and", "i1", lanes.do("and", "i1", a[2], b[2]), earlier)
            joined = [lanes.do("or", "i1", a[2], b[2])]
            take = lanes.do("and", "i1", take, lanes.negate(joined[0]))
            take = lanes.do("or", "i1", take, lanes.do("or", "i1", alone, among))
        return [
            lanes.choose(kind, take, b[0], a[0]),
            lanes.choose("i64", take, b[1], a[1]),
            *joined,
        ]

    return merge
