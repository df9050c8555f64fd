"""Memory for kernels: device addresses of what they read, and of what they write.

See :mod:`dispatcharr.storage.places` for the rules, and for what the host does.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy
from numpy.lib.array_utils import byte_bounds

from dispatcharr.devices.device import Memory
from dispatcharr.storage import mirrors
from dispatcharr.storage.exports import is_visible, root_of
from dispatcharr.storage.mirrors import (
    ALIGNMENT,
    SMALL,
    Place,
    bytes_at,
    counters,
    find,
    pointer,
    table,
)  # fmt: skip

__all__ = [
    "address", "adopt", "covers", "duplicated", "received", "refusal", "running", "sent", "target",
    "watch", "written",
]  # fmt: skip

#: A view of less than this part of its root is not worth the whole.
_PART = 4
#: Who is writing on the host now, each with its ``roots``, as long as they live.
hands: weakref.WeakSet[Any] = weakref.WeakSet()
_watches: list[Callable[[], int]] = []


def watch(count: Callable[[], int]) -> None:
    """Have ``count`` asked whether anybody writes to host memory who does not say where."""
    _watches.append(count)


def refusal(host: numpy.ndarray) -> str | None:
    """Return why the memory of ``host`` cannot have a mirror; it is copied for each run then."""
    root = root_of(host)
    if root.dtype.hasobject:
        return "it holds objects"
    if root.base is not None or not root.flags.owndata:
        return "its memory belongs to somebody else"
    if is_visible(root):
        return "others can see its memory"
    with mirrors.lock:
        place = find(root)
    if root.nbytes <= SMALL and (place is None or place.memory is None):
        return "it is small, and views of it are not counted"
    return None


def _is_written(root: numpy.ndarray) -> bool:
    if any([root is other for hand in list(hands) for other in hand.roots]):
        return True
    return any([count() for count in _watches])


def _is_rented(host: numpy.ndarray, root: numpy.ndarray, place: Place | None) -> bool:
    """Return whether ``host`` is better copied for this run than all of its memory for good."""
    low, high = byte_bounds(host)
    if host is root or (high - low) * _PART > root.nbytes:
        return False
    if place is None:
        place = mirrors.enter(root)
    place.rented += high - low
    return bool(place.rented < place.nbytes)


def address(host: numpy.ndarray, device: Any = None) -> int:
    """Return the device address of the first element of ``host``, with its bytes there.

    It holds until the run ends that this is called in (:class:`running`).
    """
    if device is not None and mirrors.device_in_use() is None:
        mirrors.use(device)
    run = _run("address")
    with mirrors.lock:
        mirrors.sweep()
        root = root_of(host)
        place = find(root)
        if place is not None and place.lost is not None:
            raise mirrors.lost(place)
        if place is None or not place.on_device:
            # What another thread is about to overwrite there must not be overwritten from here.
            aimed = place is not None and mirrors.is_aimed_at(place, but=run)
            if aimed or refusal(host) or _is_written(root) or _is_rented(host, root, place):
                found = run.copy(host, root)
            else:
                place = find(root) or mirrors.enter(root)
                mirrors.upload(place)
                run.pin(place)
                found = place.address(host)
        else:
            run.pin(place)
            found = place.address(host)
    mirrors.tell_home()
    return found


def target(host: numpy.ndarray, fresh: bool = False) -> int:
    """Return the device address of memory that a kernel is about to overwrite.

    Nothing is copied where ``host`` is all of its root. What is not told of by :func:`written` in
    the same run counts as untouched.

    Parameters
    ----------
    host : numpy.ndarray
        Every element of it is written.
    fresh : bool
        Whether it was allocated for this result: nobody has seen it, however small it is.
    """
    run = _run("target")
    with mirrors.lock:
        mirrors.sweep()
        root = root_of(host)
        place = find(root)
        if place is not None and place.lost is not None:
            raise mirrors.lost(place)
        fresh = fresh or (place is not None and place.fresh)
        if place is None or place.memory is None:
            refused = not fresh and (refusal(host) or _is_written(root))
            if refused or root.dtype.hasobject or (not fresh and _is_rented(host, root, place)):
                return run.output(host)
            place = find(root) or mirrors.enter(root)
        whole = place.on_host and (fresh or covers(host, place))
        if whole:
            mirrors.reserve(place)
        elif not place.on_device:
            mirrors.upload(place)
        run.aim(place)
        found = place.address(host)
    mirrors.tell_home()
    return found


def covers(host: numpy.ndarray, place: Place) -> bool:
    """Return whether writing ``host`` writes all of its root."""
    return host.nbytes == place.nbytes and _is_dense(host)


def _is_dense(host: numpy.ndarray) -> bool:
    """Return whether the elements lie side by side, each once, in whatever order."""
    expected = host.itemsize
    for stride, extent in sorted(zip(map(abs, host.strides), host.shape, strict=True)):
        if extent != 1:
            if stride != expected:
                return False
            expected *= extent
    return True


def written(hosts: Iterable[numpy.ndarray]) -> None:
    """Note that a kernel was given to the device that writes ``hosts``: their roots are away."""
    run = mirrors.current_run()
    with mirrors.lock:
        outputs = []
        for host in hosts:
            if run is not None and id(host) in run.outputs:
                outputs.append(host)
            else:
                _went_away(host, run)
        mirrors.changed.notify_all()
        # This may wait for runs of other threads, which must not wait for this one.
        for host in outputs:
            run.fetch(host)
    mirrors.tell_home()


def _went_away(host: numpy.ndarray, run: running | None) -> None:
    root = root_of(host)
    place = find(root)
    if place is None or place.memory is None:
        raise RuntimeError("written: wanted memory that is a target of this run")
    # In this order: an interrupt must not leave rubbish that nobody knows of.
    mirrors.tell_away(place)
    if place.fresh and run is not None:
        # Results are where the program wanted their operands to be.
        place.assigned = any([other.assigned for other in run.pinned if other is not place])
    place.fresh = False
    place.on_device, place.on_host = True, False
    if run is not None and place in run.targets:
        run.targets.remove(place)
    if is_visible(root):
        mirrors.drop(place)


def adopt(
    memory: Any, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...] | None = None
) -> numpy.ndarray:
    """Return a new array whose bytes are those of ``memory``; its host memory is not touched."""
    made = (
        numpy.empty(shape, dtype)
        if strides is None
        else numpy.ndarray(shape, dtype, strides=strides)
    )
    with mirrors.lock:
        mirrors.sweep()
        place = mirrors.enter(made)
        place.pad = 0
        place.memory = memory
        counters["mirrors"] += 1
        counters["mirror_bytes"] += place.nbytes
        mirrors.tell_away(place)
        place.on_device, place.on_host = True, False
    return made


def sent(host: numpy.ndarray) -> numpy.ndarray:
    """Return a new array with the values of ``host``, whose bytes are on the device alone."""
    source = numpy.ascontiguousarray(host)
    with mirrors.lock:
        memory = mirrors.alloc(max(source.nbytes, 1))
        if source.nbytes:
            mirrors.put(memory, 0, bytes_at(pointer(source), source.nbytes))
        return adopt(memory, host.shape, host.dtype)


def received(
    address: int, shape: tuple[int, ...], dtype: numpy.dtype[Any], strides: tuple[int, ...]
) -> numpy.ndarray:
    """Return a new array with the values at an address of the device, which somebody else holds."""
    steps = [(extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)]
    if 0 in shape:
        return sent(numpy.empty(shape, dtype))
    low = sum([min(step, 0) for step in steps])
    nbytes = sum([max(step, 0) for step in steps]) + dtype.itemsize - low
    with mirrors.lock:
        memory = mirrors.alloc(nbytes)
        mirrors.clone(memory, Memory(address + low, nbytes, None), 0, nbytes)
        whole = adopt(memory, (nbytes,), numpy.uint8)
    return numpy.ndarray(shape, dtype, whole, -low, strides)


def duplicated(host: numpy.ndarray, into: Any = None) -> tuple[Any, int]:
    """Return device memory with a copy of what ``host`` spans, and where its first element is.

    Parameters
    ----------
    host : numpy.ndarray
        An array that is on the device.
    into : Memory, optional
        Memory to use where it is large enough.
    """
    with running() as run, mirrors.lock:
        place = find(root_of(host))
        if place is None or not place.on_device:
            raise RuntimeError("duplicated: wanted an array that is on the device")
        run.pin(place)
        low, high = byte_bounds(host) if host.size else (pointer(host), pointer(host))
        fits = into is not None and into.nbytes >= high - low
        memory = into if fits else mirrors.alloc(max(high - low, 1))
        if high > low:
            mirrors.clone(memory, place.memory, place.pad + low - place.low, high - low)
    return memory, pointer(host) - low


class running:
    """A kernel's run: what it was given addresses of stays where it is; a context manager.

    Targets that were not told of by :func:`written` when it ends count as untouched. An interrupt
    may come at any moment: what is in the lists is used, and nothing else says so.
    """

    __slots__ = (
        "__weakref__", "_before", "copies", "held", "outputs", "pinned", "targets", "thread",
    )  # fmt: skip

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.held: list[Any] = []
        self.pinned: list[Place] = []
        self.targets: list[Place] = []
        #: Copies for this run alone: low and high host address, memory.
        self.copies: list[tuple[int, int, Any]] = []
        #: Memory whose elements come home when they were written, by id of the target.
        self.outputs: dict[int, tuple[numpy.ndarray, Any]] = {}
        self._before: weakref.ref[running] | None = None

    def __enter__(self) -> running:
        self._before = getattr(mirrors.here, "run", None)
        mirrors.here.run = weakref.ref(self)
        return self

    def __exit__(self, *exc: object) -> None:
        mirrors.here.run = self._before
        self.end()

    def __del__(self) -> None:
        # An interrupt may have kept it from being made, too.
        if getattr(self, "pinned", None) or getattr(self, "targets", None):
            self.end()

    def end(self) -> None:
        """Let go of everything."""
        with mirrors.lock:
            while self.targets:
                self._give_up(self.targets[-1])
                self.targets.pop()
            self.pinned.clear()
            mirrors.changed.notify_all()
        self.held.clear()
        self.copies.clear()
        self.outputs.clear()

    def _give_up(self, place: Place) -> None:
        # What a kernel may have half written counts only if there is nothing else.
        if place.on_host and table.get(place.key) is place:
            if mirrors.is_aimed_at(place, but=self):
                place.on_device = False
            else:
                mirrors.remove(place)

    def pin(self, place: Place) -> None:
        """Keep a mirror where it is, and call it used; the lock is held."""
        mirrors.runs.add(self)
        self.held.append(place.memory)
        self.pinned.append(place)
        if table.get(place.key) is place:
            table[place.key] = table.pop(place.key)

    def aim(self, place: Place) -> None:
        """Note that a mirror is about to be written; the lock is held."""
        self.pin(place)
        self.targets.append(place)

    def copy(self, host: numpy.ndarray, root: numpy.ndarray) -> int:
        """Return the address of a copy of ``host`` for this run; the lock is held."""
        low, high = byte_bounds(host)
        for start, stop, memory in self.copies:
            if start <= low and high <= stop:
                return int(memory.address) + start % ALIGNMENT + pointer(host) - start
        if root.base is None and root.flags.owndata and root.nbytes <= 2 * (high - low):
            low, high = byte_bounds(root)  # the other views of a stencil will want it too
        counters["temporary"] += 1
        memory = mirrors.alloc(high - low + low % ALIGNMENT)
        self.copies.append((low, high, memory))
        mirrors.put(memory, low % ALIGNMENT, bytes_at(low, high - low))
        return int(memory.address) + low % ALIGNMENT + pointer(host) - low

    def output(self, host: numpy.ndarray) -> int:
        """Return the address of memory from which ``host`` gets its elements afterwards."""
        counters["temporary"] += 1
        low, high = byte_bounds(host)
        memory = mirrors.alloc(high - low + low % ALIGNMENT)
        self.outputs[id(host)] = host, memory
        return int(memory.address) + low % ALIGNMENT + pointer(host) - low

    def fetch(self, host: numpy.ndarray) -> None:
        """Copy the elements of an output home; the lock is held."""
        _, memory = self.outputs.pop(id(host))
        low, high = byte_bounds(host)
        came = numpy.empty(high - low, numpy.uint8)
        mirrors.take(came, memory, low % ALIGNMENT)
        first = pointer(host) - low
        view = numpy.ndarray(host.shape, host.dtype, came, first, host.strides)
        mirrors.prepare_write(host)
        numpy.copyto(host, view)


def _run(name: str) -> running:
    run: running | None = mirrors.current_run()
    if run is None:
        raise RuntimeError(f"{name}: wanted a run to hold the memory; call it inside running()")
    return run
