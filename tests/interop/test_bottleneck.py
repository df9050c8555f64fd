"""bottleneck of our arrays."""

from __future__ import annotations

from typing import Any

from neighbours import Arrays, Call, Neighbour, load

bn = load("bottleneck")
bottleneck = Neighbour("bottleneck")


def gapped(a: Arrays) -> Any:
    return a([3.0, 1.0, float("nan"), 2.0])


bottleneck.works(
    "nansum, nanmean, nanmedian, nanstd(x)",
    lambda a: [f(gapped(a)) for f in (bn.nansum, bn.nanmean, bn.nanmedian, bn.nanstd)],
)
bottleneck.numpys(
    "rankdata, nanrankdata, push(x)",
    lambda a: [f(gapped(a)) for f in (bn.rankdata, bn.nanrankdata, bn.push)],
)
bottleneck.numpys(
    "move_mean, move_sum, move_max(x, 2)",
    lambda a: [f(a.random(9), 2) for f in (bn.move_mean, bn.move_sum, bn.move_max)],
)


@bottleneck.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
