"""NumPy's objects whose methods return arrays: archives, index builders, vectorized functions.

They stay what they are to ``isinstance``; only what they return becomes ours.
"""

from __future__ import annotations

from typing import Any

import numpy

from dispatcharr.face import fallback

__all__ = ["Indexer", "open_archive", "vectorize"]


class vectorize(numpy.vectorize):
    """:class:`numpy.vectorize` whose results are dispatcharr's arrays."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return fallback.call("vectorize", super().__call__, args, kwargs, None)


class Indexer:
    """``r_``, ``c_``, ``mgrid``, ``ogrid``, ``ix_``: NumPy's own, with our arrays in and out."""

    def __init__(self, numpys: Any) -> None:
        self._numpys = numpys

    def __getitem__(self, key: Any) -> Any:
        return fallback.call("index", self._numpys.__getitem__, (key,), {}, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._numpys, name)

    def __repr__(self) -> str:
        return repr(self._numpys)


class _Archive(numpy.lib.npyio.NpzFile):
    """An ``.npz`` archive whose members are dispatcharr's arrays."""

    def __getitem__(self, key: str) -> Any:
        return fallback.call("load", super().__getitem__, (key,), {}, None)


def open_archive(archive: Any) -> Any:
    """Return ``archive`` with its members as ours."""
    archive.__class__ = _Archive
    return archive
