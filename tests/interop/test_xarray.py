"""xarray with our arrays inside: duck arrays, which stay what they are."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy
import pytest

import dispatcharr as np
from dispatcharr.expr.nodes import Node
from neighbours import Arrays, Call, Neighbour, load

xr = load("xarray")
xarray = Neighbour("xarray")
works, ours, numpys = xarray.works, xarray.ours, xarray.numpys


def table(a: Arrays, seed: int = 0) -> Any:
    return xr.DataArray(
        a.random(6, 4, seed=seed),
        dims=("t", "x"),
        coords={"t": numpy.arange(6), "x": [10.0, 20.0, 30.0, 40.0]},
        name="v",
    )


def dated(a: Arrays) -> Any:
    days = numpy.arange("2020-01-01", "2020-01-07", dtype="M8[D]").astype("M8[ns]")
    return table(a).assign_coords(t=days)


def gapped(a: Arrays) -> Any:
    return table(a).where(table(a) > 0.3)


ours("DataArray(x).data", lambda a: table(a).data)
ours(
    "d + 1, d * d, -d, d > 0, np.sin(d)",
    lambda a: [
        (table(a) + 1).data,
        (table(a) * table(a)).data,
        (-table(a)).data,
        (table(a) > 0.5).data,
        a.np.sin(table(a)).data,
    ],
)
ours("d + x, x + d", lambda a: [(table(a) + a.random(6, 4)).data, (a.random(6, 4) + table(a)).data])
ours(
    "d.mean('t'), .sum('x'), .std('t'), .max('x')",
    lambda a: [
        table(a).mean("t").data,
        table(a).sum("x").data,
        table(a).std("t").data,
        table(a).max("x").data,
    ],
)
works("float(d.mean())", lambda a: float(table(a).mean()))
ours(
    "d.mean('t', skipna=b) with gaps, .count('t')",
    lambda a: [
        gapped(a).mean("t", skipna=True).data,
        gapped(a).mean("t", skipna=False).data,
        gapped(a).count("t").data,
    ],
)
ours(
    "d.median('t'), .quantile(0.3, 't')",
    lambda a: [table(a).median("t").data, table(a).quantile(0.3, "t").data],
)
ours("d.argmax('t')", lambda a: table(a).argmax("t").data)
works("d.idxmax('t')", lambda a: table(a).idxmax("t").data.tolist())
ours(
    "d.cumsum('t'), .diff('t')",
    lambda a: [table(a).cumsum("t").data, table(a).diff("t").data],
)
ours(
    "d.isel, .sel, d[1:3], .loc",
    lambda a: [
        table(a).isel(t=2).data,
        table(a).sel(x=20.0).data,
        table(a)[1:3].data,
        table(a).loc[1:3].data,
    ],
)
ours(
    "d.sel(x=..., method='nearest')", lambda a: table(a).sel(x=[12.0, 31.0], method="nearest").data
)
ours(
    "d.isel(t=[0, 2]), d[mask]",
    lambda a: [
        table(a).isel(t=[0, 2]).data,
        table(a)[a([True, False, True, False, True, True])].data,
    ],
)
ours("d.where(d > 0.3), .fillna(0)", lambda a: [gapped(a).data, gapped(a).fillna(0).data])
ours(
    "xr.where(d > 0.5, d, 0), d.clip",
    lambda a: [xr.where(table(a) > 0.5, table(a), 0).data, table(a).clip(0.2, 0.6).data],
)
ours(
    "concat, merge, combine_first",
    lambda a: [
        xr.merge([table(a), table(a, 1).rename("w")]).w.data,
        xr.concat([table(a), table(a, 1)], "t").data,
        table(a).combine_first(table(a, 1)).data,
    ],
)
ours(
    "d.groupby('k').mean()",
    lambda a: table(a).assign_coords(k=("t", [0, 0, 1, 1, 0, 1])).groupby("k").mean().data,
)
ours("d.coarsen(t=2).sum()", lambda a: table(a).coarsen(t=2).sum().data)
ours("d.resample(t='2D').mean()", lambda a: dated(a).resample(t="2D").mean().data)
ours("d.rolling(t=2).mean()", lambda a: table(a).rolling(t=2).mean().data)
ours(
    "d.stack, .unstack, .transpose, .T",
    lambda a: [
        table(a).stack(s=("t", "x")).data,
        table(a).stack(s=("t", "x")).unstack("s").data,
        table(a).transpose("x", "t").data,
        table(a).T.data,
    ],
)
ours("d.dot(e), xr.dot", lambda a: table(a).dot(table(a, 1), dim="x").data)
numpys("d.interp(x=[15.0, 25.0])", lambda a: table(a).interp(x=[15.0, 25.0]).data)
ours(
    "d.differentiate('x'), .integrate('x')",
    lambda a: [table(a).differentiate("x").data, table(a).integrate("x").data],
)
ours(
    "d.pad, d.shift, d.roll",
    lambda a: [table(a).shift(t=1).data, table(a).roll(t=1).data, table(a).pad(t=1).data],
)
ours(
    "d.sortby, .astype, .round, .isnull",
    lambda a: [
        table(a).sortby("x", ascending=False).data,
        table(a).astype("f4").data,
        table(a).round(1).data,
        table(a).isnull().data,
    ],
)
ours(
    "broadcast, align, reindex",
    lambda a: [
        xr.align(table(a), table(a, 1)[1:3])[0].data,
        xr.broadcast(table(a), table(a).mean("x"))[1].data,
        table(a).reindex(x=[10.0, 15.0]).data,
    ],
)
ours("apply_ufunc(f, d)", lambda a: xr.apply_ufunc(lambda x: x * 2, table(a)).data)
ours(
    "apply_ufunc(f, d, input_core_dims)",
    lambda a: xr.apply_ufunc(lambda x: x.mean(axis=-1), table(a), input_core_dims=[["x"]]).data,
)
numpys(
    "apply_ufunc(f, d, vectorize=True)",
    lambda a: (
        xr.apply_ufunc(lambda x: x.mean(), table(a), input_core_dims=[["x"]], vectorize=True).data
    ),
)
ours(
    "xr.corr, xr.cov, d.weighted(w).mean('t')",
    lambda a: [
        xr.cov(table(a), table(a, 1), "t").data,
        xr.corr(table(a), table(a, 1), "t").data,
        table(a).weighted(table(a, 1)).mean("t").data,
    ],
)
ours("d[...] = y, d += 1", lambda a: changed(table(a)))
ours(
    "Dataset: mean, to_array, assign",
    lambda a: xr.Dataset({"v": table(a)}).assign(w=table(a) * 2).mean("t").to_array().data,
)
works(
    "d.equals, identical, testing.assert_allclose",
    lambda a: [
        table(a).equals(table(a)),
        table(a).identical(table(a, 1)),
        xr.testing.assert_allclose(table(a), table(a)),
    ],
)
works(
    "repr(d), d._repr_html_()",
    lambda a: "0.6370" in repr(table(a).round(4)) and "<div>" in table(a)._repr_html_(),
)
works(
    "d.to_dataframe(), .to_series()",
    lambda a: [table(a).to_dataframe(), table(a).to_series()],
)
numpys(
    "d.values, d.to_numpy(), numpy.asarray(d)",
    lambda a: [table(a).values, table(a).to_numpy(), numpy.asarray(table(a))],
)
works("repr(Dataset of d)", lambda a: repr(xr.Dataset({"one": table(a), "two": table(a, 1)})))
works("d.to_dict(), d[1, 2].item()", lambda a: [table(a).to_dict()["data"], table(a)[1, 2].item()])
ours(
    "d.copy(deep=True), pickle of d",
    lambda a: [table(a).copy(deep=True).data, pickle.loads(pickle.dumps(table(a))).data],
)
ours(
    "coords from ours: assign_coords(y=('t', x))",
    lambda a: table(a).assign_coords(y=("t", a.random(6))).y.data,
)
numpys("index coords from ours", lambda a: table(a).assign_coords(t=a([5, 6, 7, 8, 9, 10])).t.data)
ours(
    "d.isel(t=DataArray(i), x=DataArray(j))",
    lambda a: (
        table(a).isel(t=xr.DataArray([0, 1], dims="p"), x=xr.DataArray([1, 2], dims="p")).data
    ),
)
works("d.to_netcdf(engine='scipy')", lambda a: len(table(a).to_netcdf(engine="scipy")))
numpys("d.to_netcdf(engine='netcdf4'), open_dataarray", lambda a: stored(table(a)))


def stored(made: Any) -> Any:
    load("netCDF4")
    with tempfile.TemporaryDirectory() as folder:
        made.to_netcdf(Path(folder, "f.nc"), engine="netcdf4")
        with xr.open_dataarray(Path(folder, "f.nc"), engine="netcdf4") as read:
            return read.values


def changed(made: Any) -> Any:
    made[1] = 5.0
    made.loc[{"x": 20.0}] = 7.0
    made += 1
    return made.data


@xarray.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


def test_operations_wait_inside() -> None:
    with np.dispatch_options(defer="always"):
        made = xr.DataArray(np.arange(6)) * 2 + 1
        assert type(made.data._value) is Node
        assert made.data.tolist() == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize("engine", ["scipy", "h5netcdf", "netcdf4"])
def test_files_hold_what_was_computed(engine: str, tmp_path: Path) -> None:
    load({"scipy": "scipy.io", "h5netcdf": "h5netcdf", "netcdf4": "netCDF4"}[engine])
    made = table(Arrays(np)) * 2
    made.to_netcdf(tmp_path / "f.nc", engine=engine)
    with xr.open_dataarray(tmp_path / "f.nc", engine=engine) as read:
        numpy.testing.assert_array_equal(read.values, made.values)
