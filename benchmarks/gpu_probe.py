"""What a GPU and the way to it do: the first measurements on a new machine, in one run.

    python benchmarks/gpu_probe.py [--seconds 85] [--skip cupy,torch] [--only launch,memory]

It uses the package's device layer alone, prints a line for each figure and, where the environment
variable OUT names a folder, keeps ``gpu_probe.json`` there up to date. A part that fails says why
and the next one begins; whatever hangs is ended when the time is up.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import os
import traceback
from collections.abc import Callable
from typing import Any

import gpu_probe_texts as texts
import numpy
from gpu_probe_copies import transfers
from gpu_probe_table import BLOCK, GB, MB, SIZES, Probe, best, clock

from dispatcharr.devices import found, nvrtc
from dispatcharr.devices.driver import CudaDevice

#: Measured in both precisions; the mark stands for the suffix of single precision.
EXPRESSIONS = (
    "x + y", "x / y", "sqrt@(x)", "exp@(x)", "log@(x)", "sin@(x)", "tanh@(x)", "pow@(x, y)",
    "fmod@(x, y)", "atan2@(x, y)", "cbrt@(x)",
)  # fmt: skip


def start(p: Probe) -> None:
    began = clock()
    device = found.device()
    p.note("driver, cuInit, compiler located", clock() - began, "s")
    if not isinstance(device, CudaDevice):
        raise SystemExit(f"no GPU to probe: {found.why()}")
    p.device = device
    for name in device.props.__slots__:
        p.note(name, getattr(device.props, name))
    p.note("cores", len(os.sched_getaffinity(0)))
    p.note("numpy", numpy.__version__)
    began = clock()
    _ = device.stream
    p.note("context", clock() - began, "s")
    began = clock()
    _ = device.compiler
    p.note("compiler loaded", clock() - began, "s")
    p.note("compiler", device.compiler)
    began = clock()
    device.alloc(8).free()
    p.note("pools and pinned areas", clock() - began, "s")
    p.note("memory_info", device.memory_info())


def compiling(p: Probe) -> None:
    for label, text, name in (
        ("empty", texts.EMPTY, "empty"), ("add", texts.add(), "add"),
        ("sum", texts.sum_(), "sum_"), ("sin", texts.function("double", "sin(x)"), "function"),
    ):  # fmt: skip
        began = clock()
        image = p.device.compile(text, name)
        p.note(f"compile {label}", (clock() - began) * 1e3, "ms")
        began = clock()
        p.device.load(image, name)
        p.note(f"load {label} ({len(image)} bytes)", (clock() - began) * 1e3, "ms")


def launching(p: Probe) -> None:
    device, empty = p.device, p.kernel(texts.EMPTY, "empty")
    words = list(range(8))

    def row(count: int) -> None:
        for _ in range(count):
            device.launch(empty, 1, BLOCK, words)

    row(100)
    device.synchronize()
    for count in (200, 10000):
        seconds = []
        for _ in range(5 if count == 200 else 1):
            began = clock()
            row(count)
            seconds.append(clock() - began)
            device.synchronize()
        p.note(f"host, {count} in a row", min(seconds) / count * 1e6, "us each")
    p.note("device, one empty kernel", p.timed(lambda: row(1), 500) * 1e6, "us each")
    raw = device.driver.function("cuLaunchKernel")
    pointers = (ctypes.c_void_p * 1)(ctypes.addressof((ctypes.c_uint64 * 512)()))
    room = (ctypes.c_uint64 * 8)()
    pointers[0] = ctypes.addressof(room)
    handle, stream = empty.handle, device.stream

    def bare() -> None:
        for _ in range(200):
            raw(handle, 1, 1, 1, BLOCK, 1, 1, 0, stream, pointers, None)

    p.note("host, cuLaunchKernel alone", best(bare, 5) / 200 * 1e6, "us each")
    device.synchronize()
    p.note("synchronize, idle", best(device.synchronize, 200) * 1e6, "us")

    def round_trip() -> None:
        device.launch(empty, 1, BLOCK, words)
        device.synchronize()

    p.note("launch and synchronize", best(round_trip, 200) * 1e6, "us")
    p.note("record an event", best(device.event, 200) * 1e6, "us")
    p.note("two events and elapsed", best(lambda: device.elapsed(device.event(), device.event()),
                                          100) * 1e6, "us")  # fmt: skip
    p.note("take a flag word", best(device.flags, 200) * 1e6, "us")
    memory, scalar = device.alloc(8), numpy.zeros(8, numpy.uint8)

    def item() -> None:
        device.launch(empty, 1, BLOCK, words)
        device.to_host(scalar, memory, 0)

    p.note("launch and 8 bytes home", best(item, 200) * 1e6, "us")


def memory(p: Probe) -> None:
    device = p.device
    for label, nbytes in SIZES.items():
        began = clock()
        device.alloc(nbytes).free()
        p.note(f"alloc and free {label}, first", (clock() - began) * 1e6, "us")
        p.note(f"alloc and free {label}", best(lambda n=nbytes: device.alloc(n).free(), 50) * 1e6,
               "us")  # fmt: skip
        device.synchronize()
        began = clock()
        device.alloc(nbytes).free()
        p.note(f"alloc and free {label}, after synchronize", (clock() - began) * 1e6, "us")
    began = clock()
    many = [device.alloc(MB) for _ in range(1000)]
    p.note("1000 live pieces of 1 MB", (clock() - began) * 1e3, "us each")
    del many
    p.note("memory_info", best(device.memory_info, 20) * 1e6, "us")


def kernels(p: Probe) -> None:
    device, big = p.device, GB
    a, b, c = p.filled(big), p.filled(big), device.alloc(big)
    words, got = device.flags(), numpy.empty(1 << 17)
    seconds = p.timed(lambda: device.copy(c, 0, a, 0, big), 5)
    p.note("copy on the device, read and write", 2 * big / seconds / 1e9, "GB/s")
    full = "all blocks"
    cases: list[tuple[str, str, dict[str, Any]]] = [("double2", "cvta", {})]
    cases += [("double2", "cvta", {"wide": w}) for w in (1, 2, 8)]
    cases += [("double2", "generic", {}), ("double2", "cvta", {"hints": True})]
    cases += [("double2", "cvta", {"flag": True}), ("double2", "cvta", {"chunked": True})]
    cases += [("float4", "cvta", {"wide": w}) for w in (1, 2, 4)]
    for vector, pointer, options in cases:
        text = texts.add(vector, texts.CVTA if pointer == "cvta" else texts.GENERIC, **options)
        kernel = p.kernel(text, "add")
        wide = options.get("wide", 4)
        for nbytes in (16 * MB, 64 * MB, big):
            n = nbytes // 16
            whole = -(-n // (BLOCK * wide))
            for label, grid in (
                (full, whole),
                ("8 per SM", 8),
                ("16 per SM", 16),
                ("32 per SM", 32),
            ):
                if label == full and options.get("chunked"):
                    continue
                blocks = grid if label == full else min(whole, grid * device.props.multiprocessors)
                given = [a.address, b.address, c.address, n, words.address]
                seconds = p.timed(
                    lambda g=blocks, k=kernel, w=given: device.launch(k, g, BLOCK, w), 5
                )
                named = f"add {vector} {pointer} {options or ''} {nbytes // MB} MB, {label}"
                p.note(named, 3 * nbytes / seconds / 1e9, "GB/s")
        device.to_host(got.view(numpy.uint8), c, big - got.nbytes)
        # The bits of 1.0 are those of 0 and 1.875 in single precision, little end first.
        wanted = got == 2.0 if vector == "double2" else got.view(numpy.float32)[1::2] == 3.75
        if not wanted.all():
            p.note(f"add {vector} {pointer} {options} is wrong", got[0])
        p.save()
    p.note("flag word", words.read())


def sums(p: Probe) -> None:
    device, big = p.device, GB
    a, partial, out = p.filled(big), device.alloc(8 * 65536), device.alloc(8)
    last = p.kernel(texts.final_sum(), "final_sum")
    got = numpy.zeros(1)
    for vector, pointer, wide, chunked in (
        ("double2", "cvta", 4, False), ("double2", "generic", 4, False),
        ("double2", "cvta", 1, False), ("double2", "cvta", 2, False),
        ("double2", "cvta", 8, False), ("double2", "cvta", 4, True), ("float4", "cvta", 4, False),
    ):  # fmt: skip
        text = texts.sum_(vector, texts.CVTA if pointer == "cvta" else texts.GENERIC, wide,
                          chunked=chunked)  # fmt: skip
        kernel = p.kernel(text, "sum_")
        for nbytes in (16 * MB, 64 * MB, big):
            for each in (4, 8, 16):
                blocks = each * device.props.multiprocessors
                first = [a.address, 0, partial.address, nbytes // 16]
                second = [partial.address, 0, out.address, blocks]

                def both(k=kernel, g=blocks, w=first, v=second) -> None:  # type: ignore[no-untyped-def]
                    device.launch(k, g, BLOCK, w)
                    device.launch(last, 1, BLOCK, v)

                seconds = p.timed(both, 5)
                way = "chunks" if chunked else "stride"
                p.note(f"sum {vector} {pointer} {wide} wide {way} {nbytes // MB} MB, {each} per SM",
                       nbytes / seconds / 1e9, "GB/s")  # fmt: skip
        device.to_host(got.view(numpy.uint8), out, 0)
        if vector == "double2":
            p.note(f"sum {pointer} {wide} is right", bool(got[0] == big / 8))
        p.save()


def arithmetic(p: Probe) -> None:
    device, nbytes = p.device, 256 * MB
    a, b, c = p.filled(nbytes), p.filled(nbytes), device.alloc(nbytes)

    def seconds(text: str, name: str, n: int) -> float:
        kernel = p.kernel(text, name)
        words = [a.address, b.address, c.address, n]
        return p.timed(lambda: device.launch(kernel, -(-n // 1024), BLOCK, words), 5)

    kept = nvrtc.OPTIONS
    for degree in (4, 32):
        for fmad in ("false", "true"):
            nvrtc.OPTIONS = (f"--fmad={fmad}", "--std=c++17")
            with contextlib.ExitStack() as after:
                after.callback(setattr, nvrtc, "OPTIONS", kept)
                text = texts.arithmetic(degree) + f"// fmad={fmad}\n"
                n = nbytes // 8
                p.note(f"degree {degree}, fmad={fmad}", 3 * nbytes / seconds(text, "arithmetic", n)
                       / 1e9, "GB/s")  # fmt: skip
    for scalar, width, suffix in (("double", 8, ""), ("float", 4, "f")):
        n = nbytes // width
        for expression in EXPRESSIONS:
            text = texts.function(scalar, expression.replace("@", suffix))
            each = seconds(text, "function", n) / n
            p.note(f"{scalar} {expression.replace('@', '')}", each * 1e12, "ps per element")


def cupy_(p: Probe) -> None:
    began = clock()
    import cupy

    p.note("import", clock() - began, "s")
    p.note("version", cupy.__version__)
    raw = cupy.cuda.function.Module()
    raw.load(p.device.compile(texts.EMPTY, "empty"))
    function = raw.get_function("empty")
    words = numpy.zeros(8, numpy.int64)

    def launches() -> None:
        for _ in range(200):
            function((1,), (BLOCK,), (words,))

    with contextlib.suppress(Exception):
        launches()
        cupy.cuda.Device().synchronize()
        p.note("launch of the same kernel", best(launches, 3) / 200 * 1e6, "us each")
    library(p, cupy, cupy.cuda.Device().synchronize, cupy.ones, lambda x: float(x.sum()))
    x = numpy.ones(1 << 27)
    p.note("asarray 1 GB", x.nbytes / best(lambda: cupy.asarray(x), 2) / 1e9, "GB/s")
    y = cupy.asarray(x)
    p.note("get 1 GB", x.nbytes / best(y.get, 2) / 1e9, "GB/s")


def torch_(p: Probe) -> None:
    began = clock()
    import torch

    p.note("import", clock() - began, "s")
    p.note("version", torch.__version__)
    library(
        p, torch, torch.cuda.synchronize,
        lambda n: torch.ones(n, dtype=torch.float64, device="cuda"), lambda x: float(x.sum()),
    )  # fmt: skip


def library(
    p: Probe, xp: Any, wait: Callable[[], Any], ones: Callable[[int], Any],
    total: Callable[[Any], float],
) -> None:  # fmt: skip
    for n in (1 << 10, 1 << 21, 1 << 23, 1 << 27):
        a, b, c = ones(n), ones(n), ones(n)

        def add(a: Any = a, b: Any = b, c: Any = c, count: int = 20) -> None:
            for _ in range(count):
                xp.add(a, b, out=c)
            wait()

        add()
        seconds = best(add, 3) / 20
        p.note(f"a + b, {n * 8 // 1024} KB", seconds * 1e6, "us")
        p.note(f"a + b, {n * 8 // 1024} KB", 24 * n / seconds / 1e9, "GB/s")
        total(a)
        seconds = best(lambda a=a: total(a), 10)
        p.note(f"sum, {n * 8 // 1024} KB", seconds * 1e6, "us")
        p.note(f"sum, {n * 8 // 1024} KB", 8 * n / seconds / 1e9, "GB/s")


SECTIONS: dict[str, Callable[[Probe], None]] = {
    "start": start, "compile": compiling, "launch": launching, "memory": memory,
    "transfers": transfers, "kernels": kernels, "sums": sums, "math": arithmetic,
    "cupy": cupy_, "torch": torch_,
}  # fmt: skip


def main() -> None:
    reader = argparse.ArgumentParser(description="Measure a GPU and the way to it.")
    reader.add_argument("--seconds", type=float, default=85, help="when to end, whatever is left")
    reader.add_argument("--skip", default="", help="sections to leave out, comma-separated")
    reader.add_argument("--only", default="", help="sections to run, comma-separated")
    given = reader.parse_args()
    faulthandler.dump_traceback_later(given.seconds, exit=True)
    probe = Probe(given.seconds)
    only = {"start", *given.only.split(",")} if given.only else set(SECTIONS)
    for name, section in SECTIONS.items():
        if name not in only or name in given.skip.split(","):
            continue
        probe.section = name
        if probe.late(0.9):
            probe.note("left out", "no time")
            continue
        began = clock()
        try:
            section(probe)
        except Exception as error:  # the other sections are worth having
            traceback.print_exc()
            probe.note("failed", f"{type(error).__name__}: {error}")
        probe.note("took", clock() - began, "s")
        probe.save()
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
