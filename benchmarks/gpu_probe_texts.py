"""Texts of the kernels that ``gpu_probe.py`` measures: each differs from another in one thing."""

from __future__ import annotations

__all__ = ["CVTA", "EMPTY", "GENERIC", "add", "arithmetic", "final_sum", "function", "sum_"]

WORDS = "struct Words { long long w[8]; };\n"
GLOBAL = 'extern "C" __global__ void __launch_bounds__(256) '
GENERIC = "{0}"
#: Tells the compiler that an address is in global memory.
CVTA = "__cvta_global_to_generic({0})"

EMPTY = WORDS + GLOBAL + "empty(const Words p) {}\n"

#: Lanes of a 16-byte vector, and the scalar's type.
VECTORS = {"double2": ("xy", "double"), "float4": ("xyzw", "float")}

_LOOP = """
  const long long n = p.w[3], tile = 256ll * {wide};
  {chunk}
  for (long long base = first; base < last; base += step) {{
    if (base + tile <= n) {{
      {whole}
    }} else {{
      for (int j = 0; j < {wide}; j++) {{
        long long i = base + j * 256ll + threadIdx.x;
        if (i < n) {{ {single} }}
      }}
    }}
  }}
"""
_STRIDE = "long long first = blockIdx.x * tile, last = n, step = gridDim.x * tile;"
_CHUNK = (
    "long long tiles = (n + tile - 1) / tile, each = (tiles + gridDim.x - 1) / gridDim.x;\n"
    "  long long first = blockIdx.x * each * tile, last = first + each * tile, step = tile;\n"
    "  if (last > n) last = n;"
)


def _kernel(name: str, head: str, body: str, tail: str = "") -> str:
    return f"{WORDS}{GLOBAL}{name}(const Words p) {{\n{head}{body}{tail}}}\n"


def _loop(wide: int, whole: str, single: str, *, chunked: bool) -> str:
    return _LOOP.format(wide=wide, chunk=_CHUNK if chunked else _STRIDE, whole=whole, single=single)


def _pointers(vector: str, pointer: str) -> str:
    names = (("const ", "a", 0), ("const ", "b", 1), ("", "c", 2))
    return "".join(
        f"  {const}{vector}* {name} = ({const}{vector}*){pointer.format(f'p.w[{i}]')};\n"
        for const, name, i in names
    )


def add(
    vector: str = "double2",
    pointer: str = CVTA,
    wide: int = 4,
    *,
    chunked: bool = False,
    flag: bool = False,
    hints: bool = False,
) -> str:
    """Return ``c = a + b`` with ``wide`` vectors in flight for each thread.

    ``flag`` has the kernel look for results that are not finite; ``hints`` marks what it reads and
    writes as not needed again.
    """  # fmt: skip
    lanes, scalar = VECTORS[vector]
    read, write = ("__ldcs({0})", "__stcs({0}, {1})") if hints else ("*({0})", "*({0}) = {1}")
    look = "".join(f" bad |= !(z.{lane} - z.{lane} == ({scalar})0);" for lane in lanes) * flag
    sums = "".join(f" z.{lane} = x.{lane} + y.{lane};" for lane in lanes)
    each = f"{vector} z;{sums}{look}"
    whole = (
        f"{vector} u[{wide}], v[{wide}];\n"
        f"      #pragma unroll\n      for (int j = 0; j < {wide}; j++) {{ long long i = base + j * "
        f"256ll + threadIdx.x; u[j] = {read.format('a + i')}; v[j] = {read.format('b + i')}; }}\n"
        f"      #pragma unroll\n      for (int j = 0; j < {wide}; j++) {{ long long i = base + j * "
        f"256ll + threadIdx.x; {vector} x = u[j], y = v[j]; {each} {write.format('c + i', 'z')}; }}"
    )
    single = f"{vector} x = a[i], y = b[i]; {each} c[i] = z;"
    tail = "  if (bad) atomicOr((unsigned long long*)p.w[4], 1ull);\n" * flag
    head = _pointers(vector, pointer) + "  bool bad = false;\n"
    return _kernel("add", head, _loop(wide, whole, single, chunked=chunked), tail)


def sum_(
    vector: str = "double2", pointer: str = CVTA, wide: int = 4, *, chunked: bool = False
) -> str:
    """Return the partial sums of ``a``, one for each block, into ``c``."""
    lanes, scalar = VECTORS[vector]
    adds = " ".join(f"s{i}[j] += x.{lane};" for i, lane in enumerate(lanes))
    whole = (
        f"{vector} u[{wide}];\n"
        f"      #pragma unroll\n      for (int j = 0; j < {wide}; j++) u[j] = a[base + j * 256ll + "
        f"threadIdx.x];\n"
        f"      #pragma unroll\n      for (int j = 0; j < {wide}; j++) {{ {vector} x = u[j]; "
        f"{adds} }}"
    )
    single = f"{vector} x = a[i]; {adds}"
    arrays = ", ".join(f"s{i}[{wide}]" for i in range(len(lanes)))
    zero = " ".join(f"s{i}[j] = 0;" for i in range(len(lanes)))
    head = _pointers(vector, pointer) + (
        f"  {scalar} {arrays};\n  #pragma unroll\n  for (int j = 0; j < {wide}; j++) {{ {zero} }}\n"
    )
    total = " + ".join(f"s{i}[j]" for i in range(len(lanes)))
    tail = (
        f"  double s = 0;\n  #pragma unroll\n  for (int j = 0; j < {wide}; j++) s += {total};\n"
        + _BLOCK_SUM
    )
    return _kernel("sum_", head, _loop(wide, whole, single, chunked=chunked), tail)


_BLOCK_SUM = """  __shared__ double part[8];
  for (int d = 16; d; d >>= 1) s += __shfl_down_sync(0xffffffffu, s, d);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < 8; i++) s += part[i];
    ((double*)p.w[2])[blockIdx.x] = s;
  }
"""


def final_sum() -> str:
    """Return the sum of ``w[3]`` doubles by one block."""
    body = (
        "  const double* a = (const double*)p.w[0];\n  double s = 0;\n"
        "  for (long long i = threadIdx.x; i < p.w[3]; i += 256) s += a[i];\n"
    )
    return _kernel("final_sum", body, _BLOCK_SUM)


def function(scalar: str, expression: str, wide: int = 4) -> str:
    """Return ``c = expression`` of ``x`` and ``y``, elements of ``a`` and ``b``."""
    return _elementwise("function", scalar, f"r = {expression};", wide)


def arithmetic(degree: int) -> str:
    """Return a polynomial in doubles: products and sums that may or may not be contracted."""
    return _elementwise("arithmetic", "double", "r = y;" + " r = r * x + y;" * degree, 4)


def _elementwise(name: str, scalar: str, lines: str, wide: int) -> str:
    whole = (
        f"{scalar} u[{wide}], v[{wide}];\n"
        f"      #pragma unroll\n      for (int j = 0; j < {wide}; j++) {{ long long i = base + j * "
        f"256ll + threadIdx.x; u[j] = a[i]; v[j] = b[i]; }}\n"
        f"      #pragma unroll\n      for (int j = 0; j < {wide}; j++) {{ long long i = base + j * "
        f"256ll + threadIdx.x; {scalar} x = u[j], y = v[j], r; {lines} c[i] = r; }}"
    )
    single = f"{scalar} x = a[i], y = b[i], r; {lines} c[i] = r;"
    return _kernel(name, _pointers(scalar, CVTA), _loop(wide, whole, single, chunked=False))
