"""The array API standard's namespace of our arrays, which ``x.__array_namespace__()`` returns.

Every name of the standard means what the standard says; every other name is dispatcharr's, and so
NumPy's. Where NumPy's own function differs from the standard's, the one here is the standard's
(:mod:`dispatcharr.array_api.functions`, ``linalg``, ``fft``), and takes NumPy's other keywords too.

What NumPy returns as a scalar is an array without axes here, and so is what operators make of one:
consumers of the standard keep asking results for their namespace, and a NumPy scalar answers with
NumPy's. All else about operators is the array's own, and NumPy's.
"""

from __future__ import annotations

import numpy as _numpy

import dispatcharr as _np
from dispatcharr.array_api import fft, linalg
from dispatcharr.array_api.functions import FUNCTIONS as _FUNCTIONS
from dispatcharr.array_api.info import VERSIONS as _VERSIONS
from dispatcharr.array_api.info import NamespaceInfo as __array_namespace_info__
from dispatcharr.array_api.results import names_of as _names_of

_NAMES = {*vars(_np)["__all__"], *_FUNCTIONS, "__array_api_version__", "__array_namespace_info__"}
__all__ = sorted(_NAMES)
__array_api_version__ = _VERSIONS[-1]

globals().update(_FUNCTIONS)
__getattr__, __dir__ = _names_of(globals(), _np, _numpy)
