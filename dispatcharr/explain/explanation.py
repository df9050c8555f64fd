"""What would run, or what ran, and why: :class:`Explanation` and the four ways to one.

An explanation is data, from which text within 80 columns and HTML are made. The data is whole;
text shows few kernels in full, several briefly, and of many a table and the one that takes
longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dispatcharr import engine
from dispatcharr._events import ContractionRecord, FallbackRecord, KernelRecord
from dispatcharr.backends import registry
from dispatcharr.explain.account import (
    FallbackAccount,
    InputName,
    KernelAccount,
    account_of,
    as_data,
    fallback_account,
    letters,
    record_account,
)
from dispatcharr.explain.page import Block, Grid, Heading, Prose, as_html, as_text
from dispatcharr.explain.program import literal, reading_order
from dispatcharr.explain.report import contraction_blocks, fallback_grid, kernel_grid
from dispatcharr.explain.tally import Tally
from dispatcharr.explain.telling import brief_kernel, full_kernel, plan_grid
from dispatcharr.explain.text import in_ratio, in_seconds, plural
from dispatcharr.expr.nodes import Node
from dispatcharr.plan.fuse import Step
from dispatcharr.plan.graph import Graph, survey
from dispatcharr.plan.work import located, whereabouts
from dispatcharr.route import profile as profiles
from dispatcharr.storage import places

__all__ = [
    "SCHEMA", "Explanation", "explain_nothing", "explain_pending", "explain_record",
    "explain_records",
]  # fmt: skip

SCHEMA = "dispatcharr.explanation/1"
#: Kernels all shown with every term of their prices, and kernels shown one by one.
_IN_FULL = 2
_IN_BRIEF = 6
_MOST_ROWS = 12
#: Kernels whose accounts are kept: those that took longest. The counts are of all of them.
_MOST_ACCOUNTS = 200


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What would run or ran, where, why, at what price, and what else it would have cost.

    Attributes
    ----------
    kind : {"pending", "evaluated", "nothing"}
        A plan, what happened, or neither.
    kernels : tuple of KernelAccount
        In the order in which they run.
    fallbacks : tuple of FallbackAccount
        What was left to NumPy.
    rows : tuple of dict
        What happened by kind of kernel and fallback, as in ``record_dispatch().table().rows``.
    reason : str
        Why there is nothing to explain.
    absent : tuple of (str, str)
        Backends that cannot be used here, each with its reason.
    prices_from : str
        Source of the prices: "defaults" or "calibrated".
    total : int
        Kernels in all; more than ``kernels`` holds where a program ran very many.
    small : int
        Operations that ran as plain NumPy because they were too small to plan.
    """

    kind: str
    kernels: tuple[KernelAccount, ...] = ()
    fallbacks: tuple[FallbackAccount, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    absent: tuple[tuple[str, str], ...] = ()
    prices_from: str = ""
    total: int = 0
    small: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as what JSON can hold; times in seconds, memory in bytes."""
        data: dict[str, Any] = {"schema": SCHEMA, **as_data(self)}
        return data

    def __str__(self) -> str:
        return as_text(_blocks(self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(_blocks(self))


def explain_nothing(reason: str) -> Explanation:
    """Return the explanation of something that no kernel made.

    Parameters
    ----------
    reason : str
        Why, as a sentence without a full stop.
    """
    return Explanation("nothing", reason=reason)


def explain_pending(nodes: Sequence[Node]) -> Explanation:
    """Plan and price pending nodes without running them.

    Parameters
    ----------
    nodes : sequence of Node
        What would be evaluated together; those that have a value already are left out.
    """
    wanted = [node for node in nodes if node.value is None]
    if not wanted:
        return explain_nothing("everything asked for has been evaluated already")
    steps = engine.plan_of(wanted).steps
    namer = _Namer(survey(wanted, frozenset(id(node) for node in wanted)))
    kernels = tuple(namer.account(step) for step in steps)
    return Explanation(
        "pending",
        kernels,
        absent=_absent(),
        prices_from=profiles.current().source,
        total=len(kernels),
    )


def explain_record(record: KernelRecord) -> Explanation:
    """Say what happened when one kernel ran."""
    return explain_records([record])


def explain_records(
    records: Iterable[KernelRecord | FallbackRecord | ContractionRecord], small: int = 0
) -> Explanation:
    """Say what happened in a piece of a program.

    Parameters
    ----------
    records : iterable of KernelRecord, ContractionRecord or FallbackRecord
        In the order in which they came; anything else is left out.
    small : int
        Operations that ran as plain NumPy because they were too small to plan.
    """
    kernels = []
    fallbacks = []
    tally = Tally()
    for record in records:
        if isinstance(record, KernelRecord):
            kernels.append(record)
            tally.add_kernel(record)
        elif isinstance(record, FallbackRecord):
            fallbacks.append(fallback_account(record))
            tally.add_fallback(record)
        elif isinstance(record, ContractionRecord):
            tally.add_contraction(record)
    if not kernels and not fallbacks and not tally.contractions:
        return explain_nothing(_small(small) or "no kernel ran and nothing was left to NumPy")
    took = [record.seconds or 0.0 for record in kernels]
    longest = sorted(range(len(kernels)), key=lambda i: -took[i])[:_MOST_ACCOUNTS]
    return Explanation(
        "evaluated",
        tuple(record_account(kernels[i]) for i in sorted(longest)),
        tuple(fallbacks[-_MOST_ACCOUNTS:]),
        tally.rows(),
        absent=_absent() if kernels else (),
        prices_from=profiles.current().source if kernels else "",
        total=len(kernels),
        small=small,
    )


def _small(count: int) -> str:
    return f"{plural(count, 'operation')} too small to plan ran as plain NumPy" if count else ""


def _absent() -> tuple[tuple[str, str], ...]:
    return tuple((name, reason) for name, reason in registry.available().items() if reason)


class _Namer:
    """Names arrays and results the same way throughout a plan."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.arrays: dict[int, str] = {}
        self.constants: dict[int, str] = {}
        self.results: dict[int, str] = {}

    def account(self, step: Step) -> KernelAccount:
        region = step.region
        inputs = {r: self._input(step, r) for r in reading_order(region)}
        for index in step.outputs:
            self.results[index] = f"r{len(self.results) + 1}"
        results = [self.results[index] for index in step.outputs]
        for number, _ in enumerate(region.reductions):
            results.append(f"r{len(self.results) + number + 1}")
        hosts = [
            self.graph.hosts[index] if source == "leaf" else None for source, index in step.inputs
        ]
        work = located(step.work, whereabouts(hosts)) if places.enabled() else step.work
        decision = engine.route(region, work)
        return account_of(region, work, decision, inputs, results)

    def _input(self, step: Step, register: int) -> InputName:
        source, index = step.inputs[register]
        if source == "node":
            return InputName(self.results[index], "earlier result", self.graph.nodes[index].shape)
        host = self.graph.hosts[index]
        if host.ndim == 0:
            self.constants.setdefault(index, f"c{len(self.constants) + 1}")
            return InputName(self.constants[index], "constant", (), literal(host))
        name = self.arrays.setdefault(index, letters(len(self.arrays)))
        return InputName(name, "array", host.shape)


def _blocks(told: Explanation) -> list[Block]:
    if told.kind == "nothing":
        return [Prose(f"Nothing to explain: {told.reason}.")]
    blocks: list[Block] = [Heading(_headline(told)), *_kernel_blocks(told)]
    fallen = [row for row in told.rows if row["kind"] == "fallback"]
    blocks += contraction_blocks(told.rows, _MOST_ROWS)
    if fallen:
        blocks.append(fallback_grid(fallen, _MOST_ROWS, "Left to NumPy"))
    notes = [("small", _small(told.small))] if told.small else []
    notes += [(name, f"cannot be used here: {reason}") for name, reason in told.absent]
    if told.prices_from == "defaults":
        notes.append(("prices", "shipped defaults; `dispatcharr calibrate` measures this machine"))
    if notes:
        blocks.append(Grid(tuple(notes), "ll"))
    return blocks


def _headline(told: Explanation) -> str:
    if told.kind == "pending":
        seconds = in_seconds(sum(kernel.price.seconds for kernel in told.kernels))
        where = " and ".join(sorted({kernel.backend for kernel in told.kernels}))
        count = plural(told.total, "kernel")
        return f"Pending: {count}, predicted {seconds} on {where}. Nothing ran yet."
    if not told.total:
        calls, contracted, scanned = (
            sum(row["runs"] for row in told.rows if row["kind"] == kind)
            for kind in ("fallback", "contraction", "scan")
        )
        counts = ((contracted, "contraction"), (scanned, "scan"))
        ran = ", ".join([plural(n, name) for n, name in counts if n]) or "no kernel ran"
        return f"Evaluated: {ran}, {plural(calls, 'call')} left to NumPy."
    rows = [row for row in told.rows if row["kind"] == "kernel"]
    measured, predicted = (sum(row[key] for row in rows) for key in ("measured", "predicted"))
    where = " and ".join(sorted({row["backend"] for row in rows}))
    ran = f"Evaluated: {plural(told.total, 'kernel')} on {where}"
    if measured == predicted == 0:  # nobody waited for the device to be done
        untimed = sum(kernel.price.run for kernel in told.kernels)
        return f"{ran}, not timed, {in_seconds(untimed)} predicted."
    return (
        f"{ran}, {in_seconds(measured)} measured, "
        f"{in_seconds(predicted)} predicted ({in_ratio(measured, predicted)})."
    )


def _kernel_blocks(told: Explanation) -> list[Block]:
    """Return a few kernels one by one; of many, a table and the one that takes longest."""
    if not told.kernels:
        return []
    seconds = [k.price.seconds if k.measured is None else k.measured for k in told.kernels]
    longest = max(range(len(seconds)), key=seconds.__getitem__)
    if told.total > _IN_BRIEF:
        title = "The kernel that takes longest"
        return [_overview(told), *full_kernel(told.kernels[longest], title)]
    blocks: list[Block] = []
    for place, kernel in enumerate(told.kernels):
        title = "Kernel" if told.total == 1 else f"Kernel {place + 1} of {told.total}"
        tell = full_kernel if told.total <= _IN_FULL or place == longest else brief_kernel
        blocks += tell(kernel, title)
    return blocks


def _overview(told: Explanation) -> Grid:
    if told.kind == "pending":
        return plan_grid(told.kernels, _MOST_ROWS)
    return kernel_grid([row for row in told.rows if row["kind"] == "kernel"], _MOST_ROWS)
