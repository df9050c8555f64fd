"""NumPy's random generators, whose arrays become ours. Apart, because ``numpy.random`` loads late.

Seeds keep their numbers. A generator that NumPy made counts as an instance of the class here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import numpy.random

from dispatcharr.face import fallback

__all__ = ["Generator", "RandomState"]


class _Drawing(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])


class Generator(numpy.random.Generator, metaclass=_Drawing):
    """A :class:`numpy.random.Generator` whose arrays are dispatcharr's."""

    def __reduce__(self) -> Any:
        return Generator, (self.bit_generator,)


class RandomState(numpy.random.RandomState, metaclass=_Drawing):
    """A :class:`numpy.random.RandomState` whose arrays are dispatcharr's."""

    def __reduce__(self) -> Any:
        _, args, *state = super().__reduce__()
        return RandomState, args, *state


def _draws(kind: type, name: str) -> Callable[..., Any]:
    numpys = getattr(kind, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return fallback.call(f"{kind.__name__}.{name}", numpys, (self, *args), kwargs, None)

    method.__name__ = name
    method.__doc__ = numpys.__doc__
    return method


#: They give no arrays, or are called by NumPy itself.
_AS_THEY_ARE = {"spawn", "seed", "get_state", "set_state", "bytes"}
for _kind in (Generator, RandomState):
    for _name in dir(_kind):
        if not _name.startswith("_") and _name not in _AS_THEY_ARE:
            if callable(getattr(_kind, _name)):
                setattr(_kind, _name, _draws(_kind.__mro__[1], _name))
