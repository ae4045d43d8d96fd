"""Holds lowland's exact methods against independent computations in float64.

    exact.py affinity NAME OPTIONS ROWS.npy OURS.npy
    exact.py digits ROWS.npy
    exact.py maps ROWS.npy [NAME MAP.npy]...

affinity   ROWS are n x dim (float32), OURS the n x n affinities that lowland
           found; OPTIONS is JSON. Solves the same problem densely with scipy,
           and exits with 1 and a message where the two differ by more than the
           tolerance, as a share of the largest affinity.
digits     writes scikit-learn's 1,797 x 64 digits, as float32.
maps       prints, as JSON, the trustworthiness (15 neighbours) of each map of
           ROWS and that of scikit-learn's TSNE of them.
"""

import json
import sys

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.spatial.distance import cdist

# f32 rows and costs: exponents of some tens carry their rounding into the weights.
TOLERANCE = 2e-5
# Where ours is a descent that ends at a tolerance of its own.
LOOSE = {"symmetric-entropic": 2e-2, "quadratic": 1e-3, "phate": 1e-4}


def costs(x, name):
    if name == "angular":
        return -x @ x.T
    metric = {"manhattan": "cityblock"}.get(name, name)
    return cdist(x, x, metric)


def entropic(c, o):
    n = len(c)
    p = np.zeros_like(c)
    for i in range(n):
        others = np.array([j for j in range(n) if j != i])
        if o["sparse"]:
            others = others[np.argsort(c[i, others], kind="stable")[: 3 * o["perplexity"]]]
        d = c[i, others] - c[i, others].min()

        def row(log_eps):
            w = np.exp(-d / np.exp(log_eps))
            return w / w.sum()

        def gap(log_eps):
            w = row(log_eps)
            w = w[w > 0]
            return -(w * np.log(w)).sum() - np.log(o["perplexity"])

        p[i, others] = row(brentq(gap, -30, 30, xtol=1e-13)) / n
    return p


def symmetric_entropic(c, o):
    n, target = len(c), np.log(o["perplexity"]) + 1

    def dual(v):
        e, mu = v[:n], v[n:]
        eps = e * e
        log_p = (mu[:, None] + mu - 2 * c) / (eps[:, None] + eps)
        p = np.exp(log_p)
        rows, entropy = p.sum(1), -(p * np.where(p > 0, log_p - 1, 0)).sum(1)
        return (eps * (rows - target) - mu).sum(), np.r_[2 * e * (entropy - target), rows - 1]

    v = minimize(dual, np.ones(2 * n), jac=True, method="L-BFGS-B",
                 options=dict(maxiter=20000, maxfun=20000, ftol=0, gtol=1e-9, maxcor=30)).x
    eps = v[:n] ** 2
    return np.exp((v[n:, None] + v[n:] - 2 * c) / (eps[:, None] + eps)) / n


def sinkhorn(c, o):
    k = np.exp(-c / o["eps"]) if o["kernel"] == "gaussian" else (1 + c) ** (-1 / o["eps"])
    np.fill_diagonal(k, 0)
    u = np.ones(len(c))
    for _ in range(20000):
        u = np.sqrt(u / (k @ u))
    return u[:, None] * k * u / len(c)


def quadratic(c, o):
    c = c.copy()
    np.fill_diagonal(c, np.inf)

    def dual(f):
        room = np.maximum(f[:, None] + f - c, 0)
        return (room**2).sum() / (4 * o["eps"]) - f.sum(), room.sum(1) / o["eps"] - 1

    f = minimize(dual, np.ones(len(c)), jac=True, method="L-BFGS-B",
                 options=dict(maxiter=20000, maxfun=20000, ftol=0, gtol=1e-10)).x
    return np.maximum(f[:, None] + f - c, 0) / (o["eps"] * len(c))


def normalized(k, o):
    np.fill_diagonal(k, 0)
    if o["normalization"] == "rows":
        return k / k.sum(1, keepdims=True) / len(k)
    return k / k.sum() if o["normalization"] == "all" else k


