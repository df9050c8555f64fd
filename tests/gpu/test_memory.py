"""Arrays whose memory is on the device are arrays like all others, and are moved when needed only.

What is moved is read off the device's counters.
"""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy
import pytest

import dispatcharr as np
from answers import mode, ours
from on_device import VIRTUAL, on_device
from samples import filled

pytestmark = pytest.mark.gpu

SIZE = 4000


@pytest.fixture
def values() -> numpy.ndarray:
    return numpy.random.default_rng(1).random(SIZE)


def away(values: numpy.ndarray) -> Any:
    """Return an array of these values that a kernel has just written on the device."""
    with on_device():
        return np.evaluate(ours(values) * 1.0)


@contextmanager
def moving(device: Any) -> Iterator[dict[str, int]]:
    """Tell what is moved inside the block."""
    before = dict(device.counters)
    found: dict[str, int] = {}
    yield found
    device.synchronize()
    found.update({name: device.counters[name] - before[name] for name in before})


def test_operands_are_moved_once(device: Any, values: numpy.ndarray) -> None:
    x, y = ours(values), ours(values + 1)
    with moving(device) as first, on_device():
        np.evaluate(x + y)
    with moving(device) as second, on_device():
        np.evaluate(x * y)
    assert first["to_device_bytes"] >= 2 * values.nbytes
    assert second["to_device_bytes"] == second["to_host_bytes"] == 0
    assert second["launches"] == 1


def test_what_waits_is_looked_at_and_copied_on_the_device(
    device: Any, values: numpy.ndarray
) -> None:
    x = ours(values)
    with on_device():
        np.evaluate(x + 1)
        gc.collect()
        with moving(device) as look:
            assert (x * 3)[5] == values[5] * 3
        with moving(device) as copying:
            y = (x + 2).copy()
    assert look["to_host_bytes"] == values.itemsize
    assert copying["to_host_bytes"] == 0
    assert numpy.array_equal(y, values + 2)


def test_results_stay_until_they_are_looked_at(device: Any, values: numpy.ndarray) -> None:
    x = ours(values)
    with on_device():
        np.evaluate(x + 1)
    with moving(device) as chain, on_device():
        y = np.evaluate(x + 1)
        z = np.evaluate(y * x)
    assert chain["to_device_bytes"] == chain["to_host_bytes"] == 0
    with moving(device) as look:
        assert numpy.array_equal(z.to_numpy(), (values + 1) * values)
        assert numpy.array_equal(z.to_numpy(), (values + 1) * values)
    assert look["to_host_bytes"] <= values.nbytes + 64


def test_views_move_nothing(device: Any, values: numpy.ndarray) -> None:
    x = away(values)
    with moving(device) as moved, on_device():
        found = np.evaluate(x[1:] - x[:-1], x.reshape(40, 100).T * 2, x[::-3] + 0)
    assert moved["to_device_bytes"] == moved["to_host_bytes"] == 0
    wanted = values[1:] - values[:-1], values.reshape(40, 100).T * 2, values[::-3] + 0
    for mine, theirs in zip(found, wanted, strict=True):
        assert numpy.array_equal(mine.to_numpy(), theirs)


def test_a_constant_is_no_copy(device: Any, values: numpy.ndarray) -> None:
    x = away(values)
    with on_device():
        np.evaluate(x * 2.5)
    with moving(device) as moved, on_device():
        np.evaluate(x * 3.5)
    assert moved["to_device"] == 0


READERS: dict[str, Callable[[Any, Any], Any]] = {
    "asarray": lambda use, x: numpy.asarray(x).copy(),
    "item": lambda use, x: x[17].item(),
    "tolist": lambda use, x: x.tolist(),
    "repr": lambda use, x: repr(numpy.asarray(x)),
    "iteration": lambda use, x: [float(one) for one in x[:5]],
    "float": lambda use, x: float(x[3]),
    "truth": lambda use, x: bool((x >= 0).all()),
    "sort": lambda use, x: use.sort(x),
    "concatenate": lambda use, x: use.concatenate([x, x[:3]]),
    "take": lambda use, x: x[[3, 1, 2]],
    "mask": lambda use, x: x[x > 0.5],
    "copy": lambda use, x: x.copy(),
    "copy module": lambda use, x: copy.deepcopy(x),
    "pickle": lambda use, x: pickle.loads(pickle.dumps(x)),
    "tobytes": lambda use, x: x.tobytes(),
    "view": lambda use, x: x.view("i8"),
    "real": lambda use, x: x.real,
    "flat": lambda use, x: list(x.flat[:4]),
    "dot": lambda use, x: use.round(x.dot(x), 6),
    "cumsum": lambda use, x: use.cumsum(x),
    "fft": lambda use, x: use.round(abs(use.fft.rfft(x)), 6),
    "percentile": lambda use, x: use.percentile(x, 30),
    "diff": lambda use, x: use.diff(x),
    "memoryview": lambda use, x: bytes(memoryview(numpy.asarray(x))),
    "astype": lambda use, x: x.astype("f4"),
    "out": lambda use, x: use.add(x, 1, out=use.zeros(SIZE)),
    "reduceat": lambda use, x: use.add.reduceat(x, [0, 7]),
}


