"""Results that are streamed past the caches: the same bits, nothing beside them, where it pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

import dispatcharr as np
from dispatcharr.backends import host, serial
from dispatcharr.kernels import compiled, native
from dispatcharr.plan.region import Region
from regions import buffer, job_of, region, results, run

if native.missing() is not None:
    pytest.skip(str(native.missing()), allow_module_level=True)

GUARD = 192


def guarded(shape: Sequence[int], dtype: Any, offset: int, gap: int = 0) -> tuple[Any, Any]:
    """Return memory full of 7, and an array in it: ``offset`` items past a cache line.

    With ``gap`` its rows are so many items apart.
    """
    item = numpy.dtype(dtype).itemsize
    lengths = [*shape[:-1], shape[-1] + gap]
    size = int(numpy.prod(lengths)) * item
    memory = numpy.full(size + 2 * GUARD, 7, numpy.uint8)
    start = GUARD - (memory.ctypes.data + GUARD) % 64 + offset * item
    whole = memory[start : start + size].view(dtype).reshape(lengths)
    return memory, whole[..., : shape[-1]]


def untouched(memory: Any, part: Any) -> bool:
    """Return whether memory is as it was but for one array in it."""
    left = memory.copy()
    start = part.ctypes.data - memory.ctypes.data
    view = numpy.ndarray(part.shape, part.dtype, left, start, part.strides)
    view.view(numpy.dtype((numpy.void, part.itemsize)))[...] = bytes([7] * part.itemsize)
    return bool((left == 7).all())


PROGRAMS = {
    "one": ([("add", (0, 1))], None),
    "chain": ([("multiply", (0, 1)), ("subtract", (2, 0)), ("absolute", (3,))], None),
    "several": ([("less", (0, 1)), ("where", (2, 1, 0)), ("astype", (3,), "float32")], [2, 3, 4]),
    "narrow": ([("less_equal", (0, 1))], None),
    "wide": ([("astype", (0,), "complex128"), ("multiply", (2, 2))], [3]),
    "wide and narrow": ([("astype", (0,), "complex128"), ("less", (0, 1))], [2, 3]),
}


@settings(max_examples=60)
@given(
    shape=st.sampled_from(
        [(1,), (7,), (63,), (127,), (128,), (129,), (1000,), (5003,), (3, 700), (2, 3, 515)]
    ),
    name=st.sampled_from(sorted(PROGRAMS)),
    dtype=st.sampled_from(["f8", "f4", "i2"]),
    layouts=st.tuples(
        st.sampled_from(["plain", "stepped", "backwards", "row", "constant"]),
        st.sampled_from(["plain", "part"]),
    ),
    offset=st.integers(0, 9),
    gap=st.integers(0, 5),
    pieces=st.integers(1, 4),
)
def test_streamed_bits_are_those_of_plain_stores(
    shape: tuple[int, ...], name: str, dtype: str, layouts: tuple[str, str], offset: int, gap: int,
    pieces: int,
) -> None:  # fmt: skip
    program, outputs = PROGRAMS[name]
    inputs = [buffer(shape, dtype, layout, i) for i, layout in enumerate(layouts)]
    source = region(shape, inputs, program, outputs)
    wanted = results(source)
    run(source, inputs, wanted, pieces=pieces)
    held = [guarded(shape, one.dtype, offset + i, gap) for i, one in enumerate(wanted)]
    found = [part for _, part in held]
    job = job_of(source, inputs, found, pieces=pieces, stream=True)
    assert not isinstance(job, str)
    job._words[1] = 1  # short rows too
    for task in range(job.count):
        job.run(task)
    for one, other, (memory, part) in zip(found, wanted, held, strict=True):
        assert one.tobytes() == other.tobytes()
        assert untouched(memory, part)


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_bits_of_functions_do_not_depend_on_streaming(offset: int) -> None:
    x = buffer((4099,), "f8", "plain")
    source = region((4099,), [x], [("sin", (0,)), ("multiply", (1, 0))])
    (wanted,) = results(source)
    run(source, [x], [wanted])
    memory, found = guarded((4099,), "f8", offset)
    run(source, [x], [found], stream=True, pieces=3)
    assert found.tobytes() == wanted.tobytes()
    assert untouched(memory, found)


def test_errors_of_streamed_results_are_told() -> None:
    a, b = numpy.ones(3000), numpy.ones(3000)
    b[[0, 2999]] = 0
    source = region((3000,), [a, b], [("divide", (0, 1))])
    found = results(source)
    assert run(source, [a, b], found, stream=True) == {("divide by zero", "divide")}
    assert numpy.isinf(found[0][[0, 2999]]).all()


def streams(job: Any) -> bool:
    assert isinstance(job, compiled.Job)
    return bool(job._words[1])


def test_what_the_last_cache_does_not_hold_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = next(one for one in serial.BACKEND.engines if one.engine == "compiled")
    size = 10_000
    a, b = numpy.ones(size), numpy.ones(size)
    source = region((size,), [a, b], [("multiply", (0, 1)), ("add", (2, 1))])
    found = results(source)
    assert compiled.order(source, [a, b], found, wait=True) is None
    monkeypatch.setattr(engine, "stream_bytes", 3 * a.nbytes)
    assert not streams(engine.prepare(source, [a, b], found, 1))
    monkeypatch.setattr(engine, "stream_bytes", 3 * a.nbytes - 1)
    assert streams(engine.prepare(source, [a, b], found, 1))
    # Its lines are in the nearest cache, being read there.
    assert not streams(engine.prepare(source, [a, b], [a], 1))


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_masked_and_partial_results_are_numpys(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = compiled.prepare, []

    def streaming(
        source: Region, inputs: Any, outputs: Any, pieces: int, watch: Any, stream: bool, buy: bool
    ) -> Any:
        asked.append(pieces)
        return real(source, inputs, outputs, pieces, watch, True, buy)

    monkeypatch.setattr(host.compiled, "prepare", streaming)
    a, b = buffer((300, 700), "f8", "plain", 1), buffer((300, 700), "f8", "plain", 2)
    mask = a > b

    def compute(m: Any, x: Any, y: Any, where: Any) -> list[Any]:
        out = m.zeros((302, 707))
        m.add(x, y, out=out[1:-1, 3:-4], where=where)
        other = m.zeros((300, 701))
        other[:, 1:] = m.where(where, x, y) * 2 - x
        return [out, other, x[:, ::-1] * y + 1]

    wanted = compute(numpy, a, b, mask)
    with np.use_backend(backend), np.dispatch_options(engine="compiled", defer="always"):
        found = compute(np, np.array(a), np.array(b), np.array(mask))
        found = [numpy.asarray(one) for one in found]
    assert asked
    for one, other in zip(found, wanted, strict=True):
        assert one.tobytes() == other.tobytes()
