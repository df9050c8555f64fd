"""What NumPy's functions do to the arrays that they are given, where that is known.

Arrays on a device come home for a function that reads them, and have no copy there any more after
one that may have written to them. A function that is not named here may do anything. Functions that
only make views need no bytes at all; whether a result is one is looked at afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy

from dispatcharr.storage.exports import root_of

__all__ = ["OF_SEVERAL", "VIEWS", "are_views", "is_metadata", "may_be_written", "with_views"]

#: Functions and methods that return views, at least for some arguments, and do not look at values.
VIEWS = frozenset({
    "array_split", "as_strided", "asanyarray", "asarray", "atleast_1d", "atleast_2d", "atleast_3d",
    "broadcast_arrays", "broadcast_to", "diagonal", "dsplit", "expand_dims", "flip", "fliplr",
    "flipud", "getfield", "hsplit", "matrix_transpose", "moveaxis", "permute_dims", "ravel", "real",
    "reshape", "rollaxis", "rot90", "sliding_window_view", "split", "squeeze", "swapaxes",
    "transpose", "unstack", "view", "vsplit",
})  # fmt: skip
#: Those that make views of all their arguments.
OF_SEVERAL = frozenset({"atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays"})
#: Functions that ask for no more than shapes, dtypes and addresses.
METADATA = frozenset({
    "empty_like", "iscomplexobj", "isrealobj", "isscalar", "may_share_memory", "ones_like",
    "shares_memory", "zeros_like",
})  # fmt: skip

#: Functions that only read, with how many arguments by position; those beyond may be outputs.
_OF_ONE = (
    "all", "amax", "amin", "any", "argmax", "argmin", "argpartition", "argsort", "argwhere",
    "array2string", "array_repr", "array_str",
    "around", "average", "bincount", "column_stack", "concat", "concatenate", "count_nonzero",
    "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "diag", "diagonal", "diff", "dstack",
    "ediff1d", "flatnonzero", "gradient", "hstack", "max", "mean", "median", "min", "nanargmax",
    "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin", "nanprod",
    "nanstd", "nansum", "nanvar", "nonzero", "partition", "prod", "ptp", "ravel", "repeat",
    "reshape", "resize", "roll", "round", "sort", "sort_complex", "stack", "std", "sum", "tile",
    "trace", "transpose", "trapezoid", "tril", "triu", "trim_zeros", "unique", "unique_all",
    "unique_counts", "unique_inverse", "unique_values", "var", "vstack",
)  # fmt: skip
_OF_TWO = (
    "allclose", "append", "array_equal", "array_equiv", "choose", "compress", "convolve",
    "corrcoef", "correlate", "cov", "cross", "delete", "digitize", "dot", "extract", "histogram",
    "inner", "intersect1d", "isclose", "isin", "kron", "matmul", "outer", "pad", "percentile",
    "quantile", "nanpercentile", "nanquantile", "polyval", "searchsorted", "setdiff1d", "setxor1d",
    "take", "take_along_axis", "tensordot", "union1d", "vdot", "vecdot",
)  # fmt: skip
_OF_ANY = (
    "array", "asanyarray", "asarray",
    "ascontiguousarray", "asfortranarray", "block", "copy", "einsum", "einsum_path", "full_like",
    "interp", "ix_", "lexsort", "meshgrid", "ones_like", "polyfit", "save", "savetxt", "savez",
    "savez_compressed",
)  # fmt: skip
_OF_METHODS = {
    "argpartition": 1, "argsort": 1, "astype": 1, "choose": 2, "compress": 2, "copy": 1,
    "cumprod": 1, "cumsum": 1, "dot": 2, "dump": 1, "dumps": 1, "flatten": 1, "item": 1,
    "nonzero": 1, "ravel": 1, "repeat": 2, "reshape": 1, "round": 1, "searchsorted": 2, "take": 2,
    "tobytes": 1, "tofile": 1, "tolist": 1, "trace": 1, "clip": 1, "ptp": 1,
    **{name: 1 for name in ("all", "any", "argmax", "argmin", "max", "mean", "min", "prod", "std",
                            "sum", "var")},
}  # fmt: skip
_OF_UFUNCS = {"reduce": 1, "accumulate": 1, "reduceat": 2, "outer": 2}
_ANY = 1 << 30
_READ_ONLY_MODULES = {"numpy.linalg", "numpy.fft"}


#: Functions that write to their first argument and read the others; for methods that is ``self``.
_FIRST = -1
_WRITERS = ("copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask")
_WRITING_METHODS = ("byteswap", "fill", "partition", "put", "setfield", "sort")


def _named() -> dict[Any, int]:
    found: dict[Any, int] = {}
    for names, count in ((_OF_ONE, 1), (_OF_TWO, 2), (_OF_ANY, _ANY)):
        for name in names:
            function = getattr(numpy, name, None)
            if function is not None:
                found[function] = count
                found[getattr(function, "_implementation", function)] = count
    for name in _WRITERS:
        function = getattr(numpy, name)
        found[function] = found[getattr(function, "_implementation", function)] = _FIRST
    for name in _WRITING_METHODS:
        found[getattr(numpy.ndarray, name)] = _FIRST
    for name, count in _OF_METHODS.items():
        method = getattr(numpy.ndarray, name, None)
        if method is not None:
            found[method] = count
    return found


_reads = _named()


def may_be_written(
    name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[numpy.ndarray]:
    """Return the arrays among the arguments that the function may write to."""
    count = _read_by(name, function)
    found: list[numpy.ndarray] = []
    if count == _FIRST:
        _collect(args[:1] or kwargs, found)
        return found
    _collect(args[count:], found)
    _collect(kwargs if count == 0 else kwargs.get("out"), found)
    return found


def _read_by(name: str, function: Any) -> int:
    """Return how many arguments by position the function only reads; 0 where it is unknown."""
    if isinstance(function, numpy.ufunc):
        return function.nin
    if isinstance(getattr(function, "__self__", None), numpy.ufunc):
        return _OF_UFUNCS.get(name.rpartition(".")[2], 0)
    try:
        found = _reads.get(function, 0)
    except TypeError:  # it has no hash
        return 0
    return found or (_ANY if getattr(function, "__module__", "") in _READ_ONLY_MODULES else 0)


def _collect(value: Any, found: list[numpy.ndarray]) -> None:
    if type(value) is numpy.ndarray:
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _collect(item, found)
    elif type(value) is dict:
        for item in value.values():
            _collect(item, found)


def with_views(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments with which a function of :data:`VIEWS` makes views only.

    None where it would read values.
    """
    several = args if name in OF_SEVERAL else args[:1]
    if not all([type(value) is numpy.ndarray for value in several]):
        return None
    first: Any = args[0] if args else None
    if name == "reshape":
        return (args, {**kwargs, "copy": False}) if kwargs.get("copy") is None else None
    if name == "ravel":
        plain = len(args) == 1 and not kwargs
        return (args, kwargs) if plain and first.flags.c_contiguous else None
    if name in ("asarray", "asanyarray"):
        return (args, kwargs) if len(args) == 1 and not kwargs else None
    if name == "view" or kwargs.get("subok"):
        # A subclass may do anything with its array.
        kinds = [value for value in (*args, *kwargs.values()) if isinstance(value, type)]
        if kwargs.get("subok") or any([issubclass(kind, numpy.ndarray) for kind in kinds]):
            return None
    return args, kwargs


def is_metadata(name: str, args: tuple[Any, ...]) -> bool:
    """Return whether a call asks for no values: not of arrays, and not to make one of a list."""
    return name in METADATA and not any([isinstance(value, (list, tuple)) for value in args[:2]])


def are_views(result: Any, roots: set[int]) -> bool:
    """Return whether a result consists of views of arrays whose roots have these ids."""
    if type(result) is numpy.ndarray:
        return id(root_of(result)) in roots
    if isinstance(result, (list, tuple)):
        return all([are_views(item, roots) for item in result])
    return False
