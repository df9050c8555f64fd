"""Several reductions of one array in one pass, where a program has shown that it asks for them.

A reduction to a scalar cannot wait for the next one, so the next one is made before it is asked
for. A *habit* belongs to a place in the program and the reduction that it asks for: what was asked
next of the same array. When the same was seen twice, the reductions that follow are made in the
same pass, and kept until they are asked for. Where nobody asked, the place is left alone for a
while, twice as long each time.

What is kept counts as long as nobody wrote to the array: it is dropped by whatever would have a
pending operation run first. An expression that is reduced so is not stored, although a name shows
it: it stays pending, and what is kept counts as long as it does. Where its values were wanted after
all, the place has them stored from then on.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy

from dispatcharr._config import options
from dispatcharr.expr.build import modes_in_force
from dispatcharr.expr.nodes import Node
from dispatcharr.ops.row import Reduction
from dispatcharr.storage.exports import is_visible, root_of
from dispatcharr.storage.readers import Watch

__all__ = ["Ask", "Habit", "Kept", "asks", "begin", "keep", "kept", "may_follow", "note"]

#: What is asked of an array: the name of a row and its arguments, those at their default left out.
Ask = tuple[str, tuple[tuple[str, Any], ...]]

#: How often in a row the same has to follow before it is believed.
_BELIEVED = 2
#: Reductions in one pass besides the one that is asked for.
MOST = 3
#: Bytes of an operand under which planning an expression takes longer than another pass.
WORTH = 1 << 21
#: Arrays, per thread, whose reductions are looked at, and whose results are kept.
_RECENT = 4
#: Places that are remembered; all are forgotten when there are more.
_MOST_PLACES = 1024
#: Visits for which a place is left alone at most.
_LONGEST_REST = 1 << 12
#: What may be told of a reduction, in values that are what they are equal to.
_ARGUMENTS: dict[str, tuple[type, ...]] = {
    "axis": (int, tuple, type(None)), "keepdims": (bool,), "dtype": (type, type(None)),
    "ddof": (int, float),
}  # fmt: skip
_PACKAGES = ("dispatcharr", "numpy")


class Habit:
    """What follows a reduction at one place."""

    __slots__ = ("follows", "foreseen", "noted", "penalty", "rest", "seen", "wanted")

    def __init__(self) -> None:
        self.follows: tuple[Ask, ...] = ()
        self.noted: list[Ask] = []
        self.seen = 0
        self.rest = 0
        self.penalty = 1
        self.foreseen = False
        #: Whether an expression that was reduced here was wanted after all.
        self.wanted = False

    def visit(self) -> None:
        """Close the account of the last visit and open that of the next."""
        noted = tuple(self.noted)
        if self.foreseen and not noted:
            self.rest = self.penalty = min(2 * self.penalty, _LONGEST_REST)
            self.seen = 0
        elif noted == self.follows:
            self.seen += 1
        else:
            self.seen = 1
        self.follows, self.noted, self.foreseen = noted, [], False
        if self.rest:
            self.rest -= 1

    def believed(self) -> tuple[Ask, ...]:
        """Return what follows, if that is to be believed."""
        return self.follows if self.seen >= _BELIEVED and not self.rest else ()


class Kept:
    """Results of one array that nobody has asked for yet."""

    __slots__ = ("array", "habit", "modes", "results", "value")

    def __init__(self, array: Any, value: Any, habit: Habit) -> None:
        self.modes = modes_in_force(), options()
        self.value = weakref.ref(value)
        self.array: weakref.ref[Any] = (
            weakref.ref(array) if type(value) is Node else Watch(array, (id(root_of(value)),))
        )
        self.habit = habit
        self.results: dict[Ask, Any] = {}

    def is_of(self, value: Any) -> bool:
        """Return whether ``value`` is still what was reduced, and the settings what they were."""
        if self.modes != (modes_in_force(), options()):
            return False
        if self.value() is not value:
            return False
        if type(value) is Node:
            return value.value is None
        return type(self.array) is Watch and self.array.valid

    def close(self) -> None:
        """Note that nothing is kept any more."""
        self.results = {}
        if type(self.array) is Watch:
            self.array.close()


class _Seen:
    """A reduction that was asked for lately, and what its place is told of the next ones."""

    __slots__ = ("array", "ask", "axes", "habit")

    def __init__(self, array: Any, ask: Ask, habit: Habit, axes: tuple[int, ...]) -> None:
        self.array = weakref.ref(array)
        self.ask = ask
        self.habit = habit
        self.axes = axes


class _Here(threading.local):
    """What one thread remembers."""

    def __init__(self) -> None:
        self.seen: deque[_Seen] = deque(maxlen=_RECENT)
        self.kept: deque[Kept] = deque()


_here = _Here()
_habits: dict[tuple[Any, ...], Habit] = {}


def asks(row: Reduction, asked: dict[str, Any]) -> Ask | None:
    """Return what is asked, None where such reductions are made by themselves."""
    if row.alone or row.remark is not None:
        return None
    told = []
    for key, value in asked.items():
        if type(value) not in _ARGUMENTS.get(key, ()):
            return None
        if type(value) is tuple and any([type(one) is not int for one in value]):
            return None
        if value is not None and value is not False:
            told.append((key, value))
    told.sort()
    return row.name, tuple(told)


def may_follow(leaves: Sequence[numpy.ndarray]) -> bool:
    """Return whether an expression of these operands is long enough for a pass to matter."""
    return any([leaf.nbytes >= WORTH for leaf in leaves])


def kept(array: Any, value: Any, ask: Ask) -> Any:
    """Return the result of what is asked, if it is there and still true, else None."""
    for one in tuple(_here.kept):
        if one.array() is array:
            found = one.results.pop(ask, None) if one.is_of(value) else None
            if found is not None:
                one.habit.noted.append(ask)
            if found is None or not one.results:
                _drop(one)
            return found
    return None


def note(array: Any, ask: Ask, axes: tuple[int, ...]) -> Habit | None:
    """Note that a reduction is asked for; return the habit of its place where it leads a group."""
    habit = _habit(ask)
    seen = _here.seen
    for one in tuple(seen):
        if one.array() is array:
            # The same once more is no other reduction: it would be made twice in that pass.
            if one.habit is not habit and ask != one.ask and ask not in one.habit.noted:
                if axes == one.axes and not one.habit.foreseen and len(one.habit.noted) < MOST:
                    one.habit.noted.append(ask)
                return None
            seen.remove(one)
    habit.visit()
    seen.append(_Seen(array, ask, habit, axes))
    return habit


def _habit(ask: Ask) -> Habit:
    """Return the habit of the place that called us or NumPy."""
    frame = sys._getframe(4)
    while frame.f_back is not None:
        if (frame.f_globals.get("__name__") or "").partition(".")[0] not in _PACKAGES:
            break
        frame = frame.f_back
    code = frame.f_code
    key = code.co_filename, code.co_name, code.co_firstlineno, frame.f_lasti, ask
    found = _habits.get(key)
    if found is None:
        if len(_habits) >= _MOST_PLACES:
            _habits.clear()
        found = _habits[key] = Habit()
    return found


def begin(array: Any, value: Any, habit: Habit) -> Kept | None:
    """Return where results that were not asked for are to be kept; None where they cannot be."""
    chosen = options()
    if chosen.defer == "never" or not chosen.fusion:
        return None
    if habit.wanted if type(value) is Node else is_visible(root_of(value)):
        return None
    habit.foreseen = True
    for one in tuple(_here.kept):
        owner = one.array()
        if owner is None or owner is array:
            _drop(one)
    if len(_here.kept) >= _RECENT:
        _drop(_here.kept[0])
    return Kept(array, value, habit)


def keep(one: Kept, cheap: bool) -> None:
    """Keep results until they are asked for.

    What is ``cheap`` to compute is fused with whatever wants it later, which takes no longer than
    to store it now and read it then.
    """
    value = one.value()
    if type(value) is Node and not cheap:
        value.watcher = one.habit
    _here.kept.append(one)


def _drop(one: Kept) -> None:
    one.close()
    _here.kept.remove(one)
