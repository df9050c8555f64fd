"""Kernels' texts on the CPU: what is launched on a device runs here as plain C++, for tests.

A text is compiled by the system's C++ compiler behind ``shim.h``, which says what the result is
true to. Compiled texts are kept in a folder of temporary files that belongs to the user alone, as
what is found there is run: the same tests again, or in another process, compile nothing.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dispatcharr.devices.device import CompileError, DeviceError

__all__ = ["SCHEDULES", "Program", "compile_text", "compiler", "missing", "sanitizer_environment"]

_HEADER = Path(__file__).with_name("shim.h")
_FLAGS = (
    "-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti",
    "-w", "-pipe", "-ffp-contract=off", "-fno-math-errno",
)  # fmt: skip
_SANITIZERS = (
    "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
)  # fmt: skip
#: Barriers and what hides them: threads of such a text wait for each other.
_WAITING = re.compile(r"__(syncthreads|syncwarp|shfl|ballot|any_sync|all_sync|reduce_|activemask)")
#: One spelling of the parameter, so that it can be handed over without a copy for every thread.
_PARAMETER = re.compile(r"\(\s*const\s+Words\s+(\w+)\s*\)")
#: Orders in which the threads of a block may run.
SCHEDULES = ("ascending", "descending", "random")
_MOST_THREADS = 1024
_STACK = 64 * 1024  # as in the header
#: Most images that are kept; the oldest half goes when there are more.
_MOST_KEPT = 4000


def missing() -> str | None:
    """Return why kernels cannot run on the CPU here; None where they can."""
    if not sys.platform.startswith("linux"):
        return f"kernels run on the CPU under Linux only, this is {sys.platform}"
    if shutil.which("g++") is None:
        return "kernels run on the CPU only where g++ is installed, and it is not"
    return None


@functools.cache
def compiler() -> str:
    """Return the compiler, its version, and all else that an image depends on besides its text."""
    _check_present()
    shown = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True)
    header = hashlib.sha256(_HEADER.read_bytes()).hexdigest()[:16]
    return f"{shown.stdout.splitlines()[0]}; shim {header}; {' '.join(_FLAGS)}"


def compile_text(
    text: str, name: str, *, sanitize: bool = False, options: Sequence[str] = ()
) -> bytes:
    """Return the shared object of a kernel's text.

    Parameters
    ----------
    text, name : str
        CUDA C++ with one kernel of that name, whose only parameter is a ``const Words``.
    sanitize : bool
        Whether it shall stop the process at the first access outside of an object and at the first
        undefined operation; see :func:`sanitizer_environment`.
    options : sequence of str
        Further ones for the compiler.

    Raises
    ------
    CompileError
        With what the compiler says.
    """
    flags = [*_FLAGS, *options, *(_SANITIZERS if sanitize else ())]
    if _WAITING.search(text):
        flags += ["-DSHIM_FIBERS"] + ([] if sanitize else ["-DSHIM_FILL"])
    key = hashlib.sha256("\0".join([compiler(), *flags, name, text]).encode()).hexdigest()
    folder = _folder()
    kept = os.path.join(folder, f"{key}.so")
    with suppress(FileNotFoundError), open(kept, "rb") as file:
        return file.read()
    whole, found = _PARAMETER.subn(r"(const Words& \1)", text)
    if not found:
        raise CompileError(f"{name}: no kernel with the one parameter `const Words <name>`")
    whole = f'#line 1 "{name}"\n{whole}\nSHIM_ENTRY({name})\n'
    draft = os.path.join(folder, f"{secrets.token_hex(8)}.tmp")
    # A sanitizer that is loaded into this process has no business in the compiler.
    command = ["env", "-u", "LD_PRELOAD", "g++", *flags, "-include", str(_HEADER), "-x", "c++"]
    try:
        done = subprocess.run(
            [*command, "-", "-o", draft, "-lm"],
            input=whole.encode(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise CompileError(f"{name}: {done.stderr.decode(errors='replace').strip()}")
        image = Path(draft).read_bytes()
        os.replace(draft, kept)
    finally:
        Path(draft).unlink(missing_ok=True)
    return image


def sanitizer_environment() -> dict[str, str]:
    """Return the variables that a process needs which runs texts compiled to be sanitized."""
    shown = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return {
        "LD_PRELOAD": shown.stdout.strip(),
        # Python never frees all; stacks of fibers come and go; a device's memory is the host's.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


class Program:
    """A loaded image, which runs grids.

    Parameters
    ----------
    image : bytes
        What :func:`compile_text` returned.
    name : str
        Of its kernel.
    """

    def __init__(self, image: bytes, name: str) -> None:
        self.name = name
        library = _open(image)
        try:
            self._run = library.shim_run
            self.words = ctypes.c_size_t.in_dll(library, "shim_size").value // 8
        except (AttributeError, ValueError) as error:
            raise DeviceError(f"load: {name} is no image of this device: {error}") from error
        self._run.restype = ctypes.c_long
        self._run.argtypes = [
            ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.c_ulonglong,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip

    def __repr__(self) -> str:
        return f"<Program {self.name} of {self.words} words>"

    def run(
        self, grid: int, block: int, words: Sequence[int], schedule: int, seed: int, report: Report
    ) -> None:
        """Run ``grid`` blocks of ``block`` threads in the order ``SCHEDULES[schedule]``.

        ``report.finished`` is set by the kernel itself: an interrupt that arrives meanwhile is
        raised after it, and whoever catches that must be able to tell whether it ran.

        Raises
        ------
        DeviceError
            Threads waited at a barrier that others did not reach.
        """
        packed = (ctypes.c_longlong * len(words))(*words)
        with _running:
            arena = _arena()
            bad = self._run(grid, block, packed, schedule, seed, arena, ctypes.byref(report))
        if bad:
            raise DeviceError(
                f"{self.name}: not all threads reach the barrier in line {report.line} "
                f"(block {report.block}, thread {report.thread}, {SCHEDULES[schedule]} order)"
            )


class Report(ctypes.Structure):
    """What a grid says of itself; as in the header."""

    _fields_ = [(name, ctypes.c_longlong) for name in ("line", "block", "thread", "finished")]
    line: int
    block: int
    thread: int
    finished: int


#: Grids run one at a time: their threads' indices, and shared memory, are variables of the image.
_running = threading.Lock()


@functools.cache
def _arena() -> int:
    """Return the address of the fibers' stacks, which all images share."""
    memory = mmap.mmap(-1, _MOST_THREADS * _STACK)
    _keep.append(memory)
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


