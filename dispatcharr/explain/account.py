"""One kernel's account: what it computes, reads and writes, its prices, and what it took.

Accounts are values free of regions, nodes and arrays: they can be kept, compared and written to
JSON. They are the data that every text about a kernel is made of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from dispatcharr._events import FallbackRecord, KernelRecord
from dispatcharr.explain.program import reading_order, write_program
from dispatcharr.plan.fuse import LONGEST_PROGRAM
from dispatcharr.plan.region import Layout, Reducing, Region
from dispatcharr.plan.work import Work, register_dtypes
from dispatcharr.route.price import Estimate
from dispatcharr.route.router import Decision

__all__ = [
    "BufferAccount", "FallbackAccount", "InputName", "KernelAccount", "Price", "account_of",
    "as_data", "fallback_account", "letters", "operations_of", "reason_class",
    "record_account", "result_dtype",
]  # fmt: skip

#: Why a region ended, in a sentence; a word that is not listed stands for itself.
_ENDS: Mapping[str, str] = {
    "asked": "its result was asked for, or an array that is still alive shows it",
    "shape": "what follows runs over a larger shape",
    "errors": "what follows was recorded under other floating-point error modes",
    "memory order": "what follows is laid out in another memory order",
    "length": f"a program longer than {LONGEST_PROGRAM} operations is split",
    "fusion off": "dispatch_options(fusion=False) is in force",
    "reduction": "it ends in a reduction, which takes axes away",
}


@dataclass(frozen=True, slots=True)
class BufferAccount:
    """What a kernel reads or writes.

    Attributes
    ----------
    name : str
        Its name in the program; the literal of a known constant.
    role : {"array", "constant", "earlier result", "result", "reduction"}
        What it is to the kernel.
    dtype : str
        Element type.
    shape : tuple of int
        Its shape where the plan knows it, else over the kernel's space.
    nbytes : int
        Memory it owns.
    walk : {"contiguous", "strided", "broadcast"}
        How the kernel goes through it.
    value : str or None
        Of a constant whose value is known.
    move : {"", "to the device", "home", "there"}
        Where it had to be moved for the run; "there" where it was on the device already.
    """

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    walk: str
    value: str | None = None
    move: str = ""


@dataclass(frozen=True, slots=True)
class InputName:
    """What a plan knows of an input beyond its layout."""

    name: str
    role: str
    shape: tuple[int, ...] | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What one backend would take, as the cost model sees it.

    Attributes
    ----------
    backend : str
        Name of the backend.
    seconds : float
        Everything, which is what backends are compared by.
    run : float
        The part that a clock around the run sees.
    terms : mapping of str to float
        The parts by name, before ``correction``.
    correction : float
        Learned factor on the parts that grow with the kernel.
    bound : {"memory", "compute"}
        The longer one of the two.
    engine : str
        The cheapest way in which the backend would run it; empty where it has one way.
    device : bool
        Whether the backend is a device.
    """

    backend: str
    seconds: float
    run: float
    terms: Mapping[str, float]
    correction: float
    bound: str
    engine: str = ""
    device: bool = False


@dataclass(frozen=True, slots=True)
class KernelAccount:
    """One kernel, planned or run.

    Attributes
    ----------
    operations : tuple of str
        Names of what was fused, in order.
    program : tuple of str
        The same as readable lines over named arrays.
    shape : tuple of int
        The iteration space, neighbouring axes joined where memory allows.
    dtype : str
        Of the result.
    reads, writes : tuple of BufferAccount
        What it reads and stores.
    bytes_read, bytes_written, bytes_fresh : int
        Memory traffic, and the part of it that goes to newly allocated memory.
    border, ends : str
        Why the kernel ends where it does: the planner's word, and a sentence.
    backend, reason : str
        Where it runs, and why there.
    prices : tuple of Price
        Of every backend that can run it, the cheapest first.
    refused : tuple of (str, str)
        The backends that cannot, each with its reason.
    measured : float or None
        Seconds that the run took, once it has.
    fp_errors : tuple of (str, str)
        Floating-point errors met, and the operation that met them.
    verified : bool or None
        Whether plain NumPy agreed; None where it was not asked.
    engines : tuple of (str, str)
        Engines that cannot run it, of backends that have others, each with its reason.
    better : Price or None
        Of a kernel that is not built yet and would be cheaper still.
    bytes_moved : int
        Memory that had to be moved to the device, or home from it.
    ran : bool
        Whether it has run; where ``measured`` is None all the same, nobody waited for its end.
    """

    operations: tuple[str, ...]
    program: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    reads: tuple[BufferAccount, ...]
    writes: tuple[BufferAccount, ...]
    bytes_read: int
    bytes_written: int
    bytes_fresh: int
    border: str
    ends: str
    backend: str
    reason: str
    prices: tuple[Price, ...]
    refused: tuple[tuple[str, str], ...]
    measured: float | None = None
    fp_errors: tuple[tuple[str, str], ...] = ()
    verified: bool | None = None
    engines: tuple[tuple[str, str], ...] = ()
    better: Price | None = None
    bytes_moved: int = 0
    ran: bool = False

    @property
    def price(self) -> Price:
        """The price of the backend that it runs on."""
        return next(price for price in self.prices if price.backend == self.backend)


@dataclass(frozen=True, slots=True)
class FallbackAccount:
    """One operation that was left to NumPy."""

    name: str
    reason: str
    seconds: float


