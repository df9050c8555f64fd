"""``verify=1.0`` finds nothing to complain of, and every row that can be planned is planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import ask, differ, mode, ours, report
from dispatcharr import _events
from dispatcharr.ops.reductions import REDUCTIONS
from dispatcharr.ops.row import Elementwise, Reduction
from rows import SINGLE, both, few_dtypes, promised, same_dtypes
from samples import LAYOUTS, filled, pairs, specials, tame


def verified(call: Callable[[], Any]) -> Any:
    with np.use_backend("serial"), np.dispatch_options(verify=1.0, defer="always"):
        return ask(call)


@pytest.mark.parametrize("row", SINGLE.values(), ids=list(SINGLE))
def test_elementwise(row: Elementwise) -> None:
    function, numpys = both(row)
    wrong = []

    def cases() -> Iterator[tuple[str, Callable[[Any], Any]]]:
        for chars in same_dtypes(row):
            values = pairs(*chars)
            yield chars, lambda use, v=values: [use(x) for x in v]
        chars = few_dtypes(row, 1)[0]
        for name, (shape, view) in LAYOUTS.items():
            bases = [filled(char, shape, i) for i, char in enumerate(chars)]
            yield name, lambda use, b=bases, v=view: [v(use(x)) for x in b]

    for name, make in cases():
        wanted, mine = ask(numpys, *make(lambda x: x)), make(ours)
        fused = ask(lambda: numpy.where(True, wanted.value, 0)) if wanted.error is None else wanted
        got = verified(lambda: function(*mine))
        more = verified(lambda: np.where(True, function(*mine), 0))
        close = promised(row)
        reason = differ(got, wanted, close=close)
        if reason is None and wanted.error is None:
            # What the row warned of, the program warns of as well.
            both_warn = type(fused)(fused.value, fused.error, wanted.warned, fused.owns)
            reason = differ(more, both_warn, close=close)
        if reason:
            wrong.append(f"{name}: {reason}")
    report(wrong)


@pytest.mark.parametrize("row", REDUCTIONS, ids=[row.name for row in REDUCTIONS])
def test_reductions(row: Reduction) -> None:
    wrong = []
    reduce = getattr(np, row.name)
    needs = {} if row.masked is None else dict.fromkeys(row.masked.needs, 1)
    arrays = [
        tame("d", (70, 1000)),
        tame("f", (3, 4, 5)),
        tame("l", (40, 30)),
        filled("?", (9, 9)),
        tame("F", (20, 7)),
        tame("d", (300, 4)).T,
        specials("d")[:14],
        tame("e", 5000) - 1,
    ]
    for values in arrays:
        mine = ours(values)
        for axis in (None, *range(values.ndim)):
            for call in (
                lambda: reduce(mine, axis=axis),
                lambda: reduce(np.where(True, mine, 0), axis=axis),
                lambda: reduce(mine, axis=axis, where=mine > 0.5, **needs),
                lambda: reduce(mine, axis=axis, initial=2),
            ):
                found = verified(call)
                if any(kind == "VerificationWarning" for kind, _ in found.warned):
                    wrong.append(f"{values.dtype}{values.shape}, axis={axis}: {found.warned}")
    report(wrong)


@pytest.mark.parametrize("row", SINGLE.values(), ids=list(SINGLE))
def test_elementwise_rows_are_planned(row: Elementwise) -> None:
    """Otherwise the other tests would compare NumPy with itself."""
    for chars in same_dtypes(row):
        records: list[Any] = []
        operands = [ours(tame(char, 50, i)) for i, char in enumerate(chars)]
        if row.refuses is not None and row.refuses(tuple(operands)):
            continue
        with (
            _events.listening(records.append),
            mode("serial", "at once"),
            numpy.errstate(all="ignore"),
        ):
            np.evaluate(both(row)[0](*operands))
        assert [type(record).__name__ for record in records] == ["KernelRecord"], chars


@pytest.mark.parametrize("row", REDUCTIONS, ids=[row.name for row in REDUCTIONS])
def test_reductions_are_planned(row: Reduction) -> None:
    for char in "?bBhHiIlLqQefdFD":
        if numpy.dtype(char).kind in row.kinds and char not in row.without:
            records: list[Any] = []
            values = ours(tame(char, (30, 4)))
            with _events.listening(records.append), mode("serial", "deferred"):
                getattr(np, row.name)(np.where(True, values, values))
            assert [type(record).__name__ for record in records] == ["KernelRecord"], char
