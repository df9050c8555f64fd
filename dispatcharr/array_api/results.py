"""Results as the standard has them: arrays without axes where NumPy returns scalars."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy

import dispatcharr as np
from dispatcharr.face.array import is_array
from dispatcharr.storage import places

__all__ = ["names_of", "shown", "standard", "table"]


def shown(result: Any) -> Any:
    """Return ``result`` with NumPy's scalars, also inside tuples and lists, as arrays.

    Arrays without axes are marked: operators on them give arrays, where NumPy's give scalars.
    """
    if isinstance(result, numpy.generic):
        result = np.asarray(result)
    if is_array(result) and result.shape == ():
        result._standard = True  # so that operators give arrays again
    kind = type(result)
    if kind is tuple or kind is list:
        return kind([shown(item) for item in result])
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return kind(*[shown(item) for item in result])
    return result


def standard(found: Any, name: str, module: str, numpys: Any = None) -> Any:
    """Return what stands for an attribute of dispatcharr's in a namespace of the standard.

    Parameters
    ----------
    found : object
        The attribute. Functions are wrapped; those that take a ``device`` take each that there is.
    name, module : str
        What it is called there, by which pickles find it.
    numpys : callable, optional
        The function of NumPy's whose signature it has.
    """
    if isinstance(found, (type, types.ModuleType)) or not callable(found):
        return found

    def call(*args: Any, **kwargs: Any) -> Any:
        device = kwargs.get("device")
        if device is None and like and args and places.in_use():
            device = getattr(args[0], "device", None)
        if device is None:
            result = found(*args, **kwargs)
            # An array that the program gave stays what it was.
            return result if any([result is given for given in args]) else shown(result)
        return shown(found(*args, **{**kwargs, "device": "cpu"})).to_device(device)

    like = name.endswith("_like")  # their device is that of what they are like
    functools.update_wrapper(call, found)
    call.__wrapped__ = found if numpys is None else numpys  # type: ignore[attr-defined]
    call.__name__ = call.__qualname__ = name
    call.__module__ = module
    return call


def names_of(space: dict[str, Any], module: Any, numpys: Any = None) -> tuple[Any, Any]:
    """Return the ``__getattr__`` and ``__dir__`` of a namespace that has another's names too.

    Parameters
    ----------
    space : dict
        The namespace's globals; what was asked for once is there from then on.
    module : module
        The other one.
    numpys : module, optional
        Whose functions' signatures theirs have.
    """
    own = space["__name__"]

    def get(name: str) -> Any:
        try:
            found = getattr(module, name)
        except AttributeError:
            raise AttributeError(f"module {own!r} has no attribute {name!r}") from None
        made = space[name] = standard(found, name, own, getattr(numpys, name, None))
        return made

    return get, lambda: sorted({*dir(module), *space})


def table(module: str, *functions: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return functions by their names, wrapped as :func:`standard` does."""
    return {f.__name__: standard(f, f.__name__, module) for f in functions}
