"""Ufunc manners: ``out``, ``where``, ``dtype``, ``casting``, ``order``, and the ufunc methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import FEWER, MODES, ask, differ, genuine, mode, ours, report
from dispatcharr.ops.row import Elementwise
from rows import FUNCTIONS, ROWS, both, few_dtypes, promised, same_dtypes
from samples import filled, tame

UFUNCS = {name: row for name, row in ROWS.items() if row.ufunc is not None}
EVERY = pytest.mark.parametrize("row", UFUNCS.values(), ids=list(UFUNCS))
PLANNED = pytest.mark.parametrize(
    "row", [row for row in UFUNCS.values() if row.nout == 1], ids=lambda row: row.name
)


def outs(shape: tuple[int, ...], dtype: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Return what makes outputs of a module's arrays: views of several kinds."""
    wide = (*shape[:-1], shape[-1] * 2)
    made: dict[str, Callable[[Any], Any]] = {
        "contiguous": lambda use: use.zeros(shape, dtype),
        "float32": lambda use: use.zeros(shape, "f"),
        "int8": lambda use: use.zeros(shape, "b"),
        "complex": lambda use: use.zeros(shape, "D"),
        "big-endian": lambda use: use.zeros(shape, numpy.dtype(dtype).newbyteorder(">")),
        "every other": lambda use: use.zeros(wide, dtype)[..., ::2],
        "backwards": lambda use: use.zeros(shape, dtype)[..., ::-1],
        "Fortran": lambda use: use.zeros(shape[::-1], dtype).T,
        "too small": lambda use: use.zeros(3, dtype),
        "larger": lambda use: use.zeros((2, *shape), dtype),
        "0-d": lambda use: use.zeros((), dtype),
        "objects": lambda use: use.zeros(shape, object),
    }
    yield from made.items()


def check_into(
    row: Elementwise,
    operands: tuple[Any, ...],
    made: Iterator[tuple[str, Callable[[Any], Any]]],
    modes: Any,
) -> list[str]:
    function, numpys = both(row)
    wrong = []
    for name, make in made:
        for positional in (False, True):

            def call(use: Any, f: Any, args: Any) -> Any:
                target = make(use)
                result = f(*args, target) if positional else f(*args, out=target)
                return result, target, result is target

            wanted = ask(call, numpy, numpys, operands)
            if row.cost == "predicate" and wanted.error is None:
                # NumPy 2.4 on some machines writes other answers into every other byte.
                if not numpy.array_equal(wanted.value[0], numpys(*operands)):
                    continue
            for backend, way in modes:
                mine = tuple(ours(operand) for operand in operands)
                with mode(backend, way):
                    got = ask(call, np, function, mine)
                reason = differ(got, wanted, close=promised(row))
                if reason:
                    wrong.append(f"{backend}, {way}, into {name}: {reason}")
    return wrong


@PLANNED
def test_out(row: Elementwise) -> None:
    chars = few_dtypes(row, 1)[0]
    operands = tuple(filled(char, (6, 8), i) for i, char in enumerate(chars))
    with numpy.errstate(all="ignore"):
        dtype = row.ufunc(*operands).dtype  # type: ignore[misc]
    report(check_into(row, operands, outs((6, 8), dtype), FEWER))


@PLANNED
def test_out_that_is_an_operand(row: Elementwise) -> None:
    function, numpys = both(row)
    wrong = []
    shared: dict[str, Callable[[Any], tuple[Any, Any]]] = {
        "itself": lambda a: (a, a),
        "shifted": lambda a: (a[1:], a[:-1]),
        "shifted down": lambda a: (a[:-1], a[1:]),
        "backwards": lambda a: (a, a[::-1]),
    }
    for chars in few_dtypes(row, 2):
        for size in (60, 20_000):
            values = [tame(char, size, i) for i, char in enumerate(chars)]
            for name, views in shared.items():

                def call(f: Any, arrays: Any) -> Any:
                    target, first = views(arrays[0])
                    rest = [array[: len(first)] for array in arrays[1:]]
                    result = f(first, *rest, out=target)
                    return result, arrays[0]

                wanted = ask(call, numpys, [v.copy() for v in values])
                for backend, way in FEWER:
                    with mode(backend, way):
                        got = ask(call, function, [ours(v) for v in values])
                    reason = differ(got, wanted, close=promised(row))
                    if reason:
                        wrong.append(f"{backend}, {way}, {chars}, {size}, {name}: {reason}")
    report(wrong)


