"""The engines of the host as users meet them: which one runs, what is said, what it answers."""

from __future__ import annotations

import gc
import time
from itertools import count

import numpy
import pytest

import dispatcharr as np
from dispatcharr.kernels import blocks, bound, native
from dispatcharr.plan import fuse
from dispatcharr.route import rents, router, standing
from dispatcharr.route.correct import Corrections

compiles = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))
N = 60_000


def data():
    rng = numpy.random.default_rng(3)
    return rng.normal(size=N), rng.normal(size=N)


@pytest.fixture
def unlearned(monkeypatch):
    """Have kernels priced by the profile alone, not by what a busy machine took for them."""
    monkeypatch.setattr(router, "_desks", [])
    monkeypatch.setattr(router, "keep_at_exit", lambda *_: None)
    monkeypatch.setattr(Corrections, "ratio", lambda *_: 1.0)


def ran(call):
    """Return the value of ``call``, and the engine of each kernel that ran."""
    with np.record_dispatch() as record:
        value = call()
    return value, [one.decision.estimate.engine for one in record.records]


def program(m, a, b):
    y = 2 * a + 3 * b - a * b
    return m.where(y > 0, y, -y) / (1 + a * a)


@compiles
@pytest.mark.parametrize("backend", ["serial", "threads"])
@pytest.mark.parametrize("engine", ["blocks", "compiled"])
def test_each_engine_gives_numpys_answer_when_asked_for(backend, engine):
    a, b = data()
    x, y = np.array(a), np.array(b)
    with np.use_backend(backend), np.dispatch_options(defer="always", engine=engine):
        got, engines = ran(lambda: np.evaluate(program(np, x, y)))
    assert engines == [engine]
    numpy.testing.assert_array_equal(got.to_numpy(), program(numpy, a, b))


@compiles
def test_a_loop_comes_to_its_own_kernel_and_no_call_waits_for_it():
    a, b = data()
    x, y = np.array(a), np.array(b)
    wanted = numpy.sqrt(a * a + b * b + 1.25)
    engines = []
    with np.dispatch_options(defer="always"):
        end = time.monotonic() + 60
        while "compiled" not in engines and time.monotonic() < end:
            got, found = ran(lambda: np.evaluate(np.sqrt(x * x + y * y + 1.25)))
            engines += found
            numpy.testing.assert_array_equal(got.to_numpy(), wanted)
    assert engines[0] == "blocks"
    assert engines[-1] == "compiled"


@compiles
def test_what_cannot_be_compiled_says_why_and_is_answered_all_the_same():
    a = numpy.arange(1, N + 1)
    with np.dispatch_options(defer="always", engine="compiled"):
        x = np.array(a)
        y = np.gcd(x, 12) + 1
        text = str(np.explain(y))
        got, engines = ran(lambda: np.evaluate(y))
    assert engines == ["blocks"]
    assert "not compiled: gcd" in " ".join(text.split())
    numpy.testing.assert_array_equal(got.to_numpy(), numpy.gcd(a, 12) + 1)


@compiles
def test_explain_names_the_engine_and_what_a_compiled_kernel_would_take():
    a, b = data()
    x, y = np.array(a), np.array(b)
    with np.dispatch_options(defer="always"):
        first = " ".join(str(np.explain(x * y - x / 3.75)).split())
        assert "engine blocks: NumPy's functions" in first
        assert "a compiled one would take" in first
        with np.dispatch_options(engine="compiled"):
            z = x * y - x / 3.75
            np.evaluate(z)
            assert "engine compiled: one loop made for it" in " ".join(str(np.explain(z)).split())


@compiles
@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda m, a: 1 / a, "divide by zero encountered in divide"),
        (lambda m, a: m.sqrt(a - 1), "invalid value encountered in sqrt"),
        (lambda m, a: m.exp(a * 1e6) + 1, "overflow encountered in exp"),
        (lambda m, a: (a * 1e200) * 1e200, "overflow encountered in multiply"),
    ],
)
def test_warnings_are_numpys(call, kind):
    a = numpy.linspace(0, 1, N)
    x = np.array(a)
    with np.dispatch_options(defer="always", engine="compiled"):
        with pytest.warns(RuntimeWarning, match=kind):
            np.evaluate(call(np, x))
        with np.errstate(all="ignore"):
            np.evaluate(call(np, x))


@compiles
def test_in_place_updates_and_slices_are_numpys():
    a, b = data()
    x, y = np.array(a), np.array(b)
    with np.dispatch_options(defer="always", engine="compiled"):
        x += 2 * y
        x[1:-1] = (x[:-2] + x[2:]) / 2
        x[::2] *= 3
        got = x.to_numpy()
    a += 2 * b
    a[1:-1] = (a[:-2] + a[2:]) / 2
    a[::2] *= 3
    numpy.testing.assert_array_equal(got, a)


def test_an_unknown_engine_is_a_clear_error():
    with pytest.raises(ValueError, match="engine must be one of 'auto', 'blocks', 'compiled'"):
        np.dispatch_options(engine="fast")


@compiles
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_the_threads(threads):
    a, b = data()
    with np.dispatch_options(defer="always", engine="compiled"):

        def bits(count):
            x, y = np.array(a), np.array(b)
            with np.use_backend("threads"), np.dispatch_options(threads=count):
                return np.evaluate(np.sin(x) * np.exp(y)).to_numpy().tobytes()

        assert bits(threads) == bits(2)


