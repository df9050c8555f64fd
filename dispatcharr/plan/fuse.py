"""Nodes become regions: the fusion policy.

Pending nodes that are evaluated together share a region when they share an iteration space and the
floating-point error modes they were recorded under. Every value that a live array still shows
becomes an output of the region that computes it; other intermediates are never stored. A region
ends, and its result is stored, for one of these reasons:

============  ==========================================================================
asked         its value was asked for, or is shown by a live array
shape         its consumer iterates over a larger space
errors        its consumer, be it a reduction, was recorded under other error modes
length        the program would outgrow :data:`LONGEST_PROGRAM` instructions
fusion off    ``dispatch_options(fusion=False)`` is in force
reduction     its values are consumed by a reduction and not stored
============  ==========================================================================

Nothing here recurses: graphs are walked with explicit stacks. Plans are cached under a structural
key, so a repeated statement is planned once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from dispatcharr._forks import shared
from dispatcharr.expr.order import order_of
from dispatcharr.plan.geometry import Geometry
from dispatcharr.plan.graph import Graph
from dispatcharr.plan.region import ERROR_KINDS, Instruction, Region
from dispatcharr.plan.request import ReduceRequest
from dispatcharr.plan.work import Work, count_work

__all__ = ["LONGEST_PROGRAM", "Plan", "ReduceRequest", "Step", "plan"]

LONGEST_PROGRAM = 64
_CACHED_PLANS = 512


@dataclass(frozen=True, slots=True)
class Step:
    """One region with where its buffers come from and go to.

    ``inputs`` names leaves ``("leaf", i)`` and earlier results ``("node", i)``; ``outputs`` are the
    indices of the nodes whose values it stores. ``warns`` are the kinds of floating-point errors
    that the user is to be warned of.
    """

    region: Region
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[int, ...]
    warns: frozenset[str]
    work: Work

    def may_tell(self, name: str) -> bool:
        """Return whether errors of the operation called ``name`` are to be warned of here.

        What an unsure reduction met is told by NumPy, which it is then left to; what several met,
        and their expression if nothing is stored, when each is made alone.
        """
        reducing = self.region.reducing
        if reducing is None or not (reducing.row.unsure or self.region.others):
            return True
        if not self.outputs and self.region.others:
            return False
        return any(instruction.row.name == name for instruction in self.region.program)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they run."""

    steps: tuple[Step, ...]


_cache: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
_cache_lock = shared(threading.Lock())


def plan(graph: Graph, fusion: bool, request: ReduceRequest | None, outs: dict[int, Any]) -> Plan:
    """Return the plan of ``graph``, from the cache when its structure was planned before.

    Parameters
    ----------
    graph : Graph
        From :func:`survey`; its key says which nodes are stored.
    fusion : bool
        Whether nodes may share a region.
    request : ReduceRequest, optional
        Reduce the last node (or, without nodes, the first leaf).
    outs : dict
        Shape and strides of memory given by the user for a node, by node index.
    """
    key = (graph.key, fusion, None if request is None else request.key, tuple(outs.items()))
    with _cache_lock:
        found = _cache.get(key)
        if found is not None:
            _cache.move_to_end(key)
            return found
    made = _Planner(graph, fusion, request, outs).plan()
    with _cache_lock:
        _cache[key] = made
        if len(_cache) > _CACHED_PLANS:
            _cache.popitem(last=False)
    return made


