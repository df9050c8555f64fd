"""Random programs whose operations run now on the device and now on the host."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

import dispatcharr as np
from dispatcharr.devices import found
from programs import Program

CONTEXTS: list[Any] = [
    lambda: np.use_backend("cuda"),
    lambda: np.dispatch_options(backend="cuda", defer="always"),
    nullcontext,
]


@pytest.fixture(autouse=True)
def device() -> Any:
    found_device = found.device()
    if found_device is None:
        pytest.skip(f"no CUDA device: {found.why()}")
    return found_device


@pytest.mark.parametrize("seed", range(6))
def test_programs_on_both_sides(seed: int) -> None:
    Program(seed, CONTEXTS).run(60)
