"""Numba's LLVM IR of a function, cut down to what computes it, with names that are ours.

What remains is text without attributes and metadata, which are worth nothing once it is part of a
kernel: a kernel is optimised as a whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from dispatcharr.kernels import native
from dispatcharr.kernels.target import address_of
from dispatcharr.ops.bodies import Body, body_of
from dispatcharr.ops.bodies.casting import memory_type
from dispatcharr.ops.bodies.functions import ROWS
from dispatcharr.ops.table import BY_NAME

__all__ = ["Scalar", "body_from", "tidied"]

Dtype = numpy.dtype[Any]
_NAME = re.compile(r'@(?:"[^"]*"|[-\w$.]+)')
_LINKAGE = re.compile(r"^define (?:(?:private|internal|linkonce|linkonce_odr|weak|weak_odr|hidden|"
                      r"dso_local) )*")  # fmt: skip
#: What names are written with until the text's digest is known.
_STEM = "@U."
#: Functions of the C library that have SIMD variants, but no row.
_UNLISTED = ("erf", "erfc")
#: Functions of the C library that LLVM makes instructions of if they are called by these names.
_INSTRUCTIONS = ("sqrt", "floor", "ceil", "trunc", "rint", "fabs", "copysign")
_FLOATING = re.compile(r" = (f(add|sub|mul|div|rem|cmp|ptrunc|ptosi|ptoui|pext)|[us]itofp|"
                       r"(tail )?call) ")  # fmt: skip
_TYPE = re.compile(r"\{[^}]*\}|\[[^\]]*\]|<[^>]*>|\.\.\.|"
                   r"\b(?:i\d+|ptr|half|float|double|void)\b")  # fmt: skip
_ERRORS = frozenset({"divide by zero", "overflow", "underflow", "invalid value"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """A function in IR: definitions whose names begin with :data:`_STEM`, the first one its own.

    Attributes
    ----------
    text : str
        The definitions.
    outside : mapping
        Functions that it calls, with their declarations.
    reason : str
        Why it cannot be part of a kernel; empty where it can.
    at_once : bool
        Whether it must not be put off, since calls do more than to return a number.
    """

    text: str
    outside: Mapping[str, str]
    reason: str = ""
    at_once: bool = False


def tidied(
    module: str, entry: str, dtypes: tuple[Dtype, ...], results: tuple[Dtype, ...], is_tuple: bool
) -> Scalar:
    """Return the function ``entry`` of numba's ``module``."""
    items = dict(_items(module))
    if set(re.findall(r"^  ret i32 (.*)$", items[f"@{entry}"], re.MULTILINE)) != {"0"}:
        return Scalar("", {}, "it may raise an exception, for which a kernel has no place", True)
    kept: dict[str, str] = {}
    outside: dict[str, str] = {}
    waiting = [f"@{entry}"]
    while waiting:
        name = waiting.pop()
        if name in kept or name in outside:
            continue
        text = items.get(name, "")
        if text.startswith("declare"):
            outside[name[1:]] = _declaration(name, text)
        elif text.startswith("define"):
            kept[name] = _definition(name, text)
            waiting += [n for n in reversed(_NAME.findall(kept[name])) if n not in kept]
        elif re.match(r"@\S.* constant ", text):
            kept[name] = text
            waiting += _NAME.findall(text)[1:]
        else:
            return Scalar("", {}, "it does more than to compute a number", True)
    unknown = [name for name in outside if _address(name) is None]
    if unknown:
        return Scalar("", {}, f"it calls {', '.join(sorted(unknown))}, which only numba has")
    numbers = {name: f"{_STEM}{number}" for number, name in enumerate(kept)}
    text = _NAME.sub(lambda m: numbers.get(m[0], m[0]), "\n".join(kept.values()))
    return Scalar(_wrapper(dtypes, results, is_tuple) + text, outside)


def _items(module: str) -> Iterator[tuple[str, str]]:
    """Return definitions, declarations and globals by name."""
    lines = iter(module.split("\n"))
    for line in lines:
        if line.startswith("define"):
            whole = [line]
            while whole[-1] != "}":
                whole.append(next(lines))
            yield _NAME.findall(line)[0], "\n".join(whole)
        elif line.startswith(("declare", "@")):
            yield _NAME.findall(line)[0], line


def _definition(name: str, text: str) -> str:
    head, _, rest = text.partition("\n")
    head = _LINKAGE.sub("define internal ", head)
    end = _closed(head, head.index(name) + len(name))
    lines = [f"{head[:end]} alwaysinline nounwind {{"]
    for line in rest.split("\n"):
        plain = re.sub(r"(\s+; preds = .*|(, ![\w.]+ !\d+)+)$", "", line)
        lines.append(re.sub(r"\) #\d+$", ")", plain))
    return "\n".join(lines)


def _declaration(name: str, text: str) -> str:
    """Return a declaration without attributes, as bodies write theirs."""
    start = text.index(name) + len(name)
    inner = text[start + 1 : _closed(text, start) - 1]
    types = [_type(part) for part in _split(inner)] if inner else []
    before = text[len("declare ") : text.index(name)].strip()
    return f"declare {_type(before, last=True)} {name}({', '.join(types)})"


def _closed(text: str, start: int) -> int:
    """Return the place after the bracket that closes the one at ``start``."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"numba's IR has an open bracket: {text[:200]}")


def _split(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for place, char in enumerate(text):
        depth += {"(": 1, "{": 1, "[": 1, "<": 1, ")": -1, "}": -1, "]": -1, ">": -1}.get(char, 0)
        if char == "," and depth == 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()


def _type(text: str, last: bool = False) -> str:
    """Return the type in a parameter or, the ``last`` word there, before a function's name."""
    found = _TYPE.findall(re.sub(r"\w+\([^)]*\)", "", text))  # without attributes
    return str(found[-1 if last else 0])


