"""Principal components against scikit-learn, in batches, and for rows that are not in memory."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import lowland

from conftest import clusters


@pytest.fixture(scope="module")
def rows():
    return clusters(400, 6, seed=3) * np.array([5, 3, 2, 1, 0.5, 0.2], np.float32) + 10


def test_pca_is_scikit_learns(rows):
    theirs = pytest.importorskip("sklearn.decomposition").PCA(3).fit(rows.astype(float))
    ours = lowland.PCA(3)
    scores = ours.fit_transform(rows)
    assert scores.dtype == np.float32 and scores.shape == (400, 3)
    signs = np.sign((theirs.components_ * ours.components_).sum(axis=1))
    assert (signs == 1).all()
    assert np.allclose(ours.components_, theirs.components_, atol=1e-5)
    assert np.allclose(ours.mean_, theirs.mean_)
    assert np.allclose(ours.explained_variance_, theirs.explained_variance_)
    assert np.allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_)
    assert np.allclose(ours.singular_values_, theirs.singular_values_)
    assert np.allclose(scores, theirs.transform(rows), atol=1e-4)
    assert np.allclose(ours.transform(rows), scores, atol=1e-4)
    assert np.allclose(lowland.PCA(6).fit(rows).inverse_transform(lowland.PCA(6).fit_transform(rows)), rows, atol=1e-3)
    assert ours.n_samples_seen_ == 400 and ours.n_components_ == 3 and ours.n_features_in_ == 6


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
def test_prepared_rows(metric, rows):
    model = lowland.PCA(2, metric=metric)
    assert np.allclose(model.fit_transform(rows), model.transform(rows), atol=1e-5)


def test_whitening(rows):
    theirs = pytest.importorskip("sklearn.decomposition").PCA(3, whiten=True).fit(rows.astype(float))
    ours = lowland.PCA(3, whiten=True)
    scores = ours.fit_transform(rows)
    assert np.allclose(scores.var(axis=0, ddof=1), 1, atol=1e-3)
    assert np.allclose(scores, theirs.transform(rows), atol=1e-3)
    assert np.allclose(ours.transform(rows), scores, atol=1e-3)
    assert np.allclose(ours.components_, theirs.components_, atol=1e-5)
    assert np.allclose(ours.inverse_transform(scores), theirs.inverse_transform(theirs.transform(rows)), atol=1e-2)


def test_defaults(rows):
    assert lowland.PCA().fit_transform(rows).shape == (400, 2)
    assert lowland.PCA().fit_transform(rows[:, :1]).shape == (400, 1)


def test_one_row_is_transformed(rows):
    model = lowland.PCA(2).fit(rows)
    assert np.allclose(model.transform(rows[:1]), model.transform(rows)[:1])
    with pytest.raises(ValueError, match="X has 5 features, but PCA is expecting 6"):
        model.transform(rows[:, :5])
    with pytest.raises(ValueError, match="row 1, column 2"):
        bad = rows[:5].copy()
        bad[1, 2] = np.nan
        model.transform(bad)


def test_incremental_is_scikit_learns(rows):
    theirs = pytest.importorskip("sklearn.decomposition").IncrementalPCA(3, batch_size=100).fit(rows.astype(float))
    ours = lowland.IncrementalPCA(3, batch_size=100).fit(rows)
    step = lowland.IncrementalPCA(3)
    for start in range(0, 400, 100):
        assert step.partial_fit(rows[start : start + 100]) is step
    for model in (ours, step):
        assert np.allclose(np.abs(model.components_), np.abs(theirs.components_), atol=1e-4)
        assert np.allclose(model.explained_variance_, theirs.explained_variance_, rtol=1e-4)
        assert model.n_samples_seen_ == 400
    assert np.allclose(ours.fit_transform(rows), ours.transform(rows))


def test_incremental_batches(rows):
    model = lowland.IncrementalPCA(3).partial_fit(rows[:50]).partial_fit(rows[50:51])
    assert model.n_samples_seen_ == 51
    with pytest.raises(ValueError, match="5 features"):
        model.partial_fit(rows[:, :5])
    with pytest.raises(ValueError, match="3"):
        lowland.IncrementalPCA(3).partial_fit(rows[:2])
    copied = pickle.loads(pickle.dumps(model))
    assert np.allclose(copied.transform(rows), model.transform(rows))
    with pytest.raises(ValueError, match="pickle"):
        copied.partial_fit(rows)


def test_exact_incremental(rows):
    theirs = lowland.PCA(3).fit(rows)
    ours = lowland.ExactIncrementalPCA(3, batch_size=37).fit(rows)
    steps = lowland.ExactIncrementalPCA(3)
    with pytest.raises(ValueError, match="mean comes first"):
        steps.partial_fit(rows)
    for start in range(0, 400, 100):
        steps.partial_mean(rows[start : start + 100])
    for start in range(0, 400, 100):
        assert not hasattr(steps, "components_")
        steps.partial_fit(rows[start : start + 100])
    for model in (ours, steps):
        assert np.allclose(model.components_, theirs.components_, atol=1e-5)
        assert np.allclose(model.explained_variance_, theirs.explained_variance_, rtol=1e-5)
    assert ours.components_.tobytes() == steps.components_.tobytes()
    again = lowland.ExactIncrementalPCA(3).partial_mean(rows[:10])
    with pytest.raises(ValueError, match="more than the 10 rows"):
        again.partial_fit(rows[:11])


def test_exact_incremental_far_from_zero():
    rows = np.random.default_rng(0).normal(size=(200, 3)) * [3, 2, 1]
    near = lowland.ExactIncrementalPCA(2).fit(rows.astype(np.float32)).explained_variance_
    far = lowland.ExactIncrementalPCA(2).fit((rows + 1000).astype(np.float32)).explained_variance_
    assert np.allclose(near, far, rtol=1e-3)


@pytest.mark.parametrize(
    "kernel, theirs",
    [
        ("gaussian", {"kernel": "rbf", "gamma": 0.1}),
        ("linear", {"kernel": "linear"}),
        ("polynomial", {"kernel": "poly", "degree": 2, "gamma": 0.5, "coef0": 1}),
        ("cosine", {"kernel": "cosine"}),
    ],
)
def test_kernel_is_scikit_learns(kernel, theirs, rows):
    small = ((rows - rows.mean(axis=0)) / rows.std(axis=0))[:120]
    theirs = pytest.importorskip("sklearn.decomposition").KernelPCA(3, **theirs).fit(small.astype(float))
    ours = lowland.KernelPCA(3, kernel=kernel, sigma=10.0, degree=2, gamma=0.5)
    scores = ours.fit_transform(small)
    assert np.allclose(np.abs(scores), np.abs(theirs.transform(small)), rtol=1e-2, atol=1e-3)
    assert np.allclose(ours.eigenvalues_, theirs.eigenvalues_, rtol=1e-3)
    assert np.allclose(ours.transform(small), scores, atol=1e-3)
    copied = pickle.loads(pickle.dumps(ours))
    assert np.array_equal(copied.transform(small[:5]), ours.transform(small[:5]))


def test_kernels_that_are_refused(rows):
    with pytest.raises(ValueError, match="'rbf' is 'gaussian'"):
        lowland.KernelPCA(2, kernel="rbf").fit(rows)
    with pytest.raises(ValueError):
        lowland.KernelPCA(2, kernel="precomputed").fit(rows)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"n_components": 7}, "7"),
        ({"n_components": 0}, "n_components"),
        ({"solver": "full"}, "solver"),
        ({"invalid": "null"}, "invalid.*drop"),
    ],
)
def test_options_that_are_refused(options, told, rows):
    bad = rows.copy()
    if "invalid" in options:
        bad[3, 3] = np.nan
    with pytest.raises(ValueError, match=told):
        lowland.PCA(**options).fit(bad)


def test_rows_that_are_dropped(rows, same):
    bad = rows.copy()
    bad[3, 3] = np.nan
    assert same(
        lowland.PCA(2, invalid="drop").fit_transform(bad), lowland.PCA(2).fit_transform(np.delete(rows, 3, axis=0))
    )


@pytest.mark.parametrize("kind", [lowland.PCA, lowland.IncrementalPCA, lowland.ExactIncrementalPCA, lowland.KernelPCA])
def test_every_estimator_reads_files_frames_and_batches(kind, rows, tmp_path, same):
    expected = kind(2).fit_transform(rows)
    np.save(tmp_path / "rows.npy", rows)
    assert same(kind(2).fit_transform(tmp_path / "rows.npy"), expected)
    assert same(kind(2).fit(tmp_path / "rows.npy").transform(rows), kind(2).fit(rows).transform(rows))
    assert same(kind(2).fit_transform(lambda: (rows[i : i + 90] for i in range(0, 400, 90))), expected)
    pl = pytest.importorskip("polars")
    model = kind(2)
    frame = pl.DataFrame({f"f{i}": rows[:, i] for i in range(6)})
    assert same(model.fit_transform(frame), expected)
    assert list(model.feature_names_in_) == [f"f{i}" for i in range(6)]
    with pytest.raises(ValueError, match="same order"):
        model.transform(frame.select(reversed(frame.columns)))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"sigma": 0}, "sigma: give a finite number above 0, not 0"),
        ({"sigma": float("nan")}, "sigma: give a finite number above 0, not nan"),
        ({"sigma": "a"}, "sigma: give a finite number above 0, not 'a'"),
        ({"kernel": "polynomial", "degree": -1}, "degree: give a whole number from 1, not -1"),
        ({"kernel": "polynomial", "degree": 2.5}, "degree: give a whole number from 1, not 2.5"),
        ({"kernel": "polynomial", "degree": 400, "gamma": 1e3}, "degree, gamma, coef0: values of the kernel"),
        ({"kernel": "polynomial", "gamma": 0}, "gamma: give a finite number above 0, not 0"),
        ({"kernel": "polynomial", "coef0": -1.0}, "coef0: give a finite number from 0, not -1.0"),
    ],
)
def test_parameters_of_kernels_are_refused_by_name(wrong, match):
    rows = np.random.default_rng(0).normal(size=(30, 4))
    with pytest.raises(ValueError, match=match):
        lowland.KernelPCA(2, **wrong).fit(rows)


@pytest.mark.parametrize("kernel", ["linear", "gaussian", "polynomial", "cosine"])
def test_a_kernel_without_variance_gives_no_components(kernel):
    model = lowland.KernelPCA(kernel=kernel)
    assert model.fit_transform(np.zeros((20, 3))).shape == (20, 0)
    assert model.transform(np.zeros((5, 3))).shape == (5, 0)
    assert model.n_components_ == 0


def test_scores_of_a_kernel_that_are_not_finite_are_refused():
    rows = np.random.default_rng(0).random(size=(20, 3))
    model = lowland.KernelPCA(2, kernel="polynomial", degree=20).fit(rows)
    with pytest.raises(ValueError, match="X: scores of the kernel 'polynomial' are not finite"):
        model.transform(rows * 1e30)
    assert lowland.KernelPCA(2, kernel="linear", sigma=0, degree=-1).fit_transform(rows).shape == (20, 2)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("kind", ["incremental", "exact"])
def test_batches_with_other_columns_are_refused(kind, library, rows):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame

    def frame(order=1, other=None):
        columns = {other if other and i == 0 else f"f{i}": rows[:, i] for i in range(6)}
        return make(dict(list(columns.items())[::order]))

    model = lowland.IncrementalPCA(2) if kind == "incremental" else lowland.ExactIncrementalPCA(2)
    step = model.partial_fit if kind == "incremental" else model.partial_mean
    step(frame())
    with pytest.raises(ValueError, match="same order"):
        step(frame(order=-1))
    with pytest.raises(ValueError, match="unseen at fit time:\n- g"):
        step(frame(other="g"))
    if kind == "exact":
        with pytest.raises(ValueError, match="same order"):
            model.partial_fit(frame(order=-1))
        model.partial_fit(frame())
    else:
        step(frame())
    assert list(model.feature_names_in_) == [f"f{i}" for i in range(6)]


@pytest.mark.parametrize("kind", [lowland.IncrementalPCA, lowland.ExactIncrementalPCA])
def test_whitening_of_components_without_variance(kind):
    flat = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    flat[:, 2:] = 5
    model = kind(4, whiten=True).fit(flat)
    scores = model.transform(flat)
    assert np.isfinite(scores).all() and (scores[:, 2:] == 0).all()
    assert np.allclose(scores[:, :2].std(axis=0, ddof=1), 1, atol=1e-3)
    assert np.allclose(model.inverse_transform(scores), flat, atol=1e-3)


def test_too_many_rows_of_a_kernel_are_refused_before_they_are_read():
    given = []

    def batches():
        for i in range(100):
            given.append(i)
            yield np.zeros((1000, 2), np.float32)

    with pytest.raises(ValueError, match="X: 9,000 rows or more are too many; give at most 8,192"):
        lowland.KernelPCA().fit(batches())
    assert len(given) == 9
    # 800 GB that nobody wrote.
    wide = np.broadcast_to(np.float32(0), (10**9, 200))
    with pytest.raises(ValueError, match="at most 8,192"):
        lowland.KernelPCA().fit(_NoCopy(wide))


class _NoCopy:
    """An array that fails where it is read."""

    def __init__(self, rows):
        self.shape, self.dtype = rows.shape, rows.dtype

    def __getitem__(self, part):
        raise AssertionError("read")


def test_batches_of_frames_have_the_columns_of_the_fit():
    pd = pytest.importorskip("pandas")
    rows = clusters(200, 5)
    frame = pd.DataFrame(rows, columns=list("abcde"))
    turned = frame[list("edcba")]
    model = lowland.PCA(2).fit([frame[:100], frame[100:]])
    assert list(model.feature_names_in_) == list("abcde")
    expected = lowland.PCA(2).fit(frame).transform(frame)
    np.testing.assert_array_equal(model.transform([frame[:50], frame[50:]]), expected)
    for batches in ([turned[:100], turned[100:]], iter([turned]), lambda: iter([turned])):
        with pytest.raises(ValueError, match="order|names"):
            model.transform(batches)
    with pytest.raises(ValueError, match="order|names"):
        lowland.IncrementalPCA(2).partial_fit(frame).partial_fit([turned])
