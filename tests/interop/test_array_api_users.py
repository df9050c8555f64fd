"""scipy and scikit-learn by the array API: in processes of their own, which are told to use it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

from neighbours import NUMPYS, OURS, WORKS, Call, Neighbour, load

load("scipy")
by_standard = Neighbour("scipy, SCIPY_ARRAY_API=1", "scipy")
dispatched = Neighbour("scikit-learn, array_api_dispatch=True", "scikit-learn")

#: What each expression gives, run in one process for each library; `n` is of NumPy.
SCIPY = {
    "stats.pearsonr(x, y).statistic": WORKS,
    "stats.ttest_ind(x, y).pvalue": WORKS,
    "stats.pearsonr(x, n).statistic": WORKS,
    "stats.spearmanr(x, y).pvalue": WORKS,
    "stats.kurtosis(x)": WORKS,
    "stats.zscore(x)": OURS,
    "stats.skew(x)": WORKS,
    "stats.differential_entropy(x)": OURS,
    "special.logsumexp(x)": WORKS,
    "special.erf(x)": OURS,
    "fft.fft(x)": OURS,
    "fft.dct(x)": OURS,
    "linalg.det(m)": WORKS,
    "linalg.solve(m, v)": NUMPYS,
    "linalg.svd(m)[1]": NUMPYS,
    "signal.convolve(x, y)": OURS,
    "signal.detrend(x)": OURS,
    "ndimage.gaussian_filter(m, 1)": OURS,
    "spatial.distance.cdist(m, m)": NUMPYS,
    "cluster.vq.whiten(m)": OURS,
    "integrate.simpson(x)": WORKS,
    "integrate.trapezoid(x)": OURS,
    "interpolate.RegularGridInterpolator((v, v), m)(m[:, :2] / 2)": OURS,
    "signal.filtfilt(*signal.butter(2, 0.3), np.concat([x, x, x]))": NUMPYS,
    "signal.lfilter([1.0], [1.0, -0.5], x)": NUMPYS,
    "sparse.linalg.cg(m @ m.T, v)[0]": NUMPYS,
}
SKLEARN = {
    "linear_model.Ridge(solver='svd').fit(m, v).predict(m)": OURS,
    "preprocessing.StandardScaler().fit_transform(m)": OURS,
    "preprocessing.MinMaxScaler().fit_transform(m)": OURS,
    "preprocessing.MaxAbsScaler().fit_transform(m)": OURS,
    "decomposition.PCA(2, svd_solver='full').fit_transform(m)": OURS,
    "discriminant_analysis.LinearDiscriminantAnalysis().fit(w, c).predict(w)": OURS,
    "metrics.mean_squared_error(v, v * 2)": WORKS,
    "metrics.accuracy_score(c, c)": WORKS,
    "metrics.pairwise.cosine_similarity(m)": OURS,
    "model_selection.train_test_split(m, random_state=0)[0]": OURS,
    "linear_model.LinearRegression().fit(m, v).predict(m)": OURS,
}
PROGRAM = """
    import importlib, json, sys, warnings
    warnings.simplefilter("ignore")
    import numpy, dispatcharr
    top, expressions = json.loads(sys.argv[1])
    def parts(np):
        rng = numpy.random.default_rng(0)
        m = np.asarray(rng.random((3, 3)) + 2 * numpy.eye(3))
        return dict(np=np, x=np.asarray(rng.random(8)), y=np.asarray(rng.random(8)), m=m,
                    v=np.asarray([0.0, 1.0, 2.0]), w=np.asarray(rng.random((12, 2))),
                    c=np.asarray([0, 1] * 6), n=numpy.arange(8.0))
    class Names(dict):
        def __missing__(self, name):
            return importlib.import_module(f"{top}.{name}")
    for name in ("spatial.distance", "cluster.vq", "metrics.pairwise", "sparse.linalg"):
        try: importlib.import_module(f"{top}.{name}")
        except ImportError: pass
    if top == "sklearn":
        import sklearn
        sklearn.set_config(array_api_dispatch=True)
    found = {}
    for text in expressions:
        wanted = eval(text, {}, Names(parts(numpy)))
        try:
            got = eval(text, {}, Names(parts(dispatcharr)))
        except Exception as error:
            found[text] = f"{type(error).__name__}: {error}"
            continue
        a, b = numpy.asarray(got), numpy.asarray(wanted)
        same = a.shape == b.shape and a.dtype == b.dtype and numpy.allclose(a, b, 1e-8, 1e-8)
        kind = type(got).__module__.partition(".")[0]
        kind = "works" if isinstance(got, (numpy.generic, float)) else kind
        found[text] = kind if same else f"differs: {got} {wanted}"
    print(json.dumps(found))
"""
KINDS = {OURS: "dispatcharr", NUMPYS: "numpy", WORKS: "works"}


def outcomes(top: str, table: dict[str, str]) -> dict[str, str]:
    import json

    made = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), json.dumps([top, list(table)])],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


for _library, _table in ((by_standard, SCIPY), (dispatched, SKLEARN)):
    for _text, _result in _table.items():
        _library.calls.append(Call(_text, _result, lambda array: None))


def judged(found: dict[str, str], table: dict[str, str]) -> dict[str, Any]:
    wrong = {}
    for text, result in table.items():
        if found[text] != KINDS[result]:
            wrong[text] = found[text]
    return wrong


def test_scipy_keeps_our_arrays() -> None:
    assert judged(outcomes("scipy", SCIPY), SCIPY) == {}


def test_scikit_learn_keeps_our_arrays() -> None:
    load("sklearn")
    assert judged(outcomes("sklearn", SKLEARN), SKLEARN) == {}
