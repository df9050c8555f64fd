"""Fewer axes: neighbouring axes that every operand walks in one stride become one.

A contiguous operation of any rank becomes a run of elements; slices of a grid keep two axes. An
axis that is reduced never merges with one that is kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

__all__ = ["collapse", "standing_still"]

Extents = tuple[int, ...]


def collapse(
    shape: Extents, strides: Sequence[Extents], kept_apart: Sequence[Hashable]
) -> list[list[int]]:
    """Group neighbouring axes of ``shape`` that can be walked as one.

    Parameters
    ----------
    shape : tuple of int
        The iteration space.
    strides : sequence of tuple of int
        Byte strides of each operand over the space; 0 where it is broadcast.
    kept_apart : sequence
        A mark per axis; axes with different marks never merge.

    Returns
    -------
    list of list of int
        Groups of axes, slowest first; axes of length 1 join any neighbour.
    """
    groups: list[list[int]] = []
    for axis, extent in enumerate(shape):
        if groups and _merges(groups[-1], axis, extent, shape, strides, kept_apart):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def standing_still(
    order: Sequence[int], operands: Iterable[tuple[Extents, Extents]]
) -> list[tuple[bool, ...]]:
    """Mark the axes of a space for operands that have axes with a stride of 0.

    Such an axis must not merge with one that its operand is broadcast along: the stride is the
    same, but the operand could not be viewed as either of them.

    Parameters
    ----------
    order : sequence of int
        The axes of the space, in their order in memory.
    operands : iterable of (tuple of int, tuple of int)
        The own shape and strides of each operand.
    """
    marks: list[tuple[bool, ...]] = [()] * len(order)
    for own, strides in operands:
        if 0 in strides and any([s == 0 and n > 1 for n, s in zip(own, strides, strict=True)]):
            lead = len(order) - len(own)
            has = [axis >= lead and own[axis - lead] != 1 for axis in order]
            marks = [(*mark, held) for mark, held in zip(marks, has, strict=True)]
    return marks


def _merges(
    group: list[int],
    axis: int,
    extent: int,
    shape: Extents,
    strides: Sequence[Extents],
    kept_apart: Sequence[Hashable],
) -> bool:
    if kept_apart[group[-1]] != kept_apart[axis]:
        return False
    if extent == 1:
        return True
    last = _last_long(group, shape)
    return last is None or all(s[last] == s[axis] * extent for s in strides)


def _last_long(group: list[int], shape: Extents) -> int | None:
    for axis in reversed(group):
        if shape[axis] != 1:
            return axis
    return None
