"""Operations that wait on the tape compute what NumPy does, whoever looks when."""

from __future__ import annotations

import gc
import operator
import subprocess
import sys
import weakref

import numpy
import pytest

import dispatcharr as np
from dispatcharr.expr.nodes import Node
from dispatcharr.face import _fastpath, limits
from taping import SIZE, pair, planned, same, waits

__all__ = ["planned"]
pytestmark = pytest.mark.skipif(not _fastpath.COMPILED, reason="only the compiled one has a tape")

_STATEMENTS = [
    lambda a, b: 2 * a + 3 * b - a * b,
    lambda a, b: (a - b) ** 2,
    lambda a, b: (a / b) ** 0.5,
    lambda a, b: a**-1,
    lambda a, b: -a + abs(b),
    lambda a, b: (a > b) & (b > 1),
    lambda a, b: numpy.float64(2.5) * a if a.dtype == "f8" else a * numpy.float32(2.5),
    lambda a, b: a // b + a % b,
    lambda a, b: 1 / (1 + b),
]


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("statement", _STATEMENTS)
def test_statements_give_numpys_bits_every_time(statement, dtype):
    for size in (SIZE, SIZE, SIZE + 3, SIZE + 3, SIZE):
        (x, y), (a, b) = pair(dtype, size)
        for _ in range(3):
            ours = statement(a, b)
            assert waits(ours)
            same(ours, statement(x, y))
            a, x = a + 1, x + 1


@pytest.mark.parametrize("dtype", ["i8", "i4", "?"])
def test_integers_and_bools(dtype):
    x = (numpy.arange(20000) % 7).astype(dtype)
    y = (numpy.arange(20000) % 3).astype(dtype)
    a, b = np.array(x), np.array(y)
    for _ in range(3):
        ours = (a & b) | (a ^ b)
        assert waits(ours)
        same(ours, (x & y) | (x ^ y))
        if dtype != "?":
            same(a * b - a, x * y - x)
            same(a * 3 + b, x * 3 + y)
            same(a / 2, x / 2)
            same(a << 1, x << 1)


def test_what_the_prices_were_not_asked_of_is_not_noted():
    _, (a, _) = pair()
    limits.forget()
    for _ in range(4):
        assert not waits(a + 1)
    assert limits.limit_of("add", numpy.dtype("f8")) > a.nbytes


def test_functions_are_noted_like_operators():
    (x, y), (a, b) = pair()
    for _ in range(3):
        ours = np.maximum(np.sqrt(a), np.negative(b))
        assert waits(ours)
        same(ours, numpy.maximum(numpy.sqrt(x), numpy.negative(y)))


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8"])
def test_choices_by_what_waits(dtype):
    (x, y), (a, b) = pair(dtype)
    for _ in range(3):
        ours = np.where(a > b, a, b) * 2 + np.where(a > 1, 0, b)
        assert waits(ours)
        same(ours, numpy.where(x > y, x, y) * 2 + numpy.where(x > 1, 0, y))
        same(np.where(a > b, 1.5, 2.5), numpy.where(x > y, 1.5, 2.5))
        same(np.where(a, a, b), numpy.where(x, x, y))
        same(np.where(a > b, a, b.astype("f2")), numpy.where(x > y, x, y.astype("f2")))


@pytest.mark.parametrize("layout", ["reversed", "strided", "transposed", "2d"])
def test_layouts(layout):
    x = numpy.arange(40000.0).reshape(200, 200)
    a = np.array(x)
    part = {
        "reversed": lambda v: v[::-1], "strided": lambda v: v[:, ::2], "transposed": lambda v: v.T,
        "2d": lambda v: v,
    }[layout]  # fmt: skip
    for _ in range(3):
        ours = part(a) * 2 + part(a)
        assert waits(ours)
        want = part(x) * 2 + part(x)
        same(ours, want)
        assert ours.strides == want.strides


def _write_item(a):
    a[5] = 99.0


def _write_slice(a):
    a[1:4] = 99.0


def _add_in_place(a):
    a += 1


def _write_view(a):
    view = a[::2]
    view *= 3


def _write_out(a):
    (np if type(a) is np.ndarray else numpy).multiply(a, 2, out=a)


def _sort(a):
    a.sort()


