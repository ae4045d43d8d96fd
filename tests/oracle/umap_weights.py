"""Holds lowland's UMAP weights against umap-learn's.

    umap_weights.py IDS.npy DISTANCES.npy WEIGHTS.npy
                    [--edges ROWS.npy COLS.npy VALS.npy]
                    [--n-neighbors N] [--as-shipped]

IDS, DISTANCES   n x k neighbours of every row (u32; float32, ascending), the
                 row itself not among them
WEIGHTS          n x k, ours, of the directed edges
--edges          our symmetric graph as well, every edge in both directions
--n-neighbors    umap-learn's n_neighbors, which counts the row itself: the
                 weights sum to its log2. Default k + 1.
--as-shipped     leave umap-learn's tolerance alone

umap-learn gets the same neighbours with the row itself in front. All weights
must agree within 1e-5. Prints the differences; exits with 1 and a message if
one is too large.

umap-learn stops its bisection once the sum of weights is within 1e-5 of the
target. Every weight of a row then errs in the same direction, so one alone can
take nearly the whole 1e-5, and f32 rounding comes on top. The tolerance is
therefore tightened here, so that the difference shows our error rather than
its; --as-shipped shows the sum of both. numba takes globals as constants when
it compiles, hence the patch before the first call, and on a fresh compilation.
"""

import argparse
import sys

import numpy as np
import scipy.sparse
import umap.umap_

TOLERANCE = 1e-5


def largest(name, difference):
    worst = np.abs(difference).max(initial=0.0)
    print(f"{name}: largest difference {worst:.2e}")
    # Not `worst > TOLERANCE`: NaN must fail.
    return "" if worst <= TOLERANCE else f"{name} differ by {worst:.2e} (limit {TOLERANCE:.0e})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ids")
    parser.add_argument("distances")
    parser.add_argument("weights")
    parser.add_argument("--edges", nargs=3)
    parser.add_argument("--n-neighbors", type=int)
    parser.add_argument("--as-shipped", action="store_true")
    args = parser.parse_args()

    if not args.as_shipped:
        umap.umap_.SMOOTH_K_TOLERANCE = 1e-12

    ids = np.load(args.ids).astype(np.int64)
    distances = np.load(args.distances).astype(np.float32)
    ours = np.load(args.weights).astype(np.float64)
    n, k = distances.shape
    if ours.shape != (n, k):
        return f"weights are {ours.shape}, distances {(n, k)}"
    if (ids == np.arange(n)[:, None]).any():
        return "a row is its own neighbour"

    itself = np.arange(n)[:, None]
    ids = np.ascontiguousarray(np.hstack([itself, ids]).astype(np.int32))
    distances = np.hstack([np.zeros((n, 1), np.float32), distances])
    sigmas, rhos = umap.umap_.smooth_knn_dist(
        distances, float(args.n_neighbors or k + 1), local_connectivity=1.0
    )
    rows, cols, vals, _ = umap.umap_.compute_membership_strengths(
        ids, np.ascontiguousarray(distances), sigmas, rhos
    )
    failure = largest("directed weights", ours - vals.reshape(n, k + 1)[:, 1:])

    if args.edges:
        our_rows, our_cols, our_vals = (np.load(path) for path in args.edges)
        ours = scipy.sparse.coo_matrix((our_vals, (our_rows, our_cols)), (n, n)).tocsr()
        directed = scipy.sparse.coo_matrix((vals, (rows, cols)), (n, n)).tocsr()
        directed.eliminate_zeros()
        theirs = directed + directed.T - directed.multiply(directed.T)
        failure = failure or largest("symmetric weights", (ours - theirs).tocoo().data)
    return failure


if __name__ == "__main__":
    sys.exit(main() or 0)
