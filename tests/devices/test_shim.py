"""CUDA texts on the CPU: they compute what a GPU would, and mistakes in them are seen."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr
from dispatcharr.devices import shim
from dispatcharr.devices.device import CompileError, DeviceError
from dispatcharr.devices.shim import SCHEDULES, Program, Report, compile_text

pytestmark = pytest.mark.skipif(shim.missing() is not None, reason=str(shim.missing()))

ROOT = Path(dispatcharr.__file__).parents[1]
ASCENDING, DESCENDING, RANDOM = range(len(SCHEDULES))
WORDS = "struct Words { long long w[%d]; };\n"
SUM = """
    __shared__ double part[32];
    const double* x = (const double*)__cvta_global_to_generic(p.w[0]);
    double* out = (double*)__cvta_global_to_generic(p.w[1]);
    double s = 0;
    for (long long i = threadIdx.x; i < p.w[2]; i += blockDim.x) s += x[i];
    for (int d = 16; d; d >>= 1) s += __shfl_down_sync(0xffffffffu, s, d);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x < 32) {
      s = threadIdx.x < (blockDim.x + 31) / 32 ? part[threadIdx.x] : 0;
      for (int d = 16; d; d >>= 1) s += __shfl_down_sync(0xffffffffu, s, d);
      if (threadIdx.x == 0) out[0] = s;
    }
"""
REVERSE = """
    __shared__ long long held[64];
    held[threadIdx.x] = threadIdx.x;
    BARRIER
    ((long long*)p.w[0])[threadIdx.x] = held[63 - threadIdx.x];
