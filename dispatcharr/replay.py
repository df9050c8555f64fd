"""Plans run once more: the same statement on other arrays of the same layouts.

What the engine does for a plan that it has just made is done here for one that was made before:
nothing is planned, and while a decision holds, nothing is asked of the router either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr._config import Options, options
from dispatcharr.backends.late import working
from dispatcharr.engine import Run, run_step
from dispatcharr.expr.nodes import Node, graph_lock
from dispatcharr.expr.order import empty_in_order
from dispatcharr.plan.fuse import ReduceRequest, plan
from dispatcharr.plan.graph import Graph, survey
from dispatcharr.route import standing
from dispatcharr.storage import places
from dispatcharr.storage.exports import root_of
from dispatcharr.storage.readers import reading

__all__ = ["Replay", "replay_of"]


class Replay:
    """A plan that is run once more, on other arrays of the same layouts."""

    __slots__ = ("_left", "_nodes", "_quick", "plan")

    def __init__(self, graph: Graph, request: ReduceRequest | None = None) -> None:
        self.plan = plan(graph, options().fusion, request, {})
        # Stand-ins: those of the graph have values that would be kept with them.
        self._nodes = [
            Node(one.row, (), one.shape, one.dtype, one.order, one.errors) for one in graph.nodes
        ]
        #: How the kernel is run again, the decision that said so, and the options then in force.
        self._quick: tuple[Any, Any, Options] | None = None
        #: How many runs the decision need not be asked for.
        self._left = 0

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
        graph, chosen = Graph(), options()
        graph.nodes, graph.hosts = self._nodes, hosts
        run = Run(graph)
        with working(), reading([id(root_of(host)) for host in hosts if host.ndim]):
            if holds is not None and not holds():
                return None
            quick = self._quick
            if quick is not None and self._left > 0 and not _events.listened():
                again, stood, before = quick
                if chosen is before and standing.is_current(stood, chosen):
                    self._left -= 1
                    self._repeat(run, hosts, out, again, stood)
                    return run
            for step in self.plan.steps:
                run_step(step, run, {}, chosen, () if out is None else (out,))
            self._expect(run, chosen, out)
        return run

    def _repeat(
        self, run: Run, hosts: list[numpy.ndarray], out: numpy.ndarray | None, again: Any,
        stood: Any,
    ) -> None:  # fmt: skip
        step = self.plan.steps[0]
        outputs = []
        for i in step.outputs:
            node = self._nodes[i]
            made = run.values[i] = empty_in_order(node.shape, node.dtype, node.order)
            outputs.append(made)
        if out is not None:
            outputs.append(out)
        start = time.perf_counter()
        errors = again.run([hosts[i] for _, i in step.inputs], outputs)
        seconds = time.perf_counter() - start
        if errors:
            run.errors.append((step.warns, frozenset(e for e in errors if step.may_tell(e[1]))))
        record = _events.KernelRecord(step.region, stood.work, stood.decision, seconds, errors)
        for i in step.outputs:
            run.origins[i] = record
        run.origins[-1] = record

    def _expect(self, run: Run, chosen: Options, out: numpy.ndarray | None) -> None:
        """Find out whether the next runs need nothing but the kernel."""
        self._left = 0
        if len(self.plan.steps) != 1 or chosen.verify or places.in_use():
            return
        (step,) = self.plan.steps
        stood = standing.settled(step.region, chosen)
        if stood is None:
            return
        if self._quick is None or stood is not self._quick[1]:
            ask = getattr(stood.backend, "again", None)
            inputs = [run.graph.hosts[i] for _, i in step.inputs]
            outputs = [run.values[i] for i in step.outputs]
            if out is not None:
                outputs.append(out)
            again = ask and ask(step.region, inputs, outputs, chosen.threads)
        else:
            again = self._quick[0]
        self._quick = None if again is None else (again, stood, chosen)
        if again is not None:
            self._left = stood.take()


def replay_of(
    node: Node, request: ReduceRequest | None = None, keep: bool = True
) -> tuple[Replay, Graph]:
    """Return the plan of a pending node, to be run on other arrays, and the graph that it is of.

    Parameters
    ----------
    node : Node
        What is wanted.
    request : ReduceRequest, optional
        How it is reduced.
    keep : bool
        Whether it is to be stored itself.
    """
    wanted = frozenset([id(node)])
    with graph_lock:
        graph = survey([node], wanted if keep else frozenset(), frozenset() if keep else wanted)
        return Replay(graph, request), graph
