"""Cython's typed memoryviews of our arrays, in a module that the test compiles."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy
import pytest

from neighbours import Call, Neighbour, given, load

load("Cython")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("cc") or sys.platform == "win32", reason="no compiler is there"
    ),
]
cython = Neighbour("Cython memoryviews", "cython")
works, refused = cython.works, cython.refused

SOURCE = """
cimport numpy as cnp
def total(double[:] x):
    cdef double found = 0
    cdef Py_ssize_t i
    for i in range(x.shape[0]):
        found += x[i]
    return found
def corner(const double[:, ::1] x):
    return x[0, 0], x.shape[0], x.shape[1]
def write(double[:] x):
    x[0] = 9
def integers(long long[:] x):
    return x[0]
def unsigned(const unsigned char[:] x):
    return x[0]
def buffer(cnp.ndarray[double, ndim=1] x):
    return x[0]
"""


@cache
def module() -> Any:
    folder = Path(mkdtemp())
    (folder / "interop_views.pyx").write_text(SOURCE)
    subprocess.run(
        [sys.executable, "-m", "cython", "-3", "interop_views.pyx"], cwd=folder, check=True
    )
    target = folder / f"interop_views{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = [f"-I{sysconfig.get_paths()['include']}", f"-I{numpy.get_include()}"]
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-w", "-O0", *include, "interop_views.c", "-o", target],
        cwd=folder, check=True,
    )  # fmt: skip
    spec = importlib.util.spec_from_file_location("interop_views", target)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    shutil.rmtree(folder, ignore_errors=True)
    return made


works("f(double[:] x)", lambda a: module().total(a.random(9)))
works(
    "f(x[::2]), f(x[::-1])",
    lambda a: [module().total(a.random(9)[::2]), module().total(a.random(9)[::-1])],
)
works("f(const double[:, ::1] x)", lambda a: module().corner(a.random(3, 4)))
works("f(double[:] x) writing to x", lambda a: changed(a([1.0, 2.0])))
works(
    "f(long long[:] x), f(unsigned char[:] x)",
    lambda a: [module().integers(a([3], "q")), module().unsigned(a([3], "B"))],
)
works("a wrong dtype: ValueError", lambda a: raised(a([1.0], "f4")))
refused(
    "f(np.ndarray[double, ndim=1] x)",
    given(lambda a: a([1.0]), lambda x: module().buffer(x)),
    TypeError,
)


def changed(array: Any) -> Any:
    module().write(array)
    return array.tolist()


def raised(array: Any) -> str:
    with pytest.raises(ValueError, match="Buffer dtype mismatch") as error:
        module().total(array)
    return str(error.value)


@cython.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