def _fill(a):
    a.fill(7)


@pytest.mark.parametrize("write", [_write_item, _write_slice, _add_in_place, _write_view,
                                   _write_out, _sort, _fill])  # fmt: skip
def test_a_later_write_to_an_operand_is_not_seen(write):
    for _ in range(3):
        (x, y), (a, b) = pair()
        ours, want = a * 2 - b, x * 2 - y
        assert waits(ours)
        write(a)
        write(x)
        same(ours, want)
        same(a, x)


def test_a_write_through_what_the_outside_holds_is_not_seen():
    for _ in range(3):
        (x, _), (a, _) = pair()
        ours, want = a * 2, x * 2
        numpy.asarray(a)[:] = 5
        same(ours, want)
        memoryview(a)[0] = 6.0
        again = a + 1
        assert not waits(again) or numpy.asarray(a)[0] == 6.0
        assert float(again[0]) == 7.0


def test_memory_that_the_outside_holds_is_not_noted():
    (x, _), (a, _) = pair()
    held = numpy.asarray(a)
    assert not waits(a + 1)
    del held
    gc.collect()
    assert not waits(np.asarray(x) + 1)


def test_a_write_to_a_small_result_is_not_what_others_read():
    for _ in range(4):
        x = numpy.linspace(0, 4, 4000)
        a = np.array(x)
        m = a * 2 > 5
        inverse, further = ~m, m & (a > 1)
        want, other = ~(x * 2 > 5), (x * 2 > 5) & (x > 1)
        np.evaluate(m)
        m[0] = True
        m[10:20] = True
        _ = inverse[0], further[0]
        same(inverse, want)
        same(further, other)


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "ge", "eq"]
)
@pytest.mark.parametrize("number", [2, 2.5, numpy.float64(1.5)])
def test_numbers_on_the_left(name, number):
    (x, _), (a, _) = pair()
    for _ in range(3):
        other = a + 1
        ours = getattr(operator, name)(number, a)
        want = getattr(operator, name)(number, x)
        np.evaluate(np.array(x) + other)
        numpy.testing.assert_allclose(numpy.asarray(ours), want, rtol=1e-14)
        assert ours.dtype == want.dtype


def test_results_that_names_hold_are_stored():
    for _ in range(4):
        (x, y), (a, b) = pair()
        t = a + b
        u = t * 2
        v = t - u
        same(v, (x + y) - (x + y) * 2)
        assert not waits(t)
        t += 1
        same(u, (x + y) * 2)
        same(t, x + y + 1)


def test_a_result_written_to_is_not_what_others_read():
    for _ in range(3):
        (x, y), (a, b) = pair()
        t = a + b
        u = t * 2
        t[0] = -1.0
        same(u, (x + y) * 2)


def test_a_name_that_dies_leaves_its_operands():
    for _ in range(3):
        (x, _), (a, _) = pair()
        ours, want = (a + 1) * 2, (x + 1) * 2
        del a
        gc.collect()
        same(ours, want)


def test_reductions_are_fused_and_equal_every_time():
    (x, y), (a, b) = pair(size=(64, 64, 4))
    for _ in range(4):
        for name in ("sum", "mean", "max", "argmin", "std", "any"):
            for kwargs in ({}, {"axis": 0}, {"axis": 1, "keepdims": True}, {"axis": -1}):
                ours = getattr((a - b) ** 2, name)(**kwargs)
                want = getattr((x - y) ** 2, name)(**kwargs)
                assert type(ours) is type(want) or type(ours) is np.ndarray
                numpy.testing.assert_allclose(numpy.asarray(ours), want, rtol=1e-13)
        kept = a * b
        assert kept.sum() == pytest.approx((x * y).sum())
        same(kept, x * y)


def test_reductions_refuse_what_numpy_refuses_every_time():
    (_, _), (a, _) = pair()
    for _ in range(4):
        assert (a + 1).sum(0) == (a + 1).sum()
        with pytest.raises(TypeError):
            (a + 1).sum(0.0)
        with pytest.raises(numpy.exceptions.AxisError):
            (a + 1).sum(axis=1)
        with pytest.raises(TypeError):
            (a + 1).sum(nonsense=1)


