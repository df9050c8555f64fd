"""Work times rates: what one kernel would take on one backend, in named terms.

Every term is in seconds and comes from the rates; there is no other number in here. The model of a
kernel over ``n`` elements:

- ``overhead``, ``launch``, ``compile``: as the rates say; a reduction on a device has a second
  launch. ``transfer``: the bytes still to be moved, to the device or home, and what each copy takes
  besides. ``sync``: what waiting for a device takes where the result is read at once.
- ``wake``: once, where the kernel is long enough to be shared out.
- ``calls``: the blocks engine makes one NumPy call per instruction and block. A single instruction
  without a reduction needs no temporaries and so is one call per thread, whatever its length, and
  is shared out evenly. NumPy holds the interpreter's lock between its loops, so the calls of all
  threads queue: they are not divided.
- ``memory``: bytes touched at the bandwidth of the smallest level that holds them all. L1 and L2
  belong to a core, so as many of them count as there are threads at work. Bandwidth counts what
  is read and written; a store to memory also reads the line first, and what streams its results
  spares that: :data:`SPARED` of the bytes written.
- ``compute``: the op costs, shared by the threads at work. A block is never split.
- ``fault``: fresh pages, which the system clears before the kernel can write to them. Most results
  get memory that earlier ones left and have none.
- ``overlap``, negative: within one loop memory and compute hide each other, so that the longer one
  counts. The blocks engine makes a loop of each of its k instructions, and hides one k-th part of
  the shorter one. (Measured: four to six operations on large arrays take 1.5 to 2 times the
  longer one, and 0.9 to 1.2 times this.)

The learned correction multiplies what depends on the kernel's length (calls, fault, memory,
compute, overlap) and leaves alone what is paid whatever its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from dispatcharr.backends.base import Rates
from dispatcharr.plan.work import Work
from dispatcharr.route.defaults import OP_SECONDS

__all__ = ["SPARED", "TERMS", "Estimate", "duration", "op_seconds", "price"]

TERMS = (
    "overhead",
    "wake",
    "calls",
    "memory",
    "compute",
    "overlap",
    "fault",
    "transfer",
    "launch",
    "sync",
    "compile",
    "correction",
)

OpTable = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one kernel would take on one backend.

    Attributes
    ----------
    backend : str
        Name of the backend.
    parts : tuple of float
        Seconds of each of :data:`TERMS`, uncorrected, and last ``correction``, the factor.
    seconds : float
        The total.
    bound : {"memory", "compute"}
        Which of the two is the longer one and counts in full.
    run : float
        The part of the total that a clock around ``Backend.run`` sees: all but transfers and
        compilation.
    sized : float
        The uncorrected part that grows with the kernel, to which the correction applies.
    engine : str
        How the backend would run the kernel's body; empty where it has one way.
    device : bool
        Whether the backend is a device.
    back : float
        Seconds that the results would take to the host; in no total, since nobody may want them.
    margin : float
        Share of the host's price that a device may ask at most before data is moved there.
    """

    backend: str
    parts: tuple[float, ...]
    seconds: float
    bound: str
    run: float
    sized: float
    engine: str = ""
    device: bool = False
    back: float = 0.0
    margin: float = 1.0

    @property
    def label(self) -> str:
        """The backend's name and its engine."""
        return f"{self.backend}/{self.engine}" if self.engine else self.backend

    @property
    def terms(self) -> tuple[tuple[str, float], ...]:
        """The parts with their names; ``overlap``, what memory and compute hide, is negative."""
        return tuple(zip(TERMS, self.parts, strict=True))

    def term(self, name: str) -> float:
        """Return one part by name."""
        return self.parts[TERMS.index(name)]

    @property
    def once(self) -> float:
        """The part of the total that later runs need not pay: transfers and compilation."""
        return self.term("transfer") + self.term("compile")

    @property
    def correction(self) -> float:
        """The learned factor that is in this estimate."""
        return self.parts[-1]

    def __str__(self) -> str:
        return f"{self.backend} {duration(self.seconds)}"


