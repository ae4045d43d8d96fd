#!/usr/bin/env python3
"""Holds lowland's scores against scikit-learn's and scipy's.

    evaluate.py make DIR PACKAGES.parquet
        writes for each data set NAME.x.npy and NAME.map.parquet, a map by PCA with
        the columns id, x, y, label (names) and weight; prints the names
    evaluate.py check DIR NAME REPORT.json
        takes the scores anew, in double precision and without any of our code, and
        compares them with a report of lowland evaluate over all rows
    evaluate.py ari A.npy B.npy
    evaluate.py spearman A.npy B.npy
    evaluate.py silhouette Z.npy LABELS.npy OURS.npy

What must hold: a score that scikit-learn or scipy has is taken by them. The
tolerances are near what single precision and ties were seen to cost.
"""

import json
import sys
from pathlib import Path

import numpy as np

K = 10


def make(directory, packages):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.datasets import load_digits, load_iris, make_moons
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    table = pq.read_table(packages).slice(0, 2000)
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(2000, -1)
    digits, iris = load_digits(), load_iris()
    moons = make_moons(100, noise=0.05, random_state=0)
    sets = {
        "digits": (digits.data, digits.target),
        "iris": (iris.data, iris.target),
        "moons": moons,
        "packages": (vectors, table["section"].to_pylist()),
    }
    for name, (x, y) in sets.items():
        x = np.ascontiguousarray(x, dtype=np.float32)
        z = PCA(2, random_state=0).fit_transform(x.astype(np.float64))
        if name == "moons":
            # Two of two components would keep everything.
            z += rng.normal(0, 0.3, z.shape)
        z = z.astype(np.float32)
        np.save(directory / f"{name}.x.npy", x)
        columns = {
            "id": pa.array(np.arange(len(x), dtype=np.uint64)),
            "x": pa.array(z[:, 0]),
            "y": pa.array(z[:, 1]),
            "label": pa.array([str(label) for label in y]),
            "weight": pa.array(rng.uniform(0, 2, len(x)).astype(np.float32)),
        }
        pq.write_table(pa.table(columns), directory / f"{name}.map.parquet")
        print(name)


def squares(x):
    """All squared distances, without the cancellation of a product."""
    x = x.astype(np.float64)
    return np.stack([((x - row) ** 2).sum(axis=1) for row in x])


def distances(x, metric):
    """All distances of a metric, or numbers in their order."""
    from scipy.spatial.distance import cdist

    x = x.astype(np.float64)
    if metric in ("euclidean", "sqeuclidean", "hamming"):
        return squares(x)
    if metric == "angular":
        return -(x @ x.T)
    return cdist(x, x, {"manhattan": "cityblock"}.get(metric, metric))


