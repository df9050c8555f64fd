"""``np.elementwise``: functions of the user compute what Python does, fuse, and tell mistakes."""

from __future__ import annotations

import math
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy
import pytest

pytest.importorskip("numba")

import dispatcharr as np
from dispatcharr.kernels import native
from dispatcharr.ops import masks

Waits = Callable[[Any], bool]
Script = Callable[..., str]
LARGE = 50_000
TABLE = numpy.array([1.0, 5.0, 7.0])
FACTOR = 3


@np.elementwise
def smoothstep(x: float, low: float, high: float = 1.0) -> float:
    """Rise from 0 to 1."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@np.elementwise
def affine(x: Any, y: Any) -> Any:
    return x * 2 + y


@np.elementwise
def looked_up(i: int) -> float:
    return TABLE[i] * FACTOR


@np.elementwise
def sine(x: float) -> float:
    return np.sin(x) + math.exp(-x)


@np.elementwise
def both(x: float) -> tuple[float, bool, complex]:
    return x * 2.0, x > 1.0, x * 1j


@np.elementwise
def root(x: float) -> float:
    if x < 0:
        raise ValueError("no root")
    return math.sqrt(x)


def expected_steps(x: Any, low: float, high: float = 1.0) -> Any:
    t = numpy.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def test_a_function_is_applied_to_each_element() -> None:
    x = numpy.linspace(-1, 2, LARGE)
    found = smoothstep(np.array(x), 0.0)
    assert type(found) is np.ndarray
    numpy.testing.assert_array_equal(found, expected_steps(x, 0.0))
    numpy.testing.assert_array_equal(
        smoothstep(x, low=0.25, high=0.5), expected_steps(x, 0.25, 0.5)
    )


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [
        ("f8", "f8", "f8"),
        ("f4", "f4", "f8"),  # the 2 in the function is an int64
        ("f2", "f2", "f8"),
        ("i1", "i4", "i8"),
        ("u1", "?", "i8"),
        ("F", "F", "D"),
        ("i8", "F", "D"),
        (">f8", "f8", "f8"),
    ],
)
def test_dtypes_are_what_numba_infers(left: str, right: str, result: str) -> None:
    x = numpy.array([0, 1, 1, 3]).astype(left)
    y = numpy.array([5, 0, 1, 1]).astype(right)
    found = affine(np.array(x), y)
    assert found.dtype == result
    wide = numpy.dtype(result)
    numpy.testing.assert_array_equal(found, x.astype(wide) * 2 + y.astype(wide))


def test_numbers_lists_and_shapes_broadcast() -> None:
    assert affine(1.5, 2) == 5.0
    assert type(affine(1.5, 2)) is numpy.float64
    assert type(affine(3, True)) is numpy.int64
    numpy.testing.assert_array_equal(affine([1.0, 2.0], 3), [5.0, 7.0])
    column, row = numpy.arange(200.0)[:, None], numpy.arange(300.0)
    numpy.testing.assert_array_equal(affine(np.array(column), np.array(row)), column * 2 + row)
    turned = numpy.arange(60_000.0).reshape(200, 300).T[::-1, ::2]
    numpy.testing.assert_array_equal(affine(np.array(turned), 1.0), turned * 2 + 1)
    empty = affine(np.ones((0, 3)), 1)
    assert (empty.shape, empty.dtype) == ((0, 3), numpy.float64)
    assert affine(numpy.array(2.0), 1) == 5.0


def test_what_it_refers_to_is_a_constant_of_the_first_call() -> None:
    factor = 2.0

    @np.elementwise
    def scaled(x: float) -> float:
        return x * factor + helper(x)

    def helper(x: float) -> float:
        return x + FACTOR

    numpy.testing.assert_array_equal(scaled(np.arange(3.0)), [3.0, 6.0, 9.0])
    factor = 5.0
    numpy.testing.assert_array_equal(scaled(np.arange(3.0)), [3.0, 6.0, 9.0])
    numpy.testing.assert_array_equal(looked_up(np.array([2, 0, 1])), [21.0, 3.0, 15.0])


def test_each_value_around_a_function_makes_another_one() -> None:
    def scaled(by: float) -> Any:
        return np.elementwise(lambda x: x * by)

    x = np.arange(3.0)
    numpy.testing.assert_array_equal(scaled(2.0)(x), [0.0, 2.0, 4.0])
    numpy.testing.assert_array_equal(scaled(-0.0)(x), [-0.0, -0.0, -0.0])
    assert numpy.signbit(numpy.asarray(scaled(-0.0)(x))).all()
    assert not numpy.signbit(numpy.asarray(scaled(0.0)(x))).any()
    # The same value makes the same one, whose plans and kernels serve again.
    assert scaled(2.0)._function is scaled(2.0)._function
    assert scaled(2.0)._function is not scaled(2)._function


def test_functions_call_each_other_but_not_themselves() -> None:
    twice = np.elementwise(lambda x: affine(x, x))
    numpy.testing.assert_array_equal(twice(np.arange(3)), [0, 3, 6])

    def down(n: int) -> int:
        return 0 if n < 1 else down(n - 1)

    with pytest.raises(TypeError, match="down calls itself"):
        np.elementwise(down)(3)


def test_it_fuses_with_its_neighbours(large: None, waits: Waits) -> None:
    x = np.array(numpy.linspace(-3, 3, LARGE))
    chosen = np.where(x > 0, x, -x)
    found = smoothstep(chosen, 0.5, 2.5) + x
    assert waits(found)
    with np.dispatch_options(engine="auto"), np.record_dispatch() as record:
        total = float((found * 2).sum())
    (kernel,) = record.records
    names = [instruction.row.name for instruction in kernel.region.program]
    assert {"where", "smoothstep", "add", "multiply"} <= set(names)
    if native.missing() is None:
        assert kernel.decision.estimate.engine == "compiled"
    host = numpy.linspace(-3, 3, LARGE)
    wanted = expected_steps(numpy.abs(host), 0.5, 2.5) + host
    assert total == pytest.approx((wanted * 2).sum(), rel=1e-12)


def test_errors_of_neighbours_are_told_and_its_own_are_not(large: None) -> None:
    inverse = np.elementwise(lambda x: 1.0 / x)
    x = np.array(numpy.linspace(0.0, 1.0, LARGE))
    with pytest.warns(RuntimeWarning) as caught:
        numpy.asarray(np.log(x) + inverse(x) * 1e300)
    told = {str(each.message) for each in caught}
    assert told == {"divide by zero encountered in log", "invalid value encountered in add"}
    with np.errstate(all="raise"):
        assert numpy.isinf(numpy.asarray(inverse(x))[0])


@pytest.mark.parametrize("engine", ["compiled", "blocks"])
def test_functions_of_mathematics_are_near(engine: str) -> None:
    x = numpy.linspace(0.1, 9, LARGE)
    with np.dispatch_options(engine=engine):
        found = numpy.asarray(sine(np.array(x)))
    numpy.testing.assert_allclose(found, numpy.sin(x) + numpy.exp(-x), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("function", [math.erf, math.gamma, math.hypot, math.copysign, math.atan2])
def test_what_has_no_row_is_computed_too(function: Callable[..., float]) -> None:
    takes = 1 if function in (math.erf, math.gamma) else 2
    names = ", ".join("xy"[:takes])
    made = np.elementwise(eval(f"lambda {names}: f({names})", {"f": function}))
    x = [numpy.linspace(0.5, 4.0, 50), numpy.linspace(1.0, 3.0, 50)][:takes]
    wanted = [function(*each) for each in zip(*x, strict=True)]
    numpy.testing.assert_allclose(made(*x), wanted, rtol=1e-14)


def test_several_results_are_several_arrays(large: None, waits: Waits) -> None:
    host = numpy.linspace(0.0, 2.0, LARGE)
    found = both(np.array(host))
    assert type(found) is tuple
    assert [one.dtype.char for one in found] == ["d", "?", "D"]
    assert all(map(waits, found))
    with np.record_dispatch() as record:
        np.evaluate(*found)
    assert len(record.records) == 1
    for one, wanted in zip(found, (host * 2, host > 1, host * 1j), strict=True):
        numpy.testing.assert_array_equal(one, wanted)
    assert both(2.0) == (4.0, True, 2j)
    pair = np.elementwise(lambda x: (x, x + 1))(np.arange(3))  # alike, which numba keeps otherwise
    numpy.testing.assert_array_equal(pair, [[0, 1, 2], [1, 2, 3]])


def test_it_writes_into_views_and_over_what_it_reads() -> None:
    x = np.array(numpy.arange(float(LARGE)))
    x[1:] = affine(x[:-1], 1.0)
    host = numpy.arange(float(LARGE))
    host[1:] = host[:-1] * 2 + 1.0
    numpy.testing.assert_array_equal(x, host)
    x += affine(x, x)
    numpy.testing.assert_array_equal(x, host + host * 3)


def test_exceptions_are_raised_by_the_call(large: None) -> None:
    x = np.array(numpy.linspace(0.0, 4.0, LARGE))
    numpy.testing.assert_array_equal(root(x), numpy.sqrt(numpy.linspace(0.0, 4.0, LARGE)))
    with pytest.raises(ValueError, match="no root"):
        root(x - 1.0)
    with pytest.raises(ValueError, match="no root"):
        root(-1.0)
    with pytest.raises(IndexError):
        looked_up(np.array([0, 3]))
    assert root(4.0) == 2.0


BAD: list[tuple[Any, tuple[Any, ...], str]] = [
    (lambda x: "a" + x, (1.0,), r"numba cannot type <lambda>\(float64\): No implementation .* add"),
    (lambda x: x.nothing, (1,), r"<lambda>\(int64\): Unknown attribute 'nothing' of type int64"),
    (lambda x: unknown(x), (1,), "name 'unknown' is not defined"),  # noqa: F821 - numba looks for it
    (lambda x: None, (1.0,), "returns nothing"),
    (lambda x: x if x > 0 else None, (1.0,), "only sometimes"),
    (lambda x: [x], (1.0,), "which is no number"),
    (lambda x, y: x, (1.0,), "missing a required argument: 'y'"),
    (lambda x: x, (1.0, 2.0), "too many positional arguments"),
    (lambda x: x, ("text",), "wanted numbers, got <U4"),
    (lambda x: x, (numpy.array(["2020"], "M8[D]"),), "wanted numbers, got datetime64"),
    (lambda x: x, (numpy.array([{}]),), "wanted numbers, got object"),
    (lambda x: x, (numpy.ma.masked_array([1.0]),), "masked arrays are not understood"),
]


@pytest.mark.parametrize(("function", "args", "message"), BAD)
def test_mistakes_are_told_in_one_line(function: Any, args: Any, message: str) -> None:
    made = np.elementwise(function)
    for _ in range(2):
        with pytest.raises(TypeError, match=message) as caught:
            made(*args)
        assert "\n" not in str(caught.value)


def test_shapes_that_do_not_broadcast_are_numpys_error() -> None:
    with pytest.raises(ValueError, match="cannot be broadcast"):
        affine(np.ones(3), np.ones(2))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (3, "a function written in Python, got 3"),
        (math.sin, "got <built-in function sin>"),
        (lambda *x: 1, r"has \*x"),
        (lambda x, *, y: 1, "has y"),
        (lambda: 1, "takes nothing"),
    ],
)
def test_only_functions_of_a_fixed_number_of_arguments_are_taken(
    function: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        np.elementwise(function)


def test_it_is_a_function_to_those_who_look() -> None:
    assert smoothstep.__name__ == "smoothstep"
    assert smoothstep.__doc__ == "Rise from 0 to 1."
    assert "smoothstep" in repr(smoothstep)
    assert np.elementwise(smoothstep).function is smoothstep.function


def test_it_can_be_pickled_by_its_name() -> None:
    again = pickle.loads(pickle.dumps(smoothstep))
    assert again is smoothstep
    plain = np.elementwise(expected_steps)  # found by a name that is the plain function's
    made = pickle.loads(pickle.dumps(plain))
    assert type(made) is np.elementwise
    assert made.function is expected_steps
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(np.elementwise(lambda x: x))


def test_a_name_of_numpys_is_not_taken_for_numpys() -> None:
    @np.elementwise
    def arange(x: float) -> float:
        return x + 0.5

    x = numpy.arange(float(LARGE))
    numpy.testing.assert_array_equal(arange(np.array(x)) + np.array(x), x + 0.5 + x)


def test_modules_that_numpy_has_none_of_stay_themselves() -> None:
    # Beside elementwise functions those see them that numba compiles for others.
    assert np.elementwise(lambda x: x * masks.BRANCHES)(np.array([64.0]))[0] == 64 * masks.BRANCHES
    numba = pytest.importorskip("numba")
    typed = numba.njit(lambda x: np.maximum(x, masks.BRANCHES))
    assert typed(0.0) == masks.BRANCHES


def test_threads_may_type_and_run_at_once() -> None:
    made = np.elementwise(lambda x, y: x * y + 0.25)
    failed: list[BaseException] = []

    def work(dtype: str) -> None:
        try:
            x = numpy.arange(LARGE).astype(dtype)
            numpy.testing.assert_array_equal(made(np.array(x), 2.0), x * 2.0 + 0.25)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(d,)) for d in ("i4", "f8", "f8", "i4")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


PROGRAM = """
    import sys, numpy, dispatcharr as np

    assert "numba" not in sys.modules

    @np.elementwise
    def shape(x, y):
        return np.hypot(x, y) * 3 - x if x > 1 else y

    x = np.array(numpy.linspace(0.0, 2.0, 30_000))
    print(float((shape(x, 2.0) + 1).sum()), "numba" in sys.modules)
