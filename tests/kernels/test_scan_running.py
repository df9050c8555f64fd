"""Running extremes take the zeros that NumPy's loops for the machine do."""

from __future__ import annotations

import numpy
import pytest

import dispatcharr as np
from dispatcharr.kernels import build, native, scan_running
from dispatcharr.route import scans as route

pytestmark = pytest.mark.skipif(
    native.missing() is not None, reason=f"no compiler here: {native.missing()}"
)


@pytest.mark.parametrize("taken", [(False, False), (True, True), (False, True), (True, False)])
def test_every_way_to_take_a_zero(
    taken: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On other machines the first of equal ones is taken, or one by its sign."""
    fresh = build.Builder(None)
    monkeypatch.setattr(route, "shared_builder", lambda: fresh)
    monkeypatch.setattr(scan_running, "zeros_taken", lambda name, char: taken)
    negative = numpy.random.default_rng(2).random(20_000) < 0.5
    host = numpy.where(negative, -0.0, 0.0)
    with np.dispatch_options(engine="compiled"):
        made = numpy.signbit(numpy.asarray(np.maximum.accumulate(np.array(host))))
    for place in range(1, 20_000):
        before, now = bool(made[place - 1]), bool(negative[place])
        assert made[place] == (before if before == now else taken[int(before)])
