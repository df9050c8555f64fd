"""What programs written for NumPy ask of arrays beside their values: identity, names, subclasses.

Most of it was found by NumPy's own tests; see ``tests/conformance``.
"""

from __future__ import annotations

import ctypes
import gc
import inspect
import pickle
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.face import _fastpath

VIEWS: dict[str, Callable[[Any], Any]] = {
    "slice": lambda x: x[1:],
    "ellipsis": lambda x: x[...],
    "field of shape": lambda x: x.reshape(2, 3),
    "transpose": lambda x: x.T,
    "method": lambda x: x.view("u1"),
    "function": np.ravel,
    "of a view": lambda x: x[1:][1:],
    "real": lambda x: x.astype(complex).real.base[:].real,
}


@pytest.mark.parametrize("view", [view for name, view in VIEWS.items() if name != "real"])
def test_the_base_of_a_view_is_the_array_itself(view: Callable[[Any], Any]) -> None:
    x = np.arange(6)
    assert view(x).base is x


def test_a_view_keeps_the_array_alive_as_an_object() -> None:
    x = np.arange(6)
    seen = weakref.ref(x)
    y = x[1:]
    del x
    assert y.base is seen()
    del y
    gc.collect()
    assert seen() is None


def test_the_base_of_a_foreign_view_is_one_object() -> None:
    x = np.asarray(numpy.arange(6)[1:])
    assert x.base is x.base


def test_arrays_of_objects_hold_the_arrays_themselves() -> None:
    x = np.arange(3)
    objects = np.empty((2, 2), object)
    objects[0, 0] = x
    objects[1] = [x, None]
    assert objects[0, 0] is x
    assert objects[1, 0] is x
    assert np.array([x, None], dtype=object)[0] is x
    assert np.array([x, np.arange(2)], dtype="O")[0] is x


class Holder:
    """An object that programs pass to NumPy's functions."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.held


@pytest.mark.parametrize(
    "use",
    [np.array, np.asarray, np.sum, np.add.reduce, lambda h: np.arange(3) + h],
    ids=["array", "asarray", "sum", "ufunc method", "operator"],
)
def test_array_may_return_an_array_of_ours(use: Callable[[Any], Any]) -> None:
    held = np.arange(3)
    numpy.testing.assert_array_equal(use(Holder(held)), use(Plain(held)))


class Plain(Holder):
    """The same with NumPy's array."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return numpy.asarray(self.held)


def test_such_an_object_may_be_assigned_and_may_index() -> None:
    x = np.zeros(3, int)
    x[...] = Holder(np.arange(3))
    assert x.tolist() == [0, 1, 2]
    assert x[Holder(np.array([2, 0]))].tolist() == [2, 0]
    objects = np.empty(1, object)
    holder = Holder(np.arange(2))
    objects[:] = [holder]
    assert objects[0] is holder


class Marked(np.ndarray):
    """A subclass as NumPy's documentation writes them."""

    def __new__(cls, data: Any) -> Any:
        return np.asarray(data).view(cls)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [x.view(np.ndarray) if isinstance(x, Marked) else x for x in inputs]
        assert not any(isinstance(x, Marked) for x in plain)
        made = super().__array_ufunc__(ufunc, method, *plain, **kwargs)
        return made if made is NotImplemented else Marked(made)

    def __getitem__(self, key: Any) -> Any:
        return np.ndarray.__getitem__(self, key)


def test_a_subclass_may_view_itself_as_an_array() -> None:
    x = Marked([1.0, 2.0])
    doubled: Any = x + x
    assert type(doubled) is Marked
    assert numpy.asarray(doubled).tolist() == [2.0, 4.0]
    assert x[1] == 2.0
    for sum_ in (x + np.ones(2), np.ones(2) + x):
        assert type(sum_) is Marked
        assert numpy.asarray(sum_).tolist() == [2.0, 3.0]
    assert type(np.arange(3).view(np.ndarray)) is np.ndarray


def test_a_subclass_may_make_itself_by_new() -> None:
    made = np.ndarray.__new__(Marked, (2, 3), dtype=int)
    assert type(made) is Marked
    assert made.shape == (2, 3)


def test_a_flat_iterator_takes_arrays_for_indices() -> None:
    x = np.arange(6).reshape(2, 3)
    assert x.flat[np.array([4, 0])].tolist() == [4, 0]
    assert x.flat[np.array([True, False, True, False, False, True])].tolist() == [0, 2, 5]
    x.flat[np.array([0, 5])] = np.array([7, 8])
    assert x.tolist() == [[7, 1, 2], [3, 4, 8]]
    assert x.flat.base is x
    assert isinstance(x.flat, np.flatiter)
    assert (x.flat == np.arange(6)).tolist() == [False, True, True, True, True, False]
    flat = x.flat
    assert [next(flat), *flat] == [7, 1, 2, 3, 4, 8]


