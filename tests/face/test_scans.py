"""Scans, masks, counts and look-ups run in compiled kernels where that pays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr import _events
from dispatcharr.face import _fastpath, scans
from dispatcharr.kernels import native
from dispatcharr.route import scans as route

pytestmark = pytest.mark.skipif(
    native.missing() is not None, reason=f"no compiler here: {native.missing()}"
)

#: More elements than the fast path keeps to itself.
LARGE = 140_000


@pytest.fixture
def compiled() -> Iterator[None]:
    """Have every scan that there can be a kernel for run in it, however small."""
    with np.dispatch_options(engine="compiled"):
        yield


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    found: list[Any] = []
    with _events.listening(found.append):
        yield found


def numbers(size: int = LARGE) -> numpy.ndarray:
    return numpy.random.default_rng(size).normal(size=size)


def ran(events: list[Any]) -> list[str]:
    return [event.name for event in events if isinstance(event, _events.ScanRecord)]


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "cumsum": lambda m, a: m.cumsum(a),
    "ndarray.cumsum": lambda m, a: a.cumsum(),
    "accumulate": lambda m, a: m.add.accumulate(a),
    "histogram": lambda m, a: m.histogram(a),
    "nonzero": lambda m, a: m.nonzero(a),
    "where": lambda m, a: m.where(a > 0),
    "mask": lambda m, a: a[a > 0],
    "take": lambda m, a: a.take(m.arange(LARGE) - 7),
    "places": lambda m, a: a[m.arange(LARGE) - 7],
    "isin": lambda m, a: m.isin(a, a[:300]),
    "searchsorted": lambda m, a: m.searchsorted(m.sort(a), a),
}


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("name", CALLS)
def test_the_fast_path_asks(name: str, same: Callable[..., None], heard: list[Any]) -> None:
    host = numbers()
    same(CALLS[name](np, np.array(host)), CALLS[name](numpy, host))
    assert len(ran(heard)) == 1, heard


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("name", CALLS)
def test_what_waits_is_evaluated_first(
    name: str, pending: Callable[[Any], Any], same: Callable[..., None]
) -> None:
    host = numbers()
    same(CALLS[name](np, pending(host)), CALLS[name](numpy, host))


@pytest.mark.parametrize("name", CALLS)
def test_small_calls_stay_with_numpy(name: str, heard: list[Any]) -> None:
    for _ in range(3):
        CALLS[name](np, np.array(numbers()[:100]).repeat(1) if name not in ("take", "places")
                    else np.array(numbers()))  # fmt: skip
    assert name in ("take", "places") or not ran(heard)


def test_the_engine_blocks_does_without(heard: list[Any]) -> None:
    with np.dispatch_options(engine="blocks"):
        np.array(numbers()).cumsum()
    assert not ran(heard)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_a_forced_backend_holds(backend: str, heard: list[Any]) -> None:
    grid = np.array(numbers()).reshape(100, 1400)
    with np.use_backend(backend), np.dispatch_options(threads=2):
        made = np.cumsum(grid, axis=0)
    numpy.testing.assert_array_equal(
        numpy.asarray(made), numpy.cumsum(numpy.asarray(grid), axis=0), strict=True
    )
    (record,) = [event for event in heard if isinstance(event, _events.ScanRecord)]
    assert record.backend == backend


@pytest.mark.usefixtures("compiled")
def test_out_is_written_and_returned(heard: list[Any]) -> None:
    host = numbers()
    out, plain = np.empty(LARGE), numpy.empty(LARGE)
    for given in (out, plain):
        assert np.cumsum(np.array(host), out=given) is given
        numpy.testing.assert_array_equal(numpy.asarray(given), numpy.cumsum(host))
    assert np.cumsum(np.array(host), 0, None, out) is out
    assert np.add.accumulate(np.array(host), out=(out,)) is out
    assert np.nancumsum(np.array(host), out=out) is out
    assert len(ran(heard)) == 5
    with pytest.raises(ValueError, match="read-only"):
        np.cumsum(np.array(host), out=np.broadcast_to(np.zeros(1), LARGE))


@pytest.mark.usefixtures("compiled")
def test_edges_that_are_given_come_back() -> None:
    array, edges = np.array(numbers()), np.linspace(-1, 1, 9)
    assert np.histogram(array, edges)[1] is edges
    plain = numpy.linspace(-1, 1, 9)
    assert np.histogram(array, plain)[1] is plain


@pytest.mark.usefixtures("compiled")
def test_out_may_be_the_operand() -> None:
    host = numbers()
    array = np.array(host)
    assert np.cumsum(array, out=array) is array
    numpy.testing.assert_array_equal(numpy.asarray(array), numpy.cumsum(host))
    shifted = np.array(host)
    np.cumsum(shifted[:-1], out=shifted[1:])
    wanted = host.copy()
    numpy.cumsum(wanted[:-1], out=wanted[1:])
    numpy.testing.assert_array_equal(numpy.asarray(shifted), wanted)


@pytest.mark.usefixtures("compiled")
def test_pending_work_reads_out_before_it_is_written() -> None:
    array, out = np.array(numbers()), np.array(numbers())
    before = numpy.array(out)
    with np.dispatch_options(defer="always"):
        later = out + 1
        np.cumsum(array, out=out)
        numpy.testing.assert_array_equal(numpy.asarray(later), before + 1)


@pytest.mark.usefixtures("compiled")
def test_results_are_no_views_of_operands() -> None:
    host = numbers()
    array, mask = np.array(host), np.array(host > 0)
    part, total = array[mask], np.cumsum(array)
    array[...] = 0
    mask[...] = False
    numpy.testing.assert_array_equal(numpy.asarray(part), host[host > 0])
    numpy.testing.assert_array_equal(numpy.asarray(total), numpy.cumsum(host))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("values", [[1e308, 1e308], [numpy.inf, -numpy.inf]])
def test_warnings_and_errors_are_numpys(values: list[float]) -> None:
    host = numpy.array(values * 10_000)
    with warnings.catch_warnings(record=True) as wanted:
        warnings.simplefilter("always")
        expected = numpy.cumsum(host)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        made = np.cumsum(np.array(host))
    assert [str(one.message) for one in found] == [str(one.message) for one in wanted] != []
    numpy.testing.assert_array_equal(numpy.asarray(made), expected)
    with numpy.errstate(all="raise"), pytest.raises(FloatingPointError, match="in accumulate"):
        np.cumsum(np.array(host))
    with numpy.errstate(all="ignore"):
        np.cumsum(np.array(host))


@pytest.mark.usefixtures("compiled")
def test_positions_outside_are_numpys_to_refuse() -> None:
    array = np.array(numbers())
    for place in (LARGE, -LARGE - 1):
        index = np.full(LARGE, place)
        with pytest.raises(IndexError, match=f"index {place} is out of bounds"):
            array[index]
        with pytest.raises(IndexError, match=f"index {place} is out of bounds"):
            np.take(array, index)


def test_kernels_are_built_once_they_have_paid_for_themselves(
    heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dispatcharr.kernels import build

    builder = build.Builder(None)
    monkeypatch.setattr(route, "shared_builder", lambda: builder)
    monkeypatch.setattr(route, "_accounts", {})
    monkeypatch.setattr(scans, "_left", {})
    array = np.array(numbers(200_000)).astype("f4")
    wanted = numpy.cumsum(numpy.asarray(array))
    calls = 0
    while not ran(heard):
        numpy.testing.assert_array_equal(numpy.asarray(np.cumsum(array)), wanted)
        calls += 1
        assert calls < 10_000
        if builder._line.started:
            assert builder.wait(100)
    assert 50 < calls < 2000  # each saves some 0.3 ms
    assert len(builder._ready) == 1


def test_what_is_left_is_looked_at_again(heard: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of one shape differ: one that is all alike says nothing of the next one."""
    monkeypatch.setattr(scans, "_left", {})
    monkeypatch.setattr(route, "_MARGIN", 0.3)
    array, patchy = np.array(numbers(700_000)), np.array(numbers(700_000) > 0)
    alike = np.zeros(700_000, bool)
    with np.dispatch_options(engine="compiled"):
        array[alike]  # its kernels are there from now on
    heard.clear()
    array[alike]
    assert not ran(heard)
    assert scans._left
    for _ in range(40):
        array[patchy]
    assert len(ran(heard)) >= 8