def kth(c, k):
    c = c.copy()
    np.fill_diagonal(c, np.inf)
    return np.sort(c, axis=1)[:, k - 1]


def self_tuning(c, o):
    s = kth(c, o["k"])
    return normalized(np.exp(-c / (s[:, None] * s)), {"normalization": "all"})


def magic(c, o):
    a = np.exp(-c / kth(c, o["k"])[:, None])
    np.fill_diagonal(a, 0)
    a = (a + a.T) / 2
    return a / a.sum(1, keepdims=True)


def umap(c, o):
    n = len(c)
    a = np.zeros_like(c)
    for i in range(n):
        others = np.arange(n) != i
        d = c[i, others] - c[i, others].min()
        s = brentq(lambda s: np.exp(-d / np.exp(s)).sum() - np.log2(o["n_neighbors"]), -30, 30, xtol=1e-13)
        a[i, others] = np.exp(-d / np.exp(s))
    return a + a.T - a * a.T


def phate(c, o):
    a = np.exp(-((c / kth(c, o["k"] - 1)[:, None]) ** o["alpha"]))
    a = (a + a.T) / 2
    a = np.linalg.matrix_power(a / a.sum(1, keepdims=True), o["t"])
    u = -np.log(np.maximum(a, 1e-12))
    return -cdist(u, u)


AFFINITIES = {
    "entropic": entropic,
    "symmetric-entropic": symmetric_entropic,
    "sinkhorn": sinkhorn,
    "quadratic": quadratic,
    "gaussian": lambda c, o: normalized(np.exp(-c / o["sigma"]), o),
    "student": lambda c, o: normalized((1 + c / o["nu"]) ** (-(o["nu"] + 1) / 2), o),
    "self-tuning": self_tuning,
    "magic": magic,
    "umap": umap,
    "phate": phate,
}


def affinity(name, options, rows, ours):
    options = json.loads(options)
    x, ours = np.load(rows).astype(np.float64), np.load(ours).astype(np.float64)
    c = costs(x, options["cost"])
    if name == "symmetric-entropic":
        # Its rows are no neighbours of themselves.
        c = c.copy()
        np.fill_diagonal(c, 1e12)
    truth = AFFINITIES[name](c, options)
    worst = np.abs(ours - truth).max() / np.abs(truth).max()
    if name == "symmetric-entropic":
        # Where a row's entropy is not the limit its temperature tends to 0, and
        # single entries to anything: sums of rows, entropies and what P costs are what is fixed.
        worst = symmetric_gap(c, ours, truth, options)
    limit = LOOSE.get(name, TOLERANCE)
    print(f"{name} {options}: largest difference {worst:.2e}")
    # Not `worst > limit`: NaN must fail.
    return "" if worst <= limit else f"{name} differs by {worst:.2e} (limit {limit:.0e})"


def symmetric_gap(c, ours, truth, o):
    n = len(c)
    p = ours * n
    entropy = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(1)
    np.fill_diagonal(c, 0)
    return max(
        np.abs(p.sum(1) - 1).max(),
        np.log(o["perplexity"]) - entropy.min(),
        abs((ours * c).sum() / (truth * c).sum() - 1),
    )


def digits(path):
    from sklearn.datasets import load_digits

    np.save(path, load_digits().data.astype(np.float32))


def maps(rows, *pairs):
    from sklearn.manifold import TSNE, trustworthiness

    x = np.load(rows)
    found = {name: np.load(path) for name, path in zip(pairs[::2], pairs[1::2])}
    found["scikit-learn"] = TSNE(random_state=0).fit_transform(x)
    print(json.dumps({name: trustworthiness(x, z, n_neighbors=15) for name, z in found.items()}))


def main():
    command, *arguments = sys.argv[1:]
    sys.exit({"affinity": affinity, "digits": digits, "maps": maps}[command](*arguments) or 0)


if __name__ == "__main__":
    main()
