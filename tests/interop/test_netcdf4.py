"""netCDF4, which writes NumPy's own arrays only."""

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


def attribute(made: Any, a: Arrays) -> None:
    made[:] = a([1.0, 2.0, 3.0, 4.0]).tolist()
    made.valid_range = a([0.0, 9.0])


netcdf4.refused(
    "v[:] = x",
    lambda a: variable(a, lambda v, a: v.__setitem__(slice(None), a.random(4))),
    TypeError,
)
netcdf4.works("v[:] = x.tolist(), v.valid_range = x", lambda a: variable(a, attribute))
netcdf4.works(
    "v[i] = x[0]",
    lambda a: variable(a, lambda v, a: v.__setitem__(slice(None), float(a.random(4)[0]))),
)


@netcdf4.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
