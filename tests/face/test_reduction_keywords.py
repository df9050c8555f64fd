"""``out``, ``initial``, ``where`` and one axis of reductions: planned, and answered as by NumPy."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr import _events
from dispatcharr.expr.build import own_filters
from dispatcharr.face import _fastpath
from dispatcharr.kernels import blocks
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Reduction

WITH_INITIAL = [row for row in REDUCTIONS if "initial" in row.params]
WITH_WHERE = [row for row in REDUCTIONS if row.masked is not None]
WITH_OUT = [row for row in REDUCTIONS if row.name != "count_nonzero"]
ARG = [row for row in REDUCTIONS if row.ordered]
INITIALS = (2, 2.75, -1, 300, 1 << 70, 1j, numpy.complex64(2), -0.0, None, "2", numpy.int8(3), [1])
SHAPE = (30, 40)


def rows(chosen: list[Reduction]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", chosen, ids=[row.name for row in chosen])


def numbers(shape: tuple[int, ...] = SHAPE, seed: int = 1) -> numpy.ndarray:
    """Return values of whose products none is too large."""
    return 2 ** numpy.random.default_rng(seed).uniform(-0.2, 0.2, shape)


def mask_of(shape: tuple[int, ...] = SHAPE, share: float = 0.5) -> numpy.ndarray:
    return numpy.random.default_rng(7).random(shape) < share


@pytest.fixture
def kernels() -> Iterator[list[Any]]:
    """What was done, with everything planned on one thread."""
    found: list[Any] = []
    with (
        _events.listening(found.append),
        np.use_backend("serial"),
        np.dispatch_options(defer="always"),
    ):
        yield found


def names(kernels: list[Any]) -> list[str]:
    return [type(record).__name__ for record in kernels]


def asked(row: Reduction, **more: Any) -> dict[str, Any]:
    """Return keywords with those that NumPy demands with a mask."""
    needed = row.masked.needs if row.masked is not None and "where" in more else ()
    return {**dict.fromkeys(needed, 1), **more}


def near(got: Any, wanted: Any) -> None:
    assert type(got) is (np.ndarray if type(wanted) is numpy.ndarray else type(wanted))
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    assert got.strides == wanted.strides
    numpy.testing.assert_allclose(numpy.asarray(got), wanted, rtol=1e-12)


def heard(call: Callable[[], Any]) -> tuple[list[str], set[str]]:
    """Return what ``call`` warned of, and in which files."""
    with warnings.catch_warnings(record=True, action="always") as found, own_filters():
        call()
    return sorted(str(w.message) for w in found), {w.filename for w in found}


@rows(WITH_OUT)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_out_is_filled_by_one_kernel_and_returned(
    row: Reduction, axis: Any, kernels: list[Any]
) -> None:
    values = numbers()
    wanted = getattr(numpy, row.name)(values, axis=axis)
    for out in (np.zeros(wanted.shape, wanted.dtype), numpy.zeros(wanted.shape, wanted.dtype)):
        kernels.clear()
        assert getattr(np, row.name)(np.array(values) * 1, axis=axis, out=out) is out
        assert names(kernels) == ["KernelRecord"]
        numpy.testing.assert_allclose(numpy.asarray(out), wanted, rtol=1e-13)


@rows([row for row in WITH_OUT if row.method])
def test_methods_fill_out_as_well(row: Reduction, kernels: list[Any]) -> None:
    wanted = getattr(numbers(), row.name)(axis=0, keepdims=True)
    out = np.zeros((1, 80), wanted.dtype)[:, ::2]
    assert getattr(np.array(numbers()), row.name)(axis=0, out=out, keepdims=True) is out
    assert names(kernels) == ["KernelRecord"]
    numpy.testing.assert_allclose(out.to_numpy(), wanted, rtol=1e-13)


def test_what_waits_for_the_memory_of_out_is_settled_first(kernels: list[Any]) -> None:
    out = np.ones(40) * 1  # itself waiting
    waiting = out + 1
    assert numpy.sum(np.array(numbers()), axis=0, out=out) is out
    assert waiting.to_numpy().tolist() == [2.0] * 40
    assert out.to_numpy().tolist() == numbers().sum(axis=0).tolist()


@pytest.mark.parametrize("pending", [False, True])
def test_out_may_be_part_of_what_is_reduced(pending: bool, kernels: list[Any]) -> None:
    values, theirs = numbers(), numbers()
    wanted = (theirs * 2 if pending else theirs).sum(axis=0, out=theirs[3])
    mine = np.array(values)
    row = mine[3]
    np.sum(mine * 2 if pending else mine, axis=0, out=row)
    numpy.testing.assert_allclose(row.to_numpy(), wanted, rtol=1e-13)
    numpy.testing.assert_allclose(mine.to_numpy(), theirs, rtol=1e-13)


def test_out_that_does_not_fit_is_left_to_numpy(same_outcome: Any, kernels: list[Any]) -> None:
    values = numbers()
    mine = np.array(values)
    frozen = np.zeros(40)
    frozen.flags.writeable = False
    outs: list[Callable[[Any], Any]] = [
        lambda use: use.zeros(3),
        lambda use: use.zeros((1, 40)),
        lambda use: use.zeros(40, "f"),
        lambda use: use.zeros(40, "b"),
        lambda use: use.zeros(40, ">f8"),
        lambda use: use.zeros(40, "U3"),
        lambda use: use.broadcast_to(use.zeros(1), (40,)),
        lambda use: use.zeros(40).tolist(),
    ]
    for make in outs:
        for name in ("sum", "max", "nanmean", "argmax"):
            same_outcome(
                lambda n=name, m=make: getattr(np, n)(mine, axis=0, out=m(np)),
                lambda n=name, m=make: getattr(numpy, n)(values, axis=0, out=m(numpy)),
            )
    assert "KernelRecord" not in names(kernels)


def test_an_interrupted_reduction_leaves_out_alone(
    monkeypatch: pytest.MonkeyPatch, kernels: list[Any]
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    out = np.ones(40)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(blocks.Job, "_task", stop)
        np.sum(np.array(numbers()), axis=0, out=out)
    assert out.to_numpy().tolist() == [1.0] * 40


@rows(WITH_INITIAL)
@pytest.mark.parametrize("initial", [3, -1.5, True, numpy.float32(0.25), numpy.nan, numpy.inf])
def test_initial_joins_once(row: Reduction, initial: Any, kernels: list[Any]) -> None:
    values = numbers((300, 2000))
    for axis in (None, 0, 1):
        wanted = getattr(numpy, row.name)(values * 1, axis=axis, initial=initial)
        near(getattr(np, row.name)(np.array(values) * 1, axis=axis, initial=initial), wanted)
    left = row.ufunc is numpy.multiply and not numpy.isfinite(initial)
    assert names(kernels) == ["KernelRecord", *["FallbackRecord"] * left] * 3


@pytest.mark.parametrize("char", "?bBhilqQefFdD")
@rows([row for row in WITH_INITIAL if "i" in row.kinds])
def test_initial_has_the_dtype_that_numpy_gives_it(
    row: Reduction, char: str, same_outcome: Any, kernels: list[Any]
) -> None:
    values = numpy.array([3, 1, 2] * 4).astype(char).reshape(4, 3)
    for initial in INITIALS:
        for dtype in ({}, {"dtype": "f"}):
            if dtype and row.cost == "reduce_minmax":
                continue
            same_outcome(
                lambda i=initial, d=dtype: getattr(np, row.name)(
                    np.array(values), axis=0, initial=i, **d
                ),
                lambda i=initial, d=dtype: getattr(numpy, row.name)(values, axis=0, initial=i, **d),
            )


def test_plans_tell_initial_values_apart(kernels: list[Any]) -> None:
    x = np.array(numpy.zeros(50))
    for initial in (1, 0, True, 0.5, numpy.nan, -2.0, numpy.nan, 0.5):
        numpy.testing.assert_equal(float(x.sum(initial=initial)), float(initial))
        assert str(x.max(initial=-0.0)) == str(numpy.zeros(50).max(initial=-0.0))


def test_initial_of_negative_zero_keeps_its_sign(kernels: list[Any]) -> None:
    values = -numpy.zeros(50)
    mine = np.array(values)
    assert str(mine.sum(initial=-0.0)) == str(values.sum(initial=-0.0)) == "-0.0"
    assert str(mine.sum(initial=0.0)) == str(values.sum(initial=0.0)) == "0.0"
    assert str(mine.sum(where=values == 0)) == str(values.sum(where=values == 0))


@rows(WITH_WHERE)
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_where_is_part_of_the_kernel(
    row: Reduction, axis: Any, share: float, kernels: list[Any]
) -> None:
    values, mask = numbers(), mask_of(share=share)
    mask[3] = mask[0] = mask[:, 5] = True
    for chosen, keepdims in itertools.product((mask, mask[:1], mask[:, 5:6], mask[3]), (0, 1)):
        given = asked(row, axis=axis, keepdims=bool(keepdims))
        given.update(asked(row, where=chosen))
        wanted = getattr(numpy, row.name)(values * 1.5, **given)
        for mine in (chosen, np.array(chosen), np.array(chosen.astype(float)) > 0):
            kernels.clear()
            got = getattr(np, row.name)(np.array(values) * 1.5, **{**given, "where": mine})
            assert set(names(kernels)) == {"KernelRecord"}
            near(got, wanted)


@rows([row for row in WITH_WHERE if "i" in row.kinds])
def test_where_of_every_dtype(row: Reduction, kernels: list[Any], same: Any) -> None:
    mask = mask_of((50, 9))
    for char in "?bBhHiIlLqQ":
        values = numpy.random.default_rng(3).integers(0, 90, (50, 9)).astype(char)
        for axis in (None, 0, 1):
            given = asked(row, axis=axis, where=mask)
            wanted = getattr(numpy, row.name)(values, **given)
            got = getattr(np, row.name)(np.array(values), **given)
            near(got, wanted) if wanted.dtype.kind == "f" else same(got, wanted)


@rows(WITH_WHERE)
def test_elements_that_are_not_chosen_do_not_count(row: Reduction, kernels: list[Any]) -> None:
    mask = mask_of((100, 700))
    for other in (numpy.nan, numpy.inf, -numpy.inf, 1e300, -1e300):
        values = numpy.where(mask, numbers(mask.shape), other)
        for axis in (None, 0, 1):
            given = asked(row, axis=axis, where=mask)
            with numpy.errstate(all="ignore"):
                wanted = getattr(numpy, row.name)(values, **given)
                near(getattr(np, row.name)(np.array(values), **given), wanted)


@rows(WITH_WHERE)
def test_missing_values_that_are_chosen_do_count(row: Reduction, kernels: list[Any]) -> None:
    values, mask = numbers(), mask_of()
    values[4, 4:9] = numpy.nan
    mask[4, 4:9] = mask[0] = True
    for axis in (None, 0, 1):
        given = asked(row, axis=axis, where=mask)
        wanted = getattr(numpy, row.name)(values, **given)
        near(getattr(np, row.name)(np.array(values), **given), wanted)


@rows(WITH_WHERE)
def test_slices_of_which_nothing_is_chosen(row: Reduction, kernels: list[Any]) -> None:
    values, mask = numbers(), mask_of()
    mask[2] = mask[:, 3] = False
    mask[5, 1:] = False
    mine = np.array(values)
    options: list[dict[str, Any]] = [{}, {"keepdims": True}]
    if "ddof" in row.params:
        options.append({"ddof": 1})
    for axis, chosen, more in itertools.product((None, 0, 1), (mask, mask & False), options):
        given = asked(row, axis=axis, where=chosen, **more)
        function, numpys = getattr(np, row.name), getattr(numpy, row.name)
        wanted, _ = heard(lambda f=numpys, g=given: f(values, **g))
        got, _ = heard(lambda f=function, g=given: f(mine, **g))
        assert got == wanted
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            near(function(mine, **given), numpys(values, **given))


@rows(WITH_WHERE)
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), (1, 2, 3), (1025,), (5, 1, 700)])
def test_masks_of_every_size(row: Reduction, shape: tuple[int, ...], kernels: list[Any]) -> None:
    values, mask = numbers(shape), mask_of(shape) | (numpy.arange(shape[-1]) == 0)
    given = asked(row, where=mask)
    near(
        getattr(np, row.name)(np.array(values), **given),
        getattr(numpy, row.name)(values, **given),
    )
    assert names(kernels) == ["KernelRecord"]


def test_what_is_missing_among_the_chosen_is_warned_of_at_the_line(kernels: list[Any]) -> None:
    values, mask = np.array(numpy.full(SHAPE, numpy.nan)), np.array(mask_of())
    for name in ("nanmean", "nanvar"):
        _, files = heard(lambda n=name: getattr(np, n)(values * 1, where=mask))
        assert files == {__file__}


@pytest.mark.parametrize("name", ["mean", "var", "std"])
def test_what_numpy_would_warn_of_is_left_to_it(name: str, kernels: list[Any]) -> None:
    mask = mask_of()
    for size in (1e-200, 1e200):
        values = numbers() * size
        for modes in ({}, {"all": "warn"}, {"all": "ignore"}):
            with numpy.errstate(**modes):  # type: ignore[arg-type]
                wanted, _ = heard(lambda v=values: getattr(numpy, name)(v, where=mask))
                kernels.clear()
                got, _ = heard(lambda v=values: getattr(np, name)(np.array(v), where=mask))
            assert got == wanted
            assert ("FallbackRecord" in names(kernels)) == bool(wanted)


def test_masks_that_numpy_refuses_or_converts(same_outcome: Any, kernels: list[Any]) -> None:
    values, mask = numbers(), mask_of()
    for where in (mask.astype(int), mask.tolist(), numpy.ones(7, bool), mask[None], False, "text",
                  numpy.True_, numpy.array(True), None, numpy.ones((2, *SHAPE), bool)):  # fmt: skip
        for name in ("sum", "max", "var", "argmax", "count_nonzero", "all"):
            given = {"where": where, **({"initial": 3} if name == "max" else {})}
            same_outcome(
                lambda n=name, g=given: getattr(np, n)(np.array(values), axis=0, **g),
                lambda n=name, g=given: getattr(numpy, n)(values, axis=0, **g),
            )
    same_outcome(
        lambda: np.max(np.array(values), where=np.array(mask)),
        lambda: numpy.max(values, where=mask),
    )


def test_a_name_keeps_its_values_while_they_are_reduced_by_a_mask(kernels: list[Any]) -> None:
    values, mask = numbers(), mask_of()
    named, chosen = np.array(values) * 2, np.array(values) > 1
    total = named.sum(where=chosen)
    assert total == pytest.approx((values * 2).sum(where=values > 1), rel=1e-13)
    assert kernels[-1].region.reducing.mask is not None
    assert len(kernels[-1].region.outputs) == 2
    kernels.clear()
    assert named.sum(where=mask) == pytest.approx((values * 2).sum(where=mask), rel=1e-13)
    assert names(kernels) == ["KernelRecord"]
    assert kernels[0].region.program == ()


@pytest.mark.skipif(not _fastpath.COMPILED, reason="calls with keywords look like those of names")
def test_a_temporary_is_not_stored_when_it_is_reduced_by_a_mask(kernels: list[Any]) -> None:
    x, mask = np.array(numbers()), mask_of()
    (x * 2 + 1).sum(where=mask)
    assert [record.region.outputs for record in kernels] == [()]


def test_out_initial_and_where_together(kernels: list[Any]) -> None:
    values, mask = numbers(), mask_of()
    out, theirs = np.zeros(40), numpy.zeros(40)
    given = {"axis": 0, "initial": 0.75, "where": mask}
    numpy.max(values * 2, out=theirs, **given)
    assert np.max(np.array(values) * 2, out=out, **given) is out
    assert names(kernels) == ["KernelRecord"]
    assert out.to_numpy().tolist() == theirs.tolist()


@rows(ARG)
@pytest.mark.parametrize(
    "shape", [(7, 5), (300, 70), (3, 90, 80), (5, 400, 3), (2, 70_000), (700, 1)]
)
def test_arg_reductions_along_one_axis(
    row: Reduction, shape: tuple[int, ...], kernels: list[Any], same: Any
) -> None:
    random = numpy.random.default_rng(5)
    for char in [c for c in "dfliB?" if numpy.dtype(c).kind in row.kinds]:
        # Few values, so that most lanes have several extremes.
        values = random.integers(0, 6, shape).astype(char)
        views: list[Callable[[Any], Any]] = [
            lambda a: a, lambda a: a.T, lambda a: a[::-1], lambda a: a[..., ::-1],
        ]  # fmt: skip
        for view, axis in itertools.product(views, range(-1, len(shape))):
            for keepdims in (False, True):
                seen, mine = view(values), view(np.array(values))
                wanted = getattr(numpy, row.name)(seen, axis=axis, keepdims=keepdims)
                kernels.clear()
                same(getattr(np, row.name)(mine, axis=axis, keepdims=keepdims), wanted)
                assert names(kernels) == ["KernelRecord"]


@rows(ARG)
def test_arg_reductions_find_nan_and_either_zero_where_numpy_does(
    row: Reduction, kernels: list[Any], same: Any
) -> None:
    random = numpy.random.default_rng(6)
    pool = numpy.array([numpy.nan, 0.0, -0.0, numpy.inf, -numpy.inf, 1.0])
    for shape in ((4, 300), (300, 100), (9, 20_000), (100_000, 3)):
        values = pool[random.choice(6, shape, p=[0.01, 0.3, 0.3, 0.1, 0.1, 0.19])]
        for axis in (0, 1):
            same(
                getattr(np, row.name)(np.array(values) * 1, axis=axis),
                getattr(numpy, row.name)(values, axis=axis),
            )
    assert "FallbackRecord" not in names(kernels)


@rows(ARG)
def test_arg_reductions_of_expressions_are_one_kernel(row: Reduction, kernels: list[Any]) -> None:
    values = numbers()
    out = np.zeros(40, int)
    assert getattr(np, row.name)(np.array(values) * 2 + 1, axis=0, out=out) is out
    assert names(kernels) == ["KernelRecord"]
    assert out.to_numpy().tolist() == getattr(numpy, row.name)(values * 2 + 1, axis=0).tolist()
