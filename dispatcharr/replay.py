"""Plans run once more: the same statement on other arrays of the same layouts.

What the engine does for a plan that it has just made is done here for one that was made before.
Where its decision holds for a while, :attr:`Replay.settled` says what is needed to run its kernel
without asking anybody; the compiled fast path does so (``face/_repeat.h``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from dispatcharr import _events
from dispatcharr._config import Options, options
from dispatcharr.backends.late import warn, working
from dispatcharr.engine import Run, run_step
from dispatcharr.expr.nodes import Node, graph_lock
from dispatcharr.kernels.again import Again
from dispatcharr.plan.fuse import ReduceRequest, plan
from dispatcharr.plan.graph import Graph, survey
from dispatcharr.plan.region import Region
from dispatcharr.route import router, standing
from dispatcharr.storage import places
from dispatcharr.storage.exports import root_of
from dispatcharr.storage.readers import reading

__all__ = ["DECIDED_BY", "Replay", "Settled", "replay_of"]

#: What has to stay what it is for a decision to hold: names of modules, and context variables.
DECIDED_BY: tuple[Any, ...] = (
    *standing.DECIDED_BY, *places.DECIDED_BY, *_events.DECIDED_BY,
)  # fmt: skip


def _seen() -> tuple[Any, ...]:
    """Return the values of what :data:`DECIDED_BY` names."""
    return tuple(
        [one[0][one[1]] if type(one) is tuple else one.get() for one in DECIDED_BY],
    )


class Settled(NamedTuple):
    """What holds for the next runs of a plan with one kernel.

    Attributes
    ----------
    again : Again
        What the kernel needs to be run on other buffers.
    region : Region
        What it computes.
    stood : Standing
        The decision that said so.
    runs : int
        How many runs it is good for, as long as what :data:`DECIDED_BY` names is what it was.
    seen : tuple
        What that was before anything was decided: another thread may change it meanwhile.
    threads : int or None
        How many threads were allowed.
    """

    again: Again
    region: Region
    stood: Any
    runs: int
    seen: tuple[Any, ...]
    threads: int | None

    def record(self, seconds: float) -> _events.KernelRecord:
        """Return the record of one of these runs."""
        return _events.KernelRecord(self.region, self.stood.work, self.stood.decision, seconds)


class Replay:
    """A plan that is run once more, on other arrays of the same layouts.

    Attributes
    ----------
    plan : Plan
        What is run.
    settled : Settled or None
        After a run: what holds for the next ones. None where each has to be asked for.
    """

    __slots__ = ("_cost", "_nodes", "_typical", "plan", "settled")

    def __init__(self, graph: Graph, request: ReduceRequest | None = None) -> None:
        self.plan = plan(graph, options().fusion, request, {})
        # Stand-ins: those of the graph have values that would be kept with them.
        self._nodes = [
            Node(one.row, (), one.shape, one.dtype, one.order, one.errors) for one in graph.nodes
        ]
        self.settled: Settled | None = None
        #: Seconds of the kernel alone, once that is known.
        self._typical: float | None = None
        #: Seconds that a run takes longer which asks.
        self._cost: float | None = None

    def learn(self, seconds: float) -> None:
        """Take in what the kernel took lately, by itself, as :attr:`settled` had it run."""
        if self.settled is not None:
            stood = self.settled.stood
            router.learn(stood.decision, stood.work, stood.profile, seconds)
            self._typical = seconds

    def run(
        self,
        hosts: list[numpy.ndarray],
        out: numpy.ndarray | None = None,
        holds: Callable[[], bool] | None = None,
    ) -> Run | None:
        """Run it on ``hosts``, reducing into ``out``.

        What came of it is told (:func:`tell`) by whoever asks for it.

        Parameters
        ----------
        hosts : list of numpy.ndarray
            What it reads.
        out : numpy.ndarray, optional
            Memory of the result of a reduction.
        holds : callable, optional
            Whether ``hosts`` still have the values wanted. It is asked once writers wait; where
            they do not, nothing runs and None is returned.
        """
        start, seen = time.perf_counter(), _seen()
        graph, chosen = Graph(), options()
        graph.nodes, graph.hosts = self._nodes, hosts
        # What a run takes that has to be prepared says less of the kernel.
        run = Run(graph, self._typical is None)
        with working(), reading([id(root_of(host)) for host in hosts if host.ndim]):
            if holds is not None and not holds():
                return None
            for step in self.plan.steps:
                run_step(step, run, {}, chosen, () if out is None else (out,))
            self._expect(run, chosen, out, start, seen)
        return run

    def _expect(
        self,
        run: Run,
        chosen: Options,
        out: numpy.ndarray | None,
        start: float,
        seen: tuple[Any, ...],
    ) -> None:
        """Find out whether the next runs need nothing but the kernel."""
        before, self.settled = self.settled, None
        if len(self.plan.steps) != 1 or chosen.verify or places.in_use() or _events.listened():
            return
        (step,) = self.plan.steps
        stood = standing.settled(step.region, chosen)
        if stood is None:
            return
        again: Again | None
        if before and (before.stood.backend, before.threads) == (stood.backend, chosen.threads):
            again = before.again
        else:
            ask = getattr(stood.backend, "again", None)
            inputs = [run.graph.hosts[i] for _, i in step.inputs]
            outputs = [run.values[i] for i in step.outputs]
            if out is not None:
                outputs.append(out)
            again = ask and ask(step.region, inputs, outputs, chosen.threads)
        if again is not None:
            kernel = self._typical or run.origins[-1].seconds or 0.0
            # The mean of many: long kernels take now more and now less than that.
            cost = time.perf_counter() - start - kernel
            self._cost = cost if self._cost is None else self._cost + (cost - self._cost) / 8
            runs = stood.take(self._cost)
            self.settled = Settled(again, step.region, stood, runs, seen, chosen.threads)

    def tell(self, errors: frozenset[tuple[str, str]]) -> None:
        """Warn of the floating-point errors that a run of the kernel met."""
        (step,) = self.plan.steps
        warn(step.warns, frozenset([one for one in errors if step.may_tell(one[1])]))

    def described(self, i: int) -> tuple[tuple[int, ...], numpy.dtype[Any], Any]:
        """Return shape, dtype and memory order of a node's value."""
        node = self._nodes[i]
        return node.shape, node.dtype, node.order


def replay_of(
    wanted: Node | numpy.ndarray, request: ReduceRequest | None = None, keep: bool = True
) -> tuple[Replay, Graph]:
    """Return the plan of a pending node, to be run on other arrays, and the graph that it is of.

    Parameters
    ----------
    wanted : Node or numpy.ndarray
        What is wanted; an array is reduced as it is.
    request : ReduceRequest, optional
        How it is reduced.
    keep : bool
        Whether it is to be stored itself.
    """
    with graph_lock:
        if isinstance(wanted, Node):
            ids = frozenset([id(wanted)])
            graph = survey([wanted], ids if keep else frozenset(), frozenset() if keep else ids)
        else:
            graph = survey([], frozenset(), reduced=wanted)
        return Replay(graph, request), graph