"""


def kernel(body: str, words: int = 3, options: Sequence[str] = ()) -> Program:
    text = (
        f"{WORDS % words}"
        f'extern "C" __global__ void __launch_bounds__(256) k(const Words p) {{\n{body}\n}}'
    )
    return Program(compile_text(text, "k", options=options), "k")


def run(
    program: Program, operands: Sequence[Any], block: int = 1, grid: int = 1, schedule: int = 0,
    seed: int = 1,
) -> None:  # fmt: skip
    words = [o.ctypes.data if isinstance(o, numpy.ndarray) else o for o in operands]
    program.run(grid, block, words, schedule, seed, Report())


def values(expression: str, *inputs: numpy.ndarray) -> numpy.ndarray:
    """Return what a kernel makes of ``x`` and ``y``."""
    out = numpy.empty(inputs[0].size, inputs[0].dtype)
    of = {"d": "double", "f": "float", "l": "long long", "L": "unsigned long long",
          "i": "int", "I": "unsigned"}  # fmt: skip
    loads = "".join(
        f"{of[a.dtype.char]} {name} = ((const {of[a.dtype.char]}*)p.w[{k}])[i];\n"
        for k, (name, a) in enumerate(zip("xyz", inputs, strict=False))
    )
    body = (
        "long long i = blockIdx.x * blockDim.x + threadIdx.x;\n"
        f"if (i < p.w[4]) {{\n{loads}"
        f"(({of[out.dtype.char]}*)p.w[3])[i] = {expression}; }}"
    )
    operands = [*inputs, *[0] * (3 - len(inputs)), out, out.size]
    run(kernel(body, 5), operands, 32, -(-out.size // 32))
    return out


X = numpy.array([-2.75, -1.5, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.25, 7.0])


@pytest.mark.parametrize(
    "expression, expected",
    [
        ("sinpi(x)", lambda x: numpy.sin(numpy.pi * x)),
        ("cospi(x)", lambda x: numpy.cos(numpy.pi * x)),
        ("rsqrt(fabs(x) + 1)", lambda x: 1 / numpy.sqrt(abs(x) + 1)),
        ("rcbrt(x + 9)", lambda x: 1 / numpy.cbrt(x + 9)),
        ("exp10(x)", lambda x: 10.0**x),
        ("rhypot(x, 2.0)", lambda x: 1 / numpy.hypot(x, 2)),
        ("fma(x, x, x)", lambda x: x * x + x),
        ("min(x, 1.0) + max(x, 1.0)", lambda x: x + 1),
        ("(double)__double2ll_rn(x)", numpy.rint),
        ("(double)__double2int_rz(x)", numpy.trunc),
        ("(double)__double2ll_rz(x / 0.0)", lambda x: numpy.where(
            x == 0, 0, numpy.where(x < 0, -(2.0**63), 2.0**63))),
        ("(double)__double2uint_rd(x)", lambda x: numpy.maximum(numpy.floor(x), 0)),
        ("__hiloint2double(__double2hiint(x), __double2loint(x))", lambda x: x),
        ("__longlong_as_double(__double_as_longlong(x))", lambda x: x),
        ("(double)(isnan(x - x) + 2 * signbit(x) + 4 * isinf(x / 0.0) + 8 * isfinite(x))",
         lambda x: 2.0 * numpy.signbit(x) + 4 * (x != 0) + 8),
    ],
)  # fmt: skip
def test_functions_of_cuda_are_there(
    expression: str, expected: Callable[[numpy.ndarray], numpy.ndarray]
) -> None:
    numpy.testing.assert_allclose(values(expression, X), expected(X), rtol=1e-14, atol=1e-15)


def test_a_float_is_computed_as_a_float() -> None:
    x = numpy.linspace(0.1, 3, 50, dtype="f4")
    got = values("__int_as_float(__float_as_int(sin(x))) + sinf(x) * 0 + exp10f(x) * 0", x)
    numpy.testing.assert_array_almost_equal_nulp(got, numpy.sin(x), 2)
    assert (values("(float)(sizeof(sqrt(x)) + sizeof(rsqrt(x)))", x) == 8).all()


def test_products_are_not_contracted() -> None:
    x = numpy.full(3, 1 + 2.0**-30)
    assert (values("x * x - 1", x) == x * x - 1).all()
    assert (values("__fma_rn(x, x, -1.0)", x) != x * x - 1).all()


def test_bits_are_counted_as_by_a_gpu() -> None:
    x = numpy.array([0, 1, 2, 0x80000000, 0xFFFFFFFF, 0x00F0], "u4")
    as_text = [f"{v:032b}" for v in x.tolist()]
    assert values("__popc(x)", x).tolist() == [t.count("1") for t in as_text]
    assert values("__clz(x)", x).tolist() == [len(t) - len(t.lstrip("0")) for t in as_text]
    assert values("__brev(x)", x).tolist() == [int(t[::-1], 2) for t in as_text]
    assert values("__ffs(x)", x).tolist() == [t[::-1].find("1") + 1 for t in as_text]
    high = values("__umulhi(x, x)", x)
    assert high.tolist() == [v * v >> 32 for v in x.tolist()]
    wide = numpy.array([3, 2**63, 2**64 - 1], "u8").astype("L")
    assert values("__umul64hi(x, x)", wide).tolist() == [v * v >> 64 for v in wide.tolist()]
    assert values("__clzll(x) + __popcll(x)", wide).tolist() == [64, 1, 64]


@pytest.mark.parametrize("options", [(), ("-DSHIM_UCONTEXT",)])
@pytest.mark.parametrize("schedule", range(len(SCHEDULES)))
def test_barriers_and_shuffles_work_in_every_order(schedule: int, options: Sequence[str]) -> None:
    program = kernel(SUM, options=options)
    for block in (32, 64, 256, 1024):
        for n in (0, 1, 31, 257, 5000):
            x, out = numpy.arange(n, dtype="f8"), numpy.empty(1)
            run(program, (x, out, n), block, 2, schedule)
            assert out[0] == x.sum()


def test_lanes_that_are_not_there_give_rubbish() -> None:
    lanes = kernel("((double*)p.w[0])[threadIdx.x] = __shfl_sync(~0u, (double)threadIdx.x, 20);")
    out = numpy.zeros(21)
    run(lanes, (out, 0, 0), 21)
    assert (out == 20).all()
    run(lanes, (out, 0, 0), 20)
    assert numpy.isnan(out[:20]).all()


def test_every_way_to_shuffle() -> None:
    program = kernel("""
        int lane = threadIdx.x % 32, *out = (int*)p.w[0] + threadIdx.x * 8;
        out[0] = __shfl_sync(~0u, lane, lane + 3, 8);
        out[1] = __shfl_up_sync(~0u, lane, 2);
        out[2] = __shfl_down_sync(~0u, lane, 2, 16);
        out[3] = __shfl_xor_sync(~0u, lane, 5);
        out[4] = (int)__ballot_sync(~0u, lane % 3 == 0);
        out[5] = __any_sync(~0u, lane == 7) + 2 * __all_sync(~0u, lane == 7);
        out[6] = __reduce_max_sync(~0u, lane) + __reduce_add_sync(~0u, 1);
        out[7] = __syncthreads_count(lane < 4) + 100 * __syncthreads_or(lane == 1);
    """)
    out, lane = numpy.zeros((64, 8), "i4"), numpy.arange(64) % 32
    run(program, (out, 0, 0), 64, schedule=RANDOM)
    end = lane // 16 * 16 + 16
    expected = [
        lane // 8 * 8 + (lane + 3) % 8, numpy.where(lane < 2, lane, lane - 2),
        numpy.where(lane + 2 < end, lane + 2, lane), lane ^ 5,
        numpy.full(64, sum(1 << i for i in range(0, 32, 3))).astype("u4").view("i4")[::1],
        numpy.full(64, 1), numpy.full(64, 63), numpy.full(64, 108),
    ]  # fmt: skip
    for column, wanted in enumerate(expected):
        numpy.testing.assert_array_equal(out[:, column], wanted)


def test_parts_of_a_warp_go_their_own_ways() -> None:
    program = kernel("""
        int lane = threadIdx.x, got = lane;
        if (lane < 8) for (int k = 0; k < 3; k++) got = __shfl_xor_sync(0xffu, got, 1);
        else got = __shfl_down_sync(~0xffu, got, 1);
        __syncwarp();
        ((int*)p.w[0])[lane] = __shfl_xor_sync(~0u, got, 31);
    """)
    lane = numpy.arange(32)
    for schedule in range(len(SCHEDULES)):
        out = numpy.zeros(32, "i4")
        run(program, (out, 0, 0), 32, schedule=schedule, seed=7)
        got = numpy.where(lane < 8, lane ^ 1, numpy.minimum(lane + 1, 31))
        assert (out == got[lane ^ 31]).all()


def test_a_missing_barrier_shows() -> None:
    right = kernel(REVERSE.replace("BARRIER", "__syncthreads();"))
    wrong = kernel(REVERSE.replace("BARRIER", "__syncwarp();"))
    for schedule in range(len(SCHEDULES)):
        out = numpy.empty(64, "i8")
        run(right, (out, 0, 0), 64, schedule=schedule)
        assert (out == 63 - numpy.arange(64)).all()
        run(wrong, (out, 0, 0), 64, schedule=schedule)
        # Shared memory that nobody has written yet is all ones.
        assert (out == -1).sum() == 32


def test_threads_that_race_show_in_the_order() -> None:
    last = kernel("((long long*)p.w[0])[0] = blockIdx.x * blockDim.x + threadIdx.x;")
    out = numpy.empty(1, "i8")
    seen = set()
    for schedule in (ASCENDING, DESCENDING, RANDOM):
        for seed in range(1, 20):
            run(last, (out, 0, 0), 64, 3, schedule, seed * 2**31)
            seen.add(int(out[0]))
    assert {0, 191} < seen


@pytest.mark.parametrize(
    "body",
    [
        "if (threadIdx.x < 40)\n__syncthreads();",
        "if (threadIdx.x == 5) return;\n__syncthreads();",
        "if (threadIdx.x < 16)\n((int*)p.w[0])[0] = __shfl_down_sync(~0u, 1, 1);",
        "if (threadIdx.x & 1)\n__syncwarp(); else\n__syncwarp();",
        "if (threadIdx.x >= 8)\n__syncwarp(0xff);",
    ],
)
@pytest.mark.parametrize("schedule", range(len(SCHEDULES)))
def test_a_barrier_that_not_all_reach_is_an_error(body: str, schedule: int) -> None:
    out, report = numpy.zeros(64, "i4"), Report()
    with pytest.raises(DeviceError, match=r"k: not all threads reach the barrier in line \d"):
        kernel(body).run(2, 64, [out.ctypes.data, 0, 0], schedule, 1, report)
    assert report.line in (4, 5)  # of the text: the struct, the head, the condition, the barrier
    assert report.finished


def test_a_kernel_works_after_one_that_was_given_up() -> None:
    program = kernel("if (threadIdx.x < p.w[0]) __syncthreads();")
    run(program, (64, 0, 0), 64)
    with pytest.raises(DeviceError):
        run(program, (63, 0, 0), 64)
    run(program, (64, 0, 0), 64)


def test_atomics_return_what_was_there() -> None:
    program = kernel("""
        unsigned long long* bits = (unsigned long long*)p.w[0];
        long long before = atomicAdd((unsigned*)p.w[1], 1u);
        atomicOr(bits, 1ull << before);
        atomicMax((int*)p.w[2], (int)before);
    """)
    bits, count, most = numpy.zeros(1, "u8"), numpy.zeros(1, "u4"), numpy.full(1, -5, "i4")
    run(program, (bits, count, most), 20, 2)
    assert (bits[0], count[0], most[0]) == (2**40 - 1, 40, 39)


def test_a_text_that_is_wrong_tells_where() -> None:
    text = WORDS % 1 + 'extern "C" __global__ void k(const Words p) {\n  nonsense;\n}'
    with pytest.raises(CompileError, match=r"k:3:.*nonsense"):
        compile_text(text, "k")
    with pytest.raises(CompileError, match="no kernel with the one parameter"):
        compile_text('extern "C" __global__ void k(int n) {}', "k")


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(DeviceError, match="not an image"):
        Program(b"nonsense", "k")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place of temporary files, with nothing in it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shim._folder.cache_clear()
    yield tmp_path
    shim._folder.cache_clear()


TEXT = WORDS % 1 + 'extern "C" __global__ void k(const Words p) {}'


def test_a_text_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = compile_text(TEXT, "k")
    monkeypatch.setattr(subprocess, "run", None)
    assert compile_text(TEXT, "k") == image
    with pytest.raises(TypeError):
        compile_text(TEXT + " ", "k")
    (kept,) = folder.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o700
    assert [p.suffix for p in kept.iterdir()] == [".so"]


def test_images_are_not_read_where_others_can_write(folder: Path) -> None:
    compile_text(TEXT, "k")
    (kept,) = folder.iterdir()
    (image,) = kept.iterdir()
    image.write_bytes(b"planted")
    kept.chmod(0o777)
    shim._folder.cache_clear()
    assert compile_text(TEXT, "k") != b"planted"


def test_the_folder_does_not_grow_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "_MOST_KEPT", 4)
    kept = Path(shim._folder())
    for i in range(6):
        (kept / f"{i}.so").touch()
        os.utime(kept / f"{i}.so", (i, i))
    shim._folder.cache_clear()
    shim._folder()
    assert sorted(p.name for p in kept.iterdir()) == ["2.so", "3.so", "4.so", "5.so"]


PLANTED = {
    "": None,
    "((double*)p.w[0])[threadIdx.x + 1] = 1;": "use-after-poison",
    "__shared__ int held[8]; ((int*)held)[p.w[2] + 9] = 1; __syncthreads();": "insufficient space",
    "((double*)p.w[1])[threadIdx.x] = 1;": "use-after-poison",
    "__shared__ int held[8]; held[threadIdx.x + 1] = 1; __syncthreads();": "out of bounds",
    "int most = 0x7fffffff; most += (int)threadIdx.x; ((int*)p.w[0])[0] = most;": "signed integer",
    "double* x = (double*)(p.w[0] + 4); if (!threadIdx.x) *x = 1;": "misaligned",
    "((int*)p.w[0])[0] = (int)(1e300 * (threadIdx.x + 1));": "outside the range",
}


@pytest.mark.slow
@pytest.mark.parametrize("body", PLANTED)
def test_a_sanitizer_finds(body: str) -> None:
    program = f"""
        from dispatcharr.devices.virtual import VirtualDevice
        device = VirtualDevice(sanitize=True)
        text = {WORDS % 3!r} + '''extern "C" __global__ void k(const Words p) {{ {body} }}'''
        kernel = device.load(device.compile(text, "k"), "k")
        memory, gone = device.alloc(64), device.alloc(64)
        address = gone.address
        gone.free()
        device.synchronize()
        device._memories.find(address).released = False  # let the use of freed memory pass
        device.launch(kernel, 1, 8, [memory.address, address, 0])
        device.synchronize()
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, cwd=ROOT,
        check=False, env=dict(os.environ) | shim.sanitizer_environment(),
    )  # fmt: skip
    found = PLANTED[body]
    if found is None:
        assert done.stdout == "fine\n", done.stderr
    else:
        assert done.returncode and found in done.stderr, done.stderr + done.stdout
        assert "k:2" in done.stderr, done.stderr
