"""Which machine this is, as far as measured figures depend on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy

from dispatcharr._config import variable
from dispatcharr._version import __version__
from dispatcharr.route.defaults import read_head

__all__ = ["machine"]


@lru_cache(maxsize=1)
def machine() -> Mapping[str, Any]:
    """Return what a profile is bound to. A change of any of it voids the profile."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count() or 1,
        "dispatcharr": __version__,
        "numpy": numpy.__version__,
        "platform": f"{sys.platform}-{_architecture()}",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def _architecture() -> str:
    uname = getattr(os, "uname", None)
    if uname is not None:
        return str(uname().machine)
    return variable("PROCESSOR_ARCHITECTURE") or "unknown"  # Windows' own


def _cpu_model() -> str:
    """Return the CPU's name, by means that start no other process."""
    words: dict[str, str] = {}
    for line in read_head("/proc/cpuinfo", 4096).splitlines():
        name, colon, value = line.partition(":")
        if colon:
            words.setdefault(name.strip(), value.strip())
    for name in ("model name", "Processor", "cpu model", "cpu"):
        if words.get(name):
            return words[name]
    if "CPU part" in words:  # Arm: implementer and part are numbers
        return f"{words.get('CPU implementer', '?')}/{words['CPU part']}"
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string")
    return variable("PROCESSOR_IDENTIFIER") or "unknown"  # Windows' own


def _sysctl(name: str) -> str:
    import ctypes

    size = ctypes.c_size_t(256)
    text = ctypes.create_string_buffer(size.value)
    try:
        failed = ctypes.CDLL(None).sysctlbyname(
            name.encode(), text, ctypes.byref(size), None, ctypes.c_size_t(0)
        )
    except (OSError, AttributeError):  # no such function: not the system it looked like
        return "unknown"
    return "unknown" if failed else text.value.decode(errors="replace")
