"""A device on a driver that is none; makes the helper modules of this folder importable."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from dispatcharr.devices.driver import CudaDevice
    from fakes import Fake


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    if not sys.platform.startswith("linux"):
        pytest.skip("the fake driver is a shared object of Linux")
    from fakes import Fake

    return Fake(tmp_path)


@pytest.fixture
def device(fake: Fake) -> CudaDevice:
    return fake.device()
