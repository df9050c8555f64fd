"""Whether data goes to a device, stays there, or comes home: rent or buy, in both directions.

A kernel on the host whose device would have been faster with the inputs there credits the saving to
its ledger; the run whose saving fills it pays for moving, and has the benefit at once (see ``ski``
for the bound). The price is that of moving the inputs, and of the way home of the results, as far
as those of this kernel were wanted at home before.

What a kernel leaves on the device begins a *trip*, and the kernels that take it from there add to
the trip what they save. Where bytes come home, whoever wanted them, the trip pays, and the ledger
of the kernel that began it gets what is left: the next trip may begin at once where this one paid
for itself; where it did not, what was lost has to be earned on the host first, and after each such
trip twice as much. So data that is read on the host each time stays there. Whether the way there
paid is known when it is made again: until then the data may be used there once more.

What is on a device is worked on there, although each kernel on the host would pay for the way home
alone, until results that always come home have cost as much as bringing the inputs home.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy

from dispatcharr.route.price import Estimate
from dispatcharr.storage import places
from dispatcharr.storage.exports import root_of

__all__ = ["Ledger", "Trade", "departed", "placed", "trade_of", "waited_for"]

#: How fast the share of results that come home is learned.
_STEP = 0.25
#: Most that a price is multiplied by after trips that did not pay.
_PATIENCE = 8.0
#: Roots of which it is known that they went on a trip.
_MOST_STAYS = 4096

#: Reentrant: a signal handler may compute.
_lock = threading.RLock()
_stays: dict[int, _Stay] = {}
_observed = False


class Trade(NamedTuple):
    """What one run takes on either side, in seconds.

    Attributes
    ----------
    host, device : float
        With everything in place.
    to_host, to_device : float
        What bringing the inputs there takes, and building the kernel.
    back : float
        What it takes until results on the device are at home.
    margin : float
        Share of the host's price that the device may ask at most.
    compile : float
        The part of ``to_device`` that is paid once and for all.
    """

    host: float
    device: float
    to_host: float
    to_device: float
    back: float
    margin: float
    compile: float = 0.0

    @property
    def moving(self) -> float:
        """What bringing the inputs to the device takes, which each trip pays anew."""
        return self.to_device - self.compile

    def pays(self) -> bool:
        """Return whether the device is cheaper in one run, whatever becomes of the results."""
        here = self.host + self.to_host if self.to_host else self.host * self.margin
        return self.device + self.to_device + self.back <= here


def waited_for(
    estimates: list[Estimate], unbuilt: list[Estimate], at_home: bool, forced: str | None
) -> tuple[list[Estimate], list[Estimate]]:
    """Return what can run now, with what is built first, and what cannot.

    A kernel is waited for where nothing else can run; on a device that was asked for, and on one
    where the data is (``at_home`` is false): to bring that home may cost more.
    """
    if not estimates:  # an engine that has no kernel yet finds another way
        return unbuilt, []
    ran = {found.backend for found in estimates}
    waits = [
        found
        for found in unbuilt
        if found.device and found.backend not in ran and (not at_home or found.backend == forced)
    ]
    return [*estimates, *waits], unbuilt


def trade_of(estimates: Sequence[Estimate]) -> Trade | None:
    """Return what is to be weighed between the host and a device; None where there is no choice."""
    here = [found for found in estimates if not found.device]
    there = [found for found in estimates if found.device]
    if not here or not there:
        return None
    host, device = min(here, key=_seconds), min(there, key=_seconds)
    return Trade(
        host.seconds - host.once,
        device.seconds - device.once,
        host.once,
        device.once,
        device.back,
        device.margin,
        device.term("compile"),
    )


def placed(estimates: Sequence[Estimate], going: bool | None) -> tuple[Estimate, str]:
    """Return the estimate that is chosen, and why where it is not the cheapest one.

    Parameters
    ----------
    estimates : sequence of Estimate
        The cheapest first.
    going : bool or None
        Whether a device is to be chosen; None for where that pays in one run.
    """
    trade = trade_of(estimates)
    if trade is None:
        return estimates[0], ""
    pays = trade.pays()
    goes = pays if going is None else going
    chosen = next(found for found in estimates if found.device is goes)
    if goes and trade.to_device and not pays:
        return chosen, "moving its data pays: earlier runs would have saved what it takes"
    if chosen is estimates[0]:
        return chosen, ""
    if goes:
        return chosen, "its data is on the device, and bringing it home has not paid yet"
    return chosen, "moving its data to a device has not paid yet"


def _seconds(estimate: Estimate) -> float:
    return estimate.seconds


class Ledger:
    """What one kernel knows of moving its data.

    Attributes
    ----------
    balance : float
        Savings forgone on the host since data was last moved; below zero what moving cost in vain.
    price : float
        Of the last move.
    patience : float
        What prices are multiplied by, since moving did not pay.
    returned : float
        Share of its results that came home; at first all are expected to.
    loss : float
        What being on the device has cost more than being at home.
    owed : float
        What moving took and has not brought in since inputs were last brought there.
    """

    __slots__ = ("balance", "loss", "owed", "patience", "price", "returned")

    def __init__(self) -> None:
        self.balance = 0.0
        self.price = 0.0
        self.patience = 1.0
        self.returned = 1.0
        self.loss = 0.0
        self.owed = 0.0

    def goes(self, trade: Trade) -> bool:
        """Credit one run, and return whether it is to be on the device."""
        with _lock:
            price = trade.to_device + self.returned * trade.back
            if trade.to_host:
                if self.loss >= trade.to_host:
                    self.loss = 0.0
                    return False
                saving = trade.host + trade.to_host - trade.device
                self.balance = max(self.balance, 0.0)
            else:
                saving = trade.host * trade.margin - trade.device
                if trade.moving and self.owed > 0:  # the last way there had not paid by now
                    self.owed = 0.0
                    self.patience = min(self.patience * 2.0, _PATIENCE)
                price *= self.patience
            if saving <= 0:
                return False
            self.balance += saving
            if self.balance < price:
                return False
            self.balance, self.price = 0.0, price
            return True

    def promise(self, trade: Trade) -> tuple[float, float]:
        """Return what was credited so far, and what moving costs."""
        price = (trade.to_device + self.returned * trade.back) * self.patience
        return max(self.balance, 0.0), price


class _Trip:
    """Work on a device that began with one kernel's move; ``total`` is what it saved."""

    __slots__ = ("judged", "ledger", "saved", "total")

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.saved = 0.0
        self.total = 0.0
        self.judged = 0

    def settle(self, seconds: float) -> None:
        """Pay for bytes that came home; the lock is held."""
        ledger = self.ledger
        net, self.saved = self.saved - seconds, 0.0
        self.total -= seconds
        ledger.owed += seconds
        most = max(ledger.price, seconds)
        ledger.balance = min(max(ledger.balance + net, -2.0 * most), most)
        judged = 1 if self.total >= 0 else -1
        if judged > 0 and ledger.owed > 0:
            return  # the way there may yet pay: that is known when it is made again
        if judged != self.judged:  # once for a trip, or again where it turned out otherwise
            self.judged = judged
            ledger.owed = min(ledger.owed, 0.0)
            factor = 0.5 if judged > 0 else 2.0
            ledger.patience = min(max(ledger.patience * factor, 1.0), _PATIENCE)


