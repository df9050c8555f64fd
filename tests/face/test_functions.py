"""NumPy's functions on our arrays: results are ours, views stay views, special objects work."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np

Make = Callable[[Any], Any]

CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "linalg.norm": lambda m, a: m.linalg.norm(a),
    "linalg.inv": lambda m, a: m.linalg.inv(a),
    "linalg.svd": lambda m, a: m.linalg.svd(a),
    "linalg.eigh": lambda m, a: m.linalg.eigh(a + a.T),
    "linalg.solve": lambda m, a: m.linalg.solve(a, a[0]),
    "fft.fft": lambda m, a: m.fft.fft(a),
    "fft.rfftfreq": lambda m, a: m.fft.rfftfreq(8),
    "polyfit": lambda m, a: m.polyfit(a[0], a[1], 1),
    "histogram": lambda m, a: m.histogram(a, bins=3),
    "unique": lambda m, a: m.unique(a, return_counts=True),
    "unique_all": lambda m, a: m.unique_all(a),
    "meshgrid": lambda m, a: m.meshgrid(a[0], a[1]),
    "nonzero": lambda m, a: m.nonzero(a),
    "einsum": lambda m, a: m.einsum("ij,jk->ik", a, a),
    "dot": lambda m, a: m.dot(a, a),
    "matmul": lambda m, a: a @ a,
    "kron": lambda m, a: m.kron(a, a),
    "stack": lambda m, a: m.stack([a, a], axis=1),
    "block": lambda m, a: m.block([[a, a], [a, a]]),
    "concatenate": lambda m, a: m.concatenate((a, a), axis=1),
    "pad": lambda m, a: m.pad(a, 1),
    "gradient": lambda m, a: m.gradient(a),
    "median": lambda m, a: m.median(a, axis=0),
    "percentile": lambda m, a: m.percentile(a, [25, 75]),
    "interp": lambda m, a: m.interp(a[0], m.arange(4.0), a[1]),
    "select": lambda m, a: m.select([a > 5, a < 2], [a, -a], 0),
    "piecewise": lambda m, a: m.piecewise(a, [a < 5], [lambda x: -x, lambda x: x * 2]),
    "apply_along_axis": lambda m, a: m.apply_along_axis(lambda r: r.cumsum(), 0, a),
    "vectorize": lambda m, a: m.vectorize(lambda x, y: x + y)(a, 2),
    "r_": lambda m, a: m.r_[a[0], 0, a[1]],
    "c_": lambda m, a: m.c_[a, a],
    "mgrid": lambda m, a: m.mgrid[0:3, 0:2],
    "ogrid": lambda m, a: m.ogrid[0:3, 0:2],
    "ix_": lambda m, a: a[m.ix_([0, 2], [1, 2])],
    "s_": lambda m, a: a[m.s_[1:, ::2]],
    "indices": lambda m, a: m.indices((2, 2)),
    "searchsorted": lambda m, a: m.searchsorted(m.sort(a, axis=None), a),
    "lexsort": lambda m, a: m.lexsort((a[0], a[1])),
    "isin": lambda m, a: m.isin(a, [1, 2]),
    "nan_to_num": lambda m, a: m.nan_to_num(a),
    "average": lambda m, a: m.average(a, axis=0, weights=[1, 2, 3, 4]),
    "cov": lambda m, a: m.cov(a),
    "convolve": lambda m, a: m.convolve(a[0], a[1]),
    "trapezoid": lambda m, a: m.trapezoid(a),
    "diff": lambda m, a: m.diff(a, axis=0),
    "cumulative_sum": lambda m, a: m.cumulative_sum(a, axis=0),
    "take_along_axis": lambda m, a: m.take_along_axis(a, m.argsort(a, axis=0), 0),
    "tensordot": lambda m, a: m.tensordot(a, a),
    "array_split": lambda m, a: m.array_split(a, 3),
    "broadcast_shapes": lambda m, a: m.broadcast_shapes((3, 1), (1, 4)),
    "fromfunction": lambda m, a: m.fromfunction(lambda i, j: i * j, (3, 3)),
    "polynomial": lambda m, a: m.polynomial.polynomial.polyval(a, [1.0, 2.0, 3.0]),
    "chebyshev": lambda m, a: m.polynomial.chebyshev.chebfit(a[0], a[1], 1),
    "shape": lambda m, a: (m.shape(a), m.ndim(a), m.size(a), m.size(a, 0)),
    "result_type": lambda m, a: (m.result_type(a, 1j), m.can_cast(a.dtype, "f4")),
    "isscalar": lambda m, a: (m.isscalar(a), m.iscomplexobj(a), m.isrealobj(a)),
    "array_equal": lambda m, a: m.array_equal(a, a.copy()),
    "allclose": lambda m, a: m.allclose(a, a + 1e-12),
    "frompyfunc": lambda m, a: m.frompyfunc(lambda x: x + 1, 1, 1)(a),
    "copyto": lambda m, a: (m.copyto(a, 3), a)[1],
    "place": lambda m, a: (m.place(a, a > 3, [0, 1]), a)[1],
    "putmask": lambda m, a: (m.putmask(a, a > 3, a * 2), a)[1],
    "put_along_axis": lambda m, a: (m.put_along_axis(a, m.argmax(a, 0, keepdims=True), 0, 0), a)[1],
    "fill_diagonal": lambda m, a: (m.fill_diagonal(a, 0), a)[1],
    "lib.array_utils": lambda m, a: m.lib.array_utils.normalize_axis_index(-1, 3),
    "ascontiguousarray": lambda m, a: m.ascontiguousarray(a.T),
    "divmod": lambda m, a: m.divmod(a, 3),
    "frexp": lambda m, a: m.frexp(a),
    "ndenumerate": lambda m, a: [int(v) for _, v in m.ndenumerate(a)],
    "broadcast": lambda m, a: m.broadcast(a, a[0]).shape,
    "nditer": lambda m, a: [float(v) for v in m.nditer(a)],
}
#: Names that came after NumPy 2.0.
for _name in ("cumulative_sum",):
    if not hasattr(numpy, _name):
        del CALLS[_name]
ROUNDED = {"linalg.norm", "linalg.inv", "linalg.svd", "linalg.eigh", "linalg.solve", "average",
           "cov", "polyfit", "chebyshev", "einsum", "dot", "matmul"}  # fmt: skip


def close(ours: Any, numpys: Any) -> None:
    if isinstance(numpys, tuple):
        assert type(ours) is type(numpys)
        for one, other in zip(ours, numpys, strict=True):
            close(one, other)
    else:
        assert type(ours) is (np.ndarray if type(numpys) is numpy.ndarray else type(numpys))
        numpy.testing.assert_allclose(numpy.asarray(ours), numpys, rtol=1e-10, strict=True)


@pytest.mark.parametrize("mode", ["auto", "always"])
@pytest.mark.parametrize("name", CALLS)
def test_function(name: str, mode: str, make: Make, same: Callable[..., None]) -> None:
    values = numpy.random.default_rng(5).permutation(16).reshape(4, 4) + 0.5
    with np.dispatch_options(defer=mode):
        wanted, got = CALLS[name](numpy, values.copy()), CALLS[name](np, make(values))
        (close if name in ROUNDED else same)(got, wanted)


def test_metadata_of_pending_arrays_is_known_without_values(
    pending: Make, waits: Callable[[Any], bool]
) -> None:
    array = pending([[1.0, 2.0]])
    assert (np.shape(array), np.ndim(array), np.size(array)) == ((1, 2), 2, 2)
    assert array.shape == (1, 2)
    assert (array.nbytes, array.itemsize, array.strides) == (16, 8, (16, 8))
    assert np.iscomplexobj(array) is False
    assert np.result_type(array, numpy.float32) == numpy.float64
    assert len(array) == 1
    assert waits(array)


def test_random_generators_keep_their_numbers(same: Callable[..., None]) -> None:
    for draw in (
        lambda g: g.random(5), lambda g: g.normal(size=(2, 3)), lambda g: g.integers(0, 9, 4),
        lambda g: g.permutation(6), lambda g: g.choice([1, 2, 3], 4), lambda g: g.random(),
        lambda g: g.standard_normal(4, dtype="f4"),
        lambda g: g.multivariate_normal([0, 0], [[1, 0], [0, 1]]),
        lambda g: g.bytes(4), lambda g: g.spawn(1)[0].random(3),
        lambda g: g.shuffle(cards := [1, 2, 3]) or cards,
    ):  # fmt: skip
        same(draw(np.random.default_rng(42)), draw(numpy.random.default_rng(42)))
        same(draw(np.random.Generator(np.random.PCG64(1))),
             draw(numpy.random.Generator(numpy.random.PCG64(1))))  # fmt: skip


def test_legacy_random_keeps_its_numbers(same: Callable[..., None]) -> None:
    for draw in (
        lambda r: r.rand(3), lambda r: r.randn(2, 2), lambda r: r.randint(0, 9, 4),
        lambda r: r.normal(size=3), lambda r: r.permutation(5), lambda r: r.rand(),
        lambda r: r.choice(5, 3),
    ):  # fmt: skip
        same(draw(np.random.RandomState(7)), draw(numpy.random.RandomState(7)))
        np.random.seed(3)
        mine = draw(np.random)
        numpy.random.seed(3)
        same(mine, draw(numpy.random))


def test_random_generators_are_what_they_were(make: Make) -> None:
    import copy
    import pickle

    generator = np.random.default_rng(1)
    assert isinstance(generator, np.random.Generator)
    assert isinstance(generator, numpy.random.Generator)
    assert isinstance(numpy.random.default_rng(), np.random.Generator)
    assert np.random.default_rng(generator) is generator
    for made in (pickle.loads(pickle.dumps(generator)), copy.deepcopy(generator)):
        assert type(made.random(2)) is np.ndarray
    state = np.random.RandomState(1)
    assert isinstance(state, numpy.random.RandomState)
    assert type(pickle.loads(pickle.dumps(state)).rand(2)) is np.ndarray
    out = np.empty(3)
    assert generator.random(out=out) is out
    array = make([1, 2, 3, 4])
    generator.shuffle(array)
    assert sorted(array) == [1, 2, 3, 4]
    assert (
        np.random.RandomState(np.random.PCG64(1)).rand()
        == numpy.random.RandomState(numpy.random.PCG64(1)).rand()
    )


def test_files(make: Make, tmp_path: Any, same: Callable[..., None]) -> None:
    values = numpy.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "one.npy", make(values))
    same(np.load(tmp_path / "one.npy"), values)
    np.savez(tmp_path / "many.npz", a=make(values), b=make([1, 2]))
    with np.load(tmp_path / "many.npz") as archive:
        assert sorted(archive) == ["a", "b"]
        same(archive["a"], values)
        same(dict(archive.items())["b"], numpy.array([1, 2]))
        assert isinstance(archive, numpy.lib.npyio.NpzFile)
    text = io.StringIO()
    np.savetxt(text, make(values))
    text.seek(0)
    same(np.loadtxt(text), values)
    mapped = np.load(tmp_path / "one.npy", mmap_mode="r")
    assert isinstance(mapped, numpy.memmap)
    same(
        np.genfromtxt(io.StringIO("1,2\n3,4"), delimiter=","), numpy.array([[1.0, 2.0], [3.0, 4.0]])
    )


def test_testing_functions(make: Make) -> None:
    np.testing.assert_array_equal(make([1.0, 2.0]), [1.0, 2.0])
    np.testing.assert_allclose(make([1.0, 2.0]), make([1.0, 2.0]))
    np.testing.assert_equal({"a": make([1])}, {"a": numpy.array([1])})
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        np.testing.assert_array_equal(make([1.0, 2.0]), [1.0, 3.0])
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_allclose(make([1.0, 2.0]), make([1.0, 2.5]))
    with np.testing.assert_raises(ValueError):
        make([1.0]).reshape(2)


def test_error_state_is_numpys() -> None:
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        np.array([1.0]) / 0
    with numpy.errstate(divide="ignore"):
        assert np.geterr() == numpy.geterr()


def test_vectorize(same: Callable[..., None]) -> None:
    @np.vectorize
    def doubled(x: float) -> float:
        return 2 * x

    same(doubled([1, 2]), numpy.array([2, 4]))

    @np.vectorize(otypes=[float], signature="(n)->()")
    def total(row: Any) -> Any:
        return row.sum()

    same(total(np.ones((2, 3))), numpy.array([3.0, 3.0]))
    assert isinstance(doubled, numpy.vectorize)


def test_ctypes(make: Make) -> None:
    array = make(numpy.arange(3.0))
    pointer = array.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    pointer[0] = 9
    assert array[0] == 9
    kind = np.ctypeslib.ndpointer(dtype=float, ndim=1)
    assert kind.from_param(numpy.asarray(array)) is not None
    assert type(np.ctypeslib.as_array((ctypes.c_int * 3)(1, 2, 3))) is np.ndarray


def test_exchange_by_dlpack(make: Make, same: Callable[..., None]) -> None:
    array = make(numpy.arange(3.0))
    theirs = numpy.from_dlpack(array)
    same(np.from_dlpack(array), numpy.arange(3.0))
    same(np.from_dlpack(numpy.arange(3.0)), numpy.arange(3.0))
    if theirs.flags.writeable:  # since NumPy 2.1
        theirs[0] = 5
        assert array[0] == 5
    assert array.__dlpack_device__() == (1, 0)


def test_array_api_namespace(make: Make) -> None:
    array = make([1.0, 2.0])
    xp = array.__array_namespace__()
    assert xp is np.ones(2).__array_namespace__()
    assert {xp: 1}[xp] == 1
    total = xp.sum(array)
    assert type(total) is np.ndarray
    assert total.shape == ()
    assert type(array.sum()) is numpy.float64
    assert xp.float64 is numpy.float64
    assert xp.linalg.vector_norm(array) is not None
    if hasattr(numpy, "__array_namespace_info__"):
        assert xp.__array_namespace_info__() is not None
    with pytest.raises(ValueError, match="not supported"):
        array.__array_namespace__(api_version="1999.12")
    assert array.to_device("cpu") is array
    assert array.device == "cpu"
