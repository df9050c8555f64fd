"""Regions on a CUDA device: every layout in every form, on the CPU behind the shim."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
import pytest

from dispatcharr.devices.shim import missing
from dispatcharr.devices.virtual import VirtualDevice
from dispatcharr.kernels import cuda_bind, cuda_layout
from dispatcharr.kernels.cuda_bind import bind
from dispatcharr.kernels.cuda_loop import magic
from dispatcharr.plan.region import Region
from regions import LAYOUTS, buffer, region, results, run_blocks

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
_KERNELS: dict[str, Any] = {}
_DEVICE: list[VirtualDevice] = []


def device() -> VirtualDevice:
    if not _DEVICE:
        _DEVICE.append(VirtualDevice(11))
    return _DEVICE[0]


class Mirror:
    """Device memory of an array's extent, aligned as the array is."""

    def __init__(self, array: numpy.ndarray) -> None:
        low, high = numpy.lib.array_utils.byte_bounds(array)
        self._shift = low % 16
        self._memory = device().alloc(high - low + 16)
        self._bytes = numpy.lib.stride_tricks.as_strided(
            array.view(numpy.ndarray), (0,), (0,)
        )  # keeps the array alive
        self._array = array
        self._low, self._size = low, high - low
        self.address = self._memory.address + self._shift + (array.ctypes.data - low)

    def _raw(self) -> numpy.ndarray:
        import ctypes

        return numpy.frombuffer((ctypes.c_char * self._size).from_address(self._low), numpy.uint8)

    def send(self) -> None:
        device().to_device(self._memory, self._shift, self._raw())

    def fetch(self) -> None:
        raw = self._raw()
        raw.flags.writeable = True
        device().to_host(raw, self._memory, self._shift)


def run(
    source: Region,
    inputs: Sequence[numpy.ndarray],
    outputs: Sequence[numpy.ndarray],
    by_value: bool = True,
) -> set[tuple[str, str]]:
    """Run a region on the device; return the errors."""
    bound = bind(source, inputs, outputs)
    assert not isinstance(bound, str), bound
    kernels = []
    for one in bound.sources:
        if one.text not in _KERNELS:
            _KERNELS[one.text] = device().load(device().compile(one.text, one.name), one.name)
        kernels.append(_KERNELS[one.text])
    mirrors = [Mirror(array) for array in (*inputs, *outputs)]
    for mirror in mirrors:
        mirror.send()
    given: list[Any] = [mirror.address for mirror in mirrors]
    for k, layout in enumerate(source.inputs):
        if not layout.shape and by_value:
            given[k] = inputs[k]
    flags = device().flags()
    count = len(inputs)
    word = flags.address if bound.flags else 0
    for index, grid, block, words in bound.launches(given[:count], given[count:], 0, word):
        device().launch(kernels[index], grid, block, words)
    for mirror in mirrors[count:]:
        mirror.fetch()
    device().synchronize()
    found = flags.read()
    flags.release()
    return {pair for bit, pair in enumerate(bound.flags) if found >> bit & 1}


def same(a: numpy.ndarray, b: numpy.ndarray) -> None:
    numpy.testing.assert_array_equal(a, b, strict=True)


def check(source: Region, inputs: Sequence[numpy.ndarray], **options: Any) -> cuda_bind.Bound:
    ours, theirs = results(source), results(source)
    with numpy.errstate(all="ignore"):
        errors = run_blocks(source, inputs, theirs)
        assert run(source, inputs, ours, **options) == {e for e in errors if e[0] in source.watch}
    for a, b in zip(ours, theirs, strict=True):
        same(a, b)
    bound = bind(source, inputs, ours)
    assert not isinstance(bound, str)
    return bound


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1037,), (13, 37), (5, 7, 11), (4, 3, 2, 5), (8, 64)])
def test_every_layout_gives_what_numpy_does(shape: tuple[int, ...], layout: str) -> None:
    a, b = buffer(shape, "d", "plain", 1), buffer(shape, "d", layout, 2)
    source = region(shape, [a, b], [("add", (0, 1)), ("multiply", (2, 1))])
    check(source, [a, b])


