"""User functions as rows of operations, known by what they compute.

A function that is defined anew on each call of another one, with the same values around it, is one
function: plans and kernels made for it serve again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy

from dispatcharr._forks import shared
from dispatcharr.kernels.build import shared_builder
from dispatcharr.kernels.custom.capture import Captured, capture
from dispatcharr.kernels.custom.text import Scalar, body_from
from dispatcharr.kernels.custom.typed import Typed, loop_of, type_function, versions
from dispatcharr.kernels.target import architecture
from dispatcharr.ops.bodies import Body
from dispatcharr.ops.reductions import REDUCTION_BY_NAME
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME, GENERATORS

__all__ = ["Function", "function_of"]

Dtype = numpy.dtype[Any]
#: The number of what is stored of a function.
_FORMAT = 1
#: Functions that are remembered. A program that makes ever new ones starts over.
_MOST = 512
_TAKEN = {*BY_NAME, *REDUCTION_BY_NAME, *[row.name for row in GENERATORS]}


class Function:
    """A captured function, typed on demand, with a row for each of its results."""

    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        name = captured.function.__name__
        #: As it is shown. Rows are told from those of the table by their names.
        self.name = f"user.{name}" if name in _TAKEN else name
        self._typed: dict[tuple[str, ...], Typed | str] = {}
        self._loops: dict[tuple[int, tuple[str, ...]], Callable[..., Any]] = {}
        self._bodies: dict[tuple[int, tuple[str, ...]], Body | str] = {}
        self._rows: dict[int, Elementwise] = {}

    def typed(self, dtypes: tuple[Dtype, ...]) -> Typed:
        """Return what is known for operands of these dtypes; TypeError if it cannot be typed."""
        key = _key(dtypes)
        found = self._typed.get(key)
        if found is None:
            digest = self._digest(key)
            found = _stored(digest)
            if found is None:
                try:
                    found = type_function(self.captured, dtypes)
                    _store(digest, found)
                except TypeError as error:  # what was refused once is refused at once
                    found = str(error)
            self._typed[key] = found
        if isinstance(found, str):
            raise TypeError(found)
        return found

    def row(self, place: int) -> Elementwise:
        """Return the row of one of the results."""
        row = self._rows.get(place)
        if row is None:
            row = self._rows.setdefault(place, self._row(place))
        return row

    def _row(self, place: int) -> Elementwise:
        def result(*dtypes: Dtype) -> Dtype:
            return self.typed(dtypes).results[place]

        def fill(operands: tuple[Any, ...], out: numpy.ndarray) -> None:
            loop = self._loop(place, tuple([operand.dtype for operand in operands]))
            with numpy.errstate(all="ignore"):
                loop(*operands, out=out, casting="unsafe")

        def body(operands: tuple[Dtype, ...], wanted: Dtype) -> Body | str:
            if self.typed(operands).results[place] != wanted:
                return f"the result of {self.name} is cast to {wanted} by NumPy"
            return self._body(place, operands)

        # A cost class of its own: what is learned of one function says nothing of another.
        cost = f"user {(self.captured.digest or 'function')[:8]}"
        return Elementwise(
            self.name, None, cost, len(self.captured.signature.parameters), errors="none",
            result=result, fill=fill, body=body,
        )  # fmt: skip

    def _loop(self, place: int, dtypes: tuple[Dtype, ...]) -> Callable[..., Any]:
        key = place, _key(dtypes)
        loop = self._loops.get(key)
        if loop is None:
            loop = loop_of(self.captured, dtypes, self.typed(dtypes), place)
            self._loops[key] = loop
        return loop

    def _body(self, place: int, dtypes: tuple[Dtype, ...]) -> Body | str:
        key = place, _key(dtypes)
        body = self._bodies.get(key)
        if body is None:
            typed = self.typed(dtypes)
            body = body_from(self.name, typed.scalar, typed.results[place], place)
            self._bodies[key] = body
        return body

    def _digest(self, key: tuple[str, ...]) -> str | None:
        """Return what the function is stored under; None if it must not be."""
        others = _versions()
        if self.captured.digest is None or others is None:
            return None
        parts = (self.captured.digest, *key, others)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


_functions: OrderedDict[str, Function] = OrderedDict()
_lock = shared(threading.Lock())


def function_of(function: Any, replace: Callable[[Any], Any]) -> Function:
    """Return what stands for a Python function; see :func:`capture`."""
    captured = capture(function, replace)
    made = Function(captured)
    if captured.digest is None:
        return made
    with _lock:
        found = _functions.setdefault(captured.digest, made)
        _functions.move_to_end(captured.digest)
        if len(_functions) > _MOST:
            _functions.popitem(last=False)
    return found


def _key(dtypes: tuple[Dtype, ...]) -> tuple[str, ...]:
    return tuple([dtype.str for dtype in dtypes])


@cache
def _versions() -> str | None:
    found = versions()
    return None if found is None else f"function {_FORMAT}, {found}, {architecture()}"


def _store(digest: str | None, typed: Typed) -> None:
    cache_ = shared_builder().cache
    if digest is None or cache_ is None:
        return
    told = {
        "results": [dtype.str for dtype in typed.results],
        "is_tuple": typed.is_tuple,
        "scalar": asdict(typed.scalar),
    }
    cache_.put(digest, json.dumps(told).encode())


def _stored(digest: str | None) -> Typed | None:
    cache_ = shared_builder().cache
    content = None if digest is None or cache_ is None else cache_.get(digest)
    if content is None:
        return None
    told = json.loads(content)
    results = tuple([numpy.dtype(text) for text in told["results"]])
    return Typed(results, told["is_tuple"], Scalar(**told["scalar"]))