def price(
    work: Work, backend: str, rates: Rates, correction: float = 1.0, engine: str = ""
) -> Estimate:
    """Return what ``work`` would take on a backend with these rates.

    Parameters
    ----------
    work : Work
        The counted kernel.
    backend : str
        Name to put on the estimate.
    rates : Rates
        The backend's speeds.
    correction : float
        Learned ratio of measured to predicted time for this kind of kernel.
    engine : str
        Engine to put on the estimate.
    """
    elements = work.elements
    steps = work.ops if work.reduction is None else (*work.ops, work.reduction)
    # What the thread with most to do has to do: elements on the critical path.
    share = elements / rates.parallel
    block = _block_elements(work, steps, rates)
    if block:
        share = max(share, min(elements, block))
    lanes = elements / share if share else 1.0
    rounds = -(-elements // block) if block else lanes

    wake = rates.wake if lanes > 1 else 0.0
    calls = rates.call * len(steps) * rounds
    memory = _memory_seconds(work, rates, lanes)
    compute = share * sum([op_seconds(rates.op, cost, dtype) for cost, dtype in steps])
    fault = work.bytes_fresh * rates.fault
    transfer = _transfer_seconds(work, rates)
    launch = rates.launch + (rates.again if work.reduction is not None else 0.0)
    sync = rates.sync if work.scalar else 0.0

    loops = max(len(steps), 1) if block else 1
    overlap = -min(memory, compute) / loops
    sized = calls + fault + memory + compute + overlap
    run = rates.overhead + wake + launch + sync + correction * sized
    parts = (
        rates.overhead, wake, calls, memory, compute, overlap, fault, transfer, launch, sync,
        rates.compile, correction,
    )  # fmt: skip
    return Estimate(
        backend=backend,
        parts=parts,
        seconds=transfer + rates.compile + run,
        bound="memory" if memory > compute else "compute",
        run=run,
        sized=sized,
        engine=engine,
        device=rates.device,
        back=work.bytes_written / rates.home + rates.copy if work.bytes_written else 0.0,
        margin=rates.margin,
    )


def _transfer_seconds(work: Work, rates: Rates) -> float:
    moved = work.to_device if rates.device else work.to_host
    if not moved:
        return 0.0
    copies = max(work.states.count("host" if rates.device else "device"), 1)
    return moved / rates.transfer + copies * rates.copy


def _block_elements(work: Work, steps: tuple[tuple[str, str], ...], rates: Rates) -> int:
    """Return the elements of a block, 0 where the work is not cut into blocks."""
    size = rates.block_bytes
    if work.reduction is not None:
        if not work.ops and rates.reduce_elements:
            return rates.reduce_elements
        size = rates.reduce_bytes or size
    elif len(work.ops) == 1:
        return 0
    widest = max([_ITEMSIZE.get(dtype, 8) for _, dtype in steps], default=8)
    return max(size // widest, 1) if size else 0


#: Bandwidth is that of loops which read three arrays and write two, so seven for five go by.
SPARED = 5 / 7


def _memory_seconds(work: Work, rates: Rates, lanes: float) -> float:
    touched: float = work.bytes_touched
    own = lanes if rates.block_bytes else 1.0
    level = "memory"
    for name, size in rates.cache_bytes.items():
        if touched <= (size * own if name in _OWN_LEVELS else size):
            level = name
            break
    if rates.streams and level == "memory" and work.contiguous and work.reduction is None:
        touched -= SPARED * work.bytes_written
    # Bandwidths were measured with every thread at work; fewer of them draw less.
    return touched / (rates.bandwidth[level] * lanes / rates.parallel)


_OWN_LEVELS = frozenset({"L1", "L2"})
_ITEMSIZE = {char: numpy.dtype(char).itemsize for char in "?bBhHiIlLqQefdFD"}


def op_seconds(table: OpTable, cost: str, dtype: str) -> float:
    """Return seconds per element of an operation, a neighbour's where it was not measured.

    The same cost class of the nearest dtype, scaled by width; where the class is unknown too, the
    shipped figure of that class, scaled by how this table's arithmetic compares to the shipped one.
    A class that nobody knows counts as the dearest of the common ones, ``special``.
    """
    try:
        return table[cost][dtype]
    except KeyError:
        return _neighbour(table, cost, dtype)


def _neighbour(table: OpTable, cost: str, dtype: str) -> float:
    row = table.get(cost)
    if row:
        nearest = min(row, key=lambda other: _distance(dtype, other))
        return row[nearest] * _ITEMSIZE.get(dtype, 8) / _ITEMSIZE.get(nearest, 8)
    shipped = OP_SECONDS.get(cost) or OP_SECONDS["special"]
    speed = 1.0
    if table.get("arith"):
        speed = op_seconds(table, "arith", "d") / OP_SECONDS["arith"]["d"]
    return op_seconds({cost: shipped}, cost, dtype) * speed


def _distance(wanted: str, other: str) -> tuple[bool, float, str]:
    """Order dtypes by how alike their loops are: the kind first, then the width."""
    kind_differs = _kind(wanted) != _kind(other)
    width, other_width = _ITEMSIZE.get(wanted, 8), _ITEMSIZE.get(other, 8)
    return kind_differs, max(width, other_width) / min(width, other_width), other


def _kind(dtype: str) -> str:
    kind = numpy.dtype(dtype).kind if dtype in _ITEMSIZE else "f"
    return {"u": "i", "b": "i"}.get(kind, kind)


def duration(seconds: float) -> str:
    """Return a time as people write it, to two digits.

    Examples
    --------
    >>> duration(0.00312), duration(4.2e-5), duration(2.0), duration(0.0)
    ('3.1 ms', '42 us', '2 s', '0 s')
    """
    if seconds == 0:
        return "0 s"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds / 1e-9)} ns"


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
