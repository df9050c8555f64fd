"""The reuse pool: whose memory results get, what is kept, and what goes back."""

import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
import weakref

import numpy
import pytest

import dispatcharr as np
from dispatcharr.storage import pool
from dispatcharr.storage.exports import is_visible

compiled = pytest.mark.skipif(pool._compiled is None, reason="no pool on this machine")
LARGE = 1 << 20
FLOAT = numpy.dtype(float)


@pytest.fixture(autouse=True)
def kept():
    """Give each test an empty pool with room, and put the limit back."""
    memory = np.get_default_memory_pool()
    before = memory.get_limit()
    memory.free_all_blocks()
    memory.set_limit(1 << 28)
    yield memory
    memory.set_limit(before)


def address(array):
    return array.__array_interface__["data"][0]


@compiled
def test_a_dead_result_leaves_its_memory_to_the_next_of_its_size():
    first = pool.empty((LARGE,), FLOAT)
    where = address(first)
    del first
    assert address(pool.empty((LARGE,), FLOAT)) == where


@compiled
def test_a_slightly_smaller_result_fits_and_a_much_smaller_one_does_not():
    where = address(pool.empty((LARGE,), FLOAT))
    assert address(pool.empty((LARGE * 9 // 10,), FLOAT)) == where
    assert address(pool.empty((LARGE // 2,), FLOAT)) != where


@compiled
@pytest.mark.parametrize("extent", [1 << 15, (1 << 15) + 1, 100_003, LARGE, 3 * LARGE + 7])
def test_memory_is_all_there_and_on_a_cache_line(extent):
    arrays = [pool.empty((extent,), FLOAT) for _ in range(3)]
    for number, array in enumerate(arrays):
        array[:] = number
    for number, array in enumerate(arrays):
        assert (array == number).all()
        assert address(array) % 64 == 0


@compiled
def test_arrays_of_the_pool_are_as_any_others():
    array = pool.empty((64, 1024), FLOAT)
    array[...] = 1.0
    assert array.base is None
    assert array.flags.owndata
    assert not is_visible(array)
    assert (pickle.loads(pickle.dumps(array)) == array).all()
    assert weakref.ref(array)() is array


@compiled
def test_results_of_operations_come_from_the_pool(kept):
    with np.dispatch_options(defer="always"):
        a = np.asarray(numpy.ones(LARGE))
        b = a + a
        np.evaluate(b)
    assert kept.used_bytes() >= 8 * LARGE
    del b
    assert kept.free_bytes() >= 8 * LARGE
    assert kept.total_bytes() == kept.used_bytes() + kept.free_bytes()


@compiled
def test_strides_are_those_asked_for():
    array = pool.empty((300, 400), FLOAT, (8, 2400))
    assert array.strides == (8, 2400)
    assert array.flags.f_contiguous
    assert array.flags.owndata


@compiled
@pytest.mark.parametrize("extent", [5, 3 * LARGE, LARGE // 3, 40_000])
def test_resizing_in_place_keeps_what_was_there(extent):
    array = pool.empty((LARGE,), FLOAT)
    array[:] = numpy.arange(LARGE)
    array.resize(extent, refcheck=False)
    left = min(extent, LARGE)
    assert (array[:left] == numpy.arange(left)).all()
    assert not array[left:].any()


@compiled
def test_shape_and_dtype_changed_in_place_free_the_same_block(kept):
    array = pool.empty((LARGE,), FLOAT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        array.dtype = numpy.uint8
        array.shape = (8, LARGE)
    del array
    assert kept.used_bytes() == 0
    assert kept.free_bytes() >= 8 * LARGE


@compiled
def test_no_more_is_kept_than_the_limit(kept):
    kept.set_limit(12 * LARGE)
    arrays = [pool.empty((LARGE,), FLOAT) for _ in range(4)]
    del arrays
    assert 8 * LARGE <= kept.free_bytes() <= 12 * LARGE
    kept.set_limit(0)
    assert kept.free_bytes() == 0
    del kept


@compiled
@pytest.mark.parametrize("extent", [LARGE, 5 * LARGE])
def test_zeros_are_zeros_also_in_memory_that_was_used(kept, extent):
    used = pool.empty((extent,), FLOAT)
    used.fill(7.0)
    where = address(used)
    del used
    before = pool.enter()
    try:
        made = numpy.zeros(extent)
    finally:
        pool.leave(before)
    # From 32 MiB on the system clears pages when they are looked at.
    assert (address(made) == where) is (made.nbytes < pool.SYSTEM_RECYCLES)
    assert not made.any()


@compiled
def test_with_a_limit_of_zero_there_is_no_pool(kept):
    kept.set_limit(0)
    array = pool.empty((LARGE,), FLOAT)
    assert kept.used_bytes() == 0
    assert not pool.recycled(pool.SYSTEM_RECYCLES)
    assert pool.recycled(pool.SYSTEM_RECYCLES - 1)
    del array


@compiled
def test_kept_memory_goes_before_the_program_needs_more_than_it_ever_did(kept):
    script = """
import os
import numpy
from dispatcharr.storage import pool
kept = pool.get_default_memory_pool()
kept.set_limit(1 << 40)
byte = numpy.dtype("u1")
for size in (300 << 20, 200 << 20, 400 << 20, 150 << 20):
    array = pool.empty((size,), byte)
    array[::4096] = 1
    del array
# Not getrusage, which begins with what the parent process had.
lines = open("/proc/self/status").read().split("\\n") if os.path.exists("/proc/self/status") else []
peak = [int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM")]
print(kept.total_bytes() >> 20, *peak)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    total, *peak = map(int, done.stdout.split())
    assert total <= 400 + 32
    assert all(size < 400 + 32 + 150 for size in peak)


@compiled
def test_what_nobody_wants_goes_back_to_the_system(kept):
    del kept
    array = pool.empty((LARGE,), FLOAT)
    del array
    memory = np.get_default_memory_pool()
    assert memory.free_bytes() > 0
    end = time.monotonic() + 20
    while memory.free_bytes() and time.monotonic() < end:
        time.sleep(0.1)
    assert memory.free_bytes() == 0


@compiled
def test_too_much_is_a_memory_error_and_what_is_kept_goes_first(kept):
    array = pool.empty((LARGE,), FLOAT)
    del array
    with pytest.raises(MemoryError, match="Unable to allocate"):
        pool.empty((1 << 50,), FLOAT)
    with pytest.raises(ValueError, match="negative"):
        pool._compiled.empty((-1,), FLOAT, None)
    with pytest.raises(ValueError, match="as many strides"):
        pool._compiled.empty((2, 3), FLOAT, (8,))
    with pytest.raises(TypeError, match="wanted a shape"):
        pool._compiled.empty((2, 3))


@compiled
def test_threads_share_it(kept):
    wrong = []

    def work(number):
        for turn in range(200):
            array = pool.empty((40_000 + 1000 * (turn % 7),), FLOAT)
            array[:] = number
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert kept.used_bytes() == 0


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_goes_on_with_its_copy():
    script = """
import os, time
import numpy
from dispatcharr.storage import pool
d = numpy.dtype(float)
kept = pool.get_default_memory_pool()
held = pool.empty((1 << 20,), d); held[:] = 7
pool.empty((1 << 20,), d)
time.sleep(0.6)
child = os.fork()
if child == 0:
    mine = pool.empty((1 << 20,), d); mine[:] = 1
    ok = (held == 7).all()
    del mine
    end = time.monotonic() + 20
    while kept.free_bytes() and time.monotonic() < end:
        time.sleep(0.1)
    os._exit(0 if ok and kept.free_bytes() == 0 else 1)
assert (held == 7).all()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.parametrize("text", ["many", "-5"])
def test_a_bad_limit_in_the_environment_is_a_clear_error(text):
    environment = {**os.environ, "DISPATCHARR_POOL_LIMIT": text}
    done = subprocess.run(
        [sys.executable, "-c", "import dispatcharr"],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"DISPATCHARR_POOL_LIMIT must be a number of bytes, got '{text}'" in done.stderr


def test_a_negative_limit_is_refused(kept):
    with pytest.raises(ValueError, match="wanted a number of bytes, got -1"):
        kept.set_limit(-1)


def test_the_pool_says_how_it_stands(kept):
    text = repr(kept)
    assert "MemoryPool" in text
    assert ("bytes used" in text) == (pool._compiled is not None)


def test_without_the_compiled_module_numpy_allocates():
    script = """
import dispatcharr as np
memory = np.get_default_memory_pool()
with np.dispatch_options(defer="always"):
    b = np.ones(1 << 20) + 1
    assert float(b.sum()) == 2 << 20
assert memory.get_limit() == memory.total_bytes() == 0
memory.free_all_blocks()
memory.set_limit(5)
"""
    environment = {**os.environ, "DISPATCHARR_PURE_PYTHON": "1"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=120)


@compiled
def test_a_handler_of_the_programs_own_stays_in_force():
    from dispatcharr.storage import _pool_c

    name = numpy._core.multiarray.get_handler_name
    usual = name()
    outer = pool.enter()
    try:
        # Not the default any more: whoever set it is asked for memory, not the pool again.
        assert _pool_c.enter() is None
        assert name() == "dispatcharr"
    finally:
        pool.leave(outer)
    assert name() == usual
