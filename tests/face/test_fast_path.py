"""The fast path means the same compiled and in Python, and hands on what it must."""

from __future__ import annotations

import contextlib
import operator
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import _fastpath, limits

compiled = pytest.mark.skipif(not _fastpath.COMPILED, reason="no compiled fast path here")

TRACE = """
import operator, sys
import numpy
import dispatcharr as np
from dispatcharr.face import _fastpath

lines = []
def note(name, call, counted=True):
    before = _fastpath.served()
    try:
        result = call()
        text = f"{type(result).__module__}.{type(result).__name__} {numpy.asarray(result).tolist()}"
        text += f" {numpy.asarray(result).dtype}"
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    served = _fastpath.served() - before if counted else "by NumPy's protocol"
    lines.append(f"{name}: {text} [{served}]")

values = [np.array([[1.5, 2.0], [3.0, 4.0]]), np.array([1, 2]), np.array([True, False]),
          np.array(3),
          numpy.array([2.0, 3.0]), 2, 2.5, True, 1j, numpy.float32(2), "x", None, [1, 2], 10**30]
binary = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv,
          operator.mod,
          operator.pow, operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift,
          operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge,
          operator.iadd, operator.imul, operator.ior, operator.ipow, np.add, np.hypot, np.maximum,
          np.power, np.logical_and]
with numpy.errstate(all="ignore"):
    for i, left in enumerate(values):
        for j, right in enumerate(values):
            if not any(type(v) is np.ndarray for v in (left, right)):
                continue
            for operate in binary:
                mine = left.copy() if type(left) is np.ndarray else left
                # Through __array_ufunc__, which the compiled class answers itself.
                theirs = type(left) in (numpy.ndarray, numpy.float32)
                note(f"{operate.__name__} {i} {j}", lambda: operate(mine, right), not theirs)
    for i, value in enumerate(values[:4]):
        for operate in (operator.neg, operator.pos, abs, operator.invert, np.sqrt, np.isnan, len,
                        np.negative):
            note(f"{operate.__name__} {i}", lambda: operate(value))
        for k, key in enumerate([0, -1, 5, None, ..., slice(None), (0, 0), (), [0], True,
                                 np.array([0]),
                                 np.array([True, False]), numpy.int64(0), "x", 1.5,
                                 (None, ...), np.array(0)]):
            note(f"get {i} {k}", lambda: value[key])
            for v, item in enumerate([7, 2.5, np.array(1), [1, 2], None, numpy.array([1, 0]), "x"]):
                mine = value.copy()
                note(f"set {i} {k} {v}", lambda: mine.__setitem__(key, item))
                note(f"after {i} {k} {v}", lambda: mine)
print("\\n".join(lines))
"""


def trace(pure: str) -> list[str]:
    import os

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRACE],
        env={**os.environ, "DISPATCHARR_PURE_PYTHON": pure},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@compiled
def test_both_mean_the_same_and_serve_the_same() -> None:
    first, second = trace(""), trace("1")
    assert len(first) == len(second) > 3000
    for one, other in zip(first, second, strict=True):
        assert one == other
    assert sum(line.endswith("[1]") for line in first) > 800


@compiled
def test_both_offer_the_same_names() -> None:
    from dispatcharr.face import _fastpath_c, _fastpath_py

    for name in (
        "Cell",
        "Function",
        "Forward",
        "register",
        "wrap",
        "cell",
        "set_handler",
        "set_limit",
        "get_limit",
        "close",
        "set_pending",
        "served",
        "holds_cell",
    ):
        assert hasattr(_fastpath_c, name)
    assert len(_fastpath.SLOT_NAMES) == _fastpath_c.FIRST_FUNCTION
    for name in ("Cell", "Function", "Forward"):
        python, c = getattr(_fastpath_py, name), getattr(_fastpath_c, name)
        wanted = {n for n in vars(python) if n.startswith("__")} - {
            "__module__",
            "__doc__",
            "__slots__",
            "__weakref__",
            "__dict__",
            "__annotations__",
            "__init__",
            "__static_attributes__",
            "__firstlineno__",
        }
        assert [n for n in sorted(wanted) if not hasattr(c, n)] == []


