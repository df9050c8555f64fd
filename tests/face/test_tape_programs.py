"""Whole programs on the tape: loops, threads, memory, and what is not noted."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import _fastpath, tape
from taping import SIZE, pair, planned, same, waits

__all__ = ["planned"]
pytestmark = pytest.mark.skipif(not _fastpath.COMPILED, reason="only the compiled one has a tape")


def test_copies_pickles_and_references():
    for _ in range(3):
        (x, _), (a, _) = pair()
        ours = a * 2
        reference = weakref.ref(ours)
        same(copy.deepcopy(ours), x * 2)
        same(pickle.loads(pickle.dumps(a * 3)), x * 3)
        del ours
        gc.collect()
        assert reference() is None


def test_long_chains_and_shared_parts():
    (x, _), (a, _) = pair()
    for _ in range(3):
        ours, want = a, x
        for i in range(150):
            ours, want = ours + i * 1e-3, want + i * 1e-3
        same(ours, want)
        ours, want = a, x
        for _ in range(12):  # 4,096 nodes if nothing were shared
            ours, want = (ours + ours) * 0.5, (want + want) * 0.5
        same(ours, want)


def test_operators_in_place_on_what_waits():
    for _ in range(3):
        (x, y), (a, b) = pair()
        ours, want = a * 2, x * 2
        shared = ours
        for i in range(200):
            ours += b
            want += y
            ours *= 0.5
            want *= 0.5
            ours -= i
            want -= i
        assert shared is ours
        same(ours, want)
        ours = a.astype("i8") + 1
        with pytest.raises(TypeError, match="same_kind"):
            ours += 0.5
        ours = a > b
        ours &= b > 1
        assert waits(ours)
        same(ours, (x > y) & (y > 1))
        ours = a + 1
        ours += ours
        same(ours, (x + 1) * 2)
        with pytest.raises(ValueError, match="broadcast"):
            ours += np.array(numpy.ones((2, SIZE)))


def test_long_loops_are_computed_in_pieces_with_one_plan():
    (x, y), (a, b) = pair()
    for _ in range(400):
        a, x = a * 0.5 + b, x * 0.5 + y
    same(a, x)


def test_shapes_that_never_come_again():
    for size in range(SIZE, SIZE + 40):
        (x, y), (a, b) = pair(size=size)
        same(a * b + a, x * y + x)


def test_operands_of_other_shapes_and_dtypes():
    (x, _), (a, _) = pair(size=(64, 64))
    row, other = numpy.arange(64.0), numpy.ones((64, 64), "f4")
    for _ in range(3):
        same((a + 1) * np.array(row), (x + 1) * row)
        same((a + 1) * np.array(other), (x + 1) * other)
        same((a + 1) * other, (x + 1) * other)
        same((a + 1) * [1.0] * 64, (x + 1) * [1.0] * 64)
        with pytest.raises(ValueError, match="broadcast"):
            (a + 1) * np.array(numpy.ones(63))


def test_numbers_that_do_not_fit():
    (x, _), (a, _) = pair("f4")
    same(a * (1 << 30), x * (1 << 30))
    same(a + 1e300, x + 1e300)
    i = numpy.arange(SIZE)
    with pytest.raises(OverflowError):
        np.array(i) + (1 << 70)
    same(np.array(i) * (1 << 40), i * (1 << 40))


def test_threads_share_arrays():
    (x, y), (a, b) = pair(size=50000)
    want = [x * i + y for i in range(20)]
    wrong = []

    def work():
        with numpy.errstate(all="ignore"):
            tape.notice()
            for i in range(20):
                if not numpy.array_equal(numpy.asarray(a * i + b), want[i]):
                    wrong.append(i)

    crew = [threading.Thread(target=work) for _ in range(4)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    assert not wrong


def test_memory_of_what_died_is_let_go():
    for _ in range(3):
        big = np.array(numpy.ones(1 << 20))
        root = weakref.ref(big._value)
        ours = big * 2
        del big
        more = np.array(numpy.ones(1 << 20)) + 1  # the next operation looks for such memory
        total = ours.sum() + more.sum()
        assert total == 4 * (1 << 20)
        del ours
        gc.collect()
        assert root() is None


def test_random_programs():
    random = numpy.random.default_rng(11)
    binary = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]
    unary = ["negative", "absolute", "sqrt", "square"]
    for _ in range(60):
        hosts = [random.uniform(0.5, 2, 3000) for _ in range(3)]
        ours = [np.array(host) for host in hosts]
        for _ in range(25):
            kind, i, j = random.integers(0, 9), *random.integers(0, len(hosts), 2)
            if kind < 4:
                name = binary[random.integers(0, len(binary))]
                hosts.append(getattr(numpy, name)(hosts[i], hosts[j]))
                ours.append(getattr(np, name)(ours[i], ours[j]))
            elif kind < 6:
                name = unary[random.integers(0, len(unary))]
                hosts.append(getattr(numpy, name)(hosts[i]))
                ours.append(getattr(np, name)(ours[i]))
            elif kind == 6:
                hosts[i][j:2000:7] = 1.5
                ours[i][j:2000:7] = 1.5
            elif kind == 7:
                hosts[i] += hosts[j]
                ours[i] += ours[j]
            elif len(hosts) > 3:
                del hosts[i], ours[i]
        for one, host in zip(ours, hosts, strict=True):
            numpy.testing.assert_array_equal(numpy.asarray(one), host)
