"""Python's protocols: numbers, containers, text, copies, pickles, identity, classes."""

from __future__ import annotations

import bisect
import copy
import math
import operator
import pickle
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import dispatcharr as np

Make = Callable[[Any], Any]
SameOutcome = Callable[..., None]
SCALARS = (
    numpy.array(3), numpy.array([2]), numpy.array([[1]]), numpy.array(2.5), numpy.array([0.0]),
    numpy.array(True), numpy.array([1j]), numpy.array([]), numpy.array([1, 2]), numpy.array("7"),
    numpy.array([["x", "y"]]), numpy.array(None), numpy.array([1.0, float("nan")]),
)  # fmt: skip
CONVERSIONS = (
    bool, int, float, complex, operator.index, len, str, repr, format, list, tuple, bytes, hash,
    reversed, iter, math.floor, round, abs, operator.neg, operator.invert,
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("values", SCALARS, ids=repr)
@pytest.mark.parametrize("convert", CONVERSIONS)
def test_conversion(convert: Any, values: Any, same_outcome: SameOutcome) -> None:
    def run(array: Any) -> Any:
        made = convert(array)
        return list(made) if convert in (reversed, iter) else made

    array = np.array(values)
    if convert in (hash, round):
        # The messages name the class, which NumPy spells with its module.
        with pytest.raises(TypeError, match=r"unhashable type|doesn't define __round__"):
            run(array)
    else:
        same_outcome(lambda: run(array), lambda: run(values))


def test_conversion_of_pending_arrays(make: Make, same_outcome: SameOutcome) -> None:
    for values in (numpy.array([2]), numpy.array([[1.5]]), numpy.arange(3), numpy.arange(6.0)):
        for convert in (str, repr, len, list, bool):
            array = make(values)
            same_outcome(lambda c=convert, a=array: c(a), lambda c=convert, v=values: c(v))
    assert float(np.array(make([2.5])[0])) == 2.5


def test_text_follows_print_options(make: Make) -> None:
    values = numpy.linspace(0, 1, 5) / 3
    with numpy.printoptions(precision=2, suppress=True):
        assert repr(make(values)) == repr(values)
        assert str(make(values)) == str(values)
    with np.printoptions(precision=3):
        assert f"{make(values)}" == f"{values}"
    assert f"{np.array(0.5):8.3f}" == "   0.500"
    assert np.array2string(make(values)) == numpy.array2string(values)
    assert np.array_repr(make(values)) == repr(values)


def test_iteration_gives_scalars_of_vectors_and_views_of_matrices(make: Make) -> None:
    assert [type(item) for item in make([1.5, 2.5])] == [numpy.float64] * 2
    matrix = make(numpy.zeros((2, 3)))
    for row in matrix:
        assert type(row) is np.ndarray
        row += 1  # noqa: PLW2901 - in place: a row is a view
    assert matrix.sum() == 6
    first, second = make([7, 8])
    assert (first, second) == (7, 8)


def test_iteration_sees_later_writes(make: Make) -> None:
    array = make([1, 2, 3])
    seen = []
    for item in array:
        seen.append(int(item))
        array += 10
    assert seen == [1, 12, 23]


def test_reversed_unpacking_and_sums(make: Make) -> None:
    array = make([1.0, 2.0, 3.0])
    assert list(reversed(array)) == [3.0, 2.0, 1.0]
    head, *rest = array
    assert head == 1.0
    assert rest == [2.0, 3.0]
    assert sum(array) == 6.0
    assert max(array) == 3.0
    assert sorted(array, reverse=True) == [3.0, 2.0, 1.0]
    assert dict(zip(array, array, strict=True)) == {1.0: 1.0, 2.0: 2.0, 3.0: 3.0}


def test_standard_library_functions_for_sequences(make: Make) -> None:
    array = make([1.0, 2.0, 4.0])
    assert bisect.bisect(array, 3.0) == 2
    assert random.Random(0).choice(array) in (1.0, 2.0, 4.0)
    assert operator.indexOf(array, 2.0) == 1
    assert operator.countOf(array, 2.0) == 1
    assert math.fsum(array) == 7.0
    random.Random(1).shuffle(array)
    assert sorted(array) == [1.0, 2.0, 4.0]


def test_membership(make: Make, same_outcome: SameOutcome) -> None:
    values = numpy.array([[1.0, 2.0], [3.0, numpy.nan]])
    array = make(values)
    for item in (2, 2.0, 5, numpy.float32(3), numpy.nan, [1.0, 2.0], [2.0, 1.0]):
        same_outcome(lambda i=item: i in array, lambda i=item: i in values)
    assert make([1.0, 2.0]) in make(values)


def test_truth_of_several_elements_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="truth value of an array with more than one element"):
        if make([1, 2]):
            pass
    assert make([0, 0]).any() or not make([0])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol: int, make: Make, same: Callable[..., None]) -> None:
    for values in (numpy.arange(6.0).reshape(2, 3), numpy.array(["a", None], object),
                   numpy.asfortranarray(numpy.arange(6).reshape(2, 3))):  # fmt: skip
        array = make(values) if values.dtype != object else np.array(values)
        loaded = pickle.loads(pickle.dumps(array, protocol))
        same(loaded, pickle.loads(pickle.dumps(numpy.array(values), protocol)))
        loaded[0] = loaded[1]


