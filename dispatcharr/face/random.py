"""NumPy's random generators, whose arrays become ours. Apart, because ``numpy.random`` loads late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import numpy.random

from dispatcharr.face import fallback

__all__ = ["Generator"]


class Generator(numpy.random.Generator):
    """A :class:`numpy.random.Generator` whose arrays are dispatcharr's. Seeds keep their numbers."""


def _draws(name: str) -> Callable[..., Any]:
    numpys = getattr(numpy.random.Generator, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return fallback.call(f"Generator.{name}", numpys, (self, *args), kwargs, None)

    method.__name__ = name
    method.__doc__ = numpys.__doc__
    return method


for _name in dir(numpy.random.Generator):
    if not _name.startswith("_") and callable(getattr(numpy.random.Generator, _name)):
        if _name != "spawn":
            setattr(Generator, _name, _draws(_name))
