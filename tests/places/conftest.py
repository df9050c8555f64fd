"""A device that stores and computes nothing; makes the helper modules of this folder importable."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path[:0] = [str(Path(__file__).parent)]

if TYPE_CHECKING:
    from storing import StoringDevice


@pytest.fixture(autouse=True)
def alone(request: pytest.FixtureRequest) -> None:
    """Skip what is about the device here where kernels would run on another one."""
    from dispatcharr.devices import found

    if "on_device" not in request.node.nodeid and found.device() is not None:
        pytest.skip("kernels would run on the device of this machine, and not on this one")


@pytest.fixture(autouse=True)
def counted_afresh() -> None:
    """Count what there is: an interrupt between an allocation and its count loses the latter."""
    from dispatcharr.storage import mirrors

    mirrors.tidy()
    held = [place for place in mirrors.table.values() if place.memory is not None]
    mirrors.counters["mirrors"] = len(held)
    mirrors.counters["mirror_bytes"] = sum(place.nbytes for place in held)


@pytest.fixture
def device() -> "Iterator[StoringDevice]":
    from storing import StoringDevice, stored_on

    with stored_on(StoringDevice()) as device:
        yield device
