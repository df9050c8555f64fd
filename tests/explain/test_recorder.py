"""A recorder adds up what ran, keeps the last of it, and writes it down."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc

import numpy
import pytest

from dispatcharr import _events
from dispatcharr._events import DirectRecord, FallbackRecord
from dispatcharr.explain import recorder as recorder_module
from dispatcharr.explain.recorder import KEPT, SCHEMA, Recorder
from dispatcharr.explain.tally import MOST_CLASSES, OTHERS, Tally


@pytest.fixture
def wave(op):
    a = numpy.linspace(0.0, 1.0, 50_000)
    return op("add", op("square", op("sin", a)), op("square", op("cos", a)))


def test_kernels_of_one_class_are_added_up(wave, record):
    recorder = Recorder()
    one = record(wave, {"threads": 0.002, "serial": 0.005}, seconds=0.003)
    for _ in range(4):
        recorder(one)
    (row,) = recorder.table().rows
    assert row["kernel"].split() == ["cos", "square", "sin", "square", "add"]
    assert (row["dtype"], row["backend"], row["reason"]) == ("float64", "threads", "cheapest of 2")
    assert row["runs"] == len(recorder) == 4
    assert row["measured"] == pytest.approx(0.012)
    assert row["predicted"] == pytest.approx(0.008)
    assert row["predicted_on"] == pytest.approx({"threads": 0.008, "serial": 0.020})
    assert row["operations"] == 20
    assert row["elements"] == 200_000
    assert row["bytes"] == 4 * 2 * 400_000
    # Of five results, four were never stored.
    assert row["bytes_unstored"] == 4 * 4 * 400_000


def test_backend_dtype_and_reason_make_classes(wave, op, record):
    recorder = Recorder()
    recorder(record(wave))
    recorder(record(wave, {"threads": 3.0, "serial": 1.0}))
    recorder(record(wave, forced="serial"))
    recorder(record(op("astype", wave, dtype="float32")))
    rows = recorder.table().rows
    assert len(rows) == 4
    assert {row["reason"] for row in rows} == {"cheapest of 2", "forced by use_backend('serial')"}
    assert {row["dtype"] for row in rows} == {"float64", "float32"}


def test_what_really_runs_is_recorded(op, ran):
    a = numpy.zeros(60_000)
    recorder = Recorder()
    with pytest.warns(RuntimeWarning, match="divide by zero encountered in log"):
        heard = ran(op("log", a))
    with _events.listening(recorder):
        for one in heard:
            _events.emit(one)
    assert recorder.records == heard
    (row,) = recorder.table().rows
    assert row["kernel"] == "log"
    assert row["measured"] == heard[0].seconds
    assert row["backend"] == heard[0].decision.backend
    assert set(row["predicted_on"]) == {"serial", "threads"}
    data = recorder.to_dict()
    assert data["summary"]["fp_errors"] == [
        {"error": "divide by zero", "operation": "log", "kernels": 1}
    ]


def test_fallbacks_count_by_name_and_reason():
    recorder = Recorder()
    for seconds in (0.1, 0.2):
        recorder(FallbackRecord("sort", "it is not planned", seconds))
    recorder(FallbackRecord("sort", "dtype object is not planned", 0.5))
    rows = recorder.table().rows
    assert [(row["runs"], row["measured"]) for row in rows] == [
        (1, 0.5),
        (2, pytest.approx(0.3)),
    ]
    assert {row["backend"] for row in rows} == {"numpy"}
    assert len(recorder) == 0
    assert recorder.records == []
    assert [one.name for one in recorder.events] == ["sort"] * 3


def test_small_operations_are_counted_from_events_and_from_the_fast_path():
    recorder = Recorder()
    recorder(DirectRecord("add"))
    recorder(DirectRecord("add"))
    recorder.small += 5
    assert recorder.direct == 7
    assert recorder.summary().to_dict()["small"] == 7


def test_events_of_other_kinds_are_none_of_its_business():
    recorder = Recorder()
    recorder("something new")
    assert recorder.table().rows == []
    assert recorder


def test_a_program_of_any_length_stays_bounded(op, record):
    one = record(op("sqrt", numpy.ones(20_000)))
    recorder = Recorder()
    for _ in range(100_000):
        recorder(one)
    assert len(recorder) == 100_000
    assert len(recorder.records) == KEPT
    assert recorder.table().rows[0]["runs"] == 100_000
    assert recorder.to_dict()["records_dropped"] == 100_000 - KEPT


def test_a_full_recorder_takes_no_more_memory(op, record, monkeypatch):
    monkeypatch.setattr(recorder_module, "KEPT", 1000)
    one = record(op("sqrt", numpy.ones(20_000)))
    recorder = Recorder()
    tracemalloc.start()
    try:
        for _ in range(1000):
            recorder(one)
        full = tracemalloc.get_traced_memory()[0]
        for _ in range(3000):
            recorder(one)
        grown = tracemalloc.get_traced_memory()[0] - full
    finally:
        tracemalloc.stop()
    assert full > 1000 * 50
    assert grown < full / 10


def test_reasons_without_end_are_bounded(op, record):
    node = op("sqrt", numpy.ones(20_000))
    recorder = Recorder()
    for i in range(MOST_CLASSES + 100):
        recorder(FallbackRecord(f"f{i}", "no", 0.001))
    for i in range(MOST_CLASSES + 100):
        recorder(record(node, forced="gpu", refused=(("gpu", f"{i} bytes are free"),)))
    rows = recorder.table().rows
    assert len(rows) == 2 * (MOST_CLASSES + 1)
    others = [row for row in rows if row["kernel"] == OTHERS]
    assert [row["runs"] for row in others] == [100, 100]
    assert sum(row["runs"] for row in rows) == 2 * (MOST_CLASSES + 100)


def test_threads_lose_nothing(wave, record, monkeypatch):
    def slowly(tally, _):
        found = tally.kernels.setdefault("all", [0])
        before = found[0]
        time.sleep(0.0005)  # where another thread would come between, were there no lock
        found[0] = before + 1

    monkeypatch.setattr(Tally, "add_kernel", slowly)
    one = record(wave)
    recorder = Recorder()

    def work():
        for _ in range(50):
            recorder(one)
            recorder(DirectRecord("add"))

    threads = [threading.Thread(target=work, name=f"worker {i}") for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder._tally.kernels == {"all": [200]}
    assert len(recorder) == recorder.direct == 200
    assert {timed.thread_name for timed in recorder.timed} == {f"worker {i}" for i in range(4)}


def test_reports_can_be_made_while_records_come(wave, record):
    recorder = Recorder()
    records = [record(wave, forced="gpu", refused=(("gpu", f"no {i}"),)) for i in range(200)]
    done = threading.Event()
    runs = []

    def watch():
        while not done.is_set():
            runs.append(sum(row["runs"] for row in recorder.table().rows))
            recorder.summary()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for one in records:
            recorder(one)
    finally:
        done.set()
        watcher.join()
    assert runs == sorted(runs)
    assert len(recorder.table()) == 200


def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent(op, record):
    recorder = Recorder()
    one = record(op("sqrt", numpy.ones(20_000)))
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with recorder._lock:
            entered.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(30)
    try:
        recorder_module._unlock_after_fork()
        recorder(one)
    finally:
        leave.set()
        holder.join()
    assert len(recorder) == 1


def test_starts_are_the_ends_less_the_seconds(op, record):
    recorder = Recorder()
    recorder(record(op("sqrt", numpy.ones(20_000)), seconds=100.0))
    (timed,) = recorder.timed
    assert -100.0 <= timed.start < -90.0
    assert timed.thread == threading.get_ident()


def test_json_holds_everything_and_gives_it_back(wave, record, tmp_path):
    recorder = Recorder()
    recorder(record(wave, fp_errors=frozenset({("overflow", "exp")}), verified=True))
    recorder(record(wave, refused=(("cuda", "float16 has no kernel"),)))
    recorder(FallbackRecord("sort", "it is not planned", 0.25))
    path = tmp_path / "records.json"
    recorder.to_json(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data == recorder.to_dict()
    assert data["schema"] == SCHEMA
    assert [one["kind"] for one in data["records"]] == ["kernel", "kernel", "fallback"]
    first = data["records"][0]
    assert first["estimates"]["serial"]["seconds"] == 0.004
    assert set(first["estimates"]["serial"]["terms"]) >= {"overhead", "memory", "compute"}
    assert first["fp_errors"] == [["overflow", "exp"]]
    assert data["records"][1]["refused"] == {"cuda": "float16 has no kernel"}
    assert data["summary"]["verified"] == {"agreed": 1, "disagreed": 0}


def test_infinite_prices_are_no_number_in_json(op, record, tmp_path):
    recorder = Recorder()
    recorder(record(op("sqrt", numpy.ones(20_000)), {"threads": 0.1, "serial": float("inf")}))
    recorder.to_json(str(tmp_path / "records.json"))
    recorder.to_chrome_trace(tmp_path / "trace.json")
    data = json.loads((tmp_path / "records.json").read_text(encoding="utf-8"))
    assert data["rows"][0]["predicted_on"]["serial"] is None
    assert data["rows"][0]["predicted_on"]["threads"] == 0.1


def test_a_file_that_cannot_be_written_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        Recorder().to_json(tmp_path / "nowhere" / "records.json")


def test_chrome_trace_has_a_row_for_each_thread_and_place(wave, record, tmp_path):
    recorder = Recorder()
    recorder(record(wave, seconds=0.002))
    recorder(record(wave, {"threads": 2.0, "serial": 1.0}, seconds=0.001))
    recorder(FallbackRecord("sort", "it is not planned", 0.004))
    other = threading.Thread(target=recorder, args=(record(wave),), name="other")
    other.start()
    other.join()
    recorder.to_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    titles = {
        event["tid"]: event["args"]["name"]
        for event in trace["traceEvents"]
        if event["ph"] == "M" and event["name"] == "thread_name"
    }
    main = threading.current_thread().name
    assert set(titles.values()) == {
        f"{main}: threads", f"{main}: serial", f"{main}: NumPy", "other: threads",
    }  # fmt: skip
    bars = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert [bar["dur"] for bar in bars] == pytest.approx([2000, 1000, 4000, 3000])
    assert [titles[bar["tid"]] for bar in bars][:2] == [f"{main}: threads", f"{main}: serial"]
    assert bars[0]["args"]["prices ms"] == pytest.approx({"threads": 2.0, "serial": 4.0})
    assert bars[2]["name"] == "sort"
    assert bars[2]["args"]["reason"] == "it is not planned"
    # Each began after the one before had ended.
    ends = [bar["ts"] + bar["dur"] for bar in bars]
    assert ends == sorted(ends)
