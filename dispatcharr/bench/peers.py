"""The peers: other libraries that evaluate array expressions, each used as its manual advises.

Every one is imported only when it is asked for. Operands are handed over once, in the form that the
library likes best, and that is not timed; the result is what the library returns, finished.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from dispatcharr._errors import OptionError
from dispatcharr.bench.expressions import Expression, under
from dispatcharr.kernels.cpus import thread_count

__all__ = ["PEERS", "Peer", "Unable", "chosen_peers"]

Run = Callable[[], Any]


class Unable(Exception):
    """A peer cannot compute an expression; the text says why."""


class Peer:
    """A library to compare with.

    Attributes
    ----------
    name : str
        As it is asked for and shown.
    module : str
        What is imported.
    package : str
        What is installed.
    how : str
        How it is used here.
    """

    name: str
    module: str
    package: str
    how: str

    def __init__(self) -> None:
        self.missing: str | None = None
        self.version = ""

    @property
    def remedy(self) -> str:
        """The command that installs it."""
        quote = "'" if "[" in self.package else ""
        return f"pip install {quote}{self.package}{quote}"

    def load(self) -> bool:
        """Import the library; return False, and say why in ``missing``, if it cannot be."""
        top = self.module.partition(".")[0]
        if importlib.util.find_spec(top) is None:
            self.missing = f"not installed; {self.remedy}"
            return False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.begin(importlib.import_module(self.module))
        except Exception as error:  # a broken library costs its own column and nothing else
            self.missing = f"cannot be imported: {type(error).__name__}: {error}".splitlines()[0]
            return False
        self.version = str(getattr(sys.modules[top], "__version__", "unknown"))
        return True

    def begin(self, module: Any) -> None:
        """Set the library up, once."""
        self.library = module

    def prepare(self, expression: Expression, arrays: Sequence[numpy.ndarray]) -> Run:
        """Return what computes a fresh result; raise :class:`Unable` where it cannot."""
        raise NotImplementedError


class Numexpr(Peer):
    """Text, compiled when it is first met."""

    name = module = package = "numexpr"
    how = "`evaluate`, which keeps what it has compiled, on all cores"

    def begin(self, module: Any) -> None:
        module.set_num_threads(thread_count())
        super().begin(module)

    def prepare(self, expression: Expression, arrays: Sequence[numpy.ndarray]) -> Run:
        evaluate, text = self.library.evaluate, expression.formula
        operands = expression.operands(arrays)
        error = self.library.validate(text, local_dict=operands)
        if error is not None:
            raise Unable(f"it does not understand {text}: {error}")
        # Not re_evaluate: it knows the last text alone, and here others come in between.
        return lambda: evaluate(text, local_dict=operands)


class Numba(Peer):
    """The NumPy code, compiled with its array expressions fused and shared out."""

    name = module = package = "numba"
    how = "`njit(parallel=True, error_model='numpy')` on the array expression"

    def begin(self, module: Any) -> None:
        module.set_num_threads(min(thread_count(), module.config.NUMBA_NUM_THREADS))
        super().begin(module)
        self._made: dict[str, Any] = {}

    def prepare(self, expression: Expression, arrays: Sequence[numpy.ndarray]) -> Run:
        compiled = self._made.get(expression.name)
        if compiled is None:
            compile_it = self.library.njit(parallel=True, error_model="numpy")
            compiled = self._made[expression.name] = compile_it(under(expression.compute, numpy))
        return lambda: compiled(*arrays)


class Jax(Peer):
    """The NumPy code, traced and compiled by XLA."""

    name = "JAX"
    module = package = "jax"
    how = "`jit` on the CPU, 64-bit types enabled, `block_until_ready`"

    def begin(self, module: Any) -> None:
        module.config.update("jax_enable_x64", True)
        self._numpy = importlib.import_module("jax.numpy")
        self._device = module.devices("cpu")[0]
        super().begin(module)

    def prepare(self, expression: Expression, arrays: Sequence[numpy.ndarray]) -> Run:
        compiled = self.library.jit(under(expression.compute, self._numpy))
        operands = [self.library.device_put(array, self._device) for array in arrays]
        return lambda: compiled(*operands).block_until_ready()


class Torch(Peer):
    """The NumPy code, compiled by Inductor to C++."""

    name = module = package = "torch"
    how = "`torch.compile` on the CPU, on tensors that share NumPy's memory"

    def begin(self, module: Any) -> None:
        module.set_num_threads(thread_count())
        super().begin(module)
        self._made: dict[str, Any] = {}

    def prepare(self, expression: Expression, arrays: Sequence[numpy.ndarray]) -> Run:
        library = self.library
        compiled = self._made.get(expression.name)
        if compiled is None:
            compute = under(expression.compute, library)
            if expression.name == "deviation":  # its own default divides by n - 1
                compute = _population_deviation
            compiled = self._made[expression.name] = library.compile(compute)
        operands = [library.from_numpy(array) for array in arrays]

        def run() -> Any:
            with library.no_grad():
                return compiled(*operands)

        return run


def _population_deviation(a: Any) -> Any:
    return a.std(correction=0)


class Blosc2(Peer):
    """Text, evaluated lazily over blocks; operands and result are not compressed."""

    name = module = package = "blosc2"
    how = "`lazyexpr` once, then `compute`, nothing compressed"

    def begin(self, module: Any) -> None:
        module.set_nthreads(thread_count())
        super().begin(module)

    def prepare(self, expression: Expression, arrays: Sequence[numpy.ndarray]) -> Run:
        library = self.library
        raw = library.CParams(clevel=0)
        operands = expression.operands(arrays)
        if expression.reduces or expression.views is not None:
            # Sums of its own arrays take it several times longer than of NumPy's, and a slice of
            # one is a copy. A sum is no array that could be compressed.
            given = {} if expression.reduces else {"cparams": raw}
        else:
            operands = {name: library.asarray(one, cparams=raw) for name, one in operands.items()}
            given = {"cparams": raw}
        compute = library.lazyexpr(expression.formula, operands).compute
        return lambda: compute(**given)


class Dask(Peer):
    """The NumPy code on chunks, one for each core, by the threaded scheduler."""

    name = "dask"
    module = "dask.array"
    package = "dask[array]"
    how = "`dask.array`, one chunk for each core, `compute(scheduler='threads')`"

    def prepare(self, expression: Expression, arrays: Sequence[numpy.ndarray]) -> Run:
        crew = thread_count()
        compute = under(expression.compute, self.library)
        operands = [
            self.library.from_array(array, chunks=(-(-len(array) // crew), *array.shape[1:]))
            for array in arrays
        ]
        return lambda: compute(*operands).compute(scheduler="threads", num_workers=crew)


PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Numexpr, Numba, Jax, Torch, Blosc2, Dask)
}


def chosen_peers(names: Sequence[str] | None) -> list[Peer]:
    """Return the peers of these names; all of them for None, none of them for ``["none"]``.

    Examples
    --------
    >>> [peer.name for peer in chosen_peers(["numexpr", "jax"])]
    ['numexpr', 'JAX']
    """
    if names is None:
        return [peer() for peer in PEERS.values()]
    if list(names) == ["none"]:
        return []
    known = {name.lower(): peer for name, peer in PEERS.items()}
    unknown = [repr(name) for name in names if name.lower() not in known]
    if unknown:
        raise OptionError(
            f"bench: no peer {', '.join(unknown)}; there are {', '.join(PEERS)}, or none"
        )
    return [known[name]() for name in dict.fromkeys(name.lower() for name in names)]