"""


@pytest.mark.skipif(native.missing() is not None, reason="kernels are not compiled here")
def test_a_later_process_needs_no_numba(script: Script, tmp_path: Any) -> None:
    way = {"DISPATCHARR_CACHE_DIR": str(tmp_path), "DISPATCHARR_ENGINE": "auto"}
    first = script(PROGRAM, **way).split()
    second = script(PROGRAM, **way).split()
    assert first[0] == second[0]
    assert (first[1], second[1]) == ("True", "False")
    changed = script(PROGRAM.replace("* 3", "* 4"), **way).split()
    assert changed[0] != first[0]
    assert changed[1] == "True"


def test_without_numba_it_says_what_to_install(script: Script, tmp_path: Any) -> None:
    found = script(
        """
        import sys
        sys.modules["numba"] = None
        import dispatcharr as np
        try:
            np.elementwise(lambda x: x * 31)(1.0)
        except ImportError as error:
            print(error)
        """,
        DISPATCHARR_CACHE_DIR=str(tmp_path),
    )
    assert "np.elementwise needs numba" in found
    assert "pip install numba" in found


def test_a_forked_child_goes_on(script: Script) -> None:
    found = script(
        """
        import os, sys, numpy, dispatcharr as np
        if not hasattr(os, "fork"):
            print("ok"), sys.exit()
        f = np.elementwise(lambda x, y: x * y + 1)
        x = np.array(numpy.arange(30_000.0))
        waiting = f(x, 2.0) + x
        child = os.fork()
        same = bool((numpy.asarray(waiting) == numpy.arange(30_000.0) * 3 + 1).all())
        new = bool((numpy.asarray(f(x, x)) == numpy.arange(30_000.0) ** 2 + 1).all())
        if not child:
            os._exit(0 if same and new else 1)
        print("ok" if os.waitpid(child, 0)[1] == 0 and same and new else "wrong")
        """
    )
    assert found.strip() == "ok"
