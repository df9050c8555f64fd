"""The fast path in Python, where it could not be compiled; it means the same."""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Callable
from typing import Any, ClassVar

import numpy

from dispatcharr.face._meta_py import Meta, stay
from dispatcharr.face.slots import BINARY, COMPARE, SLOT_NAMES, UNARY, holds_whole


class _State:
    """What the compiled module keeps in C variables."""

    array_type: Any = None
    closed = 0
    pending = 0
    served = 0
    writes = 0
    #: By id of the root: 1 with a mirror on a device, not to be written here; 2 away, not to be
    #: read.
    placed: ClassVar[dict[int, int]] = {}


_PLAIN = (int, float, complex, bool)


def _plain(value: Any) -> Any:
    """Return the plain NumPy operand behind ``value``, None when the fast path must decline."""
    if type(value) is _State.array_type:
        held = value._value
        return held if type(held) is numpy.ndarray else None
    kind = type(value)
    if kind in _PLAIN or kind is numpy.ndarray or isinstance(value, numpy.generic):
        return value
    return None


def _state(value: Any) -> int:
    """Return where the memory of a value is: 2 where only ``storage`` can tell whose it is."""
    if type(value) is not numpy.ndarray:
        return 0
    while value.base is not None:
        value = value.base
        if not isinstance(value, numpy.ndarray):
            return 2
    return _State.placed.get(id(value), 0)


def _is_away(*values: Any) -> bool:
    return bool(_State.placed) and any(_state(value) == 2 for value in values)


def _write(operate: Callable[..., Any], *args: Any) -> Any:
    _State.writes += 1
    try:
        return operate(*args)
    finally:
        _State.writes -= 1


def _bytes(*values: Any) -> int:
    """Return an upper bound of the bytes of the broadcast result."""
    arrays = [value for value in values if type(value) is numpy.ndarray]
    most = max((array.nbytes for array in arrays), default=0)
    if len(arrays) < 2 or arrays[0].size <= 1 or arrays[1].size <= 1:
        return most
    if arrays[0].shape == arrays[1].shape:
        return most
    item = max(array.itemsize for array in arrays)
    return int(arrays[0].size * arrays[1].size * item)


def _limit(slot: int, *values: Any) -> int:
    arrays = [value for value in values if type(value) is numpy.ndarray]
    if not arrays:
        return sys.maxsize
    number = max(arrays, key=lambda array: array.nbytes).dtype.num
    return _limits[slot][number if number < _TYPES else numpy.dtype(object).num]


def _simple(key: Any) -> Any:
    if key is None or key is Ellipsis or type(key) is int or type(key) is slice:
        return True
    return type(key) is tuple and all(type(k) is not tuple and _simple(k) for k in key)


def wrap(value: Any) -> Any:
    return cell(value) if type(value) is numpy.ndarray else value


def cell(value: Any) -> Any:
    array = object.__new__(_State.array_type)
    array._value = value
    array._origin = array._parent = None
    array._standard = False
    return array


def view(value: Any, given: Any) -> Any:
    """Do as :func:`wrap`, and note whose view the result is."""
    made = wrap(value)
    base = getattr(value, "base", None)
    while base is not None and type(given) is type(made) is _State.array_type:
        if given._value is base:
            made._parent = given
            break
        given = given._parent
    return made


_handlers: list[Any] = [None] * 512
#: By slot and type number of the larger operand; dtypes that are not built in count as objects.
_TYPES = numpy.dtype(numpy.float16).num + 1
_limits: list[list[int]] = [[sys.maxsize] * _TYPES for _ in range(512)]


class Cell:
    """A concrete numpy.ndarray or a pending node."""

    __slots__ = ("__weakref__", "_origin", "_parent", "_standard", "_value")
    _value: Any
    _origin: Any
    _parent: Any
    _standard: bool
    __hash__ = None  # type: ignore[assignment]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self) if Meta.believed is None else Meta.believed(self, 2)

    @property
    def _form(self) -> Any:
        return self._value

    def __getitem__(self, key: Any) -> Any:
        held = self._value
        if type(key) is type(self):
            plain_key = _plain(key)
        else:
            plain_key = key if _simple(key) else None
        if (
            type(held) is numpy.ndarray and not _State.closed and held.dtype.type is not numpy.void
            and (plain_key is not None or key is None) and not _is_away(held, plain_key)
        ):  # fmt: skip
            _State.served += 1
            return view(held[plain_key], self)
        return _handlers[SLOT_NAMES.index("getitem")](self, key)

    def __setitem__(self, key: Any, item: Any) -> None:
        held, value = self._value, _plain(item)
        if type(item) is _State.array_type and holds_whole(held, key):
            value = item
        slot = SLOT_NAMES.index("setitem")
        is_mine = type(key) is type(self)
        plain_key = _plain(key) if is_mine else key
        simple = plain_key is not None if is_mine else _simple(key)
        if (
            type(held) is numpy.ndarray and not _State.closed and not _State.pending
            and simple and value is not None and _bytes(value) < _limit(slot, value)
            and not (_State.placed and _state(held)) and not _is_away(plain_key, value)
        ):  # fmt: skip
            _State.served += 1
            _write(held.__setitem__, plain_key, value)
            return
        _handlers[slot](self, key, item)

    def __delitem__(self, key: Any) -> None:
        raise ValueError("cannot delete array elements")

    def __len__(self) -> int:
        held = self._value
        if type(held) is numpy.ndarray:
            return len(held)
        length: int = _handlers[SLOT_NAMES.index("len")](self)
        return length


