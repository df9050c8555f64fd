"""Other libraries' calls with our arrays: what is called, and what comes of it.

A call is a function of :class:`Arrays`, which makes the arrays it uses. It is run on NumPy's
arrays, on ours, and on ours while everything waits that may; the results have to be the same, and
their arrays have to be of the kind that the call was registered with. The page ``neighbours`` of
the documentation is written from the same register (``tools/make_neighbours.py``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

import dispatcharr
from dispatcharr.face.refusals import remedy

WORKS = "works"
OURS = "works, stays our type"
NUMPYS = "comes back as NumPy's"
REFUSED = "needs `numpy.asarray(x)`"

#: How the arrays of a run are made.
STATES = ("values", "waiting")

Body = Callable[["Arrays"], Any]


class Arrays:
    """Makes the arrays of one run.

    Attributes
    ----------
    np : module
        The namespace that they come from.
    """

    def __init__(self, np: Any, waiting: bool = False, converted: bool = False) -> None:
        self.np = np
        self._waiting = waiting
        self._converted = converted

    def __call__(self, values: Any, dtype: Any = None) -> Any:
        """Return an array with the given values."""
        host = numpy.array(values, dtype)
        made = host if self.np is numpy else self.np.array(host)
        if self._waiting and host.size and host.ndim and host.dtype.kind in "biufc":
            made = self.np.where(numpy.ones(host.shape, bool), made, made)
        return numpy.asarray(made) if self._converted else made

    def random(self, *shape: int, seed: int = 0) -> Any:
        """Return an array of numbers between 0 and 1."""
        return self(numpy.random.default_rng(seed).random(shape))

    def normal(self, *shape: int, seed: int = 0) -> Any:
        """Return an array of normal numbers."""
        return self(numpy.random.default_rng(seed).normal(size=shape))


@dataclass(frozen=True)
class Call:
    """One call: its text, its result in the page's words, and what runs it."""

    text: str
    result: str
    body: Body
    note: str = ""
    errors: tuple[type[BaseException], ...] = ()
    rtol: float = 1e-10

    def __str__(self) -> str:
        return self.text

    def check(self, state: str) -> None:
        """Check that the result is the one on NumPy's arrays, and of the registered kind."""
        wanted = self.body(Arrays(numpy))
        ours = Arrays(dispatcharr, waiting=state == "waiting")
        with dispatcharr.dispatch_options(defer="always" if state == "waiting" else "auto"):
            if self.errors:
                with pytest.raises(self.errors) as refusal:
                    self.body(ours)
                assert "numpy.asarray(" in (remedy(refusal.value) or ""), "no remedy is named"
                converted = Arrays(dispatcharr, converted=True)
                assert_same(self.body(converted), wanted, self.rtol)
                return
            got = self.body(ours)
            kinds = assert_same(got, wanted, self.rtol)
        assert kinds <= {self.result}, f"registered as {self.result!r}, found {kinds}"
        assert kinds or self.result == WORKS, f"registered as {self.result!r}, found no array"


def given(make: Body, use: Callable[[Any], Any]) -> Body:
    """Return the call of ``use`` with what ``make`` makes, which has a name there."""
    return lambda a: use(make(a))


@dataclass
class Neighbour:
    """A library, and the calls of it that are known to work, or not to."""

    name: str
    distribution: str = ""
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        KNOWN.append(self)

    @property
    def version(self) -> str:
        """The version that is installed; Python's own where it is part of Python."""
        try:
            return version(self.distribution or self.name)
        except PackageNotFoundError:
            return ""

    def works(self, text: str, body: Body, **more: Any) -> None:
        """Register a call whose result holds no array of NumPy's, but is the same."""
        self.calls.append(Call(text, WORKS, body, **more))

    def ours(self, text: str, body: Body, **more: Any) -> None:
        """Register a call whose arrays are ours where NumPy's caller would get NumPy's."""
        self.calls.append(Call(text, OURS, body, **more))

    def numpys(self, text: str, body: Body, **more: Any) -> None:
        """Register a call whose arrays are NumPy's."""
        self.calls.append(Call(text, NUMPYS, body, **more))

    def refused(self, text: str, body: Body, *errors: type[BaseException], **more: Any) -> None:
        """Register a call that raises one of ``errors``, and takes what ``asarray`` makes."""
        self.calls.append(Call(text, REFUSED, body, errors=errors, **more))

    def parametrize(self) -> pytest.MarkDecorator:
        """Return the mark that runs a test on every call, in every state of the arrays."""
        cases = [
            pytest.param(call, state, id=f"{call.text}-{state}")
            for call in self.calls
            for state in STATES
        ]
        return pytest.mark.parametrize(("call", "state"), cases)


#: Every library whose calls were registered in this process, in that order.
KNOWN: list[Neighbour] = []


def load(name: str) -> Any:
    """Import a module, whatever it warns of, or skip the tests of the module that asks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def assert_same(got: Any, wanted: Any, rtol: float) -> set[str]:
    """Check a result against NumPy's; return of what kinds its arrays are."""
    if type(wanted) is numpy.ndarray:
        assert type(got) in (numpy.ndarray, dispatcharr.ndarray), f"{type(got)} for an array"
        _assert_values(got, wanted, rtol)
        return {OURS if type(got) is dispatcharr.ndarray else NUMPYS}
    assert type(got) is type(wanted), f"{type(got)} in the place of {type(wanted)}"
    if isinstance(wanted, (list, tuple)):
        assert len(got) == len(wanted)
        found = [assert_same(a, b, rtol) for a, b in zip(got, wanted, strict=True)]
        return set().union(*found)
    if isinstance(wanted, (dict, SimpleNamespace)):
        mine, theirs = (dict(v) if isinstance(v, dict) else vars(v) for v in (got, wanted))
        assert list(mine) == list(theirs)
        return assert_same(list(mine.values()), list(theirs.values()), rtol)
    if hasattr(wanted, "__array__") or isinstance(wanted, (float, complex)):
        _assert_values(got, wanted, rtol)
    else:
        assert got == wanted
    return set()


def _assert_values(got: Any, wanted: Any, rtol: float) -> None:
    mine, theirs = numpy.asarray(got), numpy.asarray(wanted)
    assert mine.dtype == theirs.dtype
    assert mine.shape == theirs.shape
    if theirs.dtype.kind in "fc":
        scale = numpy.nanmax(numpy.abs(theirs[numpy.isfinite(theirs)]), initial=0.0)
        numpy.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol * scale)
    else:
        numpy.testing.assert_array_equal(mine, theirs)
