"""What runs on the device, what is refused there, and how its answers are compared."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy

import dispatcharr as np
from answers import ULPS, Answer, Close, differ, first_beyond, mode, ours, plain
from dispatcharr import engine
from dispatcharr.backends import registry
from dispatcharr.expr.nodes import Node
from dispatcharr.ops.row import Elementwise
from rows import accepts, is_exact, promised

#: On the virtual device a kernel takes several times as long to compile: fewer cases are tried.
VIRTUAL = os.environ.get("DISPATCHARR_SIM_GPU", "") not in ("", "0")
AT_ONCE = "it does not wait, so that NumPy computes it"


def fewer(cases: Sequence[Any], most: int) -> list[Any]:
    """Return the first cases where compiling is slow, else all."""
    return list(cases[:most] if VIRTUAL else cases)


@contextmanager
def on_device(way: str = "deferred", quiet: bool = True) -> Iterator[Any]:
    """Compute on the device; fail where a kernel ran elsewhere, or none ran."""
    with ExitStack() as stack:
        if quiet:
            stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(mode("cuda", way))
        record = stack.enter_context(np.record_dispatch())
        yield record
    elsewhere = [
        f"{one.region.describe()}: {one.decision.reason}; {one.decision.refused}"
        for one in record.records
        if one.decision.backend != "cuda"
    ]
    assert not elsewhere, "ran elsewhere:\n" + "\n".join(elsewhere[:5])
    assert record.records, f"no kernel ran: {record!r}"


@contextmanager
def quietly() -> Iterator[None]:
    """Compute on the device what can be computed there."""
    with np.errstate(all="ignore"), mode("cuda", "deferred"):
        yield


def region_of(result: Any) -> Any:
    """Return the region of a pending array, None where it is not pending."""
    value = getattr(result, "_value", None)
    if type(value) is not Node or value.value is not None:
        return None
    return engine.plan_of([value]).steps[-1].region


def refusal(function: Callable[..., Any], *operands: Any) -> str | None:
    """Return why the device does not run an operation; None where it does."""
    with quietly():
        pending = function(*map(ours, operands))
    region = region_of(pending)
    if region is None:
        return AT_ONCE
    found: str | None = registry.backend("cuda").supports(region)
    return found


def refused(row: Elementwise, chars: str) -> str | None:
    """Return why the device does not run a row for operands of these dtypes."""
    operands = [numpy.ones(3, char) for char in chars]
    return refusal(getattr(np, row.name), *operands)


def able(rows: Sequence[Elementwise], chars: str) -> list[Elementwise]:
    """Return the rows of as many operands that the device runs for these dtypes."""
    return [
        row
        for row in rows
        if row.nin == len(chars) and accepts(row.name, chars) and refused(row, chars) is None
    ]


def near_the_truth(name: str, operands: Sequence[numpy.ndarray]) -> Close:
    """Return what checks that an answer is as near to the exact one as is promised.

    Near enough to NumPy's is near enough; else the function is asked in a wider type.
    """

    def compare(got: numpy.ndarray, wanted: numpy.ndarray) -> str | None:
        reason = first_beyond(got, wanted, ULPS)
        if reason is None or wanted.dtype.kind != "f":
            return reason
        wider = numpy.longdouble if wanted.dtype.char == "d" else numpy.float64
        if numpy.finfo(wider).nmant <= numpy.finfo(wanted.dtype).nmant:
            return first_beyond(got, wanted, 2 * ULPS)
        given = [o.astype(wider) if o.dtype.kind == "f" else o for o in operands]
        with numpy.errstate(all="ignore"):
            exact = getattr(numpy, name)(*given).astype(wanted.dtype)
        return first_beyond(got, exact, ULPS)

    return compare


def comparison(row: Elementwise, operands: Sequence[numpy.ndarray]) -> Close:
    """Return what compares the device's answers of a row with NumPy's.

    Of exact rows kernels promise what all compiled kernels do.
    """
    if not is_exact(row):
        return near_the_truth(row.name, operands)
    with np.dispatch_options(engine="compiled"):
        return promised(row)


def compare_all(
    rows: Sequence[Elementwise],
    operands: Sequence[numpy.ndarray],
    mine: Sequence[Any],
    name: str,
    wrong: list[str],
    elsewhere: bool = False,
) -> None:
    """Compute rows in one kernel, and note which answers differ from NumPy's.

    What runs ``elsewhere`` need not run on the device.
    """
    with quietly() if elsewhere else on_device():
        results = [getattr(np, row.name)(*mine) for row in rows]
        np.evaluate(*results)
    for row, result in zip(rows, results, strict=True):
        with numpy.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = Answer(getattr(numpy, row.name)(*operands), None, ())
        got = Answer(plain(result), None, ())
        reason = differ(got, wanted, owning=False, close=comparison(row, operands))
        if reason:
            wrong.append(f"{row.name}, {name}: {reason}")
