"""dask.array with our arrays as chunks, and Dask's tasks with our arrays in them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
from typing import Any

import numpy
import pytest

import dispatcharr as np
from neighbours import Arrays, Call, Neighbour, load

da = load("dask.array")
dask = load("dask")
bag = load("dask.bag")
library = Neighbour("dask.array", "dask")
works, ours, numpys = library.works, library.ours, library.numpys


def chunks(a: Arrays, *shape: int, seed: int = 0) -> Any:
    """Return a dask array, our arrays its chunks."""
    shape = shape or (6, 8)
    return da.from_array(a.random(*shape, seed=seed), chunks=(3, 4)[: len(shape)], asarray=False)


def computed(*made: Any) -> Any:
    return list(dask.compute(*made, scheduler="threads"))


def each(text: str, *bodies: Any, kind: Any = ours, **more: Any) -> None:
    kind(text, lambda a: computed(*[body(chunks(a), a) for body in bodies]), **more)


each("from_array(x, asarray=False)", lambda d, a: d)
each(
    "d + 1, d * d, -d, d > 0.5, d // 0.1, d % 0.3",
    lambda d, a: d + 1,
    lambda d, a: d * d,
    lambda d, a: -d,
    lambda d, a: d > 0.5,
    lambda d, a: d // 0.1,
    lambda d, a: d % 0.3,
)
each(
    "d + x, x + d, np.add(x, d)",
    lambda d, a: d + a.random(6, 8),
    lambda d, a: a.random(6, 8) + d,
    lambda d, a: numpy.add(a.random(6, 8), d),
)
each(
    "np.sin(d), np.where(d > 0.5, d, 0), np.clip",
    lambda d, a: a.np.sin(d),
    lambda d, a: da.where(d > 0.5, d, 0),
    lambda d, a: d.clip(0.2, 0.6),
)
each(
    "np.concatenate([d, x]), [x, d]",
    lambda d, a: a.np.concatenate([d, a.random(2, 8)]),
    lambda d, a: a.np.concatenate([a.random(2, 8), d]),
)
each(
    "d.sum(axis), .mean, .std, .max, .prod, .any",
    lambda d, a: d.sum(axis=0),
    lambda d, a: d.mean(axis=1),
    lambda d, a: d.std(axis=0),
    lambda d, a: d.max(axis=1),
    lambda d, a: d.prod(axis=0),
    lambda d, a: (d > 2).any(axis=0),
)
each(
    "d.sum(), .mean(), .var(), .min()",
    lambda d, a: d.sum(),
    lambda d, a: d.mean(),
    lambda d, a: d.var(),
    lambda d, a: d.min(),
    kind=works,
)
each("d.argmax(axis), .argmin()", lambda d, a: d.argmax(axis=0), lambda d, a: d.argmin(axis=1))
each(
    "nansum, nanmean, nanmax(d, axis)",
    lambda d, a: da.nansum(d, axis=0),
    lambda d, a: da.nanmean(d, axis=1),
    lambda d, a: da.nanmax(d, axis=0),
)
each("d.cumsum(axis), cumprod", lambda d, a: d.cumsum(axis=0), lambda d, a: d.cumprod(axis=1))
each(
    "median(d, axis), topk, argtopk",
    lambda d, a: da.median(d, axis=0),
    lambda d, a: da.topk(d, 2, axis=0),
    lambda d, a: da.argtopk(d, 2, axis=0),
)
ours("percentile(d1, q)", lambda a: computed(da.percentile(chunks(a, 12), [25, 50])))
each(
    "d[1:4], d[::2, 3], d[d[:, 0] > 0.5], d[[0, 2]], d[x]",
    lambda d, a: d[1:4],
    lambda d, a: d[::2, 3],
    lambda d, a: d[d[:, 0] > 0.5],
    lambda d, a: d[[0, 2]],
    lambda d, a: d[a([0, 2])],
)
each(
    "d[d > 0.5] = 0, d[2] = x",
    lambda d, a: assigned(d, d > 0.5, 0),
    lambda d, a: assigned(d, 2, a.random(8)),
)
each(
    "d.reshape, .ravel, .T, transpose, moveaxis",
    lambda d, a: d.reshape(3, 2, 8),
    lambda d, a: d.ravel(),
    lambda d, a: d.T,
    lambda d, a: d.transpose(1, 0),
    lambda d, a: da.moveaxis(d, 0, 1),
)
each(
    "concatenate, stack, block of d",
    lambda d, a: da.concatenate([d, d]),
    lambda d, a: da.stack([d, d]),
    lambda d, a: da.block([[d, d]]),
)
each(
    "d.rechunk, d.repeat, tile, roll, flip, pad",
    lambda d, a: d.repeat(2, axis=0),
    lambda d, a: d.rechunk((2, 8)),
    lambda d, a: da.roll(d, 2, axis=0),
    lambda d, a: da.flip(d, 0),
    lambda d, a: da.tile(d, (2, 1)),
    lambda d, a: da.pad(d, 1, mode="constant"),
)
each(
    "d @ e, tensordot, dot, einsum",
    lambda d, a: d @ d.T,
    lambda d, a: da.tensordot(d, d.T, axes=1),
    lambda d, a: d.dot(d.T),
    lambda d, a: da.einsum("ij,kj->ik", d, d),
)
each(
    "take, compress, isin, digitize, diff",
    lambda d, a: da.take(d, [1, 3], axis=0),
    lambda d, a: da.compress([True, False, True], d, axis=0),
    lambda d, a: da.isin(d, a([0.5])),
    lambda d, a: da.digitize(d, a.np.asarray([0.3, 0.6])),
    lambda d, a: da.diff(d, axis=0),
)
each(
    "d.astype, round, real, isnan",
    lambda d, a: d.astype("f4"),
    lambda d, a: d.round(1),
    lambda d, a: da.isnan(d),
    lambda d, a: d.real,
)
each(
    "map_blocks, map_overlap, blockwise, apply_gufunc",
    lambda d, a: d.map_blocks(lambda x: x * 2),
    lambda d, a: d.map_overlap(lambda x: x * 2, depth=1),
    lambda d, a: da.blockwise(lambda x: x * 2, "ij", d, "ij", dtype="f8"),
    lambda d, a: da.apply_gufunc(lambda x: x.mean(axis=-1), "(i)->()", d.rechunk((3, 8))),
)
each(
    "linalg.norm, fft.fft(d)",
    lambda d, a: da.linalg.norm(d, axis=0),
    lambda d, a: da.fft.fft(d.rechunk((6, 4)), axis=0),
)
each(
    "linalg.svd, qr",
    lambda d, a: da.linalg.svd(d.rechunk((6, 8)))[1],
    lambda d, a: abs(da.linalg.qr(d.rechunk((6, 8)))[1]),
    rtol=1e-8,
)
works(
    "histogram(d1, bins), unique(d1), bincount",
    lambda a: [
        v.tolist()
        for v in computed(
            da.histogram(chunks(a, 12), bins=3, range=(0, 1))[0],
            da.unique(da.from_array(a([1, 2, 1]), asarray=False)),
            da.bincount(da.from_array(a([1, 2, 1]), asarray=False), minlength=3),
        )
    ],
)
works(
    "d.nbytes, repr(d), d._repr_html_()",
    lambda a: [chunks(a).nbytes, repr(chunks(a))[:11], "<table" in chunks(a)._repr_html_()],
)
works("d.to_delayed, from_delayed, store, to_npy_stack", lambda a: stored(chunks(a)))
works(
    "delayed(f)(x), bag.from_sequence([x, y])",
    lambda a: [
        dask.delayed(lambda x: float((x * 2).sum()))(a.random(3)).compute(),
        bag.from_sequence([a.random(3), a.random(4)])
        .map(lambda x: float(x.sum()))
        .compute(scheduler="threads"),
    ],
)
ours(
    "d.compute() of one chunk",
    lambda a: da.from_array(a.random(4), chunks=4, asarray=False).compute(),
)
numpys("d.to_backend('numpy').compute()", lambda a: chunks(a).to_backend("numpy").compute())
numpys("np.asarray(d)", lambda a: numpy.asarray(chunks(a)).__array__())
ours("from_array(x, asarray=True)", lambda a: da.from_array(a.random(4), asarray=True).compute())
ours(
    "from_array(x, chunks, lock)",
    lambda a: da.from_array(a.random(4), chunks=2, lock=True, asarray=False).compute(),
)


def assigned(made: Any, where: Any, value: Any) -> Any:
    made = made.copy()
    made[where] = value
    return made


def stored(made: Any) -> Any:
    target = numpy.zeros(made.shape)
    da.store(made, target, scheduler="sync")
    first = made.to_delayed()[0, 0]
    again = da.from_delayed(first, (3, 4), dtype="f8").compute(scheduler="sync")
    with tempfile.TemporaryDirectory() as folder:
        da.to_npy_stack(folder, made)
        read = da.from_npy_stack(folder).compute(scheduler="sync")
    return target.tolist(), again.tolist(), read.tolist()


@library.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


def run(code: str) -> str:
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_dask_knows_us_from_the_first_call_on() -> None:
    """Each call is the first of its process, which forks off one that has imported both."""
    code = """
        import numpy, os, dispatcharr as np, dask.array as da
        x, d = np.ones(4), da.ones(4, chunks=2)
        for call in CALLS:
            if os.fork() == 0:
                made = eval(call)
                print(type(made).__name__, float(made.sum().compute(scheduler="sync")), flush=True)
                os._exit(0)
            os.wait()
    """
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    printed = run(code.replace("CALLS", repr(FIRST))).splitlines()
    assert printed == ["Array 8.0"] * len(FIRST)


#: Calls that give twice four ones, or eight of them.
FIRST = (
    "x + d", "d + x", "numpy.add(x, d)", "numpy.add(d, x)", "np.add(x, d)", "np.add(d, x)",
    "numpy.concatenate([x, d])", "numpy.concatenate([d, x])", "np.concatenate([x, d])",
    "np.where(d > 0, x, d) * 2", "np.negative(-(x + d))",
)  # fmt: skip


def test_importing_us_imports_nothing_of_dask() -> None:
    code = "import sys, dispatcharr as np; np.ones(3) + 1; print('dask' in sys.modules)"
    assert run(code) == "False"


def test_arrays_are_made_by_our_name() -> None:
    np.ones(2).__dask_tokenize__()
    with dask.config.set({"array.backend": "dispatcharr"}):
        made = [
            da.ones(4, chunks=2),
            da.zeros(4, chunks=2),
            da.full(4, 3.0, chunks=2),
            da.arange(4, chunks=2),
        ]
        assert [type(d.compute()) for d in made] == [np.ndarray] * 4
    moved = da.ones(4, chunks=2).to_backend("dispatcharr")
    assert type(moved.compute()) is np.ndarray


def test_equal_arrays_have_equal_names() -> None:
    base = load("dask.base")
    one, same, other = np.arange(5.0), np.arange(5.0), np.arange(6.0)
    assert base.tokenize(one) == base.tokenize(same) != base.tokenize(other)
    assert base.tokenize(one) != base.tokenize(numpy.arange(5.0))


def test_the_size_of_a_chunk_is_known() -> None:
    sizeof = load("dask.sizeof").sizeof
    np.ones(2).__dask_tokenize__()
    assert sizeof(np.zeros(100_000)) >= 800_000
    assert sizeof(np.zeros(100_000)[:50_000]) >= 400_000


def test_a_source_is_not_sliced_into_numpys_arrays() -> None:
    made = da.from_array(np.arange(8.0), chunks=4, asarray=False)
    assert type(made._meta) is np.ndarray
    assert type(made.blocks[0].compute()) is np.ndarray


@pytest.mark.slow
def test_nothing_pends_on_a_cluster_after_persist() -> None:
    printed = run("""
        import dask.array as da, dispatcharr as np
        from distributed import Client
        from dispatcharr.expr.nodes import Node
        if __name__ == "__main__":
            options = dict(processes=False, dashboard_address=None)
            with Client(n_workers=1, threads_per_worker=2, **options):
                x = np.arange(400_000.0)
                d = da.from_array(x, chunks=100_000, asarray=False)
                made = (np.sqrt(d * 2 + 1)).persist()
                kept = [future.result() for future in made.__dask_graph__().values()]
                print(sum(type(k._value) is Node for k in kept), {type(k).__name__ for k in kept})
                print(float(made.sum().compute()) > 0, da.percentile(d, [50]).compute())
    """)
    assert printed.splitlines()[0] == "0 {'ndarray'}"


def test_chunks_are_pickled_without_a_copy() -> None:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(np.zeros(10_000), 5, buffer_callback=buffers.append)
    assert len(data) < 400
    assert type(pickle.loads(data, buffers=buffers)) is np.ndarray
