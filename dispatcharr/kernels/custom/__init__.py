"""Functions of the user's as rows: a scalar Python function, typed by numba, fuses as others do.

Numba is imported when a function is first called with dtypes that no earlier process typed it for.
What it made of the function, the result's dtype and the body in LLVM IR, is kept on disk next to
the kernels, under all that it depends on. The body joins kernels as those of the table do. Where it
cannot, because it may raise an exception or calls what only numba has, numba's own loop runs it,
block by block.
"""

from __future__ import annotations

from dispatcharr.kernels.custom.capture import Captured, capture
from dispatcharr.kernels.custom.rows import Function, function_of

__all__ = ["Captured", "Function", "capture", "function_of"]
