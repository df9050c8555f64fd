"""Functions that CUDA bodies call, as text without any header.

What only a GPU's compiler knows stands twice: for it, and, under ``DISPATCHARR_SHIM``, for a C++
compiler on the host, which runs the same text in tests. The ``met_`` functions return which errors
the machine's own flags would tell of: 1 divide by zero, 2 overflow, 4 underflow, 8 invalid value.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["PARTS", "device_prelude"]

_BITS = """
#define DP static __device__ __forceinline__
#define DP_LONG static __device__
#ifdef DISPATCHARR_SHIM
template <class To, class T> DP To dp_same(T x) {
  To y;
  __builtin_memcpy(&y, &x, sizeof(y));
  return y;
}
DP double dp_f64(unsigned long long bits) { return dp_same<double>(bits); }
DP float dp_f32(unsigned bits) { return dp_same<float>(bits); }
DP long long dp_bits(double x) { return dp_same<long long>(x); }
DP int dp_bits(float x) { return dp_same<int>(x); }
DP int dp_count(unsigned x) { return __builtin_popcount(x); }
DP int dp_count(unsigned long long x) { return __builtin_popcountll(x); }
#else
DP double dp_f64(unsigned long long bits) { return __longlong_as_double((long long)bits); }
DP float dp_f32(unsigned bits) { return __int_as_float((int)bits); }
DP long long dp_bits(double x) { return __double_as_longlong(x); }
DP int dp_bits(float x) { return __float_as_int(x); }
DP int dp_count(unsigned x) { return __popc(x); }
DP int dp_count(unsigned long long x) { return __popcll(x); }
#endif
DP bool dp_finite(double x) { return fabs(x) <= 1.7976931348623157e308; }
DP bool dp_finite(float x) { return fabsf(x) <= 3.402823466e38f; }
"""

# To nearest, ties to even, on the bits: the same on both machines, and no header is needed.
_HALF = """
#ifdef DISPATCHARR_SHIM
DP float dp_float(Half h) {
  const unsigned sign = (h & 0x8000u) << 16, size = h & 0x7fffu;
  if (size >= 0x7c00u) return dp_f32(sign | 0x7f800000u | (size << 13));
  return dp_f32(sign | dp_bits((float)(dp_f32(size << 13) * 5.192296858534828e33f)));
}
DP Half dp_half(float x) {
  const unsigned bits = (unsigned)dp_bits(x);
  const unsigned sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return (Half)(sign | 0x7e00u | ((size >> 13) & 0x3ffu));
  if (size >= 0x477ff000u) return (Half)(sign | 0x7c00u);
  if (size < 0x33000000u) return (Half)sign;
  if (size < 0x38800000u) {
    const unsigned shift = 126u - (size >> 23), digits = (size & 0x7fffffu) | 0x800000u;
    const unsigned cut = digits >> shift, rest = digits & ((1u << shift) - 1u);
    const unsigned half = 1u << (shift - 1u);
    return (Half)(sign | (cut + (rest > half || (rest == half && (cut & 1u)))));
  }
  return (Half)(sign | ((size - 0x38000000u + 0xfffu + ((size >> 13) & 1u)) >> 13));
}
#else
DP float dp_float(Half h) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
  return x;
}
DP Half dp_half(float x) {
  Half h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
}
#endif
DP bool dp_finite_half(Half x) { return (x & 0x7c00u) != 0x7c00u; }
"""

_MET = """
template <class T> DP unsigned met_sum(T a, T b, T r) {
  if (r != r) return a == a && b == b ? 8u : 0u;
  return !dp_finite(r) && dp_finite(a) && dp_finite(b) ? 2u : 0u;
}
template <class T> DP unsigned met_quotient(T a, T b, T r) {
  if (r != r) return a == a && b == b ? 8u : 0u;
  return !dp_finite(r) && dp_finite(a) ? (b == 0 ? 1u : 2u) : 0u;
}
template <class T> DP unsigned met_fma(T a, T b, T c, T r) {
  if (r != r) return a == a && b == b && c == c ? 8u : 0u;
  return !dp_finite(r) && dp_finite(a) && dp_finite(b) && dp_finite(c) ? 2u : 0u;
}
template <class T> DP unsigned met_function(T x, T r) {
  if (r != r) return x == x ? 8u : 0u;
  return !dp_finite(r) && dp_finite(x) ? 2u : 0u;
}
template <class T> DP unsigned met_pole(T x, T r) {
  if (r != r) return x == x ? 8u : 0u;
  return !dp_finite(r) && dp_finite(x) ? 1u : 0u;
}
template <class T> DP unsigned met_power(T a, T b, T r) {
  if (r != r) return a == a && b == b ? 8u : 0u;
  return !dp_finite(r) && dp_finite(a) && dp_finite(b) ? (a == 0 ? 1u : 2u) : 0u;
}
template <class T> DP unsigned met_infinite_power(T a, T b, T r, T large, unsigned zero,
                                                  unsigned over) {
  if (r != r || dp_finite(r) || b != b || dp_finite(b) || !dp_finite(a)) return 0u;
  if (a == 0) return zero;
  return b > 0 && (a >= large || -a >= large) ? over : 0u;
}
"""

# NumPy's steps. Its remainder leaves the quotient out.
_FLOATS = """
DP double dp_fmod(double a, double b) { return fmod(a, b); }
DP float dp_fmod(float a, float b) { return fmodf(a, b); }
DP double dp_floor(double x) { return floor(x); }
DP float dp_floor(float x) { return floorf(x); }
DP double dp_copysign(double a, double b) { return copysign(a, b); }
DP float dp_copysign(float a, float b) { return copysignf(a, b); }
DP double dp_sqrt(double x) { return sqrt(x); }
DP float dp_sqrt(float x) { return sqrtf(x); }
DP double dp_pow(double a, double b) { return pow(a, b); }
DP float dp_pow(float a, float b) { return powf(a, b); }
template <class T> DP_LONG T dp_remainder(T a, T b) {
  T rest = dp_fmod(a, b);
  if (b == 0) return rest;
  if (rest != 0) { if ((b < 0) != (rest < 0)) rest += b; }
  else rest = dp_copysign((T)0, b);
  return rest;
}
template <class T> DP_LONG void dp_floor_divide(T a, T b, T& r, unsigned& met) {
  const T quotient = a / b;
  if (b == 0) {
    met |= met_quotient(a, b, quotient);
    r = quotient;
    return;
  }
  const T rest = dp_fmod(a, b), part = a - rest;
  T whole = part / b;
  met |= met_sum(a, b, rest) | met_sum(a, rest, part) | met_quotient(part, b, whole);
  if (rest != 0 && (b < 0) != (rest < 0)) whole -= 1;
  if (whole == 0) {
    r = dp_copysign((T)0, quotient);
    return;
  }
  const T down = dp_floor(whole), over = whole - down;
  met |= met_sum(whole, down, over);
  r = over > (T)0.5 ? down + 1 : down;
}
template <class T> DP_LONG T dp_power_scalar(T a, T b) {
  return b == (T)0.5 ? dp_sqrt(a) : b == 2 ? a * a : dp_pow(a, b);
}
"""

# A divisor of minus one is answered without dividing: the smallest number has no quotient then.
_INTEGERS = """
template <class T> DP T dp_floor_divide_int(T a, T b) {
  if (b == 0) return 0;
  if (b == (T)-1 && (T)-1 < 0) return (T)(0ull - (unsigned long long)a);
  const T whole = (T)(a / b);
  return (T)(whole - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0));
}
template <class T> DP unsigned met_floor_divide_int(T a, T b) {
  if (b == 0) return 1u;
  return (T)-1 < 0 && b == (T)-1 && a != 0 && a == (T)(0ull - (unsigned long long)a) ? 2u : 0u;
}
template <class T> DP unsigned met_remainder_int(T, T b) { return b == 0 ? 1u : 0u; }
template <class T> DP T dp_fmod_int(T a, T b) {
  return b == 0 || (b == (T)-1 && (T)-1 < 0) ? (T)0 : (T)(a % b);
}
template <class T> DP T dp_remainder_int(T a, T b) {
  const T rest = dp_fmod_int(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? (T)(rest + b) : rest;
}
template <class T> DP T dp_power_int(T a, T b) {
  unsigned long long base = (unsigned long long)a, made = 1ull;
  for (T left = b; left > 0; left = (T)(left >> 1)) { if (left & 1) made *= base; base *= base; }
  return (T)made;
}
template <class T> DP_LONG T dp_gcd(T x, T y) {
  unsigned long long a = x < 0 ? 0ull - (unsigned long long)x : (unsigned long long)x;
  unsigned long long b = y < 0 ? 0ull - (unsigned long long)y : (unsigned long long)y;
  while (a != 0) { const unsigned long long c = a; a = b % a; b = c; }
  return (T)b;
}
template <class T> DP_LONG T dp_lcm(T x, T y) {
  const unsigned long long a = x < 0 ? 0ull - (unsigned long long)x : (unsigned long long)x;
  const unsigned long long b = y < 0 ? 0ull - (unsigned long long)y : (unsigned long long)y;
  unsigned long long p = a, q = b;
  while (p != 0) { const unsigned long long c = p; p = q % p; q = c; }
  return q == 0 ? (T)0 : (T)(a / q * b);
}
"""

_BITS_OF_HALF = """
DP Half dp_after_half(Half x, Half y, unsigned& met) {
  const unsigned a = x & 0x7fffu, b = y & 0x7fffu;
  if (a > 0x7c00u || b > 0x7c00u) return (Half)0x7e00u;
  if (x == y || (a | b) == 0) return x;
  if (a == 0) return (Half)((y & 0x8000u) | 1u);
  const int i = x & 0x8000u ? -(int)a : (int)a, j = y & 0x8000u ? -(int)b : (int)b;
  const Half r = (Half)((i < j) == (i > 0) ? x + 1 : x - 1);
  if (!dp_finite_half(r) && dp_finite_half(x)) met |= 2u;
  return r;
}
DP void dp_nextafter_half(Half x, Half y, Half& r, unsigned& met) { r = dp_after_half(x, y, met); }
DP Half dp_gap_half(Half x, unsigned& met) {
  const unsigned power = x & 0x7c00u;
  if (power == 0x7c00u) { met |= 8u; return (Half)0x7e00u; }
  if (x == 0x7bffu) { met |= 2u; return (Half)0x7c00u; }
  const unsigned edge = (x & 0x8000u) && (x & 0x3ffu) == 0 ? 1u : 0u;
  if (power > 0x2800u + 0x400u * edge) return (Half)(power - 0x2800u - 0x400u * edge);
  if (power > 0x400u) return (Half)(1u << ((power >> 10) - 1u - edge));
  return (Half)1u;
}
DP void dp_spacing_half(Half x, Half& r, unsigned& met) { r = dp_gap_half(x, met); }
"""

_NEIGHBOURS = """
DP double dp_nextafter(double x, double y) { return nextafter(x, y); }
DP float dp_nextafter(float x, float y) { return nextafterf(x, y); }
template <class T> DP unsigned met_nextafter(T x, T, T r) {
  return !dp_finite(r) && dp_finite(x) && r == r ? 2u : 0u;
}
"""

# NumPy's branches: of the other steps nothing is reported.
_COMPLEXES = """
template <class T> DP T dp_nan() { return (T)dp_f64(0x7ff8000000000000ull); }
template <class T> DP T dp_times(T a, T b, unsigned& met) {
  const T r = a * b;
  met |= met_sum(a, b, r);
  return r;
}
template <class T> DP T dp_plus(T a, T b, unsigned& met) {
  const T r = a + b;
  met |= met_sum(a, b, r);
  return r;
}
template <class T> DP T dp_over_by(T a, T b, unsigned& met) {
  const T r = a / b;
  met |= met_quotient(a, b, r);
  return r;
}
DP double dp_length(double a, double b) { return hypot(a, b); }
DP float dp_length(float a, float b) { return hypotf(a, b); }
template <class T> DP_LONG void dp_divide(T a, T ai, T b, T bi, T& r, T& ri, unsigned& met) {
  const T size = b < 0 ? -b : b, sizei = bi < 0 ? -bi : bi;
  if (b != b || bi != bi) met |= 8u;
  if (b == 0 && bi == 0) {
    r = dp_over_by(a, (T)0, met);
    ri = dp_over_by(ai, (T)0, met);
    return;
  }
  const bool wide = size >= sizei;
  const T large = wide ? b : bi, small = wide ? bi : b, x = wide ? a : ai, y = wide ? ai : a;
  const T ratio = dp_over_by(small, large, met);
  const T below = dp_plus(large, dp_times(small, ratio, met), met);
  const T scale = dp_over_by((T)1, below, met);
  r = dp_times(dp_plus(x, dp_times(y, ratio, met), met), scale, met);
  const T turned = wide ? dp_plus(ai, -dp_times(a, ratio, met), met)
                        : dp_plus(dp_times(ai, ratio, met), -a, met);
  ri = dp_times(turned, scale, met);
}
template <class T> DP_LONG void dp_reciprocal(T a, T ai, T& r, T& ri, unsigned& met) {
  const T size = a < 0 ? -a : a, sizei = ai < 0 ? -ai : ai;
  if (a != a || ai != ai) met |= 8u;
  const bool wide = size >= sizei;
  const T large = wide ? a : ai, small = wide ? ai : a;
  const T ratio = dp_over_by(small, large, met);
  const T below = dp_plus(large, dp_times(small, ratio, met), met);
  r = dp_over_by(wide ? (T)1 : ratio, below, met);
  ri = dp_over_by(wide ? -ratio : (T)-1, below, met);
}
template <class T> DP_LONG void dp_sign(T a, T ai, T& r, T& ri, unsigned& met) {
  const T length = dp_length(a, ai);
  met |= met_sum(a, ai, length);
  const bool infinite = a == a && !dp_finite(a), infinitei = ai == ai && !dp_finite(ai);
  if (length != length || (infinite && infinitei)) {
    r = ri = dp_nan<T>();
  } else if (!dp_finite(length)) {
    r = infinite ? (a > 0 ? (T)1 : (T)-1) : (T)0;
    ri = infinite ? (T)0 : (ai > 0 ? (T)1 : (T)-1);
  } else if (length == 0) {
    r = ri = 0;
  } else {
    r = dp_over_by(a, length, met);
    ri = dp_over_by(ai, length, met);
  }
}
"""

_PARTS = {"half": _HALF, "met": _MET, "floats": _FLOATS, "integers": _INTEGERS,
          "bits_of_half": _BITS_OF_HALF, "neighbours": _NEIGHBOURS,
          "complexes": _COMPLEXES}  # fmt: skip

#: Names of all parts.
PARTS = tuple(_PARTS)

_STRUCTS = """
typedef unsigned short Half;
struct Complex64 { float re, im; };
struct Complex128 { double re, im; };
"""


def device_prelude(needs: Iterable[str]) -> str:
    """Return the types and those functions that a text needs, each once."""
    wanted = set(needs)
    if wanted & {"floats", "complexes"}:
        wanted.add("met")
    parts = [text for name, text in _PARTS.items() if name in wanted]
    return "".join([_STRUCTS, _BITS, *parts])
