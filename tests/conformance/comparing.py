"""What share of NumPy's tests passes, and which failures nobody expects.

A test counts if it passes with NumPy. Listed differences count as failures too: the list says why,
and not that they are none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from running import Outcomes

__all__ = ["Comparison", "Difference", "compare", "known_differences", "unused"]

LIST = Path(__file__).with_name("known_differences.toml")


@dataclass
class Difference:
    """A group of tests that are known to fail, and the reason.

    Attributes
    ----------
    reason : str
        Why they fail.
    tests : list of str
        Their names; a ``*`` at the end stands for all names that begin so.
    modes : list of str
        The modes in which they fail; empty for all.
    sometimes : bool
        Whether they may pass too.
    """

    reason: str
    tests: list[str]
    modes: list[str] = field(default_factory=list)
    sometimes: bool = False

    def covers(self, test: str, mode: str) -> bool:
        """Return whether ``test`` is known to fail in ``mode``."""
        return self.names(test) and (not self.modes or mode in self.modes)

    def names(self, test: str) -> bool:
        """Return whether ``test`` is among those of this group."""
        return any(_matches(pattern, test) for pattern in self.tests)


def _matches(pattern: str, test: str) -> bool:
    return test.startswith(pattern[:-1]) if pattern.endswith("*") else test == pattern


@dataclass
class Comparison:
    """What became of one file's tests in one mode.

    Attributes
    ----------
    total : int
        Tests that pass with NumPy.
    failures : dict
        Those of them that do not pass here, with what they say.
    unlisted : list of str
        Failures that are not on the list.
    planned, waited : int
        Elementwise operations that were planned, and those of them that waited.
    """

    total: int
    failures: dict[str, str]
    unlisted: list[str]
    planned: int = 0
    waited: int = 0

    @property
    def passed(self) -> int:
        """How many of them pass here."""
        return self.total - len(self.failures)


def known_differences(path: Path = LIST) -> list[Difference]:
    """Return the committed list."""
    with path.open("rb") as file:
        return [Difference(**entry) for entry in tomllib.load(file).get("difference", [])]


def compare(numpys: Outcomes, ours: Outcomes, mode: str, known: Iterable[Difference]) -> Comparison:
    """Return how ``ours`` does on what passes with NumPy."""
    wanted = [test for test, outcome in numpys.results.items() if outcome == "passed"]
    failures = {
        test: ours.messages.get(test, "") or ours.results.get(test, "it was not collected")
        for test in wanted
        if ours.results.get(test) not in ("passed", "xpassed")
    }
    known = list(known)
    unlisted = [test for test in failures if not any(d.covers(test, mode) for d in known)]
    return Comparison(len(wanted), failures, unlisted, ours.planned, ours.waited)


def unused(
    known: Iterable[Difference], ran: dict[tuple[str, str], tuple[Outcomes, Comparison]]
) -> list[str]:
    """Return the entries of the list for which nothing failed any more.

    Parameters
    ----------
    known : iterable of Difference
        The list.
    ran : dict
        For each file and mode NumPy's outcomes and the comparison.
    """
    found: list[str] = []
    for difference in known:
        if difference.sometimes:
            continue
        for pattern in difference.tests:
            one = Difference("", [pattern], difference.modes)
            met = failed = False
            for (_, mode), (numpys, comparison) in ran.items():
                met |= any(
                    outcome == "passed" and one.covers(test, mode)
                    for test, outcome in numpys.results.items()
                )
                failed |= any(one.covers(test, mode) for test in comparison.failures)
            if met and not failed:
                found.append(pattern)
    return found
