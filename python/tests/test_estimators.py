"""Maps: shapes, attributes, reproducibility, first positions, graphs, and the ideas of umap-learn's own tests."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import lowland

from conftest import clusters

STREAMED = [lowland.UMAP, lowland.LargeVis, lowland.InfoTSNE, lowland.TSNE, lowland.PaCMAP]
ALL_PAIRS = [lowland.SNE, lowland.ExactTSNE, lowland.TSNEkhorn, lowland.COSNE, lowland.AffinityMatcher, lowland.PHATE]


@pytest.mark.parametrize("kind", STREAMED + ALL_PAIRS, ids=lambda kind: kind.__name__)
def test_every_method_makes_a_map(kind, X, same):
    model = kind(n_epochs=20)
    found = model.fit_transform(X)
    assert found.shape == (300, 2) and found.dtype == np.float32 and np.isfinite(found).all()
    assert found is model.embedding_
    assert model.n_features_in_ == 8 and not hasattr(model, "feature_names_in_")
    assert list(model.get_feature_names_out()) == [kind.__name__.lower() + "0", kind.__name__.lower() + "1"]
    assert model.report_.json["plan"] and "scan" in model.report_.text
    # Another estimator, another number of threads, another budget: the same bytes.
    assert same(found, kind(n_epochs=20, n_jobs=1, memory_limit="400MiB").fit(X).embedding_)
    # The same object again.
    assert same(found, model.fit_transform(X))
    # Another seed.
    assert not same(found, kind(n_epochs=20, random_state=1, init="random").fit_transform(X))


def test_the_seed_without_random_state_is_42(X, same):
    assert same(lowland.UMAP(n_epochs=20).fit_transform(X), lowland.UMAP(n_epochs=20, random_state=42).fit_transform(X))
    assert not same(
        lowland.UMAP(n_epochs=20).fit_transform(X), lowland.UMAP(n_epochs=20, random_state=7).fit_transform(X)
    )


def test_generators_give_a_seed(X, same):
    def make(state):
        return lowland.UMAP(n_epochs=20, random_state=state).fit_transform(X)

    assert same(make(np.random.default_rng(3)), make(np.random.default_rng(3)))
    assert same(make(np.random.RandomState(3)), make(np.random.RandomState(3)))
    assert not same(make(np.random.default_rng(3)), make(np.random.default_rng(4)))


@pytest.mark.parametrize("components", [1, 3, 5])
def test_components(components, X):
    assert lowland.UMAP(n_components=components, n_epochs=20).fit_transform(X).shape == (300, components)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine", "correlation"])
def test_metrics(metric, X):
    assert np.isfinite(lowland.UMAP(metric=metric, n_epochs=20).fit_transform(X)).all()


def test_an_array_of_first_positions_is_the_file_of_it(X, tmp_path, same):
    positions = np.random.default_rng(1).normal(size=(300, 2))
    np.save(tmp_path / "first.npy", positions.astype(np.float32))
    by_array = lowland.UMAP(init=positions, n_epochs=5).fit_transform(X)
    assert same(by_array, lowland.UMAP(init=str(tmp_path / "first.npy"), n_epochs=5).fit_transform(X))
    assert same(by_array, lowland.UMAP(init=tmp_path / "first.npy", n_epochs=5).fit_transform(X))
    assert not same(by_array, lowland.UMAP(init="pca", n_epochs=5).fit_transform(X))


@pytest.mark.parametrize(
    "init, told", [("spectral", "centroid"), (np.zeros(3), "array of rows"), (np.zeros((5, 2)), "5")]
)
def test_first_positions_that_are_refused(init, told, X):
    with pytest.raises(ValueError, match=told):
        lowland.UMAP(init=init).fit(X)


def test_a_precomputed_graph_of_umap_learn(X, same):
    """A graph as umap-learn takes it lists each row first; the map is that of the same graph found by lowland."""
    distances = np.linalg.norm(X[:, None].astype(float) - X[None], axis=2)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :16]
    far = np.take_along_axis(distances, indices, axis=1).astype(np.float32)
    assert (indices[:, 0] == np.arange(300)).all()
    found = lowland.UMAP(precomputed_knn=(indices, far, None), n_epochs=30).fit_transform(X)
    also = lowland.UMAP(precomputed_knn=(indices[:, 1:], far[:, 1:]), n_epochs=30).fit_transform(X)
    assert same(found, also)
    # The graph of the whole run has distances of single precision too, so the maps are near, if not the same bytes.
    assert _trust(X, found) > 0.9
    assert lowland.UMAP(precomputed_knn=(indices, far), n_epochs=30).fit(None).embedding_.shape == (300, 2)


@pytest.mark.parametrize(
    "graph, told",
    [
        (np.zeros((3, 2), int), "precomputed_knn"),
        ((np.zeros((300, 3), int), np.zeros((300, 2), np.float32)), "one shape"),
        ((np.zeros((300, 3)), np.zeros((300, 3), np.float32)), "integers"),
        ((np.full((300, 3), 900), np.ones((300, 3), np.float32)), "900"),
    ],
)
def test_graphs_that_are_refused(graph, told, X):
    with pytest.raises(ValueError, match=told):
        lowland.UMAP(precomputed_knn=graph).fit(X)


def test_the_graph_on_request(X, same):
    sparse = pytest.importorskip("scipy.sparse")
    model = lowland.UMAP(keep_graph=True, n_epochs=20).fit(X)
    assert sparse.issparse(model.graph_) and model.graph_.shape == (300, 300) and model.graph_.dtype == np.float32
    assert (np.diff(model.graph_.indptr) == 15).all()
    row = model.graph_[7]
    true = np.linalg.norm(X.astype(float) - X[7], axis=1)
    assert np.allclose(true[row.indices], row.data, rtol=1e-5)
    assert set(row.indices) == set(np.argsort(true)[1:16])
    # The graph is that of the run: keeping it does not change the map.
    assert same(model.embedding_, lowland.UMAP(n_epochs=20).fit_transform(X))
    model = lowland.TSNE(keep_graph=True, perplexity=10, n_epochs=20).fit(X)
    assert (np.diff(model.graph_.indptr) == 30).all()
    assert same(model.embedding_, lowland.TSNE(perplexity=10, n_epochs=20).fit_transform(X))
    assert not hasattr(lowland.UMAP(n_epochs=20).fit(X), "graph_")


def _trust(X, Z, k=10):
    """Returns the trustworthiness of a map (Venna, Kaski 2001), as scikit-learn computes it."""
    n = len(X)
    far = np.linalg.norm(X[:, None].astype(float) - X[None], axis=2)
    np.fill_diagonal(far, np.inf)
    rank = np.argsort(np.argsort(far, axis=1), axis=1) + 1
    near = np.linalg.norm(Z[:, None].astype(float) - Z[None], axis=2)
    np.fill_diagonal(near, np.inf)
    nearest = np.argsort(near, axis=1)[:, :k]
    penalty = np.clip(np.take_along_axis(rank, nearest, axis=1) - k, 0, None).sum()
    return 1.0 - penalty * 2.0 / (n * k * (2.0 * n - 3.0 * k - 1.0))


# The thresholds of umap-learn's tests (test_umap_trustworthiness.py).


@pytest.fixture(scope="module")
def iris():
    return pytest.importorskip("sklearn.datasets").load_iris().data


@pytest.fixture(scope="module")
def uniform():
    rows = np.random.default_rng(189212).uniform(size=(1000, 5))
    return np.vstack([rows, np.zeros((2, 5))])


def test_trustworthiness_on_iris(iris):
    Z = lowland.UMAP(n_neighbors=9, min_dist=0.01, n_epochs=200, random_state=42).fit_transform(iris)
    assert _trust(iris, Z) >= 0.97


def test_trustworthiness_on_iris_from_given_positions(iris):
    Z = lowland.UMAP(n_neighbors=9, min_dist=0.01, init=iris[:, 2:], n_epochs=200, random_state=42).fit_transform(iris)
    assert _trust(iris, Z) >= 0.97


@pytest.mark.parametrize("init", [None, "random", "pca"])
def test_trustworthiness_on_fifty_rows(init, uniform):
    Z = lowland.UMAP(n_neighbors=9, min_dist=0.01, random_state=42, n_epochs=100, init=init).fit_transform(uniform[:50])
    assert _trust(uniform[:50], Z) >= 0.75


@pytest.mark.parametrize("kind", STREAMED + [lowland.ExactTSNE, lowland.SNE], ids=lambda kind: kind.__name__)
def test_trustworthiness_of_each_method_on_iris(kind, iris):
    assert _trust(iris, kind(random_state=42).fit_transform(iris)) >= 0.95


def test_disconnected_clusters(X):
    """Clusters that no edge connects: a finite map, in which they do not overlap."""
    far = np.vstack([X[:100], X[100:200] + 1000, X[200:] - 1000]).astype(np.float32)
    Z = lowland.UMAP(n_neighbors=5).fit_transform(far)
    assert np.isfinite(Z).all()
    nearest = np.linalg.norm(Z[:, None] - Z[None], axis=2) + np.diag(np.full(300, np.inf))
    assert (nearest.argmin(axis=1) // 100 == np.arange(300) // 100).all()


@pytest.mark.parametrize("kind", STREAMED, ids=lambda kind: kind.__name__)
def test_duplicate_rows(kind, X):
    twice = np.vstack([X[:60]] * 5)
    assert np.isfinite(kind(n_epochs=50).fit_transform(twice)).all()


def test_a_spike_of_equal_rows():
    rows = np.ones((100, 4), np.float32)
    rows[:5] = np.random.default_rng(0).normal(size=(5, 4))
    assert np.isfinite(lowland.UMAP(n_epochs=20).fit_transform(rows)).all()


def test_rows_without_a_vector(X, same):
    gaps = X.copy()
    gaps[3, 1], gaps[7, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="row 3"):
        lowland.UMAP(n_epochs=20).fit(gaps)
    sound = lowland.UMAP(n_epochs=20).fit_transform(np.delete(X, [3, 7], axis=0))
    assert same(lowland.UMAP(n_epochs=20, invalid="drop").fit_transform(gaps), sound)
    kept = lowland.UMAP(n_epochs=20, invalid="null").fit_transform(gaps)
    assert np.isnan(kept[[3, 7]]).all() and same(np.delete(kept, [3, 7], axis=0), sound)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"n_neighbors": 300}, "n_neighbors"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"n_neighbors": 2.5}, "n_neighbors"),
        ({"n_components": 0}, "n_components"),
        ({"n_components": 65}, "n_components"),
        ({"min_dist": -1.0}, "min_dist"),
        ({"min_dist": 2.0, "spread": 1.0}, "min_dist"),
        ({"metric": "haversine"}, "metric"),
        ({"n_epochs": -1}, "n_epochs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"negative_sample_rate": -1}, "negative_sample_rate"),
        ({"random_state": -1}, "random_state"),
        ({"random_state": "x"}, "random_state"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"memory_limit": -5}, "memory_limit"),
        ({"memory_limit": "many"}, "memory"),
        ({"device": "tpu"}, "device"),
        ({"backend": "keops"}, "backend"),
        ({"invalid": "skip"}, "invalid"),
        ({"recall": 2.0}, "recall"),
    ],
)
def test_options_that_are_refused(options, told, X):
    model = lowland.UMAP(**options)
    with pytest.raises(ValueError, match=told):
        model.fit(X)
    assert not hasattr(model, "embedding_")


def test_a_budget_that_is_too_small(X):
    with pytest.raises(lowland.BudgetError) as error:
        lowland.UMAP(memory_limit=1000).fit(X)
    assert isinstance(error.value, MemoryError) and error.value.needed > error.value.budget == 1000


def test_names_of_other_libraries_are_told():
    with pytest.raises(TypeError, match="'max_iter'; here it is called 'n_epochs'"):
        lowland.UMAP(max_iter=5)
    with pytest.raises(TypeError, match="did you mean 'n_neighbors'"):
        lowland.UMAP(n_neighbours=5)
    with pytest.raises(TypeError, match="densMAP"):
        lowland.UMAP(densmap=True)
    with pytest.raises(ValueError, match="here it is called 'learning_rate'"):
        lowland.UMAP().set_params(lr=1.0)


def test_parameters_and_text():
    model = lowland.UMAP(n_neighbors=5, random_state=3)
    assert model.get_params()["n_neighbors"] == 5 and model.get_params()["min_dist"] is None
    assert repr(model) == "UMAP(n_neighbors=5, random_state=3)"
    assert model.set_params(min_dist=0.5) is model and model.min_dist == 0.5
    assert len(repr(lowland.UMAP(init=np.zeros((9, 2))))) < 80


def test_copies_keep_the_map(X, same):
    model = lowland.UMAP(n_epochs=20).fit(X)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(other.embedding_, model.embedding_) and other.report_.text == model.report_.text
        assert other.get_params() == model.get_params()


def test_a_failed_fit_keeps_the_last_map(X, same):
    model = lowland.UMAP(n_epochs=20).fit(X)
    before = model.embedding_.copy()
    with pytest.raises(ValueError):
        model.fit(np.full((10, 3), np.nan))
    assert same(model.embedding_, before) and model.n_features_in_ == 8


def test_the_plan(X):
    plan = lowland.UMAP(memory_limit="600MiB").plan(X)
    assert "layout" in plan.text


def test_a_run_directory_is_continued(X, tmp_path, same):
    model = lowland.UMAP(n_epochs=20, run_dir=tmp_path / "work")
    first = model.fit_transform(X)
    assert (tmp_path / "work" / "manifest.json").exists()
    assert same(first, model.fit_transform(X))
    other = lowland.UMAP(n_epochs=20, n_neighbors=5, run_dir=tmp_path / "work")
    with pytest.raises(ValueError, match="n_neighbors"):
        other.fit(X)
    whole = lowland.UMAP(n_epochs=20, n_neighbors=5).fit_transform(X)
    assert same(other.set_params(restart=True).fit_transform(X), whole)


def test_batches_are_continued_too(X, tmp_path, same):
    def batches():
        return (X[start : start + 100] for start in range(0, 300, 100))

    told = []
    model = lowland.UMAP(n_epochs=20, run_dir=tmp_path / "work", callback=told.append)
    first = model.fit_transform(batches)
    told.clear()
    assert same(model.fit_transform(batches), first)
    assert any(event["kind"] == "end" and "run directory" in event["text"] for event in told)


def test_few_rows():
    for rows in (2, 3, 5):
        assert lowland.UMAP(n_epochs=20).fit_transform(clusters(rows)).shape == (rows, 2)


def test_the_smallest_n_neighbors_is_told():
    assert "2 to 1,000" in lowland.UMAP.__doc__
    with pytest.raises(ValueError, match="the minimum is 2"):
        lowland.UMAP(n_neighbors=1).fit(np.eye(10))


class Stop(Exception):
    """Ends a run when its layout begins."""


def stop(event):
    if event["stage"] == "layout" and event["kind"] == "start":
        raise Stop


@pytest.mark.parametrize("which", ["init", "arrays", "Graph", "keep_graph", "init and keep_graph"])
def test_runs_with_arrays_and_graphs_are_continued(which, X, tmp_path, same):
    if "keep_graph" in which:
        pytest.importorskip("scipy.sparse")
    np.save(tmp_path / "rows.npy", X)
    rows, work = tmp_path / "rows.npy", tmp_path / "work"

    def options():
        graph = lowland.knn(X, n_neighbors=10)
        more = {"init": np.random.default_rng(1).normal(size=(300, 2))} if "init" in which else {}
        more |= {"precomputed_knn": (graph.indices, graph.distances)} if which == "arrays" else {}
        more |= {"precomputed_knn": graph} if which == "Graph" else {}
        return more | ({"keep_graph": True} if "keep_graph" in which else {})

    whole = lowland.UMAP(n_epochs=50, **options()).fit(rows)
    with pytest.raises(Stop):
        lowland.UMAP(n_epochs=50, run_dir=work, callback=stop, **options()).fit(rows)
    for _ in range(2):
        # The second time everything is there.
        events = []
        model = lowland.UMAP(n_epochs=50, run_dir=work, callback=events.append, **options()).fit(rows)
        assert same(model.embedding_, whole.embedding_)
        assert any(event["kind"] == "end" and "run directory" in event["text"] for event in events)
        assert "keep_graph" not in which or (model.graph_ != whole.graph_).nnz == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.npy", "work"]
    with pytest.raises(ValueError, match="n_epochs"):
        lowland.UMAP(n_epochs=51, run_dir=work, **options()).fit(rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.npy", "work"]


def test_the_graph_of_a_function_is_continued(X, tmp_path, same):
    def call(**more):
        graph = lowland.knn(X, n_neighbors=10)
        return lowland.embed(graph=graph, n_epochs=50, run_dir=tmp_path / "work", **more)

    with pytest.raises(Stop):
        call(callback=stop)
    events = []
    assert same(call(callback=events.append), lowland.embed(graph=lowland.knn(X, n_neighbors=10), n_epochs=50))
    assert any(event["kind"] == "end" and "run directory" in event["text"] for event in events)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_the_graph_of_a_map_with_dropped_rows(X, same):
    pytest.importorskip("scipy.sparse")
    bad = X.copy()
    bad[[3, 7]] = np.nan
    kept = np.delete(np.arange(300), [3, 7])
    model = lowland.UMAP(n_epochs=20, keep_graph=True, invalid="drop").fit(bad)
    sound = lowland.UMAP(n_epochs=20, keep_graph=True).fit(X[kept])
    assert same(model.embedding_, sound.embedding_)
    assert model.graph_.shape == (298, 298) and (model.graph_ != sound.graph_).nnz == 0
