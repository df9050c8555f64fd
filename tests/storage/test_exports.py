"""Roots, leases and foreign memory."""

from __future__ import annotations

import gc
import mmap
import sys
import weakref
from typing import Any

import numpy
import pytest

from dispatcharr.storage import exports
from dispatcharr.storage.exports import is_visible, lend, mark_foreign, root_of


class Interface:
    """Somebody's object with an interface dictionary, and perhaps a base."""

    def __init__(self, host: numpy.ndarray, base: Any = None) -> None:
        self.__array_interface__ = host.__array_interface__
        self.held = host
        if base is not None:
            self.base = base


def test_an_array_that_owns_its_memory_is_its_own_root() -> None:
    host = numpy.zeros((4, 5))
    assert root_of(host) is host


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[1:],
        lambda a: a[1:][::2].T,
        lambda a: a.view("i8").reshape(-1),
        lambda a: a.view(numpy.recarray),
        lambda a: numpy.asarray(memoryview(a)),
        lambda a: numpy.asarray(memoryview(a))[1:],
        lambda a: numpy.lib.stride_tricks.as_strided(a, (3,), (8,)),
        lambda a: numpy.lib.stride_tricks.as_strided(a[1:], (3,), (8,))[1:],
        lambda a: numpy.broadcast_to(a, (2, 4, 5)),
        lambda a: lend(a),
        lambda a: lend(a[1:])[1:],
        lambda a: numpy.asarray(memoryview(lend(a))),
        lambda a: numpy.asarray(Interface(a, base=a)),
    ],
)
def test_views_lead_to_the_root(view: Any) -> None:
    host = numpy.zeros((4, 5))
    assert root_of(view(host)) is host


def test_memory_of_no_array_ends_at_the_last_array() -> None:
    for made in (
        numpy.frombuffer(bytearray(64)),
        numpy.asarray(memoryview(bytearray(64))),
        numpy.frombuffer(mmap.mmap(-1, 4096), "u1"),
        numpy.asarray(Interface(numpy.zeros(3))),
    ):
        assert root_of(made[1:]) is made
        assert is_visible(made)


def test_fresh_memory_is_unseen() -> None:
    host = numpy.zeros(5)
    assert not is_visible(host)
    part = host[1:]
    assert not is_visible(root_of(part))


def test_foreign_memory_stays_foreign_as_long_as_it_lives() -> None:
    host = numpy.zeros(5)
    mark_foreign(host[1:])
    mark_foreign(host)
    assert is_visible(host)
    key = id(host)
    assert key in exports.foreign_roots
    del host
    gc.collect()
    assert key not in exports.foreign_roots


def test_a_lease_lasts_as_long_as_any_view_of_it() -> None:
    host = numpy.arange(10.0)
    view = lend(host[2:])
    assert is_visible(host)
    further = view[1:].reshape(-1, 1)[::2]
    del view
    assert is_visible(host)
    second = lend(host)
    del further
    assert is_visible(host)
    del second
    assert not is_visible(host)


@pytest.mark.parametrize(
    "host",
    [
        numpy.arange(6.0).reshape(2, 3),
        numpy.arange(6.0).reshape(2, 3).T,
        numpy.arange(12)[::-2],
        numpy.arange(6, dtype=">i4"),
        numpy.array(["a", "bc"]),
        numpy.array(["2020-01-01"], "M8[D]"),
        numpy.zeros(2, [("x", "f8"), ("y", "i1")]),
        numpy.zeros(2, numpy.dtype({"names": ["x"], "formats": ["f4"], "offsets": [4]})),
        numpy.array([1j]),
        numpy.zeros(3, numpy.longdouble),
        numpy.zeros(3, numpy.longlong),
        numpy.array([None, 1]),
        numpy.zeros((0, 3)),
        numpy.array(2.5),
        numpy.zeros(3, "V5"),
    ],
    ids=lambda host: f"{host.dtype} {host.shape}",
)
def test_what_is_lent_is_the_same_array(host: numpy.ndarray) -> None:
    view = lend(host)
    assert view.dtype == host.dtype
    assert view.dtype.char == host.dtype.char
    assert view.shape == host.shape
    assert view.strides == host.strides
    assert numpy.shares_memory(view, host) or host.size == 0
    assert view.tolist() == host.tolist()


def test_what_is_lent_can_be_written_to_as_its_owner_allows() -> None:
    host = numpy.zeros(3)
    lend(host)[1] = 5
    assert host[1] == 5
    host.flags.writeable = False
    assert not lend(host).flags.writeable


def test_objects_and_nothing_are_seen_for_ever() -> None:
    for host in (numpy.array([None]), numpy.zeros((0,))):
        lend(host)
        assert is_visible(host)


def test_lending_again_and_again_registers_nothing_more() -> None:
    host = numpy.zeros(5)
    lend(host)
    before = len(weakref.finalize._registry), sys.getrefcount(host)  # type: ignore[attr-defined]
    for _ in range(100):
        view = lend(host)
        assert is_visible(host)
        del view
        assert not is_visible(host)
    after = len(weakref.finalize._registry), sys.getrefcount(host)  # type: ignore[attr-defined]
    assert after == before


def test_tables_forget_roots_that_die() -> None:
    gc.collect()
    leases, foreign = len(exports.lent_roots), len(exports.foreign_roots)
    for _ in range(50):
        host = numpy.zeros(5)
        lend(host)
        mark_foreign(numpy.zeros(3))
    del host
    gc.collect()
    assert len(exports.lent_roots) == leases
    assert len(exports.foreign_roots) == foreign


def test_a_lease_keeps_the_memory_alive() -> None:
    host = numpy.arange(1000.0)
    view = lend(host)
    del host
    gc.collect()
    assert view.sum() == sum(range(1000))
