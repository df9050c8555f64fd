"""NumPy's objects whose methods return arrays: archives, index builders, vectorized functions.

They stay what they are to ``isinstance``; only what they return becomes ours.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy

from dispatcharr._config import options
from dispatcharr.face import fallback
from dispatcharr.face.array import is_array
from dispatcharr.face.iterators import broadcast, nditer

__all__ = ["OURS", "Indexer", "open_archive", "vectorize"]


class vectorize(numpy.vectorize):
    """:class:`numpy.vectorize` whose results are dispatcharr's arrays.

    Under ``dispatch_options(compile_vectorize=True)`` a function that numba can type is compiled;
    others are called element by element, as ever.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plain = type(self.pyfunc) is FunctionType and args and not (
            kwargs or self.signature or self.excluded
        )  # fmt: skip
        if plain and options().compile_vectorize:
            found = self._compiled(args)
            if found is not None:
                return found
            plain = False
        reason = _HINT if plain and _is_long(args) else None
        return fallback.call("vectorize", super().__call__, args, kwargs, reason)

    def _compiled(self, args: tuple[Any, ...]) -> Any:
        """Return the results, or None where they are NumPy's to make."""
        from dispatcharr.face.elementwise import elementwise

        given = [value if is_array(value) else numpy.asarray(value) for value in args]
        wide = [_PYTHONS.get(value.dtype.char) for value in given]
        pairs = list(zip(given, wide, strict=True))
        sizes = [value.size for value in given]
        if min(sizes) == 0 or max(sizes) == 1:
            return None
        if not all([to is not None and numpy.can_cast(value.dtype, to) for value, to in pairs]):
            return None
        values = [value if value.dtype == to else value.astype(to) for value, to in pairs]
        try:
            if "_function" not in self.__dict__:
                self._function = elementwise(self.pyfunc)
            found = self._function(*values)
            chars = self.otypes
            if chars is None and any(v is not g for v, g in zip(values, given, strict=True)):
                chars = self._first(given)
        except TypeError:
            return None  # numba cannot type it: NumPy calls it, and says what is wrong, if anything
        made = found if type(found) is tuple else (found,)
        if chars is None:
            return found
        if len(made) != len(chars):
            return None
        made = tuple([one.astype(char) for one, char in zip(made, chars, strict=True)])
        return made if type(found) is tuple else made[0]

    def _first(self, given: list[Any]) -> str:
        """Return the dtypes of the results as NumPy finds them: from the first elements."""
        found = self.pyfunc(*[numpy.asarray(value).flat[0] for value in given])
        made = found if type(found) is tuple else (found,)
        return "".join([numpy.asarray(one).dtype.char for one in made])


_HINT = (
    "it calls a Python function for each element; dispatch_options(compile_vectorize=True) has it "
    "compiled, if numba can"
)
#: Elements from which on the time for compiling is worth a thought.
_LONG = 1 << 14
#: What Python's numbers are, by the characters of the dtypes that have items of that kind.
_PYTHONS = {
    **dict.fromkeys("?", bool), **dict.fromkeys("bBhHiIlq", int), **dict.fromkeys("efd", float),
    **dict.fromkeys("FD", complex),
}  # fmt: skip


def _is_long(args: tuple[Any, ...]) -> bool:
    return any([getattr(arg, "size", 0) >= _LONG for arg in args])


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


#: What stands for classes of NumPy's.
OURS: dict[type, Any] = {
    numpy.broadcast: broadcast,
    numpy.nditer: nditer,
    numpy.vectorize: vectorize,
}
