"""Overrides and options: how they nest, and for whom they hold."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr._config import options
from dispatcharr.face import _fastpath


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    before = options()
    gc.collect()
    closed = _fastpath.close(0)
    yield
    gc.collect()
    assert options() == before
    assert _fastpath.close(0) == closed


def backend_of(call: Callable[[], Any]) -> set[str]:
    """Return the backends that ran the kernels of ``call``."""
    with np.record_dispatch() as record:
        numpy.asarray(call())
    return {kernel.decision.backend for kernel in record.records}


def add() -> Any:
    return np.array(numpy.ones(5000)) + 1


def test_a_forced_backend_runs_small_arrays_too() -> None:
    for name in ("serial", "threads"):
        with np.use_backend(name):
            assert backend_of(add) == {name}
    assert backend_of(add) == set()


def test_blocks_nest() -> None:
    with np.use_backend("serial"):
        with np.use_backend("threads"):
            assert backend_of(add) == {"threads"}
            with np.use_backend("auto"):
                assert options().backend == "auto"
                assert backend_of(add) == set()
        assert backend_of(add) == {"serial"}
        with np.dispatch_options(threads=1):
            assert options().backend == "serial"
            assert options().threads == 1
    assert options().backend == "auto"


def test_fewer_threads_are_priced_as_such() -> None:
    array = np.evaluate(np.arange(3_000_000.0) * 1)

    def prices() -> dict[str, float]:
        # One engine: a loop that is compiled meanwhile would change the price.
        with np.record_dispatch() as record, np.dispatch_options(engine="blocks"):
            np.evaluate(np.sin(array) + 1)
        return {found.backend: found.seconds for found in record.records[0].decision.estimates}

    everyone = prices()
    if len(everyone) < 2:
        pytest.skip("one thread here")
    with np.dispatch_options(threads=1):
        alone = prices()
    assert alone["threads"] >= 0.99 * alone["serial"] > everyone["threads"]
    assert prices() == everyone


def test_a_block_ends_with_an_error() -> None:
    with pytest.raises(KeyError), np.use_backend("serial"):
        raise KeyError
    assert options().backend == "auto"


def test_one_object_may_be_entered_again() -> None:
    override = np.use_backend("serial")
    for _ in range(2):
        with override:
            with override:
                assert options().backend == "serial"
            assert options().backend == "serial"
        assert options().backend == "auto"
    chosen = np.dispatch_options(threads=1)
    with chosen:
        assert options().threads == 1
    assert options().threads is None
    with chosen:
        assert options().threads == 1


def test_decorated_functions() -> None:
    @np.use_backend("serial")
    def work(depth: int) -> str:
        """Say where."""
        return work(depth - 1) if depth else options().backend

    assert work.__name__ == "work"
    assert work.__doc__ == "Say where."
    assert work(3) == "serial"

    @np.dispatch_options(fusion=False, threads=1)
    def other() -> tuple[bool, int | None]:
        return options().fusion, options().threads

    assert options().fusion
    assert other() == (False, 1)
    assert other() == (False, 1)


def test_decorated_generators_keep_their_options_to_themselves() -> None:
    @np.use_backend("serial")
    def steps(n: int) -> Iterator[str]:
        heard = []
        try:
            for _ in range(n):
                heard.append((yield options().backend))
        except KeyError:
            yield "caught by " + options().backend
        return heard

    seen = []
    for item in steps(3):
        seen.append((item, options().backend))
    assert seen == [("serial", "auto")] * 3
    running = steps(5)
    assert next(running) == "serial"
    assert running.send("x") == "serial"
    assert running.throw(KeyError) == "caught by serial"
    with pytest.raises(StopIteration) as stop:
        running.send("y")
    assert stop.value.value == ["x"]
    half = steps(5)
    next(half)
    half.close()
    del half


def test_a_block_inside_a_generator_holds_while_it_is_suspended() -> None:
    def steps() -> Iterator[str]:
        with np.use_backend("serial"):
            yield options().backend
            yield options().backend

    running = steps()
    assert next(running) == "serial"
    running.close()
    assert options().backend == "auto"


def test_threads_do_not_inherit() -> None:
    seen: list[str] = []
    with np.use_backend("serial"):
        thread = threading.Thread(target=lambda: seen.append(options().backend), daemon=True)
        thread.start()
        thread.join()
    assert seen == ["auto"]


def test_a_statement_in_a_thread_ends_with_the_thread() -> None:
    def work() -> None:
        np.dispatch_options(defer="always", backend="serial")
        assert backend_of(add) == {"serial"}

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    del thread


def test_statements_overrule_each_other() -> None:
    def work() -> None:
        for _ in range(3):
            np.dispatch_options(defer="always")
            assert _fastpath.close(0) == closed + 1
            np.dispatch_options(defer="auto")
            assert _fastpath.close(0) == closed
        with np.use_backend("serial"):
            np.dispatch_options(threads=1)
            assert options().threads == 1
        assert options().threads is None

    closed = _fastpath.close(0)
    contextvars.copy_context().run(work)


def test_tasks_have_their_own() -> None:
    seen: dict[str, list[str]] = {"serial": [], "threads": []}

    async def work(name: str) -> None:
        with np.use_backend(name):
            for _ in range(3):
                seen[name].append(options().backend)
                assert backend_of(add) == {name}
                await asyncio.sleep(0)

    @np.use_backend("serial")
    async def decorated() -> str:
        await asyncio.sleep(0)
        return options().backend

    async def main() -> None:
        await asyncio.gather(work("serial"), work("threads"), work("serial"))
        assert options().backend == "auto"
        assert await decorated() == "serial"
        assert options().backend == "auto"
        with np.use_backend("threads"):
            inherited = asyncio.create_task(asyncio.sleep(0, options().backend))
            assert await inherited == "threads"

    asyncio.run(main())
    assert seen == {"serial": ["serial"] * 6, "threads": ["threads"] * 3}


def test_an_asynchronous_generator_is_refused() -> None:
    with pytest.raises(TypeError, match="use a with block inside it"):

        @np.use_backend("serial")
        async def steps() -> Any:
            yield 1


def test_the_process_setting() -> None:
    np.set_backend("serial")
    try:
        seen: list[set[str]] = []
        thread = threading.Thread(target=lambda: seen.append(backend_of(add)))
        thread.start()
        thread.join()
        assert seen == [{"serial"}]
        assert backend_of(add) == {"serial"}
        with np.use_backend("threads"):
            assert backend_of(add) == {"threads"}
        with np.use_backend("auto"):
            assert backend_of(add) == set()
        np.set_backend("threads")
        assert backend_of(add) == {"threads"}
    finally:
        np.set_backend("auto")


@pytest.mark.parametrize(
    "ask",
    [
        np.use_backend,
        np.set_backend,
        lambda name: np.dispatch_options(backend=name),
    ],
)
def test_an_unknown_backend_lists_those_that_there_are(ask: Callable[[str], Any]) -> None:
    with pytest.raises(np.BackendUnavailableError) as caught:
        ask("warp")
    text = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert "'warp'" in text
    assert "unknown" in text
    for name in ("'auto'", "'serial'"):
        assert name in text
    assert "'cuda' is not: " in text or "'cuda'" in text.split("Available")[1]


def test_an_unavailable_backend_says_why() -> None:
    from dispatcharr.backends import registry

    reason = registry.available()["cuda"]
    if reason is None:
        pytest.skip("there is a CUDA device here")
    with pytest.raises(np.BackendUnavailableError) as caught:
        np.use_backend("cuda")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"threads": 0}, "whole number of at least 1"),
        ({"threads": 1.5}, "whole number"),
        ({"threads": True}, "whole number"),
        ({"fusion": "yes"}, "True or False"),
        ({"defer": "sometimes"}, "'auto', 'always', 'never'"),
        ({"on_fallback": "shout"}, "'silent', 'log', 'warn', 'raise'"),
        ({"verify": 2}, "share between 0 and 1"),
        ({"memory_limit": -1}, "number of bytes"),
        ({"backend": 3}, "name or 'auto'"),
    ],
)
def test_impossible_values(values: dict[str, Any], wanted: str) -> None:
    with pytest.raises(np.OptionError, match=wanted) as caught:
        np.dispatch_options(**values)
    assert "dispatch_options" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_unknown_options() -> None:
    with pytest.raises(TypeError, match="unknown option 'speed'; the options are backend"):
        np.dispatch_options(speed=1)


NOTHING_TO_PLAN: tuple[Callable[[Any], Any], ...] = (
    lambda a: np.reshape(a, (2, -1)), lambda a: a.T, lambda a: a.reshape(-1), lambda a: a[5:],
    lambda a: np.zeros(5), lambda a: a.copy(), np.shape, lambda a: a.tolist(), repr, np.array,
    numpy.asarray, len, np.asarray, lambda a: np.broadcast_to(a, (2, 50_000)), np.transpose,
    lambda a: np.split(a, 2), lambda a: np.random.rand(3), lambda a: a.fill(1), np.squeeze,
    lambda a: np.testing.assert_array_equal(a, 1.0), lambda a: a.view("i8"), np.copy,
)  # fmt: skip


def test_fallback_levels(caplog: pytest.LogCaptureFixture, large: None) -> None:
    array = np.array(numpy.ones(50_000))
    with np.dispatch_options(on_fallback="warn"), pytest.warns(np.FallbackWarning) as found:
        np.sort(array)
    assert found[0].filename == __file__
    assert "sort was left to NumPy" in str(found[0].message)
    with np.dispatch_options(on_fallback="log"), caplog.at_level("INFO", "dispatcharr"):
        np.argsort(array)
    assert "argsort was left to NumPy" in caplog.text
    with np.dispatch_options(on_fallback="raise"):
        for name in ("sort", "argsort", "corrcoef", "median"):
            with pytest.raises(np.FallbackError, match=f"{name} was left to NumPy"):
                getattr(np, name)(array)
        with pytest.raises(np.FallbackError, match="matmul"):
            array @ array
        for call in NOTHING_TO_PLAN:
            call(array)
        (array * 2 + 1).sum()
        array[3] = 1
        array[array > 2] = 0
        assert float(array[0]) == 1
    with np.dispatch_options(on_fallback="silent"):
        np.sort(array)


def test_verified_kernels_say_so(always: None) -> None:
    with np.dispatch_options(verify=1.0), np.record_dispatch() as record:
        numpy.asarray(np.arange(3000.0) * 2 + 1)
        (np.arange(3000.0) * 2).sum()
    assert {kernel.verified for kernel in record.records} == {True}


def test_defer_never(large: None, waits: Callable[[Any], bool]) -> None:
    array = np.array(numpy.ones(50_000))
    assert waits(array * 2)
    with np.dispatch_options(defer="never"):
        assert not waits(array * 2)
        assert not waits(np.arange(50_000))
    assert waits(array * 2)


def test_options_of_one_kernel_are_those_of_its_evaluation(always: None) -> None:
    array = np.arange(5000.0) * 2
    with np.use_backend("serial"):
        assert backend_of(lambda: array) == {"serial"}
