"""NVRTC, the compiler of CUDA C++, by ctypes: where it is, and text into code for one GPU.

Policy, once:

- Kernels are compiled to machine code for the GPU at hand, never to PTX: code of a compiler newer
  than the driver runs, its PTX does not.
- The library is looked for in the folders of its wheels, where ``cuda.pathfinder`` says it is, if
  that is installed, and under the names by which a system knows it. Looking loads nothing where
  the wheel is there.
- Results are NumPy's only without contraction of products and sums and without flushing of small
  numbers: the options below are part of what a kernel is.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from dispatcharr.devices.device import CompileError

__all__ = ["MISSING", "OPTIONS", "Compiler", "find"]

#: What is said where :func:`find` finds nothing.
MISSING = "NVRTC, the compiler of CUDA kernels, was not found; install nvidia-cuda-nvrtc"

#: For every kernel. Division and square root are rounded correctly by default.
OPTIONS = ("--fmad=false", "--std=c++17")

_WINDOWS = sys.platform == "win32"
#: Folders of wheels in a folder that Python imports from, newest first.
_FOLDERS = (
    ("nvidia/cu13/bin/x86_64", "nvidia/cu13/bin", "nvidia/cuda_nvrtc/bin")
    if _WINDOWS
    else ("nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib")
)
_NAMES = (
    ("nvrtc64_130_0.dll", "nvrtc64_120_0.dll")
    if _WINDOWS
    else ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")
)


def find() -> str | None:
    """Return the path or the name by which NVRTC can be loaded, None where there is none."""
    for path in _in_wheels():
        return path
    if (known := _by_pathfinder()) is not None:
        return known
    for name in _NAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    return None


def _in_wheels() -> Iterator[str]:
    for base in sys.path:
        for folder in _FOLDERS:
            for name in _NAMES:
                path = os.path.join(base, *folder.split("/"), name)
                if base and os.path.isfile(path):
                    yield path


def _by_pathfinder() -> str | None:
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
        return str(pathfinder.load_nvidia_dynamic_lib("nvrtc").abs_path or "") or None
    except Exception:  # not installed, or it found nothing: it has a class of its own to say that
        return None


class Compiler:
    """A loaded NVRTC.

    Parameters
    ----------
    path : str
        What :func:`find` returned; OSError if it cannot be loaded.

    Attributes
    ----------
    version : str
        Its version and the options that it is given.
    """

    def __init__(self, path: str) -> None:
        if sys.platform == "win32" and os.path.isabs(path):
            os.add_dll_directory(os.path.dirname(path))  # it loads a part of itself by name
        self._library = library = ctypes.CDLL(path)
        self._lock = threading.Lock()
        pointer = ctypes.c_void_p
        for name, count in _PARAMETERS.items():
            function = getattr(library, name)
            function.restype = ctypes.c_int
            function.argtypes = (pointer,) * count
        library.nvrtcCreateProgram.argtypes = (pointer,) * 3 + (ctypes.c_int, pointer, pointer)
        library.nvrtcCompileProgram.argtypes = (pointer, ctypes.c_int, pointer)
        library.nvrtcGetErrorString.argtypes = (ctypes.c_int,)
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = " ".join((f"nvrtc {major.value}.{minor.value}", *OPTIONS))

    def compile(self, text: str, target: str, name: str) -> bytes:
        """Return the code of a text for a GPU such as ``"sm_90"``; CompileError with the log."""
        options = [f"--gpu-architecture={target}".encode(), *(o.encode() for o in OPTIONS)]
        listed = (ctypes.c_char_p * len(options))(*options)
        program = ctypes.c_void_p()
        with self._lock:  # the oldest versions that serve are not safe for threads
            self._call(
                "nvrtcCreateProgram", ctypes.byref(program), text.encode(), f"{name}.cu".encode(),
                0, None, None,
            )  # fmt: skip
            try:
                code = self._library.nvrtcCompileProgram(program, len(options), listed)
                if code:
                    log = self._content(program, "nvrtcGetProgramLog").rstrip(b"\0\n").decode()
                    raise CompileError(f"{name} for {target}: {self._sentence(code)}\n{log}")
                return self._content(program, "nvrtcGetCUBIN")
            finally:
                self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _content(self, program: ctypes.c_void_p, function: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"{function}Size", program, ctypes.byref(size))
        content = ctypes.create_string_buffer(max(size.value, 1))
        self._call(function, program, content)
        return content.raw[: size.value]

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            raise CompileError(f"{function}: {self._sentence(code)}")

    def _sentence(self, code: int) -> str:
        text = self._library.nvrtcGetErrorString(code)
        return f"{(text or b'an unknown error').decode(errors='replace')} ({code})"


#: How many pointers each function takes; the two that take more are told apart above.
_PARAMETERS = {
    "nvrtcVersion": 2,
    "nvrtcCreateProgram": 6,
    "nvrtcCompileProgram": 3,
    "nvrtcGetProgramLogSize": 2,
    "nvrtcGetProgramLog": 2,
    "nvrtcGetCUBINSize": 2,
    "nvrtcGetCUBIN": 2,
    "nvrtcDestroyProgram": 1,
    "nvrtcGetErrorString": 1,
}
