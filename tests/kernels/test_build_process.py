"""The builder and its process: interrupts, forks, other processes, the end of the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dispatcharr
from dispatcharr.kernels import native

ROOT = Path(dispatcharr.__file__).parents[1]
SOON = 20  # seconds: what must happen at all, on a busy machine too
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(native.missing() is not None, reason=f"{native.missing()}"),
]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")

PREAMBLE = """
import ctypes, os, signal, sys, threading, time
from dispatcharr.kernels import native
from dispatcharr.kernels.build import Builder
from dispatcharr.kernels.cache import Cache
SOON = 20
def stores(number, work=1):
    # As much for the compiler to do as is wanted, and then a store.
    lines = [f"  %v{i} = load volatile i64, ptr %b\\n  store volatile i64 %v{i}, ptr %b"
             for i in range(work)]
    return ("define void @kernel(ptr %a, ptr %b) {\\n" + "\\n".join(lines)
            + f"\\n  store i64 {number}, ptr %a\\n  ret void\\n}}\\n")
def order(builder, number, work=1):
    return builder.ask(number, lambda: stores(number, work), buy=True)
def stored_by(address):
    place, other = ctypes.c_int64(), ctypes.c_int64()
    native.function(address)(ctypes.addressof(place), ctypes.addressof(other))
    return place.value
def check(builder, number):
    order(builder, number)
    assert builder.wait(SOON)
    assert stored_by(order(builder, number)) == number
def end_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    """Wait for a program; return what it printed. It must not complain."""
    try:
        printed, complaint = process.communicate(timeout=SOON)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, complaint = process.communicate()
        complaint += "it did not end"
    assert (process.returncode, complaint) == (0, "")
    return printed


def run_program(program: str, *arguments: str) -> str:
    return output_of(start(program, *arguments))


@pytest.mark.parametrize("after", ["0", "0.03", "0.08", "0.15"])
def test_a_program_may_end_while_kernels_are_built(after: str) -> None:
    program = """
builder = Builder(None)
for number in range(20):
    order(builder, number, work=3000)
time.sleep(float(sys.argv[1]))
"""
    run_program(program, after)


def test_the_end_waits_for_the_kernel_in_work_and_for_no_other() -> None:
    program = """
builder = Builder(None)
entered = threading.Event()
def make(number):
    entered.set()
    time.sleep(0.3)
    print("made", number, flush=True)
    return stores(number)
for number in range(5):
    builder.ask(number, lambda number=number: make(number), buy=True)
entered.wait()
"""
    assert run_program(program) == "made 0\n"


def test_the_end_may_come_while_llvm_is_started() -> None:
    program = """
builder = Builder(None)
entered, start = threading.Event(), native._start
def slowly():
    entered.set()
    time.sleep(0.2)
    return start()
native._start = slowly
order(builder, 1)
entered.wait()
"""
    run_program(program)


def test_at_the_end_nobody_waits_for_what_is_not_begun() -> None:
    program = """
import atexit
def at_the_end():  # after the builder's own, which was there before
    order(builder, 2)
    assert builder.wait()
    print(order(builder, 2))
from dispatcharr.kernels import build
atexit.unregister(build._at_exit)
atexit.register(at_the_end)
atexit.register(build._at_exit)
builder = Builder(None)
check(builder, 1)
"""
    assert run_program(program) == "None\n"


def test_a_builder_may_outlive_the_modules() -> None:
    program = """
from dispatcharr.kernels import build
sys.module = build  # so its names are taken away before it goes, and before what sys holds
sys.builder = Builder(None)
check(sys.builder, 1)
sys.unused = Builder(None)
"""
    run_program(program)


def test_the_end_does_not_wait_for_ever() -> None:
    program = """
from dispatcharr.kernels import build
build._PATIENCE = 0.1
builder = Builder(None)
entered = threading.Event()
def make():
    entered.set()
    threading.Event().wait()
builder.ask("key", make, buy=True)
entered.wait()
"""
    run_program(program)


@needs_fork
def test_a_child_has_what_was_ready_and_builds_what_it_needs() -> None:
    program = """
builder = Builder(None)
check(builder, 1)
for number in range(2, 12):
    order(builder, number, work=300)
pid = os.fork()
if not pid:
    signal.alarm(SOON)
    assert stored_by(order(builder, 1)) == 1
    assert not builder._line.waiting  # what was ordered there is built there
    check(builder, 2)
    check(builder, 100)
    os._exit(0)
assert end_of(pid) == 0
assert builder.wait(SOON)
assert all(stored_by(order(builder, number)) == number for number in range(1, 12))
assert builder.counts.compiled == 11
"""
    run_program(program)


