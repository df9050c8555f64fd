"""numexpr of our arrays."""

from __future__ import annotations

from neighbours import Call, Neighbour, load

ne = load("numexpr")
numexpr = Neighbour("numexpr")
numexpr.numpys(
    "evaluate('x * 2 + y')",
    lambda a: ne.evaluate("x * 2 + y", {"x": a.random(5), "y": a.random(5)}),
)
numexpr.works("evaluate('sum(x)')", lambda a: float(ne.evaluate("sum(x)", {"x": a.random(5)})))


@numexpr.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
