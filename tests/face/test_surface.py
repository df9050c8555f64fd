"""Every public attribute and method of numpy.ndarray is there and does the same."""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np

ATTRIBUTES = (
    "T", "mT", "real", "imag", "shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides",
    "device",
)  # fmt: skip
#: Attributes that hold memory or an identity; they have tests of their own.
HANDLES = {"base", "ctypes", "data", "flags", "flat"}

Calls = tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]


def _call(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


_REDUCTIONS = (_call(), _call(0), _call(axis=1), _call(keepdims=True), _call(axis=(0, 1)))
CALLS: dict[str, Calls] = {
    "all": _REDUCTIONS,
    "any": _REDUCTIONS,
    "argmax": (_call(), _call(0), _call(axis=1, keepdims=True)),
    "argmin": (_call(), _call(0), _call(axis=1, keepdims=True)),
    "argpartition": (_call(1), _call(1, axis=0)),
    "argsort": (_call(), _call(0), _call(kind="stable")),
    "astype": (_call("f4"), _call(complex), _call("i8", copy=False), _call(bool), _call("f8"),
               _call("f8", copy=False), _call("i1", casting="safe")),
    "byteswap": (_call(), _call(inplace=True)),
    "choose": (_call([1, 2, 3, 4]),),
    "clip": (_call(1, 2), _call(min=1), _call(max=2), _call(None, 1), _call(1, 2, dtype="f8"),
             _call()),
    "compress": (_call([True, False, True]), _call([False, True], axis=1)),
    "conj": (_call(),),
    "conjugate": (_call(),),
    "copy": (_call(), _call("F"), _call(order="K")),
    "cumprod": (_call(), _call(0), _call(axis=1)),
    "cumsum": (_call(), _call(0), _call(axis=1, dtype="f4")),
    "diagonal": (_call(), _call(1)),
    "dot": (_call([1, 2, 3, 4]), _call(2), _call([1, 2])),
    "fill": (_call(1), _call("x")),
    "flatten": (_call(), _call("F")),
    "getfield": (_call("i1"), _call("i1", 1)),
    "item": (_call(), _call(0), _call(1, 2), _call(99)),
    "max": (*_REDUCTIONS, _call(initial=3, where=[[True], [False], [True]])),
    "mean": (*_REDUCTIONS, _call(dtype="f4"), _call(where=[[True], [False], [True]])),
    "min": _REDUCTIONS,
    "nonzero": (_call(),),
    "partition": (_call(1), _call(1, axis=0)),
    "prod": (*_REDUCTIONS, _call(dtype="f4"), _call(initial=2)),
    "put": (_call([0, 1], [1, 0]), _call(99, 1)),
    "ravel": (_call(), _call("F"), _call("K")),
    "repeat": (_call(2), _call(2, axis=1), _call([1, 2, 3], axis=0)),
    "reshape": (_call(2, 6), _call((4, -1)), _call(-1, order="F"), _call(5)),
    "round": (_call(), _call(1)),
    "searchsorted": (_call(1),),
    "setfield": (_call(1, "i1"),),
    "setflags": (_call(write=False), _call(align=True)),
    "sort": (_call(), _call(0), _call(kind="stable")),
    "squeeze": (_call(), _call(0)),
    "std": (*_REDUCTIONS, _call(ddof=1), _call(dtype="f4")),
    "sum": (*_REDUCTIONS, _call(dtype="f4"), _call(initial=2), _call(axis=5), _call(axis=(0, 0)),
            _call(where=[[True], [False], [True]]), _call(unknown=1)),
    "swapaxes": (_call(0, 1), _call(0, 5)),
    "take": (_call([0, 1]), _call([0, 1], axis=1), _call(99), _call(99, mode="wrap")),
    "to_device": (_call("cpu"), _call("gpu")),
    "tobytes": (_call(), _call("F")),
    "tolist": (_call(),),
    "trace": (_call(), _call(1)),
    "transpose": (_call(), _call(1, 0), _call((0, 1)), _call(0, 0)),
    "var": (*_REDUCTIONS, _call(ddof=1), _call(ddof=12)),
    "view": (_call("i1"), _call(dtype="u1"), _call(), _call("V4")),
}  # fmt: skip
#: They write files, or count references; they have tests of their own.
FILES = {"dump", "dumps", "resize", "tofile"}

VALUES = {
    "float": numpy.array([[3.5, 1.0, 2.25, -1.5], [0.0, 4.0, 1.0, 2.0], [9.0, 8.0, -7.5, 6.0]]),
    "single": numpy.arange(12, dtype="f4").reshape(3, 4),
    "int": numpy.array([[3, 1, 2, 0], [0, 3, 1, 2], [1, 1, 0, 3]]),
    "bool": numpy.arange(12).reshape(3, 4) % 3 == 0,
    "complex": numpy.arange(12).reshape(3, 4) * (1 - 0.5j),
    "vector": numpy.array([2, 0, 1, 3]),
}
#: Results are the same up to rounding: how a sum is cut into blocks is ours to choose.
ROUNDED = {"mean", "prod", "std", "sum", "var", "trace", "dot"}


def test_every_public_name_is_covered() -> None:
    # What NumPy 2.0 still lists, and says to be gone when it is asked for.
    gone = {"itemset", "newbyteorder", "ptp", "tostring"}
    names = {name for name in dir(numpy.ndarray) if not name.startswith("_")} - gone
    assert names <= {*ATTRIBUTES, *HANDLES, *CALLS, *FILES}
    missing = [name for name in names if not hasattr(np.ndarray, name)]
    assert missing == []


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attribute(
    name: str, values: Any, make: Callable[[Any], Any], same_outcome: Callable[..., None]
) -> None:
    array = make(values)
    same_outcome(lambda: getattr(array, name), lambda: getattr(values.copy(), name))


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", CALLS)
def test_method(
    name: str, values: Any, make: Callable[[Any], Any], same_outcome: Callable[..., None]
) -> None:
    for args, kwargs in CALLS[name]:
        # numpy.array copies; resize wants an array that owns its memory.
        host, array = numpy.array(values), make(values)

        def ours(array: Any = array, args: Any = args, kwargs: Any = kwargs) -> Any:
            result = getattr(array, name)(*args, **kwargs)
            return "itself" if result is array else result

        def numpys(host: Any = host, args: Any = args, kwargs: Any = kwargs) -> Any:
            result = getattr(host, name)(*args, **kwargs)
            return "itself" if result is host else result

        if name in ROUNDED:
            _close_outcome(ours, numpys, same_outcome)
        else:
            same_outcome(ours, numpys)
        same_outcome(lambda array=array: array, lambda host=host: host)


def _close_outcome(
    ours: Callable[[], Any], numpys: Callable[[], Any], same_outcome: Callable[..., None]
) -> None:
    try:
        wanted = numpys()
    except Exception:
        same_outcome(ours, numpys)
        return
    got = ours()
    assert type(got) is (np.ndarray if type(wanted) is numpy.ndarray else type(wanted))
    assert numpy.asarray(got).dtype == numpy.asarray(wanted).dtype
    assert numpy.shape(got) == numpy.shape(wanted)
    numpy.testing.assert_allclose(numpy.asarray(got), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_methods_keep_their_documentation_and_name(name: str) -> None:
    method = getattr(np.ndarray, name)
    assert method.__name__ == name
    if name not in ("clip", "astype", "resize", "conj", "conjugate", "to_device"):
        assert inspect.getdoc(method) == inspect.getdoc(getattr(numpy.ndarray, name))


def test_files(tmp_path: Any, make: Callable[[Any], Any]) -> None:
    array = make(VALUES["float"])
    array.tofile(tmp_path / "raw")
    numpy.testing.assert_array_equal(numpy.fromfile(tmp_path / "raw"), VALUES["float"].ravel())
    array.dump(tmp_path / "pickle")
    numpy.testing.assert_array_equal(
        pickle.loads((tmp_path / "pickle").read_bytes()), VALUES["float"]
    )
    numpy.testing.assert_array_equal(pickle.loads(array.dumps()), VALUES["float"])


def test_resize(make: Callable[[Any], Any], same: Callable[..., None]) -> None:
    for args, kwargs in (((2, 2), {}), (((5, 5),), {}), ((3,), {"refcheck": False}), ((), {})):
        host, array = VALUES["float"].copy(), make(VALUES["float"])
        host.resize(*args, **kwargs)
        assert array.resize(*args, **kwargs) is None
        same(array, host)
        array += 1
    with pytest.raises(ValueError, match="negative"):
        make(VALUES["float"]).resize(-1)


def _refusal(call: Callable[[], Any]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "it was done"


def test_resize_is_refused_while_the_memory_is_viewed(make: Callable[[Any], Any]) -> None:
    for view in (lambda a: a[1:], numpy.asarray, lambda a: a.flat, iter, lambda a: a.T,
                 lambda a: a.ctypes):  # fmt: skip
        array = make(VALUES["float"])
        held = view(array)
        # Not by pytest.raises: the traceback that it keeps refers to the array.
        assert "referenced" in _refusal(lambda: array.resize(100, 100))
        assert held is not None
        del held
    array = make(VALUES["float"])
    assert "does not own its data" in _refusal(lambda: array[0].resize(3, 3))
    with np.dispatch_options(defer="always"):
        waiting = array + 1
        array.resize(2, 2)
    numpy.testing.assert_array_equal(waiting, VALUES["float"] + 1)


@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
def test_writable_attributes(make: Callable[[Any], Any], same: Callable[..., None]) -> None:
    for name, value in (
        ("shape", (4, 3)), ("shape", -1), ("real", 2), ("flat", [1, 2]), ("dtype", "i8"),
    ):  # fmt: skip
        host, array = VALUES["float"].copy(), make(VALUES["float"])
        setattr(host, name, value)
        setattr(array, name, value)
        same(array, host)


def test_unwritable_attributes(make: Callable[[Any], Any]) -> None:
    array = make(VALUES["float"])
    for name in ("size", "ndim", "nbytes", "itemsize", "T", "base", "flags", "unheard_of"):
        with pytest.raises(AttributeError):
            setattr(VALUES["float"].copy(), name, 3)
        with pytest.raises(AttributeError):
            setattr(array, name, 3)
    with pytest.raises(AttributeError):
        array.unheard_of


def test_flags_belong_to_the_array(make: Callable[[Any], Any]) -> None:
    array = make(VALUES["float"])
    assert array.flags.c_contiguous
    array.flags.writeable = False
    for write in (
        lambda: array.__setitem__(0, 1),
        lambda: array.__iadd__(1),
        lambda: np.add(array, 1, out=array),
        lambda: array.fill(3),
        lambda: array.sort(),
    ):
        with pytest.raises(ValueError, match="read-only"):
            write()
    numpy.testing.assert_array_equal(array, VALUES["float"])


def test_base(make: Callable[[Any], Any]) -> None:
    array = make(VALUES["float"])
    assert array.base is None
    assert type(array[1:].base) is np.ndarray
    numpy.testing.assert_array_equal(array[1:].base, VALUES["float"])


def test_size_in_bytes_counts_the_memory(make: Callable[[Any], Any]) -> None:
    assert sys.getsizeof(make(VALUES["float"])) >= VALUES["float"].nbytes


def test_new_array_by_its_class(same: Callable[..., None]) -> None:
    made = np.ndarray((2, 3), dtype="f4", buffer=bytes(24))
    same(made, numpy.zeros((2, 3), "f4"))
    array = np.arange(6.0)
    shared = np.ndarray((2, 2), buffer=array, offset=8)
    shared[0, 0] = 9
    assert array[1] == 9
    assert np.ndarray(shape=(0,), dtype="i4").shape == (0,)


def test_reductions_into_out(make: Callable[[Any], Any]) -> None:
    for name in ("sum", "mean", "max", "cumsum", "any", "argmax", "std"):
        host, array = VALUES["float"], make(VALUES["float"])
        wanted = getattr(host, name)(axis=0)
        out = np.empty(wanted.shape, wanted.dtype)
        assert getattr(array, name)(axis=0, out=out) is out
        numpy.testing.assert_allclose(out, wanted)
        given = numpy.empty(wanted.shape, wanted.dtype)
        assert getattr(array, name)(axis=0, out=given) is given
        numpy.testing.assert_allclose(given, wanted)


def test_out_by_position_is_returned() -> None:
    array, out = np.arange(4.0), np.empty(4)
    assert array.cumsum(0, None, out) is out
    assert array.take([0, 1, 2, 3], 0, out) is out
    assert array.clip(1, 2, out) is out
    assert array.round(0, out) is out
