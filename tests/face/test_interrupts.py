"""An interrupt at any moment leaves arrays as they were, or evaluated."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")

PROGRAM = """
import signal, sys, time
import numpy
import dispatcharr as np

np.dispatch_options(backend={backend!r}, engine={engine!r}, defer="always")
n = 400_000
base = np.array(numpy.linspace(0.0, 1.0, n))
kept = np.array(base)

def chain(x):
    y = x
    for _ in range(12):
        y = np.sin(y) * 1.5 + 0.1
    return y

wanted = numpy.array(chain(np.array(base)))
start = time.perf_counter()
numpy.asarray(chain(np.array(base)))
whole = max(time.perf_counter() - start, 1e-3)
target = numpy.array(base) * 0
interrupted = 0
for i in range(30):
    y = chain(base)
    into = np.array(target)
    signal.setitimer(signal.ITIMER_REAL, whole * (i + 1) / 25)
    try:
        if i % 3 == 0:
            numpy.asarray(y)
        elif i % 3 == 1:
            y.sum()
        else:
            base += 0 * y
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    if i % 3 == 2:
        # An update may have been made or not, or NumPy-like in part; adding zeros hides which.
        assert numpy.array_equal(base, kept), i
    else:
        assert numpy.array_equal(y, wanted), i
assert numpy.array_equal(base, kept)
assert numpy.array_equal(chain(base), wanted)
print("interrupted", interrupted)
"""


@pytest.mark.parametrize("backend", ["serial", "threads"])
@pytest.mark.parametrize("engine", ["blocks", "compiled"])
def test_interrupts_in_the_middle_of_kernels(
    backend: str, engine: str, script: Callable[..., str]
) -> None:
    prelude = (
        "import signal\n"
        "def stop(*_):\n    raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, stop)\n"
    )
    printed = script(prelude + PROGRAM.format(backend=backend, engine=engine))
    assert int(printed.split()[1]) >= 3


def test_an_interrupt_while_recording_leaves_nothing_behind(script: Callable[..., str]) -> None:
    script(
        """
        import signal
        import numpy
        import dispatcharr as np

        def stop(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, stop)
        x = np.array(numpy.arange(3000.0))
        np.dispatch_options(defer="always")
        for i in range(40):
            signal.setitimer(signal.ITIMER_REAL, 0.002 + i * 1e-4)
            try:
                while True:
                    y = x * 2 + 1
                    x += 1
                    x -= 1
                    y.sum()
            except KeyboardInterrupt:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            x[...] = numpy.arange(3000.0)
            assert (x * 2)[7] == 14
        from dispatcharr.storage import readers
        y = None
        import gc
        gc.collect()
        assert not readers._running, readers._running
        x += 1
        assert x[0] == 1
        """
    )


def test_an_interrupt_inside_an_override_ends_it(script: Callable[..., str]) -> None:
    script(
        """
        import dispatcharr as np
        from dispatcharr.face import _fastpath

        try:
            with np.use_backend("serial"):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert _fastpath.close(0) == 0
        """
    )
