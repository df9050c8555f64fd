"""Tables and summaries: the figures, and text that fits 80 columns whatever ran."""

from __future__ import annotations

import json

import numpy
import pytest

from dispatcharr._events import DirectRecord, FallbackRecord
from dispatcharr.explain.recorder import Recorder


@pytest.fixture
def busy(op, chain, record):
    """A recorder that heard of everything there is."""
    recorder = Recorder()
    a = numpy.linspace(0.0, 1.0, 50_000)
    wave = op("add", op("square", op("sin", a)), op("square", op("cos", a)))
    for _ in range(3):
        recorder(record(wave, {"threads": 0.010, "serial": 0.030, "cuda": 0.050}, 0.012))
    recorder(record(chain(60), {"serial": 0.002, "threads": 0.004}, 0.003,
                    refused=(("cuda", "logaddexp2 has no kernel"),)))  # fmt: skip
    recorder(record(op("log", a), {"serial": 0.001}, 0.001, forced="cuda",
                    refused=(("cuda", "no memory"), ("threads", "too few elements")),
                    fp_errors=frozenset({("divide by zero", "log")}), verified=False))  # fmt: skip
    for name in ("sort", "linalg.norm", "fft.fft", "interp", "cumsum", "histogram", "unique"):
        recorder(FallbackRecord(name, "it is not planned, " + "which is a pity " * 6, 0.002))
    recorder(DirectRecord("add"))
    recorder.small += 4011
    return recorder


def line_with(text, *words):
    (found,) = [one for one in text.splitlines() if all(word in one for word in words)]
    return found


def test_table_shows_where_each_kind_ran_and_every_price(busy, fits):
    text = fits(busy.table())
    row = line_with(text, "cos square sin")
    cells = row.split()
    assert "36.0 ms" in row
    assert "30.0 ms*" in row
    assert "90.0 ms" in row
    assert "150 ms" in row
    assert cells[-6:] == ["150", "ms", "90.0", "ms", "30.0", "ms*"]
    assert "predicted on" in text
    assert "* where it ran." in text
    assert line_with(text, "kernel", "runs").split()[-3:] == ["cuda", "serial", "threads"]


def test_table_of_two_backends_names_where_each_kind_ran(record, op, fits):
    recorder = Recorder()
    recorder(record(op("sqrt", numpy.ones(20_000, "f4")), {"threads": 0.2, "serial": 0.1}, 0.3))
    text = fits(recorder.table())
    assert line_with(text, "ran on").split() == [
        "kernel", "type", "runs", "ran", "on", "measured", "serial", "threads",
    ]  # fmt: skip
    assert line_with(text, "sqrt").split() == [
        "sqrt", "f4", "1", "serial", "300", "ms", "100", "ms*", "200", "ms",
    ]  # fmt: skip


def test_table_shortens_long_programs_in_the_middle(busy, fits):
    row = line_with(fits(busy.table()), "hypot")
    assert "logaddexp2" in row
    assert "(+" in row
    assert len(busy.table().rows[1]["kernel"].split()) == 60


def test_table_tells_refusals_from_prices(busy, fits):
    assert line_with(fits(busy.table()), "log ", "f8").split().count("refused") == 2


def test_table_lists_what_was_left_to_numpy_with_its_reason(busy, fits):
    text = fits(busy.table())
    assert "Left to NumPy" in text
    assert "it is not planned" in line_with(text, "linalg.norm")


def test_a_long_table_says_that_there_is_more(record, op, fits):
    recorder = Recorder()
    node = op("sqrt", numpy.ones(20_000))
    for i in range(60):
        recorder(record(node, forced="gpu", refused=(("gpu", f"reason {i}"),)))
    assert "20 more rows" in fits(recorder.table())
    assert len(recorder.table()) == 60


def test_summary_compares_backends(busy, fits):
    data = busy.summary().to_dict()
    assert data["kernels"] == 5
    assert data["measured"] == pytest.approx(0.040)
    assert data["predicted"] == pytest.approx(0.033)
    backends = data["backends"]
    assert backends["serial"]["kernels"] == 2
    assert backends["serial"]["if_all"] == pytest.approx(0.030 * 3 + 0.002 + 0.001)
    assert backends["threads"]["if_all"] is None
    assert backends["threads"]["could_run"] == 4
    assert backends["cuda"]["kernels"] == 0
    text = fits(busy.summary())
    assert "5 kernels: 40.0 ms measured, 33.0 ms predicted (1.21x)" in text
    assert "93.0 ms  (2.82x)" in line_with(text, "serial  ", "2.82x")
    assert "can run 4 of them" in text


def test_summary_counts_what_was_fused_and_never_stored(busy, fits):
    data = busy.summary().to_dict()
    assert data["operations"] == 3 * 5 + 60 + 1
    assert data["fused_away"] == 3 * 4 + 59
    assert "76, 71 of them fused away" in fits(busy.summary())
    assert data["bytes_unstored"] == 3 * 4 * 400_000 + 59 * 160_000


def test_summary_says_why_and_what_else_happened(busy, fits):
    text = " ".join(fits(busy.summary()).split())
    assert "cheapest of 3: 3 kernels" in text
    assert "'cuda' was asked for and refused (no memory); the only one that can: 1 kernel" in text
    assert "4,012 operations too small to plan" in text
    assert "divide by zero in log (1)" in text
    assert "1 kernel against NumPy; 1 disagreed" in text


def test_summary_shows_the_longest_fallbacks(busy, fits):
    text = fits(busy.summary())
    assert "Left to NumPy: 7 calls, 14.0 ms; the 5 that took longest" in text
    assert len(busy.summary().to_dict()["fallbacks"]["top"]) == 5


def test_summary_of_very_many_kinds_shows_the_longest(record, op, fits):
    recorder = Recorder()
    node = op("sqrt", numpy.ones(20_000))
    for i in range(60):
        recorder(record(node, seconds=i * 1e-3, forced="gpu", refused=(("gpu", f"no {i}"),)))
    text = fits(recorder.summary())
    assert "8 kinds of 60" in text
    assert text.count("sqrt") == 8
    assert "59.0 ms" in text


def test_summary_of_nothing_says_so(fits):
    assert fits(Recorder().summary()) == "dispatcharr ran no kernel."
    assert fits(Recorder().table()) == "No kernel ran, and nothing was left to NumPy."


def test_summary_is_data_of_its_own(busy):
    summary = busy.summary()
    data = summary.to_dict()
    assert json.loads(json.dumps(data)) == data
    data["backends"].clear()
    assert summary.to_dict()["backends"]


def test_names_of_backends_may_be_long(record, op, fits):
    recorder = Recorder()
    names = [f"a_backend_with_a_very_long_name_{i}" for i in range(6)]
    recorder(record(op("sqrt", numpy.ones(20_000)), dict.fromkeys(names, 1.0)))
    fits(recorder.table())
    fits(recorder.summary())


def test_html_is_whole_and_escaped(busy, html_text):
    busy(FallbackRecord("<b>", "a < b & c", 9.0))
    for report in (busy, busy.summary(), busy.table()):
        text = html_text(report)
        assert "a < b & c" in text
        assert "threads" in text
        assert "<b>" not in report._repr_html_()


def test_repr_is_short(busy):
    assert repr(busy) == "<Recorder: 5 kernels, 7 fallbacks, 4012 small>"