@pytest.mark.parametrize("name", READERS)
def test_whatever_looks_at_it_sees_its_values(name: str, values: numpy.ndarray) -> None:
    found, wanted = READERS[name](np, away(values)), READERS[name](numpy, values)
    assert numpy.array_equal(numpy.asarray(found), numpy.asarray(wanted))


def test_it_is_saved_as_it_is(values: numpy.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, away(values))
    file.seek(0)
    assert numpy.array_equal(numpy.load(file), values)


WRITERS: dict[str, Callable[[Any], None]] = {
    "element": lambda x: x.__setitem__(5, 9.0),
    "slice": lambda x: x.__setitem__(slice(3, 9), -1.0),
    "steps": lambda x: x.__setitem__(slice(None, None, 7), 2.5),
    "array": lambda x: x.__setitem__(slice(10, 20), x[100:110]),
    "mask": lambda x: x.__setitem__(x > 0.5, 0.0),
    "places": lambda x: x.__setitem__([1, 2, 1], [5.0, 6.0, 7.0]),
    "fill": lambda x: x.fill(3.0),
    "sort": lambda x: x.sort(),
    "add": lambda x: x.__iadd__(1.5),
    "expression": lambda x: x.__setitem__(slice(1, -1), 0.5 * (x[2:] + x[:-2])),
    "shifted": lambda x: x.__setitem__(slice(1, None), x[:-1]),
    "reversed": lambda x: x.__setitem__(slice(None), x[::-1]),
    "part": lambda x: x[1:-1].__iadd__(0.25 * (x[:-2] - 2 * x[1:-1] + x[2:])),
    "put": lambda x: x.put([4, 5], [1.0, 2.0]),
    "flat": lambda x: x.flat.__setitem__(11, 4.0),
}


@pytest.mark.parametrize("outside", [False, True], ids=["on the device", "on the host"])
@pytest.mark.parametrize("name", WRITERS)
def test_writes(name: str, outside: bool, values: numpy.ndarray) -> None:
    """Written by either side, it is read by the other, and so are its views."""
    mine, theirs = away(values), values.copy()
    view = mine[::2]
    with mode("serial" if outside else "cuda", "deferred"):
        WRITERS[name](mine)
    WRITERS[name](theirs)
    with on_device():
        after = np.evaluate(mine + 1, view * 2)
    assert numpy.array_equal(after[0].to_numpy(), theirs + 1)
    assert numpy.array_equal(after[1].to_numpy(), theirs[::2] * 2)
    assert numpy.array_equal(mine.to_numpy(), theirs)
    assert numpy.array_equal(view.to_numpy(), theirs[::2])


def test_what_waits_has_the_values_of_before_a_write(values: numpy.ndarray) -> None:
    x = away(values)
    with on_device():
        y = x * 2
        x[:] = 0.0
        np.evaluate(y)
    assert numpy.array_equal(y.to_numpy(), values * 2)
    assert not x.to_numpy().any()


@pytest.mark.parametrize("way", ["deferred", "at once"])
def test_results_into_given_memory(way: str, values: numpy.ndarray) -> None:
    x, target = away(values), ours(numpy.zeros(SIZE + 8))
    with mode("cuda", way):
        np.multiply(x, 3, out=target[4:-4])
        np.add(x, x, out=x)
    wanted = numpy.zeros(SIZE + 8)
    wanted[4:-4] = values * 3
    assert numpy.array_equal(target.to_numpy(), wanted)
    assert numpy.array_equal(x.to_numpy(), values * 2)


def test_memory_that_others_see_is_never_out_of_date(values: numpy.ndarray) -> None:
    x = away(values)
    seen = numpy.asarray(x)
    with mode("cuda", "deferred"):
        x += 1
        assert numpy.array_equal(seen, values + 1)
        seen[:] = 5.0
        assert numpy.array_equal(np.evaluate(x * 2).to_numpy(), numpy.full(SIZE, 10.0))


