"""Holds lowland's principal components against scikit-learn's.

    pca.py DATA.npy RESULT_DIR

DATA.npy     the vectors, rows x dim, float32
RESULT_DIR   components.npy  n_components x dim
             variance.npy    n_components, explained, divisor n - 1
             scores.npy      rows x n_components

Each axis is turned to scikit-learn's sign first (lowland's own rule, largest
entry positive, is checked beside it); then components, variances and scores
must agree within 1e-5 of the largest value of their kind. Prints the
differences; exits with 1 and a message if one is too large.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

TOLERANCE = 1e-5


def main(data_path, result_dir):
    data = np.load(data_path).astype(np.float64)
    ours = {
        name: np.load(Path(result_dir) / f"{name}.npy").astype(np.float64)
        for name in ("components", "variance", "scores")
    }
    n_components = len(ours["variance"])
    for name, shape in (
        ("components", (n_components, data.shape[1])),
        ("scores", (data.shape[0], n_components)),
    ):
        if ours[name].shape != shape:
            return f"{name}.npy is {ours[name].shape}, expected {shape}"

    largest = np.abs(ours["components"]).argmax(axis=1)
    if (ours["components"][np.arange(n_components), largest] < 0).any():
        return "an axis whose largest entry is negative"

    pca = PCA(n_components, svd_solver="full").fit(data)
    signs = np.sign((ours["components"] * pca.components_).sum(axis=1))
    theirs = {
        "components": pca.components_ * signs[:, None],
        "variance": pca.explained_variance_,
        "scores": pca.transform(data) * signs,
    }
    failures = []
    for name, expected in theirs.items():
        difference = np.abs(ours[name] - expected).max() / np.abs(expected).max()
        print(f"{name}: largest difference {difference:.2e} of the largest value")
        if not difference <= TOLERANCE:
            failures.append(f"{name} differ by {difference:.2e} (limit {TOLERANCE:.0e})")
    return "; ".join(failures)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]) or 0)
