"""Rent or buy: when to pay once for what saves a little each time.

Compiling a kernel and moving data to a device cost now and pay off later, if at all. Each use for
which it would have been faster to have paid before credits its saving to an account; the use whose
saving fills the account pays the price and has the benefit at once.

The bound: let S be the sum of all savings and P the price. Who knows the future pays min(S, P). The
account forgoes less than P before it buys and pays P when it does, so it pays S while S < P and
less than 2 P afterwards: never more than twice as much, whatever comes.
"""

from __future__ import annotations

import math
import threading

from dispatcharr._forks import shared

__all__ = ["Account"]


class Account:
    """Savings forgone so far, against the price of having them.

    Parameters
    ----------
    price : float
        Seconds to be paid once; 0 buys at the first use that saves anything.

    Examples
    --------
    >>> account = Account(price=1.0)
    >>> [account.credit(0.4) for _ in range(4)]
    [False, False, True, False]
    """

    __slots__ = ("_lock", "balance", "bought", "price")

    def __init__(self, price: float) -> None:
        if not (price >= 0 and math.isfinite(price)):
            raise ValueError(
                f"Account: price must be seconds, finite and at least 0, got {price!r}"
            )
        self.price = price
        self.balance = 0.0
        self.bought = False
        self._lock = shared(threading.Lock())

    def credit(self, saving: float) -> bool:
        """Credit what this use would save, and return whether it is to buy now.

        To be asked before the use, which then has the benefit already: crediting afterwards would
        void the bound, since one use may save any amount. A negative or undefined saving is none.
        Of several threads exactly one is told to buy, and nobody after it.
        """
        if not saving > 0:
            return False
        with self._lock:
            if self.bought:
                return False
            self.balance += saving
            self.bought = self.balance >= self.price
            return self.bought

    def lose(self) -> None:
        """Note that what was bought is gone (evicted, refused): the account begins anew."""
        with self._lock:
            self.balance = 0.0
            self.bought = False
