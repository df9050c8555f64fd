"""The device of these tests: the machine's, or with ``DISPATCHARR_SIM_GPU=1`` a virtual one.

The answers come from NumPy, compared by what the contract tests compare with.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "contract")]


@pytest.fixture(scope="session", autouse=True)
def device() -> Any:
    """Return the device; without one there is nothing to test."""
    from dispatcharr.devices import found

    device = found.device()
    if device is None:
        pytest.skip(f"no CUDA device: {found.why()}")
    return device
