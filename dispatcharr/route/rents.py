"""What kernels that are not built yet would have saved: an account for each, kept by its name."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dispatcharr.route.ski import Account

__all__ = ["Rent", "noting_wants", "rent_of", "runs_stood_for", "standing_for", "want"]

#: Kernels whose accounts are kept. Programs repeat themselves; those that do not start over now
#: and then.
_MOST_RENTS = 1024
#: By the name of the kernel; without a name, by a reference to the region.
_rents: dict[Hashable, Rent] = {}
_runs: ContextVar[float] = ContextVar("dispatcharr_runs_stood_for", default=1.0)
#: Where names of kernels go that were found wanting.
_wanting: ContextVar[list[Hashable] | None] = ContextVar("dispatcharr_wanting", default=None)


class Rent:
    """What a kernel that is not built yet would have saved, against the price of having it.

    Two prices: that of loading it, if an earlier process built it, and that of building it. All
    regions that it would serve, and whatever crew would run it there, pay in.
    """

    __slots__ = ("build", "load", "name")

    def __init__(self, name: Hashable, load: float, build: float) -> None:
        self.name = name
        self.load = Account(load)
        self.build = Account(build)


def rent_of(name: Hashable, load: float, build: float) -> Rent:
    """Return the accounts of the kernel of that name."""
    rent = _rents.get(name)
    if rent is None:
        if len(_rents) >= _MOST_RENTS:
            _rents.clear()
        rent = _rents[name] = Rent(name, load, build)
    return rent


@contextmanager
def standing_for(runs: float) -> Iterator[None]:
    """Have each run inside count as so many, most of which NumPy served for want of the kernel."""
    token = _runs.set(runs)
    try:
        yield
    finally:
        _runs.reset(token)


@contextmanager
def noting_wants() -> Iterator[list[Hashable]]:
    """Give a list, in which the names of kernels are put that runs inside are still without."""
    wanting: list[Hashable] = []
    token = _wanting.set(wanting)
    try:
        yield wanting
    finally:
        _wanting.reset(token)


def want(rent: Rent) -> None:
    """Note that a run was without the kernel of an account."""
    wanting = _wanting.get()
    if wanting is not None:
        wanting.append(rent.name)


def runs_stood_for() -> float:
    """Return how many runs the one that goes on stands for."""
    return _runs.get()
