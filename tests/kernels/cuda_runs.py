"""Running reduction kernels for CUDA on the CPU, several of them compiled together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy

from dispatcharr.devices import shim
from dispatcharr.kernels import cuda_reduce
from dispatcharr.kernels.cuda_source import Source
from dispatcharr.plan.region import Region
from regions import results

#: Words of a launch that are the kernel's; the one after them says which kernel of several it is.
_WORDS = 100
#: Kernels that are compiled together: most of what one takes is starting the compiler.
_TOGETHER = 40
_programs: dict[Source, tuple[shim.Program, int]] = {}


def build(sources: Sequence[Source]) -> None:
    """Compile what is not yet; two texts of many kernels at a time."""
    missing = [source for source in dict.fromkeys(sources) if source not in _programs]
    parts = [missing[i : i + _TOGETHER] for i in range(0, len(missing), _TOGETHER)]
    with ThreadPoolExecutor(2) as pool:
        for part, program in zip(parts, pool.map(_compiled, parts), strict=True):
            _programs.update({source: (program, i) for i, source in enumerate(part)})


def _compiled(sources: Sequence[Source]) -> shim.Program:
    kernels = [f"namespace n{i} {{\n{source.text}\n}}" for i, source in enumerate(sources)]
    chosen = [
        f"case {i}: n{i}::{source.name}(*(const n{i}::Words*)p.w); break;"
        for i, source in enumerate(sources)
    ]
    name = f"several_of_{sources[0].name}"
    kernels += [
        f"struct Words {{ long long w[{_WORDS + 1}]; }};",
        f'extern "C" __global__ void {name}(const Words p) {{',
        f"switch (p.w[{_WORDS}]) {{", *chosen, "}", "}",
    ]  # fmt: skip
    return shim.Program(shim.compile_text("\n".join(kernels), name), name)


def bind(source: Region, inputs: Sequence[Any], outputs: Sequence[Any]) -> cuda_reduce.Bound:
    bound = cuda_reduce.bind(source, inputs, outputs)
    assert not isinstance(bound, str), bound
    return bound


def address(buffer: numpy.ndarray) -> int:
    found: int = buffer.__array_interface__["data"][0]
    return found


def run(
    source: Region, inputs: Sequence[Any], outputs: Sequence[Any], schedule: int = 2,
    by_value: bool = True,
) -> set[tuple[str, str]]:  # fmt: skip
    """Run a region; return its flags."""
    bound = bind(source, inputs, outputs)
    build(bound.sources)
    scratch = numpy.full(bound.scratch // 8 + 2, numpy.nan)
    start = -(-address(scratch) // 16) * 16
    word = numpy.zeros(1, numpy.uint64)
    given = [x if x.shape == () and by_value else address(x) for x in inputs]
    for i, grid, block, words in bound.launches(
        given, [address(x) for x in outputs], start, address(word)
    ):
        program, which = _programs[bound.sources[i]]
        signed = [w - (1 << 64) if w >> 63 == 1 else w for w in words]
        signed += [0] * (_WORDS - len(words)) + [which]
        program.run(grid, block, signed, schedule, 3, shim.Report())
    return {flag for i, flag in enumerate(bound.flags) if int(word[0]) >> i & 1}


def run_everywhere(source: Region, inputs: Sequence[Any]) -> tuple[list[Any], set[Any]]:
    """Run a region in every order of threads: the bits are the same."""
    found = results(source)
    met = run(source, inputs, found, 0)
    for schedule in (1, 2):
        again = results(source)
        assert run(source, inputs, again, schedule) == met
        assert [x.tobytes() for x in again] == [x.tobytes() for x in found]
    return found, met
