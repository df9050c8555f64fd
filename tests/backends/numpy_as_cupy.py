"""NumPy in the clothes of CuPy: arrays are device memory, results come from CuPy's allocator.

It answers what :mod:`dispatcharr.backends.cuda_library` asks of CuPy. Indices out of bounds wrap,
and linear algebra reports failures only where it is told to, as they do there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy

__all__ = ["Posing"]


class _Raw:
    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface


class _Memory:
    def __init__(self, address: int, nbytes: int, owner: Any, device: int) -> None:
        self.ptr, self.size, self._owner = address, nbytes, owner


class _Pointer:
    def __init__(self, mem: _Memory, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset


class _Array(numpy.ndarray):
    """An array in device memory; what NumPy derives of it is in the host's, and said to be so."""

    pointer: _Pointer | None = None

    def __new__(cls, shape: Any, dtype: Any, memptr: Any, strides: Any = None) -> _Array:
        interface = {
            "data": (memptr.ptr, False), "shape": shape, "strides": strides, "version": 3,
            "typestr": numpy.dtype(dtype).str,
        }  # fmt: skip
        made = numpy.asarray(_Raw(interface)).view(cls)
        made.pointer = memptr
        return made

    def __array_finalize__(self, other: Any) -> None:
        self.pointer = None

    @property
    def data(self) -> Any:
        if self.pointer is not None:
            return self.pointer
        return _Pointer(_Memory(self.__array_interface__["data"][0], self.nbytes, None, 0), 0)


class _Part:
    """A module: NumPy's functions, made to take and to give arrays in device memory."""

    def __init__(self, posing: Posing, module: Any) -> None:
        self._posing, self._module = posing, module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if isinstance(found, type) or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._posing.called.append(name)
            if name in self._posing.failing:
                raise self._posing.failing.pop(name)
            with numpy.errstate(all="ignore"):
                return self._posing.place(found(*_plain(args), **_plain(kwargs)))

        return call


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.view(numpy.ndarray)
    if type(value) in (tuple, list):
        return type(value)(_plain(item) for item in value)
    return {k: _plain(v) for k, v in value.items()} if type(value) is dict else value


class _Again:
    """A scope that is entered again and again, as streams are."""

    def __init__(self, posing: Posing) -> None:
        self._posing = posing

    def __enter__(self) -> None:
        self._posing.inside += 1

    def __exit__(self, *exc: object) -> None:
        self._posing.inside -= 1


class Posing(_Part):
    """The module ``cupy`` over a virtual device.

    Attributes
    ----------
    called : list of str
        Functions that were called.
    failing : dict
        Errors that functions raise once, by their names.
    computing : int
        The compute type of single precision.
    """

    ndarray = _Array

    def __init__(self, device: Any) -> None:
        super().__init__(self, numpy)
        self.device = device
        self.called: list[str] = []
        self.failing: dict[str, BaseException] = {}
        self.linalg = _Part(self, numpy.linalg)
        self.fft = _Part(self, numpy.fft)
        cache = SimpleNamespace(clear=lambda: self.called.append("clear"))
        self.fft.config = SimpleNamespace(get_plan_cache=lambda: cache)  # type: ignore[attr-defined]
        self.computing = self.least = 1
        self.inside = 0
        self._core = SimpleNamespace(get_compute_type=self._get, set_compute_type=self._set)
        self._alloc: Any = None
        self.cuda = SimpleNamespace(
            Device=lambda number: self._scope(), using_allocator=self._allocating,
            Stream=SimpleNamespace(from_external=self._stream), UnownedMemory=_Memory,
            MemoryPointer=_Pointer,
        )  # fmt: skip
        #: The other part of it.
        self.x = SimpleNamespace(errstate=lambda linalg: self._scope())

    def _get(self, dtype: Any) -> int:
        return self.computing

    def _set(self, dtype: Any, value: int) -> None:
        self.computing = value

    def _stream(self, stream: Any) -> Any:
        version, handle = stream.__cuda_stream__()
        assert (version, handle) == (0, self.device.stream)
        return _Again(self)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @contextmanager
    def _allocating(self, allocator: Any) -> Iterator[None]:
        self._alloc = allocator
        with self._scope():
            # What was copied to the device has to be there.
            self.device.synchronize()
            yield
        self._alloc = None

    def place(self, value: Any) -> Any:
        """Return a result of NumPy's as one of CuPy's."""
        if isinstance(value, (numpy.ndarray, numpy.generic)):
            value = numpy.asarray(value)
            self.device.synchronize()
            made = _Array(value.shape, value.dtype, self._alloc(value.nbytes)) \
                if value.nbytes else value.view(_Array)  # fmt: skip
            made.view(numpy.ndarray)[...] = value
            return made
        if isinstance(value, (tuple, list)):
            parts = [self.place(item) for item in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    def get_default_memory_pool(self) -> Any:
        return SimpleNamespace(free_all_blocks=lambda: self.called.append("free"))

    def asnumpy(self, array: Any) -> numpy.ndarray:
        return numpy.array(array.view(numpy.ndarray))

    def dtype(self, char: str) -> numpy.dtype[Any]:
        return numpy.dtype(char)

    def result_type(self, *dtypes: Any) -> numpy.dtype[Any]:
        return numpy.result_type(*dtypes)

    def argsort(self, a: Any, axis: int) -> Any:
        """Keep equal elements in their order."""
        return self.place(numpy.argsort(_plain(a), axis, kind="stable"))

    def take(self, a: Any, indices: Any, axis: Any = None) -> Any:
        """Wrap indices that are out of bounds."""
        self.called.append("take")
        return self.place(numpy.take(_plain(a), _plain(indices), axis, mode="wrap"))
