"""A region as LLVM IR: one function that walks a box of the space in one fused loop.

``void kernel(ptr args, ptr box)``. ``box`` holds the first place and the end along each axis, as
64-bit integers. ``args`` is a table of such words: the floating-point errors met (ORed into it, as
the machine words them), whether results are to be streamed past the caches, then an address and one
byte stride per axis for each operand: inputs, parameters of generators, outputs.

What the text depends on beside the region is its :class:`Form`. Everything else is read at run
time, so that one kernel serves every shape and every value.

Bits do not depend on where an element lies. Arithmetic gives the same bits in any lane; functions
of the SIMD math library may not, so kernels that call them only know whole vectors: the end of a
run is first copied to a padded one. Padding repeats an element, so that it raises no error of its
own.

An output may be the memory of an input, element for element. So nothing is said to be free of
aliases; loops say instead that their iterations are independent.
"""

from __future__ import annotations

from dispatcharr.kernels.llvm_flags import FLAGS
from dispatcharr.kernels.llvm_form import Form, form_of
from dispatcharr.kernels.llvm_program import Operand, Program, parameters, program_of
from dispatcharr.kernels.llvm_text import metadata
from dispatcharr.kernels.llvm_walk import Walk
from dispatcharr.kernels.llvm_walk_reduce import ReducingWalk

__all__ = [
    "Form", "Operand", "Program", "form_of", "kernel_text", "parameters",
    "program_of",
]  # fmt: skip

_ENTRY = """
define void @kernel(ptr %args, ptr %box) nounwind {
  call void @clear()
  call void @walk(ptr %args, ptr %box)
  %flags = call i64 @met()
  call void @settle()
  %before = atomicrmw or ptr %args, i64 %flags monotonic
  ret void
}
"""


def kernel_text(program: Program, form: Form, lanes: int, machine: str, declarations: str) -> str:
    """Return the text of the kernel of ``program`` in ``form``: it defines ``@kernel``.

    Parameters
    ----------
    program : Program
        From :func:`program_of`.
    form : Form
        From :func:`form_of`.
    lanes : int
        Elements of a whole vector, a power of two; for forms that compute nothing else.
    machine : str
        Of the CPU: ``"x86_64"``.
    declarations : str
        Text that declares the functions in ``program.calls``.
    """
    made = Walk if program.folding is None else ReducingWalk
    walk = made(program, form, lanes)
    return "\n".join(
        [
            declarations, program.definitions(), walk.definition(), walk.support(),
            FLAGS[machine], _ENTRY, metadata(lanes if form.whole else 0),
        ]
    )  # fmt: skip
