"""The bodies of operations for compiled kernels: LLVM IR as text, one function per operation.

A body does for one element what NumPy does, with its bits: additions, products, quotients,
comparisons, integers, bits and square roots are exactly NumPy's, other functions are within 4 units
in the last place. Where that cannot be had, or would be no faster than NumPy's own loops, the
answer is a sentence that says so, and NumPy's loops do the work.
"""

from __future__ import annotations

from dispatcharr.ops.bodies.body import Body, body_of, prelude

__all__ = ["Body", "body_of", "prelude"]
