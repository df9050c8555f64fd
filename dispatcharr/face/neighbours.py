"""What other libraries have to be told of our arrays, each when it meets the first one.

Most need nothing: they ask by NumPy's protocols. Dask computes with chunks of registered types
only, numba and jax compile for types that they know, Arrow's consumers ask for capsules. Each is
told once, by what it does first to an array of ours, and so in whatever order the program imports.
Nothing of theirs is imported that the program has not imported itself. Where one takes what it is
given for something else, its function is known by its name, and answered as it needs.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy

from dispatcharr._errors import user_level
from dispatcharr.face import _fastpath, believed, leaving, protocols, remedies
from dispatcharr.face.array import array_class, concrete, is_array
from dispatcharr.face.arrivals import await_module
from dispatcharr.face.functions import FUNCTIONS

__all__ = ["install", "meet", "rebuild"]


def _tell_dask() -> None:
    from dispatcharr.face import dask_chunks

    dask_chunks.register()


def _tell_numba() -> None:
    from dispatcharr.face import numba_type

    numba_type.register()


def _tell_jax() -> None:
    from dispatcharr.face import jax_types

    jax_types.register()


#: Whom to tell what, by the module whose presence asks for it; what was told is taken out.
_untold: dict[str, Callable[[], None]] = {
    "dask.array": _tell_dask, "jax": _tell_jax, "numba": _tell_numba,
}  # fmt: skip


#: Who could not be told.
_untellable: set[str] = set()
#: The first protocol of pickles whose buffers may go out of band.
_OUT_OF_BAND = 5
#: How many modules were loaded when libraries were looked for.
_loaded = 0


def meet() -> None:
    """Tell the libraries that were imported since the last time."""
    global _loaded
    _loaded = len(sys.modules)
    for name in tuple(_untold):
        if _is_there(sys.modules.get(name)):
            tell = _untold.get(name)
            if tell is not None:
                _arrived(name, tell)


def _is_there(module: Any) -> bool:
    """Return whether a module has been imported to its end.

    To ask a lazy one for an attribute would import it.
    """
    if not isinstance(module, types.ModuleType) or type(module).__name__ == "_LazyModule":
        return False
    spec = types.ModuleType.__getattribute__(module, "__spec__")
    return not getattr(spec, "_initializing", False)


class _Meeting:
    """A method at whose look-up libraries are met: NumPy looks up all before it calls any."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if _untold and len(sys.modules) != _loaded:
            meet()
        return self._method if instance is None else types.MethodType(self._method, instance)


