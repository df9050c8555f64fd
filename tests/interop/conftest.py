"""Makes the helper module of this folder importable, and lets other libraries warn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import dispatcharr

sys.path.insert(0, str(Path(__file__).parent))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let other libraries warn of what they please; what warns of our code stays an error."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            if not _has_buffers():
                item.add_marker(pytest.mark.skip(reason="arrays without C code have no buffers"))
            item.add_marker(pytest.mark.filterwarnings("ignore"), append=False)
            item.add_marker(pytest.mark.filterwarnings("error::RuntimeWarning:dispatcharr"))


def _has_buffers() -> bool:
    """Return whether arrays give buffers: classes written in Python can from 3.12 on."""
    try:
        memoryview(dispatcharr.ones(1))
    except TypeError:
        return False
    return True
