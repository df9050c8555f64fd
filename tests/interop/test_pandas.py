"""pandas with our arrays: construction, masks, assignment, grouping, merging."""

from __future__ import annotations

from typing import Any

import numpy

import dispatcharr as np
from neighbours import Arrays, Call, Neighbour, load

pd = load("pandas")
pandas = Neighbour("pandas")
works, numpys = pandas.works, pandas.numpys


def frame(array: Arrays) -> Any:
    return pd.DataFrame({"a": array([1.0, 2.0, 3.0]), "b": array([3, 1, 2])})


def assigned(array: Arrays, where: Any, value: Any) -> Any:
    made = frame(array)
    made.loc[where, "a"] = value
    return made


def column(array: Arrays) -> Any:
    made = frame(array)
    made["c"] = array([7, 8, 9])
    return made.assign(d=array([True, False, True]))


def updated(array: Arrays) -> Any:
    made = pd.Series([1.0, 2.0, 3.0])
    made.update(pd.Series(array([7.0, 8.0])))
    return made


T, F = True, False
works("Series(x)", lambda a: pd.Series(a.random(5)))
works("Series(x, index=y)", lambda a: pd.Series(a([1, 2]), index=a([5, 6]))[6])
works("Series(x2d)", lambda a: raised(lambda: pd.Series(a.random(2, 2)), ValueError))
works("DataFrame(x2d)", lambda a: pd.DataFrame(a.random(3, 2), columns=["a", "b"]))
works("DataFrame({'a': x})", frame)
works(
    "Index(x), MultiIndex.from_arrays",
    lambda a: [pd.Index(a([1, 2])), pd.MultiIndex.from_arrays([a([1, 2]), a([3, 4])]).tolist()],
)
works(
    "Series(x, index=[y, z]), DataFrame(x2d, columns=[y, z])",
    lambda a: [
        pd.Series(a.random(2), index=[a([1, 2]), a(["a", "b"])]),
        pd.DataFrame(a.random(3, 2), columns=[a([1, 2]), a(["a", "b"])]),
    ],
)
works("Index(x).get_indexer(y)", lambda a: pd.Index(a([3, 1])).get_indexer(a([1, 5])).tolist())
works(
    "DatetimeIndex(x), to_datetime(x)",
    lambda a: [
        repr(made(a(["2020-01-01", "NaT"], "M8[ns]")).tolist())
        for made in (pd.DatetimeIndex, pd.to_datetime)
    ],
)
works("Categorical(x)", lambda a: pd.Categorical(a([2, 1, 2])).codes.tolist())
works("s.iloc[mask]", lambda a: pd.Series([10, 20, 30]).iloc[a([T, F, T])])
works("s.iloc[x]", lambda a: pd.Series([10, 20, 30]).iloc[a([2, 0])])
works("s[mask]", lambda a: pd.Series([10, 20, 30])[a([T, F, T])])
works("s.loc[mask]", lambda a: pd.Series([10, 20, 30]).loc[a([T, F, T])])
works("df[mask]", lambda a: frame(a)[a([T, F, T])])
works("df.loc[mask, 'a'] = y", lambda a: assigned(a, a([T, F, T]), a([5.0, 6.0])))
works("df['c'] = x, df.assign", column)
works("df.iloc[mask, x]", lambda a: frame(a).iloc[a([T, F, T]), a([1])])
works(
    "s.where(mask), s.mask(mask)",
    lambda a: [pd.Series([1.0, 2.0]).where(a([T, F])), pd.Series([1, 2]).mask(a([T, F]), 0)],
)
works(
    "s + x, x + s",
    lambda a: [pd.Series([1.0, 2.0]) + a([1.0, 2.0]), a([1.0, 2.0]) + pd.Series([1.0, 2.0])],
)
works("s * x, x < s", lambda a: [pd.Series([1, 2]) * a([1.5, 2.0]), a([1, 3]) < pd.Series([2, 2])])
works(
    "df + x, x + df, df @ x2d",
    lambda a: [frame(a) + a([1, 2]), a([1, 2]) + frame(a), frame(a) @ a.random(2, 2)],
)
works(
    "x2d + df, np.add(df, x2d)",
    lambda a: [a.random(3, 2) + frame(a), a.np.add(frame(a), a.random(3, 2))],
)
works(
    "df + x2d, df < x2d, df * one row",
    lambda a: [frame(a) + a.random(3, 2), frame(a) < a.random(3, 2), frame(a) * a.random(1, 2)],
)
works(
    "np.sin(s), np.add(x, s)",
    lambda a: [a.np.sin(pd.Series([1.0, 2.0])), a.np.add(a([1.0, 2.0]), pd.Series([1, 2]))],
)
works("s.isin(x)", lambda a: pd.Series([1, 2, 3]).isin(a([1, 3])))
works(
    "s.map(f), s.apply(f) of Series(x)",
    lambda a: [
        pd.Series(a([1, 2])).map(lambda v: v * 2),
        pd.Series(a([1, 2])).apply(lambda v: v + 1),
    ],
)
works("s.searchsorted(x)", lambda a: pd.Series([1, 3, 5]).searchsorted(a([2, 6])).tolist())
works(
    "s.update(Series(x)), Series(x).replace",
    lambda a: [updated(a), pd.Series(a([1.0, 2.0])).replace(1.0, 5.0)],
)
works("concat of Series(x)", lambda a: pd.concat([pd.Series(a([1, 2])), pd.Series(a([3]))]))
works(
    "merge on columns of ours",
    lambda a: frame(a).merge(pd.DataFrame({"b": a([1, 2]), "z": a([8, 9])}), on="b"),
)
works(
    "merge(left_on=x, right_on=y)",
    lambda a: frame(a).merge(frame(a), left_on=a([1, 2, 3]), right_on=a([3, 2, 1])),
)
works("groupby(column of ours)", lambda a: frame(a).groupby("b").a.sum())
works("groupby(Series(x))", lambda a: frame(a).groupby(pd.Series(a([0, 0, 1]))).sum())
works("groupby([x])", lambda a: frame(a).groupby([a([0, 0, 1])]).sum())
works("groupby(x)", lambda a: frame(a).groupby(a([0, 0, 1])).sum())
works(
    "groupby([x, y]), groupby(strings), groupby(dates)",
    lambda a: [
        frame(a).groupby([a([0, 0, 1]), a([True, True, False])]).sum(),
        frame(a).groupby(a(["u", "v", "u"])).sum(),
        frame(a).groupby(a(["2020", "2021", "2020"], "M8[ns]")).sum(),
    ],
)
works("s.groupby(x).transform", lambda a: frame(a).b.groupby(a([1, 0, 1])).transform("sum"))
works("df.set_index(x)", lambda a: frame(a).set_index(a([4, 5, 6])))
works(
    "pivot_table, crosstab(x, y)",
    lambda a: [
        frame(a).pivot_table(values="a", index="b"),
        pd.crosstab(a([0, 1, 1]), a([1, 1, 0])),
    ],
)
works(
    "cut(x, bins), qcut",
    lambda a: [
        pd.cut(a([1.0, 5.0]), a([0.0, 2.0, 9.0])).codes.tolist(),
        pd.qcut(a([1.0, 2.0]), 2).codes.tolist(),
    ],
)
works("get_dummies(x)", lambda a: pd.get_dummies(a([1, 2, 1])))
works("Series(x).rolling(2).mean()", lambda a: pd.Series(a.random(6)).rolling(2).mean())
works(
    "Series(x).describe(), .quantile",
    lambda a: [pd.Series(a.random(6)).describe(), pd.Series(a.random(6)).quantile(0.3)],
)
works("df.sort_values, .reindex(x)", lambda a: frame(a).sort_values("b").reindex(a([2, 0])))
works("df.to_csv, df.to_dict", lambda a: [frame(a).to_csv(), frame(a).to_dict()])
works(
    "testing.assert_series_equal",
    lambda a: pd.testing.assert_series_equal(pd.Series(a([1.0])), pd.Series([1.0])),
)
works("df.isna(), df.notna()", lambda a: [frame(a).isna(), frame(a).notna()])
works(
    "df.query, df.eval with @x",
    lambda a: [
        frame(a).query("b in @x", local_dict={"x": a([1, 2])}),
        frame(a).eval("a + @x", local_dict={"x": a([1.0, 2.0, 3.0])}),
    ],
)
numpys("Series(x).to_numpy(), .values", lambda a: pd.Series(a.random(5)).to_numpy())
numpys("np.asarray(Series(x))", lambda a: numpy.asarray(pd.Series(a.random(5))))
numpys(
    "unique(x), factorize(x)", lambda a: [pd.unique(a([2, 1, 2])), pd.factorize(a([2, 1, 2]))[0]]
)
numpys(
    "isna(x), notna(x)",
    lambda a: [pd.isna(a([1.0, numpy.nan])), pd.notna(a([1.0, numpy.nan]))],
)


def raised(call: Any, *kinds: type[Exception]) -> str:
    try:
        call()
    except kinds as error:
        return type(error).__name__
    return "nothing raised"


@pandas.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


def test_iloc_with_our_boolean_mask_takes_what_is_true() -> None:
    taken = pd.Series([10, 20, 30]).iloc[np.array([True, False, True])]
    assert taken.tolist() == [10, 30]


def test_a_series_is_not_changed_through_the_array_it_was_made_from() -> None:
    array = np.array([1.0, 2.0])
    series, typed = pd.Series(array), pd.Series(array, dtype="float64")
    array[0] = 9
    assert series.tolist() == typed.tolist() == [1.0, 2.0]


def test_an_index_is_not_changed_through_the_array_it_was_made_from() -> None:
    for values, other in (([1.0, 2.0], 9.0), (numpy.array(["2020-01-01"], "M8[ns]"), "2021-01-01")):
        array = np.array(values)
        index = pd.Index(array)
        before = index.tolist()
        array[0] = other
        assert index.tolist() == before
