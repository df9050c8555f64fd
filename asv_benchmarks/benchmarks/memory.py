"""Peak memory of expressions: fusing saves the temporaries, pending work must not add to them."""

from __future__ import annotations

import numpy

import dispatcharr

from .expressions import EXPRESSIONS
from .operands import copied


class Peak:
    """Most memory of a process that computes one expression on 4 million float64."""

    params = (list(EXPRESSIONS),)
    param_names = ("expression",)

    def setup(self, name: str) -> None:
        self.compute = EXPRESSIONS[name].compute
        # Each side holds both sets, so that the sides differ by the computation alone.
        self.numpys = EXPRESSIONS[name].make(4_000_000, "float64")
        self.ours = copied(self.numpys)

    def peakmem_numpy(self, name: str) -> None:
        self.compute(numpy, *self.numpys)

    def peakmem_dispatcharr(self, name: str) -> None:
        dispatcharr.evaluate(self.compute(dispatcharr, *self.ours))
