"""NumPy's own functions and files with our arrays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr as np
from neighbours import Call, Neighbour

numpys_own = Neighbour("numpy")
works, ours, numpys = numpys_own.works, numpys_own.ours, numpys_own.numpys


def stored(save: Any, load: Any = numpy.load) -> Any:
    file = io.BytesIO()
    save(file)
    file.seek(0)
    return load(file)


numpys(
    "numpy.asarray(x), numpy.array(x)",
    lambda a: [numpy.asarray(a.random(3)), numpy.array(a.random(3, 2))],
)
numpys(
    "numpy.frombuffer(x), numpy.from_dlpack(x)",
    lambda a: [numpy.frombuffer(a([1.0, 2.0])), numpy.from_dlpack(a([1, 2]))],
)
ours(
    "numpy.sin(x), numpy.add(x, n), n + x",
    lambda a: [
        numpy.sin(a.random(3)),
        numpy.add(a.random(3), numpy.ones(3)),
        numpy.ones(3) + a.random(3),
    ],
)
ours(
    "numpy.add.reduce, .accumulate, .outer(x)",
    lambda a: [
        numpy.add.reduce(a.random(3, 2)),
        numpy.add.accumulate(a.random(3)),
        numpy.multiply.outer(a.random(2), a.random(3)),
    ],
)
ours(
    "numpy.concatenate, where, sort, unique(x)",
    lambda a: [
        numpy.concatenate([a.random(2), numpy.ones(2)]),
        numpy.where(a([True, False]), 1, 2),
        numpy.sort(a.random(5)),
        numpy.unique(a([2, 1, 2])),
    ],
)
ours(
    "numpy.linalg, numpy.fft of x",
    lambda a: [numpy.linalg.inv(a([[2.0, 1.0], [1.0, 3.0]])), numpy.fft.fft(a.random(4))],
)
works(
    "numpy.linalg.norm, mean, median(x)",
    lambda a: [numpy.linalg.norm(a.random(3)), numpy.mean(a.random(3)), numpy.median(a.random(3))],
)
numpys(
    "numpy.add(x, y, out=n), n += x",
    lambda a: [numpy.add(a.random(3), 1, out=numpy.empty(3)), added(numpy.ones(3), a.random(3))],
)
ours("numpy.add(n, 1, out=x)", lambda a: numpy.add(numpy.ones(3), 1, out=a([0.0, 0.0, 0.0])))
numpys(
    "n[x], n[mask], n[...] = x",
    lambda a: [
        numpy.arange(5)[a([1, 3])],
        numpy.arange(3)[a([True, False, True])],
        assigned(numpy.zeros(3), a.random(3)),
    ],
)
works(
    "np.save(file, x), np.load", lambda a: stored(lambda f: a.np.save(f, a.random(3, 2))).tolist()
)
works(
    "np.savez(file, x, a=y), np.load",
    lambda a: {
        k: v.tolist() for k, v in stored(lambda f: a.np.savez(f, a.random(3), a=a([1, 2]))).items()
    },
)
works(
    "np.savez_compressed, np.savetxt, loadtxt",
    lambda a: [
        stored(lambda f: a.np.savetxt(f, a([[1.0, 2.0]])), a.np.loadtxt).tolist(),
        dict(stored(lambda f: a.np.savez_compressed(f, a=a([1]))))["a"].tolist(),
    ],
)
ours(
    "np.load(file), np.load(file)['a'] of ours",
    lambda a: [
        stored(lambda f: a.np.save(f, a.random(3)), a.np.load),
        stored(lambda f: a.np.savez(f, a=a.random(3)), a.np.load)["a"],
    ],
)
works(
    "numpy.testing.assert_allclose(x, n)",
    lambda a: numpy.testing.assert_allclose(a.random(3), numpy.random.default_rng(0).random(3)),
)
works(
    "numpy.random.default_rng().choice(x), shuffle(x), permutation(x)",
    lambda a: shuffled(a([1, 2, 3, 4])),
)
works(
    "numpy.ma.array(x), numpy.ma.masked_where",
    lambda a: [
        numpy.ma.masked_where(a([True, False]), a([1.0, 2.0])).tolist(),
        numpy.ma.array(a([1.0, 2.0]), mask=a([True, False])).tolist(),
    ],
)
works(
    "numpy.nditer(x), ndenumerate(x), ndindex(x.shape)",
    lambda a: [
        [float(v) for v in numpy.nditer(a([1.0, 2.0]))],
        list(numpy.ndenumerate(a([[1, 2]]))),
        [float(a([[1.0, 2.0]])[i]) for i in numpy.ndindex(a([[1.0, 2.0]]).shape)],
    ],
)
works(
    "numpy.vectorize(f)(x), apply_along_axis",
    lambda a: [
        numpy.vectorize(lambda v: v + 1)(a([1, 2])).tolist(),
        numpy.apply_along_axis(sum, 0, a([[1, 2], [3, 4]])).tolist(),
    ],
)
works(
    "numpy.polyfit, interp, histogram, Polynomial",
    lambda a: [
        numpy.polyfit(a([0.0, 1, 2]), a([1.0, 3, 5]), 1).round(6).tolist(),
        numpy.interp(a([0.5]), a([0.0, 1.0]), a([2.0, 4.0])).tolist(),
        numpy.polynomial.Polynomial(a([1.0, 2.0]))(3.0),
        [v.tolist() for v in numpy.histogram(a([0.1, 0.2, 0.9]), a([0.0, 0.5, 1.0]))],
    ],
)


def added(left: Any, right: Any) -> Any:
    left += right
    return left


def assigned(target: Any, value: Any) -> Any:
    target[...] = value
    return target


def shuffled(array: Any) -> Any:
    generator = numpy.random.default_rng(0)
    generator.shuffle(array)
    return (
        array.tolist(),
        generator.choice(array, 2).tolist(),
        generator.permutation(array).tolist(),
    )


@numpys_own.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_files_are_mapped(mode: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(1000.0) * 2)
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    assert (mapped + 1).sum() == 1_000_000
