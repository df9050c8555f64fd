"""Every public name of NumPy under dispatcharr, submodules too.

A mirrored module answers each attribute from NumPy's module of the same path: what is planned is
ours; types, constants, dtypes and exceptions are NumPy's own objects; functions are wrapped on
first use. Mirrored modules are real modules that can be imported by path, made by a finder when
they are asked for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from dispatcharr.face import contract, creation, fallback, functions, reductions, scans
from dispatcharr.face.array import is_array, unwrap
from dispatcharr.face.special import OURS, Indexer, vectorize

__all__ = ["Mirror", "install", "mirrored"]

_ROOT = "dispatcharr"

PLANNED: dict[str, Any] = {
    **creation.FUNCTIONS,
    **functions.FUNCTIONS,
    **reductions.FUNCTIONS,
    "vectorize": vectorize,
}

_by_function: dict[Any, Any] = {}
#: Functions that handle no arrays, or must get the very object that they were given.
_AS_THEY_ARE = {
    "broadcast_shapes", "dtype", "errstate", "geterr", "geterrcall", "getbufsize", "get_include",
    "get_printoptions", "info", "isdtype", "issubdtype", "promote_types", "printoptions",
    "setbufsize", "seterr", "seterrcall", "set_printoptions", "show_config", "show_runtime",
    "test", "typename", "can_cast", "finfo", "iinfo", "min_scalar_type", "result_type",
    "common_type", "mintypecode", "iterable", "shape", "ndim", "size", "iscomplexobj", "isrealobj",
}  # fmt: skip
_UNWRAPPED = {"min_scalar_type", "iterable"}
_OF_DTYPES = {"can_cast", "result_type"}
#: Functions that give views, text or what is known of an array: no fallback is recorded for them.
_NOTHING_TO_PLAN = {
    "array2string", "array_repr", "array_split", "array_str", "atleast_1d", "atleast_2d",
    "atleast_3d", "broadcast_arrays", "broadcast_to", "diag", "diagonal", "dsplit", "expand_dims",
    "flip", "fliplr", "flipud", "hsplit", "imag", "indices", "isscalar", "ix_", "matrix_transpose",
    "may_share_memory", "moveaxis", "permute_dims", "ravel", "real", "reshape", "rollaxis", "rot90",
    "save", "savetxt", "savez", "savez_compressed", "shares_memory", "split", "squeeze", "swapaxes",
    "transpose", "unstack", "vsplit",
}  # fmt: skip
_NO_OPERATIONS = {"numpy.ctypeslib", "numpy.lib.stride_tricks", "numpy.random", "numpy.testing"}
_INDEXERS = {"r_", "c_", "mgrid", "ogrid"}


def mirrored(name: str, value: Any, path: str) -> Any:
    """Return what stands for NumPy's ``value`` called ``name`` in the module ``path``."""
    top = path == "numpy"
    if top and name in PLANNED:
        return PLANNED[name]
    if top and name in _INDEXERS:
        return Indexer(value)
    if isinstance(value, types.ModuleType):
        return _module(value)
    if isinstance(value, type):
        return _type(name, value)
    if isinstance(value, numpy.ufunc):
        return PLANNED.get(name) if PLANNED.get(name) == value else _wrapped(name, value, path)
    is_alias = type(value).__module__ in ("types", "typing")  # NDArray and its like
    if callable(value) and hasattr(value, "__name__") and not is_alias:
        return _as_it_is(name, value) if name in _AS_THEY_ARE else _wrapped(name, value, path)
    return value