def _wrapper(dtypes: tuple[Dtype, ...], results: tuple[Dtype, ...], is_tuple: bool) -> str:
    """Return the function that takes and returns what bodies do, for the result ``<<PLACE>>``."""
    kinds = [memory_type(dtype) for dtype in results]
    whole = kinds[0]
    if is_tuple:
        same = len(set(kinds)) == 1 and len(set(results)) == 1
        whole = f"[{len(kinds)} x {kinds[0]}]" if same else f"{{ {', '.join(kinds)} }}"
    lines, given = [], []
    for i, dtype in enumerate(dtypes):
        type_ = memory_type(dtype)
        if dtype.kind == "c":
            part = type_.strip("{}").split(",")[0]
            for j in (0, 1):
                lines.append(f"  %x{i}.{j} = extractvalue {type_} %x{i}, {j}")
                given.append(f"{part} %x{i}.{j}")
        elif dtype.char == "e":
            lines.append(f"  %x{i}.w = fpext half %x{i} to float")
            given.append(f"float %x{i}.w")
        else:
            given.append(f"{type_} %x{i}")
    arguments = ", ".join(f"{memory_type(dtype)} %x{i}" for i, dtype in enumerate(dtypes))
    return "\n".join([
        f"define internal <<RESULT>> <<WRAPPER>>({arguments}) alwaysinline nounwind {{",
        f"  %slot = alloca {whole}, align 16",
        *lines,
        f"  %status = call i32 {_STEM}0(ptr %slot, ptr null, {', '.join(given)})",
        f"  %whole = load {whole}, ptr %slot, align 16",
        *([f"  %one = extractvalue {whole} %whole, <<PLACE>>"] if is_tuple else []),
        f"  ret <<RESULT>> %{'one' if is_tuple else 'whole'}",
        "}\n",
    ])  # fmt: skip


def body_from(name: str, scalar: Scalar, result: Dtype, place: int) -> Body | str:
    """Return the body of one result, for this machine."""
    if scalar.reason:
        return f"{name} is not compiled: {scalar.reason}"
    host = native.host()
    if isinstance(host, str):
        return host
    digest = hashlib.sha256(scalar.text.encode()).hexdigest()[:24]
    symbol = f"user_{re.sub(r'[^A-Za-z0-9]', '_', name)[:40]}_{digest}_{place}"
    text = scalar.text.replace("<<WRAPPER>>", f"@{symbol}").replace("<<PLACE>>", str(place))
    text = text.replace("<<RESULT>>", memory_type(result)).replace(_STEM, f"@{symbol}.")
    added: list[str] = []  # apart, since it may call what the function itself no longer does
    needs: list[str] = []
    calls: list[str] = []
    widths = [0]
    for outside, declared in scalar.outside.items():
        mathematics = _simd(outside, host.simd_math)
        if isinstance(mathematics, Body):
            inner = f"@{symbol}.{mathematics.symbol}"
            added.append(mathematics.text.replace(f"@{mathematics.symbol}", inner))
            text = _called(text, outside, inner)
            needs += mathematics.needs
            calls += mathematics.calls
            widths.append(mathematics.function)
        elif mathematics:
            text = _called(text, outside, f"@{mathematics}")
            calls.append(mathematics)
            widths.append(4 if mathematics.endswith("f") else 8)
        else:
            plain = _instruction(outside)
            text = _called(text, outside, f"@{plain}")
            needs.append(declared.replace(f"@{outside}(", f"@{plain}("))
    text = "\n".join([text, *added])
    errors = _ERRORS if _FLOATING.search(text) else frozenset()
    unique = dict.fromkeys(needs), dict.fromkeys(calls)
    return Body(
        symbol, text, tuple(unique[0]), tuple(unique[1]), errors, errors, function=max(widths)
    )


def _called(text: str, old: str, new: str) -> str:
    return re.sub(rf"@{re.escape(old)}(?=\()", new, text)


def _simd(name: str, available: Mapping[str, tuple[str, ...]]) -> Body | str | None:
    """Return the body, or the function, that does ``name`` for whole vectors."""
    base, char = _base(name)
    if char not in "fd":
        return None
    if base in _UNLISTED:
        symbol = base + ("f" if char == "f" else "")
        return symbol if symbol in available else None
    row = BY_NAME.get(ROWS.get(base, ""))
    if row is None:
        return None
    dtype = numpy.dtype(char)
    found = body_of(row, (dtype,) * row.nin, dtype)
    return found if isinstance(found, Body) and available.keys() >= {*found.calls} else None


def _base(name: str) -> tuple[str, str]:
    """Return what C calls a function of doubles, and the dtype of this one's numbers."""
    found = re.fullmatch(r"llvm\.(\w+)\.f(32|64)", name)
    if found is not None:
        return found[1], "f" if found[2] == "32" else "d"
    known = (*ROWS, *_UNLISTED, *_INSTRUCTIONS)
    if name.endswith("f") and name[:-1] in known:
        return name[:-1], "f"
    return name, "d" if name in known else " "


def _instruction(name: str) -> str:
    base, char = _base(name)
    if base in _INSTRUCTIONS and char in "fd":
        return f"llvm.{base}.f{32 if char == 'f' else 64}"
    return name


def _address(name: str) -> int | None:
    """Return an address, true for what LLVM provides itself."""
    return 1 if name.startswith("llvm.") else address_of(name)
