"""Callables with ufunc manners, one per elementwise row, and ``where`` and ``clip``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy

from dispatcharr._config import options
from dispatcharr.expr.build import Declined, build, recast
from dispatcharr.expr.nodes import Node
from dispatcharr.face import _fastpath, fallback, limits, scans
from dispatcharr.face.array import behind, concrete, is_array, is_writeable, operand
from dispatcharr.face.road import engine
from dispatcharr.face.waiting import apply, finish, is_far, is_large, plans_everything
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.masks import BRANCHES, is_patchy
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME, COPY, ELEMENTWISE
from dispatcharr.storage import places

__all__ = ["FUNCTIONS", "UFunc", "clip", "copied", "copy_of", "store_into", "where", "write_into"]


class UFunc(_fastpath.Function):  # type: ignore[misc]
    """A NumPy ufunc that plans its calls.

    Every attribute and method is the ufunc's own; ``reduce``, ``accumulate``, ``reduceat``,
    ``outer`` and ``at`` run in NumPy on evaluated operands.
    """

    def __init__(self, row: Elementwise) -> None:
        def slow(*args: Any, **kwargs: Any) -> Any:
            return call_ufunc(row, args, kwargs)

        super().__init__(row.ufunc, slow, row.nin, row.nout, limits.slot_of(row.name))
        self.__name__ = row.name
        self.__module__ = "dispatcharr"
        self.__doc__ = row.ufunc.__doc__ if row.ufunc is not None else None

    @property
    def __class__(self) -> type:
        # Programs ask isinstance(f, np.ufunc).
        return numpy.ufunc

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a ufunc cannot be changed")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ufunc, name)
        if callable(found):
            found = self.__dict__[name] = _method(self._ufunc, name)
        return found

    def __repr__(self) -> str:
        return repr(self._ufunc)

    def __reduce__(self) -> str:
        return self.__name__

    def __eq__(self, other: object) -> bool:
        return self is other or other is self._ufunc

    def __hash__(self) -> int:
        return hash(self._ufunc)


class Delegate(_fastpath.Forward):  # type: ignore[misc]
    """An object of NumPy's that can be called and has methods, such as ``ma.minimum``."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._function, name)
        if name[:1] == "_" or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return fallback.call(f"{self.__name__}.{name}", found, args, kwargs)

        return call


class OpaqueUFunc(_fastpath.Forward):  # type: ignore[misc]
    """A NumPy ufunc without a row, such as ``matmul``: never planned, and a ufunc in all else."""

    __slots__ = ()
    __class__ = vars(UFunc)["__class__"]
    __repr__ = UFunc.__repr__

    @property
    def _ufunc(self) -> Any:
        return self._function

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            return getattr(self._function, name)
        return _bound(self._function, name)


@cache
def _bound(ufunc: numpy.ufunc, name: str) -> Any:
    found = getattr(ufunc, name)
    return _method(ufunc, name) if callable(found) else found


