"""Operators: every operand on either side, in place, and on memory that several arrays see."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import FEWER, MODES, ask, differ, genuine, mode, ours, report
from rows import ROWS, accepts, promised
from samples import DTYPES, filled, specials, tame


def _python_operator(name: str, prefix: str = "") -> Callable[..., Any]:
    if name == "divmod":
        return divmod
    return getattr(
        operator, prefix + (f"{name}_" if name in ("and", "or") and not prefix else name)
    )


BY_OPERATOR = {row.operator: row for row in ROWS.values() if row.operator}
BINARY = [name for name, row in BY_OPERATOR.items() if row.nin == 2]
UNARY = [name for name, row in BY_OPERATOR.items() if row.nin == 1]
COMPARISONS = {"lt", "le", "eq", "ne", "gt", "ge"}
IN_PLACE = [name for name in BINARY if name not in COMPARISONS and name != "divmod"]


class Stranger:
    """An operand that nobody knows."""

    def __repr__(self) -> str:
        return "a stranger"


class Deaf:
    """An operand that refuses ufuncs: operators must hand over to its reflected methods."""

    __array_ufunc__ = None

    def _answer(self, other: Any) -> str:
        return "mine"

    __radd__ = __rmul__ = __rpow__ = __rmatmul__ = __rdivmod__ = __rand__ = _answer
    __rsub__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __ror__ = __rxor__ = _answer
    __rlshift__ = __rrshift__ = __lt__ = __le__ = __gt__ = __ge__ = _answer


def others(char: str) -> Iterator[Any]:
    """Return what an array of five elements of dtype ``char`` may be combined with."""
    yield from (2, -1, 0, 300, 0.5, 2.0, 1j, True, float("nan"), 2**63, -(2**70))
    yield from (numpy.float32(1.5), numpy.int8(3), numpy.uint64(7), numpy.bool_(True))
    yield from ([1, 2, 3, 4, 5], (1.5, 2, 3, 4, 5), [[1], [2]], [1, 2], [])
    yield from (numpy.arange(5), tame("f", (3, 5)), numpy.array(2.5), numpy.ones((2, 1), "b"))
    yield from (None, "text", Stranger(), Deaf(), {}, b"x", numpy.array(["a"] * 5), range(5))
    yield from (numpy.ma.masked_array([1.0, 2, 3, 4, 5]), numpy.arange(5, dtype=object))


def short(operands: tuple[Any, ...]) -> str:
    return ", ".join(
        f"{a.dtype}{a.shape}" if isinstance(a, numpy.ndarray) else repr(a) for a in operands
    )


def check(
    name: str, operate: Callable[..., Any], cases: Iterator[tuple[Any, ...]], modes: Any
) -> None:
    row = BY_OPERATOR[name]
    wrong = []
    for operands in cases:
        wanted = ask(operate, *operands)
        for backend, way in modes:
            mine = tuple(ours(operand) for operand in operands)
            with mode(backend, way):
                got = ask(genuine(operate), *mine)
            reason = differ(_without_address(got), _without_address(wanted), close=promised(row))
            if reason:
                wrong.append(f"{backend}, {way}, {name} of {short(operands)}: {reason}")
    report(wrong)


def _without_address(answer: Any) -> Any:
    """Return an answer whose error names NumPy's array type: ours says its own name there."""
    if isinstance(answer.error, TypeError):
        text = str(answer.error).replace("dispatcharr.ndarray", "numpy.ndarray")
        answer = type(answer)(answer.value, TypeError(text), answer.warned, answer.owns)
    return answer


@pytest.mark.parametrize("name", BINARY)
def test_operands_of_every_sort_on_either_side(name: str) -> None:
    def cases() -> Iterator[tuple[Any, ...]]:
        for char in "dB?F":
            array = filled(char, 5)
            for other in others(char):
                yield array, other
                if not isinstance(other, Deaf):
                    yield other, array

    check(name, _python_operator(name), cases(), FEWER)


