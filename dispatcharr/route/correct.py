"""Learned corrections: what kernels took, over what they were predicted to take.

One ratio per backend and kernel class. The first sample is dropped (cold caches, compilation);
nothing is believed before ten samples; a sample that is more than four times off the running median
of the class is a disturbance and is discarded, but it moves the median, so that a lasting change is
believed in the end. A ratio never leaves [0.25, 4]: what is further off is a fault of the model to
be mended, not learned.

The ratio is of the part that grows with the kernel (``Estimate.sized``): a fixed cost cannot be
wrong by a factor of the work. Where that part is small in a kernel's time the sample says little of
it, and counts as little.

Until a backend has samples of its own in a class, half of a sibling's correction stands in (half of
its logarithm). Backends of one place share their op costs: were one of them corrected alone, an
error in those would send the work to and fro. But the error may be the sibling's own, and were it
taken over whole, the other one would never be tried.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from dispatcharr._forks import shared
from dispatcharr.backends.base import Profile
from dispatcharr.route.price import Estimate
from dispatcharr.route.stored import read, write

__all__ = ["Corrections", "keep_at_exit", "store"]

TRUSTED = 10
DEVIATION = math.log(4.0)
BOUND = math.log(4.0)
CLASSES = 1024
#: Weight of a new sample once the average has settled.
STEP = 0.1
#: A ratio is given out anew when it has moved by this much, so that cached prices stay valid.
NOTICE = 0.05


class _Ratio:
    """The running ratio of one backend and class. All of it is in logarithms but ``given``."""

    __slots__ = ("count", "given", "mean", "recent")

    def __init__(self, ratio: float = 1.0, count: int = -1) -> None:
        self.count = count  # -1: the first sample is still to be dropped
        self.mean = math.log(ratio)
        self.given = ratio
        self.recent: deque[float] = deque(maxlen=2 * TRUSTED + 1)

    def add(self, sample: float, weight: float) -> None:
        self.recent.append(sample)
        if self.count < 0:
            self.count = 0
            self.recent.clear()
            return
        middle = sorted(self.recent)[len(self.recent) // 2]
        if abs(sample - middle) > DEVIATION:
            return
        self.count += 1
        step = max(1.0 / self.count, STEP) * weight
        self.mean += step * (min(max(sample, -BOUND), BOUND) - self.mean)
        now = math.exp(self.mean)
        if self.count == TRUSTED or abs(now / self.given - 1.0) > NOTICE:
            self.given = now


class Corrections:
    """The learned ratios of one profile, at most 1024 of them; the longest unused one goes first.

    Parameters
    ----------
    profile : Profile, optional
        Whose stored ratios to begin with.

    Examples
    --------
    >>> Corrections().ratio("threads", "arith/22")
    1.0
    """

    def __init__(self, profile: Profile | None = None) -> None:
        self._lock = shared(threading.Lock())
        self._ratios: OrderedDict[tuple[str, str], _Ratio] = OrderedDict()
        self.changed = False
        if profile is not None:
            for backend, classes in profile.correction.items():
                for key, ratio in classes.items():
                    self._ratios[backend, key] = _Ratio(ratio, TRUSTED)

    def ratio(self, backend: str, key: str, siblings: Iterable[str] = ()) -> float:
        """Return the factor for a class of kernels on a backend; 1 where nothing is known.

        Parameters
        ----------
        backend, key : str
            Name of the backend and ``Work.key``.
        siblings : iterable of str
            Backends of the same place; half of their correction stands in while there is no own.
        """
        # Read without the lock: a lookup and an attribute, of values that are replaced whole.
        found = self._ratios.get((backend, key))
        if found is not None and found.count >= TRUSTED:
            return found.given
        for sibling in siblings:
            found = self._ratios.get((sibling, key))
            if found is not None and found.count >= TRUSTED:
                return math.sqrt(found.given)
        return 1.0

    def learn(self, key: str, estimate: Estimate, measured: float) -> None:
        """Take in that ``Backend.run`` took ``measured`` seconds, not what ``estimate`` says."""
        if not (0 < measured < math.inf) or estimate.sized <= 0:
            return
        fixed = estimate.run - estimate.correction * estimate.sized
        grown = max(measured - fixed, 0.01 * estimate.sized)
        weight = estimate.sized / (estimate.sized + fixed)
        sample = math.log(grown / estimate.sized)
        where = (estimate.label, key)
        with self._lock:
            entry = self._ratios.get(where)
            if entry is None:
                entry = self._ratios[where] = _Ratio()
                while len(self._ratios) > CLASSES:
                    self._ratios.popitem(last=False)
            else:
                self._ratios.move_to_end(where)
            entry.add(sample, weight)
            self.changed = self.changed or entry.count >= TRUSTED

    def learned(self) -> Mapping[str, Mapping[str, float]]:
        """Return what is trusted, by backend and class, as a profile stores it."""
        found: dict[str, dict[str, float]] = {}
        with self._lock:
            for (backend, key), entry in self._ratios.items():
                if entry.count >= TRUSTED:
                    found.setdefault(backend, {})[key] = math.exp(entry.mean)
        return found

    def __len__(self) -> int:
        return len(self._ratios)


_kept: list[tuple[int, Corrections, Profile]] = []


def keep_at_exit(corrections: Corrections, profile: Profile) -> None:
    """See to it that what ``corrections`` learns is stored with ``profile`` when the process ends.

    Only a calibrated profile that has a file is added to: ratios to shipped figures are about
    those.
    """
    if profile.source != "calibrated" or profile.path is None:
        return
    if not _kept:
        atexit.register(_store_all)
    _kept.append((os.getpid(), corrections, profile))


def _store_all() -> None:
    for process, corrections, profile in _kept:
        if process == os.getpid():  # a forked child's copies are its parent's to store
            store(corrections, profile)


def store(corrections: Corrections, profile: Profile) -> bool:
    """Add what was learned to the profile's file, and return whether that was done.

    The file is read again first: another process may have learned in the meantime, and a profile
    that was measured anew, or with other threads, has no use for ratios to the old one.
    """
    path = profile.path
    if path is None or not corrections.changed:
        return False
    try:
        stored = read(path)
        if stored.op != profile.op or stored.threads != profile.threads:
            return False
        merged = _merged(stored.correction, corrections.learned())
        write(replace(stored, correction=merged), path)
    except (OSError, ValueError):  # the process is ending: what it learned is learned again
        return False
    corrections.changed = False
    return True


def _merged(
    old: Mapping[str, Mapping[str, float]], new: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Return both, the new ratios first in line, cut to the number that is kept."""
    merged = {name: dict(classes) for name, classes in new.items()}
    room = CLASSES - sum(len(classes) for classes in merged.values())
    for name, classes in old.items():
        for key, ratio in classes.items():
            if room > 0 and key not in merged.get(name, {}):
                merged.setdefault(name, {})[key] = ratio
                room -= 1
    return merged
