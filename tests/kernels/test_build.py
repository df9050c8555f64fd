"""The builder: nobody waits for it, what it was asked for is there later, and failures are told."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy
import pytest

from dispatcharr.kernels import build, native
from dispatcharr.kernels.build import Builder, Counts
from dispatcharr.kernels.cache import Cache

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(native.missing() is not None, reason=f"{native.missing()}"),
]
SOON = 20  # seconds: what must happen at all, on a busy machine too
_numbers = count()


def stores(number: int) -> str:
    """Return the text of a kernel that stores a number."""
    return f"define void @kernel(ptr %a, ptr %b) {{\n  store i64 {number}, ptr %a\n  ret void\n}}\n"


def fresh() -> int:
    """Return a number whose kernel no test of this process has built yet."""
    return 1_000_000 + next(_numbers)


def stored_by(address: int | None) -> int:
    assert address is not None
    place = numpy.zeros(1, numpy.int64)
    native.function(address)(place.ctypes.data, 0)
    return int(place[0])


@pytest.fixture
def builder() -> Builder:
    return Builder(None)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "kernels"))


class Gate:
    """Makes a text, on the thread that asks for it, once it is let through."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.entered = threading.Event()
        self.open = threading.Event()
        self.thread: int | None = None

    def __call__(self) -> str:
        self.thread = threading.get_ident()
        self.entered.set()
        assert self.open.wait(SOON)
        return self.text


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate(stores(fresh()))
    yield gate
    gate.open.set()


def never() -> str:
    raise AssertionError("nobody asked for this kernel")


def test_what_is_bought_is_there_later(builder: Builder) -> None:
    number = fresh()
    assert builder.ask("key", never) is None
    assert builder.wait(SOON)
    assert builder.ask("key", lambda: stores(number), buy=True) is None
    assert builder.wait(SOON)
    assert stored_by(builder.ask("key", never)) == number
    assert builder.ask("key", never, buy=True) == builder.ask("key", never)
    assert builder.ask("another key", never) is None
    assert builder.why_not("key") is None


def test_no_call_waits_for_the_compiler(builder: Builder, gate: Gate) -> None:
    assert builder.ask("key", gate, buy=True) is None
    assert gate.entered.wait(SOON)
    # It is at work now, on another thread, and neither asks nor orders wait for it.
    assert gate.thread != threading.get_ident()
    assert builder.ask("key", never) is None
    assert builder.ask("key", never, buy=True) is None
    for _ in range(3):
        assert builder.ask("next", lambda: stores(5), buy=True) is None
    assert builder._line.orders.qsize() == 1
    assert builder.counts.compiled == 0
    assert not builder.wait(0.05)
    gate.open.set()
    assert builder.wait(SOON)
    assert builder.ask("key", never) is not None
    assert stored_by(builder.ask("next", never)) == 5


