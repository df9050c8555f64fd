"""What operators do when the fast path declines: handlers per slot, derived from the op rows."""

from __future__ import annotations

import operator
from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy

from dispatcharr._config import options
from dispatcharr.expr.build import Declined, build, recast
from dispatcharr.expr.nodes import Node
from dispatcharr.face import _fastpath, adapted, contract, fallback, limits, scans
from dispatcharr.face.array import behind, is_array, is_writeable, operand, unwrap
from dispatcharr.face.creation import constant_node
from dispatcharr.face.functions import FUNCTIONS, copy_of, store_into, write_into
from dispatcharr.face.pinned import settle_pinned
from dispatcharr.face.road import engine
from dispatcharr.face.slots import holds_whole
from dispatcharr.face.temporary import is_temporary_item, set_item_count
from dispatcharr.face.waiting import apply, is_far, is_large, may_wait
from dispatcharr.ops.kinds import is_planned
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME, COPY, ELEMENTWISE
from dispatcharr.storage import places
from dispatcharr.storage.exports import mark_foreign
from dispatcharr.storage.readers import any_pending

__all__ = ["install", "power_row"]

_BY_OPERATOR = {row.operator: row for row in ELEMENTWISE if row.operator is not None}
#: The row behind ``**``, for some of whose exponents NumPy has other ways.
_POWER = _BY_OPERATOR["pow"]
_PLAIN = {int, float, complex, bool, numpy.ndarray}
#: Bytes that are copied in less time than it takes to plan a kernel that writes where they belong.
COPIED = 1 << 21
#: Bytes that are better copied to a device than written by a kernel.
PATCH = 4096


class _Names(list[str]):
    """Takes NumPy's log of errors; keeps the names of the functions."""

    def write(self, message: str) -> None:
        self.append(message.rsplit(maxsplit=1)[-1])


def _powers() -> dict[tuple[type, float], str]:
    """Ask NumPy which powers it computes by other means; the bits differ, and so do versions."""
    heard = _Names()
    found: dict[tuple[type, float], str] = {}
    with numpy.errstate(all="log", call=heard):
        for exponent, wrong in ((2, 1e300), (2.0, 1e300), (-1, 0.0), (-1.0, 0.0), (0.5, -1.0)):
            numpy.array([wrong]) ** exponent
            if heard and heard[-1] != _POWER.name and heard[-1] in BY_NAME:
                found[type(exponent), exponent] = heard[-1]
    return found


_POWERS = _powers()
#: Before 2.3, NumPy took scalars of its own and arrays without axes for Python's numbers here.
_TAKES_SCALARS = (numpy.ones(1, numpy.float32) ** numpy.float64(2)).dtype == numpy.float32
#: The exponents that it then looked for.
_LOOKED_FOR = (-1, 0, 0.5, 1, 2)


def _python_operator(name: str) -> Callable[..., Any]:
    return getattr(operator, f"{name}_" if name in ("and", "or") else name)  # type: ignore[no-any-return]


def _is_planned_operand(value: Any) -> bool:
    return is_array(value) or type(value) in _PLAIN or isinstance(value, numpy.generic)


def _foreign(
    row: Elementwise, name: str, operate: Callable[..., Any], left: Any, right: Any
) -> Any:
    """Operate with something that is neither an array nor a number, as NumPy's operators do."""
    other = right if is_array(left) else left
    override = getattr(type(other), "__array_ufunc__", _MISSING)
    if override is None:
        return NotImplemented
    if override is not _MISSING and not isinstance(other, numpy.ndarray):
        return FUNCTIONS[row.name](left, right)
    if isinstance(other, numpy.ndarray):
        return fallback.call(row.name, operate, (left, right), {}, None)  # subclasses come first
    # The methods, and not the operators: what they leave to the other operand meets our array.
    if is_array(left):
        return fallback.call(
            row.name, getattr(numpy.ndarray, f"__{name}__"), (left, right), {}, None
        )
    return fallback.call(row.name, getattr(numpy.ndarray, f"__r{name}__"), (right, left), {}, None)


_MISSING = object()


def _kept_by_numpy(row: Elementwise, left: Any, right: Any) -> str | None:
    """Return why an operation stays with NumPy whatever its size, or None."""
    if row is not _POWER or not is_array(left):
        return None
    if operand(left).dtype.kind == "b":
        return "NumPy has rules of its own for powers of booleans"
    if _TAKES_SCALARS and getattr(right, "shape", None) == ():
        kind = right.dtype.kind
        if kind == "b" or (kind in "iuf" and unwrap(right) in _LOOKED_FOR):
            return "this NumPy has rules of its own for powers by its scalars"
    return None


