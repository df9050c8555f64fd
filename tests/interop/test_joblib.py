"""joblib: our arrays to processes and back, mapped into memory, hashed."""

from __future__ import annotations

import io
import tempfile
from typing import Any

import numpy

import dispatcharr as np
from neighbours import Call, Neighbour, load

jl = load("joblib")
joblib = Neighbour("joblib")
works, ours = joblib.works, joblib.ours


def parallel(function: Any, values: Any, **options: Any) -> Any:
    return jl.Parallel(n_jobs=2, **options)(jl.delayed(function)(value) for value in values)


def remembered(a: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        calls: list[int] = []
        memory = jl.Memory(folder, verbose=0)

        def double(x: Any) -> Any:
            calls.append(1)
            return x * 2

        kept = memory.cache(double)
        results = [kept(a([1.0, 2.0])), kept(a([1.0, 2.0])), kept(a([3.0]))]
        return results, len(calls)


def dumped(array: Any) -> Any:
    file = io.BytesIO()
    jl.dump(array, file)
    file.seek(0)
    return jl.load(file)


ours(
    "Parallel(threading)(f)(rows of x)",
    lambda a: parallel(abs, list(a.normal(3, 4)), backend="threading"),
)
works("Parallel(loky)(f)(rows of x)", lambda a: parallel(float, list(a.random(3)), backend="loky"))
ours(
    "Parallel(loky) returning arrays", lambda a: parallel(abs, list(a.normal(2, 4)), backend="loky")
)
ours("dump(x, file), load(file)", lambda a: dumped(a.random(3, 2)))
works(
    "hash(x) == hash(y) of equal arrays",
    lambda a: [
        jl.hash(a.random(3)) == jl.hash(a.random(3)),
        jl.hash(a.random(3)) == jl.hash(a.random(3, seed=1)),
    ],
)
ours("Memory.cache(f)(x)", remembered)


@joblib.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


def test_large_arguments_are_mapped_and_read_right() -> None:
    array = np.arange(300_000.0) + 1
    totals = jl.Parallel(n_jobs=2, max_nbytes=1000)(jl.delayed(numpy.sum)(array) for _ in range(2))
    assert totals == [float(numpy.arange(300_000.0).sum() + 300_000)] * 2


def test_arrays_mapped_from_a_file_are_ours(tmp_path: Any) -> None:
    jl.dump(np.arange(1000.0), tmp_path / "x")
    mapped = jl.load(tmp_path / "x", mmap_mode="r")
    assert type(mapped) is np.ndarray
    assert mapped.sum() == 499_500
    assert not mapped.flags.writeable
