"""What a device is expected to take before anybody has measured it.

Figures are seconds, bytes and bytes per second, as in a profile, and lean to one side: copies are
slow and launches dear, which leaves work on the host unless a device wins by a margin. Calibration
replaces them one by one.

A cost class costs so many simple operations of a lane; how many lanes there are, and how fast they
are, the device tells. Double precision is slower by the ratio that it tells too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatcharr.devices.device import Props

__all__ = ["FIGURES", "expected"]

#: What has one value: our own steps before a launch, the launch, a further launch of a reduction,
#: a copy however short, waiting for a result that is read at once, building a kernel; and the share
#: of the host's price that a device may ask at most before data is moved there.
FIGURES: Mapping[str, float] = {
    "overhead": 12e-6,
    "launch": 3e-6,
    "pass": 5e-6,
    "copy": 10e-6,
    "sync": 15e-6,
    "compile": 0.1,
    "margin": 0.7,
}
#: Bytes per second between host and device, by the first figure of what kernels are compiled for:
#: what the bus of that generation gives to memory that the system may move.
_BUS: Mapping[str, float] = {"7": 6e9, "8": 9e9, "9": 14e9, "10": 14e9, "12": 12e9}
_ANY_BUS = 6e9
#: Lanes of a multiprocessor, and the share of their speed that is taken for granted.
_LANES, _SHARE = 128, 0.5
_L2_GAIN = 2.0

#: Simple operations per element: float32, float64 (before the ratio), int32, int64.
_OPERATIONS: Mapping[str, tuple[float, float, float, float]] = {
    "copy": (0.5, 0.5, 0.5, 1.0),
    "generate": (1.0, 1.0, 1.0, 2.0),
    "cast": (1.0, 1.0, 1.0, 2.0),
    "arith": (1.0, 1.0, 2.0, 4.0),
    "divide": (8.0, 10.0, 20.0, 60.0),
    "int_divide": (20.0, 30.0, 20.0, 60.0),
    "compare": (1.0, 1.0, 1.0, 2.0),
    "predicate": (1.0, 1.0, 1.0, 2.0),
    "select": (1.0, 1.0, 1.0, 2.0),
    "step": (2.0, 2.0, 2.0, 2.0),
    "round": (2.0, 2.0, 1.0, 1.0),
    "sqrt": (8.0, 10.0, 10.0, 12.0),
    "exp": (20.0, 30.0, 30.0, 30.0),
    "log": (20.0, 35.0, 35.0, 35.0),
    "power": (80.0, 120.0, 60.0, 100.0),
    "float_power": (120.0, 120.0, 120.0, 120.0),
    "trig": (25.0, 40.0, 40.0, 40.0),
    "tan": (30.0, 50.0, 50.0, 50.0),
    "inverse_trig": (30.0, 45.0, 45.0, 45.0),
    "hyperbolic": (30.0, 45.0, 45.0, 45.0),
    "tanh": (30.0, 50.0, 50.0, 50.0),
    "atan2": (40.0, 60.0, 60.0, 60.0),
    "hypot": (20.0, 30.0, 30.0, 30.0),
    "special": (80.0, 120.0, 100.0, 150.0),
    "reduce_sum": (2.0, 2.0, 2.0, 4.0),
    "reduce_minmax": (2.0, 2.0, 2.0, 4.0),
    "reduce_prod": (2.0, 2.0, 4.0, 8.0),
    "reduce_logical": (1.0, 1.0, 1.0, 2.0),
    "reduce_arg": (4.0, 4.0, 4.0, 8.0),
    "reduce_count": (2.0, 2.0, 2.0, 4.0),
    "reduce_moments": (6.0, 6.0, 8.0, 12.0),
}
#: Columns of the table for each dtype character, and how many such operations it takes of them.
_COLUMNS: Mapping[str, tuple[int, float]] = {
    "f": (0, 1.0), "d": (1, 1.0), "e": (0, 1.5), "F": (0, 4.0), "D": (1, 4.0),
    **dict.fromkeys("?bBhHiI", (2, 1.0)), **dict.fromkeys("lLqQ", (3, 1.0)),
}  # fmt: skip


def expected(props: Props) -> dict[str, Any]:
    """Return the figures of a device of which nothing but ``props`` is known.

    Besides :data:`FIGURES` there are ``to_device`` and ``to_host``, bytes per second of copies;
    ``bandwidth`` of ``L2`` and ``memory``; and ``op``, seconds per element by cost class and dtype
    character.
    """
    family = props.target.partition("_")[2].rstrip("af")
    bus = _BUS.get(family[:-1], _ANY_BUS)
    memory = props.memory_bandwidth
    return {
        **FIGURES,
        "to_device": bus,
        "to_host": bus,
        "bandwidth": {"L2": _L2_GAIN * memory, "memory": memory},
        "op": _op_seconds(props),
    }


def _op_seconds(props: Props) -> dict[str, dict[str, float]]:
    single = props.multiprocessors * _LANES * props.clock_hz * _SHARE
    ratios = {1: float(max(props.double_ratio, 1))}
    return {
        cost: {
            char: row[column] * times * ratios.get(column, 1.0) / single
            for char, (column, times) in _COLUMNS.items()
        }
        for cost, row in _OPERATIONS.items()
    }
