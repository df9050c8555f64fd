"""Whole programs, step by step next to NumPy: that operations wait cannot be observed.

A program binds names, takes views, writes through them, lends memory to the outside and writes
there, drops names, and looks at values now and then. After every step shapes, dtypes and strides
agree; whatever is looked at agrees; in the end everything does.
"""

from __future__ import annotations

import ctypes
import math
import operator
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import dispatcharr as np

pytestmark = pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")

#: Above the size whose operands are copied when they are recorded, so that memory is shared.
SHAPES = ((1100,), (33, 34), (9, 5, 30), (6,), (2, 3))
DTYPES = ("f8", "f4", "i8", "i2", "?", "c16")
ARITHMETIC = (operator.add, operator.sub, operator.mul)
COMPARE = (operator.lt, operator.ge, operator.eq)
INPLACE = (operator.iadd, operator.isub, operator.imul)
KEYS = (
    slice(1, None), slice(None, -1), slice(None, None, -1), slice(None, None, 2), ..., 0,
    (slice(None), None), (..., 0), (..., slice(2, None)), slice(3, 7),
)  # fmt: skip
EXPORTS: tuple[Callable[[Any], Any], ...] = (
    numpy.asarray,
    lambda a: numpy.asarray(a.data),
    lambda a: numpy.asarray(a)[::-1],
    lambda a: a.flat,
    lambda a: numpy.lib.stride_tricks.as_strided(a),
    lambda a: numpy.asarray(_Interface(a)),
    lambda a: _Address(a),
    numpy.from_dlpack,
)  # fmt: skip
WRITES: tuple[Callable[[Any, Any], Any], ...] = (
    lambda m, a: a.sort(),
    lambda m, a: a.fill(2),
    lambda m, a: m.copyto(a, a[::-1].copy()),
    lambda m, a: m.add.at(a, (0,), 1),
    lambda m, a: a.__setitem__(a > 3, 0),
)


class _Address:
    """Somebody who keeps the array and writes to its address."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.pointer = ctypes.cast(array.ctypes.data, ctypes.POINTER(ctypes.c_double))

    def __setitem__(self, key: slice, value: int) -> None:
        for i in range(min(key.stop, self.array.size)):
            self.pointer[i] = value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return numpy.array(self.array)


class _Interface:
    """Somebody who keeps the array and hands on its interface dictionary."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


def attempt(call: Callable[[], Any]) -> Any:
    """Return the result, or the type of the error."""
    try:
        return call()
    except (ValueError, TypeError, IndexError, BufferError) as error:
        return type(error)


def steps(array: Any) -> list[int]:
    """Return the strides that mean something: those of axes of length one do not."""
    return [s for s, n in zip(array.strides, array.shape, strict=True) if n != 1]


