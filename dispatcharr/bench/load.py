"""What else the machine was doing: the CPU time that other processes used during a measurement.

On Linux ``/proc/stat`` counts what the CPUs of this process did for anybody, stolen time of a
virtual machine included; what this process and its finished children used is taken off. Elsewhere
nothing is known. Counters tick every 10 ms, so that a block of one second is known to some
hundredths of a core.
"""

from __future__ import annotations

import os
import sys
import time

__all__ = ["DISTURBED", "Load", "is_disturbed"]

#: Cores: a measurement during which others used more is marked, or repeated.
DISTURBED = 0.15
_IDLE = (3, 4)  # columns idle and iowait
_COUNTED = 8  # user to steal; guest time is part of user time already


class Load:
    """Measures what other processes use while a ``with`` block runs.

    Attributes
    ----------
    seconds : float
        How long the block took.
    others : float or None
        Cores used by others; None where the system does not tell.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.others: float | None = None

    def __enter__(self) -> Load:
        self._busy, self._own, self._start = _busy(), _own(), time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.perf_counter() - self._start
        busy, own = _busy(), _own()
        if busy is not None and self._busy is not None and busy > self._busy:
            self.others = max(busy - self._busy - (own - self._own), 0.0) / self.seconds


def is_disturbed(others: float | None) -> bool:
    """Return whether others used so much that the figures are not to be relied on."""
    return others is not None and others > DISTURBED


def _busy() -> float | None:
    """Return CPU seconds used by anybody on this process's CPUs since the machine started."""
    if not sys.platform.startswith("linux"):
        return None
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    try:
        with open("/proc/stat", encoding="ascii") as file:
            for line in file:
                name, *columns = line.split()
                if name in names:
                    counts = [int(column) for column in columns[:_COUNTED]]
                    ticks += sum(counts) - sum(counts[i] for i in _IDLE)
    except OSError:  # a container that hides it
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Return CPU seconds used by this process and its finished children."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system