def _method(ufunc: numpy.ufunc, name: str) -> Callable[..., Any]:
    method = getattr(ufunc, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return fallback.call(f"{ufunc.__name__}.{name}", method, args, kwargs)

    first = scans.asked(f"{ufunc.__name__}.{name}", method)
    made = fallback.forward(name, method, call, opaque=True, first=first)
    made.__qualname__ = f"{ufunc.__name__}.{name}"
    return made


def call_ufunc(row: Elementwise, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call ``row`` as its ufunc is called, with every keyword that NumPy knows."""
    operands, out, plain = args, None, not kwargs
    if row.nout == 1 and kwargs.keys() == {"out"}:
        out = kwargs["out"]
        if type(out) is tuple and len(out) == 1:
            out = out[0]
        plain = out is None
    elif row.nout == 1 and plain and len(args) == row.nin + 1 and not _warns_of_third(row):
        operands, out = args[:-1], args[-1]
    if len(operands) == row.nin:
        if is_array(out) and write_into(row, operands, behind(out)):
            return out
        if plain and out is None and all(_understood(a) for a in operands):
            return apply(row, operands)
    reason = "keywords are not planned" if kwargs else "an operand is converted by NumPy"
    result = fallback.call(row.name, row.ufunc, args, kwargs, reason)  # type: ignore[arg-type]
    given = args[row.nin :]
    if not any(type(value) is numpy.ndarray for value in given):
        return result
    # What the program gave by position is returned as it is, like what it gives by name.
    made = result if type(result) is tuple else (result,)
    outs = [*given, *(None,) * (len(made) - len(given))]
    shown = [o if type(o) is numpy.ndarray else r for o, r in zip(outs, made, strict=True)]
    return tuple(shown) if type(result) is tuple else shown[0]


@cache
def _warns_of_third(row: Elementwise) -> bool:
    """Return whether NumPy warns of an output given by position, as it does for some functions."""
    stand_ins = [numpy.zeros(1)] * (row.nin + 1)
    try:
        with numpy.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error")
            row.ufunc(*stand_ins)  # type: ignore[misc]
    except Warning:
        return True
    except TypeError:
        return False  # it takes no floats
    return False


def _understood(value: Any) -> bool:
    return is_array(value) or type(value) in _PLAIN or isinstance(value, numpy.generic)


_PLAIN = (numpy.ndarray, int, float, complex, bool)


def write_into(row: Elementwise, args: tuple[Any, ...], target: numpy.ndarray) -> bool:
    """Compute ``row`` straight into ``target`` where that is sound and pays.

    Returns
    -------
    bool
        False when nothing was done: NumPy is to do it.
    """
    if not all(_understood(arg) for arg in args):
        return False
    values = tuple([operand(arg) for arg in args])
    far = places.in_use() and (places.is_placed(target) or any([is_far(v) for v in values]))
    if not far and not is_large(row.name, target) and not any(type(v) is Node for v in values):
        return False
    if not is_writeable(target) or target.size == 0 or target.ndim == 0:
        return False
    engine.before_write(target)
    try:
        node = build(row, tuple([operand(arg) for arg in args]))
    except Declined:
        return False
    return store_into(node, target)


def store_into(node: Node, target: numpy.ndarray, casting: Any = "same_kind") -> bool:
    """Run ``node`` into ``target``, through a temporary where it reads what it would overwrite."""
    if node.shape != target.shape or not numpy.can_cast(node.dtype, target.dtype, casting):
        return False
    if _acts_at_once(node) or not target.flags.aligned or not is_planned(target.dtype):
        return False
    if 0 in target.strides:
        return False  # elements that share memory are written in NumPy's order
    if node.dtype != target.dtype:
        if node.dtype.kind == "c" and target.dtype.kind != "c":
            return False
        # Assignment casts what was computed; an output is cast within the operation.
        if casting == "unsafe":
            node = build(BY_NAME["astype"], (node,), target.dtype)
        else:
            node = recast(node, target.dtype)
        if _acts_at_once(node):  # the cast may err, too
            return False
    if _conflicts(node, target):
        engine.evaluate([node])
        if node.value is not None:
            engine.copy_into(target, node.value)
        return True
    engine.store(node, target)
    return True


def _acts_at_once(node: Node) -> bool:
    """Return whether an error of the operation asks for more than a warning."""
    return node.errors is not None and any(mode not in ("warn", "ignore") for mode in node.errors)


def copy_of(value: Any) -> Node:
    """Return the node of a copy of a node or a NumPy array."""
    # NumPy has no plus sign for bools.
    row = BY_NAME["astype"] if value.dtype.kind == "b" else COPY
    return build(row, (value,), value.dtype if value.dtype.kind == "b" else None)


def copied(array: Any) -> Any:
    """Return a copy of one of ours that is on a device alone; None for what NumPy is to copy."""
    host = behind(array)  # whoever copies evaluates; the result may be on a device
    if not is_far(host) or not host.flags.c_contiguous:
        return None
    try:
        return finish(copy_of(host), options(), None, (array,))
    except Declined:
        return None


def _conflicts(node: Node, target: numpy.ndarray) -> bool:
    """Return whether a block could read memory that an earlier block has written."""
    here = target.__array_interface__["data"][0]
    for leaf in node.leaves:
        host = leaf.host
        if not numpy.may_share_memory(host, target):
            continue
        same = (
            host.shape == target.shape
            and host.strides == target.strides
            and host.itemsize == target.itemsize
            and host.__array_interface__["data"][0] == here
        )
        if not same:
            return True
    return False


def where(condition: Any, /, *args: Any) -> Any:
    """Choose elements of ``x`` or ``y`` by ``condition``; see :func:`numpy.where`."""
    if isinstance(condition, (int, float, complex)):
        condition = bool(condition)
    if len(args) == 2 and all(_understood(a) for a in (condition, *args)):
        given = tuple([operand(value) for value in (condition, *args)])
        if _is_foreseen(*given):
            reason = "its condition is easy to foresee, and nothing is there to fuse it with"
            return fallback.left_to_numpy("where", reason, numpy.where, given, {})
        return apply(BY_NAME["where"], (condition, *args), numpy.where)
    return fallback.call("where", numpy.where, (condition, *args), {})


def _is_foreseen(condition: Any, *choices: Any) -> bool:
    """Return whether NumPy's own loop, which writes once, is the fastest."""
    if type(condition) is not numpy.ndarray or any(type(c) is Node for c in choices):
        return False
    if is_far(condition) or any([is_far(choice) for choice in choices]):
        return False
    itemsize = max([c.itemsize for c in choices if type(c) is numpy.ndarray], default=0)
    return (
        condition.dtype == bool
        and condition.nbytes >= limits.UNREAD
        and not plans_everything(options())
        and not is_patchy(places.look(condition), BRANCHES * itemsize)
    )


def clip(a: Any, *args: Any, **kwargs: Any) -> Any:
    """Limit the elements of ``a``; see :func:`numpy.clip`."""
    bounds = args
    if isinstance(a, (int, float, complex)):
        # NumPy makes an array of it first, whose dtype then counts as that of any array.
        return fallback.call("clip", numpy.clip, (a, *args), kwargs)
    if not kwargs and len(bounds) == 2 and all(_understood(v) for v in (a, *bounds)):
        return apply(BY_NAME["clip"], (a, *bounds), numpy.clip)
    if len(bounds) == 2 and set(kwargs) == {"out"} and is_array(kwargs["out"]):
        values = (a, *bounds)
        if all(_understood(v) for v in values):
            out = kwargs["out"]
            if write_into(BY_NAME["clip"], values, behind(out)):
                return out
    return fallback.call("clip", numpy.clip, (a, *args), kwargs)


where.__doc__ = numpy.where.__doc__
clip.__doc__ = numpy.clip.__doc__


def astype(array: Any, dtype: Any, order: str, casting: str, subok: bool, copy: bool) -> Any:
    """Convert an array of ours as :meth:`numpy.ndarray.astype` does."""
    is_class = isinstance(dtype, type) and issubclass(dtype, numpy.dtype)
    if is_class or casting == "same_value" or not isinstance(copy, (bool, int)):
        # A class of dtypes, one of which NumPy finds; a look at values; other ways to copy.
        of_class = concrete(array).astype(dtype, order, casting, subok, copy)  # type: ignore[call-overload]
        return _fastpath.wrap(of_class)
    value = operand(array)
    wanted = numpy.dtype(dtype)
    same = wanted == value.dtype
    plannable = (
        order == "K"
        and not same
        and numpy.can_cast(value.dtype, wanted, casting)  # type: ignore[arg-type]
        and not (value.dtype.kind == "c" and wanted.kind not in "c?")
        # Of axes that stand still a conversion keeps another order than ufuncs do.
        and not (type(value) is numpy.ndarray and 0 in value.strides)
    )
    if type(value) is Node and same and not copy:
        return array
    if plannable and (type(value) is Node or is_large("astype", value)):
        try:
            node = build(BY_NAME["astype"], (value,), wanted)
        except Declined:
            node = None
        if node is not None and node.shape != () and node.size:

            def direct(host: numpy.ndarray) -> numpy.ndarray:
                return host.astype(wanted, order, casting, subok, copy)  # type: ignore[call-overload,no-any-return]

            return finish(node, options(), direct, (array,))
    if same and copy and order in ("K", "C", "A"):
        made = copied(array)
        if made is not None:
            return made
    host = concrete(array)
    result = host.astype(wanted, order, casting, subok, copy)  # type: ignore[call-overload]
    return array if result is host else _fastpath.wrap(result)


FUNCTIONS: dict[str, Any] = {}
for _row in ELEMENTWISE:
    if _row.ufunc is not None:
        _made = UFunc(_row)
        for _name in (_row.name, *_row.aliases):
            FUNCTIONS[_name] = _made
FUNCTIONS["where"] = fallback.forward("where", numpy.where, where, reads=3)
FUNCTIONS["clip"] = fallback.forward("clip", numpy.clip, clip, reads=3)
