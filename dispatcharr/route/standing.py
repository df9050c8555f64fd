"""Decisions in use: which backend runs a region now, remembered while nothing changes.

A decision is made anew every few milliseconds of a kernel's time, when an option changes, and when
a better kernel has been built. That is a ski-rental problem (see ``ski``): every run credits what
the better kernel would have saved, to an account for loading it and to one for building it. Regions
of other extents that the same kernel serves share the accounts, and have the kernel at once.

Where a device is in use there is a decision for each set of places that the buffers are in, and
each run is credited to the region's ledger for moving data (see ``moving``).
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy

from dispatcharr import _config
from dispatcharr._config import Options
from dispatcharr.backends import registry
from dispatcharr.backends.base import Backend, label
from dispatcharr.kernels import crew
from dispatcharr.plan.region import Region
from dispatcharr.plan.work import Whereabouts, Work, located, whereabouts
from dispatcharr.route import profile as profiles
from dispatcharr.route import router
from dispatcharr.route.moving import Ledger, departed, trade_of
from dispatcharr.route.rents import Rent, rent_of, runs_stood_for, want
from dispatcharr.storage import places

__all__ = [
    "DECIDED_BY",
    "Standing",
    "able",
    "bar",
    "forget",
    "quarantine",
    "route",
    "settled",
    "standing",
]

#: Seconds of kernel time after which a decision is made anew: it then costs under 2 %.
_DECIDING = 2e-3
#: Share of the kernels' time that asking may cost, and most runs that do not ask for that reason.
_SHARE, _MOST_UNASKED = 0.02, 256
#: Decisions kept for one region, by where its buffers are.
_MOST_PLACES = 64

_Arrays = Sequence[numpy.ndarray]
_standing: weakref.WeakKeyDictionary[Region, Standing] = weakref.WeakKeyDictionary()
#: The same where a device is in use.
_located: weakref.WeakKeyDictionary[Region, _Located] = weakref.WeakKeyDictionary()
#: What is not asked for a kernel any more, by label, with the reason.
_barred: weakref.WeakKeyDictionary[Region, dict[str, str]] = weakref.WeakKeyDictionary()
#: Kernels that disagreed with NumPy, by who ran them: they outlive their regions. They are not
#: bounded: each has been warned of.
_quarantined: set[tuple[str, Hashable]] = set()
#: Another one whenever somebody is to be asked for a kernel no more.
_era = object()
#: What a decision was made on: names of modules, and context variables.
DECIDED_BY: tuple[Any, ...] = (
    (globals(), "_era"), *profiles.DECIDED_BY, *registry.DECIDED_BY, *_config.DECIDED_BY,
)  # fmt: skip
_WRONG = "it disagreed with NumPy on this kernel"


def bar(region: Region, reasons: Mapping[str, str]) -> None:
    """Ask the labelled backends for ``region`` no more, for these reasons."""
    if reasons:
        _barred.setdefault(region, {}).update(reasons)
        forget(region)


def quarantine(region: Region, backend: Backend, inputs: _Arrays, outputs: _Arrays) -> None:
    """Ask ``backend`` no more for the kernel of ``region``, whatever region needs it."""
    who = label(backend)
    name = _names((backend,), region, inputs, outputs).get(who)
    _quarantined.add((who, name or _form(region)))
    bar(region, {who: _WRONG})
    _standing.clear()
    _located.clear()


def _keep_out(backends: Sequence[Backend], region: Region, names: Mapping[str, Hashable]) -> None:
    """Bar those whose kernels for ``region`` are in quarantine."""
    for one in backends:
        who = label(one)
        if (who, names.get(who) or _form(region)) in _quarantined:
            _barred.setdefault(region, {})[who] = _WRONG


def _form(region: Region) -> Hashable:
    """Return what is computed, without where and of how many: names kernels that have no name."""
    reducing = region.reducing
    reduced = reducing and (reducing.row, reducing.reads, reducing.state_dtype, reducing.dtype)
    layouts = tuple([(layout.dtype, len(layout.shape)) for layout in region.inputs])
    program = tuple([(i.row, i.operands, i.dtypes) for i in region.program])
    return layouts, program, region.outputs, reduced


def forget(region: Region) -> None:
    """Decide on ``region`` anew when it is next run."""
    global _era
    _era = object()
    _standing.pop(region, None)
    kept = _located.get(region)
    if kept is not None:
        kept.stands.clear()


class Standing:
    """A decision in use: deciding again is worth it only now and then for short kernels.

    ``better`` is who would run the region faster once it has a kernel, and ``saving`` by how much.
    ``trade`` is what is to be weighed where both the host and a device can run it.
    """

    __slots__ = (
        "asked", "backend", "better", "candidates", "decision", "due", "every", "profile",
        "rent",
        "saving", "trade", "work",
    )  # fmt: skip

    def __init__(
        self,
        region: Region,
        work: Work,
        chosen: Options,
        barred: Mapping[str, str] | None = None,
        buffers: tuple[_Arrays, _Arrays] | None = None,
        going: bool | None = None,
    ) -> None:
        self.work = work
        self.asked = chosen.backend, chosen.engine
        self.profile = profiles.current(chosen.threads)
        self.candidates = registry.candidates()
        # First of all: what is told of its buffers is asked for its kernel by the decision.
        names = {} if buffers is None else _names(self.candidates, region, *buffers)
        if _quarantined:
            _keep_out(self.candidates, region, names)
        self.decision, self.backend = route(region, work, chosen, barred, going)
        self.trade = trade_of(self.decision.estimates) if self.decision.forced is None else None
        if buffers is not None and self.decision.estimate.device:
            if self.decision.estimate.term("compile") and not _is_built(self.backend, region):
                _order(self.backend, region, *buffers, wait=True)
        self.every = max(int(_DECIDING / max(self.decision.expected, 1e-7)), 1)
        self.due = self.every
        self.better, self.saving = self.backend, 0.0
        self.rent: Rent | None = None
        better = self.decision.better
        if better is not None and buffers is not None:
            self.better = _labelled(self.candidates, better.label)
            self.saving = self.decision.predicted - better.run
            name = names.get(better.label, weakref.ref(region))
            known = self.profile.overhead
            build = better.term("compile") if better.device else known["compile"]
            self.rent = rent_of(name, known["load"], build)

    def holds(self, chosen: Options) -> bool:
        """Return whether nothing that was decided on has changed."""
        return self.due > 1 and self.is_for(chosen)

    def is_for(self, chosen: Options) -> bool:
        """Return whether options, prices and backends are what they were."""
        return (
            self.asked == (chosen.backend, chosen.engine)
            and self.profile is profiles.current(chosen.threads)
            and self.candidates is registry.candidates()
        )

    def take(self, cost: float = 0.0) -> int:
        """Return how many runs need not ask, and count them as run.

        ``cost`` is what asking has cost this time: long programs are dear to decide on.
        """
        worth = int(cost / (_SHARE * max(self.decision.expected, 1e-7)))
        runs = max(self.due - 1, min(worth, _MOST_UNASKED))
        self.due = 1
        return runs

    def pay(self, rent: Rent, region: Region, inputs: _Arrays, outputs: _Arrays) -> bool:
        """Credit one run to both accounts, pay what is due, and say whether the kernel is there."""
        saving = self.saving * runs_stood_for()
        if rent.load.credit(saving):
            _order(self.better, region, inputs, outputs, stored=True)
        rent.build.credit(saving)
        if rent.load.bought and _is_built(self.better, region):
            return True
        want(rent)
        if rent.build.bought:
            # Again and again: an order is dropped while the kernel is being looked for on disk.
            _order(self.better, region, inputs, outputs)
        return False


def _names(
    backends: Sequence[Backend], region: Region, inputs: _Arrays, outputs: _Arrays
) -> dict[str, Hashable]:
    """Return the names of the kernels for such buffers, by label."""
    found = {}
    for one in backends:
        ask = getattr(one, "kernel", None)
        name = None if ask is None else ask(region, inputs, outputs)
        if name is not None:
            found[label(one)] = name
    return found


class _Located:
    """Decisions in use for one region, by where its buffers are and whether a device has it."""

    __slots__ = ("ledger", "stands")

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.stands: dict[tuple[Whereabouts, bool | None], Standing] = {}

    def find(
        self,
        where: Whereabouts,
        going: bool | None,
        region: Region,
        work: Work,
        chosen: Options,
        buffers: tuple[_Arrays, _Arrays],
    ) -> Standing:
        """Return the decision in use."""
        before = self.stands.get((where, going))
        if before is not None and before.rent is None and before.holds(chosen):
            before.due -= 1
            return before
        if len(self.stands) >= _MOST_PLACES:
            self.stands.clear()
        found = _in_use(before, region, located(work, where), chosen, buffers, going)
        self.stands[where, going] = found
        return found


def standing(
    region: Region, work: Work, chosen: Options, inputs: _Arrays, outputs: _Arrays
) -> Standing:
    """Return the decision in use for a kernel that is about to run on these buffers."""
    if not places.enabled():
        before = _standing.get(region)
        if before is not None and before.rent is None and before.holds(chosen):
            before.due -= 1
            return before
        found = _in_use(before, region, work, chosen, (inputs, outputs), None)
        if found is not before:
            _standing[region] = found
        return found
    buffers = inputs, outputs
    kept = _located.get(region)
    if kept is None:
        kept = _located[region] = _Located()
    where = whereabouts(inputs, outputs)
    found = kept.find(where, None, region, work, chosen, buffers)
    trade = found.trade
    if trade is None:
        return found
    going = kept.ledger.goes(trade)
    if going is not found.decision.estimate.device:
        found = kept.find(where, going, region, work, chosen, buffers)
    if going:
        departed(kept.ledger, trade, inputs, outputs)
    return found


def _in_use(
    found: Standing | None,
    region: Region,
    work: Work,
    chosen: Options,
    buffers: tuple[_Arrays, _Arrays],
    going: bool | None,
) -> Standing:
    """Return the decision that was ``found`` if it still holds, else one made now."""
    if found is not None and found.holds(chosen):
        found.due -= 1
    else:
        engine, _ = _engine(region, chosen)
        if engine != "auto":
            for one in registry.candidates():
                if getattr(one, "engine", "") == engine and one.supports(region) is None:
                    _order(one, region, *buffers, wait=True)
        found = Standing(region, work, chosen, None, buffers, going)
    if found.rent is not None and found.pay(found.rent, region, *buffers):
        found = Standing(region, work, chosen, None, buffers, going)
    return found


def settled(region: Region, chosen: Options) -> Standing | None:
    """Return the decision in use if it will not change for some runs, None if each has to ask.

    Where a device is in use, or a better kernel is being saved for, every run has to be told of.
    """
    found = _standing.get(region)
    if found is None or places.enabled() or found.rent is not None or not found.is_for(chosen):
        return None
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
    """Have a kernel loaded or built; where it never can be, ask that backend no more."""
    if label(backend) in _barred.get(region, {}):
        return
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
    region: Region,
    work: Work,
    chosen: Options,
    failed: Mapping[str, str] | None = None,
    going: bool | None = None,
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
    going : bool, optional
        Whether a device is to run it; where it is not said, one does if that pays in one run.
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
    engine, why = _engine(region, chosen)
    if engine != "auto":
        refusals = _only(engine, why, backends, refusals)
    candidates = list(zip(backends, refusals, strict=True))
    profile = profiles.current(chosen.threads)
    decision = router.choose(work, candidates, profile, forced, built, going, crew.is_awake())
    if failed:
        decision = replace(decision, failed=tuple(failed.items()))
    return decision, _labelled(backends, decision.estimate.label)


def _engine(region: Region, chosen: Options) -> tuple[str, str]:
    """Return the engine that ``region`` waits for, and why the others do not run it."""
    if chosen.engine == "auto" and any(getattr(i.row, "body", None) for i in region.program):
        return "compiled", "a function of the user's is faster to compile than to have run by numba"
    return chosen.engine, f"the engine {chosen.engine!r} was asked for"


def _only(
    engine: str, why: str, backends: Sequence[Backend], refusals: Sequence[str | None]
) -> list[str | None]:
    """Return the refusals once an engine is waited for: others step back where it can run."""
    able = {
        one.name
        for one, refusal in zip(backends, refusals, strict=True)
        if refusal is None and getattr(one, "engine", "") == engine
    }
    return [
        refusal or (why if one.name in able and getattr(one, "engine", "") != engine else None)
        for one, refusal in zip(backends, refusals, strict=True)
    ]
