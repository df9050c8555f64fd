"""From which size on something pays, solved from the prices: per cost class and dtype."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy

from dispatcharr.backends.base import Profile, Rates, host_rates
from dispatcharr.kernels import native
from dispatcharr.plan.work import Work
from dispatcharr.route.price import price
from dispatcharr.storage.pool import SYSTEM_RECYCLES, recycled

__all__ = ["numpy_seconds", "solve_chain", "solve_defer", "solve_trial"]

# How sure the forecast has to be before an operation is made to wait, and how much waiting may
# cost where threads cannot win it back and a neighbour may yet be fused with it, which is so of
# what makes arrays. Shares, not sizes: the sizes follow from the prices.
_GAIN = {"calibrated": 0.10, "defaults": 0.25}
_LOSS = 0.04
#: The same where a compiled loop is to be had in time and NumPy's computes longer than it moves
#: memory: then there is little to be fused, and much to be lost by threads that make NumPy's calls.
_LOSS_UNBUILT = 0.02
#: Where the search begins and ends, in elements.
_SMALLEST, _LARGEST = 1 << 6, 1 << 32


def numpy_seconds(cost_class: str, dtype: numpy.dtype, profile: Profile, nbytes: int) -> float:
    """Return what NumPy is priced at for an operation on so many bytes of an operand."""
    rates = replace(host_rates(profile, "serial"), overhead=0.0, call=0.0)
    return price(_single(cost_class, dtype, max(nbytes // dtype.itemsize, 1)), "", rates).seconds


def solve_defer(cost_class: str, dtype: numpy.dtype, profile: Profile, built: bool) -> int:
    """Return from how many bytes on a single operation is worth planning: see ``router``."""
    numpy_rates = replace(host_rates(profile, "serial"), overhead=0.0, call=0.0)
    loops = _loops(cost_class, dtype, profile)
    ways = list(loops) if built else []
    if profile.threads > 1:
        ways.append(host_rates(profile, "threads"))
    planning = profile.overhead["record"] + profile.overhead["plan"]
    alone = planning + profile.overhead["run"]
    gain = _GAIN.get(profile.source, _GAIN["defaults"])

    def pays(elements: int) -> bool:
        work = _single(cost_class, dtype, elements)
        fresh = 0 if work.bytes_written < SYSTEM_RECYCLES else work.bytes_written
        found = price(replace(work, bytes_fresh=fresh), "", numpy_rates)
        plain = found.seconds
        if loops and not built and found.bound == "compute":
            return alone <= _LOSS_UNBUILT * plain
        if alone <= _LOSS * plain and work.reduction is None:
            return True
        least = min([price(work, "", rates).seconds for rates in ways], default=math.inf)
        return planning + least <= (1.0 - gain) * plain

    return dtype.itemsize * _least(pays)


def solve_trial(cost_class: str, dtype: numpy.dtype, profile: Profile) -> int:
    """Return from how many bytes on a compiled loop is worth a trial: see ``router``."""
    loops = _loops(cost_class, dtype, profile, hoping=True)
    if not loops:
        return sys.maxsize
    numpy_rates = replace(host_rates(profile, "serial"), overhead=0.0, call=0.0)
    planning = profile.overhead.get("replay", profile.overhead["plan"])

    def pays(elements: int) -> bool:
        work = _single(cost_class, dtype, elements)
        plain = price(replace(work, bytes_fresh=0), "", numpy_rates).seconds
        least = min([price(work, "", rates).seconds for rates in loops])
        return planning + least <= (1.0 - _GAIN["calibrated"]) * plain

    return dtype.itemsize * _least(pays)


#: Reductions that NumPy goes over its operand more than once for, and a compiled loop does not.
_SEVERAL_PASSES = frozenset({"reduce_moments"})


def _loops(
    cost_class: str, dtype: numpy.dtype, profile: Profile, hoping: bool = False
) -> list[Rates]:
    """Return the rates of loops compiled for an operation; none where NumPy's own serves it.

    That is so of most reductions, unless one is ``hoping`` that the prices say it better.
    """
    compiles = dtype.char in profile.compiled.get(cost_class, {})
    if not hoping and cost_class.startswith("reduce_") and cost_class not in _SEVERAL_PASSES:
        compiles = False
    if not compiles or native.missing() is not None:
        return []
    return [
        replace(host_rates(profile, crew, "compiled"), compile=0.0)
        for crew in ("serial", "threads")[: profile.threads]
    ]


def solve_chain(cost_class: str, dtype: numpy.dtype, profile: Profile) -> int:
    """Return from how many bytes on an operation and a sum of its result pay: see ``router``."""
    numpy_rates = replace(host_rates(profile, "serial"), overhead=0.0, call=0.0)
    loops = _loops(cost_class, dtype, profile)
    known = profile.overhead
    planning = known.get("replay", 2 * known["record"] + known["plan"])
    gain = _GAIN.get(profile.source, _GAIN["defaults"])

    def pays(elements: int) -> bool:
        work = _single(cost_class, dtype, elements)
        other = replace(work, ops=(("arith", dtype.char),))
        both = replace(work, ops=(*work.ops, *other.ops))
        plain = sum([price(one, "", numpy_rates).seconds for one in (work, other)])
        fused = min([price(both, "", rates).seconds for rates in loops], default=math.inf)
        return planning + fused <= (1.0 - gain) * plain

    return dtype.itemsize * _least(pays)


def _least(pays: Callable[[int], bool]) -> int:
    """Return the number of elements from which on something pays, to two digits or so."""
    high = _SMALLEST
    while high < _LARGEST and not pays(high):
        high *= 2
    low = high // 2
    while high - low > high // 64:
        middle = (low + high) // 2
        if pays(middle):
            high = middle
        else:
            low = middle
    return high


def _single(cost_class: str, dtype: numpy.dtype, elements: int) -> Work:
    """Return the work of one operation on ``dtype`` into fresh memory."""
    size = dtype.itemsize * elements
    step = (cost_class, dtype.char)
    reduces = cost_class.startswith("reduce_")
    written = dtype.itemsize if reduces else size
    return Work(
        elements=elements,
        bytes_read=size,
        bytes_written=written,
        bytes_fresh=0 if recycled(written) else written,
        ops=() if reduces else (step,),
        reduction=step if reduces else None,
        contiguous=True,
        key="",
    )
