"""Measure this machine: bandwidths, op costs, page faults, what calls and wake-ups cost, a device.

What is timed is what the blocks engine does: the rows' own NumPy calls on blocks that stay in
cache, the shared thread pool, fresh NumPy memory. A figure is a low quantile of several short
samples after one that is dropped, since other programs can only make a sample longer; without haste
it is the median of three such figures, taken seconds apart.

The time limit is hard. The most telling figures come first; every step looks at the clock, and what
is not reached keeps a shipped figure, scaled by how this machine compares to the shipped one so
far.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median
from typing import Any

from dispatcharr._errors import ProfileWarning, user_level
from dispatcharr.backends.base import Profile
from dispatcharr.devices.device import CompileError, Device, DeviceError, DeviceMemoryError
from dispatcharr.devices.found import device as found_device
from dispatcharr.route import measures
from dispatcharr.route.bench import Bench
from dispatcharr.route.probes import op_cost, probes

__all__ = ["LIMIT", "QUICK_LIMIT", "calibrate"]

LIMIT = 20.0
QUICK_LIMIT = 2.0
#: Seconds that are planned for; what is left to the limit is for steps that take longer.
_PLANNED, _QUICK_PLANNED = 12.0, 1.6
_ROUNDS = 3
#: Seconds after which nothing further of a device is measured.
_DEVICE, _QUICK_DEVICE = 2.5, 0.8

Progress = Callable[[float, str], None]


def calibrate(
    quick: bool = False,
    progress: Progress | None = None,
    overhead: Mapping[str, float] | None = None,
) -> Profile:
    """Measure this machine and return its profile; nothing is saved.

    Parameters
    ----------
    quick : bool
        Take at most 2 seconds in place of 20; a device takes up to 3 more.
    progress : callable, optional
        Called with the share that is done, 0 to 1, and what comes next.
    overhead : mapping, optional
        Seconds of ``record``, ``plan``, ``run`` or ``call`` from who can measure them, which the
        stations above this one can. Else the shipped ones count, at this interpreter's pace.

    Examples
    --------
    >>> calibrate(quick=True).source
    'calibrated'
    """
    rounds = 1 if quick else _ROUNDS
    limit = (QUICK_LIMIT if quick else LIMIT) / rounds
    planned = _QUICK_PLANNED if quick else _PLANNED / rounds
    found = []
    for number in range(rounds):

        def tell(share: float, what: str, number: int = number) -> None:
            if progress is not None:
                progress((number + share) / rounds, what)

        found.append(_measure(Bench.begin(planned, limit), tell))
    profile = _middle(found)
    device = found_device()
    if device is not None:
        if progress is not None:
            progress(1.0, device.props.name)
        figures = _device_figures(device, _QUICK_DEVICE if quick else _DEVICE)
        profile = replace(profile, devices={device.props.uuid: figures} if figures else {})
    if progress is not None:
        progress(1.0, "done")
    return replace(profile, overhead={**profile.overhead, **(overhead or {})})


def _device_figures(device: Device, budget: float) -> dict[str, Any]:
    """Return what a device takes; nothing, and a warning, where it fails at being measured."""
    from dispatcharr.route.device_measures import device_figures

    try:
        return device_figures(device, budget)
    except (DeviceError, DeviceMemoryError, CompileError) as error:
        warnings.warn(
            f"calibrate: the device {device.props.name} could not be measured: {error}. "
            "What is expected of it stands",
            ProfileWarning,
            stacklevel=user_level(),
        )
        return {}


def _measure(bench: Bench, tell: Progress) -> Profile:
    """Return one round's figures."""
    steps: tuple[tuple[str, float, Callable[[Bench, float], None]], ...] = (
        ("calls", 0.03, measures.call),
        ("threads", 0.12, measures.crew),
        ("caches", 0.10, measures.caches),
        ("memory", 0.15, measures.memory),
        ("fresh memory", 0.10, measures.fault),
        ("block size", 0.13, measures.block),
        ("operations", 0.37, _measure_ops),
    )
    done = 0.0
    for what, share, measure in steps:
        tell(done, what)
        # Steps may take twice what they plan, since there is a fewest number of samples.
        budget = min(share * bench.planned, bench.left() / 2)
        if budget > 0 and (measure is _measure_ops or not bench.late()):
            measure(bench, budget)
        done += share
    return bench.profile()


def _middle(found: list[Profile]) -> Profile:
    """Return the median of each figure: a burst of other work spoils one round, not three.

    Of bandwidths the best is taken. They are no differences, so they can only come out too low.
    """

    def joined(name: str, pick: Callable[[list[Any]], Any]) -> Any:
        return _joined([getattr(profile, name) for profile in found], pick)

    return replace(
        found[0],
        bandwidth=joined("bandwidth", max),
        fault=joined("fault", median),
        op=joined("op", median),
        overhead=joined("overhead", median),
        block_bytes=sorted(profile.block_bytes for profile in found)[len(found) // 2],
    )


def _joined(values: list[Any], pick: Callable[[list[Any]], Any]) -> Any:
    """Return one table of several, whose entries may differ where a round ran out of time."""
    if not isinstance(values[0], Mapping):
        return pick(values)
    keys = dict.fromkeys(key for value in values for key in value)
    return {key: _joined([value[key] for value in values if key in value], pick) for key in keys}


def _measure_ops(bench: Bench, budget: float) -> None:
    todo = list(probes())
    block = max(bench.shipped.cache_bytes["L2"] // 8, 16 << 10)
    # The last step has what the others left of the plan, and its share where they left less.
    now = time.perf_counter()
    end = max(bench.began + bench.planned, now + budget)
    for done, (cost, dtype) in enumerate(todo):
        left = end - time.perf_counter()
        if left <= 0:
            return
        # What cheap probes leave over is for the later ones.
        seconds = op_cost(cost, dtype, block, left / (len(todo) - done))
        if seconds is not None:
            bench.op.setdefault(cost, {})[dtype.char] = seconds
