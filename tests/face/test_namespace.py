"""Every public name of NumPy is there: the top, the submodules, and what they hold."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face.ndarray import ndarray

#: What is ours in NumPy's place, class by class.
CLASSES = {
    "ndarray", "vectorize", "broadcast", "nditer", "Generator", "RandomState", "MT19937", "PCG64",
    "PCG64DXSM", "Philox", "SFC64", "SeedSequence",
}  # fmt: skip
_SKIPPED = (
    "numpy.f2py",
    "numpy.distutils",
    "numpy.conftest",
    "numpy.core",
    "numpy.typing.mypy_plugin",
    # Only in NumPy 2.0, where they say that they are gone.
    "numpy.fft.helper",
    "numpy.linalg.linalg",
)


def _submodules() -> list[str]:
    """Return the paths of NumPy's public modules."""
    names = ["numpy"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for info in pkgutil.walk_packages(numpy.__path__, "numpy.", onerror=lambda _: None):
            parts = info.name.split(".")
            private = any(part.startswith("_") for part in parts)
            if private or "tests" in parts or info.name.startswith(_SKIPPED):
                continue
            try:
                importlib.import_module(info.name)
            except ImportError:
                continue
            names.append(info.name)
    return names


MODULES = _submodules()


def public(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sorted({*getattr(module, "__all__", ()), *dir(module)}):
            if not name.startswith("_") and hasattr(module, name):
                yield name, getattr(module, name)


def ours(path: str) -> Any:
    return importlib.import_module("dispatcharr" + path.removeprefix("numpy"))


def test_the_well_known_modules_are_among_them() -> None:
    wanted = {
        "linalg", "fft", "random", "polynomial", "polynomial.polynomial", "polynomial.chebyshev",
        "lib", "lib.stride_tricks", "lib.format", "lib.npyio", "lib.scimath", "lib.mixins",
        "testing", "ma", "ma.mrecords", "strings", "char", "rec", "exceptions", "dtypes", "typing",
        "ctypeslib", "version", "emath",
    }  # fmt: skip
    for name in wanted:
        module = np
        for part in name.split("."):
            module = getattr(module, part)
        assert isinstance(module, types.ModuleType)


@pytest.mark.parametrize("path", MODULES)
def test_every_public_name_resolves(path: str) -> None:
    module = ours(path)
    assert isinstance(module, types.ModuleType)
    listed = dir(module)
    for name, value in public(importlib.import_module(path)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mine = getattr(module, name)
        assert name in listed, name
        if isinstance(value, types.ModuleType):
            assert isinstance(mine, types.ModuleType), name
        elif isinstance(value, type):
            assert mine is value or name in CLASSES, name
        elif callable(value):
            assert callable(mine), name
        else:
            same_kind = type(mine) is type(value) or mine.__class__.__name__ == "Indexer"
            assert mine is value or same_kind, name


@pytest.mark.parametrize("path", MODULES)
def test_star_import(path: str) -> None:
    given: dict[str, Any] = {}
    if hasattr(importlib.import_module(path), "__all__"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(f"from dispatcharr{path.removeprefix('numpy')} import *", given)
        assert set(importlib.import_module(path).__all__) <= set(given)


def test_constants_dtypes_and_exceptions_are_the_same_objects() -> None:
    for name in ("pi", "e", "inf", "nan", "euler_gamma", "newaxis", "float64", "int8", "bool",
                 "complex128", "dtype", "str_", "void", "generic", "floating", "errstate", "ufunc",
                 "ScalarType", "sctypeDict", "finfo", "iinfo", "flatiter",
                 "matrix", "recarray", "memmap", "poly1d", "datetime64", "object_"):  # fmt: skip
        assert getattr(np, name) is getattr(numpy, name), name
    for module in (numpy.exceptions, numpy.dtypes):
        for name, value in public(module):
            if isinstance(value, type):
                assert getattr(ours(module.__name__), name) is value
    assert np.linalg.LinAlgError is numpy.linalg.LinAlgError
    assert np.typing.NDArray is numpy.typing.NDArray


def test_import_forms() -> None:
    import dispatcharr.fft
    import dispatcharr.polynomial.polynomial as P
    from dispatcharr.lib.stride_tricks import sliding_window_view
    from dispatcharr.linalg import norm

    from dispatcharr import linalg

    assert dispatcharr.fft is np.fft
    assert linalg.norm is norm is np.linalg.norm
    assert P is np.polynomial.polynomial
    assert type(P.polyval(np.arange(3.0), [1, 2])) is ndarray
    assert type(sliding_window_view(np.arange(5), 2)) is ndarray
    assert sys.modules["dispatcharr.linalg"] is np.linalg


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="module 'dispatcharr' has no attribute 'nonsense'"):
        np.nonsense
    with pytest.raises(
        AttributeError, match=r"module 'dispatcharr.linalg' has no attribute 'none'"
    ):
        np.linalg.none
    with pytest.raises(ImportError):
        importlib.import_module("dispatcharr.nonsense")
    with pytest.raises(ImportError):
        exec("from dispatcharr.linalg import nonsense")
    assert not hasattr(np, "__wrapped__")
    with pytest.raises(AttributeError) as theirs:
        numpy.float_
    with pytest.raises(AttributeError) as mine:
        np.float_
    assert str(mine.value) == str(theirs.value)


@pytest.mark.parametrize("path", [p for p in MODULES if p.count(".") < 2])
def test_functions_survive_pickling_and_copying(path: str) -> None:
    import copy

    module = importlib.import_module(path)
    for name, value in public(module):
        is_alias = type(value).__module__ == "typing"
        if callable(value) and not isinstance(value, type) and not is_alias:
            try:
                if pickle.loads(pickle.dumps(value)) is not value:
                    continue
            except Exception:
                continue
            mine = getattr(ours(path), name)
            assert pickle.loads(pickle.dumps(mine)) is mine, f"{path}.{name}"
            assert copy.deepcopy(mine) is mine


def test_functions_keep_name_documentation_and_signature() -> None:
    for name in ("dot", "concatenate", "sum", "sin", "linspace", "histogram", "where", "clip"):
        theirs, mine = getattr(numpy, name), getattr(np, name)
        assert mine.__name__ == theirs.__name__
        assert mine.__doc__ == theirs.__doc__
    assert inspect.signature(np.histogram) == inspect.signature(numpy.histogram)
    assert inspect.signature(np.linalg.norm) == inspect.signature(numpy.linalg.norm)


def test_a_function_of_several_names_is_one_object() -> None:
    assert np.linalg.cross is not None
    assert np.lib.stride_tricks.as_strided is np.lib.stride_tricks.as_strided
    assert np.around is not np.abs
    assert np.absolute is np.abs
    assert np.amax is np.max
    assert np.true_divide is np.divide
    assert np.acos is np.arccos


def test_added_names_shadow_none_of_numpys() -> None:
    added = set(np.__all__) - set(numpy.__all__)
    assert added
    assert not [name for name in added if hasattr(numpy, name)]
    assert set(numpy.__all__) <= set(np.__all__)
    assert all(hasattr(np, name) for name in np.__all__)


def test_import_is_quiet_and_light() -> None:
    code = (
        "import sys, dispatcharr\n"
        "print([m for m in ('numba', 'cupy', 'rich', 'click', 'matplotlib', 'psutil', 'dask', "
        "'importlib.metadata', 'numpy.f2py', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
