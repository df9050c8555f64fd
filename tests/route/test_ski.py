"""Rent or buy: never more than twice what the future would have advised."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcharr.route.ski import Account

SAVINGS = st.lists(st.floats(0.0, 100.0), max_size=60)
PRICES = st.floats(0.0, 200.0)


def pay(price: float, savings: list[float]) -> float:
    """Return what the account's owner pays: what is forgone before buying, and the price."""
    account = Account(price)
    paid = 0.0
    for saving in savings:
        if account.credit(saving):
            paid += price
        elif not account.bought:
            paid += saving
    return paid


@given(price=PRICES, savings=SAVINGS)
def test_never_more_than_twice_the_clairvoyant(price, savings):
    clairvoyant = min(sum(savings), price)
    assert pay(price, savings) <= 2 * clairvoyant + 1e-9


@given(price=st.floats(0.01, 10.0), saving=st.floats(0.001, 100.0))
def test_the_bound_holds_on_the_worst_trace(price, saving):
    """The adversary stops as soon as it has been paid."""
    savings = [saving] * (math.ceil(price / saving) + 1)
    assert pay(price, savings) <= 2 * min(sum(savings), price) + 1e-9


def test_too_few_uses_never_buy():
    account = Account(1.0)
    assert not any(account.credit(0.1) for _ in range(9))
    assert pay(1.0, [0.1] * 9) == pytest.approx(0.9)


def test_buys_once_at_the_use_that_fills_the_account():
    account = Account(1.0)
    assert [account.credit(0.4) for _ in range(5)] == [False, False, True, False, False]
    assert account.bought


def test_one_large_saving_buys_before_it_is_forgone():
    assert Account(1.0).credit(50.0)
    assert pay(1.0, [50.0]) == 1.0


@pytest.mark.parametrize("saving", [-5.0, 0.0, math.nan])
def test_a_loss_is_no_saving(saving):
    account = Account(1.0)
    account.credit(0.9)
    assert not account.credit(saving)
    assert account.balance == 0.9


def test_what_was_lost_has_to_be_earned_again():
    account = Account(1.0)
    assert account.credit(1.0)
    account.lose()
    assert not account.credit(0.9)
    assert account.credit(0.1)


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf])
def test_a_price_that_cannot_be_paid_is_refused(price):
    with pytest.raises(ValueError, match="price must be seconds"):
        Account(price)


def test_one_of_many_threads_buys():
    account = Account(100.0)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: account.credit(1.0), range(400)))
    assert sum(answers) == 1
