"""One program, run with NumPy and with dispatcharr statement by statement, and compared.

After each statement everything is compared that can be had without the values: errors, types,
dtypes, shapes, strides, and scalars. Values are compared where the program looks at them, and in
the end, together with who shares memory with whom. Looking at an array that may be off gives ours
the bits of NumPy's, so that the program goes on with the same values.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable
from typing import Any

import numpy

import dispatcharr
from closeness import UNKNOWN, compare, compare_sums, level_after
from dispatcharr.face import _fastpath
from sides import Mismatch, Side, at_once, heard, in_turn, listen, low_limits
from statements import Program, Statement
from unsure import is_unsettled, is_unsure

__all__ = ["Lockstep", "Mismatch", "Undecided", "listen", "run"]

_Warned = tuple[str, str]
_ENDS = frozenset({"overflow", "underflow"})


class Undecided(Exception):
    """An unknown value decides how the program goes on."""


class Lockstep:
    """A program in the making: both sides, and the level of each name."""

    def __init__(self, program: Program) -> None:
        self.numpys = Side(numpy, in_turn, lambda **_: None)
        self.ours = Side(dispatcharr, at_once, dispatcharr.dispatch_options)
        self.levels: dict[str, float] = {}
        self.warned: tuple[set[_Warned], set[_Warned]] = set(), set()
        self.is_blurred = False
        #: What NumPy's own function makes as a view of memory that nobody else ever sees.
        self.unowned: set[str] = set()
        # What waits warns later, and what was dropped while it waited never does.
        self.waits = program.options.get("defer") != "never"
        self.scope = contextlib.ExitStack()
        if program.heard:
            self.scope.enter_context(warnings.catch_warnings())
            warnings.simplefilter("always")
        if program.low:
            self.scope.enter_context(low_limits())
        self.ours.context.run(dispatcharr.dispatch_options, **program.options)

    def close(self) -> None:
        """Leave nothing behind."""
        self.scope.close()
        for side in (self.ours, self.numpys):
            side.leave()

    def step(self, statement: Statement) -> bool:
        """Execute a statement on both sides; return whether it raised no error."""
        scale = self.numpys.value(statement.scale) if statement.scale else None
        levels = self._levels_read(statement)
        if ".tobytes()" in statement.text and any(map(self._holds_objects, statement.reads)):
            raise Undecided  # their bytes are addresses
        read = self._arrays(statement.reads)
        is_blurred = UNKNOWN in levels or is_unsure(statement, read)
        coarse = max(
            [_step(self.numpys.array(n)) for n in statement.reads if self.levels.get(n)],
            default=0.0,
        )
        count = max([_size(self.numpys.space.get(name)) for name in statement.reads], default=1)
        code = statement.code
        heard.clear()
        wanted = self.numpys.perform(code)
        theirs = set(heard)
        heard.clear()
        found = self.ours.perform(code)
        if is_unsettled(statement, read, self._arrays((*statement.writes, *statement.targets))):
            levels, is_blurred = [*levels, UNKNOWN], True
        is_blurred = self._warned(statement, set(heard), theirs, is_blurred)
        if type(found) is not type(wanted):
            if is_blurred:
                raise Undecided
            raise Mismatch("error", statement.text, f"{found!r} instead of {wanted!r}")
        for name in statement.writes:
            if wanted is not None:
                self._left_off(name)
                continue
            own = levels if name in statement.reads else [*levels, self.levels.get(name, 0)]
            self._written(name, level_after(statement.rule, own, self.numpys.array(name)))
        if wanted is None:
            for name in statement.targets:
                is_unowned = bool(self.unowned.intersection(statement.reads))
                self.unowned.discard(name)
                if is_unowned or "linspace" in statement.text:
                    self.unowned.add(name)
                # Units of a coarser dtype are none of the result's.
                is_finer = _step(self.numpys.space.get(name)) < coarse
                self._bound(name, statement, [UNKNOWN] if is_finer else levels, scale, count)
        return wanted is None

    def _levels_read(self, statement: Statement) -> list[float]:
        """Return the levels of what a statement reads."""
        if self.unowned.intersection(statement.reads) and _asks_owner(statement.text):
            return [UNKNOWN]
        return [self.levels.get(name, 0) for name in statement.reads]

    def _arrays(self, names: Iterable[str]) -> list[Any]:
        """Return those of NumPy's arrays and numbers that have these names."""
        found = [self.numpys.space.get(name) for name in names]
        made = [numpy.asarray(one) if isinstance(one, memoryview) else one for one in found]
        return [one for one in made if isinstance(one, numpy.ndarray | numpy.generic)]

    def _warned(
        self, statement: Statement, mine: set[_Warned], theirs: set[_Warned], is_blurred: bool
    ) -> bool:
        """Compare what a statement warned of; return whether NumPy's own could be otherwise."""
        if "prod(" in statement.text:  # which products leave the range depends on the order, too
            is_blurred = is_blurred or any(kind in _ENDS for _, kind in mine | theirs)
        self.is_blurred = self.is_blurred or is_blurred
        bad = [kind for kind, _ in mine if kind == "VerificationWarning"]
        if bad:
            raise Mismatch("verification", "a kernel", "NumPy disagreed with it")
        self.warned[0].update(mine)
        self.warned[1].update(theirs)
        if not self.waits and not is_blurred and mine != theirs:
            raise Mismatch("warnings", "a statement", f"{sorted(mine)} instead of {sorted(theirs)}")
        return is_blurred

    def _holds_objects(self, name: str) -> bool:
        array = self.numpys.array(name)
        return array is not None and array.dtype.hasobject

    def _left_off(self, name: str) -> None:
        """Go on with NumPy's values where an error may have come in the middle of writing."""
        theirs, mine = self.numpys.array(name), self.ours.array(name)
        if theirs is not None and mine is not None and theirs.tobytes() != mine.tobytes():
            self._written(name, UNKNOWN)
            self._take_over(name, mine, theirs)

    def _written(self, name: str, level: float) -> None:
        """Raise the level of everything that shows memory which was written to."""
        if level == 0:
            return
        target = self.numpys.array(name)
        for other in tuple(self.numpys.space):
            if other[0] in "vw" and other[1:].isdigit() and target is not None:
                array = self.numpys.array(other)
                if array is not None and numpy.may_share_memory(array, target):
                    self.levels[other] = max(self.levels.get(other, 0), level)

    def _bound(
        self, name: str, statement: Statement, levels: list[float], scale: Any, count: int
    ) -> None:
        theirs, mine = self.numpys.space.get(name), self.ours.space.get(name)
        self.levels[name] = level = level_after(statement.rule, levels, theirs)
        self._alike(name, mine, theirs)
        is_sum = statement.rule == "size" and isinstance(theirs, numpy.ndarray | numpy.generic)
        if is_sum and level == UNKNOWN and max(levels, default=0) == 0:
            host = self.ours.array(name) if isinstance(theirs, numpy.ndarray) else mine
            told = None if scale is None else compare_sums(host, theirs, scale, count)
            if told:
                raise Mismatch("value", name, told)
            self._take_over(name, host, theirs)
        elif isinstance(theirs, numpy.generic):
            told = compare(mine, theirs, level)
            if told:
                raise Mismatch("value", name, told)
            self._take_over(name, mine, theirs)

    def _alike(self, name: str, mine: Any, theirs: Any) -> None:
        """Compare what is known without the values."""
        kind = type(theirs)
        wanted = dispatcharr.ndarray if kind is numpy.ndarray else kind
        if issubclass(kind, numpy.ndarray | numpy.generic) and type(mine) is wanted:
            differ = _differ(mine, theirs)
            if differ:
                raise Mismatch(differ[0], name, differ[1])
        elif type(mine) is not kind or (kind is numpy.ndarray and name[0] == "v"):
            raise Mismatch("type", name, f"{type(mine).__name__} in the place of {kind.__name__}")
        elif kind in (tuple, list) and any(isinstance(item, numpy.ndarray) for item in theirs):
            if len(mine) != len(theirs):
                raise Mismatch("length", name, f"{len(mine)} instead of {len(theirs)}")
            for one, other in zip(mine, theirs, strict=True):
                self._alike(name, one, other)
        elif kind not in (numpy.ndarray, memoryview) and self.levels[name] == 0:
            if repr(mine) != repr(theirs):
                raise Mismatch("value", name, f"{mine!r} instead of {theirs!r}"[:300])

    def look(self, name: str) -> None:
        """Compare the values of an array, and go on with NumPy's."""
        theirs = self.numpys.array(name)
        mine = self.ours.array(name)
        if theirs is None or mine is None:
            return
        told = compare(mine, theirs, self.levels.get(name, 0))
        if told:
            raise Mismatch("value", name, told)
        self._take_over(name, mine, theirs)

    def _take_over(self, name: str, mine: Any, theirs: Any) -> None:
        if not self.levels.get(name):
            return
        if not isinstance(theirs, numpy.ndarray):
            self.ours.space[name] = theirs
        elif theirs.tobytes() != mine.tobytes():
            if not theirs.flags.writeable or 0 in theirs.strides:
                return
            with numpy.errstate(all="ignore"):
                own = self.ours.space[name]
                (numpy.asarray(own) if isinstance(own, memoryview) else own)[...] = theirs
        self.levels[name] = 0

    def finish(self) -> None:
        """Compare everything that is left."""
        names = [n for n in self.numpys.space if n[0] in "vw" and n[1:].isdigit()]
        heard.clear()
        evaluated = {name: self.ours.array(name) for name in names}
        self.warned[0].update(heard)
        arrays = {}
        for name, mine in evaluated.items():
            theirs = self.numpys.array(name)
            if theirs is None or mine is None:
                continue
            arrays[name] = mine, theirs
            self._alike(name, self.ours.space[name], self.numpys.space[name])
            told = compare(mine, theirs, self.levels.get(name, 0))
            if told:
                raise Mismatch("value", name, told)
            shown = self.ours.space[name], self.numpys.space[name]
            # What went out hangs on a token, which NumPy has none of.
            for what in (_owns, _is_writeable) if name[0] == "v" else (_is_writeable,):
                if what(shown[0]) != what(shown[1]) and name not in self.unowned:
                    raise Mismatch(what.__name__.strip("_"), name, f"not {what(shown[1])}")
        self._share(arrays)
        mine_warned, theirs_warned = self.warned
        if not self.is_blurred and not mine_warned <= theirs_warned:
            text = f"{sorted(mine_warned)} instead of {sorted(theirs_warned)}"
            raise Mismatch("warnings", "the program", text)

    def _share(self, arrays: dict[str, tuple[Any, Any]]) -> None:
        rest = list(arrays.items())
        while rest:
            name, (mine, theirs) = rest.pop()
            for other, (my_other, their_other) in rest:
                wanted = numpy.may_share_memory(theirs, their_other)
                if numpy.may_share_memory(mine, my_other) != wanted:
                    told = "do not share" if wanted else "share"
                    raise Mismatch("memory", f"{name} and {other}", f"they {told} it")