@pytest.mark.parametrize("pair", list(itertools.combinations(LAYOUTS, 2)))
def test_layouts_go_together(pair: tuple[str, str]) -> None:
    shape = (6, 8)
    a, b = (buffer(shape, "f", layout, k) for k, layout in enumerate(pair))
    source = region(shape, [a, b], [("subtract", (0, 1))])
    check(source, [a, b])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 255, 256, 257, 1023, 1024, 1025, 4097])
def test_every_length_is_done(n: int) -> None:
    a, b = buffer((n,), "f", "plain", 1), buffer((n,), "f", "plain", 2)
    source = region((n,), [a, b], [("add", (0, 1))])
    bound = check(source, [a, b])
    assert bool(bound.sources) == bool(n)


@pytest.mark.parametrize("chars", ["?d", "bD", "eF", "BH", "?b", "DD", "lf", "eQ"])
def test_elements_of_all_sizes_go_together(chars: str) -> None:
    for shape in [(515,), (5, 12)]:
        for layout in ("plain", "stepped", "row"):
            a = buffer(shape, chars[0], "plain", 1)
            b = buffer(shape, chars[1], layout, 2)
            source = region(shape, [a, b], [("not_equal", (0, 1)), ("where", (2, 0, 1))], (2, 3))
            check(source, [a, b])


@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("char", "?bHlefdFD")
def test_constants_come_by_value_or_lie_on_the_device(char: str, by_value: bool) -> None:
    a, b = buffer((100,), char, "plain", 1), buffer((), char, "constant", 2)
    source = region((100,), [a, b], [("logical_or", (0, 1)), ("where", (2, 1, 0))])
    check(source, [a, b], by_value=by_value)


def test_one_kernel_serves_all_sizes_strides_and_numbers() -> None:
    texts = set()
    for n, step in [(100, 2), (5000, 3), (7, 2)]:
        a, b = buffer((n * step,), "d", "plain", n)[::step], buffer((), "d", "constant", n)
        bound = check(region((n,), [a, b], [("add", (0, 1))]), [a, b])
        texts.add(bound.sources[0].text)
    assert len(texts) == 1


def test_what_lies_in_one_run_is_walked_in_one() -> None:
    for shape in [(3, 4, 50), (2, 1, 300)]:
        a = buffer(shape, "d", "plain", 1)
        bound = check(region(shape, [a], [("negative", (0,))]), [a])
        assert "Pack<double, 2>" in bound.sources[0].text
        assert "dp_over(c" not in bound.sources[0].text


def test_rows_are_loaded_in_vectors_where_they_are_aligned() -> None:
    a, row = buffer((9, 64), "f", "plain", 1), buffer((9, 64), "f", "row", 2)
    bound = check(region((9, 64), [a, row], [("add", (0, 1))]), [a, row])
    assert "Pack<float, 4>" in bound.sources[0].text
    a, row = buffer((9, 63), "f", "plain", 1), buffer((9, 63), "f", "row", 2)
    bound = check(region((9, 63), [a, row], [("add", (0, 1))]), [a, row])
    assert "Pack<float" not in bound.sources[0].text


def test_memory_that_is_not_aligned_to_vectors_is_loaded_by_elements() -> None:
    whole = buffer((1001,), "d", "plain", 1)
    a, b = whole[1:], whole[:-1]
    bound = check(region((1000,), [a, b], [("subtract", (0, 1))]), [a, b])
    assert "Pack<double" not in bound.sources[0].text


def test_complex_numbers_that_start_between_two_are_loaded_by_parts() -> None:
    raw = buffer((203,), "d", "plain", 1)
    a, b = raw[1:-2].view("D"), raw[:-3].view("D")
    if a.ctypes.data % 16:
        bound = check(region((100,), [a, b], [("add", (0, 1))]), [a, b])
        assert "Pack<Complex128" not in bound.sources[0].text


