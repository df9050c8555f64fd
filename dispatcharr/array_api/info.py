"""What consumers of the standard ask of a namespace: dtypes, devices, capabilities."""

from __future__ import annotations

from typing import Any

import numpy

from dispatcharr.face.devices import names

__all__ = ["VERSIONS", "NamespaceInfo", "checked_version"]

#: The revisions of the standard that the namespace follows; each adds to the one before.
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")

_SIGNED = ("int8", "int16", "int32", "int64")
_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
_REAL = ("float32", "float64")
_COMPLEX = ("complex64", "complex128")
_KINDS: dict[str, tuple[str, ...]] = {
    "bool": ("bool",),
    "signed integer": _SIGNED,
    "unsigned integer": _UNSIGNED,
    "integral": _SIGNED + _UNSIGNED,
    "real floating": _REAL,
    "complex floating": _COMPLEX,
    "numeric": _SIGNED + _UNSIGNED + _REAL + _COMPLEX,
}


class NamespaceInfo:
    """What the namespace offers; see the standard's page on inspection.

    Examples
    --------
    >>> import dispatcharr.array_api as xp
    >>> xp.__array_namespace_info__().default_device()
    'cpu'
    """

    __module__ = "dispatcharr.array_api"

    def capabilities(self) -> dict[str, Any]:
        """Return what arrays can do that not those of every library can."""
        return {
            "boolean indexing": True,
            "data-dependent shapes": True,
            "max dimensions": 64,
        }

    def default_device(self) -> str:
        """Return the device of new arrays."""
        return "cpu"

    def devices(self) -> tuple[str, ...]:
        """Return the devices that arrays can be on."""
        return names()

    def default_dtypes(self, *, device: Any = None) -> dict[str, numpy.dtype[Any]]:
        """Return the dtypes that new arrays have where none is named."""
        _check(device)
        return {
            "real floating": numpy.dtype(numpy.float64),
            "complex floating": numpy.dtype(numpy.complex128),
            "integral": numpy.dtype(numpy.intp),
            "indexing": numpy.dtype(numpy.intp),
        }

    def dtypes(
        self, *, device: Any = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, numpy.dtype[Any]]:
        """Return the standard's dtypes of a kind, by their names."""
        _check(device)
        kinds = ("bool", "numeric") if kind is None else (kind,) if isinstance(kind, str) else kind
        unknown = [one for one in kinds if one not in _KINDS]
        if unknown:
            raise ValueError(f"dtypes: unknown kind {unknown[0]!r}; one of {', '.join(_KINDS)}")
        found = dict.fromkeys([name for one in kinds for name in _KINDS[one]])
        return {name: numpy.dtype(name) for name in found}


def _check(device: Any) -> None:
    if device is not None and device not in names():
        raise ValueError(f"unknown device {device!r}; there is {', '.join(names())}")


def checked_version(version: str | None) -> None:
    """Raise where the namespace does not follow ``version`` of the standard."""
    if version is not None and version not in VERSIONS:
        raise ValueError(
            f"__array_namespace__: version {version!r} of the array API standard is not "
            f"supported; one of {', '.join(VERSIONS)}"
        )