GIVEN: list[dict[str, Any]] = [
    {"dtype": "f"}, {"dtype": "d"}, {"dtype": "l"}, {"dtype": "D"}, {"dtype": "O"}, {"dtype": "b"},
    {"dtype": "nonsense"}, {"dtype": None}, {"casting": "no"}, {"casting": "unsafe"},
    {"casting": "unsafe", "dtype": "b"}, {"casting": "nonsense"}, {"order": "F"}, {"order": "C"},
    {"order": "K"}, {"subok": False}, {"where": True}, {"out": None}, {"out": (None,)}, {"out": ()},
    {"out": "text"}, {"nonsense": 1}, {"signature": "dd->d"}, {"signature": "d->d"}, {"extobj": []},
]  # fmt: skip


@EVERY
def test_keywords(row: Elementwise) -> None:
    function, numpys = both(row)
    chars = few_dtypes(row, 1)[0]
    operands = tuple(tame(char, (4, 5), i) for i, char in enumerate(chars))
    wrong = []
    for kwargs in GIVEN:
        wanted = ask(lambda: numpys(*operands, **kwargs))
        for backend, way in FEWER:
            mine = tuple(ours(operand) for operand in operands)
            with mode(backend, way):
                got = ask(genuine(lambda: function(*mine, **kwargs)))
            reason = differ(got, wanted, close=promised(row))
            if reason:
                wrong.append(f"{backend}, {way}, {kwargs}: {reason}")
    report(wrong)


@EVERY
def test_where_keyword(row: Elementwise) -> None:
    function, numpys = both(row)
    wrong = []
    for chars in few_dtypes(row, 2):
        operands = tuple(tame(char, (4, 5), i) for i, char in enumerate(chars))
        for mask in (numpy.arange(20).reshape(4, 5) % 3 == 0, numpy.arange(5) > 2, False, [True],
                     numpy.ones((4, 5), int), numpy.ones(7, bool)):  # fmt: skip
            with numpy.errstate(all="ignore"):
                results = numpys(*operands)
            dtypes = [r.dtype for r in (results if row.nout > 1 else (results,))]

            def call(use: Any, f: Any, args: Any, chosen: Any) -> Any:
                targets = tuple(use.ones((4, 5), dtype) for dtype in dtypes)
                return f(*args, out=targets, where=chosen), targets

            wanted = ask(call, numpy, numpys, operands, mask)
            for backend, way in FEWER:
                mine = tuple(ours(operand) for operand in operands)
                with mode(backend, way):
                    got = ask(call, np, function, mine, ours(mask))
                reason = differ(got, wanted, close=promised(row))
                if reason:
                    wrong.append(f"{backend}, {way}, {chars}: {reason}")
    report(wrong)


@pytest.mark.parametrize("name", [name for name, row in UFUNCS.items() if row.nout > 1])
def test_several_outs(name: str) -> None:
    row = UFUNCS[name]
    function, numpys = both(row)
    wrong = []
    for chars in same_dtypes(row):
        operands = tuple(tame(char, 9, i) for i, char in enumerate(chars))
        with numpy.errstate(all="ignore"):
            dtypes = [result.dtype for result in numpys(*operands)]
        for given in ((True, True), (True, False), (False, True)):

            def call(use: Any, f: Any, args: Any) -> Any:
                made = tuple(
                    use.zeros(9, dtype) if wanted else None
                    for dtype, wanted in zip(dtypes, given, strict=True)
                )
                results = f(*args, out=made)
                return results, [r is m for r, m in zip(results, made, strict=True)]

            wanted = ask(call, numpy, numpys, operands)
            for backend, way in FEWER:
                with mode(backend, way):
                    got = ask(call, np, function, tuple(ours(o) for o in operands))
                reason = differ(got, wanted, close=promised(row))
                if reason:
                    wrong.append(f"{backend}, {way}, {chars}, {given}: {reason}")
    report(wrong)


METHODS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "reduce": lambda f, x, y: f.reduce(x),
    "reduce, axis": lambda f, x, y: f.reduce(x, axis=1, keepdims=True),
    "reduce, no axis": lambda f, x, y: f.reduce(x, axis=None),
    "reduce, initial and where": lambda f, x, y: f.reduce(x, initial=1, where=x > 0),
    "accumulate": lambda f, x, y: f.accumulate(x),
    "accumulate, axis": lambda f, x, y: f.accumulate(x, 1),
    "reduceat": lambda f, x, y: f.reduceat(x, [0, 2, 1]),
    "outer": lambda f, x, y: f.outer(x[0], y),
    "at": lambda f, x, y: (f.at(x, ([0, 1, 0], [1, 1, 1]), y[0, :3]), x),
    "at, one operand": lambda f, x, y: (f.at(x, [0, 2]), x),
    "too few": lambda f, x, y: f(),
    "too many": lambda f, x, y: f(x, x, x, x, x, x),
    "attributes": lambda f, x, y: (f.__name__, f.nin, f.nout, f.nargs, f.ntypes, f.types,
                                   f.identity, f.signature),
    "resolved": lambda f, x, y: f.resolve_dtypes((x.dtype,) * f.nin + (None,) * f.nout),
}  # fmt: skip


