"""Kernels of a device by their source: those that are loaded, the others by and by.

Policy, once; it is that of :mod:`dispatcharr.kernels.build` for code of the host:

- Whoever computes does not wait for a compiler, unless it asks to. :func:`ready` answers from a
  table; what was ordered is loaded from disk or compiled on one thread in the background.
- Images are kept in the cache of the host's kernels, under the same limit and as distrustfully.
  Their keys are digests of the text and of what compiles it, for which device.
- A kernel that cannot be built is not tried again in this process. The reason is kept, in one line,
  and logged once. Want of device memory is no such reason: it passes.
- A process builds a bounded number of kernels, since loaded ones stay.
- The thread ends when its device is gone, and at the interpreter's end, which waits for the kernel
  that is being built. A forked child has no device, so nothing is kept for it.

Callers may be interrupted or reentered between any two operations, so they take no lock: all that
threads share is changed by single operations of built-in types.
"""

from __future__ import annotations

import _thread
import atexit
import hashlib
import os
import threading
import weakref
from queue import SimpleQueue

from dispatcharr.devices.device import CompileError, Device, DeviceError, DeviceMemoryError, Kernel
from dispatcharr.kernels.cache import Cache, user_cache
from dispatcharr.kernels.cuda_source import Source

__all__ = ["MOST", "Counts", "counts", "image_key", "order", "ready", "settle"]

#: Most kernels that a process builds for a device, failures included.
MOST = 4096
#: Seconds that an exit waits for the kernel that is being built.
_PATIENCE = 10.0


class Counts:
    """How many kernels were compiled here, found on disk, and could not be had."""

    __slots__ = ("compiled", "failed", "loaded")

    def __init__(self) -> None:
        self.compiled = self.loaded = self.failed = 0

    def __repr__(self) -> str:
        return f"<{self.compiled} compiled, {self.loaded} loaded, {self.failed} failed>"


class _Order:
    """One kernel to build, or without a source a mark that all before it is done."""

    __slots__ = ("done", "source", "stored")

    def __init__(self, source: Source | None, *, stored: bool = False) -> None:
        self.source = source
        self.stored = stored
        self.done = threading.Lock()
        self.done.acquire()


class _Line:
    """The kernels and orders of one device, which this does not keep alive."""

    def __init__(self, device: Device, cache: Cache | None) -> None:
        orders: SimpleQueue[_Order | None] = SimpleQueue()
        self.orders = orders
        #: Puts the mark that ends the thread.
        self.device = weakref.ref(device, lambda _: orders.put(None))
        self.cache = cache
        self.ready: dict[Source, Kernel] = {}
        self.failed: dict[Source, str] = {}
        self.absent: set[Source] = set()
        self.waiting: dict[Source, _Order] = {}
        self.counts = Counts()
        self.owners: list[int] = []
        self.started = False
        self.open = True
        self.unavailable: str | None = None
        # Held while a kernel is built: by the thread, and by whoever ends the process.
        self.working = threading.Lock()

    def serve_somehow(self) -> bool:
        """See to it that somebody serves the line; False if nobody does."""
        if not self.started and self.unavailable is None:
            try:
                # One C call: Thread.start() breaks when a signal handler raises into it.
                _thread.start_new_thread(_serve, (self,))
                self.started = True
            except RuntimeError as error:  # no threads here, no more allowed, or at exit
                self.unavailable = f"the system refused a thread to compile on: {error}"
        return self.started

    def build(self, wanted: _Order, device: Device) -> None:
        """Build what was ordered."""
        source = wanted.source
        if source is None or source in self.ready or source in self.failed:
            return
        try:
            kernel = _kernel(self, device, source, stored=wanted.stored)
            if kernel is None:
                self.absent.add(source)
            else:
                self.ready[source] = kernel
        except DeviceMemoryError:
            return
        except BaseException as error:  # kept as data; the thread has nobody to raise it to
            self._fail(source, error)

    def _fail(self, source: Source, error: BaseException) -> None:
        import logging

        reason = " ".join(f"{error}".split()) or type(error).__name__
        if not isinstance(error, (CompileError, DeviceError)):  # a mistake of ours: say where
            reason = f"{type(error).__name__}: {reason}"
        self.failed[source] = reason
        self.counts.failed += 1
        logging.getLogger("dispatcharr").info(f"a kernel was left to the host: {reason}")


_lines: weakref.WeakKeyDictionary[Device, _Line] = weakref.WeakKeyDictionary()


