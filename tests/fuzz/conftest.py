"""Makes the modules of this folder importable, and lets operations wait although pytest listens."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def listening() -> Iterator[None]:
    """Hear every warning, as a program does that is not inside ``warnings.catch_warnings``."""
    import lockstep
    from dispatcharr.expr import build

    with warnings.catch_warnings():
        lockstep.listen()
        with build.own_filters():
            yield
