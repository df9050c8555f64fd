"""Scans, masks, counts and look-ups give NumPy's bits, however they are cut into pieces."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr import _events
from dispatcharr.face import _fastpath
from dispatcharr.kernels import native, scan

pytestmark = pytest.mark.skipif(
    native.missing() is not None, reason=f"no compiler here: {native.missing()}"
)

NUMBERS = ("?", "i1", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
OTHERS = ("f2", "c8", "c16", ">f8", ">i4", "g", "M8[s]", "O")
SIZES = (0, 1, 64, 65, 2049)


def sizes(code: str) -> tuple[int, ...]:
    return SIZES if code in NUMBERS else (65,)


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have all that can be computed in kernels, in many small pieces, on several threads."""
    monkeypatch.setattr(scan, "PIECE", 100)
    with np.dispatch_options(engine="compiled", threads=3), numpy.errstate(all="ignore"):
        _fastpath.close(1)
        yield
        _fastpath.close(-1)


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    found: list[Any] = []
    with _events.listening(found.append):
        yield found


def ran(events: list[Any]) -> list[str]:
    return [event.name for event in events if isinstance(event, _events.ScanRecord)]


def values(code: str, size: int, special: bool = True) -> numpy.ndarray:
    """Return numbers of a dtype, with NaN, infinities and zeros of both signs among them."""
    made = numpy.random.default_rng(size)
    dtype = numpy.dtype(code)
    if dtype.kind == "b":
        return made.random(size) < 0.4
    if dtype.kind in "iu":
        known = numpy.iinfo(dtype)
        found = made.integers(max(known.min, -300), min(known.max, 300), size, endpoint=True)
        return found.astype(dtype)
    if dtype.kind in "MO":
        return made.integers(0, 50, size).astype(dtype)
    numbers = made.normal(size=size).round(1 if special else 6)
    if special and size > 30:
        for place, one in enumerate((numpy.nan, numpy.inf, -numpy.inf, -0.0, 0.0, -0.0)):
            numbers[5 * place] = one
    return numbers.astype(dtype)


def layouts(host: numpy.ndarray) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Give ways to lay an array out, each as a function of NumPy's array or ours."""
    yield "as it is", lambda a: a
    if host.size > 8:
        yield "every third", lambda a: a[::3]
        yield "backwards", lambda a: a[::-1]
        yield "backwards by two", lambda a: a[-2::-2]


def grids(host: numpy.ndarray) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    rows = host.size // 20
    if rows < 2:
        return
    yield "C order", lambda a: a[: rows * 20].reshape(rows, 20)
    yield "turned", lambda a: a[: rows * 20].reshape(rows, 20).T
    yield "part", lambda a: a[: rows * 20].reshape(rows, 20)[1:, 3:17]
    yield "steps", lambda a: a[: rows * 20].reshape(rows, 20)[::-1, ::3]
    yield "cube", lambda a: a[: rows * 20].reshape(rows, 4, 5)
    yield "cube turned", lambda a: a[: rows * 20].reshape(rows, 4, 5).transpose(1, 2, 0)


def exactly(ours: Any, wanted: Any) -> None:
    """Check two results bit by bit."""
    if type(wanted) is tuple:
        assert type(ours) is tuple
        assert len(ours) == len(wanted)
        for one, other in zip(ours, wanted, strict=True):
            exactly(one, other)
        return
    assert type(ours) is (np.ndarray if type(wanted) is numpy.ndarray else type(wanted))
    found = numpy.asarray(ours)
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if wanted.size:  # strides of axes of one element mean nothing
        long = [axis for axis, extent in enumerate(wanted.shape) if extent > 1]
        assert [found.strides[i] for i in long] == [wanted.strides[i] for i in long]
    if found.dtype.char in "Og":  # whose bytes are not all of their values'
        numpy.testing.assert_array_equal(found, wanted)
    else:
        same = found.tobytes() == wanted.tobytes()
        assert same, (found, wanted)


Call = Callable[[Any, Any], Any]


