"""What a virtual device does, one task after another, and the machine that it is done on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import ref

import numpy

from dispatcharr.devices.device import DeviceError
from dispatcharr.devices.shim import Program, Report
from dispatcharr.devices.virtual_memory import Block, Memories

__all__ = ["COPY", "LINK", "Copy", "Free", "FreeWord", "Launch", "Machine", "Task", "Upload"]

#: Seconds of a launch and of a copy, and bytes a second between host and device.
LAUNCH, COPY, LINK = 3e-6, 10e-6, 50e9


class Machine:
    """What tasks change.

    Attributes
    ----------
    memories : Memories
        All there is.
    bandwidth : float
        Bytes of it that go by in a second.
    seconds : float
        Computed time of all that was done so far.
    words : deque of numpy.ndarray
        Words of flags that can be handed out.
    flags : dict
        Those that are handed out, by their addresses.
    faults : dict
        How many calls of a kind go well before how many fail.
    """

    def __init__(self, memories: Memories, bandwidth: float) -> None:
        self.memories = memories
        self.bandwidth = bandwidth
        self.seconds = 0.0
        self.words: deque[numpy.ndarray] = deque()
        self.flags: dict[int, ref[Any]] = {}
        self.faults: dict[str, list[int]] = {}

    def due(self, what: str) -> bool:
        """Return whether this call of ``what`` shall fail, and count it."""
        fault = self.faults.get(what)
        if fault is None:
            return False
        if fault[0] > 0:
            fault[0] -= 1
            return False
        fault[1] -= 1
        if fault[1] <= 0:
            del self.faults[what]
        return True


class Task(Protocol):
    """What waits in a queue. One that is not over when it is interrupted is run again."""

    @property
    def over(self) -> bool: ...

    def run(self, machine: Machine) -> None: ...


class Launch:
    """A kernel that waits."""

    def __init__(self, kernel: Program, grid: int, block: int, words: Sequence[int]) -> None:
        self.kernel = kernel
        self.grid, self.block, self.words = grid, block, tuple(words)
        self.touched: list[Block] = []
        self.schedule = self.seed = 0
        self.report = Report()

    @property
    def over(self) -> bool:
        return bool(self.report.finished)

    def run(self, machine: Machine) -> None:
        if machine.due("launch"):
            raise DeviceError(f"{self.kernel.name}: a failure that was asked for")
        self.kernel.run(self.grid, self.block, self.words, self.schedule, self.seed, self.report)
        machine.seconds += LAUNCH
        for block in dict.fromkeys(self.touched):
            machine.seconds += block.nbytes / machine.bandwidth
            trouble = machine.memories.check(block)
            if trouble is not None:
                raise DeviceError(f"{self.kernel.name}: {trouble}")


class Upload:
    """A copy from the host that waits, with what the host held when it was asked for."""

    over = False

    def __init__(self, block: Block, offset: int, content: bytes) -> None:
        self.block, self.offset, self.content = block, offset, content

    def run(self, machine: Machine) -> None:
        content = numpy.frombuffer(self.content, numpy.uint8)
        self.block.bytes[self.offset : self.offset + content.size] = content
        machine.seconds += COPY + content.size / LINK


class Copy:
    """A copy on the device that waits."""

    over = False

    def __init__(
        self, target: Block, target_offset: int, source: Block, source_offset: int, nbytes: int
    ) -> None:
        self.target, self.to = target, slice(target_offset, target_offset + nbytes)
        self.source, self.of = source, slice(source_offset, source_offset + nbytes)

    def run(self, machine: Machine) -> None:
        self.target.bytes[self.to] = self.source.bytes[self.of]
        size = self.of.stop - self.of.start
        machine.seconds += LAUNCH + 2 * size / machine.bandwidth


class Free:
    """Memory that goes when all work before it is done."""

    over = False

    def __init__(self, block: Block) -> None:
        self.block = block

    def run(self, machine: Machine) -> None:
        trouble = machine.memories.check(self.block)
        machine.memories.free(self.block)
        if trouble is not None:
            raise DeviceError(f"free: {trouble}")


class FreeWord:
    """A word of flags that can be handed out again when all work before it is done."""

    over = False

    def __init__(self, address: int, word: numpy.ndarray) -> None:
        self.address, self.word = address, word

    def run(self, machine: Machine) -> None:
        machine.flags.pop(self.address, None)
        machine.words.append(self.word)
