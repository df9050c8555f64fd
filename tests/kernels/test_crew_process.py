"""The crew and its process: forks, the end of the interpreter, and a package without it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import dispatcharr
from dispatcharr.kernels import crew

pytestmark = pytest.mark.timeout(60)
SOON = 30
ROOT = Path(dispatcharr.__file__).parents[1]
needs_crew = pytest.mark.skipif(not crew.COMPILED, reason="the crew was not built here")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")

PREAMBLE = """
import ctypes, os, signal, sys, threading, time
from dispatcharr.kernels import crew
steps = ctypes.c_int64(300_000)
def run(count=8, threads=2):
    return crew.run_table(crew.PROBE, ctypes.addressof(steps), 0, count, threads)
"""


def run_program(program: str, **environment: str) -> str:
    """Run a program of its own; return what it printed. It must not complain."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c",
         PREAMBLE + textwrap.dedent(program)],
        cwd=ROOT, capture_output=True, text=True, timeout=SOON, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@needs_crew
@needs_fork
def test_a_child_has_a_crew_of_its_own() -> None:
    program = """
    from dispatcharr.kernels import _crew_c
    assert run() == 2 and _crew_c.started() == 1
    child = os.fork()
    if child == 0:
        fine = _crew_c.started() == 0 and run() == 2 and _crew_c.started() == 1
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(run() != 2)
        fine = fine and os.waitpid(grandchild, 0)[1] == 0
        os._exit(not fine)
    assert os.waitpid(child, 0)[1] == 0
    assert run() == 2
    """
    assert run_program(program) == ""


@needs_crew
@needs_fork
def test_a_fork_while_another_thread_runs_a_kernel_is_survived() -> None:
    program = """
    steps.value = 30_000_000
    busy = threading.Thread(target=run, args=(20,))
    busy.start()
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        steps.value = 1000
        os._exit(run() != 2)
    assert os.waitpid(child, 0)[1] == 0
    busy.join()
    """
    assert run_program(program) == ""


@needs_crew
@needs_fork
def test_a_fork_in_a_signal_handler_is_told_in_the_child() -> None:
    program = """
    children = []
    def split(number, frame):
        if not children:
            children.append(os.fork())
    signal.signal(signal.SIGALRM, split)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    steps.value = 20_000_000
    try:
        run(20)
    except RuntimeError as error:
        assert children == [0] and "forked" in str(error), error
        steps.value = 1000
        os._exit(run() != 2)
    assert children[0] > 0 and os.waitpid(children[0], 0)[1] == 0
    assert run() == 2
    """
    assert run_program(program) == ""


@needs_crew
def test_a_program_ends_while_helpers_sleep_or_work() -> None:
    program = """
    run()
    steps.value = 1_000_000_000
    threading.Thread(target=run, daemon=True).start()
    time.sleep(0.05)
    print("over")
    """
    assert run_program(program) == "over\n"


def test_without_it_kernels_run_on_the_pool_of_python_threads() -> None:
    program = """
    import numpy, dispatcharr as np
    assert not crew.COMPILED
    x = np.arange(1_000_000.0)
    with np.use_backend("threads"), np.dispatch_options(engine="compiled"):
        found = numpy.asarray(2 * x + x * x)
    y = numpy.arange(1_000_000.0)
    assert (found == 2 * y + y * y).all()
    """
    assert run_program(program, DISPATCHARR_PURE_PYTHON="1") == ""
