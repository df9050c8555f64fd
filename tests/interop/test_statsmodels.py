"""statsmodels with our arrays."""

from __future__ import annotations

from neighbours import Call, Neighbour, load

sm = load("statsmodels.api")
statsmodels = Neighbour("statsmodels")
statsmodels.numpys(
    "OLS(y, add_constant(x)).fit().params",
    lambda a: sm.OLS(a.random(20), sm.add_constant(a.random(20, 2, seed=1))).fit().params,
)
statsmodels.numpys(
    "GLM(y, x).fit(), predict(x)",
    lambda a: sm.GLM(a.random(20), a.random(20, 2, seed=1)).fit().predict(a.random(3, 2)),
    rtol=1e-7,
)
statsmodels.works(
    "Logit(y, x).fit().aic",
    lambda a: sm.Logit(a([0, 1, 1, 0] * 5), a.random(20, 2)).fit(disp=0).aic,
    rtol=1e-7,
)
statsmodels.numpys(
    "tsa.acf(x), nonparametric.lowess(y, x)",
    lambda a: [
        sm.tsa.acf(a.random(20), nlags=3),
        sm.nonparametric.lowess(a.random(20), a.random(20, seed=1)),
    ],
)


@statsmodels.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
