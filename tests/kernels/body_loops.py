"""Loops around the bodies of compiled kernels, and values that they and NumPy are tried on."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy
from numpy._core.umath import clip as clip_ufunc

from dispatcharr.kernels import native
from dispatcharr.ops.bodies import Body, body_of, prelude
from dispatcharr.ops.bodies.casting import memory_type
from dispatcharr.ops.row import Elementwise

PLANNED, QUICK = "?bBhHiIlLqQefdFD", "?bHilLefdD"
STATUS = {4: "divide by zero", 8: "overflow", 16: "underflow", 1: "invalid value"}
Dtype = numpy.dtype[Any]
Case = tuple[Elementwise, tuple[Dtype, ...], Dtype]


# -- cases and values ---------------------------------------------------------------------------


def cases(row: Elementwise, chars: str = PLANNED) -> Iterator[Case]:
    """The loops that NumPy has for a row, by the dtypes of its operands."""
    found: list[str] = []
    if row.ufunc is not None:
        found = list(row.ufunc.types)
    elif row.name == "astype":
        found = [f"{a}->{b}" for a in chars for b in chars]
    else:
        found = [f"?{c}{c}->{c}" if row.name == "where" else f"{c}{c}{c}->{c}" for c in chars]
    for types in found:
        operands, _, result = types.partition("->")
        if set(operands) <= set(chars) and set(result) <= set(PLANNED):
            yield row, tuple(map(numpy.dtype, operands)), numpy.dtype(result[0])


def bodies(row: Elementwise, chars: str) -> list[tuple[Case, Body]]:
    """Those of a row's cases that have a body."""
    return [(c, b) for c in cases(row, chars) if isinstance(b := body_of(*c), Body)]