def ready(device: Device, source: Source) -> Kernel | None:
    """Return a kernel that is loaded, None if it is not; never wait."""
    line = _lines.get(device)
    return None if line is None else line.ready.get(source)


def order(device: Device, source: Source, stored: bool = False, wait: bool = False) -> str | None:
    """Have a kernel built, so that a later :func:`ready` has it.

    Parameters
    ----------
    device : Device
        Where it is to run.
    source : Source
        The kernel.
    stored : bool
        Take it from disk if an earlier process left it there, and compile nothing. The disk is
        looked at once for a kernel.
    wait : bool
        Return when it is there, or cannot be had.

    Returns
    -------
    str or None
        Why the kernel cannot be had in this process; None where it can, or may yet.
    """
    line = _line(device)
    if source in line.ready:
        return None
    if source in line.failed:
        return line.failed[source]
    if len(line.ready) + len(line.failed) + len(line.waiting) >= MOST:
        return (
            f"this process has built {MOST} kernels for {device.props.name}, which is the most it "
            "may; programs that need more make new ones all the time"
        )
    pending = line.waiting.get(source)
    if pending is None or not pending.done.locked() or (pending.stored and not stored):
        if stored and (line.cache is None or source in line.absent):
            return None
        pending = _Order(source, stored=stored)
        # In this order: whoever is interrupted in between has ordered nothing yet, or orders twice,
        # which costs nothing.
        if line.serve_somehow():
            line.orders.put(pending)
            line.waiting[source] = pending
        elif wait:
            line.build(pending, device)
            pending.done.release()
        else:
            return line.unavailable
    if wait:
        _wait(line, pending)
    return line.failed.get(source)


def settle(device: Device, timeout: float | None = None) -> bool:
    """Wait until all that was ordered is built or has failed; False if the time is up first."""
    line = _line(device)
    if not line.started:
        return True
    mark = _Order(None)
    line.orders.put(mark)
    return mark.done.acquire(timeout=-1 if timeout is None else timeout)


def counts(device: Device) -> Counts:
    """Return what was done for a device so far."""
    return _line(device).counts


def image_key(device: Device, source: Source) -> str:
    """Return the key of an image: a digest of the text and of all that its code depends on."""
    parts = (device.props.target, device.compiler, source.name, source.text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _line(device: Device) -> _Line:
    line = _lines.get(device)
    if line is None:  # of two made at once one is kept; the other has no thread yet
        line = _lines.setdefault(device, _Line(device, user_cache()))
    return line


def _wait(line: _Line, pending: _Order) -> None:
    # In pieces: an interrupt is heard, and at the interpreter's end nobody may be left to serve.
    while not pending.done.acquire(timeout=0.1):
        if not line.open:
            return
    pending.done.release()


def _kernel(line: _Line, device: Device, source: Source, *, stored: bool) -> Kernel | None:
    """Return a kernel, or None if only a stored one would do and there is none."""
    key = image_key(device, source)
    image = None if line.cache is None else line.cache.get(key)
    if image is not None:
        try:
            kernel = device.load(image, source.name)
            line.counts.loaded += 1
            return kernel
        except DeviceError as error:  # whole, but of no use here: it is compiled afresh
            if device.dead is not None:
                raise
            if line.cache is not None:
                line.cache.trouble = f"a stored kernel cannot be used: {error}"
    if stored:
        return None
    image = device.compile(source.text, source.name)
    if line.cache is not None:
        line.cache.put(key, image)
    kernel = device.load(image, source.name)
    line.counts.compiled += 1
    return kernel


def _serve(line: _Line) -> None:
    """Be the body of the thread. It keeps no device alive."""
    line.owners.append(_thread.get_ident())
    if line.owners[0] != _thread.get_ident():  # started twice, by two threads at once
        return
    threading.current_thread().name = "dispatcharr-cuda-compiler"  # for debuggers and profilers
    while line.open:
        wanted = line.orders.get()
        if wanted is None:
            return
        device = line.device()
        if device is not None:
            with line.working:
                line.build(wanted, device)
        if wanted.source is not None:
            line.waiting.pop(wanted.source, None)
        wanted.done.release()
        del wanted, device  # asleep, keep nothing alive


def _at_exit() -> None:
    for line in list(_lines.values()):
        line.open = False
        line.orders.put(None)
        # Not given back. Whoever is still compiling after this time meets its end in there.
        line.working.acquire(timeout=_PATIENCE)


def _after_fork_in_child() -> None:
    _lines.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
