"""How structures of sketches are computed again: by their plan, or by the compiled fast path alone.

A structure that came before has a plan (:class:`Replayed`). While the decision on its kernel holds,
the compiled fast path has what it needs to run the kernel by itself (``_repeat.h``), and nobody
here is asked; then the plan is run once, which says for how many runs more that is so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from dispatcharr.expr.order import empty_in_order, strides_in_order
from dispatcharr.face import _fastpath
from dispatcharr.face.road import crew, engine, replay

__all__ = ["Key", "Made", "Noted", "Reduction", "Replayed"]

#: What the compiled fast path makes of a structure, or what is to be known of an array.
Key = bytes | tuple[Any, ...]
#: A key, the sketches, operands first, their leaves, and the numbers among their operands. Where
#: there is no sketch, the one leaf is reduced.
Noted = tuple[Key, tuple[Any, ...], tuple[numpy.ndarray, ...], tuple[Any, ...]]
#: Shape, dtype and memory order of a result, and whether a single one is an int of Python's.
Made = tuple[tuple[int, ...], "numpy.dtype[Any]", tuple[int, ...] | None, bool]
#: Type numbers of numbers that the compiled fast path writes by itself, and how many results it
#: knows.
_NUMBERS = frozenset([numpy.dtype(code).num for code in ("f8", "f4", "i8")])
_MOST_RESULTS = 16


class Replayed:
    """A plan, and where its inputs are found in a structure."""

    __slots__ = ("_again", "constants", "leaves", "made", "modes", "plan", "repeat", "shown")

    def __init__(
        self, noted: Noted, request: Any = None, keep: bool = True, made: Made | None = None
    ) -> None:
        _, sketches, given, _ = noted
        reduced = sketches[-1].node if sketches else given[0]
        self.plan, graph = replay.replay_of(reduced, request, keep)
        #: Its address is in the key.
        self.modes = sketches[0].modes if sketches else None
        #: What a reduction results in.
        self.made = made
        #: Runs the kernel again, as long as the decision holds.
        self.repeat: Any = None
        self._again: Any = None
        places = {id(sketch.node): i for i, sketch in enumerate(sketches)}
        #: For each node of the plan the sketch that it was.
        self.shown = [places[id(one)] for one in graph.nodes]
        leaves = {id(host): i for i, host in enumerate(given)}
        numbers: dict[int, int] = {}
        count = 0
        for sketch in sketches:
            for position, one in enumerate(sketch.operands):
                if type(one) is not numpy.ndarray and type(one) is not _fastpath.Sketch:
                    if position < len(sketch.node.operands):  # a power may be another function
                        numbers[id(sketch.node.operands[position])] = count
                    count += 1
        #: For each input of the plan its leaf, or -1 and its number among those noted, and a dtype.
        self.leaves: list[int] = []
        self.constants: list[tuple[int, int, numpy.dtype[Any]]] = []
        for slot, host in enumerate(graph.hosts):
            if host.ndim:
                self.leaves.append(leaves[id(host)])
            else:
                self.leaves.append(-1)
                self.constants.append((slot, numbers[id(host)], host.dtype))

    def _hosts(self, leaves: Sequence[Any], numbers: Sequence[Any]) -> list[Any]:
        hosts: list[Any] = [leaves[i] if i >= 0 else None for i in self.leaves]
        for slot, i, dtype in self.constants:
            hosts[slot] = numpy.array(numbers[i], dtype)
        return hosts

    def run(self, noted: Noted, out: numpy.ndarray | None = None) -> Any:
        """Run the plan on what was noted, and give the arrays that show it their values.

        None where others came first: another thread, or a writer, had it evaluated.
        """
        _, sketches, leaves, numbers = noted

        def is_still_noted() -> bool:
            return all([one.node is None and one.value is None for one in sketches])

        if self.repeat is not None:
            taken = self.repeat.measured()
            if taken is not None:
                self.plan.learn(taken)
        done = self.plan.run(self._hosts(leaves, numbers), out, is_still_noted)
        if done is None:
            return None
        self._expect()
        for i, value in done.values.items():
            one = sketches[self.shown[i]]
            array = one.cell
            one.value = value
            if array is not None:
                array._origin = done.origins[i]
        engine.tell(done)
        return done

    def _expect(self) -> None:
        """Have the compiled fast path run the kernel as long as the decision holds."""
        settled = self.plan.settled
        if settled is None:
            self.repeat = None
            return
        if self.repeat is None or self._again is not settled.again:
            self._again = settled.again
            self.repeat = self._repeat(settled.again)
        if self.repeat is not None:
            self.repeat.renew(settled.runs, replay.DECIDED_BY, settled.seen, settled)

    def _repeat(self, again: Any) -> Any:
        """Return what runs the kernel again; None where the fast path cannot."""
        (step,) = self.plan.plan.steps
        constants = {slot: (i, dtype.num) for slot, i, dtype in self.constants}
        if any([one not in _NUMBERS for _, one in constants.values()]):
            return None
        into, out_of = again.places
        inputs = [
            (place, *constants.get(slot, (self.leaves[slot], -1)))
            for (_, slot), place in zip(step.inputs, into, strict=True)
        ]
        outputs = []
        for i, place in zip(step.outputs, out_of, strict=True):
            shape, dtype, order = self.plan.described(i)
            outputs.append((place, self.shown[i], shape, dtype, _strides(shape, dtype, order)))
        is_int = False
        if self.made is not None:
            shape, dtype, order, is_int = self.made
            outputs.append((-1, 0, shape, dtype, _strides(shape, dtype, order)))
        if len(outputs) > _MOST_RESULTS:
            return None
        how = ("", 0, 0.0)
        if again.join is not None:
            name, dtype, divisor = again.join
            how = name, dtype.num, divisor
        return _fastpath.Repeat(
            crew.entry, again.call, again.spare, self._end, self.plan.tell, again.told,
            tuple(inputs), tuple(outputs), how, is_int,
        )  # fmt: skip

    def _end(
        self,
        job: Any,
        leaves: Sequence[Any],
        numbers: Sequence[Any],
        results: Sequence[numpy.ndarray],
    ) -> frozenset[tuple[str, str]]:
        """Finish what the fast path has run; return the floating-point errors met."""
        (step,) = self.plan.plan.steps
        hosts = self._hosts(leaves, numbers)
        given = list(results)
        if self.made is not None:
            given[-1] = given[-1].ravel(order="K")
        found: frozenset[tuple[str, str]] = self._again.end(
            job, [hosts[i] for _, i in step.inputs], given
        )
        return found


def _strides(
    shape: tuple[int, ...], dtype: numpy.dtype[Any], order: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    return None if order is None else strides_in_order(shape, dtype.itemsize, order)


class Reduction:
    """How a reduction of sketches was computed, for the next of its kind."""

    __slots__ = ("made", "plan")

    def __init__(self, noted: Noted, request: Any, keep: bool, made: Made) -> None:
        self.plan = Replayed(noted, request, keep, made)
        self.made = made

    def run(self, noted: Noted) -> Any:
        """Reduce what was noted; return what the user gets."""
        if self.plan.repeat is not None:
            found = _fastpath.repeat(self.plan.repeat, *noted[1:])
            if found is not NotImplemented:
                return found
        shape, dtype, order, is_int = self.made
        result = empty_in_order(shape, dtype, order)
        done = self.plan.run(noted, result.ravel(order="K"))
        if done is None:
            return None
        if not shape:
            return int(result) if is_int else result[()]
        made = _fastpath.wrap(result)
        made._origin = done.origins[-1]
        return made
