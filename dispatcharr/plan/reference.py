"""A region on plain NumPy, whole arrays at a time: what every backend's answer is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from dispatcharr.ops.row import Elementwise
from dispatcharr.plan.region import Region

__all__ = ["disagreement", "run_reference"]

#: Distance of transcendentals, in units in the last place: NumPy's and ours are each promised to be
#: within 4 of the exact result. Sums may differ by more.
ULPS = 8


def run_reference(region: Region, inputs: Sequence[numpy.ndarray]) -> list[numpy.ndarray]:
    """Return the outputs of ``region`` computed by NumPy over its collapsed space."""
    registers: list[Any] = [
        layout.view(buffer) for layout, buffer in zip(region.inputs, inputs, strict=True)
    ]
    with numpy.errstate(all="ignore"):
        for instruction in region.program:
            operands = tuple(registers[i] for i in instruction.operands)
            row = instruction.row
            result = numpy.empty(region.shape, instruction.dtypes[0])
            if not isinstance(row, Elementwise):
                row.fill(instruction.params, 0, result)
            elif row.fill is not None:
                row.fill(operands, result)
            else:
                row.ufunc(*operands, out=result)  # type: ignore[misc]
            registers.append(result)
        found = [numpy.broadcast_to(registers[i], region.shape) for i in region.outputs]
        if region.reducing is not None:
            reducing = region.reducing
            state = reducing.partial(registers, region.shape)
            result = reducing.row.finish(state, reducing.count, dict(reducing.params))
            found.append(result.astype(reducing.dtype))
    return found


def disagreement(
    region: Region, inputs: Sequence[numpy.ndarray], outputs: Sequence[numpy.ndarray]
) -> str | None:
    """Compare ``outputs`` with NumPy's; on a mismatch put NumPy's in their place and say what.

    Outputs that overwrite inputs cannot be checked and count as agreeing.
    """
    if any(numpy.may_share_memory(i, o) for i in inputs for o in outputs):
        return None
    expected = run_reference(region, inputs)
    layouts = [layout.view for layout in region.output_layouts]
    worst: str | None = None
    for place, (wanted, buffer) in enumerate(zip(expected, outputs, strict=True)):
        got = layouts[place](buffer) if place < len(layouts) else buffer.reshape(wanted.shape)
        exact = wanted.dtype.kind in "biu"
        if exact:
            agrees = bool(numpy.array_equal(got, wanted))
        else:
            reach = region.elements if place >= len(layouts) else 1
            eps = float(numpy.finfo(buffer.dtype).eps)
            tolerance = ULPS * eps * max(len(region.program), 1) * max(reach, 1) ** 0.5
            agrees = bool(numpy.allclose(got, wanted, rtol=tolerance, atol=0, equal_nan=True))
        if not agrees:
            worst = f"output {place} differs"
            numpy.copyto(got, wanted, casting="unsafe")
    return worst
