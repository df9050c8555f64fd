"""NumPy's random generators, whose arrays become ours. Apart, because ``numpy.random`` loads late.

Seeds keep their numbers. A generator that NumPy made counts as an instance of the class here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import numpy.random

from dispatcharr.face import _fastpath, fallback
from dispatcharr.face.array import unwrap

__all__ = ["OURS", "Generator", "RandomState"]


class _Drawing(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])


class Generator(numpy.random.Generator, metaclass=_Drawing):
    """A :class:`numpy.random.Generator` whose arrays are dispatcharr's."""

    def __reduce__(self) -> Any:
        return Generator, (self.bit_generator,), None

    def choice(self, *args: Any, **kwargs: Any) -> Any:
        """Draw from an array; see :meth:`numpy.random.Generator.choice`."""
        # It asks its own methods for numbers, and takes the answers for NumPy's.
        numpys = numpy.random.Generator(self.bit_generator)
        return fallback.call("Generator.choice", numpys.choice, args, kwargs, None)


class RandomState(numpy.random.RandomState, metaclass=_Drawing):
    """A :class:`numpy.random.RandomState` whose arrays are dispatcharr's."""

    def __reduce__(self) -> Any:
        _, args, *state = super().__reduce__()
        return RandomState, args, *state


def _draws(kind: type, name: str) -> Callable[..., Any]:
    numpys = getattr(kind, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return fallback.call(f"{kind.__name__}.{name}", numpys, (self, *args), kwargs, None)

    # Without a frame of Python's between, NumPy's warnings name the user's line.
    made = fallback.forward(name, numpys, method, opaque=True, kind=_fastpath.Method)
    made.__qualname__ = f"{kind.__name__}.{name}"
    return made


#: They give no arrays, or are called by NumPy itself.
_AS_THEY_ARE = {"spawn", "seed", "get_state", "set_state", "bytes"}
for _kind in (Generator, RandomState):
    for _name in dir(_kind):
        if not _name.startswith("_") and _name not in {*_AS_THEY_ARE, *vars(_kind)}:
            if callable(getattr(_kind, _name)):
                setattr(_kind, _name, _draws(_kind.__mro__[1], _name))


def _seeded(name: str) -> Any:
    """Return one of NumPy's classes whose seeds may be arrays of ours."""
    numpys = getattr(numpy.random, name)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        numpys.__init__(self, *unwrap(args), **unwrap(kwargs))

    space = {"__init__": __init__, "__module__": "dispatcharr.random", "__doc__": numpys.__doc__}
    return _Drawing(name, (numpys,), space)


#: What stands for classes of NumPy's, by their names.
OURS: dict[str, Any] = {
    "Generator": Generator,
    "RandomState": RandomState,
    **{
        name: _seeded(name)
        for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "SeedSequence")
    },
}
