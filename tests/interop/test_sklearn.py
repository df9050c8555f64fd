"""scikit-learn with our arrays: it fits and predicts on NumPy's, as it does for everybody."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from neighbours import Arrays, Call, Neighbour, load

for _name in (
    "cluster", "compose", "decomposition", "ensemble", "feature_selection", "gaussian_process",
    "impute", "kernel_ridge", "linear_model", "manifold", "metrics", "model_selection",
    "naive_bayes", "neighbors", "neural_network", "pipeline", "preprocessing", "svm", "tree",
):  # fmt: skip
    load(f"sklearn.{_name}")
sk = load("sklearn")
sklearn = Neighbour("scikit-learn")
works, ours, numpys = sklearn.works, sklearn.ours, sklearn.numpys


def data(a: Arrays) -> tuple[Any, Any, Any]:
    """Return samples, numbers to regress on, and classes."""
    samples = a.random(40, 3)
    return samples, samples @ a([1.0, -2.0, 0.5]), a([0, 1, 2, 1] * 10)


REGRESSORS = {
    "LinearRegression": lambda: sk.linear_model.LinearRegression(),
    "Ridge": lambda: sk.linear_model.Ridge(),
    "Lasso": lambda: sk.linear_model.Lasso(0.01),
    "SVR": lambda: sk.svm.SVR(),
    "KNeighborsRegressor": lambda: sk.neighbors.KNeighborsRegressor(),
    "DecisionTreeRegressor": lambda: sk.tree.DecisionTreeRegressor(random_state=0),
    "GradientBoostingRegressor": lambda: sk.ensemble.GradientBoostingRegressor(
        n_estimators=5, random_state=0
    ),
    "GaussianProcessRegressor": lambda: sk.gaussian_process.GaussianProcessRegressor(
        optimizer=None
    ),
    "KernelRidge": lambda: sk.kernel_ridge.KernelRidge(),
    "MLPRegressor": lambda: sk.neural_network.MLPRegressor(
        hidden_layer_sizes=5, max_iter=5, random_state=0
    ),
}
CLASSIFIERS = {
    "LogisticRegression": lambda: sk.linear_model.LogisticRegression(),
    "SVC": lambda: sk.svm.SVC(),
    "KNeighborsClassifier": lambda: sk.neighbors.KNeighborsClassifier(),
    "RandomForestClassifier": lambda: sk.ensemble.RandomForestClassifier(5, random_state=0),
    "HistGradientBoostingClassifier": lambda: sk.ensemble.HistGradientBoostingClassifier(
        max_iter=3, random_state=0
    ),
    "GaussianNB": lambda: sk.naive_bayes.GaussianNB(),
    "SGDClassifier": lambda: sk.linear_model.SGDClassifier(random_state=0),
}


def predicted(make: Any, target: int) -> Any:
    return lambda a: make().fit(data(a)[0], data(a)[target]).predict(a.random(5, 3, seed=1))


for _target, _table in ((1, REGRESSORS), (2, CLASSIFIERS)):
    for _name, _make in _table.items():
        numpys(f"{_name}.fit(x, y).predict(z)", predicted(_make, _target), rtol=1e-6)
numpys(
    "predict_proba, decision_function",
    lambda a: [
        getattr(sk.linear_model.LogisticRegression().fit(data(a)[0], data(a)[2]), n)(a.random(5, 3))
        for n in ("predict_proba", "decision_function")
    ],
    rtol=1e-6,
)
works(
    "score(x, y), sample_weight=w",
    lambda a: (
        sk.linear_model.Ridge()
        .fit(data(a)[0], data(a)[1], sample_weight=a.random(40))
        .score(*data(a)[:2])
    ),
)
numpys(
    "SGDRegressor.partial_fit(x, y)",
    lambda a: sk.linear_model.SGDRegressor(random_state=0).partial_fit(*data(a)[:2]).coef_,
)
numpys(
    "KMeans, DBSCAN.fit(x).labels_",
    lambda a: [
        sk.cluster.KMeans(3, n_init=1, random_state=0).fit(data(a)[0]).labels_,
        sk.cluster.DBSCAN(0.3).fit(data(a)[0]).labels_,
    ],
)
numpys(
    "PCA, TruncatedSVD, NMF.fit_transform(x)",
    lambda a: [
        abs(sk.decomposition.PCA(2).fit_transform(data(a)[0])),
        abs(sk.decomposition.TruncatedSVD(2, random_state=0).fit_transform(data(a)[0])),
        sk.decomposition.NMF(2, init="nndsvda", max_iter=2000).fit_transform(data(a)[0]),
    ],
    rtol=1e-7,
)
numpys(
    "StandardScaler, MinMaxScaler, RobustScaler",
    lambda a: [
        getattr(sk.preprocessing, n)().fit_transform(data(a)[0])
        for n in ("StandardScaler", "MinMaxScaler", "RobustScaler")
    ],
)
numpys(
    "PolynomialFeatures, OneHotEncoder, LabelEncoder",
    lambda a: [
        sk.preprocessing.PolynomialFeatures(2).fit_transform(data(a)[0]),
        sk.preprocessing.OneHotEncoder(sparse_output=False).fit_transform(
            data(a)[2].reshape(-1, 1)
        ),
        sk.preprocessing.LabelEncoder().fit_transform(data(a)[2]),
    ],
)
numpys(
    "SimpleImputer, KNNImputer",
    lambda a: [
        made.fit_transform(a([[1.0, float("nan")], [2.0, 3.0]]))
        for made in (sk.impute.SimpleImputer(), sk.impute.KNNImputer())
    ],
)
numpys(
    "SelectKBest, VarianceThreshold",
    lambda a: [
        sk.feature_selection.SelectKBest(k=2).fit_transform(data(a)[0], data(a)[2]),
        sk.feature_selection.VarianceThreshold(0.05).fit_transform(data(a)[0]),
    ],
)
numpys(
    "make_pipeline(...).fit(x, y).predict",
    lambda a: (
        sk.pipeline.make_pipeline(
            sk.preprocessing.StandardScaler(), sk.decomposition.PCA(2), sk.linear_model.Ridge()
        )
        .fit(*data(a)[:2])
        .predict(data(a)[0])
    ),
    rtol=1e-7,
)
ours(
    "make_column_transformer(...).fit_transform(x2d)",
    lambda a: sk.compose.make_column_transformer(
        (sk.preprocessing.StandardScaler(), [0]), remainder="passthrough"
    ).fit_transform(data(a)[0]),
)
numpys(
    "FunctionTransformer(np.log1p)",
    lambda a: a.np.asarray(
        sk.preprocessing.FunctionTransformer(a.np.log1p).fit_transform(data(a)[0])
    ).__array__(),
)
ours(
    "train_test_split(x, y)",
    lambda a: sk.model_selection.train_test_split(*data(a)[:2], random_state=0),
)
numpys(
    "KFold.split(x), StratifiedKFold.split(x, y)",
    lambda a: [
        i
        for made in (sk.model_selection.KFold(2), sk.model_selection.StratifiedKFold(2))
        for pair in made.split(data(a)[0], data(a)[2])
        for i in pair
    ],
)
numpys(
    "cross_val_score, cross_val_predict",
    lambda a: [
        sk.model_selection.cross_val_score(sk.linear_model.Ridge(), *data(a)[:2], cv=3),
        sk.model_selection.cross_val_predict(sk.linear_model.Ridge(), *data(a)[:2], cv=3),
    ],
    rtol=1e-7,
)
works(
    "GridSearchCV(n_jobs=2).fit(x, y)",
    lambda a: (
        sk.model_selection.GridSearchCV(
            sk.linear_model.Ridge(), {"alpha": [0.1, 1.0]}, cv=2, n_jobs=2
        )
        .fit(*data(a)[:2])
        .best_params_
    ),
)
works(
    "GridSearchCV(Ridge(), {'alpha': x})",
    lambda a: (
        sk.model_selection.GridSearchCV(sk.linear_model.Ridge(), {"alpha": a([0.1, 1.0])})
        .fit(*data(a)[:2])
        .best_params_
    ),
)
works(
    "metrics: accuracy_score, f1_score, roc_auc_score, r2_score, log_loss",
    lambda a: [
        sk.metrics.accuracy_score(a([1, 0, 1]), a([1, 1, 1])),
        sk.metrics.f1_score(a([1, 0, 1]), a([1, 1, 1])),
        sk.metrics.roc_auc_score(a([1, 0, 1]), a([0.9, 0.2, 0.4])),
        sk.metrics.r2_score(a([1.0, 2.0]), a([1.0, 2.5])),
        sk.metrics.log_loss(a([1, 0, 1]), a([0.9, 0.2, 0.4])),
    ],
)
numpys(
    "confusion_matrix, pairwise_distances, rbf_kernel",
    lambda a: [
        sk.metrics.confusion_matrix(a([1, 0]), a([1, 1])),
        sk.metrics.pairwise_distances(data(a)[0]),
        sk.metrics.pairwise.rbf_kernel(data(a)[0]),
    ],
)
numpys(
    "utils.check_array(x), check_X_y(x, y)",
    lambda a: [
        sk.utils.check_array(a.random(3, 2)),
        *sk.utils.check_X_y(a.random(3, 2), a([0, 1, 2])),
    ],
)
ours(
    "utils.shuffle(x), resample(x)",
    lambda a: [f(a.random(6, 2), random_state=0) for f in (sk.utils.shuffle, sk.utils.resample)],
)
works(
    "clone(KMeans(init=x)), pickle of Ridge().fit(x, y)",
    lambda a: [
        sk.base.clone(sk.cluster.KMeans(2, init=a.random(2, 3))).get_params()["n_clusters"],
        pickle.loads(pickle.dumps(sk.linear_model.Ridge().fit(*data(a)[:2]))).score(*data(a)[:2]),
    ],
)


@sklearn.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


def test_a_sample_of_another_shape_is_refused_as_ever() -> None:
    a = Arrays(load("dispatcharr"))
    model = sk.linear_model.Ridge().fit(*data(a)[:2])
    with pytest.raises(ValueError, match="has 2 features"):
        model.predict(a.random(5, 2))
