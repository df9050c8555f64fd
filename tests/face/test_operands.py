"""Operators and functions between our arrays and everything else, in both orders."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy
import pytest

import dispatcharr as np

Make = Callable[[Any], Any]
SameOutcome = Callable[..., None]
BINARY = (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.pow, operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift,
    operator.matmul, divmod, operator.lt, operator.le, operator.eq, operator.ne, operator.gt,
    operator.ge,
)  # fmt: skip
INPLACE = (
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv,
    operator.imod, operator.ipow, operator.iand, operator.ior, operator.ixor, operator.ilshift,
    operator.irshift, operator.imatmul,
)  # fmt: skip
ARRAYS = {
    "float": numpy.array([[1.5, 2.0], [3.0, -4.0]]),
    "single": numpy.array([[1.5, 2.0], [3.0, 4.0]], "f4"),
    "int": numpy.array([[1, 2], [3, 4]]),
    "small int": numpy.array([[1, 2], [3, 100]], "i1"),
    "bool": numpy.array([[True, False], [True, True]]),
    "complex": numpy.array([[1j, 2], [3, 4]]),
}
OTHERS = (
    numpy.array([[2.0, 1.0], [1.0, 2.0]]), numpy.array([1, 2]), numpy.array(2), numpy.zeros((3, 3)),
    2, 2.5, 1j, True, 0, -1, 10**30, 300, numpy.float64(2), numpy.float32(2.5), numpy.int8(3),
    numpy.bool_(True), [1, 2], [[1, 2], [3, 4]], (1, 2), [1, 2, 3], None, "text", b"bytes",
    Decimal(2), Fraction(1, 2), numpy.array(["a", "b"]), numpy.array([1, "x"], object),
    numpy.array([None, 2]), numpy.datetime64("2020-01-01"), numpy.timedelta64(2, "D"),
    numpy.array(["2020-01-01", "2020-01-02"], "M8[D]"), numpy.array([1, 2], "m8[s]"),
    numpy.zeros(2, [("x", "f8")]), numpy.array([1, 2], numpy.longdouble), object(), {}, range(2),
)  # fmt: skip


def ours(value: Any) -> Any:
    return np.array(value) if isinstance(value, numpy.ndarray) else value


def unnamed(call: Callable[[], Any]) -> Callable[[], Any]:
    """Have TypeErrors compared without their text, which names the class of the array."""

    def run() -> Any:
        try:
            return call()
        except TypeError as error:
            raise TypeError from error

    return run


def _answers_alone(value: Any) -> bool:
    """Return whether NumPy compares with ``value`` on the left without asking the other operand."""
    return isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind in "VUMm"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("operate", BINARY)
def test_binary_operators(operate: Any, values: Any, make: Make, same_outcome: SameOutcome) -> None:
    array = make(values)
    for other in OTHERS:
        for mine in (other, ours(other)):
            with numpy.errstate(all="ignore"):
                same_outcome(unnamed(lambda m=mine: operate(array, m)),
                             unnamed(lambda o=other: operate(values, o)))  # fmt: skip
                if not _answers_alone(mine):
                    same_outcome(unnamed(lambda m=mine: operate(m, array)),
                                 unnamed(lambda o=other: operate(o, values)))  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("operate", INPLACE)
def test_inplace_operators(
    operate: Any, values: Any, make: Make, same_outcome: SameOutcome
) -> None:
    for other in OTHERS:
        for mine in (other, ours(other)):
            host, array = values.copy(), make(values)

            def run(left: Any, right: Any) -> Any:
                result = operate(left, right)
                return "itself" if result is left else result

            with numpy.errstate(all="ignore"):
                same_outcome(unnamed(lambda a=array, m=mine, r=run: r(a, m)),
                             unnamed(lambda h=host, o=other, r=run: r(h, o)))  # fmt: skip
            numpy.testing.assert_array_equal(array, host)


@pytest.mark.parametrize("operate", [operator.neg, operator.pos, abs, operator.invert])
@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_unary_operators(operate: Any, values: Any, make: Make, same_outcome: SameOutcome) -> None:
    same_outcome(unnamed(lambda: operate(make(values))), unnamed(lambda: operate(values)))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, 0.5, 2.0, -0.5, 1.0, True, 2j])
@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_powers(exponent: Any, values: Any, make: Make, same_outcome: SameOutcome) -> None:
    with numpy.errstate(all="ignore"):
        same_outcome(lambda: make(values) ** exponent, lambda: values**exponent)
    same_outcome(unnamed(lambda: pow(make(values), 2, 3)), unnamed(lambda: pow(values, 2, 3)))


def test_a_numpy_array_on_the_left_gives_ours(make: Make, same: Callable[..., None]) -> None:
    host = numpy.arange(3.0)
    same(host + make([1.0, 2.0, 3.0]), host + 1 + numpy.arange(3.0))
    same(numpy.hypot(host, make([1.0, 2.0, 3.0])), numpy.hypot(host, host + 1))
    same(numpy.concatenate([host, make([1.0])]), numpy.concatenate([host, [1.0]]))


def test_a_numpy_array_updated_in_place_stays_itself(make: Make) -> None:
    host = before = numpy.arange(3.0)
    host += make([1.0, 1.0, 1.0])
    host *= make([2.0, 2.0, 2.0])
    assert host is before
    assert type(host) is numpy.ndarray
    numpy.testing.assert_array_equal(host, [2.0, 4.0, 6.0])


def test_functions_write_into_what_they_are_given(make: Make) -> None:
    array, host, mine = make([1.0, 4.0]), numpy.empty(2), np.empty(2)
    for sqrt in (np.sqrt, numpy.sqrt):
        for out in (host, mine):
            assert sqrt(array, out=out) is out
            assert sqrt(array, out=(out,)) is out
            assert sqrt(array, out) is out
            numpy.testing.assert_array_equal(out, [1.0, 2.0])
    whole = np.modf(array, out=(mine, None))
    assert whole[0] is mine
    assert np.sum(array, out=np.empty(())).shape == ()
    assert np.matmul(np.ones((2, 2)), array, out=host) is host
    assert np.clip(array, 1, 2, out=host) is host
    assert np.cumsum(array, out=host) is host
    assert np.concatenate([array, array], out=numpy.empty(4)).shape == (4,)
    assert type(np.stack([array, array], out=numpy.empty((2, 2)))) is numpy.ndarray


def test_keywords_of_functions(make: Make, same_outcome: SameOutcome) -> None:
    values = numpy.array([1.0, 4.0, 9.0])
    for kwargs in (
        {"dtype": "f4"}, {"where": [True, True, True]}, {"casting": "no"}, {"order": "F"},
        {"subok": False}, {"out": None}, {"dtype": "i4"}, {"where": False, "out": None},
        {"unknown": 1}, {"dtype": complex, "casting": "safe"}, {"axis": 0},
    ):  # fmt: skip
        if kwargs.get("where") is False:
            kwargs["out"] = numpy.ones(3)
        same_outcome(lambda k=kwargs: np.sqrt(make(values), **ours_of(k)),
                     lambda k=kwargs: numpy.sqrt(values, **k))  # fmt: skip
        same_outcome(lambda k=kwargs: np.add(make(values), 1, **ours_of(k)),
                     lambda k=kwargs: numpy.add(values, 1, **k))  # fmt: skip
    same_outcome(lambda: np.add(make(values)), lambda: numpy.add(values))
    same_outcome(lambda: np.sqrt(), lambda: numpy.sqrt())


def ours_of(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: ours(value) for name, value in kwargs.items()}


def test_ufunc_methods(make: Make, same: Callable[..., None]) -> None:
    values = numpy.array([3.0, 1.0, 2.0, 5.0])
    array = make(values)
    same(np.add.reduce(array), numpy.add.reduce(values))
    same(np.multiply.accumulate(array), numpy.multiply.accumulate(values))
    same(np.add.reduceat(array, [0, 2]), numpy.add.reduceat(values, [0, 2]))
    same(np.subtract.outer(array, array), numpy.subtract.outer(values, values))
    same(numpy.maximum.accumulate(array), numpy.maximum.accumulate(values))
    with np.dispatch_options(defer="always"):
        waiting = array * 2
        np.add.at(array, [0, 0], 1)
    assert array[0] == 5.0
    assert waiting[0] == 6.0


def test_a_function_looks_like_its_ufunc() -> None:
    assert isinstance(np.add, numpy.ufunc)
    assert np.add.nin == 2
    assert np.add.nout == 1
    assert np.add.identity == 0
    assert np.add.types == numpy.add.types
    assert np.add.signature is None
    assert repr(np.add) == repr(numpy.add)
    assert np.add.__name__ == "add"
    assert np.add.__doc__ == numpy.add.__doc__
    assert np.abs is np.absolute
    assert np.add == numpy.add
    assert hash(np.add) == hash(numpy.add)
    assert {numpy.add: 1}[np.add] == 1
    assert np.add.resolve_dtypes((numpy.dtype("f4"), int, None)) == numpy.add.resolve_dtypes(
        (numpy.dtype("f4"), int, None)
    )


def test_functions_of_lists_and_scalars(same: Callable[..., None]) -> None:
    same(np.add([1, 2], [3, 4]), numpy.add([1, 2], [3, 4]))
    same(np.sin(0.5), numpy.sin(0.5))
    same(np.maximum(2, [1, 3]), numpy.maximum(2, [1, 3]))
    same(np.where([True, False], 1, 2.5), numpy.where([True, False], 1, 2.5))
    same(np.where([True, False]), numpy.where([True, False]))
    same(np.clip([1, 5], 2, 3), numpy.clip([1, 5], 2, 3))


def test_shape_and_dtype_errors_come_at_once_in_numpys_words(
    make: Make, same_outcome: SameOutcome, always: None
) -> None:
    host = numpy.ones((2, 3))
    array = make(host)
    for call in (
        lambda m, a: a + m.ones((3, 2)),
        lambda m, a: m.where(a > 0, a, m.ones(4)),
        lambda m, a: a << 1,
        lambda m, a: ~a,
        lambda m, a: m.bitwise_and(a, 1),
        lambda m, a: a.__iadd__(m.ones((4, 2, 3))),
        lambda m, a: m.ones(3, "i4").__iadd__(1.5),
        lambda m, a: m.add(a, a, out=m.empty((3, 3))),
        lambda m, a: a.sum(axis=2),
        lambda m, a: a.mean(axis="x"),
        lambda m, a: a.__setitem__((slice(None), 0), m.ones(3)),
        lambda m, a: m.ones(3, "u1") + 300,
        lambda m, a: m.ones(3, "u1") + (-1),
        lambda m, a: m.ones(3, "i8") ** -1,
        lambda m, a: m.clip(a, m.ones(5), 2),
        lambda m, a: a.astype("f4", casting="safe"),
        lambda m, a: a.astype("nonsense"),
        lambda m, a: a.reshape(5),
        lambda m, a: m.concatenate([a, m.ones((2, 2))]),
    ):
        same_outcome(lambda c=call: c(np, array), lambda c=call: c(numpy, host.copy()))