@cache
def special(dtype: Dtype) -> numpy.ndarray:
    """Values at which operations go wrong."""
    if dtype.kind == "b":
        return numpy.array([False, True])
    if dtype.kind in "iu":
        i = numpy.iinfo(dtype)
        small = {0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 100, -1, -2, -3, -7, -8, -100}
        ends = {i.max, i.max - 1, i.max // 2, i.max // 2 + 1, i.min, i.min + 1, i.min // 2}
        return numpy.array(sorted(v for v in small | ends if i.min <= v <= i.max), dtype)
    if dtype.kind == "f":
        f = numpy.finfo(dtype)
        numbers = [0, 0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 7, 10, 40, 88.8, 100, 127, 255, 710, 1e4,
                   32767.5, 65504, 2**31 - 1, 2**31, 3e9, 2**63, 1e19, 2**64, 1e22, 1e300,
                   numpy.pi / 4, numpy.pi / 2, numpy.pi, numpy.inf, numpy.nan, f.max, f.max / 2,
                   f.max / 3, f.tiny, f.tiny * 1.5, f.smallest_subnormal,
                   f.smallest_subnormal * 3, f.eps, 1 + f.eps, 1 - f.epsneg]  # fmt: skip
        with numpy.errstate(all="ignore"):
            values = numpy.array(numbers, "d").astype(dtype)
        bits = numpy.unique(numpy.concatenate([values, -values]).view(f"u{dtype.itemsize}"))
        return bits.view(dtype)
    part = numpy.dtype(f"f{dtype.itemsize // 2}")
    f = numpy.finfo(part)
    values = [0, -0.0, 1, -2.5, numpy.inf, -numpy.inf, numpy.nan, f.max, f.smallest_subnormal, 3e5]
    return numpy.array([complex(a, b) for a in values for b in values], dtype)


def random(dtype: Dtype, n: int, rng: numpy.random.Generator) -> numpy.ndarray:
    """Values of all magnitudes."""
    if dtype.kind == "b":
        return rng.integers(0, 2, n).astype(bool)
    if dtype.kind in "iu":
        i = numpy.iinfo(dtype)
        values = rng.integers(i.min, i.max, n, dtype=dtype, endpoint=True)
        return values >> rng.integers(0, i.bits, n).astype(dtype)
    if dtype.kind == "c":
        part = numpy.dtype(f"f{dtype.itemsize // 2}")
        whole = numpy.empty(n, dtype)
        whole.real, whole.imag = random(part, n, rng), random(part, n, rng)
        return whole
    with numpy.errstate(all="ignore"):
        values = (rng.standard_normal(n) * 10.0 ** rng.integers(-4, 5, n)).astype(dtype)
    values[1::5] = rng.uniform(-1, 1, len(values[1::5]))
    values[2::7] = rng.integers(0, 256, (n, dtype.itemsize), "u1").view(dtype)[2::7, 0]
    return values


def columns(case: Case, n: int = 2000, few: int = 0) -> list[numpy.ndarray]:
    """Operands: special values against each other, then random ones; ``few`` for some of all."""
    row, operands, _ = case
    rng = numpy.random.default_rng(5)
    ends = [special(d) for d in operands]
    if len(ends) == 3:
        ends = [rng.permutation(v)[:12] for v in ends]
    if row.name == "power" and operands[1].kind == "i":
        ends[1] = ends[1][ends[1] >= 0]
    grid = [g.ravel() for g in numpy.meshgrid(*ends, indexing="ij")]
    if few:
        return [g[numpy.random.default_rng(1).permutation(len(g))[:few]] for g in grid]
    values = [
        numpy.concatenate([g, random(d, n, rng)]) for g, d in zip(grid, operands, strict=True)
    ]
    if row.name == "power" and operands[1].kind == "i":
        values[1] = values[1] & (values[1].dtype.type(numpy.iinfo(operands[1]).max))
    return [numpy.concatenate([v, v[: -len(v) % 256]]) for v in values]


def by_numpy(case: Case, operands: Sequence[numpy.ndarray]) -> numpy.ndarray:
    row, _, result = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if row.name == "where":
            return numpy.where(*operands).astype(result)
        if row.name == "astype":
            return operands[0].astype(result)
        if row.name == "clip":
            return clip_ufunc(*operands)
        return row.ufunc(*operands).astype(result)


# -- loops ---------------------------------------------------------------------------------------


def _loop(body: Body, operands: Sequence[Dtype], result: Dtype) -> str:
    """A loop around a body, and a function that says which flags it raises."""
    pointers = ", ".join(f"ptr noalias %p{i}" for i in range(len(operands)))
    lines = [f"define void @loop_{body.symbol}({pointers}, ptr noalias %out, i64 %n) noinline "
             '"prefer-vector-width"="512" {', "entry:", "  br label %loop", "loop:",
             "  %i = phi i64 [0, %entry], [%next, %loop]"]  # fmt: skip
    arguments = []
    for k, type_ in enumerate(map(memory_type, operands)):
        lines += [f"  %q{k} = getelementptr {type_}, ptr %p{k}, i64 %i",
                  f"  %x{k} = load {type_}, ptr %q{k}"]  # fmt: skip
        arguments.append(f"{type_} %x{k}")
    type_ = memory_type(result)
    lines += [f"  %r = call {type_} @{body.symbol}({', '.join(arguments)})",
              f"  %o = getelementptr {type_}, ptr %out, i64 %i",
              f"  store {type_} %r, ptr %o", "  %next = add nuw i64 %i, 1",
              "  %more = icmp ult i64 %next, %n",
              "  br i1 %more, label %loop, label %done, !llvm.loop !0",
              "done:", "  ret void", "}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def _watched(body: Body, operands: int) -> str:
    pointers = ", ".join(f"ptr %p{i}" for i in range(operands))
    return f"""define i32 @watched_{body.symbol}({pointers}, ptr %out, i64 %n) {{
  %status = alloca i32
  store i32 8064, ptr %status
  call void @llvm.x86.sse.ldmxcsr(ptr %status)
  call void @loop_{body.symbol}({pointers}, ptr %out, i64 %n)
  call void @llvm.x86.sse.stmxcsr(ptr %status)
  %flags = load i32, ptr %status
  ret i32 %flags
}}
"""


_METADATA = (
    '!0 = !{!0, !{!"llvm.loop.interleave.count", i32 1}, !{!"llvm.loop.unroll.disable"}}\n'
    "declare void @llvm.x86.sse.ldmxcsr(ptr)\ndeclare void @llvm.x86.sse.stmxcsr(ptr)"
)

_HINTS = '!{{!"llvm.loop.vectorize.width", i32 {}}}, !{{!"llvm.loop.vectorize.enable", i1 true}}, '


def _machine() -> Any:
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )


def module_text(found: Sequence[tuple[Case, Body]], watched: bool = False, lanes: int = 0) -> str:
    """The module of the loops around some bodies, which have hints where ``lanes`` are given."""
    unique = {body.symbol: (case, body) for case, body in found}.values()
    text = [
        prelude(need for _, body in unique for need in body.needs),
        native.simd_attributes(sorted({c for _, body in unique for c in body.calls})),
        _METADATA.replace("!{!0, ", "!{!0, " + _HINTS.format(lanes) * bool(lanes)),
    ]
    for (_, operands, result), body in unique:
        text += [body.text, _loop(body, operands, result)]
        text += [_watched(body, len(operands))] * watched
    return "\n".join(text)


def optimised(found: Sequence[tuple[Case, Body]], watched: bool = False, lanes: int = 0) -> Any:
    """The module of the loops around some bodies, vectorised."""
    module = llvm.parse_assembly(module_text(found, watched, lanes))
    module.verify()
    machine = _machine()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = True
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    return module


class Loops:
    """Loops around some bodies, compiled; the engine lives as long as they do."""

    def __init__(self, found: Sequence[tuple[Case, Body]], watched: bool = False) -> None:
        if any(body.calls for _, body in found) and native.simd_attributes(["sin"]).count("_ZGV"):
            llvm.load_library_permanently("libmvec.so.1")
        code = _machine().emit_object(optimised(found, watched))
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
        self.engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self.engine.finalize_object()

    def run(self, body: Body, operands: Sequence[numpy.ndarray], result: Dtype) -> numpy.ndarray:
        out = numpy.empty(len(operands[0]), result)
        self._call("loop_", body, operands, out)
        return out

    def flags(self, body: Body, operands: Sequence[numpy.ndarray], result: Dtype) -> set[str]:
        out = numpy.empty(len(operands[0]), result)
        status = self._call("watched_", body, operands, out)
        return {name for bit, name in STATUS.items() if status & bit}

    def _call(
        self, kind: str, body: Body, operands: Sequence[numpy.ndarray], out: numpy.ndarray
    ) -> int:
        types = [ctypes.c_void_p] * (len(operands) + 1)
        loop = ctypes.CFUNCTYPE(ctypes.c_int, *types, ctypes.c_int64)(
            self.engine.get_function_address(kind + body.symbol)
        )
        return loop(*(o.ctypes.data for o in operands), out.ctypes.data, len(out))


def apart(ours: numpy.ndarray, theirs: numpy.ndarray) -> numpy.ndarray:
    """Distances in units in the last place; infinite between NaN and numbers, and for signs."""
    if ours.dtype.kind == "c":
        part = numpy.dtype(f"f{ours.dtype.itemsize // 2}")
        ours, theirs = ours.view(part), theirs.view(part)
    if ours.dtype.kind != "f":
        return numpy.where(ours == theirs, 0.0, numpy.inf)
    word, low = f"i{ours.itemsize}", numpy.longdouble(-2) ** (8 * ours.itemsize - 1)
    x, y = (v.view(word).astype(numpy.longdouble) for v in (ours, theirs))
    steps = numpy.abs(numpy.where(x < 0, low - x, x) - numpy.where(y < 0, low - y, y))
    nan = numpy.isnan(ours), numpy.isnan(theirs)
    odd = (nan[0] != nan[1]) | (numpy.signbit(ours) != numpy.signbit(theirs))
    return numpy.where(nan[0] & nan[1], 0.0, numpy.where(odd, numpy.inf, steps))


@cache
def errors_by_numpy(case: Case, values: tuple[Any, ...]) -> frozenset[str]:
    seen: set[str] = set()
    names = {"divide by zero": "divide by zero", "invalid value": "invalid value"}

    def note(kind: str, _: int) -> None:
        seen.add(names.get(kind, kind))

    old = numpy.seterrcall(note)
    try:
        with numpy.errstate(all="call"):
            by_numpy(case, [numpy.full(64, v, d) for v, d in zip(values, case[1], strict=True)])
    finally:
        numpy.seterrcall(old)
    return frozenset(seen)
