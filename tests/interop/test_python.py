"""Python's own library with our arrays."""

from __future__ import annotations

import array as arrays
import base64
import binascii
import copy
import csv
import ctypes
import decimal
import hashlib
import io
import itertools
import json
import math
import operator
import pickle
import pprint
import random
import sqlite3
import statistics
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import pytest

import dispatcharr as np
from neighbours import Arrays, Call, Neighbour

python = Neighbour("Python's library", "none")
works, ours, numpys = python.works, python.ours, python.numpys


def raised(call: Any) -> Any:
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error)
    return "nothing raised"


def through(write: Any) -> Any:
    file = io.StringIO()
    write(file)
    return file.getvalue()


def looked_at(view: memoryview) -> Any:
    return view.format, view.shape, view.strides, view[1:].tolist(), view.readonly


def packed(array: Any) -> Any:
    struct.pack_into("d", array, 8, 5.0)
    return struct.unpack_from("d", array, 8), array.tolist()


def set_through(array: Any) -> Any:
    memoryview(array)[0] = 5.0
    return array.tolist()


def read_back(array: Any, target: Any) -> Any:
    file = io.BytesIO()
    file.write(array)
    file.seek(0)
    return file.readinto(target), target.tolist()


def are_one(pair: Any) -> bool:
    return pair[0] is pair[1]


def blob(a: Arrays) -> Any:
    with sqlite3.connect(":memory:") as base:
        base.execute("create table t (v blob, n real)")
        base.execute("insert into t values (?, ?)", (a([1.0, 2.0]), a([3.0])[0]))
        kept, number = base.execute("select * from t").fetchone()
    return a.np.frombuffer(kept).tolist(), number


def out_of_band(array: Any) -> Any:
    buffers: list[Any] = []
    data = pickle.dumps(array, 5, buffer_callback=buffers.append)
    assert len(buffers) == 1
    return pickle.loads(data, buffers=buffers)


