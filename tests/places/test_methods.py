"""Every method of arrays whose bytes are on a device answers as NumPy's."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from alike import (
    SHAPE,
    VALUES,
    WAYS,
    alike,
)

pytestmark = pytest.mark.usefixtures("device")


#: Arguments of methods, by name; without an entry a method is called with none.
ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {
    "__array__": [(), (numpy.float32,)],
    "__getitem__": [(3,), (slice(2, 9),), ((slice(None, None, -3), 5),), ((4, 5),), ((),),
                    (Ellipsis,), (None,), ([1, 4, 7],), ((numpy.int64(3), 4),), ((0, Ellipsis),),
                    ((3, 4, Ellipsis),)],
    "__setitem__": [(3, 7), ((4, 5), 9), (slice(2, 9), 1), ((slice(None), 3), 0), ([1, 4, 7], 2),
                    (Ellipsis, 5), (slice(0, 2), [[1], [2]]), ((slice(None, None, 5),), True),
                    (slice(0, 2), numpy.arange(64)), (99, 1), (3, numpy.arange(3))],
    "argpartition": [(3,)], "argsort": [(), (0,), (None,)], "astype": [("f4",), ("f8",), ("i8",)],
    "choose": [([1, 2, 3],)], "clip": [(2, 5)], "compress": [([True, False, True], 0)],
    "copy": [(), ("F",)], "cumsum": [(), (0,)], "dot": [(numpy.ones(SHAPE[1]),)],
    "fill": [(3,), (2.5,)], "getfield": [("i2",)], "item": [(5,), ((3, 4),), (3, 4)],
    "partition": [(3,)], "put": [([1, 2], [7, 8])], "repeat": [(2,), (2, 0)],
    "reshape": [(-1,), (SHAPE[1], SHAPE[0]), (5, 5)], "resize": [((7, 9),)], "round": [(), (2,)],
    "searchsorted": [(3,)], "setfield": [(3, "i2")], "setflags": [(True,)],
    "sort": [(), (0,)], "swapaxes": [(0, 1)], "take": [([1, 5, 3],)], "tofile": [],
    "transpose": [(), (1, 0)], "view": [(), ("u1",)], "__divmod__": [(2,)], "__rdivmod__": [(7,)],
    "__pow__": [(2,)], "__rpow__": [(2,)], "__contains__": [(3,)], "__format__": [("",)],
    "__deepcopy__": [({},)], "__reduce_ex__": [], "__setstate__": [], "__class_getitem__": [],
    "dump": [], "to_device": [("cpu",)], "sum": [(), (0,), (1,)], "mean": [(), (0,)], "var": [(0,)],
    "max": [(), (1,)], "argmin": [(), (0,)], "byteswap": [(), (True,)],
}  # fmt: skip
_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "and", "or", "xor", "matmul",
              "lt", "le", "eq", "ne", "gt", "ge", "lshift", "rshift")  # fmt: skip
for _name in _OPERATORS:
    for _form in (f"__{_name}__", f"__r{_name}__", f"__i{_name}__"):
        ARGUMENTS.setdefault(_form, [(2,), (numpy.full(SHAPE, 3),)])
ARGUMENTS["__ipow__"] = [(2,)]
_SKIPPED = {
    "__class__", "__new__", "__init__", "__init_subclass__", "__subclasshook__", "__getattribute__",
    "__setattr__", "__delattr__", "__dir__", "__getstate__", "__array_ufunc__", "__array_wrap__",
    "__array_function__", "__array_finalize__", "__array_struct__", "__array_interface__",
    "__array_priority__", "__array_namespace__", "__array_prepare__", "__dlpack__", "__hash__",
    "__buffer__", "__release_buffer__", "__delitem__", "__sizeof__", "__doc__", "__reduce__",
    "ctypes", "data", "flags", "device", "base", "flat", "__copy__", "__iter__", "resize",
}  # fmt: skip
NAMES = [name for name in dir(numpy.ndarray) if name not in _SKIPPED]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_answers_as_numpys(name: str, way: str) -> None:
    for dtype, values in VALUES.items():
        if not callable(getattr(numpy.ndarray, name)):
            alike(lambda x: getattr(x, name), lambda x: getattr(x, name), [values], way)
            continue
        if dtype == "complex128" and name == "getfield":
            continue
        for args in ARGUMENTS.get(name, [()]):

            def call(x: Any, args: tuple[Any, ...] = args) -> Any:
                return getattr(x, name)(*args)

            alike(call, call, [values], way)
            alike(call, call, [values[:6, :6].copy()], way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", sorted({*ARGUMENTS} & {*NAMES} - {"resize", "setflags"}))
def test_views_answer_as_numpys(name: str, way: str) -> None:
    for args in ARGUMENTS[name][:4]:

        def call(x: Any, args: tuple[Any, ...] = args) -> Any:
            part = x[4:52, ::2]
            return getattr(part, name)(*args)

        base = numpy.arange(60 * 128).reshape(60, 128) % 11 + 1
        alike(call, call, [base], way)
        alike(call, call, [base.astype(float)], way)
