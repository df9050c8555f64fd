"""Compiled contractions: whether one pays now, and when its kernel is built.

NumPy's own time is foreseen from the number of multiplications. A kernel that would be faster and
is not there yet is credited with what it would have saved (see ``ski``), to an account for loading
it from disk and to one for building it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy

from dispatcharr._config import Options
from dispatcharr.backends import serial, threads
from dispatcharr.kernels.build import shared_builder
from dispatcharr.kernels.contract import Key, prepare
from dispatcharr.kernels.pool import shared_pool
from dispatcharr.route import profile as profiles
from dispatcharr.route.ski import Account

__all__ = ["Choice", "bar", "choose", "numpy_seconds"]

_ALONE, _SHARED = serial.BACKEND.name, threads.BACKEND.name

#: Seconds of NumPy's loops, the best of what was measured (NumPy 2.4, AMD Zen 4): a multiplication;
#: one of einsum's, for each byte of the result's elements; an element of a result of bools, whose
#: sum ends with the first True.
_MULTIPLICATION, _EINSUM_BYTE, _TRUTH = 4.5e-10, 4e-11, 3e-9


class _Accounts(NamedTuple):
    load: Account
    build: Account


_accounts: dict[Key, _Accounts] = {}
_barred: set[Key] = set()


@dataclass(frozen=True, slots=True)
class Choice:
    """How a contraction would run, and whether it does.

    Attributes
    ----------
    key : Key or None
        Of the kernel that it takes; None where there is none.
    saving : float
        Seconds that it is expected to save.
    run : callable or None
        Runs it and returns the backend's name; None where NumPy is to do it.
    """

    key: Key | None
    saving: float = 0.0
    run: Callable[[], str] | None = None

    def waits(self) -> bool:
        """Credit the kernel with one call; return whether there is still none to use."""
        key = self.key
        if key is None or self.saving <= 0 or key in _barred:
            return True
        builder = shared_builder()
        if builder.ask(key, key.text) is not None:
            return False
        accounts = _accounts.get(key)
        if accounts is None:
            overhead = profiles.current().overhead
            price = max(overhead["compile"], key.build_seconds)
            made = _Accounts(Account(overhead["load"]), Account(price))
            accounts = _accounts.setdefault(key, made)
        if accounts.load.credit(self.saving):
            builder.look(key, key.text)
        if accounts.build.credit(self.saving):
            builder.ask(key, key.text, buy=True)
        return True


def numpy_seconds(dtype: numpy.dtype, elements: int, summed: int, einsum: bool) -> float:
    """Return about what NumPy takes, at its best, for ``elements`` sums."""
    if einsum:
        return elements * summed * dtype.itemsize * _EINSUM_BYTE
    if dtype.kind == "b":
        return elements * _TRUTH
    return elements * summed * _MULTIPLICATION


def choose(
    a: numpy.ndarray, b: numpy.ndarray, c: numpy.ndarray, einsum: bool, chosen: Options
) -> Choice:
    """Return how ``c = a @ b`` is best computed now, for stacks of matrices.

    Parameters
    ----------
    a, b, c : numpy.ndarray
        As for :func:`dispatcharr.kernels.contract.prepare`.
    einsum : bool
        Whether it is NumPy's ``einsum`` that would compute it.
    chosen : Options
        The engine ``"compiled"`` waits for the kernel, and uses it whatever it costs.
    """
    if chosen.backend not in ("auto", _ALONE, _SHARED):
        return Choice(None)
    most = 1 if chosen.backend == _ALONE else chosen.threads or shared_pool().threads
    job = prepare(a, b, c, most)
    if job is None or job.key in _barred or shared_builder().why_not(job.key) is not None:
        return Choice(None)
    saving = numpy_seconds(c.dtype, c.size, a.shape[-1], einsum) - job.seconds
    address = _address(job.key, wait=chosen.engine == "compiled")
    if address is None or (saving <= 0 and chosen.engine != "compiled"):
        return Choice(job.key, saving)

    def run() -> str:
        return _ALONE if job.run(address, most) == 1 else _SHARED

    return Choice(job.key, saving, run)


def _address(key: Key, wait: bool) -> int | None:
    builder = shared_builder()
    address = builder.ask(key, key.text, buy=wait)
    if address is None and wait:
        builder.wait()
        address = builder.ask(key, key.text)
    return address


def bar(key: Key) -> None:
    """Use a kernel no more: it was wrong."""
    _barred.add(key)
