"""NumPy that runs where it is fastest.

``import dispatcharr as np`` gives every name of NumPy. Elementwise operations and reductions on
large arrays are fused with their neighbours and routed by a measured cost model to one thread or
many; the rest is NumPy. ``np.explain(x)`` says what was chosen, and why.
"""

from __future__ import annotations

import types as _types
from typing import Any as _Any

import numpy as _numpy

# Bound before the function of the same name below, which would else be replaced by the package
# when that is first imported.
import dispatcharr.explain as _explain_package
from dispatcharr._errors import (
    BackendUnavailableError,
    DispatcharrError,
    FallbackError,
    FallbackWarning,
    OptionError,
    ProfileWarning,
    VerificationWarning,
)
from dispatcharr._version import __version__
from dispatcharr.face import context as _context
from dispatcharr.face import mirror as _mirror
from dispatcharr.face import neighbours as _neighbours
from dispatcharr.face.context import (
    calibrate,
    dispatch_options,
    evaluate,
    explain,
    record_dispatch,
    set_backend,
    use_backend,
)
from dispatcharr.face.elementwise import elementwise
from dispatcharr.face.ndarray import ndarray
from dispatcharr.storage.pool import MemoryPool, get_default_memory_pool

_ADDED = (
    "BackendUnavailableError",
    "DispatcharrError",
    "FallbackError",
    "FallbackWarning",
    "MemoryPool",
    "OptionError",
    "ProfileWarning",
    "VerificationWarning",
    "calibrate",
    "dispatch_options",
    "elementwise",
    "evaluate",
    "explain",
    "get_default_memory_pool",
    "record_dispatch",
    "set_backend",
    "use_backend",
)

__all__ = sorted({*_numpy.__all__, *_ADDED})

for _name, _value in _mirror.PLANNED.items():
    globals()[_name] = _value
for _name in _numpy.__all__:
    # Submodules, which NumPy itself loads on demand, are left to __getattr__.
    if _name not in globals() and _name in vars(_numpy):
        _made = getattr(_numpy, _name)
        if not isinstance(_made, _types.ModuleType):
            globals()[_name] = _mirror.mirrored(_name, _made, "numpy")
_mirror.install()
_neighbours.install()
_context.follow_process_options()


def __getattr__(name: str) -> _Any:
    """Give what is not in ``numpy.__all__``: submodules, and names that NumPy hides or warns of."""
    if name.startswith("__") and name not in ("__array_api_version__", "__config__"):
        raise AttributeError(f"module 'dispatcharr' has no attribute {name!r}")
    try:
        value = getattr(_numpy, name)
    except AttributeError as error:
        message = str(error).replace("module 'numpy'", "module 'dispatcharr'")
        raise AttributeError(message) from None
    made = _mirror.mirrored(name, value, "numpy")
    if name in vars(_numpy):  # else NumPy may warn each time that it is asked
        globals()[name] = made
    return made


def __dir__() -> list[str]:
    public = [name for name in dir(_numpy) if not name.startswith("__")]
    return sorted({*public, *globals()})


del _name, _value, _made, _explain_package