def _power_row(row: Elementwise, left: Any, right: Any) -> tuple[Elementwise, tuple[Any, ...]]:
    """Return the row and operands of an operator, which for powers may be other ones."""
    if row is _POWER and type(right) in (int, float) and is_array(left):
        dtype = operand(left).dtype
        # The operator's own limit: until it is asked for, none of its powers is the fast path's.
        limits.limit_of(row.name, dtype)
        return power_row(dtype.kind, left, right)
    return row, (left, right)


def power_row(kind: str, left: Any, right: Any) -> tuple[Elementwise, tuple[Any, ...]]:
    """Return the row and operands of ``left ** right``, for a ``left`` of that kind of dtype."""
    if type(right) in (int, float):
        special = _POWERS.get((type(right), right))
        if special is not None and (
            kind in "fc" or (type(right) is int and right == 2 and kind in "biu")
        ):
            return BY_NAME[special], (left,)
    return _POWER, (left, right)


def _binary(name: str) -> Callable[[Any, Any], Any]:
    row = _BY_OPERATOR[name]
    operate = _python_operator(name)

    def handler(left: Any, right: Any) -> Any:
        if not (_is_planned_operand(left) and _is_planned_operand(right)):
            return _foreign(row, name, operate, left, right)
        reason = _kept_by_numpy(row, left, right)
        if reason is not None:
            return fallback.left_to_numpy(row.name, reason, operate, unwrap((left, right)), {})
        used, operands = _power_row(row, left, right)
        if used is row:
            return apply(row, operands, operate)
        return apply(used, operands, lambda value: operate(value, right))

    return handler


def _unary(name: str) -> Callable[[Any], Any]:
    row = _BY_OPERATOR[name]
    operate = _python_operator(name)

    def handler(value: Any) -> Any:
        return apply(row, (value,), operate)

    return handler


def _inplace(name: str) -> Callable[[Any, Any], Any]:
    row = _BY_OPERATOR[name]
    operate = getattr(operator, f"i{name}")

    def handler(array: Any, other: Any) -> Any:
        if not is_array(array):
            return NotImplemented
        if not _is_planned_operand(other):
            return _inplace_foreign(row.name, getattr(numpy.ndarray, f"__i{name}__"), array, other)
        planned = _kept_by_numpy(row, array, other) is None
        used, operands = _power_row(row, array, other)
        if planned and type(operand(array)) is Node and _rebind(used, array, operands):
            return array
        host = behind(array)
        if planned and write_into(used, operands, host):
            return array
        if any_pending():
            engine.before_write(host)
        given = unwrap(other)
        with places.writing((host,)):
            result = operate(host, given)
        return array if result is host else _fastpath.wrap(result)

    return handler


def _inplace_foreign(name: str, operate: Callable[..., Any], array: Any, other: Any) -> Any:
    return fallback.call(name, operate, (array, other), {}, None)


def _rebind(row: Elementwise, array: Any, operands: tuple[Any, ...]) -> bool:
    """Update a pending array in place by making it show a further node.

    No view of a pending array exists, so nobody can tell this from a write.
    """
    held = array._value
    try:
        node = build(row, tuple([operand(value) for value in operands]))
        if node.shape != held.shape or not numpy.can_cast(node.dtype, held.dtype, "same_kind"):
            return False
        if node.dtype.char != held.dtype.char:  # of equal dtypes the array keeps its own
            node = recast(node, held.dtype)
    except Declined:
        return False
    if node.order != held.order or not may_wait(node, options()):
        return False
    settle_pinned()
    old = held.owner
    array._value = node
    node.show(array)
    if old is not None:
        held.owner = None
        old.close()
    return True


def _getitem(array: Any, key: Any) -> Any:
    host = behind(array)  # first of all: what it evaluates may be on a device then
    if places.is_away(host):
        view = _part(host, key)
        if view is not None and (view.ndim or Ellipsis in _as_tuple(key)):
            return _fastpath.wrap(view)
        if view is not None and view.dtype.kind != "V":
            return places.look(view)[()]
        places.home(host)
    found = scans.indexed(host, key)
    if found is not contract.LEFT:
        return found
    result = adapted.call(operator.getitem, host, unwrap(key))
    if type(result) is numpy.void:
        engine.before_write(host)
        mark_foreign(host)  # a record is a view
    return _fastpath.view(result, array)


def _as_tuple(key: Any) -> tuple[Any, ...]:
    return key if type(key) is tuple else (key,)


def _part(host: numpy.ndarray, key: Any) -> numpy.ndarray | None:
    """Return a view of what a basic key names, also of an element; None for other keys."""
    keys = tuple([int(k) if isinstance(k, numpy.integer) else k for k in _as_tuple(key)])
    if type(key) is str or not _is_basic(keys):
        return host[key] if type(key) is str else None
    found: numpy.ndarray = host[keys if Ellipsis in keys else (*keys, Ellipsis)]
    return found


