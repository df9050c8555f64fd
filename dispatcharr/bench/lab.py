"""One run of the laboratory: every expression on every size, all contenders in turn.

The time asked for is shared out among the cells as they come, so that what one saves or overdraws
is spread over the rest. Preparing (compilation above all) takes what it takes and is not timed.
"""

from __future__ import annotations

import datetime
import importlib.util
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy

from dispatcharr._version import __version__
from dispatcharr.bench import ours
from dispatcharr.bench.expressions import Expression
from dispatcharr.bench.load import Load
from dispatcharr.bench.ours import AUTO, Scopes
from dispatcharr.bench.peers import Peer, Unable
from dispatcharr.bench.results import NUMPY, ROOF, Cell, Report
from dispatcharr.bench.roof import Moving, measure_roof
from dispatcharr.bench.turns import Contender, Pace, take_turns
from dispatcharr.kernels.cpus import cpu_count, thread_count
from dispatcharr.route import profile as profiles

__all__ = ["Plan", "run"]

Progress = Callable[[float, str], None]

#: How long a contender is warmed up: seconds at the most, and runs at the most. The automatic path
#: learns from its first dozen runs, so it gets more.
_WARM = (0.1, 5)
_SETTLING = (0.4, 20)


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes
    ----------
    expressions : sequence of Expression
        The rows.
    sizes : sequence of int
        Numbers of elements.
    dtype : numpy.dtype
        float32 or float64.
    peers : sequence of Peer
        Libraries to compare with.
    budget : float
        Seconds of timing, beside preparation.
    pace : Pace
        How each cell is timed; its budget is set from the one above.
    extra : bool
        Whether expressions bring sizes of their own.
    """

    expressions: Sequence[Expression]
    sizes: Sequence[int]
    dtype: numpy.dtype[Any]
    peers: Sequence[Peer]
    budget: float
    pace: Pace
    extra: bool = True

    def grid(self) -> list[tuple[Expression, int]]:
        """Return what the cells are, by expression: what it compiles is used at every size."""
        return [
            (expression, size)
            for expression in self.expressions
            for size in sorted({*self.sizes, *(expression.extra if self.extra else ())})
        ]


@dataclass
class _Entry:
    """The contenders of one cell, as they are admitted one after the other."""

    expected: numpy.ndarray
    tolerance: float
    admitted: list[Contender] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    unable: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)

    def admit(self, contender: Contender) -> bool:
        """Run a contender for the first time and add it if its answer is right."""
        start = time.perf_counter()
        answer = _as_array(contender.once())
        self.first[contender.name] = time.perf_counter() - start
        wrong = _difference(answer, self.expected, self.tolerance)
        if wrong is not None:
            self.wrong[contender.name] = wrong
            return False
        if answer.dtype != self.expected.dtype:
            self.notes[contender.name] = f"answers in {answer.dtype}"
        self.admitted.append(contender)
        return True


def _as_array(answer: Any) -> numpy.ndarray:
    """Return a result as NumPy's array; those of array libraries convert themselves."""
    # Blosc2's arrays are asked by an index.
    return numpy.asarray(answer[()] if hasattr(answer, "schunk") else answer)


def _difference(answer: numpy.ndarray, expected: numpy.ndarray, tolerance: float) -> str | None:
    """Return how an answer differs from NumPy's, None where it is right."""
    if answer.shape != expected.shape:
        return f"shape {answer.shape}, not {expected.shape}"
    if not expected.size:
        return None
    scale = float(numpy.max(numpy.abs(expected))) or 1.0
    error = float(numpy.max(numpy.abs(answer.astype(numpy.float64) - expected))) / scale
    return None if error <= tolerance else f"off by {error:.2g} of the largest value"


def _tolerance(expression: Expression, dtype: numpy.dtype[Any], elements: int) -> float:
    """Return which share of the largest value an answer may be off by.

    A few units in the last place for each operation, and for sums the random walk of the rounding
    of as many terms, since peers add in the order that they like.
    """
    allowed = 4.0 * expression.operations + 64.0
    if expression.reduces:
        allowed += 16.0 * elements**0.5
    return allowed * float(numpy.finfo(dtype).eps)


def run(plan: Plan, progress: Progress | None = None) -> Report:
    """Measure everything.

    Parameters
    ----------
    plan : Plan
        What.
    progress : callable, optional
        Called as ``progress(fraction, what)`` while it goes on.
    """
    tell = progress or (lambda fraction, what: None)
    began = datetime.datetime.now(datetime.UTC)
    tell(0.0, "peers")
    with Load() as load:
        peers = [peer for peer in plan.peers if peer.load()]
        tell(0.0, "roof")
        roof, loops = measure_roof(min(max(0.05 * plan.budget, 0.3), 5.0))
        cells: list[Cell] = []
        grid = plan.grid()
        left = plan.budget
        with ours.scopes() as scopes:
            for done, (expression, size) in enumerate(grid):
                tell(done / len(grid), f"{expression.title}, {size:,}")
                share = left / (len(grid) - done)
                # What fits in a cache is not bound by memory.
                bound = size == max(plan.sizes)
                beside = loops["read" if expression.reduces else "triad"] if bound else None
                cell, used = _measure(plan, peers, scopes, (expression, size), share, beside)
                left = max(left - used, 0.0)
                cells.append(cell)
    tell(1.0, "done")
    return Report(
        date=began.isoformat(timespec="seconds"),
        dtype=str(plan.dtype),
        cells=cells,
        contenders=(NUMPY, AUTO, *[peer.name for peer in peers]),
        forced=tuple(ours.forced_names()),
        missing={peer.name: peer.missing for peer in plan.peers if peer.missing is not None},
        how={peer.name: peer.how for peer in peers},
        roof=roof,
        machine=_machine(),
        versions=_versions(peers),
        seconds=load.seconds,
        others=load.others,
    )


