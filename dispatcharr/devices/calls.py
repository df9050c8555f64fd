"""What the parts of a CUDA device share: how they call the driver, and how they end in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from dispatcharr.devices.device import DeviceError, DeviceMemoryError

__all__ = ["MAPPED", "PORTABLE", "UNTIMED", "Calls", "drain", "surely"]

#: Flags of cuMemHostAlloc: pinned for every context, and to be seen by kernels.
PORTABLE, MAPPED = 1, 2
#: A flag of cuEventCreate: without a clock.
UNTIMED = 2


class Calls(Protocol):
    """The driver's functions, for threads that this sets up at their first call."""

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver; raise what it returned unless that is success."""

    def handle(self, name: str, *arguments: Any) -> int:
        """Return the handle or address that a function stores through its first parameter."""


def surely(act: Callable[[], object]) -> None:
    """Do something that an interrupt must not keep from being done; it is raised afterwards."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            act()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def drain(calls: Calls, stream: int) -> None:
    """Return when a stream is at rest; the error that leads here is told, not one of this."""
    with suppress(DeviceError, DeviceMemoryError):
        surely(lambda: calls.call("cuStreamSynchronize", stream))