_keep: list[object] = []
_libraries: dict[bytes, ctypes.CDLL] = {}


def _open(image: bytes) -> ctypes.CDLL:
    key = hashlib.sha256(image).digest()
    library = _libraries.get(key)
    if library is None:
        path = os.path.join(_folder(), f"{secrets.token_hex(8)}.tmp")
        try:
            Path(path).write_bytes(image)
            library = ctypes.CDLL(path)
        except OSError as error:
            raise DeviceError(f"load: not an image of this device: {error}") from error
        finally:
            if b"__asan_init" not in image:  # a sanitizer looks names up in the file
                Path(path).unlink(missing_ok=True)
        library = _libraries.setdefault(key, library)
    return library


@functools.cache
def _folder() -> str:
    """Return a folder that nobody else can write to: the user's usual one, or one for now."""
    owner = os.getuid()
    path = os.path.join(tempfile.gettempdir(), f"dispatcharr-virtual-{owner}")
    with suppress(OSError):
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
        if stat.S_ISDIR(found.st_mode) and found.st_uid == owner and not found.st_mode & 0o077:
            _bound(path)
            return path
    once = tempfile.TemporaryDirectory(prefix="dispatcharr-virtual-")
    _keep.append(once)
    return once.name


def _bound(folder: str) -> None:
    with os.scandir(folder) as entries:  # closed too where an entry is gone by now
        files = [(entry.stat().st_mtime, entry.path) for entry in entries]
    if len(files) > _MOST_KEPT:
        for _, path in sorted(files)[: _MOST_KEPT // 2]:
            Path(path).unlink(missing_ok=True)


def _check_present() -> None:
    why = missing()
    if why is not None:
        raise CompileError(f"compile: {why}")
