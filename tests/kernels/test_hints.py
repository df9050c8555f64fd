"""Loops that are to be vectorised: LLVM is silent, whether or not it manages."""

from __future__ import annotations

from itertools import count

import numpy
import pytest

from dispatcharr.kernels import hints, native
from dispatcharr.kernels.elf import symbols

pytestmark = pytest.mark.timeout(60)
compiles = pytest.mark.skipif(native.missing() is not None, reason=f"{native.missing()}")
_numbers = count()

#: ``out[i] = @body(x[i], n[i])`` for doubles and 32-bit integers, four at a time.
LOOP = """
define void @NAME(ptr %args, ptr %box) {
entry:
  %n = load i64, ptr %box
  %x = load ptr, ptr %args
  %args1 = getelementptr ptr, ptr %args, i64 1
  %k = load ptr, ptr %args1
  %args2 = getelementptr ptr, ptr %args, i64 2
  %out = load ptr, ptr %args2
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %px = getelementptr double, ptr %x, i64 %i
  %pk = getelementptr i32, ptr %k, i64 %i
  %po = getelementptr double, ptr %out, i64 %i
  %xi = load double, ptr %px, !llvm.access.group !0
  %ki = load i32, ptr %pk, !llvm.access.group !0
  %z = call double @body(double %xi, i32 %ki)
  store double %z, ptr %po, !llvm.access.group !0
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done, !llvm.loop !1
done:
  ret void
}
!0 = distinct !{}
!1 = distinct !{!1, !2, !3, !4, !5}
!2 = !{!"llvm.loop.parallel_accesses", !0}
!3 = !{!"llvm.loop.vectorize.width", i32 4}
!4 = !{!"llvm.loop.vectorize.enable", i1 true}
!5 = !{!"llvm.loop.interleave.count", i32 1}
"""
BODY = """
define internal double @body(double %x, i32 %k) alwaysinline nounwind {{
{lines}
}}
"""
PLAIN = BODY.format(lines="  %z = fadd double %x, 1.0\n  ret double %z")
#: What has no SIMD variant, and a loop of the body's own.
ODD = {
    "call": "declare double @ldexp(double, i32) nounwind willreturn memory(none)\n"
    + BODY.format(lines="  %z = call double @ldexp(double %x, i32 %k)\n  ret double %z"),
    "loop": BODY.format(
        lines="""  br label %again
again:
  %y = phi double [%x, %0], [%twice, %again]
  %left = phi i32 [%k, %0], [%fewer, %again]
  %twice = fadd double %y, %y
  %fewer = sub i32 %left, 1
  %over = icmp sle i32 %fewer, 0
  br i1 %over, label %done, label %again
done:
  ret double %twice"""
    ),
}
#: Ways through a body that differ, and are chosen from at the end.
CHOICE = BODY.format(
    lines="""  %c = icmp sgt i32 %k, 2
  br i1 %c, label %yes, label %no
yes:
  %y = fadd double %x, %x
  br label %no
no:
  %z = phi double [%x, %0], [%y, %yes]
  ret double %z"""
)


def compiled(body: str) -> tuple[bytes, str]:
    name = f"test_hints_{next(_numbers)}"
    return native.optimise_and_emit(body + LOOP.replace("NAME", name), name), name


@compiles
@pytest.mark.parametrize("kind", ODD)
def test_loops_that_cannot_be_vectorised_are_compiled_in_silence(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, name = compiled(ODD[kind])
    x, k, out = numpy.linspace(1, 2, 103), numpy.arange(103, dtype="i4") % 7 + 1, numpy.zeros(103)
    args = numpy.array([each.ctypes.data for each in (x, k, out)])
    box = numpy.array([x.size])
    native.function(native.load(name, code))(args.ctypes.data, box.ctypes.data)
    assert (out == numpy.ldexp(x, k)).all()
    assert capfd.readouterr() == ("", "")


@compiles
@pytest.mark.parametrize("body", [PLAIN, CHOICE], ids=["plain", "choice"])
def test_loops_that_can_be_vectorised_keep_their_hints(
    body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    are_taken = hints.are_taken

    def noted(text: str) -> bool:
        seen.append(are_taken(text))
        return seen[-1]

    monkeypatch.setattr(hints, "are_taken", noted)
    compiled(body)
    assert seen == ([True] if body is CHOICE else [])


def test_what_may_fail_is_known_from_the_text() -> None:
    assert not hints.are_risky(PLAIN + LOOP)
    assert all(hints.are_risky(body + LOOP) for body in (*ODD.values(), CHOICE))
    assert not hints.are_risky(hints.without(ODD["call"] + LOOP))
    off = LOOP.replace("i1 true", "i1 false").replace("vectorize.width", "other")
    assert hints.without(off) == off


#: What LLVM makes of a call if it knows the function, and none of which is a call of vectors.
KNOWN = {
    "exp2 of an integer": ("exp2", "%d = sitofp i32 %k to double", "double %d"),
    "a power of two": ("pow", "", "double 2.0, double %x"),
    "a power of ten": ("pow", "", "double 10.0, double %x"),
    "a root": ("pow", "", "double %x, double 0.5"),
    "a square": ("pow", "", "double %x, double 2.0"),
}


@compiles
@pytest.mark.parametrize(("symbol", "before", "given"), KNOWN.values(), ids=KNOWN)
def test_llvm_makes_no_other_functions_of_those_called(
    symbol: str, before: str, given: str, capfd: pytest.CaptureFixture[str]
) -> None:
    host = native.host()
    if isinstance(host, str) or symbol not in host.simd_math:
        pytest.skip(f"this machine has no SIMD variant of {symbol}")
    call = f"  %z = call double @dispatcharr_{symbol}({given})\n  ret double %z"
    body = native.simd_attributes([symbol]) + BODY.format(lines=f"  {before}\n{call}")
    _, needed = symbols(compiled(body)[0])
    assert {each.partition("_")[0] or each.rpartition("_")[2] for each in needed} == {symbol}
    assert any(each.startswith("_ZGV") for each in needed)
    assert capfd.readouterr() == ("", "")