def mix64(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def mix32(x):
    x = x ^ x >> np.uint32(16)
    x = x * np.uint32(0x7FEB352D)
    x = x ^ x >> np.uint32(15)
    x = x * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def ranks_of_ties(rows, seed=42):
    """A number for each pair of rows, by which of equally near rows one is the nearer:
    a hash of the seed and both rows."""
    key = np.uint32(mix64(mix64((seed + 0x74696573 * 0x9E3779B97F4A7C15) % 2**64)) % 2**32)
    row = np.arange(rows, dtype=np.uint32)
    return mix32(row[None, :] ^ mix32(row ^ key)[:, None])


def nearest(far, k):
    """The k nearest of each row, itself left out, equals by their rank."""
    far = far.copy()
    np.fill_diagonal(far, np.inf)
    return np.lexsort((ranks_of_ties(len(far)), far), axis=1)[:, :k]


def excess(far, near, k):
    """Sum of max(0, rank - k), where equals are nearer for nobody."""
    total = 0
    for row, others in enumerate(near):
        own = np.delete(far[row], row)
        ranks = 1 + np.searchsorted(np.sort(own), far[row][others])
        total += np.maximum(ranks - k, 0).sum()
    return total


def ranked(far, near, k):
    n = len(far)
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * excess(far, near, k)


def silhouettes(far, labels, weights):
    """By the definition, for any weights; 0 for a row alone."""
    far = np.sqrt(far)
    codes = np.unique(labels, return_inverse=True)[1]
    members = np.eye(codes.max() + 1)[codes]
    sums, masses = far @ (members * weights[:, None]), (members * weights[:, None]).sum(axis=0)
    rows = np.arange(len(far))
    with np.errstate(invalid="ignore", divide="ignore"):
        a = sums[rows, codes] / (masses[codes] - weights)
        means = sums / masses
        means[rows, codes] = np.inf
        b = means.min(axis=1)
        scores = np.nan_to_num((b - a) / np.maximum(a, b))
    scores[members.sum(axis=0)[codes] == 1] = 0
    return scores


def check(directory, name, report):
    import pyarrow.parquet as pq
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr
    from sklearn.cluster import KMeans
    from sklearn.manifold import trustworthiness
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    report = json.loads(Path(report).read_text())
    ours = {score["score"]: score for score in report["scores"]}
    x = np.load(directory / f"{name}.x.npy")
    table = pq.read_table(directory / f"{name}.map.parquet")
    z = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()])
    labels = np.array(table["label"].to_pylist())
    weights = table["weight"].to_numpy().astype(np.float64)
    n = len(x)
    metric = report["plan"]["config"]["metric"]
    in_data, in_map = distances(x, metric), squares(z)
    near_data, near_map = nearest(in_data, K), nearest(in_map, K)
    weighted = bool(report["plan"]["input"]["weights"])

    kept = np.mean([len(set(a) & set(b)) / K for a, b in zip(near_data, near_map)])
    found = KMeans(len(set(labels)), n_init=10, random_state=0).fit_predict(z)
    everyone = n <= 1000
    upper = np.triu_indices(n, 1)
    pairs = spearmanr(in_data[upper], pdist(z.astype(np.float64))).statistic
    # Exact but for ties: those of iris are of tenths, which no binary number is, and
    # scikit-learn ranks all in arbitrary order.
    ties, theirs = {"iris": (3e-5, 1e-4), "digits": (1e-7, 2e-4)}.get(name, (1e-7, 1e-6))
    if metric in ("cosine", "correlation"):
        # Rows are scaled in single precision first.
        ties, theirs = 1e-5, 1e-5
    of_sklearn = {} if metric == "angular" else {"metric": metric}
    expected = {
        "trustworthiness": [(ranked(in_data, near_map, K), ties), (trustworthiness(x, z, n_neighbors=K, **of_sklearn), theirs)][: 1 if metric == "angular" else 2],
        "continuity": [(ranked(in_map, near_data, K), ties)]
        + ([(trustworthiness(z, x, n_neighbors=K), theirs)] if metric == "euclidean" else []),
        "neighborhood_preservation": [(kept, 1e-9 if metric not in ("cosine", "correlation") else 1e-4)],
        "label_accuracy": [(np.mean(labels[near_map] == labels[:, None]), 1e-9)],
        "silhouette": [(silhouettes(in_map, labels, weights if weighted else np.ones(n)).mean(), 1e-8)]
        + ([] if weighted else [(silhouette_score(z.astype(np.float64), labels), 1e-8)]),
        "distance_spearman": [(pairs, 1e-6 if everyone else 2.5 * ours["distance_spearman"]["interval"])],
        # Another run of k-means may end elsewhere.
        "kmeans_ari": [(adjusted_rand_score(labels, found), 0.03)],
    }
    failures = []
    for score, values in expected.items():
        for value, tolerance in values:
            difference = abs(ours[score]["value"] - value)
            print(f"{name}: {score} {ours[score]['value']:.6f}, here {value:.6f}: differs by {difference:.1e}")
            if not difference <= tolerance:
                failures.append(f"{score}: {ours[score]['value']} and {value} differ by more than {tolerance}")
        if ours[score]["rows"] != n:
            failures.append(f"{score} is of {ours[score]['rows']} rows, not {n}")
    for score in set(expected) - ({"distance_spearman"} if not everyone else set()):
        if ours[score]["interval"] is not None:
            failures.append(f"{score} of all rows has an interval")
    return "; ".join(failures)


def silhouette(z, labels, ours):
    from sklearn.metrics import silhouette_samples

    z, labels, ours = np.load(z).astype(np.float64), np.load(labels), np.load(ours)
    difference = np.abs(silhouette_samples(z, labels) - ours).max()
    print(f"silhouette: largest difference {difference:.1e}")
    return "" if difference <= 1e-6 else f"silhouettes differ by {difference}"


def main(command, *arguments):
    if command == "make":
        return make(Path(arguments[0]), arguments[1])
    if command == "check":
        return check(Path(arguments[0]), *arguments[1:])
    if command == "silhouette":
        return silhouette(*arguments)
    a, b = (np.load(path) for path in arguments)
    if command == "ari":
        from sklearn.metrics import adjusted_rand_score

        print(repr(float(adjusted_rand_score(a, b))))
    elif command == "spearman":
        from scipy.stats import spearmanr

        print(repr(float(spearmanr(a, b).statistic)))
    else:
        return __doc__


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]) or 0)
