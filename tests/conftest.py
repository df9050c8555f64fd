"""What every test may rely on: no profile, cache or setting of whoever runs them is seen."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest

# The package reads its settings once, when it is imported: this must come before any fixture.
# Processes that a test starts inherit it.
for _name in ("DISPATCHARR_BACKEND", "DISPATCHARR_NUM_THREADS", "DISPATCHARR_ON_FALLBACK"):
    os.environ.pop(_name, None)
# The way to have everything run on one backend: with DISPATCHARR_SIM_GPU=1, on the virtual GPU.
if os.environ.get("DISPATCHARR_TEST_BACKEND"):
    os.environ["DISPATCHARR_BACKEND"] = os.environ["DISPATCHARR_TEST_BACKEND"]
_CACHE = tempfile.mkdtemp(prefix="dispatcharr-tests-")
os.environ["DISPATCHARR_CACHE_DIR"] = _CACHE

# Shells let background jobs ignore the interrupt, and a process hands that on to those it starts,
# which some tests interrupt. What is handled here is not handed on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Timings of single examples say nothing on shared machines; what a failure found is printed. The
# gate tries the same examples every time; HYPOTHESIS_PROFILE=search looks for new ones.
hypothesis.settings.register_profile(
    "dispatcharr", deadline=None, print_blob=True, derandomize=True
)
hypothesis.settings.register_profile("search", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dispatcharr"))


@pytest.fixture(autouse=True)
def _as_a_program() -> Iterator[None]:
    """Let operations wait as in programs: pytest runs tests inside ``warnings.catch_warnings``."""
    from dispatcharr.expr.build import own_filters

    with own_filters():
        yield


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(_CACHE, ignore_errors=True)
