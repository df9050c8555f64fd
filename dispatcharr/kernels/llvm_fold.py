"""What each reduction does to elements, as IR that reads the same for one and for many lanes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from dispatcharr.kernels.llvm_complex import (
    complex_extreme_of,
    complex_moments_of,
    complex_total_of,
    truth,
)
from dispatcharr.kernels.llvm_extremes import extreme_of, place_of
from dispatcharr.kernels.llvm_state import (
    FLAG,
    INT,
    Arrays,
    Dtype,
    Folding,
    Lanes,
    Lift,
    Maker,
    Merge,
    State,
    constant,
    counted,
    kind_of,
    present,
    true,
)
from dispatcharr.kernels.llvm_text import Text
from dispatcharr.plan.region import Reducing

__all__ = ["folding_of"]


def folding_of(reducing: Reducing, value: Dtype) -> Folding | str:
    """Return how ``reducing`` folds elements of dtype ``value``, or why it is not compiled."""
    make = _MAKERS.get(reducing.row.name)
    if make is None or (value.kind == "c" and reducing.row.name not in _OF_COMPLEX):
        return f"{reducing.row.name} of {value} is reduced by NumPy"
    return make(value, reducing.state_dtype or value, reducing.mask is not None)


def cast_to(lanes: Lanes, value: str, source: Dtype, target: Dtype) -> str | None:
    """Return a value cast to the dtype that it is accumulated in; None where that is not done."""
    if source == target:
        return value
    if source.kind == "f":
        if target.kind != "f" or target.itemsize < source.itemsize:
            return None
        return lanes.convert("fpext", kind_of(source), value, kind_of(target))
    if target.kind == "f":
        operation = "sitofp" if source.kind == "i" else "uitofp"
    elif target.itemsize < source.itemsize:
        return None
    elif target.itemsize == source.itemsize:
        return value
    else:
        operation = "sext" if source.kind == "i" else "zext"
    return lanes.convert(operation, kind_of(source), value, kind_of(target))


def _castable(source: Dtype, target: Dtype) -> bool:
    lanes = Lanes(Text(""))
    return target.kind in "iuf" and cast_to(lanes, "%x", source, target) is not None


# -- sums and products ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Total:
    """Makes sums and products; ``skip`` leaves out NaN, ``counts`` keeps how many are left."""

    product: bool = False
    skip: bool = False
    counts: bool = False

    def __call__(self, value: Dtype, state: Dtype, masked: bool) -> Folding | str:
        if value.kind == "c":
            return complex_total_of(self.product, self.skip, self.counts, value, state, masked)
        if not _castable(value, state):
            return f"accumulating {value} in {state} is left to NumPy"
        kind = kind_of(state)
        start = int(self.product)  # NumPy starts from zero too: a sum of -0.0 is 0.0
        neutral = constant(state, start)
        lift, merge = self._lift(value, state), self._merge(state)
        unsteady = self.product and state.kind == "f"
        found = Folding(
            (kind,), (neutral,), lift, merge, (state,), (start,), tuple, unsteady=unsteady
        )
        if not (self.counts and (masked or self.skip)):
            return found
        return counted(found, value, present if self.skip else None)

    def _lift(self, value: Dtype, state: Dtype) -> Lift:
        kind, nothing = kind_of(state), constant(state, int(self.product))

        def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
            if self.skip:
                chosen = present(lanes, value, x, chosen)
            cast = cast_to(lanes, x, value, state)
            if cast is None:
                raise TypeError(f"{value} does not become {state}")
            if chosen is None:
                return [cast]
            return [lanes.choose(kind, chosen, cast, lanes.all(kind, nothing))]

        return lift

    def _merge(self, state: Dtype) -> Merge:
        kind = kind_of(state)

        def merge(lanes: Lanes, a: State, b: State) -> State:
            joined = lanes.times if self.product else lanes.plus
            return [joined(kind, a[0], b[0])]

        return merge


# -- truth ----------------------------------------------------------------------------------------


def _true(lanes: Lanes, value: Dtype, x: str) -> str:
    return truth(lanes, value, x) if value.kind == "c" else true(lanes, value, x)


def _truth(both: bool) -> Maker:
    """Return the maker of ``all`` or ``any``."""

    def make(value: Dtype, state: Dtype, masked: bool) -> Folding | str:
        def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
            found = _true(lanes, value, x)
            if chosen is None:
                return [found]
            if both:
                return [lanes.do("or", "i1", found, lanes.negate(chosen))]
            return [lanes.do("and", "i1", found, chosen)]

        def merge(lanes: Lanes, a: State, b: State) -> State:
            return [lanes.do("and" if both else "or", "i1", a[0], b[0])]

        def row_state(fields: Arrays) -> tuple[numpy.ndarray, ...]:
            return (fields[0] != 0,)

        neutral, settled = ("true", "false") if both else ("false", "true")
        return Folding(
            ("i1",), (neutral,), lift, merge, (FLAG,), (int(both),), row_state, settled=settled
        )

    return make


def _count(value: Dtype, state: Dtype, masked: bool) -> Folding | str:
    def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
        found = _true(lanes, value, x)
        if lanes.count > 1:  # a bit per lane, and one instruction that counts them
            word = f"i{lanes.count}"
            bits = lanes.text.let(f"bitcast {lanes.type('i1')} {found} to {word}")
            return [lanes.text.let(f"call {word} @llvm.ctpop.{word}({word} {bits})")]
        return [lanes.convert("zext", "i1", found, "i64")]

    def merge(lanes: Lanes, a: State, b: State) -> State:
        return [lanes.plus("i64", a[0], b[0])]

    return Folding(("i64",), ("0",), lift, merge, (INT,), (0,), _as_intp, tallied=True)


def _as_intp(fields: Arrays) -> tuple[numpy.ndarray, ...]:
    return (fields[0].astype(numpy.intp, copy=False),)


# -- moments --------------------------------------------------------------------------------------


def _moments(skip: bool) -> Maker:
    """Return the maker of variances, which are joined as the rows of NumPy's states are."""

    def make(value: Dtype, state: Dtype, masked: bool) -> Folding | str:
        if value.kind == "c":
            return complex_moments_of(skip, value, state, _joined_moments)
        if value.char not in "fd" or not _castable(value, state):
            return f"the variance of {value} in {state} is left to NumPy"
        kind = kind_of(state)

        def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
            if skip:
                chosen = present(lanes, value, x, chosen)
            cast = cast_to(lanes, x, value, state) or x
            one = lanes.all(kind, "1.0")
            if chosen is None:
                return [cast, one]
            zero = lanes.all(kind, "0.0")
            return [lanes.choose(kind, chosen, cast, zero), lanes.choose(kind, chosen, one, zero)]

        def row_state(fields: Arrays) -> tuple[numpy.ndarray, ...]:
            return fields[1].astype(numpy.float64), fields[0], fields[2]

        zeros = (constant(state, 0),) * 3
        return Folding(
            (kind,) * 3, zeros, lift, _joined_moments(kind, 1), (state,) * 3, (0.0,) * 3,
            row_state, moments=True,
        )  # fmt: skip

    return make


