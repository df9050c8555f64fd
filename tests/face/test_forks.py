"""A forked child waits for nothing that only threads of its parent could do."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")

CHILD = """
def ends_well(work):
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(0 if work() else 1)
    return os.waitpid(child, 0)[1] == 0
"""


def test_locks_that_other_threads_held_are_free(script: Callable[..., str]) -> None:
    printed = script(f"""
import os, signal, threading, time
from dispatcharr._forks import shared
{CHILD}
theirs = shared(threading.Lock()), shared(threading.RLock())
mine, ready = shared(threading.RLock()), threading.Event()
def hold():
    with theirs[0], theirs[1]:
        ready.set()
        time.sleep(100)
threading.Thread(target=hold, daemon=True).start()
ready.wait()
with mine:
    print(ends_well(lambda: all(one.acquire(timeout=9) for one in theirs) and mine._is_owned()))
print([one.acquire(blocking=False) for one in theirs], flush=True)
os._exit(0)
""")
    assert printed.splitlines() == ["True", "[False, False]"]


def test_kernels_of_other_threads_read_no_more(script: Callable[..., str]) -> None:
    printed = script(f"""
import os, signal, threading, time
from dispatcharr.storage import readers
{CHILD}
ready = threading.Event()
def read():
    with readers.reading([7]):
        ready.set()
        time.sleep(100)
threading.Thread(target=read, daemon=True).start()
ready.wait()
def write():
    with readers.reading([7]):  # one's own is not waited for
        readers.wait_until_unread(7)
    return not readers.any_pending()
print(ends_well(write), readers.any_pending(), flush=True)
os._exit(0)
""")
    assert printed.split() == ["True", "True"]


def test_a_fork_waits_for_imports(script: Callable[..., str]) -> None:
    printed = script(f"""
import os, signal, sys, threading, time
import numpy
import dispatcharr as np
{CHILD}
array, found = np.array(numpy.arange(1e6)), threading.Event()
class Slow:
    def find_spec(self, name, *more):
        if name.startswith(("dispatcharr.route.", "dispatcharr.backends.")):
            found.set()
            time.sleep(0.02)
def work():
    with np.dispatch_options(defer="always"):
        return (2 * array + 1).sum() == 1e12
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=work)
thread.start()
found.wait()
print(ends_well(work))
thread.join()
""")
    assert printed.split() == ["True"]