def _step(array: Any) -> float:
    """Return the relative size of a unit in the last place, 0 where all is exact."""
    if getattr(getattr(array, "dtype", None), "kind", "") not in ("f", "c"):
        return 0.0
    return float(numpy.finfo(array.dtype).eps)


def _asks_owner(text: str) -> bool:
    return ".base" in text or ".owndata" in text


def _size(value: Any) -> int:
    return getattr(value, "size", 1)


def _differ(mine: Any, theirs: Any) -> tuple[str, str] | None:
    """Return in what two arrays differ whose values nobody has looked at."""
    # Of temporaries of 256 KiB NumPy reuses the memory, and with it the name of the dtype.
    is_known = theirs.nbytes < 1 << 18 and mine.dtype.char != theirs.dtype.char
    if is_known or mine.dtype != theirs.dtype:
        return "dtype", f"{mine.dtype} instead of {theirs.dtype}"
    if mine.shape != theirs.shape:
        return "shape", f"{mine.shape} instead of {theirs.shape}"
    # Who asks what is on the tape for its strides takes it off.
    if theirs.size and _fastpath.sketch_of(mine) is None and _steps(mine) != _steps(theirs):
        return "strides", f"{mine.strides} instead of {theirs.strides}"
    return None


def _steps(array: Any) -> list[int]:
    """Return the strides that mean something: those of axes of length one do not."""
    return [s for s, extent in zip(array.strides, array.shape, strict=True) if extent > 1]


def _owns(array: Any) -> bool:
    return getattr(array, "base", None) is None


def _is_writeable(array: Any) -> bool:
    return isinstance(array, memoryview) or array.flags.writeable


def run(program: Program) -> Mismatch | None:
    """Run a whole program; return in what dispatcharr differs."""
    both = Lockstep(program)
    try:
        for statement in program.statements:
            if statement.rule == "look":
                both.look(statement.names[0])
            else:
                both.step(statement)
        both.finish()
    except Mismatch as found:
        return found
    except Undecided:
        return None
    finally:
        both.close()
    return None