def letters(number: int) -> str:
    """Return the name of the array met as number ``number``: a to z, then aa, bb and so on.

    Examples
    --------
    >>> letters(0), letters(25), letters(27)
    ('a', 'z', 'bb')
    """
    return "abcdefghijklmnopqrstuvwxyz"[number % 26] * (number // 26 + 1)


def operations_of(region: Region) -> tuple[str, ...]:
    """Return the names of the operations of ``region``, its reductions last."""
    names = [instruction.row.name for instruction in region.program]
    return (*names, *[reducing.row.name for reducing in region.reductions])


def result_dtype(region: Region) -> str:
    """Return the dtype of what ``region`` is for: its reduction, else its last stored value."""
    if region.reducing is not None:
        return str(region.reducing.dtype)
    if region.output_layouts:
        return str(region.output_layouts[-1].dtype)
    return str(register_dtypes(region)[-1])


def reason_class(decision: Decision) -> str:
    """Return why the backend was chosen, without prices: like decisions count together."""
    prices = ", ".join([str(estimate) for estimate in decision.estimates])
    return decision.reason.removesuffix(prices).removesuffix(": ")


def account_of(
    region: Region,
    work: Work,
    decision: Decision,
    inputs: Mapping[int, InputName] | None = None,
    results: Sequence[str] = (),
) -> KernelAccount:
    """Return the account of a kernel.

    Parameters
    ----------
    region, work, decision : Region, Work, Decision
        The kernel, what it does, and where it runs.
    inputs : mapping, optional
        What is known of each input register.
    results : sequence of str
        Name of each output; ``r1``, ``r2`` ... where none are given.
    """
    named = _names_of(region) if inputs is None else inputs
    count = len(region.outputs) + len(region.reductions)
    stored = tuple(results) or tuple(f"r{i + 1}" for i in range(count))
    moves = _moves(work, decision.estimate.device)
    reads = tuple(
        _buffer(region, region.inputs[r], named[r], moves.get(r, "")) for r in reading_order(region)
    )
    writes = [
        _buffer(region, layout, InputName(name, "result"))
        for layout, name in zip(region.output_layouts, stored, strict=False)
    ]
    made = stored[len(stored) - len(region.reductions) :]
    writes += [_reduced(one, name) for one, name in zip(region.reductions, made, strict=True)]
    texts = {register: one.value or one.name for register, one in named.items()}
    return KernelAccount(
        operations=operations_of(region),
        program=write_program(region, texts, stored),
        shape=region.shape,
        dtype=result_dtype(region),
        reads=reads,
        writes=tuple(writes),
        bytes_read=work.bytes_read,
        bytes_written=work.bytes_written,
        bytes_fresh=work.bytes_fresh,
        border=region.border,
        ends=_ENDS.get(region.border, region.border),
        backend=decision.backend,
        reason=reason_class(decision),
        prices=tuple(_price(estimate) for estimate in decision.estimates),
        refused=decision.refused,
        measured=decision.measured,
        engines=decision.engines,
        better=None if decision.better is None else _price(decision.better),
        bytes_moved=work.to_device if decision.estimate.device else work.to_host,
    )


def _moves(work: Work, on_device: bool) -> dict[int, str]:
    """Return what becomes of each input register that is not just where it is wanted."""
    words = {"host": "to the device"} if on_device else {"device": "home"}
    if on_device:
        words.update(both="there", device="there")
    return {r: words[state] for r, state in enumerate(work.states) if state in words}


def record_account(record: KernelRecord) -> KernelAccount:
    """Return the account of a kernel that ran."""
    return replace(
        account_of(record.region, record.work, record.decision),
        measured=record.seconds,
        ran=True,
        fp_errors=tuple(sorted(record.fp_errors)),
        verified=record.verified,
    )


def fallback_account(record: FallbackRecord) -> FallbackAccount:
    """Return the account of an operation that was left to NumPy."""
    return FallbackAccount(record.name, record.reason, record.seconds)


def _names_of(region: Region) -> dict[int, InputName]:
    """Name inputs of which nothing but the layout is known."""
    names: dict[int, InputName] = {}
    arrays = constants = 0
    for register in reading_order(region):
        if region.inputs[register].shape == ():
            constants += 1
            names[register] = InputName(f"c{constants}", "constant")
        else:
            names[register] = InputName(letters(arrays), "array")
            arrays += 1
    return names


def _buffer(region: Region, layout: Layout, known: InputName, move: str = "") -> BufferAccount:
    if layout.shape not in ((), region.shape):
        walk = "broadcast"
    else:
        walk = "contiguous" if layout.contiguous else "strided"
    nbytes = math.prod(layout.shape) * layout.dtype.itemsize
    shape = layout.shape if known.shape is None else known.shape
    return BufferAccount(
        known.name, known.role, str(layout.dtype), shape, nbytes, walk, known.value, move
    )


def _reduced(reducing: Reducing, name: str) -> BufferAccount:
    shape = tuple(extent for axis, extent in enumerate(reducing.shape) if axis not in reducing.axes)
    nbytes = math.prod(shape) * reducing.dtype.itemsize
    return BufferAccount(name, "reduction", str(reducing.dtype), shape, nbytes, "contiguous")


def _price(estimate: Estimate) -> Price:
    terms = {name: value for name, value in estimate.terms if name != "correction"}
    return Price(
        estimate.backend, estimate.seconds, estimate.run, terms, estimate.correction,
        estimate.bound, estimate.engine, estimate.device,
    )  # fmt: skip


def as_data(value: Any) -> Any:
    """Return dataclasses as dicts and tuples as lists: what JSON gives back as it took it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_data(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_data(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [as_data(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no infinity
    return value