def test_masks_that_change_often_are_worth_a_look(heard: list[Any]) -> None:
    """NumPy is fast with the others, and slow with these."""
    array, host = np.array(numbers(50_000)), numbers(50_000)
    with np.dispatch_options(engine="compiled"):
        for mask, looked in ((host > 0, 1), (numpy.sort(host) > 0, 0)):
            heard.clear()
            array[np.array(mask)]
            assert len(ran(heard)) == looked


@pytest.mark.usefixtures("compiled")
def test_records_say_what_ran() -> None:
    array = np.array(numbers())
    with np.record_dispatch() as record:
        np.cumsum(array)
    (row,) = record.table().rows
    assert row["kind"] == "scan"
    assert row["kernel"] == "cumsum"
    assert row["reason"] == "running add of float64 to float64"
    assert "Scans" in str(record.table())
    assert "running add" in str(record.summary())
    assert record.to_dict()["records"][0]["kind"] == "scan"
    told = np.explain(lambda: array[array > 0])
    assert "elements of float64 by a mask of bool" in " ".join(str(told).split())
    assert "1 scan" in str(np.explain(lambda: np.cumsum(array)))


@pytest.mark.usefixtures("compiled")
def test_a_trace_has_scans(tmp_path: Any) -> None:
    with np.record_dispatch() as record:
        np.array(numbers()).cumsum()
    record.to_chrome_trace(tmp_path / "trace.json")
    assert '"scan"' in (tmp_path / "trace.json").read_text()


@pytest.mark.usefixtures("compiled")
def test_a_scan_is_no_fallback() -> None:
    array = np.array(numbers())
    with np.dispatch_options(on_fallback="raise"):
        np.cumsum(array)
        with pytest.raises(np.FallbackError, match="cumsum"):
            np.cumsum(array.astype("c16"))


