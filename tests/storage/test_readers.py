"""The table of pending readers, and the kernels that run."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from dispatcharr.storage import readers
from dispatcharr.storage.readers import (
    Reader,
    any_pending,
    pending_arrays,
    readers_of,
    reading,
    roots_read,
    wait_until_unread,
)


class Pending:
    """Stands for an array."""


@pytest.fixture(autouse=True)
def _empty_table() -> Iterator[None]:
    gc.collect()
    any_pending()
    before = set(map(id, pending_arrays()))
    yield
    gc.collect()
    any_pending()
    assert set(map(id, pending_arrays())) <= before
    assert not readers._running


#: Keys that are the id of no root.
A, B, C = -1, -2, -3


def test_a_reader_is_found_under_every_root() -> None:
    array = Pending()
    reader = Reader(array, (A, B))
    assert reader() is array
    assert readers_of(A) == [array]
    assert readers_of(B) == [array]
    assert readers_of(C) == []
    assert any_pending()
    assert array in pending_arrays()
    assert {(A, array), (B, array)} <= set(roots_read())
    reader.close()
    assert readers_of(A) == []
    assert array not in pending_arrays()
    reader.close()


def test_an_array_that_dies_disappears() -> None:
    array = Pending()
    reader = Reader(array, (A,))
    other = Pending()
    second = Reader(other, (A,))
    del array
    assert readers_of(A) == [other]
    del other
    assert readers_of(A) == []
    assert reader() is None
    assert second() is None


def test_without_roots_it_is_pending_all_the_same() -> None:
    was_reading = any_pending()
    array = Pending()
    reader = Reader(array, ())
    assert array in pending_arrays()
    assert any_pending() == was_reading
    reader.close()
    assert array not in pending_arrays()


def test_filing_anew() -> None:
    array = Pending()
    reader = Reader(array, (A, B))
    reader.file((B, C))
    assert readers_of(A) == []
    assert readers_of(B) == [array]
    assert readers_of(C) == [array]
    reader.file(())
    assert readers_of(C) == []
    reader.close()
    del array
    reader.file((A,))
    assert readers_of(A) == []


def test_observers_are_told_how_many_roots_are_read() -> None:
    told: list[int] = []
    readers.observe(told.append)
    try:
        start = len(readers._readers)
        array = Pending()
        reader = Reader(array, (A, B))
        assert told[-1] == start + 2
        reader.close()
        assert told[-1] == start
        second = Reader(array, (A,))
        del array
        readers_of(A)
        assert told[-1] == start
        del second
    finally:
        readers._observers.remove(told.append)


def test_a_writer_waits_for_kernels_of_other_threads() -> None:
    started, released = threading.Event(), threading.Event()

    def kernel() -> None:
        with reading({A, B}):
            started.set()
            released.wait(10)

    thread = threading.Thread(target=kernel)
    thread.start()
    started.wait(10)
    begin = time.perf_counter()
    wait_until_unread(C)
    assert time.perf_counter() - begin < 1
    threading.Timer(0.15, released.set).start()
    begin = time.perf_counter()
    wait_until_unread(A)
    assert time.perf_counter() - begin > 0.1
    thread.join()


def test_a_writer_does_not_wait_for_its_own_kernel() -> None:
    with reading({A}):
        wait_until_unread(A)


def test_an_error_ends_the_reading() -> None:
    with pytest.raises(KeyError), reading({A}):
        raise KeyError
    wait_until_unread(A)


def test_a_kernel_whose_end_was_not_noted_holds_nobody_up() -> None:
    """An interrupt may come between the end of the block and the note of it."""

    def begin() -> None:
        one = reading({A})
        one.__enter__()

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    wait_until_unread(A)


def test_threads_may_file_and_forget_at_once() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for i in range(400):
                arrays = [Pending() for _ in range(5)]
                held = [Reader(a, (A, B, -10 - i % 7)) for a in arrays]
                readers_of(A)
                roots_read()
                pending_arrays()
                held[0].close()
                any_pending()
                held[1].file((C,))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    gc.collect()
    assert readers_of(A) == readers_of(B) == readers_of(C) == []