def test_overrides_and_recorders_hold_where_the_value_is_asked_for():
    for _ in range(3):
        (x, _), (a, _) = pair()
        one, two = a * 2 + 1, a * 3 + 1
        with np.record_dispatch() as record:
            same(one, x * 2 + 1)
        assert len(record.records) == 1
        with np.use_backend("serial"):
            same(two, x * 3 + 1)


def test_explain_sees_what_waits_and_what_ran():
    for _ in range(3):
        _, (a, _) = pair()
        ours = np.sqrt(a * 2)
        assert waits(ours)
        assert "sqrt" in str(np.explain(ours))
        np.evaluate(ours)
        assert "sqrt" in str(np.explain(ours))


def test_a_change_of_modes_does_not_end_the_tape():
    (x, _), (a, _) = pair()
    for _ in range(5):
        with numpy.errstate(divide="ignore"):
            ours = a * 2 + 1
            assert waits(ours)
            same(ours, x * 2 + 1)
        with numpy.errstate(divide="raise"):
            ours = a * 2 + 1
            assert not waits(ours)
            same(ours, x * 2 + 1)
    key = _fastpath.structure(_fastpath.sketch_of(a * 2 + 1))[0]
    with numpy.errstate(all="warn"), numpy.errstate(all="ignore"):
        assert _fastpath.structure(_fastpath.sketch_of(a * 2 + 1))[0] == key


def test_modes_are_those_of_the_recording():
    for _ in range(3):
        a = np.array(numpy.full(SIZE, 1e308))
        ours = a * 10
        with numpy.errstate(all="raise"):
            assert numpy.isinf(numpy.asarray(ours)).all()
        with pytest.raises(FloatingPointError), numpy.errstate(all="raise"):
            a * 10


def test_warnings_come_once_for_each_statement():
    code = """
import warnings, numpy
import dispatcharr as np
from dispatcharr.face import _fastpath
for slot in range(_fastpath.SLOTS):
    if slot != _fastpath.SLOT_NAMES.index("forward"):
        for number in range(numpy.dtype("f2").num + 1):
            _fastpath.set_limit(slot, 1 << 14, number)
from dispatcharr.face import tape
told = []
warnings.showwarning = lambda message, *rest: told.append((str(message), rest[2]))
warnings.simplefilter("always")
tape.notice()
a = np.array(numpy.full(4096, 1e308)); b = np.array(numpy.zeros(4096))
noted = 0
for _ in range(5):
    x = a * 10 + b
    noted += _fastpath.sketch_of(x) is not None
    np.evaluate(x)
    y = (a / b).sum()
assert noted >= 3, noted
print(told)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = eval(found.stdout)  # a list of pairs that this test printed
    heard = [message.partition(" encountered")[0] for message, _ in told]
    assert heard.count("divide by zero") == 5
    assert heard.count("overflow") == 5
    assert len(heard) == 10


def test_shape_and_dtype_do_not_compute():
    _, (a, _) = pair()
    ours = a * 2 > 3
    assert ours.shape == (SIZE,)
    assert ours.dtype == bool
    assert len(ours) == SIZE
    assert (ours.ndim, ours.size, ours.nbytes, ours.itemsize) == (1, SIZE, SIZE, 1)
    assert waits(ours)
    assert type(ours._value) is Node


def test_who_is_told_of_the_end_of_an_array_may_compute():
    _, (a, b) = pair()
    for _ in range(20):
        other, ended, heard = a * b + 1, a * b - 1, []
        watch = weakref.ref(ended, lambda _, other=other: heard.append(other[0]))
        del ended
        assert heard == [other[0]] and watch() is None
    assert not waits(other)


@pytest.mark.parametrize("dtype", ["f8", "i8", "c16"])
def test_reductions_of_swapped_bytes_are_not_those_of_native_ones(dtype: str) -> None:
    values = numpy.arange(1, 8)
    with np.dispatch_options(defer="always", engine="compiled"):
        native, swapped = np.array(values.astype(dtype)), np.array(values.astype(f">{dtype}"))
        for name in ("max", "sum", "argmax"):
            wanted = getattr(values.astype(dtype), name)()
            assert [getattr(native, name)() for _ in range(4)] == [wanted] * 4
            assert getattr(swapped, name)() == wanted