@pytest.mark.usefixtures("compiled")
def test_verification_takes_numpys_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    array, out = np.array(numbers()), np.empty(LARGE)
    wanted = numpy.cumsum(numpy.asarray(array))
    monkeypatch.setattr(route, "_barred", set())
    with np.dispatch_options(verify=1.0):
        with np.record_dispatch() as record:
            np.cumsum(array)
            np.nonzero(array)
        assert record.summary().to_dict()["verified"] == {"agreed": 2, "disagreed": 0}
        monkeypatch.setattr(scans, "_is_same", lambda one, other: False)
        with pytest.warns(np.VerificationWarning, match="cumsum"):
            made = np.cumsum(array, out=out)
        assert made is out
        with np.record_dispatch() as record:
            np.cumsum(array)
        assert not [row for row in record.table().rows if row["kind"] == "scan"]
    numpy.testing.assert_array_equal(numpy.asarray(made), wanted)


@pytest.mark.usefixtures("compiled")
def test_a_mask_that_changes_meanwhile_writes_nothing_it_should_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may set elements of the mask after they were counted."""
    from dispatcharr.kernels import scan_parts

    counted = scan_parts._counted
    mask = numpy.zeros(LARGE, bool)
    mask[::3] = True

    def count(*args: Any) -> Any:
        found = counted(*args)
        mask[...] = True
        return found

    monkeypatch.setattr(scan_parts, "_counted", count)
    made = np.array(numbers())[mask]
    assert made.shape == (len(range(0, LARGE, 3)),)


@pytest.mark.usefixtures("compiled")
def test_integers_that_change_meanwhile_are_counted_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dispatcharr.face import scans_counts

    extremes = scans_counts.extremes
    host = numpy.arange(LARGE) % 100

    def look(*args: Any) -> Any:
        found = extremes(*args)
        host[5], host[6] = 10**15, -(10**15)
        return found

    monkeypatch.setattr(scans_counts, "extremes", look)
    assert np.bincount(host).sum() == LARGE - 2


def test_threads_and_forks_may_scan_too(script: Callable[..., str]) -> None:
    printed = script("""
        import os, threading
        import numpy
        import dispatcharr as np
        host = numpy.random.default_rng(0).normal(size=300_000)
        a = np.array(host)
        wanted = numpy.cumsum(host), host[host > 0]
        right = []
        def work():
            for _ in range(5):
                made = np.cumsum(a), a[a > 0]
                right.append(all(bool((numpy.asarray(m) == w).all()) for m, w in zip(made, wanted)))
        np.dispatch_options(engine="compiled")
        work()
        threads = [threading.Thread(target=work) for _ in range(4)]
        [t.start() for t in threads], [t.join() for t in threads]
        child = os.fork()
        if not child:
            right.clear()
            work()
            os._exit(0 if all(right) else 1)
        print(all(right), len(right), os.waitpid(child, 0)[1])
    """)
    assert printed.split() == ["True", "25", "0"]


def test_the_pure_python_path_asks_too() -> None:
    _fastpath.close(1)
    try:
        with np.dispatch_options(engine="compiled"), np.record_dispatch() as record:
            np.cumsum(np.array(numbers()))
    finally:
        _fastpath.close(-1)
    assert [row["kind"] for row in record.table().rows] == ["scan"]


@pytest.mark.parametrize("code", ["f8", "f4", "i4", "u1", "?", "c16"])
def test_diff_is_planned(code: str, same: Callable[..., None]) -> None:
    host = (numbers() * 100).astype(code) if code != "?" else numbers() > 0
    grid, before = host.reshape(100, 1400), np.array(host.reshape(100, 1400))
    same(np.diff(np.array(host)), numpy.diff(host))
    same(np.diff(np.array(host), n=3), numpy.diff(host, n=3))
    same(np.diff(before, axis=0), numpy.diff(grid, axis=0))
    same(np.diff(before, 2, 1), numpy.diff(grid, 2, 1))
    same(numpy.diff(before), numpy.diff(grid))
    same(np.diff(np.array(host), prepend=host[:1]), numpy.diff(host, prepend=host[:1]))


def test_diff_fuses(heard: list[Any]) -> None:
    array = np.array(numbers(200_000))
    with np.dispatch_options(defer="always"):
        total = abs(np.diff(array)).sum()
    assert abs(total - abs(numpy.diff(numpy.asarray(array))).sum()) < 1e-6
    assert len([event for event in heard if isinstance(event, _events.KernelRecord)]) == 1


def test_errors_of_diff_are_numpys(same_outcome: Callable[..., None]) -> None:
    host = numbers()
    for call in (
        lambda m, a: m.diff(a, n=-1), lambda m, a: m.diff(a, axis=2), lambda m, a: m.diff(a, 0),
        lambda m, a: m.diff(a, nothing=1), lambda m, a: m.diff(a[0]), lambda m, a: m.diff(a, 1.5),
    ):  # fmt: skip
        same_outcome(lambda c=call: c(np, np.array(host)), lambda c=call: c(numpy, host))
