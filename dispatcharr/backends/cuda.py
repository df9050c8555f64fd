"""A CUDA device: fused kernels from the op table's rows, run where the data are.

A region is bound to its layouts once (``kernels.cuda_bind``), its kernels are compiled in the
background (``kernels.cuda_build``), and every run after that looks up addresses and launches. Where
the data are, and what has to move, is kept by ``storage.places``. Runs are queued: nobody waits for
the device until somebody looks at a result on the host. What floating-point errors were met is told
then, too.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy

from dispatcharr._forks import Late
from dispatcharr.backends.base import Elsewhere, LateErrors, Profile, Rates, device_rates
from dispatcharr.devices import found
from dispatcharr.devices.device import Device, DeviceError, FlagWord
from dispatcharr.plan.region import AGAIN, Region
from dispatcharr.storage import places

if TYPE_CHECKING:
    from dispatcharr.kernels import cuda_bind, cuda_build
    from dispatcharr.kernels.cuda_source import Bound
else:  # a machine without a device never needs them
    cuda_bind = Late("dispatcharr.kernels.cuda_bind")
    cuda_build = Late("dispatcharr.kernels.cuda_build")

__all__ = ["BACKEND"]

_Arrays = Sequence[numpy.ndarray]
_Errors = frozenset[tuple[str, str]]
_Names = Sequence[tuple[str, str]]
_NONE: _Errors = frozenset()


#: By region, what it is for layouts that were spoken of.
_spoken: weakref.WeakKeyDictionary[Region, list[Bound]] = weakref.WeakKeyDictionary()


class Cuda:
    """The first CUDA device of this process, or the one that DISPATCHARR_CUDA_DEVICE names."""

    name = "cuda"
    place = "cuda"

    def available(self) -> str | None:
        """Return None when there is a device, its driver and a compiler, else what is missing."""
        why = found.why()
        if not why and not places.enabled():
            # From now on it is asked of every array where it is.
            places.use(found.device())
        return why or None

    def supports(self, region: Region) -> str | None:
        """Return None when ``region`` has a kernel, else the reason why not."""
        return cuda_bind.refusal(region) if found.device() is not None else found.why()

    def rates(self, profile: Profile) -> Rates:
        """Return the device's speeds, as ``profile`` measured them or the device describes them."""
        return device_rates(profile, _device().props)

    def kernel(self, region: Region, inputs: _Arrays, outputs: _Arrays) -> Hashable | None:
        """Return what names the kernels for such buffers."""
        bound = _bound(region, inputs, outputs)
        return None if isinstance(bound, str) else tuple([s.text for s in bound.sources])

    def ready(self, region: Region) -> bool:
        """Return whether the kernels are loaded, for buffers that were spoken of."""
        device, spoken = found.device(), _spoken.get(region, ())
        if device is None:  # it failed, or this is a forked child
            return False
        return any([_kernels(device, one) is not None for one in spoken])

    def order(
        self,
        region: Region,
        inputs: _Arrays,
        outputs: _Arrays,
        stored: bool = False,
        wait: bool = False,
    ) -> str | None:
        """Have the kernels compiled in the background; return None, or why they never can be."""
        bound = _bound(region, inputs, outputs)
        if isinstance(bound, str):
            return bound
        never = [cuda_build.order(_device(), s, stored, wait) for s in bound.sources]
        return next((why for why in never if why is not None), None)

    def run(
        self,
        region: Region,
        inputs: _Arrays,
        outputs: _Arrays,
        threads: int | None = None,
    ) -> _Errors | LateErrors:
        """Queue ``region``; return what will tell the floating-point errors met."""
        device = _device()
        bound = _bound(region, inputs, outputs)
        if isinstance(bound, str):
            raise DeviceError(f"cuda: {bound}")
        kernels = _kernels(device, bound) or _built(device, bound)
        flags = device.flags() if bound.flags else None
        with places.running():
            # An array of no dimensions is a number, which travels in the launch itself.
            reads = [host if host.ndim == 0 else places.address(host) for host in inputs]
            writes = [places.target(host) for host in outputs]
            scratch = device.alloc(bound.scratch) if bound.scratch else None
            launches = bound.launches(
                reads,
                writes,
                0 if scratch is None else scratch.address,
                0 if flags is None else flags.address,
            )
            for which, grid, block, words in launches:
                device.launch(kernels[which], grid, block, words)
            if flags is not None and any([kind == AGAIN for kind, _ in bound.flags]):
                _check(device, flags, bound.flags)
            # Before some of the results come home, which waits for the errors too.
            told = _NONE if flags is None else _later(device, flags, bound.flags)
            places.written(outputs)
        return told

    def wait(self) -> None:
        """Return when the device has done all that it was given."""
        device = found.device()
        if device is not None:
            device.synchronize()


def _device() -> Device:
    device = found.device()
    if device is None:
        raise DeviceError(f"cuda: {found.why()}")
    return device


def _check(device: Device, flags: FlagWord, names: _Names) -> None:
    """Raise Elsewhere where the values are such that NumPy's order of operations decides."""
    device.synchronize()
    for name in _told(flags, names):
        if name[0] == AGAIN:
            raise Elsewhere(f"the result of {name[1]} depends on the order, which is NumPy's here")


def _told(flags: FlagWord, names: _Names) -> _Errors:
    word = flags.read()
    return frozenset([name for bit, name in enumerate(names) if word >> bit & 1])


def _later(device: Device, flags: FlagWord, names: _Names) -> LateErrors:
    counters = device.counters
    before = counters["synchronizes"] + counters["to_host"]
    over = device.event()

    def late(wait: bool) -> _Errors | None:
        if wait:
            device.synchronize()
        # Another thread may have begun to wait before this was launched, and counted it since.
        elif counters["synchronizes"] + counters["to_host"] == before or not over.done():
            return None
        return _told(flags, names)

    return late


def _bound(region: Region, inputs: _Arrays, outputs: _Arrays) -> Bound | str:
    """Return the region bound to such layouts, or why it cannot be."""
    bound = cuda_bind.bind(region, inputs, outputs)
    if not isinstance(bound, str):
        spoken = _spoken.setdefault(region, [])
        if bound not in spoken:
            spoken.append(bound)
    return bound


def _kernels(device: Device, bound: Any) -> list[Any] | None:
    loaded = [cuda_build.ready(device, source) for source in bound.sources]
    return None if None in loaded else loaded


def _built(device: Device, bound: Any) -> list[Any]:
    for source in bound.sources:
        why = cuda_build.order(device, source, wait=True)
        if why is not None:
            raise DeviceError(f"cuda: {why}")
    return _kernels(device, bound) or []


BACKEND = Cuda()