@compiles
@pytest.mark.parametrize("reduce", ["any", "all"])
@pytest.mark.parametrize("fill", [0, 1])
def test_a_settled_answer_does_not_end_what_is_stored(reduce, fill):
    with np.dispatch_options(defer="always", engine="compiled"):
        for turn in range(3):  # the memory pool would hide what is left over from equal data
            a = numpy.full(N, fill) * (turn + 1)
            a[5] = 1 - fill
            y = -np.array(a)
            m = np.array(a) != turn
            assert bool(getattr(y, reduce)()) == bool(getattr(-a, reduce)())
            assert bool(getattr(m, reduce)()) == bool(getattr(a != turn, reduce)())
            numpy.testing.assert_array_equal(y.to_numpy(), -a)
            numpy.testing.assert_array_equal(m.to_numpy(), a != turn)


@compiles
def test_a_program_whose_lengths_never_repeat_comes_to_its_kernel(unlearned):
    rng = numpy.random.default_rng(5)
    data = rng.normal(size=10 * N)
    x = np.array(data)
    engines = []
    end = time.monotonic() + 60
    with np.dispatch_options(defer="always"):
        for k in count():
            length = 3 * N + 7 * k % (6 * N)
            got, found = ran(lambda n=length: np.evaluate(np.sqrt(x[:n] * x[:n] + 2.625)))
            engines += found
            if engines[-40:] == ["compiled"] * 40 or time.monotonic() > end:
                break
    assert engines[0] == "blocks"
    assert engines[-40:] == ["compiled"] * 40
    wanted = numpy.sqrt(data[:length] * data[:length] + 2.625)
    numpy.testing.assert_array_equal(got.to_numpy(), wanted)


def inner(m, x, n):
    return (x[1:n, 1:-1] * 4 - x[: n - 1, 1:-1]) / 3.625


SHARED = {
    "elements": lambda m, x, n: m.abs(x[:n]) * 2.375 + x[:n],
    "slices of rows": inner,
    "a sum": lambda m, x, n: (x[:n] * x[:n] - 1.125).sum(),
    "a row for all": lambda m, x, n: (x[:n] - x[0]) * 1.875,
    "numbers": lambda m, x, n: m.arange(n) * 5 + 3,
}


@compiles
@pytest.mark.parametrize("case", SHARED)
def test_forty_lengths_run_on_one_kernel_from_their_first_run_on(unlearned, case):
    data = numpy.random.default_rng(6).normal(size=(2000, 130))
    x, call = np.array(data), SHARED[case]
    with np.dispatch_options(defer="always", engine="compiled"):
        np.evaluate(call(np, x, 1000))
    with np.dispatch_options(defer="always"):
        for n in range(1001, 1041):
            got, engines = ran(lambda n=n: np.evaluate(call(np, x, n)))
            assert engines == ["compiled"]
            numpy.testing.assert_allclose(numpy.asarray(got), call(numpy, data, n), rtol=1e-12)


@compiles
def test_explain_knows_the_kernel_of_another_length(unlearned):
    x = np.array(data()[0])
    with np.dispatch_options(defer="always"):
        with np.dispatch_options(engine="compiled"):
            np.evaluate(x * 3.3125 - 1)
        text = " ".join(str(np.explain(x[1:] * 3.3125 - 1)).split())
        assert "engine compiled: one loop made for it" in text


@compiles
def test_what_is_kept_for_each_length_goes_with_its_plan(monkeypatch):
    x = np.array(data()[0])
    monkeypatch.setattr(fuse, "_CACHED_PLANS", 8)
    fuse._cache.clear()
    gc.collect()
    tables = (bound._known, bound._families, standing._standing, blocks._cuts)
    before = [len(table) for table in tables]
    accounts = len(rents._rents)
    gc.disable()  # nothing may wait for it
    try:
        with np.dispatch_options(defer="always"):
            for n in range(1000, 1040):
                np.evaluate(np.abs(x[:n]) * 2.0625 + x[:n])
                with np.dispatch_options(engine="compiled"):
                    np.evaluate(np.abs(x[:n]) * 2.1875 + x[:n])
    finally:
        gc.enable()
    assert all(len(table) <= n + 9 for table, n in zip(tables, before, strict=True))
    assert len(rents._rents) <= accounts + 2


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_a_chain_that_is_too_short_to_be_planned_fuses_where_a_backend_is_asked_for(backend):
    x, y = (np.array(one[:8000]) for one in data())
    with np.use_backend(backend):
        value, engines = ran(lambda: float(((x - y) ** 2).sum()))
    assert len(engines) == 1
    assert value == pytest.approx(float(((data()[0] - data()[1])[:8000] ** 2).sum()))


@compiles
@pytest.mark.parametrize(("dtype", "name"), [("u1", "sum"), ("i4", "sum"), ("i8", "mean")])
def test_what_numpy_casts_before_it_adds_is_compiled(dtype, name):
    host = numpy.arange(40_000).astype(dtype)
    with np.dispatch_options(engine="compiled", defer="always"):
        value, engines = ran(lambda: getattr(np.array(host), name)())
    assert (value, engines) == (getattr(host, name)(), ["compiled"])


@compiles
def test_a_sum_in_the_dtype_of_its_elements_is_left_to_numpys_loop():
    with np.dispatch_options(engine="compiled", defer="always"):
        _, engines = ran(lambda: np.array(data()[0]).sum())
    assert engines == ["blocks"]
