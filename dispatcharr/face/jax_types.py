"""The type of our arrays in jax's transformations: NumPy's.

Loaded when jax first meets an array of ours. What it traces, places or computes with has the values
that NumPy's array would have given; what it returns is its own. jax keeps what it knows of types in
tables that have no public name: where a release has others, it refuses ours, and says how to
convert them.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any

import numpy

from dispatcharr.face.array import array_class
from dispatcharr.face.protocols import as_numpy

__all__ = ["register"]


def register() -> None:
    """Teach jax our arrays."""
    with contextlib.suppress(ImportError, AttributeError, KeyError):
        _fill_tables()


def _fill_tables() -> None:
    core: Any = import_module("jax._src.core")
    dtypes: Any = import_module("jax._src.dtypes")
    pxla: Any = import_module("jax._src.interpreters.pxla")
    of_numpy = pxla.shard_arg_handlers[numpy.ndarray]
    described = core.pytype_aval_mappings[numpy.ndarray]

    def valued(array: Any) -> Any:
        return dtypes.canonicalize_value(_host(array))

    def placed(arrays: Any, *where: Any) -> Any:
        return of_numpy([_host(array) for array in arrays], *where)

    made = array_class()
    dtypes.register_canonicalize_value_handler(made, valued)
    pxla.shard_arg_handlers[made] = placed
    # Last: where this is known, jax asks for the others.
    core.pytype_aval_mappings[made] = described


def _host(array: Any) -> numpy.ndarray:
    return as_numpy(array, None, None)
