"""Our arrays as chunks of Dask's, and as the backend ``dispatcharr`` of ``dask.array``.

Used when Dask first meets an array of ours, or when a program asks Dask for the backend by name.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy

from dispatcharr.face.array import array_class
from dispatcharr.face.creation import FUNCTIONS

__all__ = ["register"]


def register() -> None:
    """Tell Dask of our arrays: that it may compute with them, and how large they are."""
    kind = array_class()
    backends, dispatch = import_module("dask.array.backends"), import_module("dask.array.dispatch")
    import_module("dask.array").register_chunk_type(kind)
    dispatch.percentile_lookup.register(kind, backends.percentile)
    dispatch.to_numpy_dispatch.register(kind, _as_numpy)
    import_module("dask.sizeof").sizeof.register(kind, _sized)
    backends.array_creation_dispatch.register_backend("dispatcharr", _backend()())


def _as_numpy(array: Any, **kwargs: Any) -> numpy.ndarray:
    return numpy.asarray(array, **kwargs)


def _sized(array: Any) -> int:
    return int(array.nbytes)


def __getattr__(name: str) -> Any:
    if name == "Backend":  # the entry point's
        return _backend()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _with(keyword: str, name: str) -> Any:
    """Return a maker of Dask's whose chunks are like an empty array of ours."""

    def make(*args: Any, **kwargs: Any) -> Any:
        with import_module("dask.config").set({"array.backend": "numpy"}):
            if kwargs.get(keyword) is None:
                kwargs[keyword] = FUNCTIONS["empty"](0)
            return getattr(import_module("dask.array"), name)(*args, **kwargs)

    return staticmethod(make)


@cache
def _backend() -> Any:
    base: Any = import_module("dask.array.backends").ArrayBackendEntrypoint

    class Backend(base):  # type: ignore[misc]
        """What ``dask.config.set({"array.backend": "dispatcharr"})`` makes arrays by."""

        RandomState = numpy.random.RandomState
        default_bit_generator = numpy.random.PCG64

        @classmethod
        def to_backend(cls, data: Any, **kwargs: Any) -> Any:
            """Return ``data`` with chunks of ours."""
            if type(data._meta) is array_class():
                return data
            return data.map_blocks(FUNCTIONS["asarray"], **kwargs)

    for name in ("ones", "zeros", "empty", "full"):
        setattr(Backend, name, _with("meta", name))
    Backend.arange = _with("like", "arange")
    return Backend
