"""Functions of other libraries that take NumPy's own arrays alone, though ours would do.

They ask ``isinstance(x, numpy.ndarray)`` before they look any further, and treat all else as
something that it is not: a label, a scalar, an error. To these functions alone, by their names, an
array of ours is of NumPy's class; what they do with it then is what any array does. Everybody else
learns the truth: what counts on NumPy's memory layout could not use ours. A function that has
another name in another release refuses as it did before.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy

from dispatcharr.face import _fastpath
from dispatcharr.face.array import array_class
from dispatcharr.face.leaving import Leaving

__all__ = ["FUNCTIONS", "install"]

#: The functions, by the modules that they are in, methods with their class; or all of a module.
FUNCTIONS: dict[str, frozenset[str] | None] = {
    "h5py._hl.selections": frozenset({"PointSelection.from_mask", "select"}),
    "jax._src.numpy.indexing": None,
    "numpy.ctypeslib": frozenset({"_ndptr.from_param"}),  # before NumPy 2.3
    "numpy.ctypeslib._ctypeslib": frozenset({"_ndptr.from_param"}),
    "pandas.core.frame": frozenset({"DataFrame._align_for_op", "DataFrame.set_index"}),
    "pandas.core.groupby.grouper": frozenset(
        {"Grouping.__init__", "_convert_grouper", "get_grouper"}
    ),
    "polars._utils.construction.dataframe": None,
    "polars._utils.construction.series": None,
    "polars._utils.getitem": None,
    "polars._utils.various": None,
    "polars.dataframe.frame": None,
    "polars.functions.lit": None,
    "polars.lazyframe.frame": None,
    "polars.series.series": None,
    "scipy.sparse.linalg._interface": frozenset({"aslinearoperator"}),
    "sklearn.model_selection._search": frozenset({"ParameterGrid.__init__"}),
    "sparse.numba_backend._common": frozenset({"_dot"}),
    "sparse.numba_backend._compressed.compressed": frozenset({"GCXS.__init__"}),
    "sparse.numba_backend._coo.core": frozenset({"as_coo"}),
    "torch.utils.data._utils.collate": frozenset({"collate", "collate_numpy_array_fn"}),
    "xarray.core.variable": frozenset({"Variable._in_memory"}),
}


def _class_for_asker(array: Any, depth: int = 1) -> type:
    """Return what the function that asks, so many frames away, is told of the class of an array."""
    asker = sys._getframe(depth)
    named = FUNCTIONS.get(asker.f_globals.get("__name__", ""), frozenset())
    # Generator expressions ask in the name of the function that they are in.
    is_believing = named is None or asker.f_code.co_qualname.partition(".<locals>")[0] in named
    return numpy.ndarray if is_believing else type(array)


def _data(array: Any) -> Any:
    """Give the memory to all but netCDF4's variables that the array is assigned to.

    Whatever shows its memory they take for an array of NumPy's without a look; of what does not
    they make one. They are compiled: the frame that asks is the program's, at its assignment.
    """
    if "netCDF4" in sys.modules and _is_assigning(sys._getframe().f_back):
        raise AttributeError("data: netCDF4 makes an array of NumPy's of what has none")
    return Leaving.data.__get__(array)


def _typ(array: Any) -> str:
    """Tell pandas, by the name that its own objects have, what it takes NumPy's arrays for.

    To take them as masks it asks whether they are arrays of an extension. The function that looks
    at a list for the levels of an index is compiled, and knows lists, NumPy's arrays and indexes.
    """
    asker: types.FrameType | None = sys._getframe(1)
    while asker is not None and asker.f_globals.get("__name__") == "pandas.core.dtypes.generic":
        asker = asker.f_back  # pandas' classes for the sake of isinstance ask in Python
    if asker is not None and asker.f_code.co_qualname == "ensure_index":
        if asker.f_globals.get("__name__") == "pandas.core.indexes.base":
            return "index"
    return "npy_extension"


def _is_assigning(frame: types.FrameType | None) -> bool:
    import dis

    if frame is None:  # a thread may run nothing but compiled code
        return False
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] in {"STORE_SUBSCR", "STORE_SLICE"}


def install() -> None:
    """Have the class of arrays answer so."""
    array_class().data = property(_data, doc=Leaving.data.__doc__)
    array_class()._typ = property(_typ)
    _fastpath.set_believed(frozenset(FUNCTIONS), _class_for_asker)
