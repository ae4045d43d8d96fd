"""scikit-learn's checks of estimators, and the manners that its pipelines need."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import lowland

from conftest import clusters

sklearn = pytest.importorskip("sklearn")

ESTIMATORS = {
    "UMAP": lambda: lowland.UMAP(n_epochs=5),
    "LargeVis": lambda: lowland.LargeVis(n_epochs=5),
    "InfoTSNE": lambda: lowland.InfoTSNE(n_epochs=5, n_negatives=10),
    "TSNE": lambda: lowland.TSNE(n_epochs=5),
    "PaCMAP": lambda: lowland.PaCMAP(n_epochs=9),
    "SNE": lambda: lowland.SNE(n_epochs=5),
    "ExactTSNE": lambda: lowland.ExactTSNE(n_epochs=5),
    "TSNEkhorn": lambda: lowland.TSNEkhorn(n_epochs=5),
    "COSNE": lambda: lowland.COSNE(n_epochs=5),
    "AffinityMatcher": lambda: lowland.AffinityMatcher(n_epochs=5),
    "PHATE": lambda: lowland.PHATE(n_epochs=5),
    "PCA": lambda: lowland.PCA(),
    "IncrementalPCA": lambda: lowland.IncrementalPCA(),
    "ExactIncrementalPCA": lambda: lowland.ExactIncrementalPCA(),
    "KernelPCA": lambda: lowland.KernelPCA(),
}

#: Checks that an estimator cannot pass, with the reason.
EXPECTED: dict[str, dict[str, str]] = {
    "TSNE": dict.fromkeys(
        [
            "check_dont_overwrite_parameters",
            "check_methods_sample_order_invariance",
            "check_methods_subset_invariance",
            "check_fit2d_1feature",
            "check_fit2d_predict1d",
        ],
        "these ask for n_components=1, and the repulsion by FFT is that of a plane: TSNE makes 2 components",
    ),
    "ExactIncrementalPCA": dict.fromkeys(
        ["check_fit_score_takes_y", "check_n_features_in_after_fitting"],
        "partial_fit is the second of two passes, and refuses a batch before partial_mean had all of them",
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_check_estimator(name):
    from sklearn.utils.estimator_checks import check_estimator

    expected = EXPECTED.get(name, {})
    with warnings.catch_warnings():
        # "does not inherit from BaseEstimator": lowland does without importing scikit-learn.
        warnings.simplefilter("ignore")
        results = check_estimator(ESTIMATORS[name](), expected_failed_checks=expected, on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed, "\n".join(f"{check}: {error!r}" for check, error in failed.items())
    assert sum(r["status"] == "passed" for r in results) >= 33
    xfailed = {r["check_name"] for r in results if r["status"] == "xfail"}
    assert xfailed == set(expected), "an expected failure passes, or is not there"


def test_pipelines_and_clones(same):
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = clusters()
    line = make_pipeline(StandardScaler(), lowland.PCA(4), lowland.UMAP(n_epochs=20))
    found = line.fit_transform(rows)
    assert found.shape == (300, 2)
    assert list(line.get_feature_names_out()) == ["umap0", "umap1"]
    model = clone(line[-1]).set_params(n_neighbors=5)
    assert model.n_neighbors == 5 and not hasattr(model, "embedding_")
    assert same(clone(line).fit_transform(rows), found)


def test_the_error_of_an_unfitted_estimator():
    from sklearn.exceptions import NotFittedError

    for ask in (lowland.UMAP().get_feature_names_out, lambda: lowland.PCA().transform(np.zeros((3, 2)))):
        with pytest.raises(NotFittedError, match="not fitted"):
            ask()


def test_parameters_are_searched():
    from sklearn.model_selection import ParameterGrid

    for parameters in ParameterGrid({"n_neighbors": [3, 5], "min_dist": [0.0, 0.5]}):
        assert lowland.UMAP(n_epochs=5).set_params(**parameters).fit_transform(clusters(60)).shape == (60, 2)
