"""Floating-point errors as the machine keeps them: how a kernel clears and reads them.

The loops run in functions of their own between the two, so that no arithmetic is moved past.
"""

from __future__ import annotations

__all__ = ["BITS", "FLAGS"]

#: By machine: the bit of each of NumPy's kinds of error.
BITS = {
    "x86_64": {"invalid value": 1, "divide by zero": 4, "overflow": 8, "underflow": 16},
    "aarch64": {"invalid value": 1, "divide by zero": 2, "overflow": 4, "underflow": 8},
}

#: By machine: the text of ``clear`` and of ``met``, which returns what was met since.
FLAGS = {
    "x86_64": """
define internal i64 @met() noinline nounwind {
  %word = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %word)
  %all = load i32, ptr %word, align 4
  %flags = and i32 %all, 63
  %wide = zext i32 %flags to i64
  ret i64 %wide
}
define internal void @clear() noinline nounwind {
  %word = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %word)
  %all = load i32, ptr %word, align 4
  %none = and i32 %all, -64
  store i32 %none, ptr %word, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret void
}
define internal void @settle() noinline nounwind {
  call void @llvm.x86.sse.sfence()
  ret void
}
""",
    "aarch64": """
define internal i64 @met() noinline nounwind {
  %all = call i64 @llvm.aarch64.get.fpsr()
  %flags = and i64 %all, 159
  ret i64 %flags
}
define internal void @clear() noinline nounwind {
  %all = call i64 @llvm.aarch64.get.fpsr()
  %none = and i64 %all, -160
  call void @llvm.aarch64.set.fpsr(i64 %none)
  ret void
}
define internal void @settle() noinline nounwind {
  fence release
  ret void
}
""",
}
