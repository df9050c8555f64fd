"""polars with our arrays: through Arrow's stream, with pyarrow's help."""

from __future__ import annotations

from typing import Any

from neighbours import Call, Neighbour, load

pl = load("polars")
load("pyarrow")
polars = Neighbour("polars")
works, ours = polars.works, polars.ours


def values(series: Any) -> Any:
    return str(series.dtype), series.to_list()


works(
    "Series(x), Series('a', x)",
    lambda a: [values(pl.Series(a([1.0, 2.0]))), values(pl.Series("a", a([1, 2], "i4")))],
)
works(
    "Series of strings, dates, bools",
    lambda a: [
        values(pl.Series(a(v, t)))
        for v, t in ((["a", "b"], "U"), (["2020-01-01", "NaT"], "M8[D]"), ([True, False], "?"))
    ],
)
works("DataFrame({'a': x})", lambda a: pl.DataFrame({"a": a([1.0, 2.0])}).to_dict(as_series=False))
works(
    "df.with_columns(b=x), df.filter(mask), df[x]",
    lambda a: [
        pl.DataFrame({"a": [1, 2]}).with_columns(b=a([3.0, 4.0])).to_dict(as_series=False),
        pl.DataFrame({"a": a([1, 2])}).filter(a([True, False])).to_dict(as_series=False),
        pl.DataFrame({"a": [1, 2]})[a([1, 0])].to_dict(as_series=False),
    ],
)
works("s.filter(mask)", lambda a: values(pl.Series([1, 2]).filter(a([True, False]))))
works(
    "DataFrame(x2d), Series(x2d)",
    lambda a: [pl.DataFrame(a.random(3, 2)).rows(), values(pl.Series(a.random(3, 2)))],
)
works(
    "s + x, x * s, s < x, s @ x",
    lambda a: [
        values(pl.Series([1.0, 2.0]) + a([1.0, 2.0])),
        values(a([1.0, 2.0]) * pl.Series([1.0, 2.0])),
        values(pl.Series([1.0, 2.0]) < a([1.0, 3.0])),
        pl.Series([1.0, 2.0]) @ a([1.0, 3.0]),
    ],
)
works(
    "s[x], s[x] = y, s.is_in(x)",
    lambda a: [
        values(pl.Series([5, 6, 7])[a([2, 0])]),
        values(changed(pl.Series([5.0, 6.0, 7.0]), a([2, 0]))),
        values(pl.Series([5, 6, 7]).is_in(a([5, 7]))),
    ],
)
works(
    "lit(x), col('a') + x",
    lambda a: [
        pl.select(pl.lit(a([1.0, 2.0]))).rows(),
        pl.DataFrame({"a": [1.0, 2.0]}).select(pl.col("a") + a([3.0, 4.0])).rows(),
    ],
)
ours("np.asarray(s)", lambda a: a.np.asarray(pl.Series([1.0, 2.0])))


def changed(series: Any, where: Any) -> Any:
    series[where] = 9.0
    return series


@polars.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