def test_functions_are_found_in_tables_of_numpys() -> None:
    table = {numpy.concatenate: "numpy's", np.stack: "ours"}
    assert table[np.concatenate] == "numpy's"
    assert table[numpy.stack] == "ours"
    assert np.concatenate != np.stack


def test_ufuncs_without_a_row_are_ufuncs() -> None:
    assert isinstance(np.matmul, np.ufunc)
    assert np.matmul.signature == numpy.matmul.signature
    assert np.matmul.nin == 2

    class Table:
        product = np.matmul
        array = np.array

    assert Table().product(np.eye(2), np.ones(2)).tolist() == [1.0, 1.0]
    assert Table().array([1, 2]).tolist() == [1, 2]


def signature(function: Callable[..., Any]) -> object:
    try:
        return inspect.signature(function)
    except ValueError:
        return None  # this NumPy says nothing of it


@pytest.mark.parametrize("name", ["ones", "full", "arange", "concatenate", "empty_like", "where"])
def test_signatures_are_numpys(name: str) -> None:
    assert signature(getattr(np, name)) == signature(getattr(numpy, name))


def test_resize_is_refused_while_another_name_shows_the_array() -> None:
    x = np.zeros(3)
    x.resize(5)
    assert x.shape == (5,)
    y = x
    with pytest.raises(ValueError, match="referenced"):
        x.resize(6)
    y.resize(6, refcheck=False)
    assert x.shape == (6,)
    with pytest.raises(TypeError):
        np.eye(3).resize(refcheck="hi")


def test_the_conjugate_of_what_has_none_is_refused() -> None:
    for dtype in ("S", "U", "M8[ns]"):
        with pytest.raises(TypeError), warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            try:
                np.array([1], dtype=dtype).conjugate()
            except DeprecationWarning as warned:  # NumPy before 2.3
                raise TypeError from warned
    values = np.array([1j, 2], object)
    assert values.conj().tolist() == [-1j, 2]


def test_pointers_hold_the_array() -> None:
    x = np.arange(4)
    seen = weakref.ref(x)
    pointer = x.ctypes.data_as(ctypes.c_void_p)
    del x
    assert seen() is not None
    del pointer
    gc.collect()
    assert seen() is None


def test_structured_arrays_have_buffers_where_a_format_names_them() -> None:
    plain = np.zeros(2, [("a", "i4"), ("b", "f8")])
    if _fastpath.COMPILED or sys.version_info >= (3, 12):
        assert memoryview(plain).format == memoryview(numpy.asarray(plain)).format
    odd = np.zeros(2, {"names": ["a"], "formats": ["i4"], "offsets": [4], "itemsize": 16})
    assert numpy.asarray(odd).dtype == odd.dtype


def test_attributes_are_set_on_the_array_itself() -> None:
    x = np.arange(4, dtype="i8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        x.dtype = "i4"
        assert (x.shape, x.base) == ((8,), None)
        x.shape = (4, 2)
        x.strides = (8, 4)
        assert x[:, 1].tolist() == [0, 0, 0, 0]


def test_what_masked_arrays_ask_of_ours_is_numpys() -> None:
    texts = np.array([["%d", "%s"]]).view(np.char.chararray)
    made = texts % np.array([[1, 2]])
    assert made.dtype.kind == "U"
    assert made.tolist() == [["1", "2"]]


def test_iterators_take_arrays_and_show_them() -> None:
    x, y = np.arange(6).reshape(2, 3), np.zeros((2, 3), int)
    with np.nditer([x, y], op_flags=[["readonly"], ["writeonly"]]) as steps:
        assert isinstance(steps, np.nditer)
        for value, place in steps:
            place[...] = value * 2
    assert y.tolist() == [[0, 2, 4], [6, 8, 10]]
    pairs = np.broadcast(x, np.arange(3))
    assert isinstance(pairs, np.broadcast)
    assert pairs.shape == (2, 3)


class Right:
    """Takes over operations in which it stands on the right."""

    __array_priority__ = 1000

    def __radd__(self, other: Any) -> Any:
        return type(other)


def test_the_other_operand_meets_our_array() -> None:
    assert np.arange(3) + Right() is np.ndarray
    assert np.arange(3).__add__(Right()) is NotImplemented


def test_what_can_be_called_keeps_its_methods() -> None:
    x = np.arange(4.0)
    assert np.ma.minimum.reduce(x) == 0.0
    assert np.ma.add.reduce(x) == 6.0


def test_generators_are_seeded_by_arrays() -> None:
    for kind in ("MT19937", "PCG64", "Philox"):
        ours = getattr(np.random, kind)(np.arange(4))
        numpys = getattr(numpy.random, kind)(numpy.arange(4))
        assert isinstance(ours, np.random.BitGenerator)
        assert np.random.Generator(ours).integers(1000) == (
            numpy.random.Generator(numpys).integers(1000)
        )
        copied = pickle.loads(pickle.dumps(ours))
        assert type(copied) is type(ours)
        assert isinstance(numpys, getattr(np.random, kind))
    assert np.random.SeedSequence(np.array([1, 2])).entropy is not None


@pytest.mark.skipif(not _fastpath.COMPILED, reason="in Python there is a frame in between")
def test_warnings_of_numpys_functions_name_the_users_line() -> None:
    class Odd:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, place: int) -> int:
            return place

        def __setitem__(self, place: int, value: int) -> None:
            pass

    with pytest.warns(UserWarning, match="shuffle") as seen:
        np.random.default_rng(0).shuffle(Odd())
    assert seen[0].filename == __file__