def test_memory_of_others_is_read_as_it_is_now() -> None:
    theirs = numpy.ones(SIZE)
    x = np.asarray(theirs)
    with mode("cuda", "deferred"):
        first = np.evaluate(x + 1).to_numpy().copy()
        theirs[:] = 7.0
        second = np.evaluate(x + 1).to_numpy()
    assert (first == 2).all()
    assert (second == 8).all()


def test_memory_is_given_back(device: Any) -> None:
    size = 1 << (16 if VIRTUAL else 22)
    with on_device():
        x = np.evaluate(ours(numpy.ones(size)) + 1)
        del x
        gc.collect()
        device.synchronize()
        before = device.memory_info()[0]
        for _ in range(50):
            x = np.evaluate(ours(numpy.ones(size)) + 1)
        del x
        gc.collect()
        device.synchronize()
    assert device.memory_info()[0] >= before - 4 * 8 * size


def test_threads(values: numpy.ndarray) -> None:
    """Each with arrays of its own and one that all read."""
    shared = away(values)

    def work(number: int) -> bool:
        x = np.array(values + number)
        with mode("cuda", "deferred"):
            for _ in range(20):
                x = np.evaluate(x * 0.5 + shared)
        wanted = values + number
        for _ in range(20):
            wanted = wanted * 0.5 + values
        return numpy.array_equal(x.to_numpy(), wanted)

    with ThreadPoolExecutor(4) as crew:
        assert all(crew.map(work, range(8)))


STATEMENTS: tuple[Callable[[Any, dict[str, Any]], None], ...] = (
    lambda use, v: v.update(a=v["a"] + v["b"]),
    lambda use, v: v.update(b=use.sqrt(abs(v["a"])) * 0.5),
    lambda use, v: v.update(c=v["a"] - v["c"]),
    lambda use, v: v["a"].__imul__(0.5),
    lambda use, v: v["b"].__setitem__(slice(1, -1), v["b"][2:] - v["b"][:-2]),
    lambda use, v: v["c"].__setitem__(slice(None, None, 2), v["a"][::2]),
    lambda use, v: v["a"].__setitem__(slice(0, 50), v["a"][50:100]),
    lambda use, v: v["a"].__setitem__(7, v["b"][8]),
    lambda use, v: v.update(a=v["c"][::-1].copy()),
    lambda use, v: v.update(d=v["b"]),
    lambda use, v: v["d"].__iadd__(1.0),
    lambda use, v: v.update(b=use.where(v["a"] > v["b"], v["a"], v["c"])),
    lambda use, v: v.update(c=v["c"] / (1.0 + abs(v["c"]))),
    lambda use, v: v["c"].sort(),
    lambda use, v: v.update(s=(v["a"] * v["b"]).max()),
    lambda use, v: v["b"].__setitem__(v["b"] > 2.0, 0.25),
    lambda use, v: v.update(d=use.concatenate([v["a"][:100], v["b"][100:]])),
    lambda use, v: v.update(c=v["c"].reshape(10, -1).T.copy().reshape(-1)),
)  # fmt: skip


@pytest.mark.parametrize("way", ["at once", "deferred"])
@pytest.mark.parametrize("seed", range(4 if VIRTUAL else 25))
def test_programs_that_change_places(seed: int, way: str) -> None:
    """Statements in any order, each on another backend than the one before."""
    draw = numpy.random.default_rng(seed)
    size = (200, 3000)[seed % 2]  # views of small memory are not counted: it has other rules
    theirs: dict[str, Any] = {name: filled("d", size, i) for i, name in enumerate("abcd")}
    theirs = {name: numpy.nan_to_num(x, nan=1, posinf=3, neginf=-3) for name, x in theirs.items()}
    theirs = {name: numpy.clip(x, -9, 9) for name, x in theirs.items()}
    mine: dict[str, Any] = {name: ours(x) for name, x in theirs.items()}
    done = []
    for _ in range(15 if VIRTUAL else 40):
        number = int(draw.integers(len(STATEMENTS)))
        backend = str(draw.choice(["cuda", "cuda", "serial", "threads"]))
        done.append((number, backend))
        with numpy.errstate(all="ignore"):
            STATEMENTS[number](numpy, theirs)
        with np.errstate(all="ignore"), mode(backend, way):
            STATEMENTS[number](np, mine)
            if draw.random() < 0.3:
                name = str(draw.choice(list("abcd")))
                assert numpy.array_equal(mine[name].to_numpy(), theirs[name]), (name, done)
    for name, wanted in theirs.items():
        assert numpy.array_equal(numpy.asarray(mine[name]), wanted), (name, done)
