"""netCDF4, which writes NumPy's own arrays and makes them of what is assigned."""

from __future__ import annotations

from typing import Any

from neighbours import Arrays, Call, Neighbour, load

nc = load("netCDF4")
netcdf4 = Neighbour("netCDF4")


def variable(a: Arrays, write: Any) -> Any:
    with nc.Dataset("interop.nc", "w", diskless=True, persist=False) as file:
        file.createDimension("t", 4)
        made = file.createVariable("v", "f8", ("t",))
        write(made, a)
        return made[:].tolist()


def assigned(made: Any, a: Arrays) -> None:
    made[...] = a.random(4)
    made[1:3] = a([5, 6])[::-1]
    made[3] = a([7.0])[0]
    made[:] = a(made[:].tolist()) * 2


def called(made: Any, x: Any) -> None:
    made.__setitem__(slice(None), x)


def attribute(made: Any, a: Arrays) -> None:
    made[:] = a([1.0, 2.0, 3.0, 4.0]).tolist()
    made.valid_range = a([0.0, 9.0])


netcdf4.works("v[:] = x, v[1:3] = x, v[...] = x", lambda a: variable(a, assigned))
netcdf4.refused(
    "v.__setitem__(slice, x)",
    lambda a: variable(a, lambda v, a: called(v, a.random(4))),
    TypeError,
    note="`v[:] = x` works",
)
netcdf4.works("v[:] = x.tolist(), v.valid_range = x", lambda a: variable(a, attribute))
netcdf4.works(
    "v[i] = x[0]",
    lambda a: variable(a, lambda v, a: v.__setitem__(slice(None), float(a.random(4)[0]))),
)


@netcdf4.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
