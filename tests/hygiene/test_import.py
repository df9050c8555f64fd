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


@pytest.mark.skipif(sys.gettrace() is not None, reason="tracing slows imports down")
def test_import_keeps_its_budget(tmp_path: Path) -> None:
    # Processor time, and the least of a few runs: what else the machine does is not our import.
    code = (
        "from time import process_time as clock; import numpy; began = clock(); "
        "import dispatcharr; print(clock() - began)"
    )
    run(code, tmp_path)  # compiles to bytecode, as an installer does
    took = min(float(run(code, tmp_path)) for _ in range(RUNS))
    assert took <= BUDGET, f"{took * 1e3:.0f} ms on top of NumPy"


def test_import_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, numpy; before = set(sys.modules); import dispatcharr; "
        f"print(*sorted((set(sys.modules) - before) & set({HEAVY!r})))"
    )
    assert run(code, tmp_path).split() == []


def test_import_starts_no_thread_and_reads_no_plugin(tmp_path: Path) -> None:
    code = (
        "import threading, dispatcharr; from dispatcharr.backends import registry; "
        "print(threading.active_count(), registry._found)"
    )
    assert run(code, tmp_path).split() == ["1", "None"]


def test_import_needs_no_optional_library(tmp_path: Path) -> None:
    """With every optional library missing, the namespace computes."""
    absent = [name for name in HEAVY if name in ("cupy", "dask", "llvmlite", "matplotlib", "numba")]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); "
        "import dispatcharr as np; print(float((np.arange(5.0) * 2).sum()))"
    )
    assert run(code, tmp_path).strip() == "20.0"
