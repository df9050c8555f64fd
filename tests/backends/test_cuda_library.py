"""Opaque functions on data of a device: what is served there, what is declined, and why.

NumPy poses as CuPy on a virtual device's memory: this tests the table, the checks, and the ways in
and out. Whether CuPy itself agrees with NumPy is tested where there is a GPU (``tests/gpu``).
"""

from __future__ import annotations

import builtins
import operator
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.backends import cuda_library
from dispatcharr.backends.library import binding
from dispatcharr.backends.library.table import TABLE
from dispatcharr.devices.device import DeviceMemoryError
from dispatcharr.devices.virtual import VirtualDevice
from dispatcharr.storage import places
from dispatcharr.storage.exports import is_visible
from library_cases import CASES, Case, agree
from numpy_as_cupy import Posing

BIG = (64, 128)


@pytest.fixture
def posing() -> Iterator[Any]:
    device: Any = VirtualDevice(1)
    device.stream = 77
    before = places.device_in_use()
    places.use(device)
    made = Posing(device)
    binding.libraries.bind(binding.Library(made, made.x, device))
    yield made
    binding.libraries.bind(None)
    places.use(before)


def away(host: numpy.ndarray) -> numpy.ndarray:
    """Return an array of the same elements that is on the device alone."""
    device = places.device_in_use()
    memory = device.alloc(host.nbytes)
    device.to_device(memory, 0, numpy.ascontiguousarray(host).reshape(-1).view(numpy.uint8))
    return places.adopt(memory, host.shape, host.dtype)


def there(value: Any) -> Any:
    """Return arguments with their arrays on the device."""
    if type(value) is numpy.ndarray and value.size and value.ndim:
        return away(value)
    return type(value)(map(there, value)) if type(value) in (tuple, list) else value


def home(value: Any) -> Any:
    if type(value) is numpy.ndarray:
        places.home(value)
    elif isinstance(value, (tuple, list)):
        for item in value:
            home(item)
    return value


def normal(*shape: int, dtype: str = "d") -> numpy.ndarray:
    return numpy.random.default_rng(5).standard_normal(shape).astype(dtype)