def _operator_method(name: str, slot: int, inplace: bool, reflected: bool) -> Callable[..., Any]:
    if name in ("and", "or"):
        operate = getattr(operator, f"i{name}" if inplace else f"{name}_")
    else:
        operate = getattr(operator, f"i{name}" if inplace else name)

    def method(self: Any, other: Any, *modulus: Any) -> Any:
        if modulus and modulus[0] is not None:
            return NotImplemented
        x, y = _plain(self), _plain(other)
        left, right = (other, self) if reflected else (self, other)
        if (
            x is None or y is None or _State.closed or (inplace and _State.pending)
            or _bytes(x, y) >= _limit(slot, x, y) or _is_away(x, y)
            or (inplace and _State.placed and _state(x))
        ):  # fmt: skip
            return stay(_handlers[slot](left, right), wrap, left, right)
        _State.served += 1
        if inplace:
            result = _write(operate, x, y)
        else:
            result = operate(y, x) if reflected else operate(x, y)
        return self if result is x else stay(wrap(result), wrap, left, right)

    return method


def _unary_method(name: str, slot: int) -> Callable[..., Any]:
    operate = getattr(operator, name)

    def method(self: Any) -> Any:
        x = _plain(self)
        if x is None or _State.closed or _bytes(x) >= _limit(slot, x) or _is_away(x):
            return stay(_handlers[slot](self), wrap, self)
        _State.served += 1
        return stay(wrap(operate(x)), wrap, self)

    return method


def _install() -> None:
    for slot, name in enumerate(SLOT_NAMES):
        if name in BINARY:
            setattr(Cell, f"__{name}__", _operator_method(name, slot, False, False))
            setattr(Cell, f"__r{name}__", _operator_method(name, slot, False, True))
        elif name in COMPARE:
            setattr(Cell, f"__{name}__", _operator_method(name, slot, False, False))
        elif name in UNARY:
            setattr(Cell, f"__{name}__", _unary_method(name, slot))
        elif name.startswith("i") and name[1:] in BINARY:
            setattr(Cell, f"__{name}__", _operator_method(name[1:], slot, True, False))


class Function:
    """A callable that runs its ufunc on small concrete arrays and hands on the rest."""

    _ufunc: Any
    _slow: Any
    _slot: int

    def __init__(self, ufunc: Any, slow: Any, nin: int, nout: int, slot: int) -> None:
        self._ufunc = ufunc
        self._slow = slow
        self._slot = slot
        self._nin = nin

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs and not _State.closed and len(args) == self._nin <= 2:
            plain = [_plain(arg) for arg in args]
            is_plain = not any(p is None for p in plain) and not _is_away(*plain)
            if is_plain and _bytes(*plain) < _limit(self._slot, *plain):
                _State.served += 1
                result = self._ufunc(*plain)
                if type(result) is tuple:
                    return tuple(map(wrap, result))
                return wrap(result)
        return self._slow(*args, **kwargs)


class Forward:
    """A function or method that NumPy runs; in Python the fast path always hands on."""

    __qualname__: str
    _function: Any
    _slow: Any

    def __init__(
        self, function: Any, slow: Any, slot: int = -1, reads: int = 0, masked: int = -1,
        opaque: bool = False, first: Any = None,
    ) -> None:  # fmt: skip
        self._function = function
        self._slow = slow

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._slow(*args, **kwargs)

    def __reduce__(self) -> Any:
        return self.__qualname__

    def __eq__(self, other: object) -> bool:
        return self is other or self._function is other

    def __hash__(self) -> int:
        return hash(self._function)

    def __repr__(self) -> str:
        return f"<function {self.__module__}.{self.__qualname__}>"


class Method(Forward):
    """One that binds, as functions do and builtin functions and ufuncs do not."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)


def holds_cell(value: Any) -> bool:
    if type(value) is not list and type(value) is not tuple:
        return False
    kind = _State.array_type
    return any(type(item) is kind or item is kind or holds_cell(item) for item in value)


def register(array_type: type) -> None:
    _State.array_type = array_type


def set_handler(slot: int, handler: Any) -> None:
    _handlers[slot] = handler


def set_limit(slot: int, limit: int, type_number: int = -1) -> None:
    for number in range(_TYPES) if type_number == -1 else (type_number,):
        _limits[slot][number] = limit


def get_limit(slot: int, type_number: int) -> int:
    return _limits[slot][type_number]


def close(by: int) -> int:
    _State.closed += by
    return _State.closed


def set_pending(count: int) -> None:
    _State.pending = count


def placed(root: int, state: int) -> None:
    if state:
        _State.placed[root] = state
    else:
        _State.placed.pop(root, None)


def writes() -> int:
    return _State.writes


def set_hooks(listened: Any, mark_foreign: Any, finish: Any) -> None:
    """Take what only a compiled fast path asks: calls left to NumPy are all handed on here."""


def foreseen() -> int:
    """Return 0: only a compiled fast path remembers whose results were operands."""
    return 0


class Sketch:
    """What only a compiled fast path makes."""


def settled(array: Any) -> Any:
    return array._value


def settle() -> None:
    """File nothing: only a compiled fast path notes what is not filed."""


def sketches() -> list[Any]:
    return []


def sketch_of(array: Any) -> None:
    """Return None: only a compiled fast path makes sketches."""


def _ignore(*args: Any) -> None:
    """Take note of nothing: only a compiled fast path has a tape, foresight, and a pool."""


def close_tape(by: int) -> int:
    """Take note of nothing: only a compiled fast path has a tape."""
    return 0


set_memory = set_ufuncs = mistaken = set_chain_limit = _ignore
missed = show_node = set_tape = set_sketched = patient = taping = structure = _ignore


def served() -> int:
    return _State.served


_install()
FIRST_FUNCTION, SLOTS = len(SLOT_NAMES), len(_handlers)