def test_a_kernel_is_built_once_however_often_it_is_ordered(builder: Builder, gate: Gate) -> None:
    builder.ask("first", gate, buy=True)
    number, made = fresh(), []

    def make() -> str:
        made.append(1)
        return stores(number)

    threads = [
        threading.Thread(target=lambda: [builder.ask("key", make, buy=True) for _ in range(100)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    builder._line.orders.put(build._Order("key", make))  # as one who was interrupted while ordering
    builder._line.orders.put(build._Order("key", make))
    gate.open.set()
    assert builder.wait(SOON)
    assert len(made) == 1
    assert builder.counts.compiled == 2


def test_equal_texts_are_one_kernel(builder: Builder) -> None:
    number = fresh()
    for key in ("one", "two"):
        builder.ask(key, lambda: stores(number), buy=True)
    assert builder.wait(SOON)
    assert builder.ask("one", never) == builder.ask("two", never)
    assert builder.counts.compiled == 1


def test_only_the_entry_is_renamed(builder: Builder) -> None:
    text = (
        "define internal i64 @kernel_body(i64 %x) {\n  ret i64 %x\n}\n"
        "define void @kernel(ptr %a, ptr %b) {\n"
        "  %x = call i64 @kernel_body(i64 77)\n  store i64 %x, ptr %a\n  ret void\n}\n"
    )
    builder.ask("key", lambda: text, buy=True)
    assert builder.wait(SOON)
    assert stored_by(builder.ask("key", never)) == 77


def test_a_stored_kernel_is_loaded_and_not_compiled(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = fresh()
    first = Builder(cache)
    first.ask("key", lambda: stores(number), buy=True)
    assert first.wait(SOON)
    assert (first.counts.compiled, first.counts.loaded) == (1, 0)
    forget_loaded(monkeypatch)
    second = Builder(Cache(cache.folder))
    second.ask("key", lambda: stores(number), buy=True)
    assert second.wait(SOON)
    assert stored_by(second.ask("key", never)) == number
    assert (second.counts.compiled, second.counts.loaded) == (0, 1)
    assert 0 < second.counts.load_seconds < first.counts.compile_seconds + SOON


def forget_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a session as another process would: with nothing loaded."""
    monkeypatch.setattr(native, "_session", None)


def test_looking_loads_what_is_stored_and_compiles_nothing(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, made = fresh(), []

    def make() -> str:
        made.append(1)
        return stores(number)

    builder = Builder(cache)
    for _ in range(3):
        builder.look("key", make)
        assert builder.wait(SOON)
    assert builder.ask("key", never) is None
    assert len(made) == 1  # the disk is looked at once
    builder.ask("key", make, buy=True)
    assert builder.wait(SOON)
    assert builder.counts.compiled == 1
    forget_loaded(monkeypatch)
    another = Builder(Cache(cache.folder))
    another.look("key", make)
    assert another.wait(SOON)
    assert stored_by(another.ask("key", never)) == number
    assert another.counts.compiled == 0
    Builder(None).look("key", never)


def test_an_order_that_was_done_before_it_was_noted_is_forgotten(cache: Cache) -> None:
    number = fresh()
    builder = Builder(cache)
    builder.look("key", lambda: stores(number))
    assert eventually(lambda: "key" not in builder._line.waiting)
    # As if the thread that ordered came to note it only now.
    done = build._Order("key", never)
    done.done.release()
    builder._line.waiting["key"] = done
    builder.ask("key", lambda: stores(number), buy=True)
    assert builder.wait(SOON)
    assert stored_by(builder.ask("key", never)) == number


@pytest.mark.parametrize("damage", ["cut short", "another function", "no object"])
def test_a_stored_kernel_that_is_of_no_use_is_compiled_afresh(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    number = fresh()
    builder = Builder(cache)
    builder.ask("key", lambda: stores(number), buy=True)
    assert builder.wait(SOON)
    [file] = Path(cache.folder).iterdir()
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:-1])
    else:  # as a kernel that went wrong when it was stored: its checksum is right
        text = stores(number).replace("@kernel", "@other")
        wrong = native.optimise_and_emit(text, "other")
        cache.put(file.stem, wrong if damage == "another function" else b"no object")
    forget_loaded(monkeypatch)
    again = Builder(Cache(cache.folder))
    again.ask("key", lambda: stores(number), buy=True)
    assert again.wait(SOON)
    assert stored_by(again.ask("key", never)) == number
    assert again.counts.compiled == 1
    assert again.counts.cache_trouble
    forget_loaded(monkeypatch)
    mended = Builder(Cache(cache.folder))
    mended.ask("key", lambda: stores(number), buy=True)
    assert mended.wait(SOON)
    assert mended.counts.loaded == 1


def test_a_failure_is_kept_and_told_once(
    builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dispatcharr")
    for _ in range(3):
        assert builder.ask("key", lambda: "nonsense", buy=True) is None
        assert builder.wait(SOON)
    reason = builder.why_not("key")
    assert reason is not None
    assert re.match("optimise_and_emit: .*parsing error", reason)
    assert "\n" not in reason
    assert [record.getMessage() for record in caplog.records] == [
        f"a kernel was left to NumPy's loops: {reason}"
    ]
    assert (builder.counts.failed, builder.counts.compiled) == (1, 0)
    number = fresh()  # others are built all the same
    builder.ask("other", lambda: stores(number), buy=True)
    assert builder.wait(SOON)
    assert stored_by(builder.ask("other", never)) == number


@pytest.mark.parametrize("error", [ZeroDivisionError("of\nours"), SystemExit(3)])
def test_a_mistake_in_making_the_text_is_a_failure(builder: Builder, error: BaseException) -> None:
    def make() -> str:
        raise error

    builder.ask("key", make, buy=True)
    assert builder.wait(SOON)
    assert str(builder.why_not("key")).startswith(f"{type(error).__name__}: ")
    number = fresh()
    builder.ask("other", lambda: stores(number), buy=True)
    assert builder.wait(SOON)
    assert stored_by(builder.ask("other", never)) == number


def test_where_nothing_can_be_compiled_no_thread_is_started(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "missing", lambda: "llvmlite is not installed")
    before = threading.active_count()
    assert builder.ask("key", never, buy=True) is None
    assert builder.wait(SOON)
    assert threading.active_count() == before
    assert builder.why_not("key") == "llvmlite is not installed"
    assert builder.counts == Counts(unavailable_reason="llvmlite is not installed")


def test_a_compiler_that_does_not_start_is_said_and_tried_no_more(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "host", lambda: "llvmlite cannot be imported: broken")
    assert builder.ask("key", never, buy=True) is None
    assert builder.wait(SOON)
    assert builder.why_not("key") == "llvmlite cannot be imported: broken"
    builder.ask("another", never, buy=True)
    assert builder.wait(SOON)
    counts = replace(builder.counts, start_seconds=0.0)
    assert counts == Counts(unavailable_reason="llvmlite cannot be imported: broken")


def test_where_no_thread_can_be_had_nothing_is_built(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    assert builder.ask("key", never, buy=True) is None
    assert builder.wait(SOON)
    assert "can't start new thread" in str(builder.counts.unavailable_reason)
    assert "can't start new thread" in str(builder.why_not("key"))


def test_a_process_builds_a_bounded_number_of_kernels(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MOST", 3)
    keys = [fresh() for _ in range(5)]
    for key in keys:
        builder.ask(key, lambda key=key: stores(key), buy=True)
        assert builder.wait(SOON)
    assert [key for key in keys if builder.ask(key, never)] == keys[:3]
    assert "has built 3 kernels" in str(builder.why_not(keys[4]))
    assert builder.why_not(keys[0]) is None


def test_an_interrupt_between_any_two_lines_of_an_order_costs_nothing(builder: Builder) -> None:
    # A KeyboardInterrupt comes between two lines; this raises one at each of them in turn.
    number = fresh()
    for line in range(40):
        passed = 0

        def tracer(frame: Any, event: str, argument: object, line: int = line) -> Any:
            nonlocal passed
            if frame.f_code.co_filename == build.__file__ and event == "line":
                passed += 1
                if passed == line:
                    raise KeyboardInterrupt
            return tracer

        key = f"key {line}"
        sys.settrace(tracer)
        try:
            builder.ask(key, lambda: stores(number), buy=True)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert eventually(lambda: builder.ask(key, lambda: stores(number), buy=True) is not None)
        assert stored_by(builder.ask(key, never)) == number
        if passed < line:
            break
    else:
        pytest.fail("an order takes more lines than expected")
    assert builder.counts.compiled == 1


def test_a_thread_that_was_started_in_vain_ends(builder: Builder) -> None:
    number = fresh()
    builder.ask("key", lambda: stores(number), buy=True)
    assert builder.wait(SOON)
    build._serve(weakref.ref(builder), builder._line)  # returns: the line is served


def test_a_builder_that_is_gone_leaves_no_thread(gate: Gate) -> None:
    builder = Builder(None)
    builder.ask("key", gate, buy=True)
    assert gate.entered.wait(SOON)
    gate.open.set()
    assert builder.wait(SOON)
    gone, thread = weakref.ref(builder), gate.thread
    del builder
    assert eventually(lambda: gone() is None)
    assert eventually(lambda: thread not in threads_at_work())


def threads_at_work() -> set[int]:
    return set(sys._current_frames())


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for what other threads are about to bring about."""
    end = time.monotonic() + SOON
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True
