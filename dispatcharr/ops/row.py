"""What a row of the op table is.

An op knows no backend. Everything derived from a row (functions, operators, methods, stub, docs
page, contract tests, calibration grid) is made by iterating over the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy

__all__ = ["Elementwise", "Generator", "Reduction", "Row"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Elementwise:
    """An operation on one element of each operand.

    Attributes
    ----------
    name : str
        NumPy's public name.
    ufunc : numpy.ufunc or None
        NumPy's own implementation; None where NumPy has no ufunc (``where``, ``astype``).
    cost : str
        Cost class, the key of the profile's ``op`` table.
    nin, nout : int
        Number of operands and of results.
    operator : str or None
        Name of the Python operator without underscores: ``"add"`` for ``__add__``.
    aliases : tuple of str
        Other public names of the same ufunc.
    errors : {"float", "any", "none"}
        For which operands NumPy may report a floating-point error: inexact ones, also
        integers (division by zero), or none.
    result : callable or None
        ``result(*dtypes)`` gives the dtype of the result where no ufunc can be asked.
    fill : callable or None
        ``fill(operands, out)`` writes the result where no ufunc can be called.
    refuses : callable or None
        ``refuses(operands)`` says whether NumPy may raise an error for values of these operands,
        which it has to do at once.
    body : callable or None
        ``body(operands, result)`` gives the body for compiled kernels, or a sentence that says why
        there is none, where the rules of the table have none: for functions of the user's.
    """

    name: str
    ufunc: numpy.ufunc | None
    cost: str
    nin: int
    nout: int = 1
    operator: str | None = None
    aliases: tuple[str, ...] = ()
    errors: str = "float"
    result: Callable[..., numpy.dtype[Any]] | None = None
    fill: Callable[[tuple[Any, ...], numpy.ndarray], None] | None = None
    refuses: Callable[[tuple[Any, ...]], bool] | None = None
    body: Callable[[tuple[numpy.dtype[Any], ...], numpy.dtype[Any]], Any] | None = None


@final
@dataclass(frozen=True, slots=True, eq=False)
class Generator:
    """An operation without operands whose elements follow from their position.

    ``fill(params, start, out)`` writes the elements ``start`` to ``start + len(out)`` into ``out``,
    with the bits that NumPy's own function gives them.
    """

    name: str
    cost: str
    fill: Callable[[tuple[Any, ...], int, numpy.ndarray], None]
    nin: int = 0
    nout: int = 1
    errors: str = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """An operation that takes axes away: map, partial, combine, finish.

    Attributes
    ----------
    name : str
        NumPy's public name, also the method's where ``method`` is true.
    cost : str
        Cost class of the reducing pass.
    method : bool
        Whether ``ndarray`` has a method of that name.
    partial : callable
        ``partial(block, axes, dtype)`` reduces one block, keeping the reduced axes with
        length one, and returns a tuple of arrays: the state.
    combine : callable
        ``combine(left, right)`` joins two states whose blocks are neighbours, left first.
    finish : callable
        ``finish(state, count, params)`` turns the state of everything into the result.
    kinds : str
        Dtype kinds for which the row is planned; others are left to NumPy.
    params : tuple of str
        Extra keyword arguments understood by ``finish``: ``ddof``, ``initial``.
    ordered : bool
        Whether the result depends on the order of elements (arg-reductions).
    without : str
        Characters of dtypes that are left to NumPy although their kind is planned.
    rereads : bool
        Whether ``partial`` goes over its block more than once, so that the block should stay
        in the cache.
    ufunc : numpy.ufunc or None
        Whose ``reduce`` the NumPy function is, where it takes ``initial``: it is asked what
        ``initial`` becomes.
    remark : callable or None
        ``remark(state, result, params)`` returns what NumPy warns of in a result, or None.
    needs : tuple of str
        Parameters without which NumPy refuses the call.
    unsure : bool
        Whether a NaN in the result may stand for a slice of which too little was chosen. What is
        to be warned of then is NumPy's to say, so that it answers such calls.
    unshared : str
        Dtype kinds of which NumPy reduces contiguous values to one in a single fast pass that holds
        the interpreter: threads cannot share it, so such a call with nothing pending is NumPy's.
    alone : bool
        Whether it is never made before it is asked for, in one pass with others: it stops early, or
        may raise an error.
    copied : str
        Dtype kinds of which NumPy's function reduces a copy: results of several axes then follow
        the memory order of that copy.
    spends : bool
        Whether NumPy's function takes as much memory again as its operand, if only where that is
        read-only: a map of a file, perhaps, that is larger than memory.
    averages : bool
        Whether states are joined by addition and the end divides what they add up to by the count.
    masked : Reduction or None
        The row that ``where=`` runs: its ``partial(block, axes, dtype, mask)`` leaves out the
        elements for which ``mask``, which broadcasts to the block, is false. None where NumPy's
        function knows no ``where`` or the call is left to NumPy.
    """

    name: str
    cost: str
    method: bool
    partial: Callable[..., tuple[numpy.ndarray, ...]]
    combine: Callable[[Any, Any], tuple[numpy.ndarray, ...]]
    finish: Callable[..., numpy.ndarray]
    kinds: str = "biufc"
    params: tuple[str, ...] = ()
    ordered: bool = False
    rereads: bool = False
    without: str = ""
    ufunc: numpy.ufunc | None = None
    remark: Callable[..., str | None] | None = None
    needs: tuple[str, ...] = ()
    unsure: bool = False
    unshared: str = ""
    alone: bool = False
    averages: bool = False
    copied: str = ""
    spends: bool = False
    masked: Reduction | None = None


Row = Elementwise | Generator
