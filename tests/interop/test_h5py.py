"""h5py with our arrays: datasets, attributes, selections."""

from __future__ import annotations

from typing import Any

from neighbours import Arrays, Call, Neighbour, load

h5 = load("h5py")
h5py = Neighbour("h5py")
works, ours, numpys, refused = h5py.works, h5py.ours, h5py.numpys, h5py.refused


def within(use: Any) -> Any:
    def body(a: Arrays) -> Any:
        with (
            h5.File.in_memory()
            if hasattr(h5.File, "in_memory")
            else h5.File("interop.h5", "w", driver="core", backing_store=False) as file
        ):
            return use(file, a)

    return body


def values(file: Any, name: str = "d") -> Any:
    return str(file[name].dtype), file[name][()].tolist()


works(
    "create_dataset(data=x), file['d'] = x",
    within(
        lambda f, a: [
            values_after(f, f.create_dataset("d", data=a.random(3, 2))),
            put(f, a.random(4)),
        ]
    ),
)
works(
    "create_dataset(data=x, chunks, compression)",
    within(
        lambda f, a: values_after(
            f, f.create_dataset("d", data=a.random(8, 8), chunks=(4, 4), compression="gzip")
        )
    ),
)
works(
    "d[...] = x, d[1:3] = x, d[0] = x[0]",
    within(lambda f, a: written(f.create_dataset("d", (4,), "f8"), a)),
)
works("d[[0, 2]] = x", within(lambda f, a: chosen(f.create_dataset("d", (4,), "f8"), a)))
works(
    "attrs['a'] = x",
    within(lambda f, a: (f.attrs.__setitem__("a", a([1, 2, 3])), f.attrs["a"].tolist())[1]),
)
works(
    "d[i] of an array of indices",
    within(lambda f, a: f.create_dataset("d", data=a.random(5))[a([0, 2])].tolist()),
)
numpys(
    "d[mask], d[mask of rows], d[mask, 1]",
    within(
        lambda f, a: [
            f.create_dataset("d", data=a.random(3))[a([True, False, True])],
            f.create_dataset("e", data=a.random(2, 2))[a([[True, False], [True, True]])],
            f["e"][a([True, False])],
            f["e"][a([True, False]), 1],
        ]
    ),
)
refused(
    "d.read_direct(x)",
    within(lambda f, a: read(f.create_dataset("d", data=a.random(3)), a([0.0, 0.0, 0.0]))),
    TypeError,
)
refused(
    "d.write_direct(x)",
    within(lambda f, a: write(f.create_dataset("d", data=a.random(3)), a.random(3))),
    TypeError,
)
ours(
    "np.asarray(d), np.array(d)",
    within(lambda f, a: a.np.asarray(f.create_dataset("d", data=a.random(3)))),
)
numpys("d[...], d[1:2]", within(lambda f, a: f.create_dataset("d", data=a.random(3))[...]))
ours("x + d[...]", within(lambda f, a: a.random(3) + f.create_dataset("d", data=a.random(3))[...]))


def values_after(file: Any, _: Any) -> Any:
    return values(file)


def put(file: Any, array: Any) -> Any:
    file["e"] = array
    return values(file, "e")


def written(data: Any, a: Arrays) -> Any:
    data[...] = a.random(4)
    data[1:3] = a([5.0, 6.0])
    data[0] = a([7.0])[0]
    return data[()].tolist()


def chosen(data: Any, a: Arrays) -> Any:
    data[[0, 2]] = a([1.0, 2.0])
    return data[()].tolist()


def read(data: Any, array: Any) -> Any:
    data.read_direct(array)
    return array.tolist()


def write(data: Any, array: Any) -> Any:
    data.write_direct(array)
    return data[()].tolist()


@h5py.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
