"""Our own contenders: the automatic path, and every backend and engine by force."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy

import dispatcharr
from dispatcharr import _events
from dispatcharr.backends import registry
from dispatcharr.backends.base import Backend, Profile, label
from dispatcharr.bench.expressions import Expression, under
from dispatcharr.bench.turns import Contender
from dispatcharr.kernels.build import shared_builder
from dispatcharr.route import profile as profiles

__all__ = [
    "AUTO", "DIRECT", "Decided", "Scopes", "decided", "forced_names", "prepare", "scopes",
    "wait_for_kernels",
]  # fmt: skip

#: Name of the automatic path among the contenders.
AUTO = "auto"
#: What it chose where nothing was planned: too small, so that NumPy computed it at once.
DIRECT = "direct"

Scopes = dict[str, Callable[[], AbstractContextManager[Any]]]


@contextmanager
def scopes() -> Iterator[Scopes]:
    """Give the scope of each of our contenders; nothing outlives it in the user's profile.

    Forced runs go by a copy of the profile: what they teach must not help the automatic path.
    """
    profile = replace(profiles.current(), path=None)
    taught = replace(profile)
    forced = {
        label(backend): partial(_forced, backend, taught) for backend in registry.candidates()
    }
    yield {AUTO: partial(profiles.use, profile), **forced}


@contextmanager
def _forced(backend: Backend, taught: Profile) -> Iterator[None]:
    engine = getattr(backend, "engine", "auto")
    with (
        profiles.use(taught),
        dispatcharr.use_backend(backend.name),
        dispatcharr.dispatch_options(engine=engine),
    ):
        yield


def forced_names() -> list[str]:
    """Return the names of the forced contenders."""
    return [label(backend) for backend in registry.candidates()]


def prepare(expression: Expression, arrays: Sequence[numpy.ndarray]) -> Callable[[], Any]:
    """Return what computes a fresh result on arrays of our own."""
    compute = under(expression.compute, dispatcharr)
    # Arrays of its own: what NumPy could still see would not be deferred.
    operands = [dispatcharr.array(array) for array in arrays]

    def run() -> Any:
        result = compute(*operands)
        # As in a program: what is there already is not asked for.
        if not isinstance(getattr(result, "_form", None), numpy.ndarray | None):
            dispatcharr.evaluate(result)
        return result

    return run


@dataclass(frozen=True)
class Decided:
    """Where an expression ran.

    Attributes
    ----------
    label : str
        Backend and engine of its longest kernel; :data:`DIRECT` where none was planned.
    kernels : int
        How many kernels it took.
    predicted : float or None
        Seconds predicted for all of them.
    used : frozenset of str
        Backends and engines of all of them.
    refused : tuple of (str, str)
        Backends and engines that cannot run the longest kernel, each with its reason.
    """

    label: str
    kernels: int
    predicted: float | None
    used: frozenset[str] = frozenset()
    refused: tuple[tuple[str, str], ...] = ()

    def why_not(self, name: str) -> str:
        """Return why it did not run on the backend and engine ``name``."""
        if self.label == DIRECT:
            return "too small to be planned"
        reasons = dict(self.refused)
        reason = reasons.get(name) or reasons.get(name.partition("/")[0])
        return f"{self.label} ran it" + (f": {reason}" if reason else "")


def decided(contender: Contender) -> Decided:
    """Run once and return where it ran."""
    heard: list[Any] = []
    with _events.listening(heard.append):
        contender.once()
    kernels = [one for one in heard if isinstance(one, _events.KernelRecord)]
    if not kernels:
        return Decided(DIRECT, 0, None)
    longest = max(kernels, key=lambda one: one.seconds or one.decision.predicted)
    predicted = sum(one.decision.predicted for one in kernels)
    decision = longest.decision
    refused = (*decision.refused, *decision.engines)
    used = frozenset(one.decision.estimate.label for one in kernels)
    return Decided(decision.estimate.label, len(kernels), predicted, used, refused)


def wait_for_kernels() -> None:
    """Wait until what was ordered is built, so that timing finds it ready."""
    shared_builder().wait(60.0)