class _Planner:
    """Makes one plan. Kept apart so that the passes can share what they found."""

    def __init__(
        self, graph: Graph, fusion: bool, request: ReduceRequest | None, outs: dict[int, Any]
    ) -> None:
        self.graph = graph
        self.fusion = fusion
        self.request = request
        self.outs = outs
        self.kept = [part[6] for part in graph.key[: len(graph.nodes)]]
        self.borders: dict[int, str] = {}
        self.errors = self._errors()

    def _errors(self) -> list[tuple[str, ...] | None]:
        """Return each node's error modes; one that cannot err goes with those that it reads."""
        usual = next((n.errors for n in self.graph.nodes if n.errors is not None), None)
        found: list[tuple[str, ...] | None] = []
        for node, refs in zip(self.graph.nodes, self.graph.refs, strict=True):
            above = [found[j] for source, j in refs if source == "node"]
            found.append(node.errors or (above[0] if above else usual))
        if self.request is not None and self.request.masked and self.request.errors is not None:
            found[-1] = self.request.errors  # the pair is a part of its reduction
        return found

    def plan(self) -> Plan:
        groups = self._groups()
        steps = []
        for place, group in enumerate(groups):
            last = place == len(groups) - 1
            steps.append(self._step(group, self.request if last else None))
        if not groups:
            steps.append(self._step([], self.request))
        return Plan(tuple(steps))

    def _groups(self) -> list[list[int]]:
        """Cut the topological order into regions; mark what crosses a border as stored."""
        level: list[int] = []
        members: dict[tuple[Any, ...], list[int]] = {}
        place: list[tuple[Any, ...]] = []
        for i, node in enumerate(self.graph.nodes):
            kind = (node.shape, self.errors[i], node.order)
            depth = 0
            for source, j in self.graph.refs[i]:
                if source == "node":
                    same = place[j][1:] == kind and self.fusion
                    depth = max(depth, level[j] + (not same))
            while len(members.get((depth, *kind), ())) >= LONGEST_PROGRAM:
                depth += 1
            if not self.fusion:
                depth = i
            level.append(depth)
            key = (depth, *kind)
            place.append(key)
            members.setdefault(key, []).append(i)
        for i in range(len(self.graph.nodes)):
            for source, j in self.graph.refs[i]:
                if source == "node" and place[j] != place[i]:
                    self._border(j, i)
        ordered = sorted(members.items(), key=lambda item: item[0][0])
        groups = [group for _, group in ordered]
        return self._reduced_last(groups)

    def _reduced_last(self, groups: list[list[int]]) -> list[list[int]]:
        """Put the region of the reduced node (the last one) at the end.

        A kernel does not tell whose error it met: a reduction under other error modes than what it
        consumes is a region of its own, the empty one, that reads the node.
        """
        if self.request is None or not groups:
            return groups
        last = len(self.graph.nodes) - 1
        home = next(group for group in groups if last in group)
        others = [group for group in groups if group is not home]
        if self.request.errors is None or self.request.errors == self._modes_of(home, self.request):
            return [*others, home]
        self.borders.setdefault(last, "errors")
        self.kept[last] = True
        return [*others, home, []]

    def _modes_of(self, group: list[int], request: ReduceRequest | None) -> tuple[str, ...] | None:
        """Return the error modes of a region, its reduction's where nothing else can err."""
        found = [self.graph.nodes[i].errors for i in group]
        last = None if request is None else request.errors
        return next((modes for modes in (*found, last) if modes is not None), None)

    def _border(self, producer: int, consumer: int) -> None:
        mine, theirs = self.graph.nodes[producer], self.graph.nodes[consumer]
        if not self.fusion:
            reason = "fusion off"
        elif mine.shape != theirs.shape:
            reason = "shape"
        elif self.errors[producer] != self.errors[consumer]:
            reason = "errors"
        elif mine.order != theirs.order:
            reason = "memory order"
        else:
            reason = "length"
        self.borders.setdefault(producer, reason)
        self.kept[producer] = True

    def _step(self, group: list[int], request: ReduceRequest | None) -> Step:
        nodes = self.graph.nodes
        inside = set(group)
        sources: dict[tuple[str, int], int] = {}
        for i in group:
            for ref in self.graph.refs[i]:
                if (ref[0] == "leaf" or ref[1] not in inside) and ref not in sources:
                    sources[ref] = len(sources)
        if not group:
            sources[("node", len(nodes) - 1) if nodes else ("leaf", 0)] = 0
        registers = {("node", i): len(sources) + k for k, i in enumerate(group)}
        registers.update(sources)
        outputs = tuple(i for i in group if self.kept[i] and nodes[i].row.nout == 1)
        if not nodes:
            shape, order = self.graph.hosts[0].shape, order_of(self.graph.hosts[0])
        else:
            top = nodes[group[-1] if group else -1]
            shape, order = top.shape, top.order
        geometry = Geometry(self.graph, self.outs, shape, order, list(sources), outputs, request)
        program = tuple(
            Instruction(
                nodes[i].row,
                tuple(registers[ref] for ref in self.graph.refs[i]),
                (registers[("node", i)],),
                (nodes[i].dtype,),
                nodes[i].params,
            )
            for i in (group[:-1] if request is not None and request.masked else group)
        )
        reducings = geometry.reducings(request, self._reduced(request, registers))
        modes = zip(ERROR_KINDS, self._modes_of(group, request) or (), strict=False)
        warns = frozenset([kind for kind, mode in modes if mode == "warn"])
        region = Region(
            geometry.shape,
            geometry.inputs,
            program,
            tuple(registers[("node", i)] for i in outputs),
            geometry.outputs,
            reducings[0] if reducings else None,
            self._reason(outputs, request),
            frozenset(ERROR_KINDS) if request and request.row.unsure else warns,
            reducings[1:],
        )
        fresh = [i not in self.outs for i in outputs]
        return Step(region, tuple(sources), outputs, warns, count_work(region, fresh))

    def _reduced(
        self, request: ReduceRequest | None, registers: dict[tuple[str, int], int]
    ) -> tuple[int, ...]:
        """Return the registers of what is reduced and of its mask, if it has one."""
        nodes = self.graph.nodes
        if request is None:
            return ()
        if request.masked:
            return tuple([registers[ref] for ref in self.graph.refs[-1]])
        return (registers["node", len(nodes) - 1] if nodes else 0,)

    def _reason(self, outputs: tuple[int, ...], request: ReduceRequest | None) -> str:
        if request is not None:
            return "reduction"
        found = [self.borders[i] for i in outputs if i in self.borders]
        return found[0] if found else "asked"
