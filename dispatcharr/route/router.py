"""Which backend gets a kernel: the cheapest that can run it, unless the user said otherwise.

A device gets one whose data is on the host only where it would be cheaper by a margin, the way home
of the results included, or where ``moving`` says that it is time to move.

A decision keeps every price and every refusal, so that it can be explained afterwards. A forced
backend that refuses a kernel does not fail the program: the cheapest other one runs it, and the
reason says so. Equal prices go to the candidate named first.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import numpy

from dispatcharr._errors import BackendUnavailableError
from dispatcharr.backends.base import Backend, Profile, Rates, label
from dispatcharr.kernels import native
from dispatcharr.plan.work import Work
from dispatcharr.route.correct import Corrections, keep_at_exit
from dispatcharr.route.decision import UNBUILT, Decision
from dispatcharr.route.floors import numpy_seconds, solve_chain, solve_defer, solve_trial
from dispatcharr.route.moving import placed, waited_for
from dispatcharr.route.price import Estimate, price

__all__ = [
    "Decision", "chain_floor", "choose", "defer_floor", "learn", "numpy_seconds",
    "trial_floor",
]  # fmt: skip

Candidates = Sequence[tuple[Backend, str | None]]

#: Decisions kept per profile. Programs repeat themselves; those that do not start over now and
#: then.
_REMEMBERED = 4096


class _Desk:
    """What is remembered for one profile: rates, corrections, decisions."""

    __slots__ = ("chains", "corrections", "decisions", "floors", "profile", "rates", "trials")

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.corrections = Corrections(profile)
        self.rates: dict[tuple[str, bool, bool], Rates] = {}
        self.decisions: dict[tuple[object, ...], Decision] = {}
        self.floors: dict[tuple[str, str, bool], int] = {}
        self.chains: dict[tuple[str, str], int] = {}
        self.trials: dict[tuple[str, str], int] = {}
        keep_at_exit(self.corrections, profile)

    def rates_of(self, backend: Backend, built: bool, awake: bool = False) -> Rates:
        found = self.rates.get((label(backend), built, awake))
        if found is None:
            found = backend.rates(self.profile)
            if built:
                found = replace(found, compile=0.0)
            if awake:
                found = replace(found, wake=min(found.wake, found.awake))
            self.rates[label(backend), built, awake] = found
        return found

    def way_home(self, candidates: Candidates) -> Rates | None:
        """Return the rates of the device that data is brought home from."""
        found = [self.rates_of(backend, True) for backend, _ in candidates]
        return next((rates for rates in found if rates.device), None)

    def ratio(self, backend: Backend, able: Sequence[Backend], key: str) -> float:
        siblings = [
            label(other) for other in able if other is not backend and other.place == backend.place
        ]
        return self.corrections.ratio(label(backend), key, siblings)


_desks: list[_Desk] = []
_DESKS = 8


def _desk(profile: Profile) -> _Desk:
    # By identity of a profile that the desk keeps alive; programs have one, tests a few.
    for desk in _desks:
        if desk.profile is profile:
            return desk
    desk = _Desk(profile)
    _desks.insert(0, desk)
    del _desks[_DESKS:]
    return desk


def choose(
    work: Work,
    candidates: Candidates,
    profile: Profile,
    forced: str | None = None,
    built: Set[str] = frozenset(),
    going: bool | None = None,
    awake: bool = False,
) -> Decision:
    """Return which backend is to run ``work``, and why.

    Parameters
    ----------
    work : Work
        The counted kernel.
    candidates : sequence of (Backend, str or None)
        Every backend, with its refusal of this kernel or None.
    profile : Profile
        The machine.
    forced : str, optional
        Name of the backend that the user asked for.
    built : set of str
        Labels of backends that need not compile this kernel any more.
    going : bool, optional
        Whether a device is to run it, data or not; where it is not said, one does if that pays in
        one run.
    awake : bool
        Whether kernels follow each other so closely that helpers are found awake.

    Raises
    ------
    BackendUnavailableError
        A ValueError: ``forced`` is not among the candidates, or all of them refuse.
    """
    desk = _desk(profile)
    able = [backend for backend, refusal in candidates if refusal is None]
    ratios = tuple([desk.ratio(backend, able, work.key) for backend in able])
    answers = tuple([(label(backend), refusal) for backend, refusal in candidates])
    key = (work, forced, ratios, frozenset(built), answers, going, awake)
    found = desk.decisions.get(key)
    if found is None:
        found = _decide(desk, work, candidates, able, ratios, forced, built, going, awake)
        if len(desk.decisions) >= _REMEMBERED:
            desk.decisions.clear()
        desk.decisions[key] = found
    return found


def _decide(
    desk: _Desk,
    work: Work,
    candidates: Candidates,
    able: Sequence[Backend],
    ratios: tuple[float, ...],
    forced: str | None,
    built: Set[str],
    going: bool | None,
    awake: bool,
) -> Decision:
    names = {backend.name for backend in able}
    # A backend with another engine has not refused.
    refused = {b.name: why for b, why in candidates if why is not None and b.name not in names}
    engines = {label(b): why for b, why in candidates if why is not None and b.name in names}
    if forced is not None or not able:
        _check_choice(tuple(refused.items()), able, forced)
    estimates: list[Estimate] = []
    unbuilt: list[Estimate] = []
    home = desk.way_home(candidates) if work.to_host else None
    for backend, ratio in zip(able, ratios, strict=True):
        rates = desk.rates_of(backend, label(backend) in built, awake)
        if home is not None and not rates.device:
            rates = replace(rates, transfer=home.home, copy=home.copy)
        found = price(work, backend.name, rates, ratio, getattr(backend, "engine", ""))
        # What is built in the background cannot run now, whatever it costs.
        orders = rates.compile > 0 and hasattr(backend, "order")
        (unbuilt if orders else estimates).append(found)
    estimates, unbuilt = waited_for(estimates, unbuilt, not work.to_host, forced)
    estimates.sort(key=_seconds)
    best = {found.backend: found for found in reversed(estimates)}
    if forced in best:
        chosen, note = best[forced], ""
    else:
        chosen, note = placed(estimates, going)
    late = [found.backend for found in unbuilt if found.backend not in best]
    refused.update({name: "; ".join([UNBUILT, *_of_engines(engines, name)]) for name in late})
    better = [e for e in unbuilt if _gains(e, chosen) and forced in (None, e.backend)]
    return Decision(
        chosen.backend,
        tuple(sorted(best.values(), key=_seconds)),
        tuple(refused.items()),
        forced,
        engines=tuple(engines.items()),
        better=min(better, key=_run, default=None),
        note=note,
    )


def _of_engines(reasons: Mapping[str, str], backend: str) -> list[str]:
    """Return why the other engines of a backend do not run it."""
    return [f"{name}: {why}" for name, why in reasons.items() if name.split("/")[0] == backend]


def _gains(late: Estimate, chosen: Estimate) -> bool:
    """Return whether it would be the faster one once it is built, where the data is now."""
    if late.device:  # data may stay there, see ``moving``
        return late.run < chosen.run
    return late.run + late.term("transfer") < chosen.run + chosen.term("transfer")


def _run(estimate: Estimate) -> float:
    return estimate.run


def _seconds(estimate: Estimate) -> float:
    return estimate.seconds


def _check_choice(
    refused: Sequence[tuple[str, str]], able: Sequence[Backend], forced: str | None
) -> None:
    names = [backend.name for backend in able] + [name for name, _ in refused]
    if forced is not None and forced not in names:
        raise BackendUnavailableError(
            f"choose: no backend {forced!r}; there are {', '.join(names) or 'none'}"
        )
    if not able:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused) or "none was found"
        raise BackendUnavailableError(f"choose: no backend can run this kernel ({reasons})")


def learn(decision: Decision, work: Work, profile: Profile, measured: float | None) -> Decision:
    """Take in what the run took, and return the decision with it.

    Parameters
    ----------
    decision : Decision
        Of :func:`choose` for this ``work`` and ``profile``.
    measured : float or None
        Wall seconds of ``Backend.run`` alone; None where nobody waited for a device to be done.
    """
    if measured is None:
        return decision
    _desk(profile).corrections.learn(work.key, decision.estimate, measured)
    return replace(decision, measured=measured)


def defer_floor(cost_class: str, dtype: numpy.dtype, profile: Profile, built: bool = True) -> int:
    """Return from how many bytes of an operand on it pays to plan a single operation.

    That is where the planned path (recorded, planned, shared out among the threads) is predicted to
    beat plain NumPy by a tenth, or by a quarter where the prices are shipped ones; or, where
    neither threads nor a compiled loop can do that, where planning costs less than four hundredths
    of the operation. Both are solved from the prices, once per profile. Unless it is ``built``, a
    compiled loop of the operation is not counted on.
    """
    floors = _desk(profile).floors
    key = cost_class, dtype.char, built
    found = floors.get(key)
    if found is None:
        found = floors[key] = solve_defer(cost_class, dtype, profile, built)
    return found


def trial_floor(cost_class: str, dtype: numpy.dtype, profile: Profile) -> int:
    """Return from how many bytes of an operand on a compiled loop of an operation is worth a trial.

    The clock will say whether it pays, so that the forecast may hope: that planning takes as long
    as repeating a plan, and that the prices of the class are those of the operation. Where there is
    none, nowhere.
    """
    desk = _desk(profile)
    found = desk.trials.get((cost_class, dtype.char))
    if found is None:
        found = desk.trials[cost_class, dtype.char] = solve_trial(cost_class, dtype, profile)
    return found


def chain_floor(cost_class: str, dtype: numpy.dtype, profile: Profile) -> int:
    """Return from how many bytes of an operand on an operation and a sum of its result pay.

    That is where repeating the plan of both and one compiled loop are predicted to take a tenth
    less than plain NumPy; a quarter where the prices are shipped ones. Where nothing is compiled,
    nowhere.
    """
    if native.missing() is not None:
        return sys.maxsize
    floors = _desk(profile).chains
    found = floors.get((cost_class, dtype.char))
    if found is None:
        found = floors[cost_class, dtype.char] = solve_chain(cost_class, dtype, profile)
    return found