class Programs(RuleBasedStateMachine):
    """Steps of a program, done with NumPy and with dispatcharr."""

    shapes: tuple[tuple[int, ...], ...] = SHAPES
    #: Elements of the largest result: operands that broadcast against each other soon fill memory.
    most = 50_000
    options: tuple[dict[str, Any], ...] = (
        {"defer": "always"},
        {"defer": "always", "fusion": False},
        {"defer": "always", "backend": "serial"},
        {"defer": "always", "backend": "threads", "threads": 2},
        {"defer": "never"},
        {},
    )

    def __init__(self) -> None:
        super().__init__()
        self.names: list[list[Any]] = []
        self.outside: list[tuple[Any, Any]] = []
        self.quiet = numpy.errstate(all="ignore")
        self.quiet.__enter__()

    @initialize(data=st.data())
    def begin(self, data: Any) -> None:
        self.scope = np.dispatch_options(**data.draw(st.sampled_from(self.options)))
        self.scope.__enter__()
        for _ in range(2):
            self.create(data)

    def teardown(self) -> None:
        for mine, theirs in self.names:
            numpy.testing.assert_array_equal(mine, theirs)
        for mine, theirs in self.outside:
            numpy.testing.assert_array_equal(numpy.array(mine), numpy.array(theirs))
        self.quiet.__exit__(None, None, None)
        if hasattr(self, "scope"):
            self.scope.__exit__(None, None, None)

    @invariant()
    def what_is_known_without_values_agrees(self) -> None:
        for mine, theirs in self.names:
            assert type(mine) is np.ndarray
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
            assert steps(mine) == steps(theirs)

    def bind(self, mine: Any, theirs: Any) -> None:
        """Give a result a name, or compare it when it is none that can have one."""
        if type(theirs) is numpy.ndarray and type(mine) is np.ndarray and theirs.ndim:
            self.names.append([mine, theirs])
            del self.names[:-12]
        elif isinstance(theirs, type):
            assert mine is theirs, f"{mine} in the place of {theirs}"
        else:
            numpy.testing.assert_array_equal(mine, theirs, strict=True)

    def fits(self, *operands: Any) -> bool:
        """Return whether operands broadcast against each other are not too large."""
        backwards = [numpy.shape(operand)[::-1] for operand in operands]
        return math.prod(map(max, zip_longest(*backwards, fillvalue=1))) <= self.most

    def both(self, call: Callable[..., Any], *names: list[Any]) -> None:
        if not self.fits(*[name[1] for name in names]):
            return
        theirs = attempt(lambda: call(numpy, *[name[1] for name in names]))
        self.bind(attempt(lambda: call(np, *[name[0] for name in names])), theirs)

    def name(self, data: Any) -> list[Any]:
        return data.draw(st.sampled_from(self.names))  # type: ignore[no-any-return]

    @rule(data=st.data())
    def create(self, data: Any) -> None:
        shape = data.draw(st.sampled_from(self.shapes))
        dtype = numpy.dtype(data.draw(st.sampled_from(DTYPES)))
        seed = data.draw(st.integers(0, 99))
        drawn = numpy.random.default_rng(seed).permutation(int(numpy.prod(shape)))
        values = (drawn - 50).astype(dtype)
        values = numpy.ascontiguousarray(values.reshape(shape))
        self.bind(np.array(values), values.copy())

    @rule(data=st.data(), which=st.sampled_from(["full", "arange", "linspace", "ones"]))
    def generate(self, data: Any, which: str) -> None:
        size = data.draw(st.sampled_from([7, 1100]))
        calls = {
            "full": lambda m: m.full((size,), 2.5),
            "arange": lambda m: m.arange(3, size),
            "linspace": lambda m: m.linspace(0, 1, size),
            "ones": lambda m: m.ones((size, 2), "f4"),
        }
        self.both(calls[which])

    @rule(data=st.data(), operate=st.sampled_from((*ARITHMETIC, *COMPARE, operator.truediv)))
    def combine(self, data: Any, operate: Any) -> None:
        self.both(lambda m, a, b: operate(a, b), self.name(data), self.name(data))

    @rule(
        data=st.data(),
        operate=st.sampled_from(ARITHMETIC),
        value=st.sampled_from([2, 0.5, -1, 1j]),
    )
    def scale(self, data: Any, operate: Any, value: Any) -> None:
        self.both(lambda m, a: operate(value, a), self.name(data))

    @rule(data=st.data(), what=st.integers(0, 7))
    def transform(self, data: Any, what: int) -> None:
        calls = (
            lambda m, a: -a, lambda m, a: m.square(a), lambda m, a: m.where(a > 0, a, 1),
            lambda m, a: m.clip(a, -3, 5), lambda m, a: a.astype("f4"), lambda m, a: abs(a),
            lambda m, a: a.copy(), lambda m, a: m.maximum(a, a[..., :1]),
        )  # fmt: skip
        self.both(calls[what], self.name(data))

    @rule(data=st.data(), operate=st.sampled_from(INPLACE))
    def update(self, data: Any, operate: Any) -> None:
        target, other = self.name(data), self.name(data)
        theirs = attempt(lambda: operate(target[1], other[1]))
        mine = attempt(lambda: operate(target[0], other[0]))
        assert (mine is target[0]) == (theirs is target[1])
        if isinstance(theirs, type):
            assert mine is theirs

    @rule(data=st.data(), operate=st.sampled_from(INPLACE), times=st.integers(1, 70))
    def update_often(self, data: Any, operate: Any, times: int) -> None:
        name = self.name(data)
        for _ in range(times):
            attempt(lambda: operate(name[1], 1))
            attempt(lambda: operate(name[0], 1))

    @rule(data=st.data())
    def write_out(self, data: Any) -> None:
        a, b, out = self.name(data), self.name(data), self.name(data)
        theirs = attempt(lambda: numpy.add(a[1], b[1], out=out[1]))
        mine = attempt(lambda: np.add(a[0], b[0], out=out[0]))
        assert (mine is out[0]) == (theirs is out[1])

    @rule(data=st.data(), key=st.sampled_from(KEYS))
    def view(self, data: Any, key: Any) -> None:
        self.both(lambda m, a: a[key], self.name(data))

    @rule(data=st.data(), what=st.integers(0, 4))
    def rearrange(self, data: Any, what: int) -> None:
        calls = (
            lambda m, a: a.T, lambda m, a: a.reshape(-1), lambda m, a: m.moveaxis(a, 0, -1),
            lambda m, a: m.split(a, [2])[1], lambda m, a: a.view(),
        )  # fmt: skip
        self.both(calls[what], self.name(data))

    @rule(data=st.data(), key=st.sampled_from(KEYS), what=st.integers(0, 4))
    def assign(self, data: Any, key: Any, what: int) -> None:
        target, other = self.name(data), self.name(data)
        values = (
            lambda a, b: 3, lambda a, b: b, lambda a, b: a[key] + 1, lambda a, b: a[::-1][key] * 2,
            lambda a, b: b * 2 - a[key],
        )  # fmt: skip
        if what == 4 and not self.fits(attempt(lambda: target[1][key]), other[1]):
            return
        theirs = attempt(lambda: target[1].__setitem__(key, values[what](target[1], other[1])))
        mine = attempt(lambda: target[0].__setitem__(key, values[what](target[0], other[0])))
        assert mine is theirs

    @rule(data=st.data(), what=st.integers(0, 4))
    def write_by_method(self, data: Any, what: int) -> None:
        self.both(WRITES[what], self.name(data))

    @rule(data=st.data(), what=st.integers(0, 6))
    def reduce(self, data: Any, what: int) -> None:
        calls = (
            lambda m, a: a.max(), lambda m, a: (a > 0).sum(), lambda m, a: m.any(a * 2 > 9),
            lambda m, a: a.argmin(), lambda m, a: m.count_nonzero(a - 1),
            lambda m, a: (a * 2).max(axis=0), lambda m, a: m.minimum.reduce(a + 1, axis=-1),
        )  # fmt: skip
        self.both(calls[what], self.name(data))

    @rule(data=st.data())
    def look(self, data: Any) -> None:
        mine, theirs = self.name(data)
        numpy.testing.assert_array_equal(mine, theirs, strict=True)

    @rule(data=st.data())
    def look_at_one_element(self, data: Any) -> None:
        mine, theirs = self.name(data)
        if theirs.size:
            self.bind(mine.ravel()[-1], theirs.ravel()[-1])

    @precondition(lambda self: len(self.names) > 1)
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        self.names.pop(data.draw(st.integers(0, len(self.names) - 1)))

    @rule(data=st.data())
    def alias(self, data: Any) -> None:
        self.names.append(list(self.name(data)))

    @rule(data=st.data(), how=st.sampled_from(EXPORTS))
    def lend(self, data: Any, how: Any) -> None:
        mine, theirs = self.name(data)
        if theirs.dtype == "f8" and theirs.flags.c_contiguous:
            self.outside.append((how(mine), how(theirs)))
            del self.outside[:-5]

    @rule(data=st.data(), how=st.sampled_from(EXPORTS), part=st.sampled_from((..., slice(None, 9))))
    def write_outside_what_was_just_read(self, data: Any, how: Any, part: Any) -> None:
        name = self.name(data)
        read = name[1]
        if read.dtype == "f8" and read[part].flags.c_contiguous:
            self.outside.append((how(name[0][part]), how(read[part])))
            self.both(lambda m, a: a * 3 + 1, name)
            self.write_outside(data, 8)

    @rule(data=st.data(), what=st.integers(0, 4))
    def write_to_what_was_just_read(self, data: Any, what: int) -> None:
        name = self.name(data)
        self.both(lambda m, a: a * 3 + 1, name)
        self.both(WRITES[what], name)

    @rule(data=st.data(), operate=st.sampled_from(ARITHMETIC))
    def overlap(self, data: Any, operate: Any) -> None:
        target = self.name(data)
        name = {"add": "add", "sub": "subtract", "mul": "multiply"}[operate.__name__]
        for module, array in ((np, target[0]), (numpy, target[1])):
            function = getattr(module, name)
            attempt(lambda f=function, a=array: f(a[::-1], 1, out=a))
            attempt(lambda f=function, a=array: f(a[:-1], a[1:], out=a[1:]))
            attempt(lambda f=function, a=array: f(a, a.T, out=a))
            attempt(lambda a=array: a[1:].__iadd__(a[:-1]))

    @precondition(lambda self: self.outside)
    @rule(data=st.data(), value=st.integers(-9, 9))
    def write_outside(self, data: Any, value: int) -> None:
        mine, theirs = data.draw(st.sampled_from(self.outside))
        wanted = attempt(lambda: theirs.__setitem__(slice(None, 3), value))
        assert attempt(lambda: mine.__setitem__(slice(None, 3), value)) is wanted

    @precondition(lambda self: self.outside)
    @rule()
    def return_what_was_lent(self) -> None:
        self.outside.pop(0)

    @rule(size=st.sampled_from([6, 1100]))
    def borrow(self, size: int) -> None:
        owners = numpy.arange(float(size)), numpy.arange(float(size))
        self.bind(np.asarray(owners[0]), numpy.asarray(owners[1]))
        self.outside.append(owners)
        self.both(lambda m, a: a * 3 + 1, self.names[-1])
        for owner in owners:
            owner[:3] = 7

    @rule(data=st.data(), everything=st.booleans())
    def evaluate(self, data: Any, everything: bool) -> None:
        np.evaluate() if everything else np.evaluate(self.name(data)[0])


class LargePrograms(Programs):
    """The same with arrays that wait by themselves, beside small ones that do not."""

    shapes = ((50_000,), (200, 250), (6,))
    most = 200_000
    options = ({}, {"fusion": False}, {"backend": "threads"})


_QUICK = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,  # the slow tests try other programs every time
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
_LONG = settings(_QUICK, max_examples=600, stateful_step_count=60, derandomize=False)


def run(machine: type[RuleBasedStateMachine], chosen: Any) -> None:
    case = machine.TestCase()
    case.settings = chosen
    case.runTest()


def test_programs_with_small_arrays() -> None:
    run(Programs, _QUICK)


@pytest.mark.usefixtures("large")
def test_programs_with_large_arrays() -> None:
    run(LargePrograms, settings(_QUICK, max_examples=25))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_programs_with_small_arrays() -> None:
    run(Programs, _LONG)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("large")
def test_many_programs_with_large_arrays() -> None:
    run(LargePrograms, settings(_LONG, max_examples=200))