def serve(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return cuda_library.serve(getattr(function, "__name__", "f"), function, args, kwargs)


def why(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Return the reason for which a call is declined."""
    assert serve(function, *args, **kwargs) is NotImplemented
    reason = cuda_library.declined()
    assert reason is not None
    return reason


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_served_is_what_numpy_gives(posing: Any, case: Case) -> None:
    wrong = []
    for char in case.dtypes:
        args = case.make(char)
        with numpy.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = case.function(*case.view(*args), **case.kwargs)
            made = _forced(case.function, case.view(*there(args)), case.kwargs)
        if made is NotImplemented:
            wrong.append(f"{char}: declined, {cuda_library.declined()}")
        else:
            reason = agree(case, home(made), wanted, args)
            wrong += [f"{char}: {reason}"] if reason else []
    assert not wrong, "\n".join(wrong)
    assert posing.inside == 0


def _forced(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Serve however small the operands are."""
    small, cuda_library._SMALL = cuda_library._SMALL, 0
    try:
        return serve(function, *args, **kwargs)
    finally:
        cuda_library._SMALL = small


def test_results_stay_away_and_operands_do_not_move(posing: Any) -> None:
    a = away(normal(*BIG))
    before = dict(posing.device.counters)
    made = serve(numpy.sort, a)
    assert places.state(made) == places.state(a) == "device"
    for name in ("to_host", "to_device"):
        assert posing.device.counters[name] == before[name]


def test_results_that_are_views_of_memory_of_cupys_get_their_own(posing: Any) -> None:
    a = away(normal(*BIG))
    made = serve(numpy.argsort, a, axis=0, kind="stable")
    values = serve(numpy.linalg.qr, a)
    for array in (made, *values):
        assert array.flags.c_contiguous
        assert array.flags.owndata
    assert numpy.array_equal(home(made), numpy.argsort(home(a), axis=0, kind="stable"))


def test_views_of_what_is_away_are_operands(posing: Any) -> None:
    a = normal(100, 120)
    b = away(a)
    for view in (lambda x: x.T, lambda x: x[::-2, 3:], lambda x: x[:, None, 5]):
        assert numpy.array_equal(home(serve(numpy.sort, view(b), 0)), numpy.sort(view(a), 0))


def test_small_operands_on_the_host_come_along(posing: Any) -> None:
    a, v = normal(500, 100), normal(100)
    made = serve(numpy.matmul, away(a), v)
    assert numpy.allclose(home(made), a @ v)


def test_what_has_no_axes_comes_home(posing: Any) -> None:
    a = away(normal(10_000))
    found = serve(numpy.dot, a, a)
    assert type(found) is numpy.float64
    found = serve(numpy.tensordot, a, a, 1)
    assert type(found) is numpy.ndarray
    assert found.shape == ()


def test_empty_results_need_no_device(posing: Any) -> None:
    (found,) = serve(numpy.nonzero, away(numpy.zeros(9_000)))
    assert found.shape == (0,)
    assert places.state(found) == "host"


OTHERWISE: dict[str, tuple[Callable[[], Any], str]] = {
    "a function without a row": (lambda: why(numpy.median, away(normal(*BIG))), "nothing"),
    "a keyword": (lambda: why(numpy.sum, away(normal(*BIG)), where=True), "nothing"),
    "an output": (lambda: why(numpy.matmul, *_two(), out=normal(64, 64)), "TypeError"),
    "a dtype": (lambda: why(numpy.sort, away(normal(*BIG).astype("D"))), "complex128"),
    "a view": (lambda: why(operator.getitem, away(normal(*BIG)), slice(3)), "view"),
    "a view by ravel": (lambda: why(numpy.ravel, away(normal(*BIG))), "view"),
    "a flip": (lambda: why(numpy.flip, away(normal(*BIG))), "nothing"),
    "an index too high": (lambda: why(numpy.take, away(normal(*BIG)), numpy.array([9999])), "out"),
    "an index too low": (
        lambda: why(operator.getitem, away(normal(*BIG)), numpy.array([0, -65])), "out of bounds",
    ),
    "a mask of another shape": (
        lambda: why(operator.getitem, away(normal(*BIG)), numpy.ones(63, bool)), "another shape",
    ),
    "too many indices": (
        lambda: why(operator.getitem, away(normal(*BIG)), (0, 0, numpy.array([1]))), "too many",
    ),
    "ties": (lambda: why(numpy.argsort, away(normal(*BIG).round())), "equal elements"),
    "two nan": (lambda: why(numpy.argsort, away(_with_nan(2))), "equal elements"),
    "a singular matrix": (lambda: why(numpy.linalg.inv, away(numpy.ones((99, 99)))), "LinAlgError"),
    "a matrix with nan": (lambda: why(numpy.linalg.svd, away(_with_nan(1))), "not finite"),
    "a huge matrix": (lambda: why(numpy.linalg.qr, away(normal(*BIG) * 1e200)), "huge"),
    "an overflow": (lambda: why(numpy.matmul, *_two(1e300)), "not finite"),
    "weights": (
        lambda: why(numpy.bincount, away(numpy.arange(9999)), away(numpy.arange(9999))), "weights",
    ),
    "another order": (lambda: why(numpy.copy, away(normal(*BIG)).T), "another order"),
    "einsum of one": (lambda: why(numpy.einsum, "ij->ji", away(normal(*BIG))), "view"),
    "small ones": (lambda: why(numpy.sort, away(normal(9))), "small"),
    "a large one on the host": (
        lambda: why(numpy.matmul, away(normal(64, 128)), normal(128, 999)), "outweigh",
    ),
    "an empty one": (
        lambda: why(numpy.concatenate, [away(normal(9999)), numpy.empty(0)]), "empty",
    ),
    "a type of its own": (
        lambda: why(numpy.concatenate, [away(normal(9999)), numpy.zeros(2, ">f8")]), "byte order",
    ),
    "a list of numbers": (lambda: why(numpy.dot, away(normal(9999)), [1.0]), "no axes"),
}  # fmt: skip


def _two(factor: float = 1.0) -> tuple[numpy.ndarray, numpy.ndarray]:
    return away(normal(64, 128) * factor), away(normal(128, 64) * factor)


def _with_nan(count: int) -> numpy.ndarray:
    made = numpy.random.default_rng(1).permutation(8192).astype("d")
    made[:count] = numpy.nan
    return made.reshape(BIG)


@pytest.mark.parametrize("name", OTHERWISE)
def test_the_rest_is_declined_with_a_reason(posing: Any, name: str) -> None:
    call, reason = OTHERWISE[name]
    assert reason in call()
    assert posing.inside == 0
    assert not binding.closed


def test_overflow_is_served_where_nobody_listens(posing: Any) -> None:
    with numpy.errstate(over="ignore", invalid="ignore"):
        made = serve(numpy.matmul, *_two(1e300))
        assert not numpy.isfinite(home(made)).all()
    with numpy.errstate(under="warn"):
        assert "underflow" in why(numpy.matmul, *_two())


def test_data_that_are_on_the_host_alone_are_none_of_its_business(posing: Any) -> None:
    assert serve(numpy.sort, normal(*BIG)) is NotImplemented
    assert cuda_library.declined() is None
    assert not posing.called


def test_a_forced_backend_decides(posing: Any) -> None:
    a = away(normal(*BIG))
    with np.use_backend("serial"):
        assert "serial is forced" in why(numpy.sort, a)


def test_what_is_on_both_sides_is_served_from_some_size_on(
    posing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = away(normal(*BIG))
    places.home(a)
    assert places.state(a) == "both"
    assert "small" in why(numpy.sort, a)
    monkeypatch.setattr(cuda_library, "_LARGE", a.nbytes)
    assert places.state(serve(numpy.sort, a)) == "device"


def test_errors_of_cupy_close_a_row_those_of_arguments_do_not(posing: Any) -> None:
    a = away(normal(*BIG))
    posing.failing["sort"] = ValueError("an axis, perhaps")
    assert "ValueError" in why(numpy.sort, a)
    assert serve(numpy.sort, a) is not NotImplemented
    posing.failing["sort"] = RuntimeError("libthrust is missing")
    assert "libthrust" in why(numpy.sort, a)
    assert "libthrust" in why(numpy.sort, a)
    assert posing.called.count("sort") == 3
    assert serve(numpy.cumsum, a) is not NotImplemented


def test_another_dtype_than_numpys_is_never_shown(
    posing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = away(normal(*BIG))
    monkeypatch.setattr(
        posing, "sort", lambda a, axis: posing.place(numpy.sort(a).astype("f")), raising=False
    )
    assert "float32 where NumPy has float64" in why(numpy.sort, a)


def test_lack_of_memory_frees_what_cupy_keeps_and_is_tried_once_more(posing: Any) -> None:
    a = away(normal(*BIG))
    posing.failing["sort"] = DeviceMemoryError("no room")
    assert serve(numpy.sort, a) is not NotImplemented
    assert "clear" in posing.called
    assert "free" in posing.called
    posing.device.fail("allocation", times=99)
    assert "no memory" in why(numpy.sort, a)


def test_memory_comes_from_the_device_which_evicts_for_it(posing: Any) -> None:
    a, idle = away(normal(*BIG)), away(normal(*BIG))
    places.home(idle)
    posing.device.fail("allocation", times=1)
    assert serve(numpy.sort, a) is not NotImplemented
    assert places.state(idle) == "host"


def test_single_precision_is_not_rounded(posing: Any) -> None:
    posing.computing = 7
    seen = []

    def matmul(a: Any, b: Any) -> Any:
        seen.append(posing.computing)
        return posing.place(numpy.matmul(numpy.asarray(a), numpy.asarray(b)))

    posing.matmul = matmul
    assert serve(numpy.matmul, *_two()) is not NotImplemented
    assert seen == [1]
    assert posing.computing == 7


def test_halves_are_multiplied_in_single(posing: Any) -> None:
    a = numpy.full((64, 512), 300, "e")
    b = numpy.concatenate([a[:1].T, -a[:1].T])[256:768]
    made = serve(numpy.matmul, away(a), away(b))
    assert made.dtype == numpy.float16
    # Each product is too large for a half, their sum is not.
    assert numpy.array_equal(home(made), numpy.zeros((64, 1), "e"))


def test_without_cupy_there_is_one_sentence(posing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a = away(normal(*BIG))
    importing = builtins.__import__

    def fail(name: str, *args: Any) -> Any:
        if name == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'")
        return importing(name, *args)

    binding.libraries.bind(None)
    monkeypatch.setattr(builtins, "__import__", fail)
    reason = why(numpy.sort, a)
    assert reason == cuda_library.refusal()
    assert reason == f"CuPy is not installed (No module named 'cupy'); {binding.ADVICE}"


def test_a_device_without_a_stream_is_none_for_cupy(posing: Any) -> None:
    binding.libraries.bind(None)
    posing.device.stream = 0
    assert "no stream" in why(numpy.sort, away(normal(*BIG)))


def test_every_row_has_a_case() -> None:
    cuda_library._table()
    tried = {TABLE[case.function].run for case in CASES}
    left = {row.name for row in TABLE.values() if row.run not in tried}
    # These have tests of their own.
    assert left <= {"dstack", "ravel", "ndarray.ravel", "ascontiguousarray", "ndarray.copy",
                    "ndarray.flatten", "ndarray.__copy__", "ndarray.__deepcopy__"}  # fmt: skip


def test_copies_of_methods_are_served(posing: Any) -> None:
    a = normal(*BIG)
    b = away(a)
    for function, args in (
        (numpy.ndarray.copy, ()), (numpy.ndarray.flatten, ()), (numpy.ndarray.__copy__, ()),
        (numpy.ndarray.__deepcopy__, ({},)),
    ):  # fmt: skip
        assert numpy.array_equal(home(serve(function, b, *args)), function(a, *args))
    for function in (numpy.ravel, numpy.ascontiguousarray):
        assert numpy.array_equal(home(serve(function, b.T)), function(a.T))
    cube = normal(30, 40, 5)
    made = serve(numpy.dstack, [away(cube), away(cube)])
    assert numpy.array_equal(home(made), numpy.dstack([cube, cube]))


# --- by the face ----------------------------------------------------------------------------------


def test_a_program_s_call_is_served_and_recorded(posing: Any) -> None:
    a = normal(*BIG)
    mine = np.asarray(a).copy()
    mine._value = away(a)
    with np.record_dispatch() as record:
        made = np.fft.fft(mine)
    assert type(made) is np.ndarray
    assert places.state(made._value) == "device"
    assert not is_visible(made._value)
    told = [(event.name, event.backend) for event in record.events]
    assert told == [("fft", "cuda")]
    assert numpy.allclose(home(made._value), numpy.fft.fft(a))


def test_what_is_left_to_numpy_says_what_the_device_says(posing: Any) -> None:
    a = normal(*BIG)
    mine = np.asarray(a).copy()
    mine._value = away(a)
    with np.record_dispatch() as record:
        np.median(mine)
    reasons = [getattr(event, "reason", "") for event in record.events]
    assert any("nor by the device: nothing on the device computes" in reason for reason in reasons)


def test_streams_of_older_cupys_are_taken_by_their_handles(posing: Any) -> None:
    posing.cuda.Stream = SimpleNamespace()
    posing.cuda.ExternalStream = lambda handle: SimpleNamespace(handle=handle)
    made = binding.Library(posing, posing.x, posing.device)
    assert made._stream.handle == 77
