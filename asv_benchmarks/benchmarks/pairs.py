"""Timing side by side: contenders take turns, so that a busy machine harms all of them alike.

Every contender is a statement in a scope of its own (a forced backend, or nothing). In each round
every contender is timed once, in an order that is drawn anew, so that nobody always inherits the
caches from the same predecessor. A statement that is short is repeated within one sample until the
clock is precise, and runs once unmeasured before it, since the contender before has used other
threads. What is compared are times of one round: figures are medians over rounds of their ratios.
"""

from __future__ import annotations

import math
import random
import timeit
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

__all__ = ["Contender", "Pace", "Turns", "take_turns"]

Scope = Callable[[], AbstractContextManager[Any]]

#: A statement that takes longer than this is not repeated to warm up.
_COLD = 5e-3


class Contender:
    """A statement, the names that it uses, and the scope in which it runs.

    Parameters
    ----------
    statement : str
        Python code. It is compiled into the timing loop, which adds some ten nanoseconds to it.
    names : mapping
        Its global names.
    scope : callable
        Returns a context manager, entered around each sample outside of the measured time.
    """

    def __init__(self, statement: str, names: Mapping[str, Any], scope: Scope = nullcontext):
        self._timer = timeit.Timer(statement, globals=dict(names))
        self._scope = scope

    def seconds(self, loops: int, warm: bool = False) -> float:
        """Return the mean time of ``loops`` executions."""
        with self._scope():
            if warm:
                self._timer.timeit(1)
            return self._timer.timeit(loops) / loops


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Attributes
    ----------
    budget : float
        Seconds for all contenders and rounds together, within ``least`` and ``most``.
    sample : float
        Shortest sample in seconds: shorter statements are repeated.
    least, most : int
        Bounds of the number of rounds, which come first.
    """

    budget: float
    sample: float = 3e-4
    least: int = 4
    most: int = 40


@dataclass(frozen=True)
class Turns:
    """The times measured: one row per round, one column per contender, in seconds."""

    rounds: tuple[tuple[float, ...], ...]

    def typical(self, contender: int) -> float:
        """Return the median time of one contender."""
        return median(row[contender] for row in self.rounds)

    def ratio(self, contender: int, other: int) -> float:
        """Return the median over the rounds of a contender's time over another's."""
        return median(row[contender] / row[other] for row in self.rounds)

    def regret(self, others: Sequence[int]) -> float:
        """Return the first contender's time over that of the best of the others.

        Which one is best is decided on one half of the rounds and the ratio is taken on the other
        half, both ways. Taking the smaller of two noisy medians, and comparing with that same
        number, would call every choice between equals a mistake by the size of the noise.
        """
        even, odd = self.rounds[::2], self.rounds[1::2]
        return math.sqrt(_judged(even, odd, others) * _judged(odd, even, others))

    def split(self, count: int) -> list[Turns]:
        """Return the rounds in ``count`` groups, in the order of time."""
        ends = [len(self.rounds) * i // count for i in range(count + 1)]
        return [Turns(self.rounds[a:b]) for a, b in pairwise(ends) if a < b]

    def __add__(self, other: Turns) -> Turns:
        return Turns(self.rounds + other.rounds)


def _judged(
    choosing: Sequence[tuple[float, ...]],
    judging: Sequence[tuple[float, ...]],
    others: Sequence[int],
) -> float:
    best = min(others, key=lambda column: median(row[column] for row in choosing))
    return median(row[0] / row[best] for row in judging)


def take_turns(contenders: Sequence[Contender], pace: Pace) -> Turns:
    """Time the contenders in turn, round by round."""
    guesses = []
    for contender in contenders:
        guess = contender.seconds(1)
        if guess < _COLD:  # the first time, more than the statement may have been in it
            guess = contender.seconds(math.ceil(1e-4 / guess), warm=True)
        guesses.append(max(guess, 1e-8))
    loops = [max(math.ceil(pace.sample / guess), 1) for guess in guesses]
    warm = [guess < _COLD for guess in guesses]
    once = sum(guess * (n + w) for guess, n, w in zip(guesses, loops, warm, strict=True))
    rounds = min(max(int(pace.budget / once), pace.least), pace.most)
    rows = []
    order = random.Random(len(contenders))
    for _ in range(rounds):
        row = [0.0] * len(contenders)
        for column in order.sample(range(len(contenders)), len(contenders)):
            row[column] = contenders[column].seconds(loops[column], warm[column])
        rows.append(tuple(row))
    return Turns(tuple(rows))
