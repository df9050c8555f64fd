"""What each reduction does to complex elements: states have a field for each part of a number.

Elements are pairs of parts, of one value each or of as many as there are lanes. Their order is
NumPy's: by the real part, then by the other. Which of several NaN comes first depends on the order
of elements, so where there is one the reduction is done again, from the first to the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy

from dispatcharr.kernels.llvm_state import (
    FLAG,
    Arrays,
    Dtype,
    Folding,
    Lanes,
    Lift,
    Merge,
    State,
    constant,
    counted,
    kind_of,
)

__all__ = ["complex_extreme_of", "complex_moments_of", "complex_total_of", "present_pair", "truth"]


def _part(dtype: Dtype) -> Dtype:
    """Return the dtype of the parts of complex ``dtype``."""
    return numpy.dtype(numpy.float32 if dtype.itemsize == 8 else numpy.float64)


def _parts(lanes: Lanes, dtype: Dtype, x: str) -> State:
    return lanes.parts(kind_of(_part(dtype)), x)


def _tested(lanes: Lanes, test: str, kind: str, a: str, b: str) -> str:
    return lanes.text.let(f"fcmp {test} {lanes.type(kind)} {a}, {b}")


def truth(lanes: Lanes, dtype: Dtype, x: str) -> str:
    """Return where an element is not zero."""
    kind = kind_of(_part(dtype))
    zero = lanes.all(kind, "0.0")
    real, imaginary = [_tested(lanes, "une", kind, p, zero) for p in _parts(lanes, dtype, x)]
    return lanes.do("or", "i1", real, imaginary)


def present_pair(lanes: Lanes, dtype: Dtype, x: str, chosen: str | None) -> str:
    """Return where neither part of an element is NaN, and it is chosen."""
    real, imaginary = _parts(lanes, dtype, x)
    found = _tested(lanes, "ord", kind_of(_part(dtype)), real, imaginary)
    return found if chosen is None else lanes.do("and", "i1", found, chosen)


def joined(real: numpy.ndarray, imaginary: numpy.ndarray) -> numpy.ndarray:
    """Return complex numbers made of their parts, whatever these are."""
    found = numpy.empty(real.shape, numpy.result_type(real.dtype, numpy.complex64))
    found.real, found.imag = real, imaginary
    return found


# -- sums and products ----------------------------------------------------------------------------


def complex_total_of(
    product: bool, skip: bool, counts: bool, value: Dtype, state: Dtype, masked: bool
) -> Folding | str:
    """Return the folding of a sum or product."""
    if state.kind != "c" or value.kind != "c" or state.itemsize < value.itemsize:
        return f"accumulating {value} in {state} is left to NumPy"
    kind, start = kind_of(_part(state)), (int(product), 0)
    neutral = tuple(constant(_part(state), n) for n in start)
    lift = _lift_total(value, state, skip, neutral)
    merge = _product(kind) if product else _sum(kind)
    part = _part(state)
    found = Folding(
        (kind, kind), neutral, lift, merge, (part, part), start,
        lambda fields: (joined(fields[0], fields[1]),), unsteady=product,
    )  # fmt: skip
    if not (counts and (masked or skip)):
        return found
    return counted(found, value, present_pair if skip else None)


def _lift_total(value: Dtype, state: Dtype, skip: bool, neutral: tuple[str, ...]) -> Lift:
    kind, source = kind_of(_part(state)), kind_of(_part(value))

    def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
        if skip:
            chosen = present_pair(lanes, value, x, chosen)
        found = _parts(lanes, value, x)
        if source != kind:
            found = [lanes.convert("fpext", source, part, kind) for part in found]
        if chosen is None:
            return found
        return [
            lanes.choose(kind, chosen, part, lanes.all(kind, n))
            for part, n in zip(found, neutral, strict=True)
        ]

    return lift


def _sum(kind: str) -> Merge:
    def merge(lanes: Lanes, a: State, b: State) -> State:
        return [lanes.plus(kind, x, y) for x, y in zip(a, b, strict=True)]

    return merge


def _product(kind: str) -> Merge:
    def merge(lanes: Lanes, a: State, b: State) -> State:
        left, right = lanes.times(kind, a[0], b[0]), lanes.times(kind, a[1], b[1])
        cross, other = lanes.times(kind, a[0], b[1]), lanes.times(kind, a[1], b[0])
        return [lanes.do("fsub", kind, left, right), lanes.plus(kind, cross, other)]

    return merge


# -- order ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class complex_extreme_of:
    """Makes a maximum or minimum."""

    greater: bool

    def __call__(self, value: Dtype, state: Dtype, masked: bool) -> Folding:
        part = _part(value)
        kind, last = kind_of(part), -numpy.inf if self.greater else numpy.inf
        least, test = constant(part, last), "ogt" if self.greater else "olt"

        def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
            # NaN takes no part in comparisons of order, which would raise a flag.
            is_present = present_pair(lanes, value, x, None)
            counts = is_present if chosen is None else lanes.do("and", "i1", is_present, chosen)
            found = [
                lanes.choose(kind, counts, p, lanes.all(kind, least))
                for p in _parts(lanes, value, x)
            ]
            missing = lanes.negate(is_present)
            if chosen is not None:
                missing = lanes.do("and", "i1", missing, chosen)
            return [*found, missing]

        def merge(lanes: Lanes, a: State, b: State) -> State:
            better = _tested(lanes, test, kind, b[0], a[0])
            same = _tested(lanes, "oeq", kind, b[0], a[0])
            beyond = _tested(lanes, test, kind, b[1], a[1])
            take = lanes.do("or", "i1", better, lanes.do("and", "i1", same, beyond))
            picked = [lanes.choose(kind, take, y, x) for x, y in zip(a[:2], b[:2], strict=True)]
            return [*picked, lanes.do("or", "i1", a[2], b[2])]

        return Folding(
            (kind, kind, "i1"), (least, least, "false"), lift, merge, (part, part, FLAG),
            (last, last, 0), lambda fields: (joined(fields[0], fields[1]),),
            again=lambda fields: bool(fields[2].any()),
        )  # fmt: skip


# -- moments --------------------------------------------------------------------------------------


def complex_moments_of(
    skip: bool, value: Dtype, state: Dtype, merge_of: Callable[[str, int], Merge]
) -> Folding | str:
    """Return the folding of a variance: the mean has two parts, the distance is their own."""
    if state != value:
        return f"the variance of {value} in {state} is left to NumPy"
    part = _part(value)
    kind = kind_of(part)

    def lift(lanes: Lanes, x: str, chosen: str | None, place: str) -> State:
        if skip:
            chosen = present_pair(lanes, value, x, chosen)
        found = [*_parts(lanes, value, x), lanes.all(kind, "1.0")]
        if chosen is None:
            return found
        return [lanes.choose(kind, chosen, one, lanes.all(kind, "0.0")) for one in found]

    def row_state(fields: Arrays) -> tuple[numpy.ndarray, ...]:
        return fields[2].astype(numpy.float64), joined(fields[0], fields[1]), fields[3]

    return Folding(
        (kind,) * 4, (constant(part, 0),) * 4, lift, merge_of(kind, 2), (part,) * 4, (0.0,) * 4,
        row_state, moments=True,
    )  # fmt: skip
