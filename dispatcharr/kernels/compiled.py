"""The ``compiled`` engine: a region runs as one SIMD loop, made for it by LLVM.

A :class:`Job` offers what the one of ``blocks`` does: ``count`` tasks that may run in any order and
on any thread, and a ``finish``. Bits depend on the data alone.

What cannot be compiled is refused with a sentence and left to ``blocks``: rows and dtypes that
:func:`~dispatcharr.ops.bodies.body_of` refuses, and buffers that are not aligned. A kernel that is
not built yet is not waited for either.

Floating-point errors are flags of the machine, read after each task. If one instruction alone can
have raised a flag, it did. Otherwise, and where a function may raise flags without reason,
``blocks`` runs the region once more without storing it and says what NumPy would have said. That
happens only when a flag is up that somebody asked for.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import operator
from collections.abc import Callable, Collection, Hashable, Sequence

import numpy

from dispatcharr.kernels import crew, native
from dispatcharr.kernels.bound import Bound, Family, bind, foresee, forms, know
from dispatcharr.kernels.build import Builder, shared_builder
from dispatcharr.kernels.compiled_reduce import States
from dispatcharr.kernels.errors import Heard, recomputed
from dispatcharr.kernels.llvm_flags import BITS
from dispatcharr.kernels.target import architecture
from dispatcharr.plan.region import ERROR_KINDS, Region, parts_of

__all__ = ["Job", "kernel", "order", "prepare", "ready", "refusal"]

_ALL = frozenset(ERROR_KINDS)
_HINTS = _ALL - {"underflow"}
#: The flags that say anything: others, such as that of inexact results, are up nearly always.
_TOLD = {
    machine: functools.reduce(operator.or_, [bits[kind] for kind in _ALL])
    for machine, bits in BITS.items()
}


class Job:
    """A region bound to its buffers, cut into tasks."""

    __slots__ = ("_address", "_bound", "_cut", "_function", "_held", "_states", "_watch",
                 "_words", "count", "errors")  # fmt: skip

    def __init__(
        self, bound: Bound, function: Callable[[int, int], None],
        held: tuple[Sequence[numpy.ndarray], Sequence[numpy.ndarray]],
        pieces: int, watch: frozenset[str], stream: bool,
    ) -> None:  # fmt: skip
        cut = bound.cut(pieces)
        inputs, outputs = held
        words = [0, int(stream and bound.streams)]
        operands = [*inputs, *bound.parameters, *outputs]
        # The result of a reduction has no row: it is written in the end.
        for operand, row in zip(operands, bound.rows, strict=False):
            words.append(_start(operand))
            words += row
        pairs = zip(bound.program.foldings, bound.reductions, strict=True)
        self._states = [States(folding, one, cut.segments) for folding, one in pairs]
        for states in self._states:
            words += states.words()
        for states in self._states:
            words += states.steps()
        self._words = (ctypes.c_int64 * len(words))(*words)
        self._address = ctypes.addressof(self._words)
        self._bound = bound
        self._cut = cut
        self._function = function
        self._held = held
        self._watch = watch
        self.count = len(cut.boxes)
        self.errors: set[tuple[str, str]] = set()

    def run(self, task: int) -> None:
        """Run one task."""
        for box in self._cut.boxes[task]:
            self._function(self._address, box)

    def run_all(self, threads: int) -> bool:
        """Run all tasks on at most ``threads`` threads; False where only :meth:`run` can."""
        if not crew.COMPILED:
            return False
        crew.run(self._bound.function_address, self._address, self._cut.table, threads)
        return True

    def fresh(self, room: int = 0) -> Job:
        """Return a job for the same kernel and layouts, without buffers as yet.

        After its table there is ``room`` for so many words.
        """
        job = copy.copy(self)
        words = self._words[:]
        job._states = [one.fresh() for one in self._states]
        own = [word for one in job._states for word in one.words()]
        own += [word for one in job._states for word in one.steps()]
        words[len(words) - len(own) :] = own
        job._words = (ctypes.c_int64 * (len(words) + room))(*words)
        job._address = ctypes.addressof(job._words)
        job._held = (), ()
        return job

    def call(self) -> tuple[int, ...]:
        """Return what the crew is told: the kernel, a stride, and where its boxes are."""
        return self._bound.function_address, 0, *self._cut.table

    @property
    def address(self) -> int:
        """Where its table is."""
        return self._address

    @property
    def states(self) -> list[States]:
        """The states of its reductions."""
        return self._states

    @property
    def length(self) -> int:
        """How many words its table has."""
        return len(self._words)

    @property
    def watch(self) -> frozenset[str]:
        """The errors to be told."""
        return self._watch

    def told(self) -> int:
        """Return which of the machine's flags are to be looked at when it has run."""
        if not self._watch and not self._states:
            return 0
        bits, kinds = BITS[architecture()], self._watch | _HINTS
        return functools.reduce(operator.or_, [bits[kind] for kind in kinds])

    def settle(
        self, inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]
    ) -> frozenset[tuple[str, str]]:
        """Finish what others have run on these buffers; return the errors met."""
        self._held = inputs, outputs
        self.errors = set()
        try:
            self.finish()
            return frozenset(self.errors)
        finally:
            self._held = (), ()

    def places(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return where the addresses of inputs are in the table, and those of outputs."""
        found, at = [], 2
        for row in self._bound.rows:
            found.append(at)
            at += 1 + len(row)
        inputs = len(self._held[0])
        return tuple(found[:inputs]), tuple(found[inputs + len(self._bound.parameters) :])

    def finish(self) -> None:
        """Join partial reductions and find out which floating-point errors were met."""
        targets = self._held[1][len(self._held[1]) - len(self._states) :]
        flags = self._words[0] & _TOLD[architecture()]
        for number, (states, target) in enumerate(zip(self._states, targets, strict=True)):
            if states.is_final(flags) or not self._in_order(number, target):
                heard = Heard()
                states.finish(target, heard)
                self.errors |= {one for one in heard.errors if one[0] in self._watch}
        if flags and self._watch:
            self._name_errors(flags)

    def _in_order(self, number: int, target: numpy.ndarray) -> bool:
        """Have ``blocks`` reduce what depends on the order of elements, if it can."""
        region, (inputs, outputs) = self._bound.region(), self._held
        if region is None or _overwrites(inputs, outputs):
            return False
        recomputed(parts_of(region)[number], inputs, frozenset(), target)
        return True

    def _name_errors(self, flags: int) -> None:
        bits = BITS[architecture()]
        suspects = self._bound.family.suspects
        unsure: set[str] = set()
        if any([flags & bits[kind] for kind in _HINTS]):
            unsure |= self._watch & suspects.hinted
        for kind in self._watch & suspects.kinds():
            if flags & bits[kind]:
                name = suspects.sure(kind)
                if name is None:
                    unsure.add(kind)
                else:
                    self.errors.add((kind, name))
        if unsure:
            self._look_again(frozenset(unsure))

    def _look_again(self, kinds: frozenset[str]) -> None:
        bound, (inputs, outputs) = self._bound, self._held
        region = bound.region()
        if region is None or _overwrites(inputs, outputs):
            # What was computed from is gone, so the first that may have met it is named.
            self.errors |= {(kind, bound.family.suspects.first(kind)) for kind in kinds}
        else:
            self.errors |= recomputed(region, inputs, kinds)


def refusal(region: Region) -> str | None:
    """Return why ``region`` is not compiled, as far as it says itself; None where it may be."""
    missing = native.missing()
    if missing is not None:
        return missing
    found = know(region)
    return found if isinstance(found, str) else _untold(found.family, region.watch)


def kernel(
    region: Region, inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]
) -> Hashable | None:
    """Return what names the kernel of ``region`` for such buffers, or None if there can be none.

    Regions that differ in their extents alone share kernels.
    """
    if native.missing() is not None:
        return None
    bound = bind(region, inputs, outputs)
    return None if isinstance(bound, str) else bound.key


def ready(region: Region) -> bool:
    """Return whether a kernel of ``region`` is built, for buffers that were spoken of.

    Before any were: for contiguous ones.
    """
    builder, spoken = shared_builder(), forms(region)
    if not spoken:
        found = foresee(region)
        spoken = [found] if isinstance(found, Bound) else []
    return any([bound.ready(builder, False) is not None for bound in spoken])


def prepare(
    region: Region,
    inputs: Sequence[numpy.ndarray],
    outputs: Sequence[numpy.ndarray],
    pieces: int = 1,
    watch: bool | Collection[str] = True,
    stream: bool = False,
    buy: bool = True,
    builder: Builder | None = None,
) -> Job | str | None:
    """Bind ``region`` to its buffers and its kernel, and cut it into tasks.

    Parameters
    ----------
    region : Region
        What to compute.
    inputs, outputs : sequence of numpy.ndarray
        Buffers in the region's order. An output may be the memory of an input, element for element.
    pieces : int
        How many tasks are wished for; reductions are cut by their shape alone.
    watch : bool or collection of str
        Which of ``ERROR_KINDS`` are to be told; true for all.
    stream : bool
        Whether results should go past the caches, where the kernel can do so: for results that
        nobody reads before they have left the caches.
    buy : bool
        Whether to have the kernel built if it is not ready.
    builder : Builder, optional
        Who builds it; the process's own by default.

    Returns
    -------
    Job, str or None
        None if the kernel is not ready; a sentence if there cannot be one.
    """
    bound = bind(region, inputs, outputs)
    if isinstance(bound, str):
        return bound
    watched = _ALL if watch is True else frozenset(watch or ())
    untold = _untold(bound.family, watched)
    if untold is not None:
        return untold
    if not watched.isdisjoint(bound.family.suspects.spurious) and _overwrites(inputs, outputs):
        return "errors of SIMD functions are told from their inputs, which this region overwrites"
    builder = builder or shared_builder()
    function = bound.ready(builder, buy)
    if function is None:
        return builder.why_not(bound.key)
    # Lines of results that were just read as inputs are in the nearest cache.
    stream = stream and not _overwrites(inputs, outputs)
    return Job(bound, function, (inputs, outputs), pieces, watched, stream)


def order(
    region: Region,
    inputs: Sequence[numpy.ndarray],
    outputs: Sequence[numpy.ndarray],
    stored: bool = False,
    wait: bool = False,
) -> str | None:
    """Have the kernel of ``region`` for such buffers built in the background.

    Parameters
    ----------
    region : Region
        What to compute.
    inputs, outputs : sequence of numpy.ndarray
        Buffers in the region's order.
    stored : bool
        Whether only a kernel that an earlier process built is wanted.
    wait : bool
        Whether to return when it is done.

    Returns
    -------
    str or None
        Why there cannot be one.
    """
    bound = bind(region, inputs, outputs)
    if isinstance(bound, str):
        return bound
    builder = shared_builder()
    if bound.ready(builder, False) is not None:
        return None
    if stored:
        builder.look(bound.key, bound.text)
    else:
        bound.ready(builder, True)
    if wait:
        builder.wait()
    return builder.why_not(bound.key)


def _untold(family: Family, watched: frozenset[str]) -> str | None:
    """Return why the errors asked for cannot be told, if that is so."""
    if "underflow" in watched and family.function:
        return "which results of functions underflow is told by NumPy's own loops alone"
    return None


def _start(buffer: numpy.ndarray) -> int:
    """Return the address of the first element."""
    found: int = buffer.__array_interface__["data"][0]
    return found


def _overwrites(inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]) -> bool:
    starts = {_start(buffer) for buffer in outputs}
    return any([_start(buffer) in starts for buffer in inputs])
