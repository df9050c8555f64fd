"""What has to be moved for a kernel: memory as a whole, once, and only where it is wanted."""

from __future__ import annotations

import numpy
import pytest

from dispatcharr.plan.region import Layout, Region
from dispatcharr.plan.work import count_work, located, whereabouts
from dispatcharr.storage import exports, places

N = 1000
BYTES = 8 * N


@pytest.fixture
def put(monkeypatch):
    """Say that an array's memory is on a device, or on both sides; all else is on the host."""
    where = {}

    def state(host):
        return where.get(id(exports.root_of(host)), "host")

    monkeypatch.setattr(places, "state", state)

    def set_state(host, state):
        where[id(exports.root_of(host))] = state
        return host

    return set_state


def test_what_is_on_one_side_is_moved_to_the_other(put):
    inputs = [put(numpy.ones(N), state) for state in ("host", "both", "device")]
    assert whereabouts(inputs) == (("host", "both", "device"), BYTES, BYTES)


def test_views_of_one_memory_move_it_once_and_whole(put):
    x = put(numpy.ones(N), "device")
    assert whereabouts([x[1:], x[:-1], x]) == (("device",) * 3, BYTES, 0)


def test_a_small_part_of_large_memory_moves_alone(put):
    x = numpy.ones(N)
    assert whereabouts([x[:10]]) == (("host",), 0, 80)


def test_any_part_of_what_is_away_brings_all_of_it_home_once(put):
    x = put(numpy.ones(N), "device")
    assert whereabouts([x[:10]]) == (("device",), BYTES, 0)
    assert whereabouts([x[:10], x[20:30]], [x[10:20]]) == (("device",) * 2, BYTES, 0)
    assert whereabouts([], [x[10:20]]) == ((), BYTES, 0)
    both = put(numpy.ones(N), "both")
    assert whereabouts([both[:10]], [both[10:20]]) == (("both",), 0, 0)


def test_broadcast_operands_count_with_the_memory_that_they_own(put):
    row = numpy.broadcast_to(numpy.ones(N), (50, N))
    assert whereabouts([row]) == (("host",), 0, BYTES)


def test_constants_go_with_the_launch_and_what_is_not_made_yet_does_not_count(put):
    assert whereabouts([numpy.asarray(2.0), None]) == (("", ""), 0, 0)
    there = put(numpy.asarray(2.0), "device")
    assert whereabouts([there]) == (("device",), 8, 0)


def test_memory_that_is_overwritten_as_a_whole_is_not_moved(put):
    assert whereabouts([], [numpy.empty(N)]) == ((), 0, 0)
    assert whereabouts([], [numpy.empty((N, 2)).T]) == ((), 0, 0)


def test_the_rest_of_memory_that_is_written_in_part_has_to_be_there(put):
    x = numpy.empty(N)
    assert whereabouts([], [x[1:]]) == ((), 0, BYTES)
    assert whereabouts([x], [x[1:]]) == (("host",), 0, BYTES)
    away = put(numpy.empty(N), "device")
    assert whereabouts([], [away[1:]]) == ((), BYTES, 0)


def test_a_result_that_others_see_comes_home_at_once(put):
    seen = numpy.empty(N)
    exports.mark_foreign(seen)
    assert whereabouts([], [seen]) == ((), 0, BYTES)


def test_work_is_told_where_its_operands_are_and_stays_hashable(put):
    layout = Layout(numpy.dtype("f8"), None, (N,), True)
    region = Region((N,), (layout,), (), (0,), (layout,), None, "asked")
    work = count_work(region, [True])
    there = located(work, whereabouts([put(numpy.ones(N), "device")]))
    assert (there.to_host, there.to_device, there.states) == (BYTES, 0, ("device",))
    assert hash(there) != hash(work)
    assert there.key == work.key