def _array_ufunc(self: Any, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    answer = protocols.array_ufunc(self, ufunc, method, *inputs, **kwargs)
    return _of_others(ufunc, method, inputs, kwargs) if answer is NotImplemented else answer


def _of_others(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the answer of whoever else was given: about our arrays, or else about NumPy's.

    One that knows us answers. One that is told of us now, or knows NumPy's arrays alone, gets them
    in the place of ours, as it would have without us.
    """
    if _are_untold(map(type, inputs)):
        meet()
    for value in (*inputs, *kwargs.get("out", ())):
        theirs = getattr(type(value), "__array_ufunc__", None)
        if theirs is not None and not is_array(value) and not isinstance(value, numpy.ndarray):
            answer = theirs(value, ufunc, method, *inputs, **kwargs)
            if answer is not NotImplemented:
                return answer
    called = ufunc if method == "__call__" else getattr(ufunc, method)
    return called(*map(_plain, inputs), **{key: _plain(value) for key, value in kwargs.items()})


def _plain(value: Any) -> Any:
    """Return arrays of ours as NumPy's, lent, and all else as it is."""
    if type(value) is tuple:
        return tuple([_plain(item) for item in value])
    return protocols.as_numpy(value, None, None) if is_array(value) else value


def _are_untold(kinds: Iterable[type]) -> bool:
    """Return whether one of ``kinds`` is of a library that is to be told yet."""
    tops = {name.partition(".")[0] for name in _untold}
    return any([kind.__module__.partition(".")[0] in tops for kind in kinds])


def _lent(self: Any, flags: int) -> Any:
    loaded = sys.modules
    if _untold and len(loaded) != _loaded:
        meet()  # numba looks for a buffer before it asks for a type
    # A thread may run nothing but compiled code, which has no frame.
    caller = sys._getframe().f_back if "pandas" in loaded or "torch" in loaded else None
    if caller is not None:
        if caller.f_code.co_name == "__buffer__":
            caller = caller.f_back or caller
        if flags <= _WRITABLE and "torch" in loaded:
            _refuse_torch(caller, flags)
        if _is_to_be_owned(caller):
            return concrete(self).copy()
    return leaving.Leaving._lent(self, flags)


#: ``PyBUF_WRITABLE`` and nothing else: whoever asks so wants bytes, and not to know their dtype.
_WRITABLE = 1
#: Where ``torch.asarray`` was refused last: it asks at once again, for what it may only read.
_refused: tuple[Any, int] | None = None
#: How the functions are called that ask so for good reason.
_OF_BYTES = ("into", "frombuffer", "from_buffer", "readv", "ioctl")


def _refuse_torch(caller: types.FrameType, flags: int) -> None:
    """Refuse bytes to ``torch.asarray``, which would make numbers of another dtype of them.

    It looks for buffers before it looks for arrays, NumPy's own aside.
    """
    global _refused
    here = caller.f_code, caller.f_lasti
    remedy = "pass numpy.asarray(x), or call torch.from_dlpack(x)"
    if flags == _WRITABLE and _asks_for_bytes(caller):
        return
    if flags == _WRITABLE:
        warnings.warn(
            "torch.asarray: it takes an array of dispatcharr for mere bytes, so it is refused; "
            + remedy,
            stacklevel=user_level(),
        )
        _refused = here
    if here == _refused:
        raise BufferError(f"__buffer__: torch.asarray takes the array for mere bytes; {remedy}")


def _asks_for_bytes(caller: types.FrameType) -> bool:
    """Return whether a frame calls something that is known to be right to ask for bytes."""
    name = _called(caller)
    if name is None or name.startswith("@"):  # code that was made or rewritten by a program
        return "asarray" not in caller.f_code.co_names
    return name.endswith(_OF_BYTES)


def _called(caller: types.FrameType) -> str | None:
    """Return the name of the function that a frame is calling, where its code tells."""
    import dis

    found = list(dis.get_instructions(caller.f_code))
    here = next((i for i in found if i.offset == caller.f_lasti), None)
    if here is None or here.positions is None or here.positions.lineno is None:
        return None
    start = here.positions[0], here.positions[2]
    names = [
        i for i in found
        if i.opname.startswith("LOAD_") and type(i.argval) is str and i.positions is not None
        and (i.positions[0], i.positions[2]) == start and i.offset < here.offset
    ]  # fmt: skip
    named: str | None = names[-1].argval if names else None
    return named


def _reduced(self: Any, protocol: Any = None) -> Any:
    if type(protocol) is int and protocol >= _OUT_OF_BAND:
        # Buffers out of band are the memory itself, which those who get them may write to.
        return rebuild, (protocols.shown(self._writable()),)
    return rebuild, (concrete(self),)


def rebuild(host: Any) -> Any:
    """Make an array of ours on a NumPy array that nobody else holds: unpickling."""
    if _untold and len(sys.modules) != _loaded:
        meet()  # the first that a worker sees of us may be a chunk
    # What was packed was NumPy's own; joblib may have put a map of a file in its place.
    return _fastpath.wrap(host if type(host) is numpy.ndarray else host.view(numpy.ndarray))


def _numba_type(self: Any) -> Any:
    """Return numba's type of the array, for where it found no buffer to begin with."""
    meet()
    if "numba" in _untold or "numba" in _untellable:  # it would ask for this again
        raise AttributeError("_numba_type_: numba is not there")
    return sys.modules["numba"].typeof(self)


def _dask_token(self: Any) -> Any:
    meet()
    normalize = sys.modules["dask.base"].normalize_token
    return "dispatcharr.ndarray", normalize(protocols.as_numpy(self, None, None))


@functools.wraps(leaving.Leaving.to_numpy)
def _to_numpy(self: Any, *, copy: bool = False) -> Any:
    if not copy and "pandas" in sys.modules:
        caller = sys._getframe().f_back
        copy = caller is not None and _is_to_be_owned(caller)
    return protocols.as_numpy(self, None, copy or None)


def _is_to_be_owned(caller: types.FrameType) -> bool:
    """Return whether pandas asks for values that it will keep as its own.

    For a new ``Series`` or ``Index`` it copies NumPy's arrays, and believes that what others hand
    over is for it to keep: a later write to the array would show in the series.
    """
    module, name = caller.f_globals.get("__name__"), caller.f_code.co_name
    if module == "pandas.core.indexes.base":
        return name == "__new__"
    if module != "pandas.core.construction" or caller.f_back is None:
        return False
    further = caller.f_back
    return further.f_code.co_name == "sanitize_array" and not further.f_locals.get("copy")


def _array_namespace(self: Any) -> Any:
    """Give the namespace's method to all but xarray's indexing.

    That takes what has one for an array with the standard's indexing alone, and refuses to index it
    by several arrays. Where array-api-compat is asked for the one namespace of ours and of NumPy's
    arrays, it is the one of NumPy's, which computes with both.
    """
    caller = sys._getframe().f_back or sys._getframe()
    asker = caller.f_code.co_name
    if asker == "as_indexable" and caller.f_globals.get("__name__") == "xarray.core.indexing":
        raise AttributeError("__array_namespace__: xarray indexes ours as NumPy's arrays")
    if asker == "array_namespace":
        given = caller.f_locals.get("xs", ())
        package = caller.f_globals.get("__package__") or ""
        if package.endswith("array_api_compat.common") and any(map(_is_numpys, given)):
            named = f"{package.removesuffix('.common')}.numpy"
            return lambda *, api_version=None: importlib.import_module(named)
    return leaving.Leaving.__array_namespace__.__get__(self, type(self))


def _is_numpys(value: Any) -> bool:
    return isinstance(value, (numpy.ndarray, numpy.generic))


def _factorize(self: Any, use_na_sentinel: bool = True) -> Any:
    """Return codes and unique values: ``pandas.factorize`` asks this of what it is not told of."""
    pandas = importlib.import_module("pandas")
    return pandas.factorize(protocols.as_numpy(self, None, None), use_na_sentinel=use_na_sentinel)


def _arrow_stream(self: Any) -> Callable[..., Any]:
    """Return what hands out Arrow's capsule of the values.

    A stream, since pyarrow itself asks for streams last: to ``pyarrow.array`` ours are to stay
    like NumPy's, whose masks and missing values it heeds, and those of capsules not.
    """
    if self.ndim != 1:
        raise AttributeError(
            f"__arrow_c_stream__: wanted one axis, got {self.ndim}; pass numpy.asarray(x)"
        )
    return functools.partial(_stream, self)


def _stream(array: Any, requested_schema: Any = None) -> Any:
    try:
        pyarrow = importlib.import_module("pyarrow")
    except ImportError as error:
        raise TypeError(
            "__arrow_c_stream__: wanted pyarrow, which makes Arrow's capsules of dispatcharr's "
            "arrays, and it is not installed; install it, or pass numpy.asarray(x)"
        ) from error
    values = pyarrow.array(protocols.as_numpy(array, None, None))
    return pyarrow.chunked_array([values]).__arrow_c_stream__(requested_schema)


def _jax_array(self: Any) -> Any:
    """Return the values as jax's; a release that does not know our type says to convert."""
    jax_numpy = importlib.import_module("jax.numpy")
    return jax_numpy.asarray(protocols.as_numpy(self, None, None))


def _arrived(name: str, tell: Callable[[], None]) -> None:
    if _untold.pop(name, None) is None:
        return
    try:
        tell()
    except Exception as error:  # another release than we know: its import is to go on
        _untellable.add(name)
        told = f"{name} could not be told of dispatcharr's arrays ({type(error).__name__}: {error})"
        level = user_level()
        warnings.warn(f"{told}; pass it numpy.asarray(x)", RuntimeWarning, stacklevel=level)


def install() -> None:
    """Give the array class what makes the others known to it, and it to them."""
    made = array_class()
    made.__dask_tokenize__ = _dask_token
    made._numba_type_ = property(_numba_type)
    made.__arrow_c_stream__ = property(_arrow_stream)
    made.__reduce__ = made.__reduce_ex__ = _reduced
    made._lent = _lent
    made.__array_function__ = _Meeting(leaving.Leaving.__array_function__)
    made.to_numpy = _to_numpy
    made.factorize = _factorize
    made.__jax_array__ = _jax_array
    made.__array_priority__ = 0.0  # as of NumPy's; Dask compares without asking
    made.__array_namespace__ = property(_array_namespace)
    if hasattr(_fastpath.Cell, "__array_ufunc__"):
        ufuncs = [f for f in FUNCTIONS.values() if isinstance(f, _fastpath.Function)]
        _fastpath.set_ufuncs({f._ufunc: f for f in ufuncs}, _array_ufunc)
    else:
        made.__array_ufunc__ = _array_ufunc
    believed.install()
    remedies.install()
    meet()  # what was imported before us need not wait for a first array
    for name, tell in {"jax": _tell_jax, "numba": _tell_numba}.items():
        if name in _untold:
            await_module(name, functools.partial(_arrived, name, tell))