def _as_it_is(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` for arguments that are not to be evaluated, one wherever it is named."""
    # Behind __array_function__, which would ask for values.
    plain = getattr(function, "_implementation", function)
    convert: Callable[[tuple[Any, ...]], Any] = tuple
    if name in _UNWRAPPED:
        convert = unwrap
    elif name in _OF_DTYPES:
        convert = _dtypes
    elif plain is function:
        return function
    found: Callable[..., Any] | None = _by_function.get(function)
    if found is not None:
        return found

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return plain(*convert(args), **kwargs)

    call.__module__ = _ROOT
    call.__qualname__ = name
    _by_function[function] = call
    return call


def _dtypes(args: tuple[Any, ...]) -> list[Any]:
    return [value.dtype if is_array(value) else value for value in args]


def _type(name: str, value: type) -> Any:
    if value is numpy.ndarray:
        from dispatcharr.face.ndarray import ndarray

        return ndarray
    if value.__module__.startswith("numpy.random"):
        from dispatcharr.face import random

        return random.OURS.get(name, value)
    return OURS.get(value, value)


def _module(value: types.ModuleType) -> Any:
    path = value.__name__
    if any([part[:1] == "_" for part in path.split(".")]):
        return value  # what is private to NumPy stays NumPy's
    if path == "numpy" or path.startswith("numpy."):
        return importlib.import_module(_ROOT + path[len("numpy") :])
    return value


#: Kinds of functions; what else can be called may have methods.
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type(numpy.sum))


def _wrapped(name: str, function: Callable[..., Any], path: str) -> Any:
    """Return the wrapper of a NumPy function, one per function wherever it is named."""
    try:
        found = _by_function.get(function)
    except TypeError:
        found = None
    if found is not None:
        return found
    for planned, ours in PLANNED.items():
        if getattr(numpy, planned, None) is function:
            return ours

    own_name = getattr(function, "__name__", name)
    if getattr(sys.modules.get(path), own_name, None) is function:
        name = own_name  # and not that of an alias

    reason = None if name in _NOTHING_TO_PLAN or path in _NO_OPERATIONS else "it is not planned"

    def slow(*args: Any, **kwargs: Any) -> Any:
        return fallback.call(name, function, args, kwargs, reason)

    home = _ROOT + path.removeprefix("numpy")
    first = contract.asked(name, function) or scans.asked(name, function)
    kind = None
    if isinstance(function, numpy.ufunc):
        kind = functions.OpaqueUFunc
    elif type(function) not in _FUNCTIONS:
        kind = functions.Delegate
    call = fallback.forward(name, function, slow, home, opaque=True, first=first, kind=kind)
    with contextlib.suppress(TypeError):  # an unhashable callable gets a wrapper per name
        _by_function[function] = call
    return call


class Mirror(types.ModuleType):
    """A module of ours that mirrors one of NumPy's."""

    def __init__(self, name: str, doc: str | None = None) -> None:
        super().__init__(name, doc)
        self.__dict__["_path"] = "numpy" + name[len(_ROOT) :]

    def __getattr__(self, name: str) -> Any:
        original = sys.modules.get(self._path) or importlib.import_module(self._path)
        try:
            listed = vars(original).get("__all__", ())
            if name.startswith("__") and name not in ("__all__", *listed):
                raise AttributeError(name)
            value = getattr(original, name)
        except AttributeError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None
        made = mirrored(name, value, self._path)
        if name in vars(original):  # else NumPy may warn each time that it is asked
            self.__dict__[name] = made
        return made

    def __dir__(self) -> list[str]:
        original = importlib.import_module(self._path)
        return sorted({*dir(original), *self.__dict__})


class _Finder:
    """Finds ``dispatcharr.X`` where ``numpy.X`` is a module and dispatcharr has none of its own."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(_ROOT + "."):
            return None
        numpys = "numpy" + fullname[len(_ROOT) :]
        try:
            found = sys.modules.get(numpys) or importlib.util.find_spec(numpys)
        except (ImportError, AttributeError):
            return None
        if found is None:
            return None
        is_package = hasattr(found, "__path__") or bool(
            getattr(found, "submodule_search_locations", None)
        )
        loader: Any = self  # in all but its base class
        return importlib.machinery.ModuleSpec(fullname, loader, is_package=is_package)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Mirror(spec.name, f"dispatcharr's mirror of numpy{spec.name[len(_ROOT) :]}.")

    def exec_module(self, module: types.ModuleType) -> None:
        importlib.import_module("numpy" + module.__name__[len(_ROOT) :])


def install() -> None:
    """Make mirrored modules importable. Own modules of dispatcharr are found before them."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
