"""What an ELF object file defines and what it needs, read without a linker.

Only the symbol table of 64-bit relocatable files is read, as it stands in the System V ABI.
Offsets and sizes are checked against the file, since it may have come from a disk.
"""

from __future__ import annotations

import struct

__all__ = ["NotAnObject", "symbols"]

_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB = 2
_LOCAL = 0


class NotAnObject(ValueError):
    """The bytes are no object file that this can read; the text says why."""


def symbols(object_code: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that an object file defines for others, and those it needs from others.

    Examples
    --------
    >>> symbols(b"something else")
    Traceback (most recent call last):
        ...
    dispatcharr.kernels.elf.NotAnObject: it is not a 64-bit little-endian ELF object file
    """
    data = memoryview(object_code)
    defined: list[str] = []
    needed: list[str] = []
    sections = _sections(data)
    for kind, offset, size, link in sections:
        if kind != _SYMTAB:
            continue
        if link >= len(sections):
            raise NotAnObject("its symbol table has no names")
        names = _part(data, *sections[link][1:3])
        for entry in _SYMBOL.iter_unpack(_part(data, offset, size - size % _SYMBOL.size)):
            start, information, _, section = entry[:4]
            if start and information >> 4 != _LOCAL:
                (defined if section else needed).append(_name(names, start))
    return tuple(defined), tuple(needed)


def _sections(data: memoryview) -> list[tuple[int, int, int, int]]:
    """Return type, offset, size and link of each section."""
    if len(data) < _HEADER.size:
        raise NotAnObject("it is not a 64-bit little-endian ELF object file")
    header = _HEADER.unpack_from(data)
    magic, bits, order, _, kind = header[:5]
    if (magic, bits, order, kind) != (b"\x7fELF", 2, 1, 1):
        raise NotAnObject("it is not a 64-bit little-endian ELF object file")
    start, size, count = header[9], header[14], header[15]
    if size != _SECTION.size:
        raise NotAnObject(f"its section headers have {size} bytes, wanted {_SECTION.size}")
    table = _part(data, start, size * count)
    return [(entry[1], *entry[4:7]) for entry in _SECTION.iter_unpack(table)]


def _part(data: memoryview, offset: int, size: int) -> memoryview:
    if offset < 0 or size < 0 or offset + size > len(data):
        raise NotAnObject("it is cut short")
    return data[offset : offset + size]


def _name(names: memoryview, start: int) -> str:
    text = bytes(names[start : start + 4096])
    return text.partition(b"\0")[0].decode("ascii", errors="replace")
