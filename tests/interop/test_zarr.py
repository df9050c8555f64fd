"""zarr with our arrays: written, read, chosen from, as attributes."""

from __future__ import annotations

from typing import Any

from neighbours import Arrays, Call, Neighbour, load

za = load("zarr")
zarr = Neighbour("zarr")
works, ours, numpys = zarr.works, zarr.ours, zarr.numpys


def stored(a: Arrays) -> Any:
    made = za.create_array(store={}, shape=(6, 4), chunks=(3, 2), dtype="f8")
    made[...] = a.random(6, 4)
    return made


def changed(a: Arrays) -> Any:
    made = stored(a)
    made[1:3] = a.random(2, 4, seed=1)
    made.oindex[[0, 4], :] = a.random(2, 4, seed=2)
    made.set_mask_selection(made[...] > 0.9, 0.0)
    return made[...].tolist()


def appended(a: Arrays) -> Any:
    made = stored(a)
    made.append(a.random(2, 4))
    return made.shape


def described(a: Arrays) -> Any:
    group = za.create_group(store={})
    group.attrs["bounds"] = a([1, 2]).tolist()
    group.create_array("d", data=a.random(3))
    return group["d"][...].tolist(), dict(group.attrs)


works("za[...] = x, za[1:3] = x, za.oindex", changed)
works("array(x), group.create_array(data=x)", described)
works("za.append(x)", appended)
numpys(
    "za[...], za[mask], za.vindex[x, y]",
    lambda a: [
        stored(a)[...],
        stored(a).vindex[a([0, 1]), a([1, 2])],
        stored(a).oindex[a([0, 2]), :],
    ],
)
ours(
    "np.asarray(za), x * za[...]",
    lambda a: [a.np.asarray(stored(a)), a.random(6, 4) * stored(a)[...]],
)


@zarr.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
