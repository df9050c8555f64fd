"""Scans: whether a compiled one pays now, on one thread or on all, and when its kernels are built.

NumPy's time is foreseen from rates of the profile, and so is a kernel's. A kernel that would be
faster and is not there yet is credited with what it would have saved (see ``ski``), to an account
for loading it from disk and to one for building it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr._config import Options
from dispatcharr.backends import serial, threads
from dispatcharr.backends.base import Profile, Rates, host_rates
from dispatcharr.kernels import native
from dispatcharr.kernels.build import shared_builder
from dispatcharr.kernels.pool import shared_pool
from dispatcharr.kernels.scan import Crew, Key
from dispatcharr.route import profile as profiles
from dispatcharr.route.scan_rates import shipped_scans
from dispatcharr.route.ski import Account

__all__ = ["Choice", "Scan", "bar", "choose", "is_served"]

_ALONE, _SHARED = serial.BACKEND.name, threads.BACKEND.name
#: Share of NumPy's predicted time that a kernel may take at most: the rest is for what is not
#: foreseen.
_MARGIN = 0.8
#: Seconds that a call takes beyond its kernels, and one of a kernel.
_CALL, _KERNEL = 25e-6, 6e-6

_accounts: dict[tuple[Key, ...], tuple[Account, Account]] = {}
_barred: set[Key] = set()


@dataclass(slots=True)
class Scan:
    """A call that kernels can answer.

    Attributes
    ----------
    name, dtype : str, numpy.dtype
        Whose rates it has.
    elements : int
        How many there are, in the rates' sense.
    nbytes : int
        Bytes read and written.
    keys : tuple of Key
        Kernels that it takes.
    run : callable
        Computes it with a :class:`Crew`.
    what : tuple
        What is done: words, and what they are of.
    steps : float
        What the rates are multiplied with: steps of a search, for instance.
    out : numpy.ndarray, optional
        What is written to.
    numpy_steps : float, optional
        The same for NumPy's rate, if it differs.
    alone : bool
        Whether one thread has to do it.
    """

    name: str
    dtype: numpy.dtype
    elements: int
    nbytes: int
    keys: tuple[Key, ...]
    run: Callable[[Crew], Any]
    what: tuple[object, ...]
    steps: float = 1.0
    out: numpy.ndarray | None = None
    numpy_steps: float | None = None
    alone: bool = False

    @property
    def account(self) -> str:
        """What is done, in words."""
        return " ".join(map(str, self.what))


@dataclass(frozen=True, slots=True)
class Choice:
    """How a scan would run, and whether it does.

    Attributes
    ----------
    keys : tuple of Key
        The kernels that it takes; empty where there are none.
    saving : float
        Seconds that it is expected to save.
    crew : Crew or None
        Who runs it; None where NumPy is to do it.
    """

    keys: tuple[Key, ...]
    saving: float = 0.0
    crew: Crew | None = None

    @property
    def backend(self) -> str:
        """Where it runs."""
        return _ALONE if self.crew is None or self.crew.threads == 1 else _SHARED

    def waits(self) -> bool:
        """Credit the kernels with one call; return whether there are still none to use."""
        keys = self.keys
        if not keys or self.saving <= 0 or not _barred.isdisjoint(keys):
            return True
        builder = shared_builder()
        if all([builder.ask(key, key.text) is not None for key in keys]):
            return False
        accounts = _accounts.get(keys)
        if accounts is None:
            overhead = profiles.current().overhead
            price = sum([max(overhead["compile"], key.build_seconds) for key in keys])
            made = Account(len(keys) * overhead["load"]), Account(price)
            accounts = _accounts.setdefault(keys, made)
        load, build = accounts
        if load.credit(self.saving):
            for key in keys:
                builder.look(key, key.text)
        if build.credit(self.saving):
            for key in keys:
                builder.ask(key, key.text, buy=True)
        return True


def is_served(chosen: Options) -> bool:
    """Return whether kernels may run under these options: on the host."""
    return chosen.backend in ("auto", _ALONE, _SHARED)


def choose(scan: Scan, chosen: Options) -> Choice:
    """Return how a scan is best computed now.

    Parameters
    ----------
    scan : Scan
        What is to be computed.
    chosen : Options
        The engine ``"compiled"`` waits for kernels, and uses them whatever it costs.
    """
    builder = shared_builder()
    if not _barred.isdisjoint(scan.keys) or any(builder.why_not(key) for key in scan.keys):
        return Choice(())
    profile = profiles.current()
    most = chosen.threads or shared_pool().threads
    if scan.alone or chosen.backend == _ALONE:
        most = 1
    alone = _seconds(scan, profile, 1)
    shared = _seconds(scan, profile, most) if most > 1 else alone
    count = most if shared < alone or chosen.backend == _SHARED else 1
    saving = _MARGIN * _numpy_seconds(scan, profile) - min(alone, shared)
    wait = chosen.engine == "compiled"
    found = _functions(scan.keys, wait)
    if found is None or (saving <= 0 and not wait):
        return Choice(scan.keys, saving)
    return Choice(scan.keys, saving, Crew(found, count))


def _rate(profile: Profile, name: str, dtype: numpy.dtype) -> float:
    table = profile.scans.get(name)
    if table is None:
        table = _SHIPPED[name]
    return table.get(dtype.char, table["*"])


_SHIPPED = shipped_scans()


def _numpy_seconds(scan: Scan, profile: Profile) -> float:
    steps = scan.steps if scan.numpy_steps is None else scan.numpy_steps
    return scan.elements * steps * _rate(profile, f"numpy {scan.name}", scan.dtype)


def _seconds(scan: Scan, profile: Profile, count: int) -> float:
    """Return what kernels are expected to take on so many threads."""
    rates = _rates(profile, _ALONE if count == 1 else _SHARED)
    gain = min(rates.parallel, count)
    compute = scan.elements * scan.steps * _rate(profile, scan.name, scan.dtype) / gain
    level = next((n for n, size in rates.cache_bytes.items() if scan.nbytes <= size), "memory")
    memory = scan.nbytes / rates.bandwidth[level]
    calls = _CALL + len(scan.keys) * (_KERNEL + (rates.wake if count > 1 else 0.0))
    return calls + max(compute, memory)


def _rates(profile: Profile, crew: str) -> Rates:
    held = _held.get(crew)
    if held is None or held[0] is not profile:
        held = _held[crew] = (profile, host_rates(profile, crew))
    return held[1]


#: The speeds of the last profile that was asked for, by who works.
_held: dict[str, tuple[Profile, Rates]] = {}


def _functions(keys: tuple[Key, ...], wait: bool) -> dict[Key, Any] | None:
    builder = shared_builder()
    addresses = [builder.ask(key, key.text, buy=wait) for key in keys]
    if wait and None in addresses:
        builder.wait()
        addresses = [builder.ask(key, key.text) for key in keys]
    if None in addresses:
        return None
    return {key: native.function(at) for key, at in zip(keys, addresses, strict=True) if at}


def bar(keys: tuple[Key, ...]) -> None:
    """Use kernels no more: they were wrong."""
    _barred.update(keys)
