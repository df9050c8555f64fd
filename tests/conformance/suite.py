"""Which of NumPy's test files are run, and where they are put."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy

from rewriting import rewritten

__all__ = ["BELOW", "FOLDERS", "QUICK", "available", "lay_out"]

#: The folder below the root of a tree: without it `random` would be taken for Python's module.
BELOW = "numpy_tests"

#: Folders of tests, by the path of the package that they belong to.
FOLDERS = ("_core", "lib", "linalg", "fft", "polynomial", "random", "ma")
#: Files that look at how NumPy was built, or at parts of it that handle no arrays of the program's.
LEFT_OUT = {
    "_core/tests/test_array_interface.py": "it compiles a C extension",
    "_core/tests/test_cpu_dispatcher.py": "it looks at what NumPy was compiled for",
    "_core/tests/test_cpu_features.py": "it looks at what NumPy was compiled for",
    "_core/tests/test_cython.py": "it compiles a Cython extension",
    "_core/tests/test_extint128.py": "it tests arithmetic of NumPy's C code",
    "_core/tests/test_hashtable.py": "it tests a table of NumPy's C code",
    "_core/tests/test_limited_api.py": "it compiles C extensions",
    "_core/tests/test_mem_policy.py": "it compiles a C extension",
    "_core/tests/test_simd.py": "it tests instructions of NumPy's C code",
    "_core/tests/test_simd_module.py": "it tests instructions of NumPy's C code",
    "random/tests/test_extending.py": "it compiles extensions",
}
#: A few files that take seconds.
QUICK = (
    "_core/tests/test_errstate.py",
    "lib/tests/test_arraysetops.py",
    "lib/tests/test_twodim_base.py",
    "lib/tests/test_ufunclike.py",
)


def _root() -> Path:
    return Path(numpy.__file__).parent


def available() -> list[str]:
    """Return the names of the test files that the installed NumPy has."""
    found: list[str] = []
    for folder in FOLDERS:
        files = sorted((_root() / folder / "tests").glob("test_*.py"))
        found += [f"{folder}/tests/{file.name}" for file in files]
    return [name for name in found if name not in LEFT_OUT]


def lay_out(folder: Path, names: list[str], package: str | None) -> None:
    """Write test files below ``folder`` as NumPy has them, with the data that they read.

    Parameters
    ----------
    folder : Path
        Where to.
    names : list of str
        Files, as :func:`available` returns them.
    package : str or None
        What stands for NumPy in them; None for NumPy itself.
    """
    for name in names:
        source = (_root() / name).read_text("utf-8")
        target = folder / BELOW / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rewritten(source, package) if package else source, "utf-8")
    for tests in {Path(name).parent for name in names}:
        for data in _data(_root() / tests):
            shutil.copytree(data, folder / BELOW / tests / data.name, dirs_exist_ok=True)
    (folder / "pytest.ini").write_text(_SETTINGS, "utf-8")


def _data(tests: Path) -> Iterator[Path]:
    for entry in tests.iterdir():
        if entry.is_dir() and entry.name not in ("__pycache__", "examples"):
            yield entry


#: NumPy's own, as far as they concern an installed NumPy.
_SETTINGS = """\
[pytest]
junit_family = xunit2
filterwarnings =
    error
    ignore::pytest.PytestDeprecationWarning
    ignore:Importing from numpy.matlib is:PendingDeprecationWarning
    ignore:the matrix subclass is not:PendingDeprecationWarning
"""
