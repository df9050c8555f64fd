"""pyarrow with our arrays."""

from __future__ import annotations

import numpy

from neighbours import Call, Neighbour, given, load

pa = load("pyarrow")
pyarrow = Neighbour("pyarrow")
works, ours, refused = pyarrow.works, pyarrow.ours, pyarrow.refused
works(
    "array(x), array(x, type)",
    lambda a: [pa.array(a.random(3)).tolist(), pa.array(a([1, 2]), pa.int8()).tolist()],
)
works(
    "array(x, from_pandas=True)",
    lambda a: pa.array(a([1.0, float("nan")]), from_pandas=True).tolist(),
)
works(
    "array(x, mask=numpy.asarray(y))",
    lambda a: pa.array(a([1, 2]), mask=numpy.asarray(a([True, False]))).tolist(),
)
refused(
    "array(x, mask=y)",
    given(lambda a: a([True, False]), lambda y: pa.array(y, mask=y).tolist()),
    TypeError,
)
works(
    "array(strings), array(dates)",
    lambda a: [pa.array(a(["a", "b"])).tolist(), pa.array(a(["2020-01-01"], "M8[s]")).tolist()],
)
works(
    "table({'a': x}), chunked_array([x])",
    lambda a: [pa.table({"a": a([1, 2])}).to_pydict(), pa.chunked_array([a([1.0])]).to_pylist()],
)
works("py_buffer(x)", lambda a: pa.py_buffer(a([1, 2])).to_pybytes())
works("compute.sum(array(x))", lambda a: load("pyarrow.compute").sum(pa.array(a([1, 2]))).as_py())
refused(
    "Tensor.from_numpy(x)",
    given(lambda a: a.random(2, 2), lambda x: pa.Tensor.from_numpy(x).shape),
    TypeError,
)
ours("np.asarray(array)", lambda a: a.np.asarray(pa.array([1, 2])))


@pyarrow.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
