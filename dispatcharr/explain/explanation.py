"""What would run, or what ran, and why: :class:`Explanation` and the four ways to one.

An explanation is data, from which text within 80 columns and HTML are made. The data is whole; text shows
few kernels in full, several briefly, and of many the ones that take longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr import engine
from dispatcharr._events import FallbackRecord, KernelRecord
from dispatcharr.backends import registry
from dispatcharr.explain.account import (
    FallbackAccount,
    KernelAccount,
    account_of,
    as_data,
    fallback_account,
    letters,
    record_account,
)
from dispatcharr.explain.page import Block, Grid, Heading, Prose, as_html, as_text
from dispatcharr.explain.program import literal, reading_order
from dispatcharr.explain.report import fallback_grid, kernel_grid
from dispatcharr.explain.tally import Tally
from dispatcharr.explain.telling import brief_kernel, full_kernel
from dispatcharr.explain.text import in_count, in_ratio, in_seconds, plural
from dispatcharr.expr.nodes import Node
from dispatcharr.plan.fuse import Graph, Step, survey
from dispatcharr.route import profile as profiles

__all__ = [
    "SCHEMA", "Explanation", "explain_nothing", "explain_pending", "explain_record",
    "explain_records",
]  # fmt: skip

SCHEMA = "dispatcharr.explanation/1"
#: Kernels shown with every term of their prices, and kernels shown at all.
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
    """

    kind: str
    kernels: tuple[KernelAccount, ...] = ()
    fallbacks: tuple[FallbackAccount, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    absent: tuple[tuple[str, str], ...] = ()
    prices_from: str = ""
    total: int = 0

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


def explain_records(records: Iterable[KernelRecord | FallbackRecord], small: int = 0) -> Explanation:
    """Say what happened in a piece of a program.

    Parameters
    ----------
    records : iterable of KernelRecord or FallbackRecord
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
    if not kernels and not fallbacks:
        did = f"{plural(small, 'operation')} ran as plain NumPy, too small to plan" if small else ""
        return explain_nothing(did or "no kernel ran and nothing was left to NumPy")
    longest = sorted(range(len(kernels)), key=lambda i: -kernels[i].seconds)[:_MOST_ACCOUNTS]
    return Explanation(
        "evaluated",
        tuple(record_account(kernels[i]) for i in sorted(longest)),
        tuple(fallbacks[-_MOST_ACCOUNTS:]),
        (*tally.kernel_rows(), *tally.fallback_rows()),
        absent=_absent() if kernels else (),
        prices_from=profiles.current().source if kernels else "",
        total=len(kernels),
    )


def _absent() -> tuple[tuple[str, str], ...]:
    return tuple((name, reason) for name, reason in registry.available().items() if reason)


class _Namer:
    """Names arrays and results the same way throughout a plan."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.arrays: dict[int, str] = {}
        self.results: dict[int, str] = {}

    def account(self, step: Step) -> KernelAccount:
        region = step.region
        order = reading_order(region)
        inputs = {r: self._input(step, r) for r in order}
        shapes = {r: self._shape(step, r) for r in order}
        for index in step.outputs:
            self.results[index] = f"r{len(self.results) + 1}"
        results = [self.results[index] for index in step.outputs]
        if region.reducing is not None:
            results.append(f"r{len(self.results) + 1}")
        decision = engine.route(region, step.work)
        return account_of(region, step.work, decision, inputs, results, shapes)

    def _input(self, step: Step, register: int) -> tuple[str, str]:
        source, index = step.inputs[register]
        if source == "node":
            return self.results[index], "earlier result"
        host = self._host(index)
        if step.region.inputs[register].shape == () and host.ndim == 0:
            return literal(host), "constant"
        name = self.arrays.setdefault(index, letters(len(self.arrays)))
        return name, "array"

    def _shape(self, step: Step, register: int) -> tuple[int, ...]:
        source, index = step.inputs[register]
        return self.graph.nodes[index].shape if source == "node" else self._host(index).shape

    def _host(self, index: int) -> numpy.ndarray:
        return self.graph.hosts[index]


def _blocks(told: Explanation) -> list[Block]:
    if told.kind == "nothing":
        return [Prose(f"Nothing to explain: {told.reason}.")]
    blocks: list[Block] = [Heading(_headline(told))]
    many = told.total > _IN_FULL
    if many and told.rows:
        blocks.append(kernel_grid([r for r in told.rows if r["kind"] == "kernel"], _MOST_ROWS))
    blocks += _kernel_blocks(told)
    fallen = [row for row in told.rows if row["kind"] == "fallback"]
    if fallen:
        blocks.append(fallback_grid(fallen, _MOST_ROWS, "Left to NumPy"))
    notes = [(name, f"cannot be used here: {reason}") for name, reason in told.absent]
    if told.prices_from == "defaults":
        notes.append(("prices", "shipped defaults; `dispatcharr calibrate` measures this machine"))
    if notes:
        blocks.append(Grid(tuple(notes), "ll"))
    return blocks


def _headline(told: Explanation) -> str:
    if told.kind == "pending":
        seconds = in_seconds(sum(kernel.price.seconds for kernel in told.kernels))
        return f"Pending: {plural(told.total, 'kernel')}, predicted {seconds}. Nothing ran yet."
    if not told.total:
        return f"No kernel ran; {plural(len(told.fallbacks), 'call')} left to NumPy."
    rows = [row for row in told.rows if row["kind"] == "kernel"]
    measured, predicted = (sum(row[key] for row in rows) for key in ("measured", "predicted"))
    return (
        f"Evaluated: {plural(told.total, 'kernel')}, {in_seconds(measured)} measured, "
        f"{in_seconds(predicted)} predicted ({in_ratio(measured, predicted)})."
    )


def _kernel_blocks(told: Explanation) -> list[Block]:
    if told.total <= _IN_FULL:
        return [
            block
            for place, kernel in enumerate(told.kernels)
            for block in full_kernel(kernel, _title(place, told.total))
        ]
    seconds = [k.price.seconds if k.measured is None else k.measured for k in told.kernels]
    longest = sorted(range(len(seconds)), key=lambda i: -seconds[i])
    shown = sorted(longest[:_IN_BRIEF])
    blocks: list[Block] = []
    for place in shown:
        tell = full_kernel if place == longest[0] else brief_kernel
        # Where accounts were left out, a kernel's place among those kept is not its number.
        title = _title(place, told.total) if told.total == len(told.kernels) else "A kernel"
        blocks += tell(told.kernels[place], title)
    left_out = told.total - len(shown)
    if left_out:
        blocks.append(Prose(f"{in_count(left_out)} more, which take less time, are in .kernels."))
    return blocks


def _title(place: int, total: int) -> str:
    return "Kernel" if total == 1 else f"Kernel {place + 1} of {in_count(total)}"
