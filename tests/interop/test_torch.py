"""torch with our arrays: both ways, by DLPack and by its own conversions."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy
import pytest

import dispatcharr as np
from neighbours import Call, Neighbour, given, load

th = load("torch")
torch = Neighbour("torch")
works, ours, numpys, refused = torch.works, torch.ours, torch.numpys, torch.refused


def values(tensor: Any) -> Any:
    return str(tensor.dtype), tuple(tensor.shape), tensor.tolist()


works("from_dlpack(x)", lambda a: values(th.from_dlpack(a.random(3, 2))))
works(
    "as_tensor(x)", lambda a: [values(th.as_tensor(a.random(3))), values(th.as_tensor(a([1, 2])))]
)
refused(
    "asarray(x)",
    given(lambda a: a.random(3), lambda x: values(th.asarray(x))),
    RuntimeError,
    note="or `torch.from_dlpack(x)`",
)
works(
    "tensor(x), tensor(x2d, dtype=...)",
    lambda a: [
        values(th.tensor(a([1.0, 2.0]))),
        values(th.tensor(a.random(2, 2), dtype=th.float32)),
    ],
)
works(
    "tensor([x, y]), stack",
    lambda a: [
        values(th.tensor([a([1.0, 2.0]), a([3.0, 4.0])])),
        values(th.stack([th.as_tensor(a.random(2))] * 2)),
    ],
)
refused(
    "from_numpy(x)",
    given(lambda a: a.random(3), lambda x: values(th.from_numpy(x))),
    TypeError,
)
works("frombuffer(x)", lambda a: values(th.frombuffer(a([1.0, 2.0]), dtype=th.float64)))
works(
    "t + x, t * x",
    lambda a: [values(th.ones(2) + a([1.0, 2.0])), values(th.ones(2) * a([1.0, 2.0]))],
)
works(
    "t[x], t[mask]",
    lambda a: [values(th.arange(3)[a([2, 0])]), values(th.arange(3)[a([True, False, True])])],
)
works("t[0] = x[1], t.fill_(x.sum())", lambda a: values(filled(a([1.0, 2.0]))))
ours("np.from_dlpack(t)", lambda a: a.np.from_dlpack(th.arange(3)))
ours(
    "np.asarray(t), np.array(t)", lambda a: [a.np.asarray(th.arange(3)), a.np.array(th.ones(2, 2))]
)
ours(
    "np.sin(np.asarray(t)), x + t.numpy()",
    lambda a: [a.np.sin(a.np.asarray(th.ones(2))), a([1.0, 2.0]) + th.ones(2).numpy()],
)
works(
    "TensorDataset of as_tensor(x)",
    lambda a: len(th.utils.data.TensorDataset(th.as_tensor(a.random(4, 2)))),
)
works(
    "DataLoader of as_tensor(row)",
    lambda a: [
        values(v)
        for v in th.utils.data.DataLoader([th.as_tensor(r) for r in a.random(4, 2)], batch_size=2)
    ],
)
works(
    "DataLoader of rows of x2d, of (row, number)",
    lambda a: [
        [values(v) for v in th.utils.data.DataLoader(list(a.random(4, 2)), batch_size=2)],
        [
            [values(part) for part in v]
            for v in th.utils.data.DataLoader(
                list(zip(a.random(4, 2), a([1, 2, 3, 4]), strict=True)), 2
            )
        ],
    ],
)
works("nn.Linear(...)(from_dlpack(x))", lambda a: values(applied(a.random(3, 2))))
works("save, load of as_tensor(x)", lambda a: values(kept(th.as_tensor(a.random(2)))))


def kept(tensor: Any) -> Any:
    file = io.BytesIO()
    th.save(tensor, file)
    file.seek(0)
    return th.load(file)


def filled(array: Any) -> Any:
    tensor = th.zeros(2, dtype=th.float64)
    tensor[0] = array[1]
    return tensor.fill_(array.sum())


def applied(array: Any) -> Any:
    layer = th.nn.Linear(2, 1, dtype=th.float64)
    th.nn.init.ones_(layer.weight)
    th.nn.init.zeros_(layer.bias)
    return layer(th.from_dlpack(array))


@torch.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


@pytest.mark.parametrize("convert", [th.from_dlpack, th.as_tensor])
def test_memory_is_shared_and_what_waits_is_safe(convert: Any) -> None:
    array = np.arange(5000.0)
    with np.dispatch_options(defer="always"):
        tensor = convert(array)
        doubled = array * 2
        tensor[0] = 9
        assert doubled[0] == 0
        assert array[0] == 9
        back = np.from_dlpack(tensor)
        back[1] = 7
        assert array[1] == tensor[1] == 7


def test_dtypes_cross_both_ways() -> None:
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32",
                 "float64", "complex64", "complex128"):  # fmt: skip
        array = np.ones(3, name)
        tensor = th.from_dlpack(array)
        assert str(tensor.dtype) == f"torch.{name}"
        assert np.from_dlpack(tensor).dtype == array.dtype == numpy.dtype(name)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "call",
    [
        lambda x: th.asarray(x),
        lambda x: th.asarray(x, dtype=th.float64),
        lambda x: list(map(th.asarray, [x])),
    ],
)
def test_asarray_never_takes_our_numbers_for_bytes(call: Any) -> None:
    """It reads whatever has a buffer as float32, arrays of NumPy's aside."""
    with pytest.warns(UserWarning, match="call torch.from_dlpack"), pytest.raises(RuntimeError):
        call(np.array([1.0, 2.0]))


def test_those_who_want_bytes_get_them() -> None:
    array = np.zeros(2)
    assert io.BytesIO(numpy.array([3.0, 4.0]).tobytes()).readinto(array) == 16
    assert array.tolist() == [3.0, 4.0]
    struct.pack_into("d", array, 0, 5.0)
    assert array[0] == 5
    assert th.frombuffer(array, dtype=th.float64).tolist() == [5.0, 4.0]