def test_unknown_slots_are_refused() -> None:
    if not _fastpath.COMPILED:
        pytest.skip("lists refuse by themselves")
    for slot in (-1, _fastpath.SLOTS, 10**9):
        with pytest.raises(ValueError, match="outside 0 to"):
            _fastpath.set_limit(slot, 1)
        with pytest.raises(ValueError, match="outside 0 to"):
            _fastpath.get_limit(slot, 0)
    for number in (-2, 24, 10**9):
        with pytest.raises(ValueError, match="type number"):
            _fastpath.set_limit(0, 1, number)
        with pytest.raises(ValueError, match="type number"):
            _fastpath.get_limit(0, number)
    with pytest.raises(TypeError, match="subclass of Cell"):
        _fastpath.register(int)


def test_limits_decide_who_answers() -> None:
    slot, double = _fastpath.SLOT_NAMES.index("add"), numpy.dtype(float).num
    held = limits.limit_of("add", numpy.dtype(float))
    assert _fastpath.get_limit(slot, double) == held
    array = np.array(numpy.ones(100))
    try:
        _fastpath.set_limit(slot, 801, double)
        before = _fastpath.served()
        array + 1
        assert _fastpath.served() == before + 1
        _fastpath.set_limit(slot, 800, double)
        assert (array + 1)[0] == 2
        assert _fastpath.served() <= before + 2
        served = _fastpath.served()
        column, row = np.array(numpy.ones((10, 1))), np.array(numpy.ones((1, 10)))
        made = _fastpath.served() - served
        assert (column + row).shape == (10, 10)
        assert _fastpath.served() - served == made
    finally:
        _fastpath.set_limit(slot, held, double)


def test_limits_are_of_a_row_and_a_dtype() -> None:
    double, single = numpy.dtype("f8"), numpy.dtype("f4")
    wide = limits.limit_of("sin", double) // 8
    assert limits.limit_of("sin", single) // 4 > wide
    assert limits.limit_of("add", double) // 8 > wide
    for dtype in ("O", "M8[s]", "U3", numpy.dtypes.StringDType()):
        assert limits.limit_of("add", numpy.dtype(dtype)) == sys.maxsize


def test_the_broadcast_result_counts_and_not_the_operands() -> None:
    column, row = np.ones((2000, 1)), np.ones((1, 2000))
    with np.record_dispatch() as record:
        table = column + row
        assert table.shape == (2000, 2000)
        assert float(table[5, 5]) == 2
    assert len(record.records) == 1


@pytest.mark.parametrize(
    "options",
    [{"backend": "serial"}, {"defer": "always"}, {"verify": 1.0}],
    ids=str,
)
def test_overrides_close_the_fast_path(options: dict[str, Any]) -> None:
    array = np.ones(4)
    with np.dispatch_options(**options), np.record_dispatch() as record:
        served = _fastpath.served()
        numpy.asarray(array + 1)
        np.sqrt(array).sum()
        assert _fastpath.served() == served
    assert record.records
    before = _fastpath.served()
    array + 1
    assert _fastpath.served() == before + 1


def test_small_operations_are_counted_by_recorders() -> None:
    array = np.ones(4)
    with np.record_dispatch() as record:
        for _ in range(10):
            array + 1
    assert record.small >= 10


@pytest.mark.parametrize(
    "write",
    [
        lambda m, a: a[:4].__iadd__(1),
        lambda m, a: a[:4].__setitem__(0, 9),
        lambda m, a: m.add(a[:4], 1, out=a[:4]),
        lambda m, a: a[:4].fill(3),
        lambda m, a: a[:4][::-1].sort(),
        lambda m, a: m.copyto(a[:4], 5),
        lambda m, a: m.add.at(a, [0, 0], 7),
        lambda m, a: m.put(a, [0, 1], [8, 9]),
        lambda m, a: m.concatenate([a[5:7], a[5:7]], out=a[:4]),
        lambda m, a: m.fill_diagonal(a[:4].reshape(2, 2), 6),
        lambda m, a: operator.imul(a[1:2], 7),
        lambda m, a: m.lib.stride_tricks.as_strided(a[:4], (2,), (8,)).fill(-1),
        lambda m, a: a.real.__setitem__(1, 5),
        lambda m, a: a.flat.__setitem__(1, 5),
    ],
)
def test_waiting_work_is_asked_before_small_writes(write: Callable[[Any, Any], None]) -> None:
    array, model = np.array(numpy.arange(2000.0)), numpy.arange(2000.0)
    with np.dispatch_options(defer="always"):
        waiting = array * 2
    write(np, array)
    write(numpy, model)
    numpy.testing.assert_array_equal(waiting, numpy.arange(2000.0) * 2)
    numpy.testing.assert_array_equal(array, model)


