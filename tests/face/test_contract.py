"""Contractions of integers and bools run in compiled kernels; only the time tells."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr import _events
from dispatcharr.face import _fastpath, contract
from dispatcharr.kernels import native
from dispatcharr.route import contractions

pytestmark = pytest.mark.skipif(
    native.missing() is not None, reason=f"no compiler here: {native.missing()}"
)

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


@pytest.fixture
def compiled() -> Iterator[None]:
    """Have every contraction that there can be a kernel for run in it, however small."""
    with np.dispatch_options(engine="compiled"):
        _fastpath.close(1)
        yield
        _fastpath.close(-1)


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    found: list[Any] = []
    with _events.listening(found.append):
        yield found


def values(code: str, *shape: int) -> numpy.ndarray:
    made = numpy.random.default_rng(sum(shape))
    if code == "?":
        return made.random(shape) < 0.1
    known = numpy.iinfo(code)
    return made.integers(known.min, known.max, shape, dtype=code, endpoint=True)


def contractions_in(events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, _events.ContractionRecord)]


Call = Callable[[Any, Any, Any], Any]
#: Calls on arrays of 30 by 40 and 40 by 50; all of them are one product of matrices.
CALLS: dict[str, Call] = {
    "@": lambda m, a, b: a @ b,
    "matmul": lambda m, a, b: m.matmul(a, b),
    "matmul of rows": lambda m, a, b: m.matmul(a[3], b),
    "matmul of columns": lambda m, a, b: m.matmul(a, b[:, 3]),
    "matmul of vectors": lambda m, a, b: m.matmul(a[3], b[:, 3]),
    "matmul transposed": lambda m, a, b: m.matmul(b.T, a.T),
    "matmul of a stack": lambda m, a, b: m.matmul(a.reshape(2, 15, 40), b),
    "matmul in 64 bits": lambda m, a, b: m.matmul(a, b, dtype="i8", casting="unsafe"),
    "matmul in 32 bits": lambda m, a, b: m.matmul(a, b, dtype="i4", casting="unsafe"),
    "dot": lambda m, a, b: m.dot(a, b),
    "dot of vectors": lambda m, a, b: m.dot(a[3], b[:, 3]),
    "dot of a cube": lambda m, a, b: m.dot(a.reshape(2, 15, 40), b),
    "dot with a cube": lambda m, a, b: m.dot(a, b.reshape(5, 40, 10)),
    "dot with a vector": lambda m, a, b: m.dot(a.reshape(2, 15, 40), b[:, 3]),
    "the method": lambda m, a, b: a.dot(b),
    "inner": lambda m, a, b: m.inner(a, b.T),
    "inner of a cube": lambda m, a, b: m.inner(a.reshape(2, 15, 40), b.T.reshape(5, 10, 40)),
    "inner of vectors": lambda m, a, b: m.inner(a[3], a[4]),
    "vecdot": lambda m, a, b: m.vecdot(a, a[::-1]),
    "vecdot broadcast": lambda m, a, b: m.vecdot(a, a[3]),
    "tensordot": lambda m, a, b: m.tensordot(a, b, 1),
    "tensordot of axes": lambda m, a, b: m.tensordot(a.reshape(30, 8, 5), b.reshape(5, 8, 50),
                                                     axes=([1, 2], [1, 0])),
    "tensordot of all": lambda m, a, b: m.tensordot(a, a),
    "tensordot of one axis": lambda m, a, b: m.tensordot(a, b, axes=(1, 0)),
    "einsum": lambda m, a, b: m.einsum("ij,jk", a, b),
    "einsum turned": lambda m, a, b: m.einsum("ij,jk->ki", a, b),
    "einsum of many": lambda m, a, b: m.einsum("aij, ijk -> ak", a.reshape(30, 8, 5),
                                               b.reshape(8, 5, 50)),
    "einsum to a number": lambda m, a, b: m.einsum("i,i->", a[3], a[4]),
    "matmul of F order": lambda m, a, b: m.matmul(m.asfortranarray(a), m.asfortranarray(b)),
    "dot of F order": lambda m, a, b: m.dot(m.asfortranarray(a), m.asfortranarray(b)),
    "matmul backwards": lambda m, a, b: a[::-1, ::-1] @ b[::-1, ::2],
}  # fmt: skip


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("code", DTYPES)
@pytest.mark.parametrize("name", CALLS)
def test_results_are_those_of_numpy(
    name: str, code: str, same: Callable[..., None], heard: list[Any]
) -> None:
    if code == "?" and " bits" in name:
        pytest.skip("NumPy multiplies bools as integers here; they are not contracted")
    a, b = values(code, 30, 40), values(code, 40, 50)
    same(CALLS[name](np, np.array(a), np.array(b)), CALLS[name](numpy, a, b))
    assert len(contractions_in(heard)) == 1, heard


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("right", DTYPES)
@pytest.mark.parametrize("left", DTYPES)
def test_mixed_dtypes(left: str, right: str, same: Callable[..., None]) -> None:
    a, b = values(left, 33, 21), values(right, 21, 35)
    if numpy.result_type(a, b).kind == "f":
        a = a.astype("f8")
    same(np.array(a) @ np.array(b), a @ b)
    same(np.dot(np.array(a), b), numpy.dot(a, b))


@pytest.mark.usefixtures("compiled")
def test_other_ways_in(
    make: Callable[[Any], Any], same: Callable[..., None], heard: list[Any]
) -> None:
    a = values("i4", 40, 40)
    wanted = a @ a
    for call in (
        lambda: numpy.matmul(make(a), make(a)), lambda: numpy.dot(make(a), a),
        lambda: a @ make(a), lambda: make(a) @ a, lambda: numpy.tensordot(make(a), a, 1),
        lambda: operator.matmul(make(a), make(a)), lambda: np.matmul(a, a),
    ):  # fmt: skip
        same(call(), wanted)
    assert len(contractions_in(heard)) == 7


ERRORS: dict[str, Call] = {
    "shapes": lambda m, a, b: a @ a,
    "outer shapes": lambda m, a, b: m.ones((2, 3, 4), int) @ m.ones((3, 4, 5), int),
    "no axes": lambda m, a, b: a @ m.int32(3),
    "inner shapes": lambda m, a, b: m.inner(a, b),
    "dot shapes": lambda m, a, b: m.dot(a, a),
    "casting": lambda m, a, b: m.matmul(a, b, dtype="i2"),
    "a wrong keyword": lambda m, a, b: m.matmul(a, b, nothing=1),
    "out of another shape": lambda m, a, b: m.matmul(a, b, out=m.empty((3, 3), "i4")),
    "out of another dtype": lambda m, a, b: m.matmul(a, b, out=m.empty((30, 50), "i1")),
    "dot's out": lambda m, a, b: m.dot(a, b, out=m.empty((30, 50), "i8")),
    "tensordot": lambda m, a, b: m.tensordot(a, b, axes=([0, 1], [0])),
    "tensordot's axes": lambda m, a, b: m.tensordot(a, b, axes=([5], [0])),
    "einsum": lambda m, a, b: m.einsum("ij,jk->iz", a, b),
    "einsum shapes": lambda m, a, b: m.einsum("ij,kj", a, b),
}


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_numpys(name: str, same_outcome: Callable[..., None]) -> None:
    a, b = values("i4", 30, 40), values("i4", 40, 50)
    same_outcome(
        lambda: ERRORS[name](np, np.array(a), np.array(b)), lambda: ERRORS[name](numpy, a, b)
    )


OTHERS: dict[str, Call] = {
    "nothing": lambda m, a, b: a[:0] @ b,
    "no summands": lambda m, a, b: a[:, :0] @ b[:0],
    "floats": lambda m, a, b: a.astype(float) @ b,
    "to floats": lambda m, a, b: m.matmul(a, b, dtype=float),
    "big-endian": lambda m, a, b: a.astype(">i4") @ b.astype(">i4"),
    "objects": lambda m, a, b: a[:3].astype(object) @ b,
    "axes": lambda m, a, b: m.matmul(a, b, axes=[(1, 0), (1, 0), (0, 1)])
            if a.shape == b.shape else m.matmul(a.T, b.T, axes=[(1, 0), (1, 0), (0, 1)]),
    "a list": lambda m, a, b: m.dot(a, [1] * 40),
    "a number": lambda m, a, b: m.dot(a, 3),
    "einsum of one": lambda m, a, b: m.einsum("ij->j", a),
    "einsum of three": lambda m, a, b: m.einsum("ij,jk,kl", a, b, b.T),
    "einsum with a batch": lambda m, a, b: m.einsum("ij,ij->i", a, a),
    "einsum with a trace": lambda m, a, b: m.einsum("ii,ij", a[:30, :30], a),
    "einsum without letters": lambda m, a, b: m.einsum("ij,...j", a, a),
    "einsum of an outer product": lambda m, a, b: m.einsum("i,j", a[0], b[0]),
    "einsum broadcast": lambda m, a, b: m.einsum("ij,jk", a[:, :1], b),
    "tensordot of no axes": lambda m, a, b: m.tensordot(a[0], b[0], 0),
}  # fmt: skip


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("name", OTHERS)
def test_other_calls_are_left_to_numpy(
    name: str, same_outcome: Callable[..., None], heard: list[Any]
) -> None:
    a, b = values("i4", 30, 40), values("i4", 40, 50)
    same_outcome(
        lambda: OTHERS[name](np, np.array(a), np.array(b)), lambda: OTHERS[name](numpy, a, b)
    )
    assert not contractions_in(heard)


@pytest.mark.usefixtures("compiled")
def test_out_is_written_and_returned(heard: list[Any]) -> None:
    a, b = values("i4", 30, 40), values("i4", 40, 50)
    out, plain = np.empty((30, 50), "i4"), numpy.empty((30, 50), "i4")
    view = out[:]
    for given in (out, plain):
        assert np.matmul(np.array(a), np.array(b), out=given) is given
        numpy.testing.assert_array_equal(numpy.asarray(given), a @ b)
    assert np.matmul(np.array(a), np.array(b), out=(out,)) is out
    assert np.dot(np.array(a), np.array(b), out=out) is out
    cube = values("i4", 5, 30, 40)
    turned = cube.swapaxes(1, 2)
    for x, y in ((cube, b), (cube, b[:, 0]), (a[0], b), (b.T, turned), (a[0], turned)):
        wanted = numpy.matmul(x, y)
        made = np.matmul(np.array(x), np.array(y), out=np.empty(wanted.shape, "i4"))
        numpy.testing.assert_array_equal(numpy.asarray(made), wanted)
    numpy.testing.assert_array_equal(numpy.asarray(view), a @ b)
    assert len(contractions_in(heard)) == 9


@pytest.mark.usefixtures("compiled")
def test_out_may_be_an_operand() -> None:
    a = values("i4", 40, 40)
    for place in (0, 1):
        operands = [np.array(a), np.array(a)]
        made = np.matmul(*operands, out=operands[place])
        assert made is operands[place]
        numpy.testing.assert_array_equal(numpy.asarray(made), a @ a)
    same = np.array(a)
    assert np.matmul(same, same.T, out=same) is same
    numpy.testing.assert_array_equal(numpy.asarray(same), a @ a.T)
    inplace = np.array(a)
    inplace @= np.array(a)
    numpy.testing.assert_array_equal(numpy.asarray(inplace), a @ a)


@pytest.mark.usefixtures("compiled")
def test_pending_work_reads_out_before_it_is_written() -> None:
    a, out = np.array(values("i4", 200, 200)), np.array(values("i4", 200, 200))
    before = numpy.array(out)
    with np.dispatch_options(defer="always"):
        later = out + 1
        np.matmul(a, a, out=out)
        numpy.testing.assert_array_equal(numpy.asarray(later), before + 1)


@pytest.mark.usefixtures("compiled")
def test_operands_are_not_kept() -> None:
    a = np.array(values("i4", 300, 300))
    numpys = numpy.array(a)
    product = a @ a
    a[...] = 0
    numpy.testing.assert_array_equal(numpy.asarray(product), numpys @ numpys)


def test_the_engine_blocks_does_without(heard: list[Any]) -> None:
    a = np.array(values("i4", 100, 100))
    with np.dispatch_options(engine="blocks"):
        a @ a
    assert not contractions_in(heard)
    assert [event.name for event in heard] == ["matmul"]


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    ("backend", "places"), [("serial", {"serial"}), ("threads", {"serial", "threads"})]
)
def test_a_forced_backend_holds(backend: str, places: set[str], heard: list[Any]) -> None:
    a = np.array(values("i4", 400, 400))
    with np.use_backend(backend):
        made = a @ a
    numpy.testing.assert_array_equal(numpy.asarray(made), numpy.asarray(a) @ numpy.asarray(a))
    assert contractions_in(heard)[0].backend in places


def test_a_kernel_is_built_once_it_has_paid_for_itself(
    heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dispatcharr.kernels import build

    builder = build.Builder(None)
    monkeypatch.setattr(contractions, "shared_builder", lambda: builder)
    monkeypatch.setattr(contractions, "_accounts", {})
    monkeypatch.setattr(contract, "_left", {})
    a = np.array(values("u2", 128, 128))
    wanted = numpy.asarray(a) @ numpy.asarray(a)
    calls = 0
    while not contractions_in(heard):
        numpy.testing.assert_array_equal(numpy.asarray(a @ a), wanted)
        calls += 1
        assert calls < 10_000
        if builder._line.started:
            assert builder.wait(100)
    # Each saves most of a millisecond.
    assert 50 < calls < 2000
    assert len(builder._ready) == 1


def test_small_contractions_stay_with_numpy(heard: list[Any]) -> None:
    a = np.array(values("i8", 8, 8))
    for _ in range(3):
        a @ a
    assert not contractions_in(heard)


@pytest.mark.usefixtures("compiled")
def test_records_say_what_ran() -> None:
    a = np.array(values("i1", 100, 100))
    with np.record_dispatch() as record:
        np.matmul(a, a, dtype=np.int32)
    (row,) = record.table().rows
    assert row["kind"] == "contraction"
    assert row["kernel"] == "matmul"
    assert row["reason"] == "compiled contraction of int8 by int8 to int32"
    assert "Contractions" in str(record.table())
    assert "compiled contraction" in str(record.summary())
    assert record.to_dict()["records"][0]["kind"] == "contraction"
    told = np.explain(lambda: a @ a)
    assert "1 contraction" in str(told)
    assert "compiled contraction of int8 by int8 to int8" in " ".join(str(told).split())


@pytest.mark.usefixtures("compiled")
def test_a_contraction_is_no_fallback() -> None:
    a = np.array(values("i4", 50, 50))
    with np.dispatch_options(on_fallback="raise"):
        a @ a
        with pytest.raises(np.FallbackError, match="matmul"):
            a.astype(float) @ a


@pytest.mark.usefixtures("compiled")
def test_verification_takes_numpys_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    a = np.array(values("i4", 50, 50))
    wanted = numpy.asarray(a) @ numpy.asarray(a)
    monkeypatch.setattr(contractions, "_barred", set())
    with np.dispatch_options(verify=1.0):
        with np.record_dispatch() as record:
            a @ a
        assert record.summary().to_dict()["verified"] == {"agreed": 1, "disagreed": 0}
        monkeypatch.setattr(contract.numpy, "array_equal", lambda one, other: False)
        with pytest.warns(np.VerificationWarning, match="matmul"):
            made = a @ a
        monkeypatch.undo()
    numpy.testing.assert_array_equal(numpy.asarray(made), wanted)


def test_threads_and_forks_may_contract_too(script: Callable[..., str]) -> None:
    printed = script("""
        import os, threading
        import numpy
        import dispatcharr as np
        a = np.array(numpy.arange(300 * 300, dtype=numpy.int32).reshape(300, 300))
        wanted = numpy.asarray(a) @ numpy.asarray(a)
        right = []
        def work():
            for _ in range(5):
                right.append(bool((numpy.asarray(a @ a) == wanted).all()))
        with np.dispatch_options(engine="compiled"):
            a @ a
        np.dispatch_options(engine="compiled").__enter__()
        threads = [threading.Thread(target=work) for _ in range(4)]
        [t.start() for t in threads], [t.join() for t in threads]
        work()
        child = os.fork()
        if not child:
            right.clear()
            work()
            os._exit(0 if all(right) else 1)
        print(all(right), len(right), os.waitpid(child, 0)[1])
    """)
    assert printed.split() == ["True", "25", "0"]
