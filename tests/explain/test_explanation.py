"""Explanations: the plan of what is pending, the story of what ran."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy
import pytest

from dispatcharr import engine
from dispatcharr._config import leave, override
from dispatcharr._events import FallbackRecord
from dispatcharr.explain.explanation import (
    SCHEMA,
    explain_nothing,
    explain_pending,
    explain_record,
    explain_records,
)


@pytest.fixture
def wave(op):
    a = numpy.linspace(0.0, 1.0, 50_000)
    b = numpy.linspace(0.0, 2.0, 50_000)
    return op("add", op("square", op("sin", a)), op("multiply", op("cos", b), 2.5))


@pytest.fixture
def without_fusion():
    token = override({"fusion": False}, "test")
    yield
    leave(token)


def test_a_pending_array_is_planned_and_priced_but_not_run(wave, ran, fits):
    told = explain_pending([wave])
    assert wave.value is None
    (kernel,) = told.kernels
    assert kernel.program == ("r1 = square(sin(a)) + cos(b) * 2.5",)
    assert kernel.measured is None
    assert {price.backend for price in kernel.prices} == {"serial", "threads"}
    chosen = engine.route(*_only(wave))
    assert kernel.backend == chosen.backend
    text = fits(told)
    assert "Nothing ran yet" in text
    assert "r1 = square(sin(a)) + cos(b) * 2.5" in text
    assert "a: 400 kB, 50,000 float64" in text
    assert "r1: 400 kB, 50,000 float64" in text
    assert f"runs on  {kernel.backend}: cheapest of 2" in text
    for term in ("overhead", "memory", "compute", "fault", "total"):
        assert term in text


def _only(node):
    (step,) = engine.plan_of([node]).steps
    return step.region, step.work


def test_every_term_of_every_price_is_in_the_data(wave):
    (kernel,) = explain_pending([wave]).kernels
    for price, estimate in zip(kernel.prices, engine.route(*_only(wave)).estimates, strict=True):
        wanted = dict(estimate.terms)
        assert price.correction == wanted.pop("correction")
        assert price.terms == wanted
        assert (price.seconds, price.run) == (estimate.seconds, estimate.run)


def test_shapes_strides_and_broadcasts_are_told(op, fits):
    grid = numpy.zeros((300, 200))
    row = numpy.zeros(199)
    told = explain_pending([op("add", op("subtract", grid[1:, 1:], grid[:-1, :-1]), row)])
    text = fits(told)
    assert "299 x 199 = 59,501 elements" in text
    assert "a: 476 kB, 299 x 199 float64, strided" in text
    assert "c: 1.59 kB, 199 float64, broadcast" in text


def test_a_plan_of_several_kernels_says_where_each_ends(op, fits):
    column = op("sqrt", numpy.ones((400, 1)))
    told = explain_pending([op("multiply", column, numpy.ones((400, 300)))])
    first, second = told.kernels
    assert first.border == "shape"
    assert second.program == ("r2 = r1 * b",)
    assert second.reads[0].role == "earlier result"
    assert second.reads[0].shape == (400, 1)
    text = fits(told)
    assert "Kernel 1 of 2" in text
    assert "what follows runs over a larger shape" in text
    assert "r1: 3.20 kB, 400 x 1 float64, broadcast, made by an earlier kernel" in " ".join(
        text.split()
    )


@pytest.mark.parametrize("length", [4, 30])
def test_plans_of_many_kernels_stay_readable(length, chain, without_fusion, fits):
    told = explain_pending([chain(length)])
    assert told.total == len(told.kernels) == length
    text = fits(told)
    assert len(text.splitlines()) < 80
    assert "dispatch_options(fusion=False) is in force" in text


def test_long_programs_fit_and_are_whole_in_the_data(chain, fits):
    told = explain_pending([chain(60)])
    (kernel,) = told.kernels
    assert len(kernel.operations) == 60
    assert "60 operations fused" in fits(told)


def test_very_long_programs_are_cut_in_the_middle(op, fits):
    value = numpy.ones(20_000)
    for _ in range(30):
        root = op("sqrt", value)
        value = op("add", root, root)
    told = explain_pending([value])
    assert len(told.kernels[0].program) > 20
    text = fits(told)
    assert "more lines ..." in text
    assert told.kernels[0].program[-1] in text


def test_what_has_been_evaluated_is_not_pending(wave, ran):
    ran(wave)
    assert explain_pending([wave]).kind == "nothing"


def test_a_forced_backend_is_named_with_what_the_other_would_cost(wave, fits):
    token = override({"backend": "serial"}, "test")
    try:
        text = fits(explain_pending([wave]))
    finally:
        leave(token)
    assert "serial: forced by use_backend('serial'); threads would cost" in text


def test_what_ran_is_told_with_predicted_and_measured_time(wave, record, fits):
    one = record(
        wave,
        {"threads": 0.002, "serial": 0.005},
        0.003,
        refused=(("cuda", "it has no such kernel"),),
        fp_errors=frozenset({("overflow", "square")}),
        verified=False,
    )
    told = explain_record(one)
    (kernel,) = told.kernels
    assert (kernel.measured, kernel.price.run) == (0.003, 0.002)
    text = fits(told)
    assert "1 kernel on threads, 3.00 ms measured, 2.00 ms predicted (1.50x)" in text
    assert "ran on    threads: cheapest of 2; serial would cost 2.50x as much" in text
    (measured,) = [line for line in text.splitlines() if line.startswith("  measured")]
    assert measured.split() == ["measured", "3.00", "ms"]
    assert "cuda: it has no such kernel" in text
    assert "overflow in square" in text
    assert "NumPy disagreed" in text
    # The value of a constant is gone with the array that it was made for.
    assert "c1: a constant, not kept" in text


def test_a_learned_factor_is_shown_where_there_is_one(wave, record, fits):
    one = record(wave)
    assert "factor" not in fits(explain_record(one))
    learned = explain_record(one)
    (kernel,) = learned.kernels
    prices = tuple(replace(price, correction=1.25) for price in kernel.prices)
    assert "x 1.25" in fits(replace(learned, kernels=(replace(kernel, prices=prices),)))


def test_terms_nobody_has_heard_of_are_shown(wave, record, fits):
    told = explain_record(record(wave))
    (kernel,) = told.kernels
    prices = tuple(replace(price, terms={"queueing": 0.25}) for price in kernel.prices)
    assert "queueing" in fits(replace(told, kernels=(replace(kernel, prices=prices),)))


def test_a_program_that_ran_much_is_told_as_a_table(wave, record, fits):
    records = [record(wave, seconds=i * 1e-3) for i in range(1, 300)]
    told = explain_records([*records, FallbackRecord("sort", "it is not planned", 0.1)], small=12)
    assert told.total == 299
    assert len(told.kernels) == 200
    assert told.rows[0]["runs"] == 299
    text = fits(told)
    assert "299 kernels" in text
    assert "The kernel that takes longest" in text
    assert "299 ms measured" in text
    assert "sort" in text
    assert "12 operations too small to plan ran as plain NumPy" in text


def test_a_program_without_kernels_is_told_by_what_was_left(fits):
    told = explain_records([FallbackRecord("sort", "it is not planned", 0.1)] * 3)
    text = fits(told)
    assert "no kernel ran, 3 calls left to NumPy" in text
    assert "it is not planned" in text


def test_nothing_is_explained_with_a_reason(fits):
    assert fits(explain_nothing("it is an input")) == "Nothing to explain: it is an input."
    assert "nothing was left to NumPy" in fits(explain_records([]))
    assert "2 operations too small" in fits(explain_records([], small=2))


def test_backends_that_cannot_be_used_are_listed_with_the_reason(wave, fits):
    told = explain_pending([wave])
    for name, reason in told.absent:
        assert f"{name} " in fits(told)
        assert reason
    assert not {name for name, _ in told.absent} & {"serial", "threads"}


def test_explanations_are_data(wave, record):
    reports = (
        explain_pending([wave]),
        explain_record(record(wave, fp_errors=frozenset({("overflow", "add")}))),
        explain_records([FallbackRecord("sort", "no", 0.1)]),
        explain_nothing("it is an input"),
    )
    for told in reports:
        data = told.to_dict()
        assert data["schema"] == SCHEMA
        assert data["kind"] == told.kind
        assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_explanations_do_not_change(wave):
    told = explain_pending([wave])
    with pytest.raises(AttributeError):
        told.kind = "other"
    assert repr(told) == str(told)


def test_explanations_have_html(wave, record, html_text, fits):
    for told in (explain_pending([wave]), explain_record(record(wave)), explain_nothing("a < b")):
        assert told._repr_html_()
    assert "square(sin(a)) + cos(b) * 2.5" in html_text(explain_pending([wave]))
    assert "a < b" in html_text(explain_nothing("a < b"))