def _is_basic(key: Any) -> bool:
    if type(key) is tuple:
        return all(type(k) is not tuple and _is_basic(k) for k in key)
    return key is None or key is Ellipsis or type(key) in (int, slice)


def _setitem(array: Any, key: Any, item: Any) -> None:
    count = getrefcount(item)
    if type(item) is _Counted:
        _Counted.seen = count
        return
    temporary = is_array(item) and is_temporary_item(count)
    sketch = _fastpath.sketch_of(item)
    if sketch is not None and sketch.size * sketch.dtype.itemsize <= COPIED:
        _fastpath.settled(item)
    host = behind(array)
    if any_pending():
        engine.before_write(host)
    value = operand(item)
    if places.in_use() and places.is_placed(host) and _put(_part(host, key), value, temporary):
        return
    # Of what may not be written to NumPy says so before it looks at the key.
    if is_writeable(host) and _is_basic(key) and (type(value) is Node or _is_large(value)):
        target = host[key]
        if type(target) is numpy.ndarray and _assign(target, value, temporary):
            return
    whole = is_array(item) and holds_whole(host, key)
    if whole or (type(item) is list and host.dtype.kind == "O"):
        given = item  # as objects, arrays are to be what they are
    else:
        given = unwrap(item)
    with places.writing((host,)):
        adapted.call(operator.setitem, host, unwrap(key), given)


def _put(target: numpy.ndarray | None, value: Any, temporary: bool) -> bool:
    """Write ``value`` into a view of memory with a mirror; return whether that was done."""
    if target is None or not is_writeable(target) or not is_planned(target.dtype):
        return False
    if type(value) is list:
        value = numpy.asarray(unwrap(value))
    elif type(value) not in _PLAIN and not isinstance(value, (Node, numpy.generic)):
        return False
    if target.nbytes <= PATCH and not is_far(value) and type(value) is not Node:
        made = numpy.empty(target.shape, target.dtype)
        made[...] = places.look(value) if type(value) is numpy.ndarray else value
        if places.patch(target, made):
            return True
        value = made
    if type(value) is Node or type(value) is numpy.ndarray:
        return _assign(target, value, temporary)
    constant = numpy.empty((), target.dtype)
    constant[...] = value
    node = constant_node(constant[()], target.shape)
    return target.ndim > 0 and target.size > 0 and store_into(node, target)


def _is_large(value: Any) -> bool:
    return type(value) is numpy.ndarray and is_large(COPY.name, value)


def _assign(target: numpy.ndarray, value: Any, temporary: bool) -> bool:
    """Write ``value`` into the view ``target`` by a kernel of its own, where that is sound."""
    if not is_writeable(target) or target.ndim == 0:
        return False
    if target.shape != value.shape and not places.is_placed(target):
        return False
    if type(value) is Node and not (temporary and target.shape == value.shape):
        engine.evaluate([value])
        value = value.value
    try:
        if target.shape != value.shape:
            value = numpy.broadcast_to(value, target.shape)
        if type(value) is Node:
            node = value
        else:
            far = is_far(value) or places.is_placed(target)
            node = copy_of(value) if far else build(COPY, (value,))
        return store_into(node, target, "unsafe")
    except (Declined, ValueError):
        return False  # NumPy words what does not broadcast


def _length(array: Any) -> int:
    shape = array._form.shape
    if shape == ():
        raise TypeError("len() of unsized object")
    return int(shape[0])


class _Counted:
    """Measures how often item assignment counts its value, for temporaries and for names."""

    seen = 0


def _measure_item() -> None:
    probe = _fastpath.wrap(numpy.zeros(1))
    probe[0] = _Counted()
    temporary = _Counted.seen
    named = _Counted()
    probe[0] = named
    set_item_count(temporary, _Counted.seen)


def install() -> None:
    """Give every operator slot its handler."""
    for slot, name in enumerate(_fastpath.SLOT_NAMES):
        row = _BY_OPERATOR.get(name)
        if row is not None and row is not _POWER:  # some powers are other functions
            _fastpath.set_loops(slot, row.ufunc)
        if name in _fastpath.BINARY or name in _fastpath.COMPARE:
            _fastpath.set_handler(slot, _binary(name))
        elif name in _fastpath.UNARY:
            _fastpath.set_handler(slot, _unary(name))
        elif name.startswith("i") and name[1:] in _fastpath.BINARY:
            _fastpath.set_handler(slot, _inplace(name[1:]))
    _fastpath.set_handler(_fastpath.SLOT_NAMES.index("getitem"), _getitem)
    _fastpath.set_handler(_fastpath.SLOT_NAMES.index("setitem"), _setitem)
    _fastpath.set_handler(_fastpath.SLOT_NAMES.index("len"), _length)
    limits.forget()
    _measure_item()
