"""Holds lowland's principal components against scikit-learn's.

    pca.py DATA.npy RESULT_DIR
    pca.py data NAME OUT.npy
    pca.py command DATA.npy RESULT_DIR [--whiten] [--cosine]
    pca.py incremental TRAIN.npy TEST.npy RESULT_DIR N BATCH
    pca.py kernel DATA.npy OTHER.npy RESULT_DIR KERNEL [PARAMETER ...]

The first, of the components that a run starts from:

DATA.npy     the vectors, rows x dim, float32
RESULT_DIR   components.npy  n_components x dim
             variance.npy    n_components, explained, divisor n - 1
             scores.npy      rows x n_components

Components, variances and scores must agree within 1e-5 of the largest value of
their kind, and in what follows within 1e-6: scores are in single precision. lowland's sign rule (in every axis the entry of largest absolute
value is positive) is scikit-learn's too, so nothing is turned before.

data         writes a data set that scikit-learn brings (iris, digits), float32
command      what `lowland pca` wrote: scores.npy, axes.npy and report.json; the
             shares of variance and the mean must agree as well
incremental  of IncrementalPCA with batches of BATCH rows (a last one of fewer
             rows than N, which may be "none", goes to the one before):
             train.npy, test.npy (scores) and ratio.npy
kernel       of KernelPCA (linear; gaussian SIGMA; polynomial DEGREE GAMMA
             COEF0; cosine): data.npy and other.npy (scores), signs included

Prints the differences; exits with 1 and a message if one is too large.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA, IncrementalPCA, KernelPCA


def loaded(path):
    return np.load(path).astype(np.float64)


def compare(pairs, tolerance=1e-6):
    """Of each name ours and theirs; the sentence of a failure, or nothing."""
    failures = []
    for name, (ours, theirs) in pairs.items():
        if ours.shape != theirs.shape:
            failures.append(f"{name} are {ours.shape}, expected {theirs.shape}")
            continue
        difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
        print(f"{name}: largest difference {difference:.2e} of the largest value")
        if not difference <= tolerance:
            failures.append(f"{name} differ by {difference:.2e} (limit {tolerance:.0e})")
    return "; ".join(failures)


def components(data_path, result_dir):
    data, results = loaded(data_path), Path(result_dir)
    axes, variance = loaded(results / "components.npy"), loaded(results / "variance.npy")
    pca = PCA(len(variance), svd_solver="full").fit(data)
    return compare(
        {
            "components": (axes, pca.components_),
            "variances": (variance, pca.explained_variance_),
            "scores": (loaded(results / "scores.npy"), pca.transform(data)),
        },
        tolerance=1e-5,
    )


def data(name, out):
    table = {"iris": datasets.load_iris, "digits": datasets.load_digits}[name]()
    np.save(out, np.ascontiguousarray(table.data, dtype=np.float32))


def command(data_path, result_dir, *options):
    rows, results = loaded(data_path), Path(result_dir)
    if "--cosine" in options:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    report = json.loads((results / "report.json").read_text())
    axes = np.load(results / "axes.npy")
    if axes.dtype != np.float64:
        return f"axes.npy is of {axes.dtype}"
    pca = PCA(len(axes), svd_solver="full", whiten="--whiten" in options).fit(rows)
    return compare(
        {
            "components": (axes, pca.components_),
            "variances": (np.array(report["explained_variance"]), pca.explained_variance_),
            "shares": (np.array(report["explained_variance_ratio"]), pca.explained_variance_ratio_),
            "mean": (np.array(report["mean"]), pca.mean_),
            "scores": (loaded(results / "scores.npy"), pca.transform(rows)),
        }
    )


def incremental(train_path, test_path, result_dir, n, batch):
    train, test, results = loaded(train_path), loaded(test_path), Path(result_dir)
    n = None if n == "none" else int(n)
    pca = IncrementalPCA(n, batch_size=int(batch)).fit(train)
    return compare(
        {
            "training scores": (loaded(results / "train.npy"), pca.transform(train)),
            "test scores": (loaded(results / "test.npy"), pca.transform(test)),
            "shares": (loaded(results / "ratio.npy"), pca.explained_variance_ratio_),
        }
    )


def kernel(data_path, other_path, result_dir, name, *parameters):
    rows, other, results = loaded(data_path), loaded(other_path), Path(result_dir)
    parameters = [float(p) for p in parameters]
    theirs = {
        "linear": lambda: {"kernel": "linear"},
        "gaussian": lambda: {"kernel": "rbf", "gamma": 1 / parameters[0]},
        "polynomial": lambda: {
            "kernel": "poly",
            "degree": int(parameters[0]),
            "gamma": parameters[1],
            "coef0": parameters[2],
        },
        "cosine": lambda: {"kernel": "cosine"},
    }[name]()
    ours = loaded(results / "data.npy"), loaded(results / "other.npy")
    pca = KernelPCA(ours[0].shape[1], eigen_solver="dense", **theirs).fit(rows)
    theirs = pca.transform(rows), pca.transform(other)
    return compare({"scores": (ours[0], theirs[0]), "other scores": (ours[1], theirs[1])})


if __name__ == "__main__":
    modes = {"data": data, "command": command, "incremental": incremental, "kernel": kernel}
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    mode = modes.get(sys.argv[1])
    sys.exit((mode(*sys.argv[2:]) if mode else components(*sys.argv[1:])) or 0)