def _joined_moments(kind: str, parts: int) -> Merge:
    """Return the merge of (mean in each part, count, spread) of Chan, Golub and LeVeque."""

    def merge(lanes: Lanes, a: State, b: State) -> State:
        total = lanes.plus(kind, a[parts], b[parts])
        zero, type_ = lanes.all(kind, "0.0"), lanes.type(kind)
        nothing = lanes.text.let(f"fcmp oeq {type_} {total}, {zero}")
        whole = lanes.choose(kind, nothing, lanes.all(kind, "1.0"), total)
        share = lanes.do("fdiv", kind, b[parts], whole)
        weight = lanes.times(kind, a[parts], share)
        alone = lanes.text.let(f"fcmp oeq {type_} {weight}, {zero}")
        means, spread = [], lanes.plus(kind, a[-1], b[-1])
        for ours, theirs in zip(a[:parts], b[:parts], strict=True):
            alike = lanes.text.let(f"fcmp oeq {type_} {ours}, {theirs}")
            # Means that overflowed alike are no distance apart.
            right = lanes.choose(kind, alike, zero, theirs)
            left = lanes.choose(kind, alike, zero, ours)
            apart = lanes.do("fsub", kind, right, left)
            means.append(lanes.plus(kind, ours, lanes.times(kind, apart, share)))
            gap = lanes.choose(kind, alone, zero, apart)
            between = lanes.times(kind, lanes.times(kind, gap, gap), weight)
            spread = lanes.plus(kind, spread, between)
        return [*means, total, spread]

    return merge


def _extreme(greater: bool) -> Maker:
    """Return the maker of ``max`` or ``min``."""

    def make(value: Dtype, state: Dtype, masked: bool) -> Folding | str:
        made = complex_extreme_of if value.kind == "c" else extreme_of
        return made(greater)(value, state, masked)

    return make


_MAKERS: dict[str, Maker] = {
    "sum": _Total(),
    "prod": _Total(product=True),
    "mean": _Total(counts=True),
    "min": _extreme(False),
    "max": _extreme(True),
    "any": _truth(False),
    "all": _truth(True),
    "count_nonzero": _count,
    "argmin": place_of(False),
    "argmax": place_of(True),
    "var": _moments(False),
    "std": _moments(False),
    "nansum": _Total(skip=True),
    "nanprod": _Total(product=True, skip=True),
    "nanmean": _Total(skip=True, counts=True),
    "nanmin": extreme_of(False, skip=True),
    "nanmax": extreme_of(True, skip=True),
    "nanargmin": place_of(False, skip=True),
    "nanargmax": place_of(True, skip=True),
    "nanvar": _moments(True),
    "nanstd": _moments(True),
}
#: Those whose makers know complex elements.
_OF_COMPLEX = {
    "sum", "prod", "mean", "min", "max", "any", "all", "count_nonzero", "var", "std", "nansum",
    "nanprod", "nanmean",
}  # fmt: skip
