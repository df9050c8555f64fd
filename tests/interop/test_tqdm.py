"""tqdm over our arrays."""

from __future__ import annotations

import io
from typing import Any

from neighbours import Call, Neighbour, load

bar = load("tqdm").tqdm
tqdm = Neighbour("tqdm")
tqdm.works("for v in tqdm(x)", lambda a: list(bar(a([1.0, 2.0]), file=io.StringIO())))
tqdm.works("tqdm(x).total", lambda a: bar(a.random(5, 2), file=io.StringIO()).total)
tqdm.ours("for row in tqdm(x2d)", lambda a: list(bar(a.random(3, 2), file=io.StringIO())))
tqdm.works("tqdm(total=x[i]), update(x[i])", lambda a: updated(a([5])[0], a([2])[0]))


def updated(total: Any, by: Any) -> Any:
    shown = bar(total=total, file=io.StringIO())
    shown.update(by)
    return shown.n


@tqdm.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
