"""What kernels are compiled for: this CPU, the width of its vectors, the functions they may call.

Vectors are as wide as the CPU's registers, save on the first generations with AVX-512, which lower
their clock under it: see :data:`_HALF_WIDTH`. LLVM has a preference of its own for each CPU; the
rule here takes its place, so that code and :attr:`Host.vector_bytes` agree.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from dispatcharr.kernels.simd_math import existing

__all__ = ["Host", "address_of", "architecture", "describe"]

#: CPUs whose clock falls under 512-bit arithmetic by more than the width gains. Later generations
#: with AVX-512 keep their clock or nearly so, and compute in full or in two halves of 256 bits,
#: which costs nothing either way.
_HALF_WIDTH = frozenset({"skylake-avx512", "cascadelake", "cooperlake", "cannonlake"})

#: CPUs that gather elements one by one, and slower so than code that loads each: a copy of every
#: fifth element took 3.5 ms by gathers and 2.0 ms without (AMD Zen 4).
_SLOW_GATHERS = ("znver",)

#: Where functions that kernels call are looked for, in this order.
_LIBRARIES = ("libmvec.so.1", "libm.so.6", "libc.so.6", "libgcc_s.so.1")


@dataclass(frozen=True, slots=True)
class Host:
    """What kernels are compiled for.

    Attributes
    ----------
    cpu, features : str
        As LLVM names them; the features are those that code may use.
    versions : str
        Of the compiler, which the code depends on.
    vector_bytes : int
        The width that loops are vectorised to.
    simd_math : mapping
        Scalar functions by name (``"sin"``, ``"sinf"``), each with the names of its SIMD variants
        that really exist here, widest first.
    """

    cpu: str
    features: str
    versions: str
    vector_bytes: int
    simd_math: Mapping[str, tuple[str, ...]]


@cache
def architecture() -> str:
    """Return the machine's architecture, as Unix systems name it."""
    uname = getattr(os, "uname", None)
    return str(uname().machine) if uname is not None else "unknown"


def describe(llvm: Any, versions: str) -> Host:
    """Return what LLVM and the system know of this machine."""
    cpu = str(llvm.get_host_cpu_name())
    features = dict(llvm.get_host_cpu_features())
    if architecture() == "x86_64":
        instructions = _x86_instructions(features)
        width = max(instructions.values())
        if width == 64:
            features["prefer-256-bit"] = cpu in _HALF_WIDTH
            width = 32 if cpu in _HALF_WIDTH else 64
        if cpu.startswith(_SLOW_GATHERS):
            features["prefer-no-gather"] = features["prefer-no-scatter"] = True
    else:
        instructions, width = {"n": 16}, 16
    listed = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(features.items()))
    simd_math = existing(instructions, lambda symbol: address_of(symbol) is not None)
    return Host(cpu, listed, versions, width, simd_math)


def _x86_instructions(features: Mapping[str, bool]) -> dict[str, int]:
    """Return the letters of the vector function ABI that this CPU can run, with their widths."""
    found = {"b": 16}
    if features.get("avx2") and features.get("fma"):
        found["d"] = 32
    if all(features.get(name) for name in ("avx512f", "avx512dq", "avx512vl")):
        found["e"] = 64
    return found


def address_of(symbol: str) -> int | None:
    """Return the address of a function of the C library, None if there is none of that name."""
    for library in _libraries():
        try:
            return ctypes.cast(library[symbol], ctypes.c_void_p).value
        except AttributeError:
            continue
    return None


@cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append(ctypes.CDLL(name))
        except OSError:  # e.g. a C library other than glibc: what it lacks refuses single kernels
            continue
    return tuple(found)
