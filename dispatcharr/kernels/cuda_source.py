"""What a region is for a CUDA device once its buffers are known: kernels and their launches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy

__all__ = ["Address", "Bound", "Launch", "Source"]

#: Where an operand's first element lies on the device; of an input without axes the array itself.
Address = int | numpy.ndarray
#: Index of the source, blocks, threads of a block, words.
Launch = tuple[int, int, int, list[int]]


@dataclass(frozen=True, slots=True)
class Source:
    """The text of one kernel, which is its identity, and the kernel's name in it."""

    text: str
    name: str


class Bound(Protocol):
    """A region with the layouts of its buffers, free of data.

    Attributes
    ----------
    sources : tuple of Source
        The kernels that :meth:`launches` may start.
    scratch : int
        Bytes of device memory that a run needs besides.
    flags : tuple of (str, str)
        What bit i of the word of flags tells: the kind of error and the operation.
    """

    @property
    def sources(self) -> tuple[Source, ...]:
        """The kernels."""

    @property
    def scratch(self) -> int:
        """Bytes of scratch memory."""

    @property
    def flags(self) -> tuple[tuple[str, str], ...]:
        """The errors that may be told."""

    def launches(
        self, inputs: Sequence[Address], outputs: Sequence[int], scratch: int, flags: int
    ) -> Iterable[Launch]:
        """Return what to launch, in order.

        Parameters
        ----------
        inputs, outputs : sequence of int
            Addresses of the operands' first elements on the device. For an input without axes
            the host's array of one element may stand instead: it is handed over by value.
        scratch, flags : int
            Addresses of the scratch memory and of the word of flags; 0 where there is none.
        """
