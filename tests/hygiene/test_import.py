"""Importing the package is cheap: little time on top of NumPy's, and no heavy library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Seconds that the import may take on top of NumPy's.
BUDGET = 0.060
RUNS = 7
#: What only some uses need. Each takes longer to import than the package may.
HEAVY = (
    "IPython",
    "PIL",
    "asyncio",
    "click",
    "cupy",
    "dask",
    "importlib.metadata",
    "llvmlite",
    "matplotlib",
    "multiprocessing",
    "numba",
    "pandas",
    "platformdirs",
    "psutil",
    "rich",
    "scipy",
    "subprocess",
    "threadpoolctl",
)


def run(code: str, cache: Path) -> str:
    """Run Python with bytecode kept in ``cache``, and return what it prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONPYCACHEPREFIX": str(cache),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=cache,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for bytecode, filled: an installer compiles a package before its first import."""
    folder = tmp_path_factory.mktemp("bytecode")
    run("import dispatcharr", folder)
    return folder


@pytest.mark.skipif(sys.gettrace() is not None, reason="tracing slows imports down")
def test_import_keeps_its_budget(cache: Path) -> None:
    # Time of this thread, least of a few runs: what else goes on is not our import.
    code = (
        "from time import thread_time as clock; import numpy; began = clock(); "
        "import dispatcharr; print(clock() - began)"
    )
    took = min(float(run(code, cache)) for _ in range(RUNS))
    assert took <= BUDGET, f"{took * 1e3:.0f} ms on top of NumPy"


def test_import_loads_nothing_heavy(cache: Path) -> None:
    code = (
        "import sys, numpy; before = set(sys.modules); import dispatcharr; "
        f"print(*sorted((set(sys.modules) - before) & set({HEAVY!r})))"
    )
    assert run(code, cache).split() == []


def test_import_starts_no_thread_and_reads_no_plugin(cache: Path) -> None:
    code = (
        "import threading, dispatcharr; from dispatcharr.backends import registry; "
        "print(threading.active_count(), registry._found)"
    )
    assert run(code, cache).split() == ["1", "None"]


def test_import_needs_no_optional_library(cache: Path) -> None:
    """With every optional library missing, the namespace computes."""
    absent = [name for name in HEAVY if name in ("cupy", "dask", "llvmlite", "matplotlib", "numba")]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); "
        "import dispatcharr as np; print(float((np.arange(5.0) * 2).sum()))"
    )
    assert run(code, cache).strip() == "20.0"
