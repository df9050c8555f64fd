"""Timing side by side: contenders take turns, so that a busy machine harms all of them alike.

In each round every contender is timed once, in an order that is drawn anew, so that nobody always
inherits the caches from the same predecessor. Who is short is repeated within a sample until the
clock is precise, and runs unmeasured before it, since the contender before has used the caches and
other threads. Threads of that contender may go on looking out for work, some for milliseconds, on
cores that the next one needs: it begins when they have come to rest.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["Contender", "Pace", "Turns", "take_turns"]

Scope = Callable[[], AbstractContextManager[Any]]

#: Who takes longer than this brings its own warmth.
_COLD = 2e-2
#: Seconds in which other threads of this process may compute for a tenth, to be at rest, and how
#: long that is waited for.
_GLANCE, _LONGEST_WAIT = 2e-4, 0.25


@dataclass(frozen=True)
class Contender:
    """Somebody to be timed.

    Attributes
    ----------
    name : str
        As it is shown.
    run : callable
        Computes once, without arguments, and returns the finished result.
    scope : callable
        Returns a context manager, entered around each sample outside of the measured time.
    """

    name: str
    run: Callable[[], Any]
    scope: Scope = nullcontext

    def once(self) -> Any:
        """Return the result."""
        with self.scope():
            return self.run()

    def seconds(self, loops: int, warm: bool = False) -> float:
        """Return the mean time of ``loops`` runs."""
        run, repeats = self.run, range(loops)
        with self.scope():
            if warm:
                run()
            start = time.perf_counter()
            for _ in repeats:
                run()
            return (time.perf_counter() - start) / loops


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Attributes
    ----------
    budget : float
        Seconds for all contenders and rounds together, within ``least`` and ``most``.
    sample : float
        Shortest sample in seconds.
    least, most : int
        Bounds of the number of rounds, which come first.
    """

    budget: float
    sample: float = 5e-4
    least: int = 5
    most: int = 25


@dataclass(frozen=True)
class Turns:
    """The times measured: one row per round, one column per contender, in seconds.

    Examples
    --------
    >>> turns = Turns(("a", "b"), ((1.0, 2.0), (1.1, 2.2), (0.9, 1.8)))
    >>> turns.typical("b"), round(turns.ratio("a", "b"), 3)
    (2.0, 0.5)
    """

    names: tuple[str, ...]
    rounds: tuple[tuple[float, ...], ...]

    def column(self, name: str) -> list[float]:
        """Return the times of one contender."""
        at = self.names.index(name)
        return [row[at] for row in self.rounds]

    def typical(self, name: str) -> float:
        """Return the median time of one contender."""
        return median(self.column(name))

    def ratio(self, name: str, other: str) -> float:
        """Return the median over the rounds of a contender's time over another's."""
        pairs = zip(self.column(name), self.column(other), strict=True)
        return median(mine / theirs for mine, theirs in pairs)

    def regret(self, name: str, others: Sequence[str]) -> float:
        """Return a contender's time over that of the best of the others.

        Which one is best is decided on one half of the rounds and the ratio is taken on the other
        half, both ways. Taking the smaller of two noisy medians, and comparing with that same
        number, would call every choice between equals a mistake by the size of the noise.
        """
        even, odd = Turns(self.names, self.rounds[::2]), Turns(self.names, self.rounds[1::2])
        if not odd.rounds:
            odd = even
        ratios = (
            judging.ratio(name, min(others, key=choosing.typical))
            for choosing, judging in ((even, odd), (odd, even))
        )
        return math.sqrt(math.prod(ratios))


def _rest() -> None:
    """Wait until no other thread of this process computes; not asleep, which would cool the CPU."""
    end = time.perf_counter() + _LONGEST_WAIT
    others = math.inf
    while others > 0.1 * _GLANCE and time.perf_counter() < end:
        before = time.process_time() - time.thread_time()
        soon = time.perf_counter() + _GLANCE
        while time.perf_counter() < soon:
            pass
        others = time.process_time() - time.thread_time() - before


def take_turns(contenders: Sequence[Contender], pace: Pace) -> Turns:
    """Time the contenders, which are warm, in turn, round by round."""
    guesses = [max(one.seconds(1, warm=True), 1e-8) for one in contenders]
    loops = [max(math.ceil(pace.sample / guess), 1) for guess in guesses]
    warm = [guess < _COLD for guess in guesses]
    once = sum(guess * (n + w) for guess, n, w in zip(guesses, loops, warm, strict=True))
    rounds = min(max(int(pace.budget / once), pace.least), pace.most)
    rows = []
    order = random.Random(len(contenders))
    for _ in range(rounds):
        row = [0.0] * len(contenders)
        for at in order.sample(range(len(contenders)), len(contenders)):
            _rest()
            row[at] = contenders[at].seconds(loops[at], warm[at])
        rows.append(tuple(row))
    return Turns(tuple(one.name for one in contenders), tuple(rows))