@pytest.mark.parametrize("name", BINARY)
def test_numpy_arrays_on_either_side(name: str) -> None:
    """One operand stays a genuine NumPy array: the result is ours either way."""
    operate = _python_operator(name)
    wrong = []
    for shapes in (((7,), (7,)), ((3, 1), (4,)), ((2, 3), (3,)), ((), (4,)), ((2,), (3,))):
        left, right = filled("d", shapes[0], 1), filled("l", shapes[1], 2)
        wanted = ask(operate, left, right)
        for backend, way in MODES:
            with mode(backend, way):
                for got in (
                    ask(genuine(operate), ours(left), right),
                    ask(genuine(operate), left, ours(right)),
                ):
                    reason = differ(_without_address(got), _without_address(wanted),
                                    close=promised(BY_OPERATOR[name]))  # fmt: skip
                    if reason:
                        wrong.append(f"{backend}, {way}, {shapes}: {reason}")
    report(wrong)


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    check(name, _python_operator(name), ((specials(char),) for char in DTYPES), MODES)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 0.5, 2.0, 1.0, -0.5, -1.0, True, 2 + 0j,
                                      numpy.float64(2), numpy.int8(2), numpy.array(2),
                                      numpy.float32(0.5), numpy.float64(3), numpy.bool(True),
                                      1e400])  # fmt: skip
def test_powers(exponent: Any) -> None:
    def cases() -> Iterator[tuple[Any, ...]]:
        for char in DTYPES:
            yield specials(char), exponent

    check("pow", operator.pow, cases(), FEWER)


def test_a_modulus_is_refused() -> None:
    with pytest.raises(TypeError):
        pow(np.arange(3), 2, 5)  # type: ignore[call-overload]


def _in_place(operate: Callable[..., Any]) -> Callable[..., Any]:
    def run(array: Any, other: Any) -> Any:
        view, before = array[...], array
        array = operate(array, other)
        if array is not before:
            return array
        return array, view + 0, "the same object"

    return run


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name: str) -> None:
    def cases() -> Iterator[tuple[Any, ...]]:
        for char in "dfBl?F":
            array = filled(char, (9, 5))
            for other in (2, 300, -1, 0.5, 2.0, 1j, True, numpy.float32(1.5), numpy.int8(3),
                          numpy.float64(2), [1] * 5,
                          filled("d", 5), filled("b", (9, 1)), numpy.ones((2, 9, 5)), None, "a",
                          filled("f", (9, 5)), numpy.zeros(4), filled("l", (5, 9)).T):  # fmt: skip
                yield array, other

    run = _in_place(_python_operator(name, "i"))
    row = BY_OPERATOR[name]
    wrong = []
    for array, other in cases():
        wanted = ask(run, array.copy(), other)
        for backend, way in MODES:
            with mode(backend, way):
                got = ask(run, ours(array), ours(other))
            reason = differ(_without_address(got), _without_address(wanted), close=promised(row))
            if reason:
                wrong.append(f"{backend}, {way}, {name}= of {short((array, other))}: {reason}")
    report(wrong)


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_on_a_pending_array(name: str) -> None:
    operate, row = _python_operator(name, "i"), BY_OPERATOR[name]
    wrong = []
    for char in (c for c in "dl?" if accepts(row.name, c * 2)):
        array, other = filled(char, 40), tame(char, 40)

        def program(use: Any, x: Any, y: Any) -> Any:
            first = use.where(True, x, x)
            second = use.where(True, first, y)
            kept = first
            first = operate(first, y)
            return first, second, kept, first is kept

        wanted = ask(program, numpy, array, other)
        for backend, way in MODES:
            with mode(backend, way):
                got = ask(program, np, ours(array), ours(other))
            reason = differ(got, wanted, close=promised(row))
            if reason:
                wrong.append(f"{backend}, {way}, {char}: {reason}")
    report(wrong)