def agree(call: Call, host: numpy.ndarray, layout: Callable[[Any], Any]) -> None:
    """Check that a call does to ours what it does to NumPy's array."""
    try:
        wanted = call(numpy, layout(host.copy()))
    except Exception as error:
        with pytest.raises(type(error)) as caught:
            call(np, layout(np.array(host)))
        assert str(caught.value) == str(error)
        return
    exactly(call(np, layout(np.array(host))), wanted)


RUNNING: dict[str, Call] = {
    "cumsum": lambda m, a: m.cumsum(a),
    "cumprod": lambda m, a: m.cumprod(a),
    "the method": lambda m, a: a.cumsum(),
    "nancumsum": lambda m, a: m.nancumsum(a),
    "nancumprod": lambda m, a: m.nancumprod(a),
    "cumulative_sum": lambda m, a: m.cumulative_sum(a),
    "with an initial": lambda m, a: m.cumulative_prod(a, include_initial=True),
    "to float64": lambda m, a: m.cumsum(a, dtype="f8"),
    "to float32": lambda m, a: m.cumsum(a, dtype="f4"),
    "to int16": lambda m, a: m.cumsum(a, dtype="i2"),
    "maximum": lambda m, a: m.maximum.accumulate(a),
    "minimum": lambda m, a: m.minimum.accumulate(a),
    "subtract": lambda m, a: m.subtract.accumulate(a),
    "xor": lambda m, a: m.bitwise_xor.accumulate(a),
    "or": lambda m, a: m.bitwise_or.accumulate(a),
}
PARTS: dict[str, Call] = {
    "nonzero": lambda m, a: m.nonzero(a),
    "the method": lambda m, a: a.nonzero(),
    "where": lambda m, a: m.where(a),
    "flatnonzero": lambda m, a: m.flatnonzero(a),
    "argwhere": lambda m, a: m.argwhere(a),
    "mask": lambda m, a: a[a > 0],
    "mask none": lambda m, a: a[m.zeros(a.shape, bool)],
    "mask all": lambda m, a: a[m.ones(a.shape, bool)],
    "compress": lambda m, a: m.compress(a.ravel() > 0, a),
    "compress short": lambda m, a: m.compress((a.ravel() > 0)[:-7], a),
    "compress by numbers": lambda m, a: a.compress(a.ravel()[::-1].copy()),
    "extract": lambda m, a: m.extract(a > 0, a),
    "take": lambda m, a: m.take(a, m.arange(-a.size, a.size)),
    "take outside": lambda m, a: a.take(m.arange(a.size + 1)),
    "take by a grid": lambda m, a: a.take(m.arange(a.size // 4 * 4).reshape(-1, 4)[::-1]),
    "by bytes": lambda m, a: a.ravel()[m.arange(min(a.size, 200)).astype("u1")],
    "by places": lambda m, a: a.ravel()[m.arange(a.size)[::-1] - a.size],
    "by places outside": lambda m, a: a.ravel()[m.full(300, -a.size - 1)],
}
COUNTS: dict[str, Call] = {
    "bincount": lambda m, a: m.bincount(a),
    "bincount of some": lambda m, a: m.bincount(abs(a)),
    "bincount to a length": lambda m, a: m.bincount(abs(a), minlength=1000),
    "bincount weighted": lambda m, a: m.bincount(abs(a), weights=a),
    "unique": lambda m, a: m.unique(a),
    "unique with counts": lambda m, a: m.unique(a, return_counts=True),
    "unique with places": lambda m, a: m.unique(a, return_index=True, return_inverse=True),
    "unique with ranks": lambda m, a: m.unique(a, return_inverse=True, return_counts=True),
    "unique unsorted": lambda m, a: m.sort(m.unique(a, sorted=False)),
    "unique of a grid": lambda m, a: m.unique(a[: a.size // 4 * 4].reshape(-1, 4),
                                              return_inverse=True),
    "unique of many": lambda m, a: m.unique(a.astype("i8") * 7_000_003),
    "isin": lambda m, a: m.isin(a, a[:20]),
    "not in": lambda m, a: m.isin(a, a[:20], invert=True),
    "isin far": lambda m, a: m.isin(a.astype("i8") * 10**12, a[:200].astype("i8") * 10**12),
    "isin unique": lambda m, a: m.isin(a, a[:200], assume_unique=True),
    "isin many": lambda m, a: m.isin(a, a[::2]),
    "searchsorted": lambda m, a: m.searchsorted(m.sort(a), a),
    "searchsorted right": lambda m, a: m.sort(a[:100]).searchsorted(a, side="right"),
    "searchsorted wrong": lambda m, a: m.searchsorted(m.sort(a), a, side="middle"),
    "searchsorted in one": lambda m, a: m.searchsorted(a[:1], a),
    "searchsorted other": lambda m, a: m.searchsorted(m.sort(a), a.astype("f8")),
    "digitize": lambda m, a: m.digitize(a, m.sort(a[40:90])),
    "digitize right": lambda m, a: m.digitize(a, m.sort(a[40:90]), right=True),
    "digitize down": lambda m, a: m.digitize(a, m.sort(a[40:90])[::-1]),
    "digitize wrong": lambda m, a: m.digitize(a, a),
}  # fmt: skip
HISTOGRAMS: dict[str, Call] = {
    "histogram": lambda m, a: m.histogram(a),
    "many bins": lambda m, a: m.histogram(a, 300),
    "one bin": lambda m, a: m.histogram(a, bins=1),
    "no bins": lambda m, a: m.histogram(a, bins=0),
    "range": lambda m, a: m.histogram(a, 30, (-1.0, 2.0)),
    "range of integers": lambda m, a: m.histogram(a, 7, range=(0, 1)),
    "a wrong range": lambda m, a: m.histogram(a, 7, range=(2, 1)),
    "density": lambda m, a: m.histogram(a, 12, density=True),
    "weights": lambda m, a: m.histogram(a, 12, weights=a),
    "weights of float32": lambda m, a: m.histogram(a, 12, (0, 100), weights=abs(a).astype("f4")),
    "weights of integers": lambda m, a: m.histogram(a, 12, (0, 9), weights=m.arange(a.size)),
    "edges": lambda m, a: m.histogram(a, m.linspace(-1, 1, 9)),
    "edges of its type": lambda m, a: m.histogram(a, m.sort(a[100:150])),
    "edges that repeat": lambda m, a: m.histogram(a, m.sort(a[100:150]).repeat(2)),
    "edges with density": lambda m, a: m.histogram(a, m.sort(a[100:150]), density=True),
    "edges down": lambda m, a: m.histogram(a, m.sort(a[100:150])[::-1]),
    "one edge": lambda m, a: m.histogram(a, a[:1]),
    "all the same": lambda m, a: m.histogram(m.ones_like(a), 9),
    "by rule": lambda m, a: m.histogram(a, "sqrt"),
}


@pytest.mark.parametrize("code", NUMBERS + OTHERS)
@pytest.mark.parametrize("name", RUNNING)
def test_running(name: str, code: str) -> None:
    for size in sizes(code):
        host = values(code, size)
        for _, layout in layouts(host):
            agree(RUNNING[name], host, layout)


@pytest.mark.parametrize("code", ["f4", "f8"])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_running_extremes_take_numpys_zero(name: str, code: str) -> None:
    """Where no NaN comes first, and nothing else decides."""
    made = numpy.random.default_rng(1)
    ends = numpy.array([0.0, -0.0, 0.0, -0.0, -numpy.inf if name == "maximum" else numpy.inf])
    for size in (2049, 2400):
        host = made.choice(ends, size).astype(code)
        host[-9] = numpy.nan
        for _, layout in itertools.chain(layouts(host), grids(host)):
            for dtype in (None, "f4", "f8"):
                agree(lambda m, a, d=dtype: getattr(m, name).accumulate(a, dtype=d), host, layout)


@pytest.mark.parametrize("shape", [(300, 1), (1, 300), (300, 1, 4), (2, 90, 1, 2), (1, 3, 1, 70)])
def test_sums_with_an_initial_element(shape: tuple[int, ...]) -> None:
    host = values("f8", numpy.prod(shape), False).reshape(shape)
    for axis, dtype in itertools.product(range(-1, len(shape)), (None, "f4")):
        agree(lambda m, a, x=axis, d=dtype: m.cumulative_sum(a, axis=x, dtype=d,
              include_initial=True), host, lambda a: a)  # fmt: skip


ODD: dict[str, Call] = {
    "initial 0": lambda m, a: m.cumulative_sum(a, include_initial=0),
    "initial 1": lambda m, a: m.cumulative_sum(a, include_initial=1),
    "initial None": lambda m, a: m.cumulative_sum(a, include_initial=None),
    "initial False": lambda m, a: m.cumulative_sum(a, include_initial=numpy.False_),
    "axis False": lambda m, a: m.compress(a > 0, a, axis=False),
    "axis of NumPy": lambda m, a: m.compress(a > 0, a, axis=numpy.int64(0)),
    "take False": lambda m, a: m.take(a, m.arange(70), axis=False),
    "cumsum False": lambda m, a: m.cumsum(a, axis=False),
    "side of arrays": lambda m, a: m.searchsorted(a, a, side=numpy.array(["left", "right"])),
    "mode of arrays": lambda m, a: m.take(a, m.arange(70), mode=numpy.array(["raise", "clip"])),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_arguments_mean_what_they_mean_to_numpy(name: str) -> None:
    agree(ODD[name], values("f8", 500, False), lambda a: a)


@pytest.mark.parametrize("code", ("i2", "f4", "f8", "?", "c16"))
@pytest.mark.parametrize("axis", [0, 1, -1, 5, None, 1.5])
def test_running_along_axes(axis: Any, code: str) -> None:
    host = values(code, 1300)
    calls: tuple[Call, ...] = (
        lambda m, a: m.cumsum(a, axis=axis), lambda m, a: a.cumprod(axis),
        lambda m, a: m.nancumsum(a, axis), lambda m, a: m.add.accumulate(a, axis),
        lambda m, a: m.cumulative_sum(a, axis=axis),
        lambda m, a: m.cumulative_sum(a, axis=axis, include_initial=True),
        lambda m, a: m.cumsum(m.broadcast_to(a[..., :1], a.shape), axis=axis),
    )  # fmt: skip
    for (_, layout), call in itertools.product(grids(host), calls):
        agree(call, host, layout)


@pytest.mark.parametrize("code", (*NUMBERS, "f2", "c16", ">i4", "O"))
@pytest.mark.parametrize("name", PARTS)
def test_parts(name: str, code: str) -> None:
    for size in sizes(code):
        host = values(code, size)
        for _, layout in layouts(host):
            agree(PARTS[name], host, layout)


@pytest.mark.parametrize("code", ("?", "i1", "f8", "c8"))
@pytest.mark.parametrize("name", PARTS)
def test_parts_of_grids(name: str, code: str) -> None:
    host = values(code, 2000)
    for _, layout in grids(host):
        agree(PARTS[name], host, layout)


@pytest.mark.parametrize("code", NUMBERS)
@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str, code: str) -> None:
    for size in (1, 2049):
        host = values(code, size)
        if host.dtype.kind == "f" and name in ("unique of many", "isin far"):
            host = numpy.nan_to_num(host)
        for _, layout in layouts(host):
            agree(COUNTS[name], host, layout)


@pytest.mark.filterwarnings("ignore:Converting input from bool:RuntimeWarning")
@pytest.mark.parametrize("code", (*NUMBERS, "f2", ">f8"))
@pytest.mark.parametrize("name", HISTOGRAMS)
def test_histograms(name: str, code: str) -> None:
    for size, special in ((1, False), (1000, True), (1001, False)):
        host = values(code, size, special)
        for _, layout in layouts(host):
            agree(HISTOGRAMS[name], host, layout)


@pytest.mark.parametrize("code", ["f4", "f8", "i2"])
@pytest.mark.parametrize("name", HISTOGRAMS)
def test_histograms_of_several_blocks(name: str, code: str) -> None:
    agree(HISTOGRAMS[name], values(code, 70_000, False), lambda a: a)


def test_histograms_at_their_edges() -> None:
    made = numpy.random.default_rng(3)
    for code, bins in itertools.product(("f4", "f8"), (3, 7, 10, 49, 100)):
        edges = numpy.linspace(0.1, 0.9, bins + 1, dtype=code)
        near = [numpy.nextafter(edges, code_type(end)) for code_type in (numpy.dtype(code).type,)
                for end in (-1, 2)]  # fmt: skip
        host = numpy.concatenate([edges, *near, edges])
        made.shuffle(host)
        for given in ((0.1, 0.9), None, (0.2, 0.8)):
            agree(lambda m, a, b=bins, g=given: m.histogram(a, b, g), host, lambda a: a)


WARNING: dict[str, Call] = {
    "extreme of a smaller type": lambda m, a: m.maximum.accumulate(a, dtype="f4"),
    "sum in a smaller type": lambda m, a: m.nancumsum(a, dtype="f4"),
    "histogram": lambda m, a: m.histogram(a, 5),
    "histogram in a range": lambda m, a: m.histogram(a, 5, (-1.7e308, 1.7e308)),
    "weights": lambda m, a: m.histogram(a * 1e-300, 5, weights=m.full(a.size, 3e38, "f4")),
    "density of nothing": lambda m, a: m.histogram(a, 5, (2.0, 3.0), density=True),
    "a tiny part": lambda m, a: m.histogram(m.minimum(abs(a), 1e300) * 1e-310, 5),
}


def heard_from(call: Callable[[], Any]) -> tuple[list[str], Any]:
    """Return the warnings of a call and what came of it, an error perhaps."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            made = call()
        except (FloatingPointError, ValueError) as error:
            made = str(error)
    return [str(one.message) for one in found], made


@pytest.mark.parametrize("mode", ["warn", "raise", "ignore"])
@pytest.mark.parametrize("name", WARNING)
def test_errors_are_told_as_numpy_tells_them(name: str, mode: Any) -> None:
    host = numpy.array([-1.7e308, 1.0, 1e-300, 1.7e308] * 200)
    with numpy.errstate(all=mode):
        told, wanted = heard_from(lambda: WARNING[name](numpy, host))
        found, made = heard_from(lambda: WARNING[name](np, np.array(host)))
    assert found == told
    if type(wanted) is str:
        assert made == wanted
    else:
        exactly(made, wanted)


def test_what_runs_in_kernels(heard: list[Any]) -> None:
    a, i = np.array(values("f8", 5000, False)), np.array(values("i4", 5000))
    grid = a.reshape(50, 100)
    for call in (
        lambda: np.cumsum(a), lambda: a.cumprod(), lambda: np.cumsum(grid, axis=0),
        lambda: np.cumsum(grid, axis=1), lambda: np.nancumsum(a), lambda: np.add.accumulate(i),
        lambda: np.maximum.accumulate(a), lambda: np.cumulative_sum(a), lambda: np.nonzero(i),
        lambda: np.where(i > 0), lambda: np.flatnonzero(a), lambda: np.argwhere(grid > 0),
        lambda: a[a > 0], lambda: np.compress(i > 0, a), lambda: np.extract(i, a),
        lambda: np.take(a, abs(i)), lambda: a[abs(i)], lambda: np.bincount(abs(i)),
        lambda: np.histogram(a), lambda: np.histogram(i, 5, weights=a), lambda: np.unique(i),
        lambda: np.isin(i, i[:9]), lambda: np.isin(a, a[:9]), lambda: np.searchsorted(a, a),
        lambda: np.digitize(a, np.sort(a)), lambda: numpy.cumsum(a),
        lambda: numpy.add.accumulate(a),
    ):  # fmt: skip
        heard.clear()
        call()
        assert len(ran(heard)) == 1, heard


def test_the_seam_of_pieces_carries_sums() -> None:
    for code in ("i1", "u2", "i8"):
        for size in (99, 100, 200, 255, 256, 257, 640, 10_001):
            host = values(code, size)
            for name in ("add", "multiply", "maximum", "minimum", "bitwise_and", "bitwise_xor"):
                agree(lambda m, a, n=name: getattr(m, n).accumulate(a), host, lambda a: a)