def test_a_list_without_arrays_comes_back_as_it_is() -> None:
    x = [1, 2, 3]
    for defer in ("auto", "always"):
        with np.dispatch_options(defer=defer):
            assert np.diff(x, n=0) is x


def test_asking_whether_to_write_does_not_warn() -> None:
    for defer in ("auto", "always"):
        _, shown = np.broadcast_arrays(np.zeros((2, 3)), np.arange(3))
        with np.dispatch_options(defer=defer), pytest.warns(DeprecationWarning):
            shown[:] = 0


def test_a_choice_of_one_is_no_array() -> None:
    generator = np.random.default_rng(0)
    assert np.isscalar(generator.choice(2))
    x = np.arange(2)
    objects = np.empty(1, object)
    objects[0] = x
    assert generator.choice(objects) is x


@pytest.mark.parametrize("defer", ["auto", "always"])
def test_a_class_of_dtypes_is_no_dtype(defer: Any) -> None:
    with np.dispatch_options(defer=defer):
        assert np.array(1.5, object).astype(type(np.dtype("S"))).dtype == "S3"


@pytest.mark.skipif(
    np.lib.NumpyVersion(numpy.__version__) < "2.4.0",
    reason="this NumPy does not know casting by values",
)
@pytest.mark.parametrize("defer", ["auto", "always"])
def test_casting_by_values_is_numpys(defer: Any) -> None:
    casting: Any = "same_value"
    with np.dispatch_options(defer=defer):
        assert np.arange(3).astype("i1", casting=casting).dtype == "i1"
        with pytest.raises(ValueError):
            np.array([300]).astype("i1", casting=casting)


@pytest.mark.parametrize("defer", ["auto", "always"])
def test_a_missing_argument_is_told_of_in_the_functions_own_name(defer: Any) -> None:
    for name in ("sum", "argmax", "nanstd", "concatenate", "asarray", "sqrt"):
        with pytest.raises(TypeError) as numpys:
            getattr(numpy, name)()
        with np.dispatch_options(defer=defer), pytest.raises(TypeError) as ours:
            getattr(np, name)()
        assert str(ours.value) == str(numpys.value)


@pytest.mark.parametrize("name", ["nditer", "broadcast"])
def test_iterators_show_numpys_members(name: str) -> None:
    ours, numpys = getattr(np, name), getattr(numpy, name)
    assert {key for key in vars(numpys) if key[0] != "_"} <= vars(ours).keys()
    assert ours.reset is numpys.reset


@pytest.mark.parametrize("name", ["nansum", "nanprod", "nanmean", "nanvar", "count_nonzero",
                                  "nancumsum", "sum", "nanmax", "cumsum"])  # fmt: skip
def test_results_of_broadcast_arrays_are_laid_out_as_numpys(name: str) -> None:
    values = numpy.arange(12.0).reshape(3, 4)
    with np.dispatch_options(defer="always", engine="compiled", on_fallback="log"):
        for axis in range(3):
            wanted = getattr(numpy, name)(numpy.broadcast_to(values, (2, 3, 4)), axis)
            found = getattr(np, name)(np.broadcast_to(np.array(values), (2, 3, 4)), axis)
            assert found.strides == wanted.strides


@pytest.mark.parametrize("name", ["sum", "mean", "nanmean", "prod", "var"])
def test_what_is_no_half_is_infinite_as_one(name: str) -> None:
    values = numpy.tile([1e6, -1e6, 1, 2], 500)
    with numpy.errstate(all="ignore"), np.dispatch_options(defer="always"):
        wanted = getattr(numpy, name)(values, dtype="e")
        numpy.testing.assert_equal(getattr(np, name)(np.array(values) * 1, dtype="e"), wanted)