@EVERY
def test_ufunc_methods(row: Elementwise) -> None:
    function, numpys = both(row)
    wrong = []
    for chars in few_dtypes(row, 2):
        x, y = tame(chars[0], (4, 5), 1), tame(chars[-1], (4, 5), 2)
        for name, method in METHODS.items():
            wanted = ask(method, numpys, x.copy(), y)
            for backend, way in FEWER:
                for pending in (False, True):
                    mine, other = ours(x), ours(y)
                    with mode(backend, way):
                        if pending:
                            mine = np.where(True, mine, mine)
                        got = ask(genuine(method), function, mine, other)
                    reason = differ(got, wanted, close=promised(row))
                    if reason:
                        wrong.append(f"{backend}, {way}, {chars}, {name}: {reason}")
    report(wrong)


@EVERY
def test_numpys_own_function_on_our_arrays(row: Elementwise) -> None:
    """``numpy.sin(x)`` of one of ours is ours, through NumPy's protocol."""
    wrong = []
    for chars in few_dtypes(row, 2):
        operands = tuple(filled(char, (4, 5), i) for i, char in enumerate(chars))
        wanted = ask(row.ufunc, *operands)  # type: ignore[arg-type]
        for backend, way in MODES:
            with mode(backend, way):
                got = ask(genuine(row.ufunc), *map(ours, operands))  # type: ignore[arg-type]
            reason = differ(got, wanted, close=promised(row))
            if reason:
                wrong.append(f"{backend}, {way}, {chars}: {reason}")
    report(wrong)


def test_every_alias_is_the_same_function() -> None:
    for row in FUNCTIONS.values():
        for alias in row.aliases:
            assert getattr(np, alias) is getattr(np, row.name)
            assert getattr(numpy, alias) is row.ufunc


CASTS = ["?", "b", "B", "h", "l", "Q", "e", "f", "d", "F", "D", "q", ">f8", "g", "O", "U", "M8[s]"]


@pytest.mark.parametrize("char", "?bBlQefdFD")
def test_astype(char: str) -> None:
    wrong = []
    base = filled(char, (40, 3))
    views: list[Callable[[Any], Any]] = [lambda a: a, lambda a: a.T[:, ::2]]
    for view in views:
        values = view(base)
        for dtype in CASTS:
            for kwargs in ({}, {"order": "C"}, {"order": "F"}, {"casting": "safe"},
                           {"copy": False}, {"casting": "same_kind"}, {"subok": False},
                           {"nonsense": 1}):  # fmt: skip
                for backend, way in FEWER:
                    mine = view(ours(base))
                    with mode(backend, way):
                        for theirs, array in (
                            (values, mine),
                            (numpy.where(True, values, values), np.where(True, mine, mine)),
                        ):
                            wanted = ask(lambda: theirs.astype(dtype, **kwargs))
                            got = ask(genuine(lambda: array.astype(dtype, **kwargs)))
                            owning = "copy" not in kwargs
                            reason = differ(got, wanted, owning=owning)
                            if reason:
                                wrong.append(f"{backend}, {way}, {dtype}, {kwargs}: {reason}")
    report(wrong)


BOUNDS = [(0, 1), (None, 1), (0, None), (None, None), (2, 1), (0.5, 1.5), (numpy.arange(3.0), 9),
          (-1, 300), (float("nan"), 1), ([0, 1, 2], [3, 3, 3]), ("a", 1), (0,), (),
          (0, 1j)]  # fmt: skip


@pytest.mark.parametrize("char", "?bBlefdFD")
def test_clip_as_function_and_method(char: str) -> None:
    wrong = []
    values = filled(char, (40, 3))
    ways: dict[str, Callable[[Any, Any, Any], Any]] = {
        "function": lambda use, a, bounds: use.clip(a, *bounds),
        "method": lambda use, a, bounds: a.clip(*bounds),
        "keywords": lambda use, a, bounds: use.clip(
            a, **dict(zip(("min", "max"), bounds, strict=False))
        ),
        "out": lambda use, a, bounds: (use.clip(a, *bounds, out=a), a),
        "dtype": lambda use, a, bounds: use.clip(a, *bounds, dtype="d"),
    }
    for bounds in BOUNDS:
        for name, call in ways.items():
            wanted = ask(call, numpy, values.copy(), bounds)
            for backend, way in FEWER:
                with mode(backend, way):
                    got = ask(call, np, ours(values), bounds)
                reason = differ(got, wanted)
                if reason:
                    wrong.append(f"{backend}, {way}, {name}, {bounds}: {reason}")
    report(wrong)
