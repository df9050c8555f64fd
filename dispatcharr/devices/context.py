"""A GPU's context: started at the first call, set up in each thread, and given up once it fails.

It is the primary context, which CuPy, PyTorch and whatever else uses CUDA in this process share. It
is made current in a thread at the thread's first call, and again when a call fails because somebody
else has made another one current. It is never released: other libraries may outlive this one, and
the end of the process takes it down.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Any

from dispatcharr.devices.describe import describe
from dispatcharr.devices.device import DeviceError, DeviceMemoryError
from dispatcharr.devices.libcuda import STICKY, Driver, DriverError

__all__ = ["Context"]

#: Results of a call in a thread where another library has made its own context current.
_STRANGE_CONTEXT = frozenset((201, 400))
_NON_BLOCKING = 1


class _Here(threading.local):
    """Whether this thread is set up for the device."""

    ready = False


class Context:
    """What calls the driver for one device.

    Parameters
    ----------
    driver : Driver
        Initialised.
    ordinal : int
        Which of the driver's devices.

    Attributes
    ----------
    props : Props
        What is known of the device.
    dead : str or None
        Why it is used no more.
    in_stream, out_stream : int
        The streams of long copies, 0 before the start.
    """

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self.driver = driver
        self.device = driver.number("cuDeviceGet", ordinal)
        self.props = describe(driver, self.device)
        self.dead: str | None = None
        self.in_stream = self.out_stream = self._stream = self._context = 0
        self._starting = threading.Lock()
        self._here = _Here()
        # Bound here: when the last memory is collected the modules may be empty.
        self._process, self._getpid, self._ending = os.getpid(), os.getpid, sys.is_finalizing

    @property
    def stream(self) -> int:
        """The driver's handle of the stream that all kernels are in."""
        self.ready()
        return self._stream

    @property
    def started(self) -> bool:
        """Whether there is a context."""
        return self._context != 0

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver in this context; raise what it returns."""
        self.ready()
        code = self.driver.function(name)(*arguments)
        if code:
            self.failed(code, name, *arguments)

    def handle(self, name: str, *arguments: Any) -> int:
        """Return the handle or address that a function stores through its first parameter."""
        result = ctypes.c_uint64()  # as wide as any of them
        self.call(name, ctypes.byref(result), *arguments)
        return result.value

    def ready(self) -> None:
        """Set this thread up, and the device if this is the first call of all."""
        if not self._here.ready:
            self._enter()

    def usable(self) -> bool:
        """Return whether the driver may be called at all, in this process and at this time."""
        return self.dead is None and not self._ending() and self._getpid() == self._process

    def abandon(self, reason: str) -> None:
        """Use the device no more, and free nothing; every call raises ``reason`` from now on."""
        if self.dead is None:
            self.dead = reason
        self._here = _Here()

    def failed(self, code: int, name: str, *arguments: Any) -> None:
        """Raise what a call returned, unless it succeeds when this context is current."""
        if code in _STRANGE_CONTEXT and self._context:
            if self.driver.handle("cuCtxGetCurrent") != self._context:
                self.driver.call("cuCtxSetCurrent", self._context)
                code = self.driver.function(name)(*arguments)
        if code in STICKY:
            sentence = f"{name}: {self.driver.sentence(code)}"
            self.abandon(f"the GPU {self.props.name} failed and is not used any more: {sentence}")
            raise DriverError(str(self.dead), code)
        if code:
            self.driver.refuse(name, code)

    def _enter(self) -> None:
        if self.dead is not None:
            raise DeviceError(self.dead)
        here = self._here
        with self._starting:
            if not self._context:
                self._start()
        code = self.driver.function("cuCtxSetCurrent")(self._context)
        if code:
            self.failed(code, "cuCtxSetCurrent", self._context)
        here.ready = True

    def _start(self) -> None:
        """Make the context and the streams; a device where they cannot be had is given up."""
        driver = self.driver
        try:
            context = driver.handle("cuDevicePrimaryCtxRetain", self.device)
            driver.call("cuCtxSetCurrent", context)
            streams = [driver.handle("cuStreamCreate", _NON_BLOCKING) for _ in range(3)]
        except (DeviceError, DeviceMemoryError) as error:
            self.abandon(f"the GPU {self.props.name} cannot be started: {error}")
            raise DeviceError(self.dead) from error
        self._stream, self.in_stream, self.out_stream = streams
        self._context = context
