"""Compiling IR text and loading object code: what comes out, and how what cannot be is refused."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import re
import sys
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy
import pytest

from dispatcharr.kernels import native
from dispatcharr.kernels.elf import NotAnObject, symbols
from dispatcharr.kernels.native import BuildError
from dispatcharr.kernels.target import Host, address_of, architecture

pytestmark = pytest.mark.timeout(60)
SOON = 20  # seconds: what must happen at all, on a busy machine too
compiles = pytest.mark.skipif(native.missing() is not None, reason=f"{native.missing()}")
_numbers = count()

#: ``out[i] = body(a[i], b[i])`` for doubles; ``args`` points to the three, ``box`` to their length.
LOOP = """
define void @{name}(ptr %args, ptr %box) {{
entry:
  %n = load i64, ptr %box
  %a = load ptr, ptr %args
  %args1 = getelementptr ptr, ptr %args, i64 1
  %b = load ptr, ptr %args1
  %args2 = getelementptr ptr, ptr %args, i64 2
  %out = load ptr, ptr %args2
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %pa = getelementptr double, ptr %a, i64 %i
  %pb = getelementptr double, ptr %b, i64 %i
  %po = getelementptr double, ptr %out, i64 %i
  %x = load double, ptr %pa
  %y = load double, ptr %pb
  {body}
  store double %z, ptr %po
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""
ADD = "%z = fadd double %x, %y"
EMPTY = "define void @{name}(ptr %args, ptr %box) {{\n  ret void\n}}\n"


def named(text: str, body: str = "") -> tuple[str, str]:
    """Return the text with a name that nothing in this process has yet, and the name."""
    name = f"test_native_{next(_numbers)}"
    return text.format(name=name, body=body), name


def computed(text: str, name: str, a: Any, b: Any) -> Any:
    """Return what the kernel makes of two arrays of doubles."""
    kernel = native.function(native.load(name, native.optimise_and_emit(text, name)))
    out = numpy.empty_like(a)
    args = numpy.array([a.ctypes.data, b.ctypes.data, out.ctypes.data])
    box = numpy.array([a.size])
    kernel(args.ctypes.data, box.ctypes.data)
    return out


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """LLVM as it is before its first use."""
    monkeypatch.setattr(native, "_session", None)
    native.missing.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    native.missing.cache_clear()


def assert_refused(pattern: str) -> None:
    """Fail unless nothing can be compiled, for a reason that is said and not raised."""
    reason = native.host()
    assert isinstance(reason, str)
    assert re.search(pattern, reason), reason
    text, name = named(EMPTY)
    with pytest.raises(BuildError, match=f"optimise_and_emit: .*{pattern}"):
        native.optimise_and_emit(text, name)
    with pytest.raises(BuildError, match=f"load: .*{pattern}"):
        native.load(name, b"")


def test_without_llvmlite_a_sentence_says_so(unopened: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    unopened.setattr(
        importlib.util, "find_spec", lambda name: None if name == "llvmlite" else found(name)
    )
    unopened.setattr(sys, "platform", "linux")
    unopened.setattr(native, "architecture", lambda: "x86_64")
    assert_refused("llvmlite is not installed")


@pytest.mark.parametrize(("platform", "machine"), [("win32", "x86_64"), ("linux", "riscv64")])
def test_a_machine_that_was_never_tried_is_named(
    unopened: pytest.MonkeyPatch, platform: str, machine: str
) -> None:
    unopened.setattr(sys, "platform", platform)
    unopened.setattr(native, "architecture", lambda: machine)
    assert_refused(f"{platform} on {machine}")


@compiles
def test_an_llvmlite_that_does_not_import_is_a_sentence(unopened: pytest.MonkeyPatch) -> None:
    unopened.setitem(sys.modules, "llvmlite.binding", None)
    assert_refused("llvmlite cannot be imported")


@compiles
def test_an_llvmlite_that_is_too_old_is_a_sentence(unopened: pytest.MonkeyPatch) -> None:
    import llvmlite

    unopened.setattr(llvmlite, "__version__", "0.44.9")
    assert_refused(r"version 0\.44\.9, kernels need 0\.45 or newer")


@compiles
def test_a_system_that_forbids_made_code_is_a_sentence(unopened: pytest.MonkeyPatch) -> None:
    import llvmlite.binding

    def refuse() -> None:
        raise OSError("cannot allocate executable memory.")

    unopened.setattr(llvmlite.binding, "check_jit_execution", refuse)
    assert_refused("cannot allocate executable memory")


@compiles
def test_a_kernel_computes() -> None:
    a, b = numpy.linspace(0, 1, 1003), numpy.linspace(5, 9, 1003)
    assert (computed(*named(LOOP, ADD), a, b) == a + b).all()


@compiles
def test_products_are_rounded_before_they_are_added() -> None:
    # The low bits of (1 + e) ** 2 - 1 survive only where nothing is rounded in between.
    a, b = numpy.full(64, 1 + 2.0**-30), numpy.full(64, -1.0)
    body = "%m = fmul double %x, %x\n  %z = fadd double %m, %y"
    out = computed(*named(LOOP, body), a, b)
    assert (out == a * a + b).all()
    assert out[0] != 2.0**-29 + 2.0**-60


@compiles
def test_sums_keep_their_order_and_signs_of_zero_their_place() -> None:
    a, b = numpy.array([1e16, -0.0] * 32), numpy.array([1.0, 0.0] * 32)
    body = "%s = fadd double %x, %y\n  %d = fsub double %s, %x\n  %z = fsub double %d, %y"
    out = computed(*named(LOOP, body), a, b)
    assert (out == (a + b) - a - b).all()
    assert out[0] == -1.0  # 0 if it were simplified as real numbers are
    minus = computed(*named(LOOP, "%z = fadd double %x, 0.0"), a, b)
    assert not numpy.signbit(minus[1])  # -0 + 0 is 0, so nothing may be left out


@compiles
def test_vectors_have_the_width_that_is_announced() -> None:
    import llvmlite.binding as llvm

    host = native.host()
    assert isinstance(host, Host)
    session = native._require("test")
    text, _ = named(LOOP, "%m = fmul double %x, %y\n  %z = fadd double %m, %x")
    with llvm.create_context() as context, llvm.parse_assembly(text, context) as module:
        builder = llvm.create_pass_builder(
            session.target, llvm.create_pipeline_tuning_options(speed_level=3)
        )
        builder.getModulePassManager().run(module, builder)
        assembly = session.target.emit_assembly(module)
    if architecture() == "x86_64":
        register = {64: "zmm", 32: "ymm", 16: "xmm"}[host.vector_bytes]
        assert re.search(rf"v?mulpd.*{register}", assembly)
        wider = {64: None, 32: "zmm", 16: "ymm"}[host.vector_bytes]
        assert wider is None or wider not in assembly


@compiles
def test_listed_simd_functions_exist() -> None:
    host = native.host()
    assert isinstance(host, Host)
    for name, variants in host.simd_math.items():
        assert variants, name
        assert all(address_of(variant) for variant in variants), name
        assert all(variant.endswith(f"_{name}") for variant in variants)
    if ctypes.util.find_library("mvec") and architecture() == "x86_64":
        assert {"sin", "cosf", "pow"} <= host.simd_math.keys()


@compiles
@pytest.mark.parametrize("name", ["sin", "exp", "log1p"])
def test_calls_in_a_loop_become_simd_calls(name: str) -> None:
    host = native.host()
    assert isinstance(host, Host)
    if name not in host.simd_math:
        pytest.skip(f"this C library has no SIMD variant of {name}")
    text, entry = named(LOOP, f"%z = call double @{name}(double %x)")
    text = native.simd_attributes([name, name]) + text
    lanes = f"N{host.vector_bytes // 8}v_{name}"
    _, needed = symbols(native.optimise_and_emit(text, entry))
    assert any(symbol.endswith(lanes) for symbol in needed), needed
    a = numpy.linspace(0.01, 20, 1003)
    expected = getattr(numpy, name)(a)
    assert (abs(computed(text, entry, a, a) - expected) <= 4 * numpy.spacing(abs(expected))).all()


@compiles
def test_a_function_without_variants_is_declared_as_it_is(
    unopened: pytest.MonkeyPatch,
) -> None:
    unopened.setattr("dispatcharr.kernels.target.address_of", lambda symbol: None)
    text = native.simd_attributes(["powf", "sin"])
    assert "declare float @powf(float, float) nounwind" in text
    assert "_ZGV" not in text
    assert "llvm.compiler.used" not in text
    body, entry = named(LOOP, "%z = call double @sin(double %x)")
    assert symbols(native.optimise_and_emit(text + body, entry)) == ((entry,), ("sin",))


@compiles
def test_an_unknown_function_is_refused_by_name() -> None:
    with pytest.raises(BuildError, match="simd_attributes: 'sine' is not a function"):
        native.simd_attributes(["sine"])


@compiles
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("define void @{name}(", "parsing error"),
        ("define i32 @{name}() {{\n  ret i64 0\n}}\n", "."),
        ("define void @other() {{\n  ret void\n}}\n", "does not define @test_native_.*other"),
        ("declare void @{name}()\n", "does not define"),
        (
            "define i32 @{name}() {{\na:\n  br label %c\nb:\n  %v = add i32 0, 1\n"
            "  br label %c\nc:\n  ret i32 %v\n}}\n",
            "dominate",
        ),
    ],
    ids=["syntax", "type", "other name", "only declared", "not well formed"],
)
def test_wrong_text_is_refused_in_one_line(text: str, complaint: str) -> None:
    text, name = named(text)
    with pytest.raises(BuildError, match=complaint) as caught:
        native.optimise_and_emit(text, name)
    assert str(caught.value).startswith(f"optimise_and_emit: {name}: ")
    assert "\n" not in str(caught.value)


@compiles
def test_a_call_of_nothing_is_refused_and_the_process_lives() -> None:
    text, name = named(
        "declare void @nobody_has_this()\n"
        "define void @{name}(ptr %a, ptr %b) {{\n  call void @nobody_has_this()\n  ret void\n}}\n"
    )
    code = native.optimise_and_emit(text, name)
    with pytest.raises(BuildError, match=f"load: {name}: it calls nobody_has_this"):
        native.load(name, code)
    assert native.loaded(name) is None


@compiles
def test_object_code_cut_anywhere_is_refused() -> None:
    text, name = named(LOOP, ADD)
    code = native.optimise_and_emit(text, name)
    for length in range(0, len(code), 8):
        with pytest.raises(BuildError, match=f"load: {name}: "):
            native.load(name, code[:length])
    assert native.load(name, code)


def test_what_is_no_object_is_refused() -> None:
    for content in (b"", b"\x7fELF", b"\x7fELF\x01\x01\x01" + bytes(99), b"MZ" * 99):
        with pytest.raises(NotAnObject, match="not a 64-bit"):
            symbols(content)


@compiles
def test_a_name_is_loaded_once() -> None:
    text, name = named(LOOP, ADD)
    assert native.loaded(name) is None
    address = native.load(name, native.optimise_and_emit(text, name))
    assert native.load(name, b"not looked at") == address == native.loaded(name)


@compiles
def test_a_name_that_would_shadow_loaded_code_is_refused() -> None:
    both = EMPTY + "define void @{name}_too(ptr %args, ptr %box) {{\n  ret void\n}}\n"
    text, name = named(both)
    native.load(name, native.optimise_and_emit(text, name))
    assert native.loaded(f"{name}_too")
    again = text.replace(f"@{name}(", "@another(")
    with pytest.raises(BuildError, match=f"{name}_too was loaded before"):
        native.load("another", native.optimise_and_emit(again, "another"))


@compiles
def test_a_kernel_lets_other_threads_run() -> None:
    # It spins until another thread sets its flag, and gives up where that never comes to run.
    text, name = named("""
define void @{name}(ptr %args, ptr %box) {{
entry:
  store volatile i64 1, ptr %box
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %flag = load volatile i64, ptr %args
  %next = add i64 %i, 1
  %set = icmp ne i64 %flag, 0
  %late = icmp ugt i64 %next, 20000000000
  %stop = or i1 %set, %late
  br i1 %stop, label %done, label %loop
done:
  store i64 %flag, ptr %box
  ret void
}}
""")
    kernel = native.function(native.load(name, native.optimise_and_emit(text, name)))
    flag, state = ctypes.c_int64(0), ctypes.c_int64(0)
    where = ctypes.addressof(flag), ctypes.addressof(state)
    thread = threading.Thread(target=kernel, args=where)
    thread.start()
    while not state.value:
        pass
    flag.value = 7
    thread.join(SOON)
    assert state.value == 7


@compiles
def test_functions_of_one_address_are_one() -> None:
    text, name = named(EMPTY)
    address = native.load(name, native.optimise_and_emit(text, name))
    assert native.function(address) is native.function(address)
