"""What of the layout of a kernel's operands its text depends on: the form.

Each operand has a kind, by its stride along the innermost axis:

====  ==================================================================
0     one value for the whole space, read before the loops
b     one value per row, read before the inner loop
c     contiguous
r     contiguous, backwards
2-4   every so many elements: loaded whole and shuffled
s     any other stride, known at run time
====  ==================================================================

Inner axes of few elements are unrolled, so that the loop over the next axis is the one that is
vectorised. Where functions are computed, which are dear for a single element, they are packed into
whole vectors instead. An operand that is contiguous along the last axis but one is read in tiles,
so that what is loaded with one of its cache lines is used before it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dispatcharr.kernels.llvm_program import Program

__all__ = ["ONE_BLOCK", "PACKED", "TILE", "Form", "form_of"]

#: Longest inner axis that is unrolled. LLVM shuffles groups of up to 8 elements between memory and
#: vectors; longer rows nearly fill vectors by themselves.
UNROLLED = 7
#: Longest inner axis whose rows are packed into whole vectors.
PACKED = 64
#: Rows and columns of a tile. An operand that runs along the rows is read for as many cache lines
#: as a tile has columns, all of which stay in the second cache until their elements are used; the
#: others are read in pieces that are long enough to be foreseen. (3000 x 3000 float64, a + b.T:
#: 24 ms with 64 x 64, 17 ms with 64 x 512, 23 ms in NumPy.)
TILE = (64, 512)
#: Longest stride, in elements, that is loaded whole and shuffled.
_SHUFFLED = 4

#: Rows up to the one or from the other length are added several at a time: short ones since each
#: call has its cost, long ones since states then are read from caches less often. Between them,
#: several streams of memory are slower than one (5.7 ms and 2.4 ms for 80 MB, rows of 80 elements).
_FEW, _MANY = 32, 2048

#: Longest inner axis that is folded in few lanes, as NumPy does: one with more elements fills many.
FEW_LANES = 64
#: Longest inner axis that is folded as one block.
ONE_BLOCK = 1024

Strides = Sequence[int]


@dataclass(frozen=True, slots=True)
class Form:
    """How a kernel walks its operands.

    Attributes
    ----------
    rank : int
        Axes of the space.
    kinds : str
        One letter per operand.
    short : int
        Extent of the innermost axis where it is unrolled, else 0.
    outer : tuple of int or None
        Where it is unrolled, the byte stride of each operand along the next axis if it is few
        elements; None where it is known at run time only.
    tiled, packed : bool
        Whether the last two axes are walked in tiles; whether rows are packed.
    whole : bool
        Whether only whole vectors are computed.
    several : bool
        Whether several rows at a time are added to a row of states.
    lean, flat : bool
        Whether each row is folded as one block, into a result of its own; whether rows follow each
        other in memory, so that several are computed at a time.
    few : bool
        Whether rows are folded in few lanes.
    """

    rank: int
    kinds: str
    short: int = 0
    outer: tuple[int | None, ...] = ()
    tiled: bool = False
    packed: bool = False
    whole: bool = False
    several: bool = False
    lean: bool = False
    flat: bool = False
    few: bool = False


def form_of(program: Program, shape: Sequence[int], strides: Sequence[Strides]) -> Form:
    """Return the form of ``program`` over ``shape``.

    Parameters
    ----------
    program : Program
        The kernel's.
    shape : sequence of int
        The space, one axis at least.
    strides : sequence of sequence of int
        Byte strides of each operand, 0 where it is broadcast; empty for constants.
    """
    rank, whole = len(shape), bool(program.function)
    kinds = "".join(
        _kind(operand.dtype.itemsize, operand.role, own, shape[-1], whole)
        for operand, own in zip(program.operands, strides, strict=True)
    )
    if program.folding is not None:
        return _reducing_form(program, shape, strides, kinds)
    if rank == 1:
        return Form(rank, kinds, whole=whole)
    if whole:
        packed = shape[-1] < PACKED
        return Form(rank, kinds, tiled=_tiled(shape, strides, packed), packed=packed, whole=True)
    if shape[-1] <= UNROLLED < shape[-2]:
        return Form(rank, kinds, short=shape[-1], outer=_outer(program, shape, strides))
    return Form(rank, kinds, tiled=_tiled(shape, strides, False))


def _reducing_form(
    program: Program, shape: Sequence[int], strides: Sequence[Strides], kinds: str
) -> Form:
    rank, reducing, whole = len(shape), program.region.reducing, bool(program.function)
    if rank == 1 or reducing is None:
        return Form(rank, kinds, whole=whole)
    if program.inner and rank - 2 not in reducing.axes and shape[-1] <= ONE_BLOCK:
        if whole or shape[-1] > UNROLLED or shape[-2] <= UNROLLED:
            flat = _flat(program, shape, strides, kinds)
            few = shape[-1] <= FEW_LANES
            return Form(rank, kinds, whole=whole, lean=True, flat=flat, few=few)
    if whole:
        return Form(rank, kinds, whole=whole)
    if not program.inner:
        added = rank - 2 in reducing.axes and not all(one.moments for one in program.foldings)
        streams = shape[-1] <= _FEW or shape[-1] >= _MANY
        return Form(rank, kinds, several=streams and added)
    if shape[-1] > UNROLLED or shape[-2] <= UNROLLED or rank - 2 in reducing.axes:
        return Form(rank, kinds)
    return Form(rank, kinds, short=shape[-1], outer=_outer(program, shape, strides))


def _flat(program: Program, shape: Sequence[int], strides: Sequence[Strides], kinds: str) -> bool:
    """Return whether all operands, but states, go on from the end of one row to the next."""
    return all(
        kind == "0" or (kind == "c" and own[-2] == shape[-1] * operand.dtype.itemsize)
        for operand, own, kind in zip(program.operands, strides, kinds, strict=True)
        if operand.role != "field"
    )


def _outer(
    program: Program, shape: Sequence[int], strides: Sequence[Strides]
) -> tuple[int | None, ...]:
    return tuple(
        _few(operand.dtype.itemsize, own[-2] if own else 0, shape[-1])
        for operand, own in zip(program.operands, strides, strict=True)
    )


def _kind(itemsize: int, role: str, strides: Strides, extent: int, whole: bool) -> str:
    if not strides:
        return "0"
    stride = strides[-1]
    if extent == 1:
        return "b" if role in ("input", "parameter") else "c"
    if stride in (0, itemsize):
        return "c" if stride else "b"
    if whole:
        return "s"
    if stride == -itemsize:
        return "r"
    count, rest = divmod(stride, itemsize)
    return str(count) if rest == 0 and 2 <= count <= _SHUFFLED else "s"


def _few(itemsize: int, stride: int, extent: int) -> int | None:
    return stride if 0 <= stride <= 2 * extent * itemsize else None


def _tiled(shape: Sequence[int], strides: Sequence[Strides], packed: bool) -> bool:
    if packed or min(shape[-2:]) < min(TILE):
        return False
    return any(own and 0 < abs(own[-2]) < abs(own[-1]) for own in strides)
