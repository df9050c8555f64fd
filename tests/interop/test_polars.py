"""polars with our arrays: through Arrow's stream, with pyarrow's help."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from neighbours import Call, Neighbour, load

pl = load("polars")
load("pyarrow")
polars = Neighbour("polars")
works, ours, refused = polars.works, polars.ours, polars.refused


def values(series: Any) -> Any:
    return str(series.dtype), series.to_list()


works(
    "Series(x), Series('a', x)",
    lambda a: [values(pl.Series(a([1.0, 2.0]))), values(pl.Series("a", a([1, 2], "i4")))],
)
works(
    "Series of strings, dates, bools",
    lambda a: [values(pl.Series(a(v))) for v in (["a", "b"], [True, False])],
)
works("DataFrame({'a': x})", lambda a: pl.DataFrame({"a": a([1.0, 2.0])}).to_dict(as_series=False))
works(
    "df.with_columns(Series(x)), filter(Series(mask))",
    lambda a: (
        pl.DataFrame({"a": a([1, 2])}).filter(pl.Series(a([True, False]))).to_dict(as_series=False)
    ),
)
works("s.filter(mask)", lambda a: values(pl.Series([1, 2]).filter(a([True, False]))))
refused("DataFrame(x2d), Series(x2d)", lambda a: pl.DataFrame(a.random(2, 2)).shape, TypeError)
refused("s + x, s[x], lit(x)", lambda a: values(pl.Series([1.0, 2.0]) + a([1.0, 2.0])), TypeError)
ours("np.asarray(series), np.sin(np.asarray(s))", lambda a: a.np.asarray(pl.Series([1.0, 2.0])))


@polars.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


def test_without_pyarrow_the_error_says_what_to_do() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import polars, dispatcharr as np\n"
        "try: polars.Series(np.ones(2))\n"
        "except TypeError as error: print(error)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "install it, or pass numpy.asarray(x)" in made.stdout