@needs_fork
def test_children_may_be_forked_at_any_time() -> None:
    program = """
builder = Builder(Cache(sys.argv[1]))
for child in range(20):
    for number in range(5):
        order(builder, child * 10 + number, work=100)
    time.sleep(0.003 * (child % 6))
    pid = os.fork()
    if not pid:
        signal.alarm(SOON)
        check(builder, 1000 + child)
        sys.exit(0)  # with all that the end of an interpreter does
    assert end_of(pid) == 0, child
assert builder.wait(SOON)
assert builder.counts.compiled == 100 and not builder.counts.failed
"""
    run_program(program, str(Path(os.devnull) / "no folder"))


@needs_fork
def test_a_child_may_have_the_thread_that_its_parent_was_refused() -> None:
    program = """
import _thread
real = _thread.start_new_thread
def refuse(*args):
    raise RuntimeError("can't start new thread")
builder = Builder(None)
_thread.start_new_thread = refuse
order(builder, 1)
assert "can't start" in builder.why_not(1)
_thread.start_new_thread = real
pid = os.fork()
if not pid:
    signal.alarm(SOON)
    check(builder, 1)
    os._exit(0)
assert end_of(pid) == 0
"""
    run_program(program)


@needs_fork
def test_a_child_forked_out_of_a_wait_does_not_wait_for_the_parent() -> None:
    program = """
builder = Builder(None)
parent = os.getpid()
children = []
signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
entered = threading.Event()
def make():
    entered.set()
    time.sleep(0.2)
    os.kill(parent, signal.SIGUSR1)  # which waits by now
    time.sleep(0.4)
    return stores(1)
builder.ask(1, make, buy=True)
entered.wait()
assert builder.wait(SOON)
if os.getpid() != parent:
    check(builder, 2)
    os._exit(0)
[child] = children
assert end_of(child) == 0
assert stored_by(order(builder, 1)) == 1
"""
    run_program(program)


def test_an_interrupt_ends_a_wait_and_nothing_else() -> None:
    program = """
signal.signal(signal.SIGINT, signal.default_int_handler)
builder = Builder(None)
def make():
    signal.raise_signal(signal.SIGINT)  # to the main thread, which waits
    time.sleep(0.2)
    return stores(1)
builder.ask(1, make, buy=True)
try:
    builder.wait(SOON)
    print("not interrupted")
except KeyboardInterrupt:
    assert order(builder, 1) is None
    assert builder.wait(SOON)
    print(stored_by(order(builder, 1)))
"""
    assert run_program(program) == "1\n"


def test_processes_that_build_the_same_at_once_share_it(tmp_path: Path) -> None:
    program = """
builder = Builder(Cache(sys.argv[1]))
for number in range(30):
    check(builder, number)
counts = builder.counts
assert counts.cache_trouble is None, counts.cache_trouble
print(counts.compiled + counts.loaded, counts.compiled)
"""
    folder = str(tmp_path / "kernels")
    running = [start(program, folder) for _ in range(3)]
    printed = [output_of(process).split()[0] for process in running]
    assert printed == ["30"] * 3
    assert len(os.listdir(folder)) == 30
    assert run_program(program, folder) == "30 0\n"


def test_loading_is_quick_where_the_disk_has_it(tmp_path: Path) -> None:
    program = """
builder = Builder(Cache(sys.argv[1]))
check(builder, 1)
print(builder.counts.compiled, builder.counts.loaded)
"""
    folder = str(tmp_path / "kernels")
    assert run_program(program, folder) == "1 0\n"
    assert run_program(program, folder) == "0 1\n"


def test_the_shared_builder_is_one_and_keeps_kernels_in_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCHARR_CACHE_DIR", str(tmp_path))
    program = """
from dispatcharr.kernels.build import shared_builder
found = []
threads = [threading.Thread(target=lambda: found.append(shared_builder())) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert {id(builder) for builder in found} == {id(shared_builder())}
check(shared_builder(), 1)
"""
    run_program(program)
    assert len(os.listdir(tmp_path / "kernels")) == 1