class _Stay:
    """A root on the device: who made it, on which trip, and what its way home takes."""

    __slots__ = ("away", "ledger", "saved", "seconds", "trip")

    def __init__(self, ledger: Ledger, trip: _Trip, seconds: float, saved: float) -> None:
        self.ledger = ledger
        self.trip = trip
        self.seconds = seconds
        self.saved = saved
        self.away = False

    def end(self, came_home: bool) -> None:
        """Learn from where it ended; the lock is held."""
        ledger = self.ledger
        ledger.returned += _STEP * (came_home - ledger.returned)
        ledger.loss = max(ledger.loss + (self.seconds if came_home else 0.0) - self.saved, 0.0)
        if came_home:
            self.trip.settle(self.seconds)


def departed(
    ledger: Ledger,
    trade: Trade,
    inputs: Sequence[numpy.ndarray],
    outputs: Sequence[numpy.ndarray],
) -> None:
    """Note that a kernel is about to run on the device."""
    _observe()
    saved = trade.host - trade.device
    with _lock:
        trip = _trip_of(inputs)
        if trip is None:
            trip = _Trip(ledger)
            if trade.moving:
                ledger.owed = 0.0
        trip.ledger.owed += trade.moving
        trip.saved += saved
        trip.total += saved
        trip.ledger.owed -= saved
        if len(_stays) > _MOST_STAYS:
            _stays.clear()
        total = sum([host.nbytes for host in outputs]) or 1
        for host in outputs:
            key = id(root_of(host))
            before = _stays.get(key)
            share = host.nbytes / total
            made = _stays[key] = _Stay(ledger, trip, trade.back * share, saved * share)
            if before is not None and before.away:
                made.away = True
                before.end(False)


def _trip_of(inputs: Sequence[numpy.ndarray]) -> _Trip | None:
    for host in inputs:
        stay = _stays.get(id(root_of(host)))
        if stay is not None and stay.away and places.is_away(host):
            return stay.trip
    return None


def _observe() -> None:
    global _observed
    if not _observed:
        _observed = True
        places.observe(_noticed)


def _noticed(key: int, number: int) -> None:
    """Hear where a root is: on both sides (1), away (2), or nowhere but at home (0)."""
    stay = _stays.get(key)
    if stay is None:
        return
    if number == 2:
        stay.away = True
    elif stay.away:
        with _lock:
            if _stays.pop(key, None) is stay:
                stay.end(number == 1)


def _in_child() -> None:
    """Begin anew in a forked process: a thread that it lacks may have held the lock."""
    global _lock
    _lock = threading.RLock()
    _stays.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