def _measure(
    plan: Plan,
    peers: Sequence[Peer],
    scopes: Scopes,
    what: tuple[Expression, int],
    budget: float,
    beside: Moving | None,
) -> tuple[Cell, float]:
    """Return a cell and the seconds of timing; ``beside`` is what takes turns as the roof."""
    expression, size = what
    arrays = expression.make(size, plan.dtype)
    expected = numpy.asarray(expression.compute(*arrays))
    elements = arrays[0].size
    entry = _Entry(expected, _tolerance(expression, plan.dtype, elements))
    entry.admit(Contender(NUMPY, lambda: expression.compute(*arrays)))
    decided = _admit_ours(entry, expression, arrays, scopes)
    for peer in peers:
        _admit_peer(entry, peer, expression, arrays)
    for contender in entry.admitted:
        _warm(contender, *_WARM)
    timed = entry.admitted if beside is None else [*entry.admitted, Contender(ROOF, beside.run)]
    start = time.perf_counter()
    with Load() as load:
        turns = take_turns(timed, replace(plan.pace, budget=budget))
    used = time.perf_counter() - start
    cell = Cell(
        expression=expression.name,
        title=expression.title,
        size=size,
        shape=arrays[0].shape,
        elements=elements,
        nbytes=sum(array.nbytes for array in arrays) + expected.nbytes,
        operations=expression.operations * elements,
        turns=turns,
        forced=tuple(name for name in scopes if name != AUTO and name in turns.names),
        chosen=decided.label if decided else "-",
        predicted=decided.predicted if decided else None,
        wrong=entry.wrong,
        unable=entry.unable,
        notes=entry.notes,
        first=entry.first,
        others=load.others,
        roof_bytes=0 if beside is None else beside.nbytes,
    )
    return cell, used


def _admit_ours(
    entry: _Entry, expression: Expression, arrays: Sequence[numpy.ndarray], scopes: Scopes
) -> ours.Decided | None:
    """Admit our contenders; return where the automatic path runs, None if it is wrong.

    The forced ones come first: they have the kernels built, which the automatic path then finds
    as a program would that runs for a while.
    """
    compute = ours.prepare(expression, arrays)
    for name in sorted(scopes, key=AUTO.__eq__):
        contender = Contender(name, compute, scopes[name])
        try:
            admitted = entry.admit(contender)
        except Exception as error:  # told of, with an exit status; the others are still measured
            entry.wrong[name] = f"{type(error).__name__}: {error}"
            continue
        if name == AUTO:
            return _settled(contender) if admitted else None
        ran = ours.decided(contender)
        if admitted and name not in ran.used:
            entry.admitted.pop()
            entry.unable[name] = ran.why_not(name)
        ours.wait_for_kernels()
    return None


def _settled(contender: Contender) -> ours.Decided:
    """Run the automatic path until it has what it wants; return where it runs then."""
    for _ in range(2):
        _warm(contender, *_SETTLING)
        ours.wait_for_kernels()
    return ours.decided(contender)


def _admit_peer(
    entry: _Entry, peer: Peer, expression: Expression, arrays: Sequence[numpy.ndarray]
) -> None:
    try:
        # For peers alone: inside of this nothing of ours is deferred, as our promise to programs
        # that catch warnings demands.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            entry.admit(Contender(peer.name, peer.prepare(expression, arrays)))
    except Unable as reason:
        entry.unable[peer.name] = f"{reason}"
    except Exception as error:  # whatever goes wrong in a peer, it costs the peer one cell
        told = f"{type(error).__name__}: {error}".strip()
        entry.unable[peer.name] = told.splitlines()[0][:200]


def _warm(contender: Contender, seconds: float, runs: int) -> None:
    """Run until the time or the number is reached: compilers in stages, thread pools, caches."""
    end = time.perf_counter() + seconds
    for _ in range(runs):
        contender.once()
        if time.perf_counter() > end:
            return


def _machine() -> dict[str, Any]:
    profile = profiles.current()
    return {
        "cpu": profiles.machine()["cpu"],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cpus_usable": cpu_count(),
        "threads": thread_count(),
        "cache_bytes": dict(profile.cache_bytes),
        "profile": profile.source,
    }


def _versions(peers: Sequence[Peer]) -> dict[str, str]:
    from importlib.metadata import version

    versions = {
        "dispatcharr": __version__,
        NUMPY: numpy.__version__,
        "Python": platform.python_version(),
    }
    if importlib.util.find_spec("llvmlite") is not None:
        versions["llvmlite"] = version("llvmlite")
    return versions | {peer.name: peer.version for peer in peers}
