"""Many operations in one CUDA text, compiled once, each of them run on its own on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy

from body_loops import Case
from dispatcharr.devices.shim import missing
from dispatcharr.devices.virtual import VirtualDevice
from dispatcharr.kernels.cuda_text import Piece, ctype, piece
from dispatcharr.ops.bodies.cuda_helpers import PARTS, device_prelude
from dispatcharr.plan.region import ERROR_KINDS, Instruction, Layout, Region

__all__ = ["WATCHED", "Kernels", "missing", "piece_of", "region_of", "text_of"]

WATCHED = frozenset(ERROR_KINDS) - {"underflow"}
NAME = "cases"


def region_of(case: Case, n: int = 1000) -> Region:
    """One operation over ``n`` elements."""
    row, operands, result = case
    layouts = tuple(Layout(dtype, None, (n,), True) for dtype in operands)
    count = len(operands)
    step = Instruction(row, tuple(range(count)), (count,), (result,))
    whole = Layout(result, None, (n,), True)
    return Region((n,), layouts, (step,), (count,), (whole,), None, "asked", WATCHED)


def piece_of(
    case: Case, watch: frozenset[str] = WATCHED, scalars: frozenset[int] = frozenset()
) -> Piece | str:
    """What one operation does to an element."""
    return piece(replace(region_of(case), watch=watch), (len(case[1]),), watch, scalars)


def text_of(found: Sequence[tuple[Case, Piece]]) -> str:
    """A kernel that does the operation whose number it is told, and keeps each element's flags."""
    lines = [device_prelude(PARTS), "struct Words { long long w[8]; };"]
    body = []
    for number, (case, one) in enumerate(found):
        given = [f"const {ctype(dtype)} in{k}" for k, dtype in enumerate(case[1])]
        given += [f"{ctype(case[2])}& to", "unsigned long long& flags"]
        lines.append(f"DP void step{number}({', '.join(given)}) {{\n{one.lines}  to = out0;\n}}")
        taken = [f"((const {ctype(dtype)}*)p.w[{k + 4}])[i]" for k, dtype in enumerate(case[1])]
        taken += [f"(({ctype(case[2])}*)p.w[2])[i]", "flags"]
        body.append(f"      case {number}: step{number}({', '.join(taken)}); break;")
    lines += [
        f'extern "C" __global__ void __launch_bounds__(256) {NAME}(const Words p) {{',
        "  const long long step = (long long)gridDim.x * blockDim.x;",
        "  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < p.w[1];",
        "       i += step) {",
        "    unsigned long long flags = 0ull;",
        "    switch ((int)p.w[0]) {",
        *body,
        "    }",
        "    ((unsigned long long*)p.w[3])[i] = flags;",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


class Kernels:
    """Operations compiled together."""

    def __init__(self, found: Sequence[tuple[Case, Piece]]) -> None:
        self._device = VirtualDevice(7)
        self._numbers = {id(one): number for number, (_, one) in enumerate(found)}
        self._kernel = self._device.load(self._device.compile(text_of(found), NAME), NAME)

    def run(
        self, case: Case, one: Piece, operands: Sequence[numpy.ndarray]
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Results, and the flags of each element."""
        n = len(operands[0])
        results = [numpy.empty(n, case[2]), numpy.empty(n, numpy.uint64)]
        memories = [self._device.alloc(max(array.nbytes, 1)) for array in (*results, *operands)]
        for memory, array in zip(memories[2:], operands, strict=True):
            self._device.to_device(memory, 0, numpy.ascontiguousarray(array).view(numpy.uint8))
        words = [self._numbers[id(one)], n, *[memory.address for memory in memories]]
        self._device.launch(self._kernel, 2, 64, [*words, *[0] * (8 - len(words))])
        for memory, array in zip(memories, results, strict=False):
            self._device.to_host(array.view(numpy.uint8), memory, 0)
        return results[0], results[1]
