"""What programs begin with: arrays of every dtype, the same ones for the same arguments.

The source of this module goes into the scripts that reproduce a difference, so it needs NumPy only.
"""

import functools
import math

import numpy

FLOATS = (numpy.nan, numpy.inf, -numpy.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.7, 1e-3, 88.5, 1e4)


def specials(dtype):
    """Return the values of a dtype that are most often treated wrongly."""
    if dtype.kind in "iu":
        info = numpy.iinfo(dtype)
        found = [0, 1, 2, 3, 7, 63, info.max, info.max - 1, info.min, info.min + 1]
        return numpy.array(found + [-1, -2, -7] * (dtype.kind == "i"), dtype)
    info = numpy.finfo(dtype)
    ends = [info.smallest_subnormal, -info.smallest_subnormal, info.tiny, info.max, -info.max]
    real = numpy.array([*FLOATS, *ends, info.eps], info.dtype)
    if dtype.kind == "f":
        return real
    made = numpy.empty((5, 5), dtype)
    made.real, made.imag = real[[0, 1, 3, 4, 5]][:, None], real[[0, 2, 3, 4, 9]]
    return made.reshape(-1)


def given(char, shape, seed=0):
    """Return an array; its values are near one, anything, small whole numbers or ordinary."""
    with numpy.errstate(all="ignore"):  # only who makes it first would be warned
        return _given(char, shape, seed).copy()


@functools.lru_cache(256)
def _given(char, shape, seed):
    random, dtype = numpy.random.default_rng([seed, ord(char)]), numpy.dtype(char)
    size, kind = math.prod(shape), seed % 4
    if dtype.kind == "b":
        return random.random(shape) < (0.5, 0.1, 0.9, 0.5)[kind]
    if dtype.kind in "iu":
        low = -9 if dtype.kind == "i" and kind > 1 else 1
        made = random.integers(low, 10 if kind else 6, size).astype(dtype)
    elif kind == 2:
        made = random.integers(-9, 10, size).astype(dtype)
    else:
        made = (random.normal(size=size) * 3 if kind else random.uniform(0.1, 2, size)).astype(
            dtype
        )
        if dtype.kind == "c":
            made.imag = random.normal(size=size)
    if kind == 1 and size:
        strewn = random.permutation(specials(dtype))[: 1 + size // 2]
        made[random.permutation(size)[: len(strewn)]] = strewn
    return made.reshape(shape)