def test_reversed_operands_are_walked_from_their_ends() -> None:
    a = buffer((6, 700), "d", "plain", 1)[::-1, ::-1]
    out = numpy.zeros((6, 700))[::-1, ::-1]
    source = region((6, 700), [a], [("negative", (0,))])
    bound = bind(source, [a], [out])
    assert not isinstance(bound, str)
    assert "Pack<double, 2>" in bound.sources[0].text
    run(source, [a], [out])
    same(numpy.array(out), -a)


def test_transposed_results_are_written_along_their_memory() -> None:
    a, b = buffer((40, 30), "d", "transposed", 1), buffer((40, 30), "d", "transposed", 2)
    source, out = region((40, 30), [a, b], [("add", (0, 1))]), numpy.zeros((30, 40)).T
    bound = bind(source, [a, b], [out])
    assert not isinstance(bound, str)
    assert "dp_over(c" not in bound.sources[0].text
    run(source, [a, b], [out])
    same(out, a + b)


@pytest.mark.parametrize(
    "shape", [(32, 32), (100, 70), (7, 64), (64, 33), (5, 40, 50), (3, 129, 4, 65)]
)
@pytest.mark.parametrize("chars", ["dd", "fb", "?D"])
def test_what_lies_across_is_read_in_tiles(shape: tuple[int, ...], chars: str) -> None:
    a, b = buffer(shape, chars[0], "plain", 1), buffer(shape, chars[1], "transposed", 2)
    bound = check(
        region(shape, [a, b], [("not_equal", (0, 1)), ("where", (2, 0, 1))], (2, 3)), [a, b]
    )
    assert len(list(bound.launches([1 << 20] * 2, [1 << 20] * 2, 0, 0))) <= 3


def test_one_kernel_serves_tiles_and_what_is_left() -> None:
    texts = set()
    for shape in [(64, 64), (100, 70)]:
        a, b = buffer(shape, "d", "plain", 1), buffer(shape, "d", "transposed", 2)
        bound = check(region(shape, [a, b], [("add", (0, 1))]), [a, b])
        texts.add(bound.sources[0].text)
        assert len(list(bound.launches([0, 0], [0], 0, 0))) == (1 if shape[0] == 64 else 3)
    assert len(texts) == 1


def test_memory_that_is_written_may_be_what_is_read() -> None:
    for shape in [(1000,), (7, 33)]:
        a, b = buffer(shape, "d", "part", 1), buffer(shape, "d", "plain", 2)
        wanted = a * b + a
        run(region(shape, [a, b], [("multiply", (0, 1)), ("add", (2, 0))]), [a, b], [a])
        same(a, wanted)


def test_offsets_beyond_32_bits_are_computed_in_64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_layout, "_NARROW", 1)
    a, b = buffer((5, 7, 11), "d", "stepped", 1), buffer((5, 7, 11), "d", "column", 2)
    bound = check(region((5, 7, 11), [a, b], [("add", (0, 1))]), [a, b])
    assert "dp_over(c" not in bound.sources[0].text
    assert "long long l2 = c / " in bound.sources[0].text


@pytest.mark.parametrize("divisor", [1, 2, 3, 5, 7, 31, 641, 65536, 2**31 - 1, 2**30 + 1])
def test_multiplying_divides(divisor: int) -> None:
    factor, shift = magic(divisor)
    assert factor < 2**32
    ends = [0, 1, divisor - 1, divisor, divisor + 1, 2**31 - 1, 2**31 - divisor]
    values = [*ends, *numpy.random.default_rng(divisor).integers(0, 2**31, 500).tolist()]
    for n in values:
        assert ((n * factor >> 32) + n) >> shift == n // divisor