works(
    "bytes(x), bytearray(x), x.tobytes()",
    lambda a: [bytes(a([1, 2], "i4")), bytes(bytearray(a([1.5, 2.0]))), a([1, 2]).tobytes()],
)
works("bytes(x.T), bytes(x[::2])", lambda a: [bytes(a.random(2, 3).T), bytes(a([1, 2, 3])[::2])])
works("memoryview(x): format, shape, slices", lambda a: looked_at(memoryview(a([1.0, 2.0]))))
works("memoryview(x)[0] = y", lambda a: set_through(a([1.0, 2.0])))
works(
    "struct.unpack('dd', x), pack_into, iter_unpack",
    lambda a: [
        struct.unpack("dd", a([1.0, 2.0])),
        packed(a([1.0, 2.0])),
        list(struct.iter_unpack("d", a([1.0, 2.0]))),
    ],
)
works(
    "hashlib, zlib, base64, binascii of x",
    lambda a: [
        hashlib.sha256(a([1, 2])).hexdigest(),
        zlib.crc32(a([1, 2])),
        zlib.decompress(zlib.compress(a([1, 2]))),
        base64.b64encode(a([1, 2])),
        binascii.hexlify(a([1, 2])),
    ],
)
works("file.write(x), readinto(x)", lambda a: read_back(a([1.0, 2.0]), a([0.0, 0.0])))
works(
    "array.array('d', x), x from array.array",
    lambda a: [
        arrays.array("d", a([1.0, 2.0])).tolist(),
        a.np.array(arrays.array("i", [1, 2])).tolist(),
    ],
)
works(
    "ctypes: x.ctypes.data_as, from_buffer(x)",
    lambda a: [
        a([1.0, 2.0]).ctypes.data_as(ctypes.POINTER(ctypes.c_double))[1],
        list((ctypes.c_double * 2).from_buffer(a([1.0, 2.0]))),
    ],
)
works("ctypeslib: as_array(x.ctypes.data_as(...))", lambda a: called(a([3, 1, 2], "i4")))
works(
    "ctypeslib: f(x) of argtypes ndpointer, as_ctypes(x)",
    lambda a: [zeroed(a([1.0, 2.0, 3.0])), pointed(a([1.0, 2.0]))],
)
works(
    "json.dumps(x): the same error",
    lambda a: [
        raised(lambda: json.dumps(a([1, 2]))),
        raised(lambda: json.dumps({"a": a([1.0])[0].astype("f4")})),
    ],
)
works(
    "json.dumps(x.tolist()), default=f",
    lambda a: [
        json.dumps(a([1.0, 2.0]).tolist()),
        json.dumps(a([[1, 2]]), default=lambda v: v.tolist()),
    ],
)
works(
    "csv.writer.writerows(x2d)",
    lambda a: through(lambda f: csv.writer(f).writerows(a([[1, 2], [3, 4]]))),
)
works("sqlite3: x as a blob, x[i] as a number", blob)
ours(
    "pickle, protocols 2 to 5",
    lambda a: [pickle.loads(pickle.dumps(a.random(3), p)) for p in range(2, 6)],
)
ours("pickle 5 out of band", lambda a: out_of_band(a.random(300)))
ours(
    "copy.copy(x), copy.deepcopy([x, x])",
    lambda a: [copy.copy(a.random(3)), *copy.deepcopy([a.random(3)] * 2)],
)
works("deepcopy([x, x]) is of one array", lambda a: are_one(copy.deepcopy([a([1.0])] * 2)))
works(
    "sum, max, min, sorted, any, all, len(x)",
    lambda a: [
        sum(a([1, 2])),
        max(a([1, 2])),
        min(a([1, 2])),
        sorted(a([2.0, 1.0])),
        any(a([0, 1])),
        all(a([0, 1])),
        len(a([1, 2])),
    ],
)
works(
    "zip, enumerate, reversed, map, a, *b = x",
    lambda a: [
        list(zip(a([1, 2]), a([3, 4]), strict=True)),
        list(enumerate(a([1.0]))),
        list(reversed(a([1, 2]))),
        list(map(float, a([1, 2]))),
        unpacked(a([1, 2, 3])),
    ],
)
works(
    "math.sqrt(x[i]), float, int, round, format",
    lambda a: [
        math.sqrt(a([4.0])[0]),
        float(a([2.5])[0]),
        int(a(3)),
        round(a([2.567])[0], 1),
        f"{a([1.5])[0]:.3f}",
        format(a(2.5), ".1f"),
    ],
)
works(
    "math.fsum, prod, hypot, dist(x, y)",
    lambda a: [
        math.fsum(a([0.1, 0.2])),
        math.prod(a([2, 3])),
        math.hypot(*a([3.0, 4.0])),
        math.dist(a([0.0, 0.0]), a([3.0, 4.0])),
    ],
)
works(
    "range(x[i]), [...][x[i]], '*' * x[i]",
    lambda a: [list(range(a([3])[0])), "abc"[a([1])[0]], "*" * a([2])[0]],
)
works(
    "random.choice(x), random.shuffle(x)",
    lambda a: [random.Random(0).choice(a([1, 2, 3])), shuffled(a([1, 2, 3, 4]))],
)
works(
    "statistics.mean(x), median",
    lambda a: [float(statistics.mean(a([1.0, 2.0]))), float(statistics.median(a([1.0, 2.0, 4.0])))],
)
works(
    "itertools.accumulate, product, chain",
    lambda a: [
        list(itertools.accumulate(a([1, 2]))),
        list(itertools.product(a([1, 2]), a([3]))),
        list(itertools.chain(a([1, 2]), a([3.0]))),
    ],
)
works(
    "operator.itemgetter, index(x[i]), Decimal",
    lambda a: [
        operator.itemgetter(1)(a([1, 2])),
        operator.index(a([3])[0]),
        str(decimal.Decimal(float(a([0.5])[0]))),
    ],
)
works("matched by [a, b]: the same, none", lambda a: matched(a([1, 2])))
works(
    "if x, x == y, x in [...]: the same errors",
    lambda a: [
        raised(lambda: bool(a([1, 2]))),
        raised(lambda: a([1, 2]) in [a([1, 3])]),
        raised(lambda: hash(a([1])))[0],
        raised(lambda: {a([1]): 1})[0],
    ],
)
works(
    "print, repr, str, f'{x}', pprint",
    lambda a: [
        repr(a.random(3)),
        str(a.random(2, 2)),
        f"{a([1, 2])}",
        f"{a([1, 2])!r:>20}",
        pprint.pformat([a([1, 2])]),
        through(lambda f: print(a([1, 2]), a([3.0])[0], file=f)),
    ],
)
ours(
    "ThreadPoolExecutor.map(f, rows of x)",
    lambda a: list(ThreadPoolExecutor(2).map(abs, list(a.normal(3, 4)))),
)


def called(array: Any) -> Any:
    pointer = array.ctypes.data_as(ctypes.POINTER(ctypes.c_int))
    return numpy.ctypeslib.as_array(pointer, (3,)).tolist()


def zeroed(array: Any) -> Any:
    """Hand an array to C by NumPy's type for that; refuse others as ever."""
    kind = numpy.ctypeslib.ndpointer(dtype=float, ndim=1, flags="C_CONTIGUOUS")
    with pytest.raises(TypeError, match="array must have data type float64"):
        kind.from_param(array.astype(int))
    address = ctypes.cast(ctypes.memset, ctypes.c_void_p).value
    made = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    clear = made(address or 0)
    clear.argtypes = [kind, ctypes.c_int, ctypes.c_size_t]
    clear(array, 0, 16)
    return array.tolist()


def pointed(array: Any) -> Any:
    shared = numpy.ctypeslib.as_ctypes(array)
    shared[1] = 7.0
    return type(shared).__name__, array.tolist()


def unpacked(array: Any) -> Any:
    first, *rest = array
    return first, rest


def shuffled(array: Any) -> Any:
    random.Random(0).shuffle(array)
    return array.tolist()


def matched(array: Any) -> str:
    match array:
        case [_, _]:
            return "a sequence"
        case _:
            return "none"


@python.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "u8"])
def test_bytes_of_an_integer_array_are_its_memory(dtype: str) -> None:
    array = np.arange(3, dtype=dtype)
    assert bytes(array) == numpy.arange(3, dtype=dtype).tobytes()
    assert bytes(array) != bytes(list(range(3))) or dtype == "u1"
