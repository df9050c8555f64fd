"""SIMD variants of scalar functions: how they are named, which there are, how IR declares them.

The names follow the vector function ABIs of x86-64 and 64-bit Arm: ``_ZGV``, a letter for the
instructions, ``N`` for "takes no mask", the number of elements at once, a ``v`` for each argument
that is a vector, and the scalar name. ``_ZGVeN8v_sin`` is the sine of eight doubles by AVX-512.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from dispatcharr.ops.bodies.writing import library_name

__all__ = ["declarations", "existing"]

#: Functions of which a C library may have variants, by how many arguments they take. All are of
#: doubles; with an ``f`` at the end of their name they are of floats.
_UNARY = (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "cos", "cosh", "erf", "erfc", "exp",
    "exp10", "exp2", "expm1", "log", "log10", "log1p", "log2", "sin", "sinh", "tan", "tanh",
)  # fmt: skip
_BINARY = ("atan2", "hypot", "pow")
_ARITY: Mapping[str, int] = {**dict.fromkeys(_UNARY, 1), **dict.fromkeys(_BINARY, 2)}
_VARIANT = re.compile(r"_ZGV[a-z]N(\d+)v+_\w+")


def existing(
    widths: Mapping[str, int], exists: Callable[[str], bool]
) -> Mapping[str, tuple[str, ...]]:
    """Return the scalar functions that have variants, each with the variants, widest first.

    Parameters
    ----------
    widths : mapping
        The letters of the instructions that this CPU has, with the bytes they take at once.
    exists : callable
        Whether there is a symbol of that name.
    """
    widest_first = sorted(widths.items(), key=lambda item: -item[1])
    return {
        name: variants
        for base in _ARITY
        for name in (base, f"{base}f")
        if (variants := tuple(filter(exists, _possible(name, widest_first))))
    }


def _possible(name: str, widths: Iterable[tuple[str, int]]) -> Iterator[str]:
    kind, arity = _signature(name)
    for letter, width in widths:
        yield f"_ZGV{letter}N{width // (8 if kind == 'double' else 4)}{'v' * arity}_{name}"


def declarations(calls: Iterable[str], available: Mapping[str, tuple[str, ...]]) -> str:
    """Return IR text that declares scalar functions, with their variants where there are any.

    Each is there under its own name and under that of :func:`library_name`, by which LLVM takes it
    for any function: "nobuiltin" would do so too, but LLVM uses no variants for such a call.
    A function that the C library is not known to have variants of is a ValueError.
    """
    lines: list[str] = []
    used: list[str] = []
    for name in sorted(set(calls)):
        kind, arity = _signature(name)
        hidden, variants = library_name(name), available.get(name, ())
        parameters = ", ".join(f"{kind} %x{position}" for position in range(arity))
        renamed = _attributes([f"{_renamed(variant, hidden)}({variant})" for variant in variants])
        lines += [
            f"declare {kind} @{name}({', '.join([kind] * arity)}) {_attributes(variants)}",
            f"define internal {kind} @{hidden}({parameters}) noinline {renamed} {{",
            f"  %result = tail call {kind} @{name}({parameters}) nobuiltin",
            f"  ret {kind} %result",
            "}",
        ]
        if variants:  # their arguments are its own, which it has to keep
            used.append(f"ptr @{hidden}")
        for variant in variants:
            vector = f"<{_lanes(variant)} x {kind}>"
            convention = "aarch64_vector_pcs " if variant.startswith("_ZGVn") else ""
            lines.append(f"declare {convention}{vector} @{variant}({', '.join([vector] * arity)})")
            used.append(f"ptr @{variant}")
    if used:  # nothing calls the variants yet: without this they are dropped as unused
        lines.append(
            f"@llvm.compiler.used = appending global [{len(used)} x ptr] [{', '.join(used)}], "
            'section "llvm.metadata"'
        )
    return "".join(line + "\n" for line in lines)


def _attributes(variants: Iterable[str]) -> str:
    # What these functions do to errno is nobody's business here, so they may be moved.
    attributes = "nounwind willreturn nosync memory(none)"
    named = ",".join(variants)
    return f'{attributes} "vector-function-abi-variant"="{named}"' if named else attributes


def _renamed(variant: str, name: str) -> str:
    """Return the name that a variant would have if the scalar function had another."""
    return f"{variant[: variant.index('v_') + 1]}_{name}"


def _signature(name: str) -> tuple[str, int]:
    """Return the IR type and the number of arguments of a scalar function."""
    if name in _ARITY:
        return "double", _ARITY[name]
    if name.endswith("f") and name[:-1] in _ARITY:
        return "float", _ARITY[name[:-1]]
    raise ValueError(
        f"{name!r} is not a function of the C mathematical library that may have SIMD variants; "
        "declare it in the text that calls it"
    )


def _lanes(variant: str) -> int:
    found = _VARIANT.fullmatch(variant)
    if found is None:
        raise ValueError(f"{variant!r} is not the name of a SIMD variant of a fixed width")
    return int(found[1])