SHARED: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "itself": lambda a: (a, a),
    "shifted up": lambda a: (a[1:], a[:-1]),
    "shifted down": lambda a: (a[:-1], a[1:]),
    "backwards": lambda a: (a, a[::-1]),
    "interleaved": lambda a: (a[::2], a[1::2]),
    "half": lambda a: (a[: len(a) // 2 // 2 * 2 : 2], a[: len(a) // 4]),
    "one element": lambda a: (a, a[3:4]),
    "transposed": lambda a: (a[:3600].reshape(60, 60), a[:3600].reshape(60, 60).T),
    "a row of itself": lambda a: (a[:3600].reshape(60, 60), a[:60]),
    "a column of itself": lambda a: (a[:3600].reshape(60, 60), a[:3600].reshape(60, 60)[:, 1:2]),
}


@pytest.mark.parametrize("size", [4000, 40_000, pytest.param(400_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["add", "truediv", "pow"])
def test_in_place_on_shared_memory(name: str, size: int) -> None:
    operate = _python_operator(name, "i")
    wrong = []

    def program(use: Any, array: Any, views: Any) -> Any:
        target, other = views(array)
        waiting = use.add(other, 1)
        operate(target, other)
        return array, waiting

    for what, views in SHARED.items():
        values = tame("d", size)
        wanted = ask(program, numpy, values.copy(), views)
        for backend, way in MODES:
            with mode(backend, way):
                got = ask(program, np, ours(values), views)
            reason = differ(got, wanted, close=promised(BY_OPERATOR[name]))
            if reason:
                wrong.append(f"{backend}, {way}, {what}: {reason}")
    report(wrong)


@pytest.mark.parametrize("size", [4000, 40_000])
def test_assignment_on_shared_memory(size: int) -> None:
    wrong = []

    def program(use: Any, array: Any, views: Any, expression: Any) -> Any:
        target, other = views(array)
        waiting = use.add(target, 1)
        target[...] = expression(use, other)
        return array, waiting

    expressions: list[Callable[[Any, Any], Any]] = [
        lambda use, x: x,
        lambda use, x: use.add(x, x),
        lambda use, x: use.sqrt(use.add(x, 1)),
    ]
    for what, views in SHARED.items():
        if what == "half":
            # NumPy overwrites there what it still has to read; ours reads it first.
            continue
        for number, expression in enumerate(expressions):
            values = tame("d", size)
            wanted = ask(program, numpy, values.copy(), views, expression)
            for backend, way in MODES:
                with mode(backend, way):
                    got = ask(program, np, ours(values), views, expression)
                reason = differ(got, wanted)
                if reason:
                    wrong.append(f"{backend}, {way}, {what}, expression {number}: {reason}")
    report(wrong)


WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "item": lambda use, y: y.__setitem__(0, 99.0),
    "slice": lambda use, y: y.__setitem__(slice(1, None), y[:-1]),
    "operator": lambda use, y: operator.iadd(y, 5),
    "view": lambda use, y: operator.imul(y[::2], 3),
    "out": lambda use, y: use.sqrt(y, out=y),
    "method": lambda use, y: y.sort(),
    "fill": lambda use, y: y.fill(7),
    "export": lambda use, y: numpy.asarray(y).__setitem__(slice(None), 3.0),
    "function": lambda use, y: use.copyto(y, 8.0),
    "at": lambda use, y: use.add.at(y, [0, 1, 1], 1.0),
}
LOOKS: dict[str, Callable[[Any, Any], Any]] = {
    "not at all": lambda use, y: None,
    "at an element": lambda use, y: float(y[2]),
    "at the sum": lambda use, y: y.sum(),
    "at all of it": lambda use, y: str(y),
}


@pytest.mark.parametrize("size", [50, 5000])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_does_not_reach_what_waits_on_the_array(write: str, size: int) -> None:
    def program(use: Any, x: Any, look: Callable[[Any, Any], Any]) -> Any:
        y = x + 1.0
        double = y * 2
        chain = use.sqrt(double) + y
        look(use, y)
        more = y - chain
        WRITES[write](use, y)
        after = y + double
        look(use, y)
        WRITES[write](use, y)
        return double, chain, more, y, after

    wrong = []
    for name, look in LOOKS.items():
        values = tame("d", size)
        wanted = ask(program, numpy, values.copy(), look)
        for backend, way in MODES:
            with mode(backend, way):
                got = ask(program, np, ours(values), look)
            reason = differ(got, wanted)
            if reason:
                wrong.append(f"{backend}, {way}, looked {name}: {reason}")
    report(wrong)