def test_pickle_out_of_band(make: Make, same: Callable[..., None]) -> None:
    values = numpy.arange(20_000.0)
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(make(values), 5, buffer_callback=buffers.append)
    assert len(head) < 500
    assert sum(len(buffer.raw()) for buffer in buffers) == values.nbytes
    held = [bytearray(buffer.raw()) for buffer in buffers]
    loaded = pickle.loads(head, buffers=held)
    same(loaded, values)
    # The buffers are the owner's: what he writes is seen.
    doubled = loaded * 2
    numpy.frombuffer(held[0])[0] = 7
    assert doubled[0] == 0
    assert loaded[0] == 7
    same(pickle.loads(head, buffers=[bytes(buffer.raw()) for buffer in buffers]), values)


def test_copies_are_independent(make: Make, same: Callable[..., None]) -> None:
    for copied in (copy.copy, copy.deepcopy, np.copy, np.array, lambda a: a.copy()):
        array = make([1.0, 2.0])
        made = copied(array)
        array[0] = 9
        same(made, numpy.array([1.0, 2.0]))


def test_deepcopy_of_containers_keeps_identities(make: Make) -> None:
    array = make([1.0, 2.0])
    nested = copy.deepcopy({"a": array, "b": [array]})
    assert nested["a"] is nested["b"][0]
    assert nested["a"] is not array
    inner: list[int] = []
    objects = np.array([inner, None], dtype=object)
    deep = copy.deepcopy(objects)
    deep[0].append(1)
    assert inner == []


def test_weak_references(make: Make) -> None:
    array = make([1.0, 2.0])
    gone: list[int] = []
    reference = weakref.ref(array, lambda _: gone.append(1))
    assert reference() is array
    del array
    assert reference() is None
    assert gone == [1]


def test_arrays_are_not_hashable(make: Make) -> None:
    with pytest.raises(TypeError, match="unhashable type: 'ndarray'"):
        hash(make([1]))
    with pytest.raises(TypeError, match="unhashable"):
        {make([1])}


def test_classes(make: Make) -> None:
    array = make([1.0])
    assert type(array) is np.ndarray
    assert array.__class__ is np.ndarray
    assert isinstance(array, np.ndarray)
    assert isinstance(numpy.zeros(2), np.ndarray)
    assert isinstance(numpy.ma.zeros(2), np.ndarray)
    assert not isinstance([1], np.ndarray)
    assert not isinstance(numpy.float64(1), np.ndarray)
    assert issubclass(np.ndarray, np.ndarray)
    assert issubclass(numpy.ndarray, np.ndarray)
    assert issubclass(numpy.matrix, np.ndarray)
    assert not issubclass(list, np.ndarray)
    assert np.ndarray.__name__ == "ndarray"
    assert numpy.iterable(array)
    match array:
        case np.ndarray():
            pass
        case _:
            pytest.fail("a class pattern did not match")


def test_subclasses_are_genuine_numpy_arrays() -> None:
    class Tagged(np.ndarray):
        def __new__(cls, values: Any, tag: str = "") -> Any:
            made = np.asarray(values).view(cls)
            made.tag = tag
            return made

        def __array_finalize__(self, source: Any) -> None:
            super().__array_finalize__(source)
            self.tag = getattr(source, "tag", "")

    tagged = Tagged([1.0, 2.0], "mine")
    assert isinstance(tagged, np.ndarray)
    assert isinstance(tagged, numpy.ndarray)
    assert (tagged * 2).tag == "mine"
    assert tagged[1:].tag == "mine"
    assert (np.array([1.0, 1.0]) + tagged).tag == "mine"
    assert np.sqrt(tagged).tag == "mine"
    assert issubclass(Tagged, np.ndarray)

    class More(Tagged):
        pass

    assert More([1.0]).tag == ""


def test_a_subclass_view_shares_memory_with_waiting_work(always: None) -> None:
    class Plain(np.ndarray):
        pass

    array = np.arange(5000.0)
    view = array.view(Plain)
    doubled = array * 2
    view[0] = 9
    assert doubled[0] == 0
    assert array[0] == 9
    tripled = array * 3
    view[0] = 1
    assert tripled[0] == 27


def test_generic_alias() -> None:
    ours, numpys = (kind[Any, numpy.dtype[Any]] for kind in (np.ndarray, numpy.ndarray))
    assert ours.__origin__ is np.ndarray
    assert ours.__args__ == numpys.__args__


def test_no_attributes_can_be_added(make: Make) -> None:
    with pytest.raises(AttributeError):
        make([1]).note = "x"


def test_deleting_elements_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="cannot delete array elements"):
        del make([1, 2])[0]