def test_generators_are_made_in_registers() -> None:
    n = 777
    a = buffer((n,), "d", "plain", 1)
    steps = [("arange", (), "l", (3, -2)), ("linspace", (), "d", (0.1, 0.3, 7.5, n)),
             ("full", (), "F", (2 - 1j,)), ("add", (0, 2)), ("multiply", (4, 3))]  # fmt: skip
    source = region((n,), [a], steps, (1, 2, 5))
    check(source, [a])
    back = numpy.zeros(n)[::-1]
    run(region((n,), [a], steps[1:2], (1,)), [a], [back])
    with numpy.errstate(all="ignore"):
        wanted = results(region((n,), [a], steps[1:2], (1,)))
        run_blocks(region((n,), [a], steps[1:2], (1,)), [a], wanted)
    same(numpy.array(back), wanted[0])


def test_kernels_of_generators_serve_all_their_numbers() -> None:
    texts = set()
    for n, first in [(100, 3), (300, 7)]:
        bound = check(region((n,), [], [("arange", (), "l", (first, 2))]), [])
        texts.add(bound.sources[0].text)
    assert len(texts) == 1


@pytest.mark.parametrize("char", "bHilLfd")
def test_ranges_of_all_dtypes_are_numpys(char: str) -> None:
    check(region((3000,), [], [("arange", (), char, (3, 7))]), [])
    if char in "fd":
        check(region((3000,), [], [("arange", (), char, (0.1, -0.7))]), [])
        check(region((3000,), [], [("linspace", (), char, (0.1, 0.7, 3.3, 3000))]), [])


def test_generators_that_numpy_makes_otherwise_are_refused() -> None:
    for n, char in [(10, "e"), ((1 << 24) + 1, "f"), (10, "D")]:
        out = numpy.zeros(n, char)
        found = bind(region((n,), [], [("arange", (), char, (0.0, 1.0))]), [], [out])
        assert "is not made in registers" in str(found)


def test_errors_are_told_for_what_somebody_asks_for() -> None:
    a, b = numpy.array([1.0, 0.0, 1e308, 5.0]), numpy.array([0.0, 0.0, 1e-10, 1.0])
    source = region((4,), [a, b], [("divide", (0, 1)), ("log", (0,))], (2, 3))
    out = results(source)
    assert run(source, [a, b], out) == {
        ("divide by zero", "divide"), ("invalid value", "divide"), ("overflow", "divide"),
        ("divide by zero", "log"),
    }  # fmt: skip
    only = replace(source, watch=frozenset({"overflow"}))
    assert run(only, [a, b], out) == {("overflow", "divide")}
    none = replace(source, watch=frozenset())
    bound = bind(none, [a, b], out)
    assert not isinstance(bound, str)
    assert bound.flags == ()
    assert "flags" not in bound.sources[0].text
    under = replace(source, watch=frozenset({"underflow"}))
    assert "may underflow" in str(bind(under, [a, b], out))


def test_addresses_that_are_not_aligned_as_on_the_host_are_an_error() -> None:
    a = numpy.zeros(100)
    bound = bind(region((100,), [a], [("negative", (0,))]), [a], [a])
    assert not isinstance(bound, str)
    with pytest.raises(ValueError, match="aligned"):
        list(bound.launches([4104], [4096], 0, 0))


def test_operands_between_elements_are_refused() -> None:
    raw = numpy.zeros(81, numpy.uint8)
    a = raw[1:].view("d")
    source = region((10,), [a], [("negative", (0,))])
    assert "not aligned" in str(bind(source, [a], [numpy.zeros(10)]))


def test_bytes_that_are_no_bool_are_true() -> None:
    raw = numpy.arange(300, dtype=numpy.uint8)
    bits = raw.view("?")
    source = region((300,), [bits], [("logical_or", (0, 0)), ("astype", (0,), "l")], (1, 2))
    out = results(source)
    run(source, [bits], out)
    same(out[0].view("u1"), (raw != 0).view("u1"))
    same(out[1], (raw != 0).astype("l"))