def test_values_replaced_during_an_operation_stay_alive() -> None:
    """An operator may run code of the program's that gives the array another value."""

    class Sly:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __add__(self, other: Any) -> Any:
            self.array.dtype = "i8" if self.array.dtype == "O" else self.array.dtype
            self.array.resize(0, refcheck=False) if self.array.base is None else None
            return 1

        __radd__ = __add__

    objects = np.empty(3, object)
    objects[:] = [Sly(objects)] * 3
    with contextlib.suppress(TypeError, ValueError):
        objects + 1


def test_wrap_and_cell() -> None:
    host = numpy.ones(3)
    assert type(_fastpath.wrap(host)) is np.ndarray
    assert _fastpath.wrap(3) == 3
    masked = numpy.ma.ones(3)
    assert _fastpath.wrap(masked) is masked
    assert _fastpath.wrap(None) is None
    made = _fastpath.cell(host)
    assert made._value is host
    assert made._origin is None


def test_container_checks() -> None:
    array = np.ones(2)
    assert _fastpath.holds_cell([1, [array]])
    assert _fastpath.holds_cell(((array,),))
    assert not _fastpath.holds_cell([numpy.ones(2)])
    assert not _fastpath.holds_cell(array)
    assert not _fastpath.holds_cell({"a": array})
    deep: Any = array
    for _ in range(30):
        deep = [deep]
    assert np.ndim(np.array(deep)) == 31


@pytest.mark.parametrize("name", ["dot", "concatenate", "sum", "sort", "where", "linspace"])
def test_functions_bind_like_attributes_of_a_class(name: str) -> None:
    function = getattr(np, name)

    class Holder:
        held = staticmethod(function)

    assert Holder.held is function
    assert callable(function)
    assert name in repr(function)


def test_methods_are_methods() -> None:
    array = np.array([3.0, 1.0])
    bound = array.sum
    assert bound() == 4.0
    assert bound.__self__ is array
    assert np.ndarray.sum(array) == 4.0
    assert list(map(np.ndarray.max, [array, array])) == [3.0, 3.0]
    with pytest.raises(TypeError):
        np.ndarray.sum(3)
    with pytest.raises(TypeError):
        np.ndarray.sort()


def test_garbage_is_collected() -> None:
    import gc
    import weakref

    gc.collect()

    def made() -> Callable[[], Any]:
        objects = np.empty(1, object)
        array = np.ones(3)
        objects[0] = array
        return weakref.ref(array)

    assert made()() is None


@compiled
def test_numpy_scalars_on_the_left_are_answered_in_c():
    x = np.array(numpy.arange(50.0))
    for scalar in (numpy.float64(0.5), numpy.int64(3), numpy.float32(2)):
        before = _fastpath.served()
        got = [scalar * x, scalar + x, scalar < x, numpy.add(scalar, x), numpy.sqrt(x)]
        assert _fastpath.served() == before + len(got)
        host = x.to_numpy()
        wanted = [scalar * host, scalar + host, scalar < host, scalar + host, numpy.sqrt(host)]
        for ours, theirs in zip(got, wanted, strict=True):
            assert type(ours) is np.ndarray
            assert ours.dtype == theirs.dtype
            assert numpy.array_equal(ours.to_numpy(), theirs)


@compiled
def test_the_table_of_ufuncs_is_checked():
    with pytest.raises(TypeError, match="wanted a Function"):
        _fastpath.set_ufuncs({numpy.add: len}, len)
