"""Decisions in use: which backend runs a region now, remembered while nothing changes.

A decision is made anew every few milliseconds of a kernel's time, when an option changes, and when
a better kernel has been built. That is a ski-rental problem (see ``ski``): every run credits what
the better kernel would have saved, to an account for loading it and to one for building it.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence

import numpy

from dispatcharr._config import Options
from dispatcharr.backends import registry
from dispatcharr.backends.base import Backend, label
from dispatcharr.plan.region import Region
from dispatcharr.plan.work import Work
from dispatcharr.route import profile as profiles
from dispatcharr.route import router
from dispatcharr.route.price import Estimate
from dispatcharr.route.ski import Account

__all__ = ["Standing", "able", "bar", "forget", "route", "standing"]

#: Seconds of kernel time after which a decision is made anew: it then costs under 2 %.
_DECIDING = 2e-3

_Arrays = Sequence[numpy.ndarray]
_standing: weakref.WeakKeyDictionary[Region, Standing] = weakref.WeakKeyDictionary()
_rents: weakref.WeakKeyDictionary[Region, _Rent] = weakref.WeakKeyDictionary()
#: What is not asked for a kernel any more, by label, with the reason.
_barred: weakref.WeakKeyDictionary[Region, dict[str, str]] = weakref.WeakKeyDictionary()


def bar(region: Region, reasons: Mapping[str, str]) -> None:
    """Ask the labelled backends for ``region`` no more, for these reasons."""
    if reasons:
        _barred.setdefault(region, {}).update(reasons)
        forget(region)


def forget(region: Region) -> None:
    """Decide on ``region`` anew when it is next run."""
    _standing.pop(region, None)


class Standing:
    """A decision in use: deciding again is worth it only now and then for short kernels."""

    __slots__ = (
        "asked", "backend", "candidates", "decision", "due", "every", "profile", "rent",
    )  # fmt: skip

    def __init__(
        self, region: Region, work: Work, chosen: Options, barred: Mapping[str, str] | None = None
    ) -> None:
        self.asked = chosen.backend, chosen.engine
        self.profile = profiles.current(chosen.threads)
        self.candidates = registry.candidates()
        self.decision, self.backend = route(region, work, chosen, barred)
        self.every = max(int(_DECIDING / max(self.decision.expected, 1e-7)), 1)
        self.due = self.every
        better = self.decision.better
        self.rent = None if better is None else _rent(region, self, better)

    def holds(self, chosen: Options) -> bool:
        """Return whether nothing that was decided on has changed."""
        return (
            self.due > 1
            and self.asked == (chosen.backend, chosen.engine)
            and self.profile is profiles.current(chosen.threads)
            and self.candidates is registry.candidates()
        )


class _Rent:
    """What a kernel that is not built yet would have saved, against the price of having it.

    Two prices: that of loading it, if an earlier process built it, and that of building it.
    """

    __slots__ = ("backend", "build", "load", "saving")

    def __init__(self, backend: Backend, load: float, build: float) -> None:
        self.backend = backend
        self.load = Account(load)
        self.build = Account(build)
        self.saving = 0.0

    def use(self, region: Region, inputs: _Arrays, outputs: _Arrays) -> bool:
        """Credit one run to both accounts, pay what is due, and say whether the kernel is there."""
        for account, stored in ((self.load, True), (self.build, False)):
            if account.credit(self.saving):
                _order(self.backend, region, inputs, outputs, stored=stored)
        return self.load.bought and _is_built(self.backend, region)


def _rent(region: Region, made: Standing, better: Estimate) -> _Rent:
    rent = _rents.get(region)
    if rent is None or label(rent.backend) != better.label:
        backend = _labelled(made.candidates, better.label)
        # Whatever crew runs it, the kernel is the same one.
        overhead = made.profile.overhead
        rent = _rents[region] = _Rent(backend, overhead["load"], overhead["compile"])
    rent.saving = made.decision.predicted - better.run
    return rent


def standing(
    region: Region, work: Work, chosen: Options, inputs: _Arrays, outputs: _Arrays
) -> Standing:
    """Return the decision in use for a kernel that is about to run on these buffers."""
    found = _standing.get(region)
    if found is not None and found.holds(chosen):
        found.due -= 1
    else:
        if chosen.engine != "auto":
            for one in registry.candidates():
                if getattr(one, "engine", "") == chosen.engine and one.supports(region) is None:
                    _order(one, region, inputs, outputs, wait=True)
        found = _standing[region] = Standing(region, work, chosen)
    if found.rent is not None and found.rent.use(region, inputs, outputs):
        found = _standing[region] = Standing(region, work, chosen)
    return found


def able(region: Region) -> list[Backend]:
    """Return the backends that can run ``region`` now, whether or not the user wants them to."""
    return [
        one
        for one in registry.candidates()
        if one.supports(region) is None and _is_built(one, region)
    ]


def _order(
    backend: Backend, region: Region, inputs: _Arrays, outputs: _Arrays, **how: bool
) -> None:
    order = getattr(backend, "order", None)
    never = None if order is None else order(region, inputs, outputs, **how)
    if never is not None:
        _barred.setdefault(region, {})[label(backend)] = never


def _is_built(backend: Backend, region: Region) -> bool:
    ready = getattr(backend, "ready", None)
    return ready is None or bool(ready(region))


def _labelled(backends: Sequence[Backend], wanted: str) -> Backend:
    return next(one for one in backends if label(one) == wanted)


def route(
    region: Region, work: Work, chosen: Options, failed: Mapping[str, str] | None = None
) -> tuple[router.Decision, Backend]:
    """Return the decision on ``region``, and the backend, made now.

    Parameters
    ----------
    region, work : Region and Work
        The kernel, and what it does.
    chosen : Options
        What the user has said.
    failed : mapping, optional
        Labels of backends that cannot run it, with the reasons.
    """
    backends = registry.candidates()
    forced = None if chosen.backend == "auto" else chosen.backend
    if forced is not None:
        asked = registry.engines_of(registry.backend(forced))
        backends = [*asked, *[one for one in backends if one not in asked]]
    barred = {**_barred.get(region, {}), **(failed or {})}
    if len(barred) >= len(backends):
        barred = dict(failed or {})
    refusals = [barred.get(label(one)) or one.supports(region) for one in backends]
    built = {label(one) for one in backends if _is_built(one, region)}
    if chosen.engine != "auto":
        refusals = _only(chosen.engine, backends, refusals)
    candidates = list(zip(backends, refusals, strict=True))
    decision = router.choose(work, candidates, profiles.current(chosen.threads), forced, built)
    return decision, _labelled(backends, decision.estimate.label)


def _only(
    engine: str, backends: Sequence[Backend], refusals: Sequence[str | None]
) -> list[str | None]:
    """Return the refusals once an engine was asked for: others step back where it can run."""
    able = {
        one.name
        for one, refusal in zip(backends, refusals, strict=True)
        if refusal is None and getattr(one, "engine", "") == engine
    }
    return [
        refusal
        or (
            f"the engine {engine!r} was asked for"
            if one.name in able and getattr(one, "engine", "") != engine
            else None
        )
        for one, refusal in zip(backends, refusals, strict=True)
    ]
