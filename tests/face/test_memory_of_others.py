"""Memory that others hold, headers that change, readers that follow each other."""

from __future__ import annotations

import ctypes
import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr as np

N = 400_000

USES: dict[str, Callable[[Any, Any], Any]] = {
    "right": lambda a, n: a * n,
    "left": lambda a, n: n - a,
    "view": lambda a, n: a + n[::-1],
    "function": lambda a, n: np.sqrt(n) + a,
    "numpy's function": lambda a, n: numpy.add(n, a),
    "where": lambda a, n: np.where(n > 5, a, n),
    "clip": lambda a, n: np.clip(n, 0, a),
    "broadcast": lambda a, n: np.ones((2, 1)) * n + a,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_the_owner_of_a_numpy_array_may_write_to_it_at_any_time(
    use: Callable[[Any, Any], Any],
) -> None:
    theirs, mine = numpy.arange(float(N)), np.arange(N) * 1.0
    expected = numpy.asarray(use(numpy.arange(float(N)), numpy.arange(float(N)))).copy()
    result = use(mine, theirs)
    theirs[:] = 4
    numpy.testing.assert_array_equal(result, expected)


def test_in_place_with_a_numpy_array_reads_it_at_once() -> None:
    x, theirs = np.ones(N) * 2, numpy.arange(float(N))
    x += theirs
    theirs[:] = 4
    assert x[9] == 11


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_a_new_shape_in_place_leaves_pending_work_alone() -> None:
    x = np.evaluate(np.arange(640_000.0).reshape(800, 800) * 1)
    doubled = x * 2
    x.shape = (640_000,)
    assert doubled.shape == (800, 800)
    assert doubled[1, 0] == 1600.0
    x[0] = 7
    assert doubled[0, 0] == 0.0


def test_a_writer_does_not_wait_for_readers_that_began_later() -> None:
    a = np.arange(N) * 1.0
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                x = a * 2
                y = x + 1
                (y - x).sum()
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for reader in readers:
        reader.start()
    began = time.monotonic()
    for i in range(30):
        a[i] = -i
        time.sleep(0.001)
    took = time.monotonic() - began
    stop.set()
    for reader in readers:
        reader.join(20)
    assert not failures
    assert took < 20
    assert a[29] == -29


def test_the_interface_dictionary_holds_an_address() -> None:
    x = np.arange(5000.0)
    address, read_only = x.__array_interface__["data"]
    assert ctypes.c_double.from_address(address + 8 * 7).value == 7.0
    assert read_only is False


def added_dtypes() -> list[Any]:
    """Return dtypes that are not NumPy's own: one that its tests bring, others if installed."""
    found: list[Any] = [importlib.import_module("numpy._core._rational_tests").rational]
    try:
        more = importlib.import_module("ml_dtypes")
    except ImportError:
        return found
    return [*found, more.bfloat16, more.float8_e5m2, more.int4]


def test_numpy_gets_dtypes_that_no_interface_names_as_they_are() -> None:
    padded = numpy.dtype([("a", "i1"), ("b", "i8")], align=True)
    twice = numpy.dtype({"names": ["a", "in", "b"], "formats": ["i1", padded, "i8"]}, align=True)
    apart = numpy.dtype({"names": ["a"], "formats": ["i4"], "offsets": [4], "itemsize": 16})
    text = numpy.dtypes.StringDType()
    for dtype in (*added_dtypes(), padded, twice, apart, text, ">i4", "M8[s]", "S3"):
        theirs = np.zeros(3, dtype)
        for seen in (numpy.asarray(theirs), numpy.array([theirs]), numpy.asarray(theirs[::2])):
            assert seen.dtype == theirs.dtype, dtype
        assert repr(numpy.asarray(theirs).dtype) == repr(theirs.dtype)
    with pytest.raises(BufferError, match=r"to_numpy\(\)"):
        memoryview(np.zeros(3, apart))
    with pytest.raises(ValueError, match="cannot include dtype"):
        memoryview(np.zeros(3, added_dtypes()[0]))


def test_extensions_assign_items_as_to_a_sequence() -> None:
    assign = ctypes.pythonapi.PySequence_SetItem
    assign.argtypes = [ctypes.py_object, ctypes.c_ssize_t, ctypes.py_object]
    for size in (3, N):
        x, y = np.zeros(size), np.zeros(size)
        later = x + 1.0
        assign(x, 0, 7.0)
        assign(x, -1, 8.0)
        assert (float(x[0]), float(x[-1]), float(later[0])) == (7.0, 8.0, 1.0)
        with pytest.raises(IndexError):
            assign(y, size, 1.0)


def test_in_place_with_an_operand_that_refuses_ufuncs_is_numpys_error() -> None:
    class Refuses:
        __array_ufunc__ = None

        def __radd__(self, other: Any) -> str:
            return "mine"

    x = np.ones(3)
    assert x + Refuses() == "mine"
    with pytest.raises(TypeError, match="does not support ufuncs"):
        x += Refuses()


def test_half_precision_moments_are_numpys_pending_or_not() -> None:
    halves = (numpy.arange(2000) % 97).astype(numpy.float16)
    with np.dispatch_options(defer="always"), np.errstate(all="ignore"):
        assert np.var(np.array(halves) * 1) == numpy.var(halves)
        assert np.std(np.array(halves) * 1) == numpy.std(halves)


def test_a_map_larger_than_memory_is_reduced_in_little(
    script: Callable[..., str], tmp_path: Path
) -> None:
    """The process may have a fifth of what the map is long; pages of a file do not count."""
    pytest.importorskip("resource")
    if not Path("/proc/self/status").exists():
        pytest.skip("it is not told here how much memory there is of which kind")
    told = script(
        """
        import os, re, resource
        import numpy
        import dispatcharr as np

        calls = [
            lambda a: a.sum(), lambda a: a.mean(), lambda a: a.std(), lambda a: np.var(a),
            lambda a: a.max(), lambda a: np.min(a), lambda a: a.argmax(), lambda a: np.any(a),
            lambda a: np.count_nonzero(a), lambda a: np.nansum(a), lambda a: np.nanmax(a),
            lambda a: a.reshape(-1, 1024).sum(axis=0)[3], lambda a: np.cumsum(a[-5000:])[-1],
            lambda a: a.reshape(1024, -1).max(axis=1)[0],
        ]
        path = os.environ["MAP"]
        with open(path, "wb") as file:
            file.write(numpy.arange(1000.0).tobytes())
            file.truncate(1 << 29)
        mapped = np.asarray(numpy.memmap(path, float, "r"))
        few = numpy.zeros(1 << 20)
        for call in calls:
            call(np.array(few))
        with open("/proc/self/status") as file:
            taken = int(re.search(r"VmData:\\s+(\\d+)", file.read())[1]) << 10
        resource.setrlimit(resource.RLIMIT_DATA, (taken + (1 << 26) + (1 << 25), -1))
        few[:1000] = numpy.arange(1000.0)
        for number, call in enumerate(calls):
            got, wanted = float(call(mapped)), float(call(few))
            if number not in (1, 2, 3):  # those depend on how many there are
                assert got == wanted, (number, got, wanted)
        raw = np.memmap(path, float, "r")
        for name in ("sum", "max", "argmax", "nansum", "count_nonzero", "any", "std", "var"):
            got, wanted = getattr(np, name)(raw), getattr(numpy, name)(few)
            assert type(got) is type(wanted)
            assert got == wanted or name in ("std", "var"), (name, got, wanted)
        assert np.std(raw, dtype="f8", ddof=1) > 0
        print("done")
        """,
        MAP=str(tmp_path / "map"),
    )
    assert told.strip() == "done"


def test_a_large_array_of_numpys_is_reduced_as_one_of_ours(tmp_path: Path) -> None:
    """Along axes, and into ``out``, a map is NumPy's to reduce, which may return a map."""
    theirs = numpy.arange(4_000_000.0).reshape(2000, 2000)
    mapped = numpy.memmap(tmp_path / "map", float, "w+", shape=theirs.shape)
    mapped[...] = theirs
    for array in (theirs, mapped):
        with np.record_dispatch() as record:
            assert np.std(array) == pytest.approx(numpy.std(theirs), rel=1e-12)
            assert np.var(array, ddof=1) == pytest.approx(numpy.var(theirs, ddof=1), rel=1e-12)
        assert len(record.records) == 2
    for call in (
        lambda a, m: a.argmax(m, axis=0),
        lambda a, m: a.sum(m, axis=1),
        lambda a, m: a.max(m, 1, keepdims=True),
        lambda a, m: a.max(m, axis=1, out=numpy.zeros(2000)),
    ):
        got, wanted = call(np, mapped), call(numpy, mapped)
        assert type(got) in (type(wanted), np.ndarray)
        numpy.testing.assert_array_equal(numpy.asarray(got), wanted)
