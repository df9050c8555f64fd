"""Station 7: the whole road. Plan, route, run, store.

The engine alone sees every station. It is given nodes and gives back concrete memory:
:func:`evaluate` fills the values of pending arrays, :func:`reduce` also reduces the last of them,
:func:`store` writes one straight into memory of the user's. Results are allocated before anything
runs and published after everything ran, so that an error, an interrupt or a lack of memory leaves
inputs and pending arrays as they were.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy

from dispatcharr import _events
from dispatcharr._config import Options, options
from dispatcharr.backends.base import Elsewhere, LateErrors, label
from dispatcharr.backends.late import hear, hear_later, warn, working
from dispatcharr.backends.placed import run_placed
from dispatcharr.expr.build import Declined, build, may_warn_later, modes_in_force
from dispatcharr.expr.nodes import Node, computed_alone, fill, graph_lock
from dispatcharr.expr.order import empty_in_order
from dispatcharr.ops.table import BY_NAME
from dispatcharr.plan.fuse import Plan, ReduceRequest, Step, plan
from dispatcharr.plan.graph import survey
from dispatcharr.plan.region import Region
from dispatcharr.plan.work import Work
from dispatcharr.route import router, standing, verification
from dispatcharr.storage import places
from dispatcharr.storage.exports import root_of
from dispatcharr.storage.readers import readers_of, reading, wait_until_unread, withdraw

__all__ = [
    "Run",
    "before_write",
    "copy_into",
    "evaluate",
    "finish",
    "hear",
    "plan_of",
    "reduce",
    "route",
    "run_step",
    "store",
    "tell",
    "value_of",
]


class Run:
    """What one pass over a plan has made so far."""

    __slots__ = ("errors", "graph", "origins", "reduced", "teaches", "values")

    def __init__(self, graph: Any, teaches: bool = True) -> None:
        self.graph = graph
        #: Whether what kernels take is to be learned from.
        self.teaches = teaches
        self.values: dict[int, numpy.ndarray] = {}
        self.origins: dict[int, _events.KernelRecord] = {}
        self.reduced: numpy.ndarray | None = None
        self.errors: list[tuple[frozenset[str], frozenset[tuple[str, str]]]] = []


def evaluate(nodes: Sequence[Node]) -> None:
    """Fill the values of ``nodes`` and of the arrays that show them."""
    wanted = [node for node in nodes if node.value is None]
    if wanted:
        _perform(wanted, None, (), {})


def reduce(
    value: Node | numpy.ndarray,
    request: ReduceRequest,
    errors: tuple[str, ...] | None,
    out: numpy.ndarray,
    keep: bool,
    more: Sequence[numpy.ndarray] = (),
) -> _events.KernelRecord:
    """Reduce ``value`` into ``out``, fused with what is pending below it.

    Parameters
    ----------
    value : Node or numpy.ndarray
        What is reduced.
    request : ReduceRequest
        How; its axes are those of ``value``.
    errors : tuple or None
        Error modes of the reduction itself.
    out : numpy.ndarray
        Memory of the result: flat, its axes in the memory order of ``value``.
    keep : bool
        Whether a pending ``value`` is stored too, because a live array shows it.
    more : sequence of numpy.ndarray
        Memory of the results of ``request.others``, as ``out``.
    """
    request = replace(request, errors=errors)
    outs = (out, *more)
    if isinstance(value, Node) and value.value is not None:
        value = value.value
    if isinstance(value, Node):
        run = _perform([value], request, outs, {}, keep)
    else:
        run = _perform([], request, outs, {}, keep, value)
    return run.origins[-1]


def store(node: Node, target: numpy.ndarray) -> None:
    """Write the value of ``node`` straight into ``target``, memory that it does not read.

    The node itself gets no value: ``target`` stays the user's.
    """
    if node.value is not None:
        copy_into(target, node.value)
    else:
        _perform([node], None, (), {id(node): target}, False)


def copy_into(target: numpy.ndarray, value: numpy.ndarray) -> None:
    """Assign ``value``, of the same shape, to ``target``, whose memory it does not share.

    Where either is on a device, it is routed like any other kernel.
    """
    if places.in_use() and "device" in (places.state(value), places.state(target)):
        try:
            node = build(BY_NAME["astype"], (value,), target.dtype)
        except Declined:
            places.home(value)
        else:
            _perform([node], None, (), {id(node): target}, False)
            return
    with places.writing((target,)):
        numpy.copyto(target, value, casting="unsafe")


def plan_of(nodes: Sequence[Node]) -> Plan:
    """Return the plan of pending ``nodes`` without running it."""
    graph = survey(nodes, frozenset(id(node) for node in nodes))
    return plan(graph, options().fusion, None, {})


def value_of(node: Node) -> numpy.ndarray:
    """Return the value of a node, which is computed if it waits."""
    evaluate([node])
    if node.value is None:
        raise RuntimeError(f"evaluation left {node!r} without a value")
    return node.value


def tell(run: Run) -> None:
    """Warn of the floating-point errors that were met."""
    for kinds, errors in run.errors:
        warn(kinds, errors)
    hear()


def route(region: Region, work: Work) -> router.Decision:
    """Return which backend would run ``region`` now, and what each would cost."""
    return standing.route(region, work, options())[0]


def _perform(
    wanted: Sequence[Node],
    request: ReduceRequest | None,
    outs: Sequence[numpy.ndarray],
    targets: dict[int, numpy.ndarray],
    keep: bool = True,
    value: numpy.ndarray | None = None,
) -> Run:
    """Plan and run ``wanted``; the one road that every evaluation takes."""
    with working():
        run = _pass(wanted, request, outs, targets, keep, value)
    tell(run)
    return run


def _pass(
    wanted: Sequence[Node],
    request: ReduceRequest | None,
    outs: Sequence[numpy.ndarray],
    targets: dict[int, numpy.ndarray],
    keep: bool,
    value: numpy.ndarray | None,
) -> Run:
    chosen = options()
    stored = keep or bool(targets)
    with graph_lock:
        # Another thread may have evaluated a node since the caller looked.
        if request is not None and wanted and wanted[0].value is not None:
            value = wanted[0].value
        pending = [node for node in wanted if node.value is None]
        ids = frozenset(id(node) for node in pending)
        kept, dropped = (ids, frozenset()) if stored else (frozenset(), ids)
        graph = survey(pending, kept, dropped, value)
        # Begun before the lock is let go: a writer that finds nothing pending finds this.
        reads = reading({id(root_of(host)) for host in graph.hosts if host.ndim})
        reads.__enter__()
    try:
        run = Run(graph)
        given = {
            graph.index[key]: (target.shape, target.strides)
            for key, target in targets.items()
            if key in graph.index
        }
        if graph.hosts or graph.nodes:
            made = plan(graph, chosen.fusion, request, given)
            for step in made.steps:
                run_step(step, run, targets, chosen, outs)
        for node in wanted:
            if node.value is not None and id(node) in targets:
                copy_into(targets[id(node)], node.value)
    finally:
        reads.__exit__()
    for out in outs:
        if out.size == 1:
            places.home(out)  # it becomes a scalar
    _publish(run, targets)
    return run


def run_step(
    step: Step,
    run: Run,
    targets: dict[int, numpy.ndarray],
    chosen: Options,
    outs: Sequence[numpy.ndarray],
) -> None:
    graph = run.graph
    inputs = [graph.hosts[i] if source == "leaf" else run.values[i] for source, i in step.inputs]
    outputs, fresh = [], []
    for i in step.outputs:
        node = graph.nodes[i]
        made = targets.get(id(node))
        if made is None:
            made = empty_in_order(node.shape, node.dtype, node.order)
            fresh.append(made)
        run.values[i] = made
        outputs.append(made)
    if step.region.reducing is not None:
        outputs.extend(outs)
    record = _recorded(step, inputs, outputs, chosen, fresh, run)
    alone = len(step.region.program) == 1 and step.region.reducing is None
    for i in step.outputs:
        run.origins[i] = record
        if alone:
            computed_alone(graph.nodes[i])
    run.origins[-1] = record
    if _events.listened():
        _events.emit(record)


def _recorded(
    step: Step,
    inputs: Sequence[numpy.ndarray],
    outputs: Sequence[numpy.ndarray],
    chosen: Options,
    fresh: Sequence[numpy.ndarray],
    run: Run,
) -> _events.KernelRecord:
    """Run a kernel, learn from it and check it; return the record of it."""
    checked = verification.is_due(chosen.verify)
    read = verification.before(inputs, outputs) if checked else inputs
    stood, errors, seconds = _execute(step, inputs, outputs, chosen, fresh)
    decision = stood.decision
    if (stood.due == stood.every and run.teaches) or _events.listened():
        decision = router.learn(decision, stood.work, stood.profile, seconds)
    verified = None
    if checked:
        verified = verification.verify(step.region, read, outputs, stood.backend)
    if not isinstance(errors, frozenset):
        hear_later(step, errors, at_once=not may_warn_later(modes_in_force()))
        errors = frozenset()
    if errors:
        run.errors.append((step.warns, frozenset(e for e in errors if step.may_tell(e[1]))))
    return _events.KernelRecord(step.region, stood.work, decision, seconds, errors, verified)


def _execute(
    step: Step,
    inputs: Sequence[numpy.ndarray],
    outputs: Sequence[numpy.ndarray],
    chosen: Options,
    fresh: Sequence[numpy.ndarray],
) -> tuple[standing.Standing, frozenset[tuple[str, str]] | LateErrors, float | None]:
    """Run a kernel on the chosen backend; where that fails, on the next, and never there again.

    An error that every backend raises is the user's. Outputs that overwrite inputs cannot be
    computed twice, so the first error stands. Seconds are None where nobody waited for the end.
    """
    region = step.region
    stands = standing.standing(region, step.work, chosen, inputs, outputs)
    failed: dict[str, str] = {}
    passing = False
    while True:
        backend = stands.backend
        try:
            if places.in_use() or backend.place != "host":
                timing = stands.due == stands.every or _events.listened()
                errors, seconds = run_placed(
                    backend, region, inputs, outputs, fresh, chosen.threads, timing
                )
            else:
                start = time.perf_counter()
                errors = backend.run(region, inputs, outputs, chosen.threads)
                seconds = time.perf_counter() - start
        except Exception as error:
            reason = f"it failed on this kernel: {type(error).__name__}: {error}"
            failed[label(stands.backend)] = reason
            passing = passing or isinstance(error, MemoryError | Elsewhere)
            left = [b for b in standing.able(region) if label(b) not in failed]
            # A device has its own copies: what it did not finish does not count.
            overwrites = backend.place == "host" and any(
                numpy.may_share_memory(i, o) for i in inputs for o in outputs
            )
            if overwrites or not left:
                raise
            anywhere = replace(chosen, backend="auto", engine="auto")
            stands = standing.Standing(region, step.work, anywhere, failed)
            continue
        if not passing:  # there may be room another time, and other values
            standing.bar(region, failed)
        return stands, errors, seconds


def _publish(run: Run, targets: dict[int, numpy.ndarray]) -> None:
    with graph_lock:
        _publish_values(run, targets)


def _publish_values(run: Run, targets: dict[int, numpy.ndarray]) -> None:
    nodes = run.graph.nodes
    new = {
        i: (nodes[i], value)
        for i, value in run.values.items()
        if id(nodes[i]) not in targets and nodes[i].value is None
    }
    fill(list(new.values()))
    for i, (node, value) in new.items():
        owner = node.owner
        if owner is not None:
            array = owner()
            owner.close()
            if array is not None and array._value is node:
                array._value = value
                array._origin = run.origins[i]


def finish() -> None:
    """Wait for devices, and warn of the floating-point errors that their kernels met."""
    device = places.device_in_use()
    if device is not None:
        device.synchronize()
        hear()


def before_write(host: numpy.ndarray) -> None:
    """Settle everything that still has to read the memory of ``host`` before it is written."""
    root = root_of(host)
    withdraw(id(root))
    arrays = readers_of(id(root))
    if arrays:
        evaluate([a._value for a in arrays if isinstance(a._value, Node)])
    wait_until_unread(id(root))
