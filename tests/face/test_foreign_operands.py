"""Classes of others as operands: NumPy's rules of who answers hold for our arrays too."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np

Make = Callable[[Any], Any]
OPERATORS = (
    operator.add, operator.mul, operator.truediv, operator.pow, operator.matmul, operator.eq,
    operator.lt, divmod, operator.and_, operator.floordiv,
)  # fmt: skip


def _answering(name: str) -> Callable[..., Any]:
    return lambda self, *args: name


REFLECTED = {
    f"__{name}__": _answering(name)
    for name in ("radd", "rmul", "rtruediv", "rpow", "rmatmul", "rdivmod", "rand", "rfloordiv",
                 "eq", "gt", "iadd")
}  # fmt: skip
Refuses = type("Refuses", (), {**REFLECTED, "__array_ufunc__": None})
Prior = type("Prior", (), {**REFLECTED, "__array_priority__": 1000})
Plain = type("Plain", (), REFLECTED)


class Own:
    """Answers ufuncs itself, and remembers what it was given."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return ufunc.__name__, method, [type(value).__name__ for value in inputs]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return function.__name__


def described(result: Any) -> Any:
    if isinstance(result, numpy.ndarray | np.ndarray):
        return result.dtype, result.shape, result.tolist()
    return result


@pytest.mark.parametrize("operate", OPERATORS)
@pytest.mark.parametrize("kind", [Refuses, Prior, Plain, Own])
def test_who_answers(operate: Any, kind: Any, make: Make) -> None:
    values = numpy.array([[1.0, 2.0], [3.0, 4.0]])
    other = kind()

    def run(left: Any, right: Any) -> Any:
        try:
            return described(operate(left, right))
        except (TypeError, ValueError) as error:
            return type(error)

    assert run(make(values), other) == run(values, other)
    assert run(other, make(values)) == run(other, values)


def test_functions_ask_the_other_class(make: Make) -> None:
    array = make([1.0, 2.0])
    assert np.add(array, Own()) == ("add", "__call__", ["ndarray", "Own"])
    assert np.add(Own(), array) == ("add", "__call__", ["Own", "ndarray"])
    assert numpy.add(array, Own()) == ("add", "__call__", ["ndarray", "Own"])
    assert np.add.reduce(Own()) == ("add", "reduce", ["Own"])
    assert np.concatenate([array, Own()]) == "concatenate"
    assert numpy.concatenate([array, Own()]) == "concatenate"
    assert np.add(array, 1, out=Own())[0] == "add"
    with pytest.raises(TypeError):
        np.add(array, Refuses())


def test_the_other_class_may_decline(make: Make) -> None:
    class Declines:
        def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
            return NotImplemented

        def __radd__(self, other: Any) -> Any:
            return "radd"

    with pytest.raises(TypeError, match="operand type"):
        make([1.0]) + Declines()
    with pytest.raises(TypeError, match="operand type"):
        np.add(make([1.0]), Declines())


def test_masked_arrays(make: Make) -> None:
    masked = numpy.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    array = make([10.0, 20.0, 30.0])
    for result in (array + masked, masked + array, np.add(array, masked), numpy.add(masked, array)):
        assert type(result) is numpy.ma.MaskedArray
        assert result.tolist() == [11.0, None, 33.0]
    masked += array
    assert masked.tolist() == [11.0, None, 33.0]
    assert np.ma.masked_greater(array, 15).tolist() == [10.0, None, None]
    assert np.ma.array(array, mask=[1, 0, 0]).sum() == 50


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrices(make: Make) -> None:
    matrix = numpy.matrix([[1.0, 2.0], [3.0, 4.0]])
    array = make([[1.0, 0.0], [0.0, 1.0]])
    for result in (array + matrix, matrix + array, array * matrix, matrix * array, matrix @ array):
        assert type(result) is numpy.matrix
    numpy.testing.assert_array_equal(matrix * array, matrix)


@pytest.mark.parametrize(
    "values",
    [
        numpy.array(["2020-01-01", "NaT"], "M8[D]"),
        numpy.array([3, 4], "m8[h]"),
        numpy.array(["ab", "c"]),
        numpy.array([b"ab", b"c"]),
        numpy.array([1, "x", None], object),
        numpy.array([2**70, 1], object),
        numpy.zeros(3, [("x", "f8"), ("y", "U3")]),
        numpy.array([1, 2], numpy.longdouble),
        numpy.array([1, 2], ">i4"),
        numpy.array(["ab", "c"], numpy.dtypes.StringDType()),
    ],
    ids=lambda values: str(values.dtype),
)
def test_dtypes_that_are_not_planned(
    values: Any, same_outcome: Callable[..., None], always: None
) -> None:
    array = np.array(values)
    for call in (
        lambda a: a, lambda a: a + a, lambda a: a == a, lambda a: a[:1], lambda a: a.astype(str),
        lambda a: a.max(), lambda a: a * 2, lambda a: -a, lambda a: a.sum(), lambda a: a.tolist(),
        lambda a: a.copy(), lambda a: a - a[0], lambda a: a.argsort(), lambda a: a.astype(object),
        lambda a: a > a[::-1], lambda a: a.repeat(2), lambda a: a.nbytes, lambda a: a.dtype.str,
    ):  # fmt: skip
        same_outcome(lambda c=call: c(array), lambda c=call: c(values))


def test_strings(same: Callable[..., None]) -> None:
    values = numpy.array(["ab", "c"])
    same(np.strings.upper(np.array(values)), numpy.strings.upper(values))
    same(np.char.add(np.array(values), "x"), numpy.char.add(values, "x"))


def test_whoever_keeps_what_an_operator_gave_him_is_noticed(always: None) -> None:
    class Keeps:
        __array_priority__ = 1000

        def __radd__(self, other: Any) -> Any:
            self.kept = other
            return 0

        def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
            self.kept = args[0][0]
            return 0

    for use in (lambda a, k: a + k, lambda a, k: np.concatenate([a, k])):
        array, keeper = np.arange(5000.0), Keeps()
        use(array, keeper)
        doubled = array * 2
        numpy.asarray(keeper.kept)[0] = 9
        assert doubled[0] == 0
        assert array[0] == 9


def test_callbacks_that_keep_an_argument_are_noticed(always: None) -> None:
    kept: list[Any] = []
    array = np.arange(6000.0).reshape(2, 3000)
    np.apply_along_axis(lambda row: kept.append(row) or 0, 1, array)
    doubled = array * 2
    kept[0][0] = 9
    assert doubled[0, 0] == 0
