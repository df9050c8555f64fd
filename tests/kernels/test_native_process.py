"""Compiling and the process: what is imported when, what code depends on, and forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dispatcharr
from dispatcharr.kernels import native
from dispatcharr.kernels.target import Host

pytestmark = pytest.mark.timeout(60)
ROOT = Path(dispatcharr.__file__).parents[1]
SOON = 20  # seconds: what must happen at all, on a busy machine too
compiles = pytest.mark.skipif(native.missing() is not None, reason=f"{native.missing()}")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")

#: Enough to keep LLVM busy for some milliseconds.
TEXT = """
define void @NAME(ptr %a, ptr %b) {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %pa = getelementptr double, ptr %a, i64 %i
  %pb = getelementptr double, ptr %b, i64 %i
  %x = load double, ptr %pa
  BODY
  store double %y, ptr %pb
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, 1000
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""


def run_program(program: str) -> str:
    """Run a program of its own; return what it printed. It must not complain."""
    preamble = "import os, sys\nfrom dispatcharr.kernels import native\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", preamble + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_llvmlite_is_imported_by_the_first_question_and_not_before() -> None:
    program = """
print("llvmlite" in sys.modules)
native.missing()
print("llvmlite" in sys.modules)
native.host()
print("llvmlite" in sys.modules)
"""
    assert run_program(program).split() == ["False", "False", str(native.missing() is None)]


@compiles
def test_code_does_not_depend_on_the_process() -> None:
    host = native.host()
    assert isinstance(host, Host)
    called = [name for name in ("sin",) if name in host.simd_math]
    body = "%y = call double @sin(double %x)" if called else "%y = fadd double %x, 1.5"
    text = TEXT.replace("NAME", "same").replace("BODY", body)
    program = f"""
import hashlib, mmap
keep = mmap.mmap(-1, os.getpid() << 8)  # what else is mapped differs, and so do addresses
text = native.simd_attributes({called!r}) + {text!r}
print(hashlib.sha256(native.optimise_and_emit(text, "same")).hexdigest())
"""
    assert len({run_program(program) for _ in range(3)}) == 1


@compiles
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell")
def test_compiling_keeps_no_memory() -> None:
    program = f"""
TEXT = {TEXT.replace("BODY", "%y = fadd double %x, 1.5")!r}
def compile(first, last):
    for number in range(first, last):
        name = f"k{{number}}"
        native.optimise_and_emit(TEXT.replace("NAME", name).replace("loop", "loop_" + name), name)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
compile(0, 20)
print(compile(20, 30) - compile(30, 90))
"""
    grown = -int(run_program(program))
    assert grown < 60 * 10_000, f"{grown} bytes for 60 kernels"


@compiles
@needs_fork
def test_a_child_forked_while_another_thread_compiles_can_compile() -> None:
    program = f"""
import signal, threading, time
TEXT = {TEXT.replace("BODY", "%y = fadd double %x, 1.5")!r}
def build(name):
    return native.load(name, native.optimise_and_emit(TEXT.replace("NAME", name), name))
over = False
def busy():
    number = 0
    while not over:
        build(f"parent_{{number}}")
        number += 1
thread = threading.Thread(target=busy)
thread.start()
for child in range(15):
    pid = os.fork()
    if not pid:
        signal.alarm({SOON})
        build(f"child_{{child}}")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    time.sleep(0.002 * (child % 5))
over = True
thread.join()
"""
    run_program(program)


@compiles
@needs_fork
def test_a_child_of_a_compiler_that_is_stuck_says_so() -> None:
    program = """
import threading
native.host()
native._PATIENCE = 0.05
held, over = threading.Event(), threading.Event()
def stuck():
    with native._lock:
        held.set()
        over.wait()
thread = threading.Thread(target=stuck)
thread.start()
held.wait()
pid = os.fork()
if not pid:
    print(native.host(), flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
over.set()
thread.join()
assert not isinstance(native.host(), str)
"""
    assert "forked while another thread was compiling" in run_program(program)
